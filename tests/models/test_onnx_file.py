"""ONNX files of strangers: weights elsewhere, foreign operators, training mode, damage."""

import hashlib
import shutil
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from sparring.models import load_program, onnx_file, onnx_graph
from sparring.runtime.warning import SparringWarning

FLOAT = onnx.TensorProto.FLOAT


def save(path, nodes, inputs=("x",), weights=None, opset=13, domain=""):
    """Write a program of nodes with float inputs `(b, 4)` and the output `z (b, 3)`."""
    values = [helper.make_tensor_value_info(name, FLOAT, ["b", 4]) for name in inputs]
    out = helper.make_tensor_value_info("z", FLOAT, ["b", 3])
    arrays = {"w": np.eye(4, 3, dtype="f")} if weights is None else weights
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    made = helper.make_graph(nodes, "g", values, [out], tensors)
    opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(domain, 1)] * bool(domain)
    model = helper.make_model(made, opset_imports=opsets, ir_version=8)
    onnx.save(model, path)
    return model


MATMUL = helper.make_node("MatMul", ["x", "w"], ["z"])


def external(path, location):
    """A program whose weights are in a file of that name."""
    model = save(path, [MATMUL], weights={"w": np.eye(4, 3, dtype="f")})
    tensor = model.graph.initializer[0]
    content = bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    path.write_bytes(model.SerializeToString())
    return content


def test_weights_beside_the_file_are_read_and_count_in_the_digest(tmp_path):
    content = external(tmp_path / "net.onnx", "net.onnx.data")
    with pytest.raises(FileNotFoundError, match=r"weights in 'net.onnx.data', which is not beside"):
        load_program(tmp_path / "net.onnx", trust=True)
    (tmp_path / "net.onnx.data").write_bytes(content)
    first, x = load_program(tmp_path / "net.onnx", trust=True), torch.rand(5, 4)
    assert torch.equal(first(x), x[:, :3])
    (tmp_path / "net.onnx.data").write_bytes(np.zeros((4, 3), "f").tobytes())
    second = load_program(tmp_path / "net.onnx", trust=True)
    assert not second(x).any()
    assert first.digest != second.digest


@pytest.mark.parametrize(
    "location",
    [
        "../net.bin",
        "deep/../../net.bin",
        "{parent}/net.bin",
        "",
        "..",
        "C:\\net.bin",
        "..\\net.bin",
    ],
)
def test_weights_elsewhere_are_refused(tmp_path, location):
    folder = tmp_path / "inner"
    folder.mkdir()
    location = location.format(parent=tmp_path)
    content = external(folder / "net.onnx", location)
    (tmp_path / "net.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"was refused: its weights are to be read from"):
        load_program(folder / "net.onnx", trust=True)


def test_weights_behind_a_link_are_refused(tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "net.bin").write_bytes(external(folder / "net.onnx", "net.bin"))
    (folder / "net.bin").symlink_to(tmp_path / "net.bin")
    with pytest.raises(ValueError, match="was refused: its weights"):
        load_program(folder / "net.onnx", trust=True)
    shutil.copy(tmp_path / "net.bin", folder / "real.bin")
    (folder / "net.bin").unlink()
    (folder / "net.bin").symlink_to(folder / "real.bin")
    with pytest.raises(ValueError, match="is a symbolic link"):
        load_program(folder / "net.onnx", trust=True)


def test_weights_in_constants_and_branches_are_looked_for(tmp_path):
    tensor = numpy_helper.from_array(np.eye(4, 3, dtype="f"), "c")
    onnx.external_data_helper.set_external_data(tensor, "../c.bin")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    out = helper.make_tensor_value_info("w", FLOAT, [4, 3])
    branch = helper.make_graph([constant], "b", [], [out])
    for nodes in ([constant], [helper.make_node("If", ["f"], ["w"], then_branch=branch)]):
        save(tmp_path / "net.onnx", [*nodes, MATMUL], weights={"f": np.array(True)})
        with pytest.raises(ValueError, match=r"read from '../c.bin'"):
            load_program(tmp_path / "net.onnx", trust=True)


def test_an_operator_outside_the_standard_never_becomes_a_function_of_torch(tmp_path, monkeypatch):
    """onnx2pytorch guesses `torch.set_grad_enabled` for an operator `Set_Grad_Enabled`."""
    monkeypatch.setattr(torch, "save", lambda *_: pytest.fail("it was called"))
    for name, domain in (("Save", ""), ("MatMul", "org.other")):
        node = helper.make_node(name, ["x", "w"], ["z"], domain=domain)
        model = save(tmp_path / "net.onnx", [node], domain=domain)
        assert onnx_graph.foreign_operator(model) == f"{domain}::{name}".removeprefix("::")
        with pytest.raises(ValueError, match=rf"the ONNX standard has no operator .*{name}"):
            load_program(tmp_path / "net.onnx", trust=True)


def test_two_inputs_or_none_of_numbers_are_refused(tmp_path):
    save(tmp_path / "net.onnx", [helper.make_node("Sub", ["x", "mask"], ["z"])], ("x", "mask"))
    with pytest.raises(ValueError, match="takes 2 inputs; it must take one batch"):
        load_program(tmp_path / "net.onnx", trust=True)
    made = save(tmp_path / "net.onnx", [MATMUL])
    made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    onnx.save(made, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="must take one batch of samples: a tensor of numbers"):
        load_program(tmp_path / "net.onnx", trust=True)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("layer", ["dropout", "batch norm"])
def test_training_mode_is_refused(tmp_path, layer, old):
    inner = nn.Dropout() if layer == "dropout" else nn.BatchNorm1d(6)
    model = nn.Sequential(nn.Linear(4, 6), inner, nn.Linear(6, 3)).train()
    path = tmp_path / "net.onnx"
    if layer == "batch norm" and not old:
        node = helper.make_node(
            "BatchNormalization", ["y", *"abcd"], ["z", "", ""], training_mode=1
        )
        weights = {"w": np.eye(4, 3, dtype="f")} | {k: np.ones(3, "f") for k in "abcd"}
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), node]
        save(path, nodes, weights=weights, opset=15)
    else:
        mode = torch.onnx.TrainingMode.TRAINING
        ways = {"dynamo": False, "training": mode} if old else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (torch.rand(5, 4),), path, verbose=False, **ways)
    with pytest.raises(ValueError, match=rf"in training mode \({layer}\): call model.eval\(\)"):
        load_program(path, trust=True)


def test_rows_that_depend_on_each_other_are_told(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    nodes.append(helper.make_node("ReduceMean", ["y"], ["m"], axes=[0]))
    nodes.append(helper.make_node("Sub", ["y", "m"], ["z"]))
    save(tmp_path / "net.onnx", nodes)
    with pytest.warns(SparringWarning, match="for a row changes with the other rows of the batch"):
        load_program(tmp_path / "net.onnx", trust=True)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_damage_is_told(tmp_path, share):
    save(tmp_path / "whole.onnx", [MATMUL])
    whole = (tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "net.onnx").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=r"net\.onnx"):
        load_program(tmp_path / "net.onnx", trust=True)


def test_an_opset_of_the_future_is_told(tmp_path):
    save(tmp_path / "net.onnx", [MATMUL], opset=99)
    with pytest.warns(SparringWarning, match=r"not compared.*onnxruntime does not run it"):
        program = load_program(tmp_path / "net.onnx", trust=True)
    x = torch.rand(3, 4)
    assert torch.equal(program(x), x[:, :3])


def test_only_what_depends_on_no_input_is_computed(tmp_path):
    nodes = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("Mul", ["w", "two"], ["v"]),
        helper.make_node("RandomNormalLike", ["v"], ["noise"]),
        helper.make_node("Add", ["v", "noise"], ["u"]),
        helper.make_node("MatMul", ["x", "u"], ["z"]),
    ]
    model = save(tmp_path / "net.onnx", nodes)
    onnx_graph.fold_constants(model)
    assert [n.op_type for n in model.graph.node] == ["RandomNormalLike", "Add", "MatMul"]
    (tensor,) = model.graph.initializer
    assert tensor.name == "v"
    assert np.array_equal(numpy_helper.to_array(tensor), 2 * np.eye(4, 3))


def test_a_digest_is_that_of_the_file(tmp_path):
    save(tmp_path / "net.onnx", [MATMUL])
    digest = hashlib.sha256((tmp_path / "net.onnx").read_bytes()).hexdigest()[:16]
    assert onnx_file.read_onnx(tmp_path / "net.onnx", digest).digest == digest


def test_a_size_of_minus_one_is_free(tmp_path):
    model = save(tmp_path / "net.onnx", [MATMUL])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    program, x = load_program(tmp_path / "net.onnx", trust=True), torch.rand(5, 4)
    assert program.rows.most is None
    assert torch.equal(program(x), x[:, :3])


def test_weights_of_a_branch_without_nodes_are_looked_for(tmp_path):
    tensor = numpy_helper.from_array(np.eye(4, 3, dtype="f"), "w1")
    onnx.external_data_helper.set_external_data(tensor, "../c.bin")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    out = helper.make_tensor_value_info("w1", FLOAT, [4, 3])
    branch = helper.make_graph([], "b", [], [out], [tensor])
    choice = helper.make_node("If", ["f"], ["w"], then_branch=branch, else_branch=branch)
    model = save(tmp_path / "net.onnx", [choice, MATMUL], weights={"f": np.array(True)})
    assert [graph.name for graph in onnx_graph.graphs(model.graph)] == ["g", "b", "b"]
    with pytest.raises(ValueError, match=r"read from '../c.bin'"):
        load_program(tmp_path / "net.onnx", trust=True)
