"""Programs from files: run only with trust, told by content, equal to what was saved."""

import copy
import pickle
import sys
import warnings
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sparring import evaluation
from sparring.introspect import freeze
from sparring.models import load_program, wrap_model
from sparring.runtime.provenance import model_hash

BATCH = torch.export.Dim("b")


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


def trained(*layers: nn.Module) -> nn.Sequential:
    model = nn.Sequential(*layers).train()
    model(torch.rand(9, 4))
    return model


ALWAYS = {
    "batch-norm": lambda: trained(nn.Linear(4, 3), nn.BatchNorm1d(3)),
    "deep": lambda: trained(nn.Sequential(nn.Sequential(nn.BatchNorm1d(4))), nn.Linear(4, 3)),
    "dropout": lambda: trained(nn.Linear(4, 3), nn.Dropout(0.5)),
    "alpha-dropout": lambda: trained(nn.Linear(4, 3), nn.AlphaDropout(0.5)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", ALWAYS)
def test_a_program_traced_in_training_mode_is_refused(tmp_path, name):
    model = ALWAYS[name]()
    traced = torch.jit.trace(model, torch.rand(5, 4), check_trace=False)
    traced.save(tmp_path / "traced.pt")
    with pytest.raises(ValueError, match=r"traced\.pt was traced in training mode \(.*eval\(\)"):
        load_program(tmp_path / "traced.pt", trust=True)
    with pytest.raises(ValueError, match="model was traced in training mode"):
        wrap_model(traced)
    torch.jit.trace(model.eval(), torch.rand(5, 4)).save(tmp_path / "traced.pt")
    x = torch.rand(6, 4)
    assert torch.equal(load_program(tmp_path / "traced.pt", trust=True)(x), model(x))


def ranged(low, high):
    return torch.export.Dim("b", min=low, max=high)


@pytest.mark.parametrize("size", [(2, 16), (3, 3), (0, 5), (4, None)])
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 16, 17, 41])
def test_programs_of_bounded_batches_run_in_such_batches(tmp_path, size, rows):
    dims = None if size[0] == size[1] else ({0: ranged(*size)},)
    example = (torch.rand(size[1] or 4, 4),)
    torch.export.save(torch.export.export(net(), example, dynamic_shapes=dims), tmp_path / "p")
    program, x = load_program(tmp_path / "p", trust=True), torch.rand(rows, 4, requires_grad=True)
    z = program(x)
    torch.testing.assert_close(z, net()(x))
    grads = [torch.autograd.grad(out.square().sum(), x)[0] for out in (z, net()(x))]
    torch.testing.assert_close(*grads)


def test_a_batch_that_a_program_refuses_is_named(tmp_path):
    class Pairs(nn.Module):
        def forward(self, x):
            return x.reshape(-1, 2, 4).flip(1).reshape(-1, 4)

    dims = ({0: 2 * torch.export.Dim("b")},)
    program = torch.export.export(Pairs(), (torch.rand(6, 4),), dynamic_shapes=dims)
    with pytest.raises(ValueError, match=r"does not take a batch of shape \(3, 4\): Guard failed"):
        wrap_model(program)(torch.rand(3, 4))


class Head(nn.Module):
    """A network that returns its logits in some form."""

    def __init__(self, form: str):
        super().__init__()
        self.layer, self.form = nn.Linear(4, 3), form

    def forward(self, x):
        z = self.layer(x)
        if self.form == "mapping":
            return {"features": -z, "logits": z}
        if self.form == "only":
            return {"out": z}
        if self.form == "unnamed":
            return {"features": -z, "scores": z}
        return (z, -z) if self.form == "tuple" else [z]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("form", ["mapping", "only", "tuple", "list", "unnamed"])
@pytest.mark.parametrize("kind", ["trace", "export"])
def test_logits_are_read_from_every_form_of_output(tmp_path, form, kind):
    model, x, path = Head(form).eval(), torch.rand(5, 4), tmp_path / "net"
    if kind == "trace":
        torch.jit.trace(model, x, strict=False).save(path)
    else:
        torch.export.save(torch.export.export(model, (x,)), path)
    program = load_program(path, trust=True)
    if form == "unnamed":
        with pytest.raises(ValueError, match=r'features, scores: it must return .* with "logits"'):
            program(x)
    else:
        assert torch.equal(program(x), model.layer(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["script", "frozen", "traced", "export"])
def test_programs_of_every_dtype_take_and_give_that_of_the_data(tmp_path, kind, dtype):
    model, path = nn.Sequential(nn.Linear(4, 3)).eval(), tmp_path / "net"
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((8 * p).round() / 8)  # exact in any of them
    inner, example = copy.deepcopy(model).to(dtype), torch.rand(2, 4, dtype=dtype)
    if kind == "export":
        dims = ({0: torch.export.Dim("b")},)
        torch.export.save(torch.export.export(inner, (example,), dynamic_shapes=dims), path)
    elif kind == "traced":
        torch.jit.trace(inner, example).save(path)
    else:
        script = torch.jit.script(inner)
        (torch.jit.freeze(script) if kind == "frozen" else script).save(path)
    program, x = load_program(path, trust=True), torch.randint(4, (5, 4)) / 4
    for data in (x, x.double()):
        assert torch.equal(program(data), model(x).to(data.dtype))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize(
    "make",
    [
        lambda m: torch.jit.freeze(torch.jit.script(m)),
        lambda m: torch.export.export(m, (torch.rand(5, 4),), dynamic_shapes=({0: BATCH},)),
        lambda m: torch.export.export(
            m, (torch.rand(5, 4),), dynamic_shapes=({0: BATCH},)
        ).module(),
    ],
    ids=["frozen", "exported", "module"],
)
def test_programs_in_memory_are_evaluated_and_left_as_they_were(make):
    x, model = torch.rand(40, 4), net()
    program = make(model)
    flags = [p.requires_grad for p in getattr(program, "parameters", list)()]
    data = (x, model(x).argmax(1))
    found = evaluation.evaluate(wrap_model(program), data, eps=0.1, batch_size=16, progress=False)
    want = evaluation.evaluate(net(), data, eps=0.1, batch_size=16, progress=False)
    assert found.clean.accuracy == 1.0
    assert found.robust.accuracy == pytest.approx(want.robust.accuracy, abs=0.026)
    assert [p.requires_grad for p in getattr(program, "parameters", list)()] == flags
    other = net()
    other[1].bias.data += 1
    hashes = [model_hash(wrap_model(p)) for p in (program, program, make(other))]
    assert hashes[0] == hashes[1] != hashes[2]


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
