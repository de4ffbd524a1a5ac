"""A second command on the same files is refused in words, and links lead none astray."""

from __future__ import annotations

import shutil

import pytest

from sparring.commands import evaluate, metrics, plane, pseudo_label, train
from sparring.config.recipe import load_recipe
from sparring.reporting import boundary_2d
from sparring.results import strip_results
from sparring.runtime.lock import LOCK, Locked, locked
from tests.kill import RECIPE
from tests.results.made import result


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return train.train(load_recipe(RECIPE, set=["train.epochs=1"]), out=out, device="cpu")


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def train_again(run):
    train.train(load_recipe(RECIPE, set=["train.epochs=1"]), out=run, resume=True, device="cpu")


def evaluate_run(run):
    evaluate.evaluate(run, suite="pgd", split="val", n=4)


COMMANDS = {
    "train": (LOCK, train_again),
    "evaluate": ("results/pgd-val.json.lock", evaluate_run),
    "metrics": ("metrics/test.json.lock", lambda run: metrics.metrics(run, ["entropy"], n=4)),
    "strip": ("a.json.lock", lambda run: strip_results(result("a", []).save(run / "a.json"))),
}  # fmt: skip


@pytest.mark.parametrize(("name", "command"), COMMANDS.values(), ids=COMMANDS)
def test_a_second_process_is_refused_and_the_next_is_not(run, name, command):
    with locked(run / name, "working"), pytest.raises(Locked, match="in use: working by process"):
        command(run)
    assert not list(run.rglob("*.writing"))
    command(run)
    assert not list(run.rglob("*.lock"))
    assert not list(run.rglob("*.partial"))


def test_a_training_that_is_refused_leaves_no_folder(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("no such thing")

    with monkeypatch.context() as patch:
        patch.setattr(train, "Trainer", refuse)
        with pytest.raises(ValueError, match="no such thing"):
            train.train(load_recipe(RECIPE), out=tmp_path / "a" / "run", resume=True, device="cpu")
    (tmp_path / "file").write_text("")
    with pytest.raises((ValueError, OSError), match="is a file"):
        train.train(load_recipe(RECIPE), out=tmp_path / "file", resume=True, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


READERS = {
    "train": train_again,
    "evaluate": evaluate_run,
    "metrics": lambda run: metrics.metrics(run, ["entropy"], n=4),
    "label": pseudo_label.label,
    "load": train.load,
}


@pytest.mark.parametrize("name", ["best.safetensors", "recipe.toml", "log.jsonl", "results"])
@pytest.mark.parametrize("command", READERS.values(), ids=READERS)
def test_a_link_in_a_run_is_refused_by_every_command(run, tmp_path, name, command):
    path = run / name
    if path.exists():
        path.rename(tmp_path / "other")
    else:
        (tmp_path / "other").mkdir()
    path.symlink_to(tmp_path / "other")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="symbolic link"):
        command(run)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_figure_is_written_whole_and_never_through_a_link(tmp_path, suffix, monkeypatch):
    out, other = tmp_path / f"a{suffix}", tmp_path / "other"
    draw = {"steps": 4, "points": 20, "grid": 12, "eps": [0.2], "out": out}
    other.write_bytes(b"kept")
    out.symlink_to(other)
    with pytest.raises(ValueError, match="symbolic link"):
        plane.plane("moons", ["plane-standard"], **draw)
    assert other.read_bytes() == b"kept"
    out.unlink()
    out.with_name(f"{out.name}.999999999-1.writing").touch()
    plane.plane("moons", ["plane-standard"], **draw)
    assert out.stat().st_size > 1000
    assert len(list(tmp_path.iterdir())) == 2
    assert boundary_2d.picture
