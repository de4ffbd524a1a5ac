"""Files survive full disks, damage and strangers."""

import errno
import os
import pickle
import resource

import pytest
import torch

from sparring.runtime import files
from sparring.training import checkpoint, read_weights
from sparring.training.checkpoint import load_last, save_best, save_last
from tests.training.small import equal, finish, read_metadata, tensors, trainer


class Code:
    """What a stranger would have us run."""

    def __reduce__(self):
        return (os.mkdir, (os.environ["SPARRING_TEST_TRAP"],))


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


def test_a_copy_aside_keeps_tensors_of_the_cpu_and_the_versions_of_a_state():
    model = torch.nn.BatchNorm1d(2)
    state = {"model": model.state_dict(), "list": [torch.ones(1), (2, None)], "name": "a"}
    aside = checkpoint.copied_aside(state)
    assert aside["model"]._metadata == state["model"]._metadata
    assert all(aside["model"][key] is value for key, value in state["model"].items())
    assert aside["list"][0] is state["list"][0]
    assert aside["list"][1:] == [(2, None)]
    assert aside["name"] == "a"
    assert aside is not state


def leftover(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith(".writing")]


def test_written_files_are_whole_or_the_old_ones(tmp_path):
    path = tmp_path / "file"
    files.write(path, lambda file: file.write(b"one"))

    def broken(file):
        file.write(b"two")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left on device; the one before is kept") as error:
        files.write(path, broken)
    assert error.value.errno == errno.ENOSPC
    assert str(path) in str(error.value)
    assert path.read_bytes() == b"one"
    assert leftover(tmp_path) == []


def test_a_limit_on_file_size_keeps_the_last_good_checkpoint(run):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    state, settings = load_last(run), {"a": 1}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"could not save .*last\.pt: File too large"):
            save_last(run, state, settings)
        with pytest.raises(OSError, match=r"could not save .*best\.safetensors: File too large"):
            save_best(run, state["model"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_training_on_a_full_disk_stops_and_goes_on_later(tmp_path, monkeypatch):
    out, save = tmp_path / "run", torch.save
    calls = []

    def full(state, file):
        calls.append(1)
        if len(calls) == 2:
            file.write(b"some")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(state, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        finish(trainer(out))
    assert load_last(out)["position"]["epoch"] == 1
    assert leftover(out) == []
    assert equal(finish(trainer(out, resume=True)), finish(trainer(tmp_path / "whole")))


def test_last_holds_everything_and_loads_without_code(run):
    state = torch.load(run / "last.pt", weights_only=True)
    assert set(state) == checkpoint.KEYS
    assert state["position"]["epoch"] == 1
    assert state["climb"] == {}
    moved = tensors(state)
    assert ".ema.averaged.module.0.weight" in moved
    assert ".optimizer.state.0.momentum_buffer" in moved


@pytest.mark.parametrize("name", ["last.pt", "best.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_cut_short_is_told(run, name, share):
    path = run / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=f"{name} is damaged or cut short"):
        load_last(run) if name == "last.pt" else read_weights(run)


def test_changed_bytes_are_told(run):
    path = run / "last.pt"
    data = bytearray(path.read_bytes())
    value = load_last(run)["model"]["0.weight"].numpy().tobytes()
    data[data.find(value) + 5] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        trainer(run, epochs=1, resume=True)


def test_a_strangers_checkpoint_runs_no_code(run, tmp_path, monkeypatch):
    trap = tmp_path / "trap"
    monkeypatch.setenv("SPARRING_TEST_TRAP", str(trap))
    torch.save({**load_last(run), "position": Code()}, run / "last.pt")
    with pytest.raises(ValueError, match="could run somebody"):
        trainer(run, epochs=1, resume=True)
    (run / "last.pt").write_bytes(pickle.dumps(Code()))
    with pytest.raises(ValueError, match="damaged"):
        load_last(run)
    (run / "best.safetensors").write_bytes(pickle.dumps(Code()))
    with pytest.raises(ValueError, match="damaged"):
        read_weights(run)
    assert not trap.exists()


def test_another_file_is_no_checkpoint(run):
    torch.save({"state_dict": {}}, run / "last.pt")
    with pytest.raises(ValueError, match="not a checkpoint of this version"):
        load_last(run)


def test_best_weights(run):
    weights, about = read_weights(run), read_metadata(run)
    assert equal(weights, read_weights(run / "best.safetensors"))
    assert about["epoch"] == "1"
    assert about["which"] in ("weights", "ema")
    assert 0 <= float(about["robust"]) <= float(about["clean"]) <= 1
    with pytest.raises(FileNotFoundError, match="does not exist: a run writes"):
        read_weights(run / "results")


def test_tied_weights_are_saved(tmp_path):
    shared = torch.rand(2, 2)
    save_best(tmp_path, {"a": shared, "b": shared})
    assert torch.equal(read_weights(tmp_path)["b"], shared)
