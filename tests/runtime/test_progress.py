import io

from rich.console import Console

from sparring.runtime.progress import EvaluationProgress, TrainingProgress

LINE, ACCURACIES = "epoch 1/3 · loss 1.5000", ["clean 90.00", "robust 50.00"]


def shown(on, terminal):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120, color_system=None)
    with EvaluationProgress(on, console) as display:
        display.begin("FGSM · Linf 0.1", 30, wrong=10)
        display.step(20, 10)
        display.step(10, 5)
    return file.getvalue()


def test_a_terminal_shows_the_attack_and_the_accuracy_so_far():
    text = shown(True, True)
    assert "FGSM · Linf 0.1" in text
    assert "30/30" in text
    assert "37.50%" in text


def test_nothing_else_does():
    assert shown(True, False).strip() == ""
    assert shown(False, True).strip() == ""


def test_a_plain_line_an_epoch_without_a_terminal(capsys):
    with TrainingProgress(
        enabled=True, epochs=3, batches=4, console=Console(file=io.StringIO())
    ) as display:
        display.step(epoch=1, batch_number=1, loss=2.0, rate=10.0)
        display.epoch(LINE, ACCURACIES)
    assert capsys.readouterr().out == LINE + "\n"


def test_a_live_display_on_a_terminal():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=160)
    with TrainingProgress(
        enabled=True, epochs=3, batches=4, epochs_done=1, console=console
    ) as display:
        display.epoch(LINE, ACCURACIES)
        display.epoch("an epoch without validation", [])
        display.step(epoch=2, batch_number=3, loss=0.75, rate=10.0)
        display.bar.refresh()
    text = file.getvalue()
    assert "epoch 2/3 · loss 0.7500 · clean 90.00 · robust 50.00 · 10 samples/s" in text
    assert "7/12" in text


def test_silence(capsys):
    with TrainingProgress(enabled=False, epochs=1, batches=1) as display:
        display.step(epoch=1, batch_number=1, loss=1.0, rate=1.0)
        display.epoch(LINE, ACCURACIES)
    assert capsys.readouterr().out == ""
