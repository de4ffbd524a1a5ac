"""Exported programs: equal to the model of the run, judged like it, described inside."""

import json
import sys

import numpy as np
import onnx
import pytest
import torch

import sparring
from sparring import data, models
from sparring.commands import export
from sparring.config.recipe import load_recipe
from sparring.runtime.warning import SparringWarning
from tests.torchvision_on_cpu import declare_operators

declare_operators()  # onnx2torch and onnx2pytorch import torchvision where it works

QUICK = ["mlp", "mnist-net"]
SLOW = ["monotone", "lenet", "small-cnn", "resnet18", "preact-resnet18", "wide-resnet", "xresnet18"]
OPTIONS = {
    "resnet18": ["model.width=8"],
    "preact-resnet18": ["model.width=8"],
    "wide-resnet": ["model.depth=10", "model.widen=1"],
    "xresnet18": ["model.width=8", "model.groups=4"],
}
SIDES = {"lenet": 2, "small-cnn": 2, "xresnet18": 5}  # how often a pixel of digits is repeated


def trained(folder, net="mnist-net", *, changes=()):
    """A run of two epochs on digits; enlarged for nets of larger pictures, two classes for one."""
    digits, name = data.load("digits"), "digits"
    if net in SIDES or net == "monotone":
        name = str(folder / f"{net}.npz")
        parts = {}
        for part in ("train", "test"):
            split = getattr(digits, part)
            x, y = split.float().numpy(), split.y.numpy()
            if net == "monotone":
                x, y = x.reshape(len(x), -1)[y < 2], y[y < 2]
            else:
                x = np.kron(x, np.ones((1, 1, SIDES[net], SIDES[net]), "f"))
            parts |= {f"x_{part}": x, f"y_{part}": y}
        np.savez(name, **parts)
    ways = [f"data.name={name}", f"model.name={net}", "train.epochs=2", "data.limit=600"]
    changes = (*OPTIONS.get(net, ()), *changes)
    return sparring.train("digits-standard", out=folder / "run", set=[*ways, *changes])


def nets(names, *marks):
    return [pytest.param(name, marks=marks) for name in names]


@pytest.mark.filterwarnings("ignore::sparring.runtime.warning.SparringWarning")
@pytest.mark.parametrize("to", ["onnx", "pt2"])
@pytest.mark.parametrize("net", [*nets(QUICK), *nets(SLOW, pytest.mark.slow)])
def test_a_program_is_judged_like_its_run(tmp_path, net, to):
    run = trained(tmp_path, net, changes=["model.mean=0.3", "model.std=0.4"])
    exported = sparring.export(run, to, out=tmp_path / f"net.{to}")
    assert exported.difference <= 1e-5
    print(net, exported)
    ways = {"suite": "quick", "n": 60, "eps": 0.1, "progress": False}
    source = sparring.load(run), load_data(run)
    want = sparring.evaluate(run, **ways)
    got = sparring.evaluate(exported.path, data=source[1], trust=True, **ways)
    assert (got.clean, got.verdict, got.reason) == (want.clean, want.verdict, want.reason)
    for a, b in zip(got.by_eps, want.by_eps, strict=True):
        assert abs(a.count - b.count) <= 1
    assert np.array_equal(got.arrays["clean_pred"], want.arrays["clean_pred"])
    gradients_agree(models.load_program(exported.path, trust=True), source[0], source[1])


def load_data(run):
    return data.load(load_recipe(run).tables["data"]["name"])


def gradients_agree(program, model, source):
    x = source.test.float(slice(20)).requires_grad_()
    grads = [
        torch.autograd.grad(net(x).square().sum(), x)[0].flatten(1) for net in (program, model)
    ]
    assert (torch.nn.functional.cosine_similarity(*grads, 1) > 1 - 1e-3).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("export"))


def test_names_and_bounds_are_inside(run, tmp_path):
    path = export.export(run).path
    assert path == run / "model.onnx"
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(facts["classes"]) == [str(k) for k in range(10)]
    assert json.loads(facts["bounds"]) == [0.0, 1.0]
    assert (facts["data"], json.loads(facts["shape"])) == ("digits", [1, 8, 8])
    graph = onnx.load(path).graph
    assert ([v.name for v in graph.input], [v.name for v in graph.output]) == (
        ["input"],
        ["logits"],
    )
    path = export.export(run, "pt2", out=tmp_path / "net.pt2").path
    extra = {"sparring.json": ""}
    torch.export.load(path, extra_files=extra)
    assert json.loads(extra["sparring.json"])["classes"] == [str(k) for k in range(10)]


def test_an_opset_is_written_or_refused(run, tmp_path):
    exported = export.export(run, opset=21, out=tmp_path / "net.onnx")
    assert exported.opset == 21
    assert "ONNX, opset 21: on 256 test rows, largest difference" in str(exported)
    with pytest.raises(ValueError, match="opset = 9 is not allowed: opset must be 18 to"):
        export.export(run, opset=9)
    with pytest.raises(ValueError, match=r"opset = 21 is not allowed: .*--to onnx"):
        export.export(run, "pt2", opset=21)


def test_a_file_that_differs_is_not_written(run, tmp_path, monkeypatch):
    outputs = export._outputs
    monkeypatch.setattr(export, "_outputs", lambda path, x: [z + 1e-3 for z in outputs(path, x)])
    out = tmp_path / "net.onnx"
    out.write_bytes(b"before")
    with pytest.raises(ValueError, match=r"was not exported: logits of the onnx .*1.0e-03"):
        export.export(run, out=out)
    assert out.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]


def test_a_program_never_replaces_the_weights(run):
    before = (run / "best.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"out = .*best\.safe.* a file that ends in \.pt2"):
        export.export(run, "pt2", out=run / "best.safetensors")
    assert (run / "best.safetensors").read_bytes() == before


def test_logits_that_are_no_numbers_are_no_agreement(run, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_outputs", lambda path, x: [torch.full((len(x), 10), torch.nan)])
    with pytest.raises(ValueError, match="was not exported"):
        export.export(run, "pt2", out=tmp_path / "net.pt2")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_names_the_extra(run, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    said = rf"export --to onnx needs the package {package}: pip install 'sparring\[onnx\]'"
    with pytest.raises(ValueError, match=said):
        export.export(run, out=tmp_path / "net.onnx")


def test_what_cannot_be_exported_is_told(run, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="to = 'onxx' does not exist; did you mean 'onnx'"):
        export.export(run, "onxx")
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        export.export(tmp_path / "nothing")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "target")
    with pytest.raises(ValueError, match="symbolic link"):
        export.export(run, out=tmp_path / "link.onnx")

    def fail(*_, **__):
        raise RuntimeError("a long story\nno operator for it")

    monkeypatch.setattr(torch.export, "export", fail)
    with pytest.raises(ValueError, match="cannot be exported to pt2: RuntimeError: no operator"):
        export.export(run, "pt2", out=tmp_path / "net.pt2")


@pytest.mark.parametrize("to", ["onnx", "pt2"])
def test_a_program_of_another_shape_is_told_with_both(run, tmp_path, to):
    path = export.export(run, to, out=tmp_path / f"net.{to}").path
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 1, 12, 12), "f"), np.arange(60) % 3
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    said = r"samples of shape \(1, 12, 12\): the program takes samples of shape \(1, 8, 8\)"
    with pytest.raises(ValueError, match=said):
        sparring.evaluate(path, data=tmp_path / "data.npz", eps=0.1, trust=True)


def test_a_note_on_a_program_stands_in_its_result(run, tmp_path, monkeypatch):
    path = export.export(run, out=tmp_path / "net.onnx").path
    for name in ("onnx2pytorch", "onnx2torch"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.warns(SparringWarning, match="scores alone"):
        result = sparring.evaluate(
            path, data="digits", eps=0.1, trust=True, suite="black-box", n=4, queries=400
        )
    assert any("scores alone, without gradients: onnx2pytorch is" in note for note in result.notes)
