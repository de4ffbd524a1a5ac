"""Programs as models: modes, batch sizes, forms of output, dtypes; in files and in memory."""

import copy

import pytest
import torch
from torch import nn

from sparring import evaluation
from sparring.models import load_program, wrap_model
from sparring.models.runner import Program
from sparring.runtime.provenance import model_hash

BATCH = torch.export.Dim("b")


def net(k: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU())
    model.append(nn.Linear(6, k))
    model(torch.rand(9, 4))
    return model.eval()


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


def test_a_program_exported_in_training_mode_is_refused_but_for_norms_without_statistics():
    x, batch = torch.rand(5, 4), {0: torch.export.Dim("b", min=2, max=64)}
    for make in ALWAYS.values():
        if isinstance(make()[-1], nn.AlphaDropout):
            continue
        program = torch.export.export(make(), (x,), dynamic_shapes=(batch,))
        with pytest.raises(ValueError, match="model was exported in training mode"):
            wrap_model(program)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)).eval()
    program = torch.export.export(model, (x,), dynamic_shapes=(batch,))
    assert torch.equal(wrap_model(program)(x), model(x))


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


def test_a_program_exported_with_a_named_input_is_called_by_that_name(tmp_path):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net()

        def forward(self, pixel_values):
            return {"features": pixel_values, "logits": self.inner(pixel_values)}

    x, dims = torch.rand(5, 4), {"pixel_values": {0: BATCH}}
    program = torch.export.export(Named(), (), {"pixel_values": x}, dynamic_shapes=dims)
    torch.export.save(program, tmp_path / "named.pt2")
    for model in (wrap_model(program), load_program(tmp_path / "named.pt2", trust=True)):
        for made in (model, copy.deepcopy(model)):
            torch.testing.assert_close(made(x[:3]), net()(x[:3]))


def test_a_program_that_fails_on_no_rows_takes_an_empty_batch():
    class NeedsRows(nn.Module):
        def forward(self, x):
            return x - x[:1] if len(x) else x[0]

    program = Program(NeedsRows(), digest="0")
    x = torch.zeros(0, 3, requires_grad=True)
    assert program(x).shape == (0, 3)
    (grad,) = torch.autograd.grad(program(x).sum(), x)
    assert grad.shape == (0, 3)
    assert program(torch.ones(2, 3)).tolist() == [[0.0] * 3] * 2
