"""Programs from files: run only with trust, told by content, equal to what was saved."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sparring import evaluation
from sparring.introspect import freeze
from sparring.models import load_program, wrap_model


def net(k: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())
    model.append(nn.Linear(6, k))
    model(torch.rand(9, 4))
    return model.eval()


def export(model: nn.Module, path, free: bool = True) -> None:
    dims = ({0: torch.export.Dim("b")},) if free else None
    torch.export.save(torch.export.export(model, (torch.rand(5, 4),), dynamic_shapes=dims), path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same network in every form, each under an ending that says nothing."""
    place, model = tmp_path_factory.mktemp("files"), net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(model)
        script.save(place / "script")
        torch.jit.freeze(script).save(place / "frozen")
        torch.jit.trace(model, torch.rand(2, 4)).save(place / "traced")
        torch.jit.script(net().train()).save(place / "training-script")
        export(model, place / "export.pt2")
        export(model, place / "fixed.pt2", free=False)
        export(copy.deepcopy(model).train(), place / "training.pt2")
        export(nn.Sequential(nn.Linear(4, 2), nn.Dropout()).train(), place / "dropout.pt2")
        for name in ("export", "fixed", "training", "dropout"):
            (place / f"{name}.pt2").rename(place / name)
    torch.save(model, place / "pickled")
    torch.save(model, place / "old-pickled", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": model.state_dict()}, place / "weights")
    torch.save([1, 2], place / "list")
    save_file(model.state_dict(), place / "safe")
    (place / "empty").write_bytes(b"")
    (place / "text").write_text("some text")
    np.savez(place / "arrays", x=np.zeros(3))
    return place


PROGRAMS = ["script", "frozen", "traced", "training-script", "export", "fixed"]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("rows", [0, 1, 5, 7, 12])
def test_programs_give_what_the_network_gives(files, name, rows):
    model, x = net(), torch.rand(rows, 4, requires_grad=True)
    loaded = load_program(files / name, trust=True)
    for x_some in (x, x.detach().clone().requires_grad_()):
        with freeze.frozen(loaded):
            found = loaded(x_some)
        torch.testing.assert_close(found, model(x_some))
        grads = [torch.autograd.grad(z.square().sum(), x_some)[0] for z in (found, model(x_some))]
        torch.testing.assert_close(*grads)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_refused_without_trust(files, name, monkeypatch):
    for home, call in ((torch.jit, "load"), (torch.export, "load"), (torch, "load")):
        monkeypatch.setattr(home, call, lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(ValueError, match=r"program from outside .*--trust \(in Python: trust"):
        load_program(files / name)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_evaluated_like_the_network(files, name):
    x = torch.rand(40, 4)
    data = (x, net()(x).argmax(1))
    ways = {"eps": 0.1, "batch_size": 16, "progress": False}
    want = evaluation.evaluate(net(), data, **ways)
    model = wrap_model(load_program(files / name, trust=True))
    found = evaluation.evaluate(model, data, **ways)
    assert found.robust.accuracy == pytest.approx(want.robust.accuracy, abs=0.026)
    assert found.clean.accuracy == 1.0
    assert 0 < found.robust.accuracy < 1


def test_programs_move_and_tell_themselves_apart(files):
    programs = [load_program(files / name, trust=True) for name in ("script", "traced", "export")]
    assert len({repr(p).splitlines()[1] for p in programs}) == 3
    x = torch.rand(3, 4, dtype=torch.float64)
    for program in programs[:2]:
        moved = copy.deepcopy(program).to(torch.float64)
        assert moved(x).dtype == torch.float64
        assert program(x.float()).dtype == torch.float32
    assert torch.equal(copy.deepcopy(programs[2])(x.float()), programs[2](x.float()))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pickled", "refused: it holds torch.nn.modules.container.Sequential.*any code.*--recipe"),
        ("old-pickled", "refused: it"),
        ("weights", "weights without their network: .*--recipe"),
        ("safe", "weights without their network: .*--recipe"),
        ("list", "no model but a list"),
        ("empty", "is damaged, or not a TorchScript, torch.export or ONNX"),
        ("text", "is damaged, or not a TorchScript, torch.export or ONNX"),
        ("arrays.npz", "an archive, but no"),
        ("training", "exported in training mode"),
        ("dropout", "exported in training mode"),
    ],
)
def test_what_is_no_program_is_explained(files, name, said):
    with pytest.raises(ValueError, match=f"{files / name}.*{said}"):
        load_program(files / name, trust=True)


class Trap:
    """A pickle that would run code."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize("trust", [True, False])
def test_a_pickle_is_never_run(tmp_path, trust):
    torch.save(Trap(), tmp_path / "zip.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Trap()))
    for name in ("zip.pt", "bare.pt"):
        with pytest.raises(ValueError, match="any code"):
            load_program(tmp_path / name, trust=trust)


@pytest.mark.parametrize("name", ["script", "export", "pickled"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_truncated_files_are_told(files, tmp_path, name, share):
    whole = (files / name).read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=r"cut\.pt is damaged"):
        load_program(path, trust=True)


@pytest.mark.parametrize("name", ["script", "export"])
def test_a_changed_weight_is_told(files, tmp_path, name):
    weight = net()[1].weight.detach().numpy().tobytes()
    whole = (files / name).read_bytes()
    assert whole.count(weight) == 1
    path = tmp_path / "bits.pt"
    path.write_bytes(whole.replace(weight, b"\0" * len(weight)))
    with pytest.raises(ValueError, match=r"bits\.pt is damaged: .*checksum"):
        load_program(path, trust=True)


def test_a_missing_file_is_told(tmp_path):
    (tmp_path / "net.pt2").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"at .*nte\.pt2'; did you mean .*net\.pt2'\?$"):
        load_program(tmp_path / "nte.pt2", trust=True)
    with pytest.raises(FileNotFoundError, match="no file of a model at"):
        load_program(tmp_path / "no.pt", trust=True)


def test_what_a_loader_raises_names_the_file(files, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a long story\nthe reason\n")

    monkeypatch.setattr(torch.jit, "load", fail)
    with pytest.raises(ValueError, match=r"script is damaged, .*\(RuntimeError: the reason\)"):
        load_program(files / "script", trust=True)
