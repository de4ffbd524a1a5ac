"""What is seen of a training and of an evaluation while they run, on any width and elsewhere."""

from __future__ import annotations

import io
import re
import sys
import types

import pytest
from rich.console import Console

from sparring.runtime import live
from sparring.runtime.live import FREE, LiveLine, Screen
from sparring.runtime.progress import EvaluationProgress
from sparring.runtime.training_progress import ClockDisplay, TrainingProgress
from sparring.runtime.workload import Task, Workload

WIDTHS = (40, 80, 100, 160)
FACTS = ["MART", "PGD", "Linf 0.1", "mnist-net, 91.7k parameters", "40 epochs", "cpu"]
CELLS = {"epoch": "3", "loss": "2.303", "clean": "57.9", "robust": "40.1", "averaged": "48.0"}
CELLS |= {"s": "7.1", "best": "best"}
TITLES = ("FGSM · Linf 0.1", "PGD-20 · Linf 0.1")


def console(width: int = 80, *, terminal: bool = True, **options) -> Console:
    options = {"color_system": None, "_environ": {}} | options
    return Console(file=io.StringIO(), width=width, force_terminal=terminal, **options)


def written(screen: Console) -> list[str]:
    """The text written so far, in lines, without the codes that move the cursor."""
    text = screen.file.getvalue()
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))


def train(screen: Console, **options) -> TrainingProgress:
    options = {"epochs": 40, "batches": 12, "epochs_done": 2, "name": "digits-mart"} | options
    with TrainingProgress(enabled=True, facts=FACTS, console=screen, **options) as display:
        display.step(epoch=3, batch_number=5, loss=0.75, rate=1200.0)
        if display._screen._shown is not None:
            screen._live_stack[-1].refresh()
        display.epoch(3, CELLS)
    return display


@pytest.mark.parametrize("width", WIDTHS)
def test_a_training_fits_every_terminal(width):
    screen = console(width)
    train(screen)
    lines = written(screen)
    assert max(map(len, lines)) <= width
    heads = next(line for line in lines if "epoch " in line and "clean" in line)
    assert len(heads) <= 72
    row = next(line for line in lines if "57.9" in line)
    assert row.split()[-1] == heads.split()[-1] == "best"
    assert ("7.1" in row) == (width > 40)
    bar = next(line for line in lines if re.search(r"ETA \d", line))
    assert bar.startswith("2/40  ")
    assert "╸─" in bar or "━─" in bar
    assert re.search(r"ETA \d+:\d\d:\d\d$", bar)
    assert ("1200 samples/s" in bar) == (width > 40)


def test_a_training_by_the_clock_shows_time_left_and_says_its_epochs_once():
    screen = console()
    options = {"epochs": None, "batches": 12, "name": "digits-mart"}
    with TrainingProgress(enabled=True, facts=FACTS, console=screen, **options) as display:
        assert display.line().text(80).plain.startswith("0/~?")
        for left, epochs in ((90.0, None), (80.0, 39), (70.0, 40)):
            clock = ClockDisplay(0.1, left, epochs)
            display.step(epoch=1, batch_number=5, loss=0.75, rate=1200.0, clock=clock)
        line = display.line().text(80).plain
        assert line.startswith("0/~40")
        assert line.endswith("ETA 0:01:10")
        assert " 10 %" in line
    assert sum("about 39 epochs" in line for line in written(screen)) == 1
    assert not any("about 40" in line for line in written(screen))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_live_line_keeps_count_bar_and_time_left(width):
    title = "a rather long attack by its name · Linf 8/255"
    line = LiveLine("100/100", title, ["88.52 % so far"], 0.42, 86_400)
    text = line.text(width).plain
    assert len(text) <= width - FREE  # the terminal's own ^C must not wrap
    assert text.startswith("100/100")
    assert text.endswith("ETA 24:00:00")
    assert "━" in text or width == 40
    assert ("88.52" in text) == (width > 100)
    assert (title in text) == (width > 80)


def test_the_live_line_of_a_terminal_of_twenty_columns():
    assert LiveLine("3/40", "FGSM", ["1 %"], 0.5, 5).text(24).plain == "3/40  ETA 0:00:05"


def test_columns_that_were_not_measured_are_absent():
    screen = console(terminal=False)
    train(screen, measured=["clean"])
    text = screen.file.getvalue()
    assert "robust" not in text
    assert "averaged" not in text
    assert "clean" in text


@pytest.mark.parametrize(
    "screen",
    [console(terminal=False), console(_environ={"TERM": "dumb"})],
    ids=["pipe", "dumb"],
)
def test_nothing_is_live_where_no_line_can_be_drawn_again(screen):
    train(screen)
    with EvaluationProgress(True, screen) as display:
        attack(display)
    text = screen.file.getvalue()
    assert "ETA" not in text
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0].startswith("digits-mart   MART · PGD")
    assert next(line for line in lines if "FGSM" in line).split()[:5] == [
        *("FGSM", "·", "Linf", "0.1", "37.50"),
    ]
    assert len([line for line in lines if "37.50 %" in line]) == 2


def attack(display: EvaluationProgress) -> None:
    display.plan([Task(title, title[:5], "Linf", 30, 20) for title in TITLES], lambda: 0)
    for title in TITLES:
        display.begin(title, 30, wrong=10)
        display.step(20, 10)
        display.step(10, 5)


def test_nothing_stays_of_the_live_line_after_an_interrupt():
    screen = console()

    def interrupted() -> None:
        with EvaluationProgress(True, screen) as display:
            display.begin("FGSM", 30)
            display.step(20, 10)
            screen._live_stack[-1].refresh()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    text = screen.file.getvalue()
    assert "ETA" in text
    assert text.endswith("\x1b[2K")  # the line is erased
    assert "50.00 % " not in text.rpartition("ETA")[2]  # and no unfinished pass is reported


def test_silence(capsys):
    with TrainingProgress(enabled=False, epochs=1, batches=1) as training:
        training.step(epoch=1, batch_number=1, loss=1.0, rate=1.0)
        training.epoch(1, CELLS)
    with EvaluationProgress(False) as display:
        attack(display)
    assert capsys.readouterr() == ("", "")


def test_a_pass_without_accuracy_shows_none():
    screen = console(terminal=False)
    with EvaluationProgress(True, screen) as display:
        display.begin("ebd · digits", 30)
        display.step(30)
    assert screen.file.getvalue().split()[:3] == ["ebd", "·", "digits"]
    assert "%" not in screen.file.getvalue()


def test_an_attack_with_nothing_left_and_one_that_was_cut_short():
    screen = console(terminal=False)
    with EvaluationProgress(True, screen) as display:
        display.begin("FGSM", 0, wrong=40)
        display.begin("Square", 20, wrong=10, right=10)
        display.step(10, 5)
    first, second = screen.file.getvalue().splitlines()
    assert "0.00 %" in first
    assert "50.00 %" in second
    assert second.endswith("10 samples left out")


def test_the_bar_moves_by_passes_between_batches_and_never_back(monkeypatch):
    now, passes = [0.0], [0]
    monkeypatch.setattr("sparring.runtime.workload.time.perf_counter", lambda: now[0])
    tasks = [Task(name, name, "Linf", 100, 50) for name in ("a", "b")]
    work = Workload(tasks, lambda: passes[0])
    shares = [work.share()]
    for name in ("a", "b"):
        work.begin(name, 100)
        for _ in range(2):
            for _ in range(10):
                now[0] += 1
                passes[0] += 200  # each sample takes 40 passes, not 50
                shares.append(work.share())
            work.step(50)
            shares.append(work.share())
        work.finish()
    assert shares == sorted(shares)
    assert len(set(shares)) > 30
    assert shares[-1] == 1
    assert shares[10] == pytest.approx(0.2)
    assert work.seconds_left() == 0


def test_time_left_follows_the_radius_before_and_the_samples_that_are_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("sparring.runtime.workload.time.perf_counter", lambda: now[0])
    labels = ("fast", "slow")
    work = Workload([Task(f"{n} {g}", n, g, 100, 10) for g in ("1", "2") for n in labels])
    for name, seconds, samples in (("fast", 1.0, 100), ("slow", 9.0, 50)):
        work.begin(f"{name} 1", samples)
        now[0] += seconds
        work.step(samples)
        work.finish()
    work.begin("fast 2", 100)
    now[0] += 1.0
    work.step(100)
    work.finish()
    assert work.seconds_left() == pytest.approx(18.0)


def test_a_notebook_shows_all_in_one_output_in_place(monkeypatch):
    shown = []

    class Handle:
        def update(self, data, *, raw):
            shown.append(data)

    def display(data, *, raw, display_id):
        shown.append(data)
        return Handle()

    module = types.ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    screen = console(100, terminal=False, force_jupyter=True)
    assert live.is_live(screen)
    with Screen(screen, lambda: LiveLine("1/3", done=0.5), enabled=True) as cell:
        cell.print("epoch <b> 1")
    assert "ETA" in shown[0]["text/plain"]
    assert shown[-1]["text/plain"] == "epoch <b> 1"
    assert shown[-1]["text/html"].endswith(">epoch &lt;b&gt; 1</pre>")
