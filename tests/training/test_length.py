"""Training by the clock: schedules over time, the deadline, partial epochs, and going on."""

from __future__ import annotations

import json

import pytest
import torch

from sparring.training.checkpoint import load_last, read_weights
from sparring.training.length import EpochLength, TimeLength, is_complete
from sparring.training.run_folder import read_log
from sparring.training.state import Position
from sparring.training.validate import Score
from tests.training.small import equal, finish, read_metadata, tensors, trainer

BATCHES = 4  # per epoch of `trainer`


class FakeClock:
    """In place of `time`: what runs takes the time that it is given, and no other."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now

    monotonic = perf_counter


@pytest.fixture
def clock(monkeypatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr("sparring.training.clock.time", fake)
    monkeypatch.setattr("sparring.training.saving.time", fake)
    return fake


def timed(out, clock, monkeypatch, *, batch=1.0, first=1.0, validation=0.0, writing=0.0, **more):
    """A training whose batches, validations and checkpoints take these seconds."""
    options = {"seconds": 20.0, "ema": None, "climb": None} | more
    run = trainer(out, **options)
    step, seen = run.stepper.step, []

    def timed_step(*args, **keywords):
        clock.now += batch if seen else first
        rates = [group["lr"] for group in run.stepper.optimizer.param_groups]
        seen.append((run.length.progress(run.position), rates[0]))
        return step(*args, **keywords)

    def timed_score(*args, **keywords):
        clock.now += validation
        return Score(0.5 + run.position.step / 1000, 0.5, True)

    save = run._save

    def timed_save():
        clock.now += writing
        save()

    monkeypatch.setattr(run.stepper, "step", timed_step)
    monkeypatch.setattr(run, "_save", timed_save)
    monkeypatch.setattr("sparring.training.trainer.score", timed_score)
    return run, seen


def test_schedules_are_laid_over_the_time(tmp_path, clock, monkeypatch):
    schedule = [{"path": "lr", "name": "ramp", "start": 0.0, "end": 1.0}]
    run, seen = timed(tmp_path / "run", clock, monkeypatch, schedule=schedule)
    finish(run)
    assert clock.now == 120.0
    assert len(seen) == 20
    # The first batch, which compiles, moves nothing: 19 seconds are left for the schedules.
    expected = [0.0, 0.0, *(k / 19 for k in range(1, 19))]
    assert [progress for progress, _ in seen] == pytest.approx(expected)
    assert [rate for _, rate in seen] == pytest.approx(expected)


def test_compilation_and_stalls_shorten_the_time_and_move_no_schedule(tmp_path, clock, monkeypatch):
    run, seen = timed(tmp_path / "run", clock, monkeypatch, first=10.0)
    finish(run)
    assert clock.now == 120.0
    expected = [0.0, 0.0, *(k / 10 for k in range(1, 10))]
    assert [progress for progress, _ in seen] == pytest.approx(expected)


def test_a_stall_counts_as_a_few_batches():
    length, position = TimeLength(100.0, batches=10), Position(by_clock={"progress": 0.5})
    length._clock, length._batches = type("Laps", (), {"lap": lambda _: 20.0})(), 1
    length._recent.append(1.0)
    length.trained(position)
    # Five of the 85 seconds that were left without the stall.
    assert length.progress(position) == pytest.approx(0.5 + 0.5 * 5 / 85)


def test_the_last_validation_and_checkpoint_are_within_the_time(tmp_path, clock, monkeypatch):
    run, seen = timed(tmp_path / "run", clock, monkeypatch, validation=2.0, writing=0.5)
    epochs = list(run)
    assert clock.now <= 120.0
    assert clock.now > 120.0 - 1.0 - 2.5  # no more than a batch and a checkpoint too early
    assert [epoch.clean is not None for epoch in epochs] == [True] * len(epochs)
    progress = [p for p, _ in seen]
    assert progress == sorted(progress)
    assert progress[-1] < 1


@pytest.mark.parametrize("seconds", [9.0, 10.0, 11.5])
def test_a_partial_epoch_is_validated_chosen_logged_and_written(
    tmp_path, clock, monkeypatch, seconds
):
    out = tmp_path / "run"
    run, seen = timed(out, clock, monkeypatch, seconds=seconds)
    epochs = list(run)
    assert len(seen) == int(seconds)
    last, state = epochs[-1], load_last(out)
    assert len(seen) % BATCHES
    assert last.step == len(seen)
    assert last.clean is not None
    assert last.best
    assert (last.number, last.epochs) == (3, 3)
    assert read_metadata(out)["epoch"] == "3"
    assert (state["position"]["epoch"], state["position"]["batch"]) == (3, 0)
    assert equal(read_weights(out), dict(run.model.state_dict()))
    rows = read_log(out)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["epochs"] == 3
    assert is_complete(rows, {"seconds": seconds, "epochs": 99})
    assert not is_complete(rows[:-1], {"seconds": seconds, "epochs": 2})
    assert [row["progress"] for row in rows] == sorted(row["progress"] for row in rows)


def test_a_step_longer_than_the_time_is_taken_once(tmp_path, clock, monkeypatch):
    run, seen = timed(tmp_path / "run", clock, monkeypatch, first=50.0)
    (epoch,) = run
    assert (len(seen), epoch.step, epoch.best) == (1, 1, True)
    assert run.is_over
    assert list(run) == []


def test_the_first_epoch_is_validated_for_its_time_and_the_last_one_is(
    tmp_path, clock, monkeypatch
):
    options = {"every": 3, "validation": 1.0}
    run, _ = timed(tmp_path / "run", clock, monkeypatch, **options)
    measured = [epoch.number for epoch in run if epoch.clean is not None]
    last = run.position.epoch
    assert measured == sorted({1, 3, last})
    assert clock.now <= 120.0


@pytest.mark.parametrize("stop", [3, 8])
def test_a_run_goes_on_to_its_deadline(tmp_path, clock, monkeypatch, stop):
    out = tmp_path / "run"
    run, seen = timed(out, clock, monkeypatch, save_every=1)
    step = run.stepper.step

    def stopping(*args, **keywords):
        if len(seen) == stop:
            raise KeyboardInterrupt
        return step(*args, **keywords)

    monkeypatch.setattr(run.stepper, "step", stopping)
    with pytest.raises(KeyboardInterrupt):
        finish(run)
    reached, done = run.length.progress(run.position), len(seen)
    clock.now += 1e6  # the time between two sessions is no time of the training
    again, more = timed(out, clock, monkeypatch, resume=True)
    before = clock.now
    epochs = list(again)
    assert len(more) == 20 - done
    assert clock.now - before == 20 - done
    assert [p for p, _ in more] == sorted(p for p, _ in more)
    assert more[0][0] == pytest.approx(reached)
    assert epochs[-1].epochs == epochs[-1].number == 5
    third, none = timed(out, clock, monkeypatch, resume=True)
    assert list(third) == none == []


def test_positions_in_epochs_are_shares_of_the_epochs_that_are_asked(tmp_path, clock, monkeypatch):
    schedule = [{"path": "lr", "name": "piecewise", "at": [2], "factor": 0.5}]
    options = {"schedule": schedule, "epochs": 4}
    run, seen = timed(tmp_path / "run", clock, monkeypatch, **options)
    finish(run)
    assert len(seen) == 20
    assert {rate for p, rate in seen if p < 0.5} == {0.1}
    assert {rate for p, rate in seen if p >= 0.5} == {0.05}


def test_how_many_epochs_there_will_be_is_said(tmp_path, clock, monkeypatch):
    run, _ = timed(tmp_path / "run", clock, monkeypatch, seconds=40.0)
    assert run.length.expected(run.position) is None
    rows = [epoch.row() for epoch in run]
    assert "epochs" not in rows[0]  # after 4 batches
    assert [row["epochs"] for row in rows[3:]] == [10] * 7
    shown = run.length.shown(run.position)
    assert (shown.share, shown.left, shown.epochs) == (1.0, 0.0, 10)
    assert EpochLength(3, batches=4).shown(Position()) is None


def test_a_run_of_epochs_has_no_line_or_key_of_the_clock(tmp_path):
    out = tmp_path / "run"
    finish(trainer(out, epochs=1))
    assert "by_clock" not in load_last(out)["position"]
    assert not {"progress", "epochs"} & json.loads((out / "log.jsonl").read_text()).keys()


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan"), "soon", True])
@pytest.mark.parametrize("key", ["seconds", "save_seconds"])
def test_seconds_that_are_none_are_told(tmp_path, key, value):
    with pytest.raises(ValueError, match=rf"{key} = .* is not allowed: {key} must be a"):
        trainer(tmp_path / "run", **{key: value})
    assert not (tmp_path / "run").exists()


def test_another_time_is_another_run(tmp_path, clock, monkeypatch):
    out = tmp_path / "run"
    finish(timed(out, clock, monkeypatch)[0])
    with pytest.raises(ValueError, match=r"seconds was 20\.0 and is 30\.0 now"):
        trainer(out, resume=True, seconds=30.0, ema=None, climb=None)


class TestSaveSeconds:
    """A checkpoint in so many seconds, and best weights that belong to it."""

    def run(self, out, clock, monkeypatch, **more):
        options = {"seconds": None, "epochs": 6, "save_seconds": 10.0, "batch": 1.0} | more
        return timed(out, clock, monkeypatch, **options)[0]

    def test_epochs_between_are_logged_and_not_written(self, tmp_path, clock, monkeypatch):
        out, written, best = tmp_path / "run", [], []
        for epoch in self.run(out, clock, monkeypatch):
            written.append(load_last(out)["position"]["epoch"])
            best.append(int(read_metadata(out)["epoch"]))
            assert [row["epoch"] for row in read_log(out)][-1] == epoch.number
        # 4 s an epoch: the first, the first after 10 s, and the last
        assert written == best == [1, 1, 1, 4, 4, 6]

    def test_a_killed_run_repeats_what_no_checkpoint_knows(self, tmp_path, clock, monkeypatch):
        whole = tmp_path / "whole"
        expected = finish(self.run(whole, clock, monkeypatch))
        out = tmp_path / "run"
        run = self.run(out, clock, monkeypatch)
        steps, step = [], run.stepper.step

        def killed(*args, **keywords):
            steps.append(1)
            if len(steps) == 22:  # in epoch 6, whose checkpoint is that of epoch 4
                raise MemoryError
            return step(*args, **keywords)

        monkeypatch.setattr(run.stepper, "step", killed)
        with pytest.raises(MemoryError):
            finish(run)
        assert load_last(out)["position"]["epoch"] == 4
        assert read_metadata(out)["epoch"] == "4"
        assert [row["epoch"] for row in read_log(out)] == [1, 2, 3, 4, 5]
        again = self.run(out, clock, monkeypatch, resume=True)
        assert [row["epoch"] for row in read_log(out)] == [1, 2, 3, 4]
        assert equal(finish(again), expected)
        states = [tensors(load_last(folder)["model"]) for folder in (out, whole)]
        assert equal(*states)
        assert read_metadata(out)["epoch"] == "6"

    def test_a_loop_that_stops_early_leaves_its_checkpoint(self, tmp_path, clock, monkeypatch):
        out = tmp_path / "run"
        for epoch in self.run(out, clock, monkeypatch):
            if epoch.number == 3:
                break
        assert load_last(out)["position"]["epoch"] == 3
        assert read_metadata(out)["epoch"] == "3"

    def test_save_every_writes_as_before(self, tmp_path, clock, monkeypatch):
        out, batches = tmp_path / "run", []
        run = self.run(out, clock, monkeypatch, save_every=3)
        save = run.saver.save
        monkeypatch.setattr(
            run.saver, "save", lambda *a: (batches.append(run.position.batch_index), save(*a))
        )
        finish(run)
        assert batches.count(3) == 6
        assert equal(read_weights(out), {k: v.cpu() for k, v in run.model.state_dict().items()})

    def test_it_may_change_when_a_run_goes_on(self, tmp_path, clock, monkeypatch):
        out = tmp_path / "run"
        finish(self.run(out, clock, monkeypatch))
        assert list(self.run(out, clock, monkeypatch, resume=True, save_seconds=None)) == []


def test_best_weights_that_wait_are_a_copy(tmp_path, clock, monkeypatch):
    run = TestSaveSeconds().run(tmp_path / "run", clock, monkeypatch)
    epochs = iter(run)
    next(epochs), next(epochs)
    kept, _ = run.saver._best
    before = {key: value.clone() for key, value in kept.items()}
    next(epochs)
    assert all(torch.equal(kept[key], before[key]) for key in kept)
    epochs.close()
