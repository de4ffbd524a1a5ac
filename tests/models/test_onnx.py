"""ONNX files: converted with gradients, compared with onnxruntime, or scores alone; what is
refused."""

import copy
import sys
import warnings
from types import ModuleType

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from sparring import evaluation
from sparring.models import load_program, onnx_program, wrap_model
from sparring.runtime.warning import SparringWarning

BATCH = ({0: torch.export.Dim("b")},)


def convolutional() -> nn.Sequential:
    """A small network with every layer that converters treat apart, after some training."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    net = net.extend([nn.Dropout(), nn.Flatten(), nn.Linear(36, 6), nn.GELU(), nn.Linear(6, 3)])
    net(torch.rand(9, 1, 8, 8))
    return net.eval()


def save(model: nn.Module, path, example, **options):
    """Export by torch, with its defaults: weights in a file of their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (example,), path, verbose=False, **options)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same network exported with a free and with a fixed batch size."""
    place, x = tmp_path_factory.mktemp("onnx"), torch.rand(3, 1, 8, 8)
    save(convolutional(), place / "free.onnx", x, dynamic_shapes=BATCH)
    save(convolutional(), place / "fixed.onnx", x)
    save(convolutional(), place / "one.onnx", x, dynamic_shapes=BATCH, external_data=False)
    return place


@pytest.mark.parametrize("name", ["free", "fixed", "one"])
@pytest.mark.parametrize("rows", [0, 1, 3, 7])
def test_outputs_and_gradients_are_those_of_the_network(folder, name, rows):
    program, net = load_program(folder / f"{name}.onnx", trust=True), convolutional()
    weights = {key: value.clone() for key, value in program.state_dict().items()}
    for model in (program, copy.deepcopy(program), program):
        x = torch.rand(rows, 1, 8, 8, requires_grad=True)
        before = x.detach().clone()
        z, want = model(x), net(x)
        torch.testing.assert_close(z, want, rtol=1e-5, atol=1e-6)
        grads = [torch.autograd.grad(out.square().sum(), x)[0] for out in (z, want)]
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)
        assert torch.equal(x, before)
    assert not any(p.requires_grad for p in program.program.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in program.state_dict().items())
    assert program.notes == ()


def test_an_evaluation_is_that_of_the_network(folder):
    x, net = torch.rand(40, 1, 8, 8), convolutional()
    ways = {"eps": 0.1, "batch_size": 16, "progress": False, "suite": "quick"}
    want = evaluation.evaluate(net, (x, net(x).argmax(1)), **ways)
    got = evaluation.evaluate(
        wrap_model(load_program(folder / "free.onnx", trust=True)), (x, net(x).argmax(1)), **ways
    )
    assert got.robust.accuracy == pytest.approx(want.robust.accuracy, abs=0.026)
    assert got.clean.accuracy == 1.0


def graph(nodes, inputs, outputs, weights=(), opset=13, domains=()):
    """A model of nodes, typed inputs and outputs (name, type, shape), and arrays by name."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def matmul(path, kind="FLOAT", inputs=("x",), outputs=("z",)):
    """Write a program whose last output is x·w, and others −x·w."""
    kind = getattr(onnx.TensorProto, kind)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [helper.make_node("MatMul", [inputs[0], "w"], [outputs[-1]])]
    nodes += [helper.make_node("Neg", [outputs[-1]], [name]) for name in outputs[:-1]]
    onnx.save(
        graph(
            nodes,
            [(name, kind, ["b", 4]) for name in inputs],
            [(name, kind, ["b", 3]) for name in outputs],
            [("w", np.eye(4, 3, dtype=dtype))],
        ),
        path,
    )
    return path


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE", "FLOAT16"])
@pytest.mark.parametrize("data", [torch.float32, torch.float64])
def test_inputs_take_the_dtype_of_the_program(tmp_path, kind, data):
    program = load_program(matmul(tmp_path / "net.bin", kind), trust=True)
    x = (torch.randint(4, (5, 4)) / 4).to(data).requires_grad_()
    z = program(x)
    assert torch.equal(z, x[:, :3])
    assert z.requires_grad
    wide = copy.deepcopy(program).to(torch.float64)
    assert torch.equal(wide(x.double()), x[:, :3].double())


def test_whole_numbers_are_rounded_with_a_gradient(tmp_path):
    class Bytes(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()

        def forward(self, x):
            return self.net((x.float() / 255 - 0.5) / 0.25)

    model, whole = Bytes(), torch.randint(256, (5, 1, 4, 4), dtype=torch.uint8)
    path = save(model, tmp_path / "net.onnx", whole, dynamic_shapes=BATCH)
    program = load_program(path, trust=True)
    x = (whole + 0.4 * torch.rand(whole.shape)).requires_grad_()
    z = program(x)
    torch.testing.assert_close(z, model(whole))
    want = model.net[1].weight.sum(0) / 255 / 0.25
    torch.testing.assert_close(torch.autograd.grad(z[0].sum(), x)[0][0].flatten(), want)
    assert torch.equal(
        program(torch.full((1, 1, 4, 4), 300.0)), program(torch.full_like(x, 255)[:1])
    )


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 20, 22])
def test_every_opset_of_ten_years_is_read(tmp_path, opset):
    x, net = torch.rand(5, 1, 8, 8), convolutional()
    net[7] = nn.Tanh()  # GELU came late
    names = {"input_names": ["x"], "dynamic_axes": {"x": {0: "b"}}, "dynamo": False}
    ways = names if opset < 18 else {"dynamic_shapes": BATCH}
    path = save(net, tmp_path / "net.onnx", x, opset_version=opset, **ways)
    torch.testing.assert_close(load_program(path, trust=True)(x), net(x), rtol=1e-5, atol=1e-6)


def test_outputs_named_logits_or_of_floats_are_read(tmp_path):
    path = matmul(tmp_path / "net.onnx", outputs=("features", "logits"))
    x = torch.rand(5, 4)
    assert torch.equal(load_program(path, trust=True)(x), x[:, :3])
    kinds = onnx.TensorProto
    nodes = [helper.make_node("ArgMax", ["x"], ["label"], axis=1)]
    nodes.append(helper.make_node("Softmax", ["x"], ["probabilities"]))
    outputs = [("label", kinds.INT64, ["b", 1]), ("probabilities", kinds.FLOAT, ["b", 4])]
    onnx.save(graph(nodes, [("x", kinds.FLOAT, ["b", 4])], outputs), path)
    torch.testing.assert_close(load_program(path, trust=True)(x), x.softmax(1))
    onnx.save(graph(nodes[:1], [("x", kinds.FLOAT, ["b", 4])], outputs[:1]), path)
    with pytest.raises(ValueError, match="no output of floats"):
        load_program(path, trust=True)


def test_weights_that_are_computed_are_numbers_first(tmp_path):
    """Such as the absolute values of a monotone network; converters refuse them."""
    kind = onnx.TensorProto.FLOAT
    weights = [("w", -np.eye(4, 3, dtype="f"))]
    nodes = [helper.make_node("Abs", ["w"], ["v"]), helper.make_node("Gemm", ["x", "v"], ["z"])]
    made = graph(nodes, [("x", kind, ["b", 4])], [("z", kind, ["b", 3])], weights)
    onnx.save(made, tmp_path / "net.onnx")
    x = torch.rand(5, 4, requires_grad=True)
    z = load_program(tmp_path / "net.onnx", trust=True)(x)
    assert torch.equal(z, x[:, :3])
    assert z.requires_grad


def test_names_that_differ_by_a_dot_are_two_weights(tmp_path):
    """And names of Python code are never names in ours."""
    kind, code = onnx.TensorProto.FLOAT, "x)\n        raise SystemExit(3"
    weights = [("a.b", np.eye(4, dtype="f")), ("a_b", 2 * np.eye(4, dtype="f"))]
    nodes = [helper.make_node("MatMul", ["x", "a.b"], [code], name="__class__")]
    nodes.append(helper.make_node("MatMul", [code, "a_b"], ["forward"], name=code))
    made = graph(nodes, [("x", kind, ["b", 4])], [("forward", kind, ["b", 4])], weights)
    onnx.save(made, tmp_path / "net.onnx")
    x = torch.rand(5, 4)
    program = load_program(tmp_path / "net.onnx", trust=True)
    assert torch.equal(program(x), 2 * x)
    assert "raise" not in " ".join(program.program.state_dict()) + repr(program)


def stub(monkeypatch, name, **members):
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


class Wrong(nn.Module):
    """A converter's result that is off by 1 %."""

    def __init__(self, model):
        super().__init__()
        self.onnx_model = model

    def forward(self, x):
        return 1.01 * x[:, :3]


def test_a_converter_that_is_wrong_is_passed_over(tmp_path, monkeypatch):
    path, x = matmul(tmp_path / "net.onnx"), torch.rand(5, 4, requires_grad=True)
    stub(monkeypatch, "onnx2pytorch", ConvertModel=Wrong)
    stub(monkeypatch, "onnx2torch", convert=lambda model: Right())
    with pytest.warns(SparringWarning, match="converted by onnx2torch: onnx2pytorch gives other"):
        program = load_program(path, trust=True)
    assert torch.equal(program(x), x[:, :3])
    assert program(x).requires_grad
    stub(monkeypatch, "onnx2torch", convert=Wrong)
    with pytest.warns(SparringWarning, match="scores alone, without gradients: onnx2pytorch gives"):
        program = load_program(path, trust=True)
    assert torch.equal(program(x), x[:, :3])
    assert not program(x).requires_grad
    assert torch.equal(copy.deepcopy(program)(x), x[:, :3])


class Right(nn.Module):
    def forward(self, x):
        return x[:, :3]


class Blocked(Wrong):
    def forward(self, x):
        return x.detach()[:, :3]


class Second(Wrong):
    """Right at its first call only."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return x[:, :3] * self.calls


class Small(Wrong):
    def forward(self, x):
        return x.reshape(8, 4)[:, :3]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Blocked, "lets no gradient reach the input"),
        (Second, "gives other outputs than onnxruntime"),
        (Small, "fails on 8 rows that onnxruntime takes"),
    ],
)
def test_a_conversion_without_gradient_or_with_a_state_is_passed_over(
    tmp_path, monkeypatch, wrong, said
):
    stub(monkeypatch, "onnx2pytorch", ConvertModel=wrong)
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    with pytest.warns(SparringWarning, match=f"onnx2pytorch {said}.*; onnx2torch is missing"):
        program = load_program(matmul(tmp_path / "net.onnx"), trust=True)
    assert not program(torch.rand(2, 4, requires_grad=True)).requires_grad


def test_without_onnxruntime_the_conversion_is_not_compared(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    said = "not compared with onnxruntime: onnxruntime is missing"
    with pytest.warns(SparringWarning, match=f"free.onnx: its conversion was {said}"):
        program = load_program(folder / "free.onnx", trust=True)
    assert said in program.notes[0]


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (("onnx",), r"free.onnx, an ONNX program, needs the package onnx: .*sparring\[onnx\]"),
        (
            ("onnx2pytorch", "onnx2torch", "onnxruntime"),
            r"onnx2pytorch is missing; onnx2torch is missing; onnxruntime is missing\. For "
            r"gradients: pip install --no-deps onnx2pytorch; for scores.*onnxruntime",
        ),
    ],
)
def test_what_to_install_is_told(folder, monkeypatch, missing, said):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=said):
        load_program(folder / "free.onnx", trust=True)
    with pytest.raises(ValueError, match=r"\(ONNX\).*--trust"):
        load_program(folder / "free.onnx")


def test_scores_alone_name_the_package_for_gradients(folder, monkeypatch):
    for name in ("onnx2pytorch", "onnx2torch"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.warns(SparringWarning, match=r"scores alone.*For gradients: pip install --no-deps"):
        program = load_program(folder / "free.onnx", trust=True)
    x = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(program(x), convolutional()(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("quantised", ["per tensor", "per channel", "dynamic"])
def test_quantised_programs(tmp_path, quantised):
    from onnxruntime.quantization import QuantFormat, quantize_dynamic, quantize_static

    class Reader:
        left = 5

        def get_next(self):
            self.left -= 1
            return {"input": torch.rand(5, 1, 8, 8).numpy()} if self.left else None

    net, x = convolutional(), torch.rand(5, 1, 8, 8, requires_grad=True)
    net[7] = nn.ReLU()
    options = {"dynamic_shapes": BATCH, "external_data": False}
    whole, path = save(net, tmp_path / "whole.onnx", x.detach(), **options), tmp_path / "net.onnx"
    if quantised == "dynamic":
        quantize_dynamic(whole, path)
    else:
        per = {"quant_format": QuantFormat.QDQ, "per_channel": quantised == "per channel"}
        # 7 bits of a weight: of 8, onnxruntime saturates sums on CPUs without VNNI
        quantize_static(whole, path, Reader(), reduce_range=True, **per)
    said = "scores alone" if quantised == "dynamic" else "gradients pass straight through"
    with pytest.warns(SparringWarning, match=said):
        program = load_program(path, trust=True)
    torch.testing.assert_close(program(x), net(x), atol=0.1, rtol=0.1)
    if quantised != "dynamic":
        grads = [torch.autograd.grad(m(x).square().sum(), x)[0] for m in (program, net)]
        assert nn.functional.cosine_similarity(*(g.flatten() for g in grads), 0) > 0.9


def test_sizes_that_are_free_are_tried(tmp_path):
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    net = nn.Sequential(*layers, nn.Linear(4, 3)).eval()
    dims = ({name: torch.export.Dim(f"d{name}") for name in (0, 2, 3)},)
    path = save(net, tmp_path / "net.onnx", torch.rand(2, 3, 16, 12), dynamic_shapes=dims)
    program, x = load_program(path, trust=True), torch.rand(5, 3, 20, 24)
    torch.testing.assert_close(program(x), net(x))
    with pytest.raises(ValueError, match=r"samples of shape \(3, any, any\), not \(1, 20, 24\)"):
        program(x[:, :1])


@pytest.mark.parametrize(
    ("kind", "given", "taken"), [("float32", 0.5, 0.5), ("float16", 0.5, 0.5), ("uint8", 0.5, 128)]
)
def test_rows_to_compare_on_fill_the_range_of_whole_numbers(kind, given, taken):
    values = onnx_program.values_for(torch.full((4, 2), given), getattr(torch, kind))
    assert torch.equal(values, torch.full((4, 2), float(taken)))


def test_a_program_may_be_loaded_where_no_gradient_is_kept(folder):
    with torch.no_grad():
        program = load_program(folder / "one.onnx", trust=True)
    assert program.notes == ()
    assert program(torch.rand(2, 1, 8, 8, requires_grad=True)).requires_grad
