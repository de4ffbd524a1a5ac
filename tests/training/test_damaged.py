"""A damaged or foreign checkpoint is refused in words, before it has changed anything."""

from __future__ import annotations

import io
import json
import math
import os
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from sparring.training import checkpoint, read_weights, run_folder
from sparring.training.checkpoint import load_last, save_best, save_last
from sparring.training.run_folder import read_log
from tests.training.small import finish, trainer


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    finish(trainer(out, epochs=1))
    return out


@pytest.fixture
def run(whole, tmp_path):
    """A copy of a finished run, to be damaged."""
    out = tmp_path / "run"
    out.mkdir()
    for path in whole.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    return out


def refused(run, **more):
    """The message of a resume: one or two printable lines, and nothing has changed."""
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=r"last\.pt") as error:
        trainer(run, epochs=1, resume=True, **more)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    message = str(error.value)
    assert message.isprintable()
    assert len(message) < 700
    return message


def zipped(compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("a/version", b"3\n")
    return file.getvalue()


CONTENTS = {
    "empty": b"",
    "html": b"<html>404</html>",
    "zip of text": zipped(),
    "compressed": zipped(zipfile.ZIP_DEFLATED),
    "json": b"{}",
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_another_file_is_no_checkpoint(run, content):
    (run / "last.pt").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, of what it makes of the file
        assert "damaged or cut short" in refused(run) or "not a checkpoint" in refused(run)


def test_every_cut_of_the_file_is_refused(run):
    content = (run / "last.pt").read_bytes()
    for length in range(0, len(content), len(content) // 12):
        (run / "last.pt").write_bytes(content[:length])
        assert "damaged or cut short" in refused(run)


STATES = {
    "a list": (lambda s: [s], "not a checkpoint"),
    "a key is missing": (lambda s: {k: v for k, v in s.items() if k != "ema"}, "not a checkpoint"),
    "newer": (lambda s: s | {"format": 99}, "checkpoint format 99, written by"),
    "control characters": (lambda s: s | {"format": "\x1b[2J\n"}, r"format \x1b[2J\n, written"),
    "model of another type": (lambda s: s | {"model": [1]}, "its model is of type list"),
    "hash of another type": (lambda s: s | {"hash": 3}, "its hash is of type int"),
    "position of another type": (lambda s: s | {"position": 3}, "its position is of type int"),
    "settings that are no table": (
        lambda s: s | {"settings": "[" * 10**5, "hash": "x"},
        "its settings are no table",
    ),
    "settings of another run": (
        lambda s: s | {"settings": json.dumps(json.loads(s["settings"]) | {"lr": 9}), "hash": "x"},
        "can't go on with other settings",
    ),
    "another network": (
        lambda s: s | {"model": {"\x1b[2J": torch.zeros(3)}},
        "does not fit this training",
    ),
    "weights of another shape": (
        lambda s: s | {"model": {k: torch.zeros(3, 3) for k in s["model"]}},
        "does not fit this training",
    ),
    "weights that are not finite": (
        lambda s: s | {"model": {k: v * math.nan for k, v in s["model"].items()}},
        "its weights are not finite",
    ),
    "optimizer without groups": (lambda s: s | {"optimizer": {}}, "does not fit this training"),
    "momentum of another shape": (
        lambda s: s | {"optimizer": s["optimizer"] | {"state": {0: {"m": torch.zeros(9, 9, 9)}}}},
        "m of the optimizer has shape (9, 9, 9)",
    ),
    "ema of another type": (lambda s: s | {"ema": "text"}, "its ema is of type str"),
    "no ema": (lambda s: s | {"ema": None}, "does not fit this training"),
}
POSITIONS = {
    "epoch": (math.nan, "position.epoch = nan is not allowed"),
    "batch": (-1, "position.batch = -1"),
    "step": ("3", "position.step = '3'"),
    "seconds": (math.inf, "position.seconds = inf"),
    "samples": (True, "position.samples = True"),
    "best": ([1], "position.best = [1]"),
    "parts": ({"a": "x"}, "position.parts"),
    "colour": (1, "position = 'colour' is not allowed"),
}
for _name, (_value, _message) in POSITIONS.items():
    STATES[f"position.{_name}"] = (
        lambda s, name=_name, value=_value: s | {"position": s["position"] | {name: value}},
        _message,
    )
STATES["position.best.score"] = (
    lambda s: s | {"position": s["position"] | {"best": {"score": "high"}}},
    "position.best.score = 'high'",
)


@pytest.mark.parametrize(("change", "message"), STATES.values(), ids=STATES)
def test_a_checkpoint_that_does_not_fit_says_why(run, change, message):
    torch.save(change(torch.load(run / "last.pt", weights_only=True)), run / "last.pt")
    if message == "can't go on with other settings":
        with pytest.raises(ValueError, match=message):
            trainer(run, epochs=1, resume=True)
    else:
        assert message in refused(run)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_checkpoint_that_is_no_regular_file_does_not_block(run, kind):
    (run / "last.pt").unlink()
    os.mkfifo(run / "last.pt") if kind == "pipe" else (run / "last.pt").mkdir()
    with pytest.raises((ValueError, IsADirectoryError), match="a file is expected"):
        load_last(run)


@pytest.mark.parametrize(
    "error", [MemoryError("no"), RuntimeError("DefaultCPUAllocator: not enough memory: you tried")]
)
def test_lack_of_memory_is_not_called_damage(run, monkeypatch, error):
    def full(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", full)
        with pytest.raises(type(error), match="no"):
            load_last(run)
    made = trainer(run.with_name("other"), epochs=1)
    monkeypatch.setattr(made.stepper, "load_state_dict", full)
    with pytest.raises(type(error), match="no"):
        checkpoint.restore(run, load_last(run), made.stepper)


NAMES = (*run_folder.FILES, "results", "metrics", "tensorboard", "results/a.json", "metrics/a")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("resume", [True, False])
def test_a_link_in_a_run_folder_is_refused_and_what_it_leads_to_kept(run, tmp_path, name, resume):
    other = tmp_path / "other"
    other.write_bytes(b"kept")
    path = run / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(other)
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    with pytest.raises(ValueError, match="is a symbolic link"):
        trainer(run, epochs=1, resume=resume)
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()} == before
    assert other.read_bytes() == b"kept"


def test_links_are_not_written_through(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"kept")
    (tmp_path / "run").mkdir()
    for name in run_folder.FILES:
        (tmp_path / "run" / name).symlink_to(other)
    calls = [
        read_weights,
        lambda run: run_folder.append_log(run, {"epoch": 1}),
        lambda run: save_last(run, {}, {}),
        lambda run: save_best(run, {"w": torch.zeros(1)}),
        lambda run: run_folder.create_run(run, {"a": 1}),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="symbolic link"):
            call(tmp_path / "run")
    assert other.read_bytes() == b"kept"


def test_a_link_to_the_run_folder_itself_is_the_users(run, tmp_path):
    """As to a larger disk."""
    (tmp_path / "link").symlink_to(run)
    assert load_last(tmp_path / "link")
    finish(trainer(tmp_path / "link", epochs=1, resume=True))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (b'{"epoch": 1}\n{"epoch": 2}\n{"epo', 2),
        (b'{"epoch": 1}\n[1]\n{"epoch": 3}\n', 1),
        (b'{"epoch": 1}\n{"epoch": NaN}\n', 1),
        (b'{"epoch": 1}\n' + b"[" * 10**5, 1),
        (b'{"epoch": 1}\n\xff\xfe\n', 1),
        (b'{"epoch": "1"}\n', 0),
        (b"", 0),
    ],
)
def test_a_damaged_log_is_read_to_where_it_ends(tmp_path, text, rows):
    (tmp_path / "log.jsonl").write_bytes(text)
    assert len(read_log(tmp_path)) == rows


def test_equal_runs_write_equal_weights(tmp_path):
    """The library writes the metadata in the order of a hash table, which differs each time."""
    about = {f"key{k}": k for k in range(20)} | {"naïve": "é\n"}
    weights = {"b": torch.rand(3, 2), "a": torch.arange(5)}
    contents = set()
    for k in range(4):
        folder = Path(tmp_path, str(k))
        folder.mkdir()
        save_best(folder, weights, **about)
        contents.add((folder / "best.safetensors").read_bytes())
        assert all(torch.equal(v, weights[n]) for n, v in read_weights(folder).items())
    assert len(contents) == 1
