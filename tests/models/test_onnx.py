"""ONNX files: by onnx2torch, by onnxruntime, or what to install; outputs, dtypes and inputs."""

import copy
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sparring.models import load_program


def net(k: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())
    model.append(nn.Linear(6, k))
    model(torch.rand(9, 4))
    return model.eval()


@pytest.fixture
def onnx_file(tmp_path):
    """A file of the right ending; the modules that would read it are stubs."""
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x08\x08rest")
    return path


def without(monkeypatch, *names):
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


def dims(*sizes):
    values = [SimpleNamespace(dim_value=n) for n in sizes]
    shape = SimpleNamespace(shape=SimpleNamespace(dim=values))
    return SimpleNamespace(name="x", type=SimpleNamespace(tensor_type=shape))


def test_onnx_says_what_to_install(onnx_file, monkeypatch):
    without(monkeypatch, "onnx", "onnx2torch", "onnxruntime")
    with pytest.raises(ValueError, match=r"net.onnx.*pip install onnx onnx2torch.*onnxruntime"):
        load_program(onnx_file, trust=True)
    with pytest.raises(ValueError, match=r"\(ONNX\).*--trust"):
        load_program(onnx_file)


def stub(monkeypatch, name, **members):
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def test_onnx_by_onnx2torch_has_gradients(onnx_file, monkeypatch):
    asked = []

    class Fixed(nn.Module):
        def forward(self, x):
            asked.append(len(x))
            return net()(x)

    graph = SimpleNamespace(initializer=[SimpleNamespace(name="w")], input=[dims(2, 4)])
    stub(monkeypatch, "onnx", load=lambda path: SimpleNamespace(graph=graph))
    stub(monkeypatch, "onnx2torch", convert=lambda graph: Fixed())
    x = torch.rand(5, 4, requires_grad=True)
    found = load_program(onnx_file, trust=True)(x)
    assert asked == [2, 2, 2]
    torch.testing.assert_close(found, net()(x))
    assert found.requires_grad


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("unknown", [True, False])
def test_onnx_by_onnxruntime_has_scores_alone(onnx_file, monkeypatch, free, unknown):
    class Session:
        def __init__(self, path, providers):
            assert path == str(onnx_file)

        def get_inputs(self):
            return [SimpleNamespace(name="x", shape=["b" if free else 2, 4])]

        def get_outputs(self):
            ends = ("label", "tensor(int64)"), ("z", "tensor(float)")
            return [SimpleNamespace(name=name, type=kind) for name, kind in ends]

        def run(self, names, feed):
            assert names == ["z"]
            assert free or len(feed["x"]) == 2
            return [net()(torch.tensor(feed["x"])).detach().numpy()]

    def refuse(graph):
        raise NotImplementedError("Converter is not implemented (Strange)")

    if unknown:
        stub(monkeypatch, "onnx", load=lambda path: None)
        stub(monkeypatch, "onnx2torch", convert=refuse)
    else:
        without(monkeypatch, "onnx", "onnx2torch")
    stub(monkeypatch, "onnxruntime", InferenceSession=Session)
    model, x = load_program(onnx_file, trust=True), torch.rand(5, 4, requires_grad=True)
    torch.testing.assert_close(model(x), net()(x).detach())
    assert not model(x).requires_grad
    assert torch.equal(copy.deepcopy(model)(x), model(x))


def onnx_program(path, kind="FLOAT", inputs=("x",), outputs=("z",)):
    """Write an ONNX program whose last output is x·w, and others −x·w."""
    import onnx

    h, kind = onnx.helper, getattr(onnx.TensorProto, kind)
    dtype = h.tensor_dtype_to_np_dtype(kind)
    nodes = [h.make_node("MatMul", [inputs[0], "w"], [outputs[-1]])]
    nodes += [h.make_node("Neg", [outputs[-1]], [name]) for name in outputs[:-1]]
    graph = h.make_graph(
        nodes,
        "g",
        [h.make_tensor_value_info(name, kind, ["b", 4]) for name in inputs],
        [h.make_tensor_value_info(name, kind, ["b", 3]) for name in outputs],
        [onnx.numpy_helper.from_array(np.eye(4, 3, dtype=dtype), "w")],
    )
    opset = [h.make_opsetid("", 13)]
    onnx.save(h.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("data", [torch.float32, torch.float64])
def test_onnx_for_real(tmp_path, kind, data):
    program = load_program(onnx_program(tmp_path / "net.bin", kind), trust=True)
    x = torch.rand(5, 4).to(data)
    assert torch.equal(program(x), x.float()[:, :3].to(data) if kind == "FLOAT" else x[:, :3])


def test_onnx_outputs_named_logits_are_read_whatever_stands_before(tmp_path):
    path = onnx_program(tmp_path / "net.onnx", outputs=("features", "logits"))
    x = torch.rand(5, 4)
    assert torch.equal(load_program(path, trust=True)(x), x[:, :3])


def test_onnx_of_two_inputs_is_refused(tmp_path):
    path = onnx_program(tmp_path / "net.onnx", inputs=("x", "mask"))
    with pytest.raises(ValueError, match="takes 2 inputs; it must take one batch"):
        load_program(path, trust=True)
