"""The battery of every attack against odd models and inputs: it works, or a sentence says why
not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.nn.utils.parametrizations import spectral_norm

from sparring.config import registry
from tests.contract.pieces import make_quick
from tests.contract.test_attacks import callable_alone, suited
from tests.oracles import Net, problem

ALONE = [n for n in registry.pieces("attack") if callable_alone(make_quick("attack", n))]
GRADIENT_FREE = {"HopSkipJump", "NES", "Noise", "SPSA", "SparseRS", "Square", "Transfer"}
GRADIENT_FREE |= {"BitBeam", "BitBoundary", "LinearBits", "MonotoneBits"}
pytestmark = pytest.mark.parametrize("name", ALONE)


class InPlace(nn.Module):
    """A network that preprocesses in place, in one of the ways people write it."""

    def __init__(self, inner: nn.Module, way: str) -> None:
        super().__init__()
        self.inner, self.way = inner, way

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "operator":
            x -= 0.25
        elif self.way == "data":
            x.data.sub_(0.25)
        elif self.way == "view":
            x.flatten().sub_(0.25)
        else:
            x = x - 0.25
        return self.inner(x)


def float_problem() -> tuple[nn.Module, Tensor, Tensor]:
    model, x, y = problem(dtype=torch.float32)
    return model.eval(), x, y


def attack_points(name: str, model, x: Tensor, y: Tensor, **more) -> Tensor:
    attack = make_quick("attack", name, **more)
    return attack(model, suited(attack.threat, x), y)


@pytest.mark.parametrize("way", ["operator", "data", "view"])
def test_a_model_that_writes_to_its_input(name, way):
    """It gets the points of its twin, and the caller's x stays."""
    net, x, y = float_problem()
    attack = make_quick("attack", name)
    x = suited(attack.threat, x)
    kept = x.clone()
    points = attack(InPlace(net, way), x, y)
    assert torch.equal(x, kept)
    assert torch.equal(points, attack_points(name, InPlace(net, "copy"), x, y))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_of_any_width(name, dtype):
    model, x, y = float_problem()
    assert torch.equal(attack_points(name, model, x, y.to(dtype)), attack_points(name, model, x, y))


@pytest.mark.parametrize("kind", ["one_hot", "soft", "float", "too large", "below -1"])
def test_labels_that_are_none(name, kind):
    model, x, y = float_problem()
    wrong = {
        "one_hot": one_hot(y, 4),
        "soft": one_hot(y, 4).float(),
        "float": y.float(),
        "too large": y + 2,
        "below -1": y - 5,
    }[kind]
    with pytest.raises(ValueError, match="label"):
        attack_points(name, model, x, wrong)


def test_inputs_of_float64_for_a_network_of_float32(name):
    model, x, y = float_problem()
    points = attack_points(name, model, x.double(), y)
    assert points.dtype == torch.float64
    assert points.shape == x.shape


@pytest.mark.parametrize("inside", [torch.float64, torch.bfloat16])
def test_a_network_of_another_dtype_than_the_inputs(name, inside):
    model, x, y = float_problem()
    assert attack_points(name, model.to(inside), x, y).dtype == torch.float32


def test_logits_of_float64(name):
    model, x, y = float_problem()
    points = attack_points(name, lambda z: model(z).double(), x, y)
    assert torch.allclose(points, attack_points(name, model, x, y), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_inputs_of_no_wide_float(name, dtype):
    model, x, y = float_problem()
    with pytest.raises(ValueError, match=rf"dtype {dtype}: .* torch\.float32 or torch\.float64"):
        attack_points(name, model, x.to(dtype), y)


@pytest.mark.parametrize("around", [torch.inference_mode, torch.no_grad])
def test_inside_inference_mode_and_no_grad(name, around):
    model, x, y = float_problem()
    with around():
        points = attack_points(name, model, x.clone(), y.clone())
    assert torch.equal(points, attack_points(name, model, x, y))
    if hasattr(make_quick("attack", name), "distances"):
        attack = make_quick("attack", name)
        with around():
            distance = attack.distances(model, x.clone(), y.clone())[1]
        attack.reseed(attack.seed)
        assert torch.equal(distance, attack.distances(model, x, y)[1])


def test_weights_made_in_inference_mode(name):
    with torch.inference_mode():
        model = Net().eval()
    _, x, y = float_problem()
    with pytest.raises(ValueError, match=r"torch\.inference_mode"):
        attack_points(name, model, x, y)


@pytest.mark.parametrize(
    "output",
    [lambda z: (z, z), lambda z: {"logits": z}, lambda z: z[:, 0], lambda z: z[:, :1]],
    ids=["tuple", "mapping", "vector", "one class"],
)
def test_outputs_that_are_no_logits(name, output):
    model, x, y = float_problem()
    for precision in ("float32", "bfloat16"):
        attack = make_quick("attack", name)
        if precision != "float32" and not hasattr(attack, "precision"):
            continue
        attack.precision = precision
        with pytest.raises(ValueError, match="it must return logits"):
            attack(lambda z: output(model(z)), suited(attack.threat, x), y)


def test_logits_that_are_nan(name):
    model, x, y = float_problem()
    with pytest.raises(ValueError, match="NaN for every sample"):
        attack_points(name, lambda z: model(z) * torch.nan, x, y)


def test_masked_classes(name):
    """Classes of logit −inf are as good as absent: as many samples break without them."""
    model, x, y = float_problem()
    x, off = suited(make_quick("attack", name).threat, x), torch.arange(4) == 3
    y = model(x)[:, :3].argmax(1)
    broken = []
    for twin in (lambda z: model(z).masked_fill(off, -torch.inf), lambda z: model(z)[:, :3]):
        more = {"surrogate": twin} if name == "Transfer" else {}
        points = attack_points(name, twin, x, y, **more)
        assert points.isfinite().all()
        broken.append(int((twin(points).argmax(1) != y).sum()))
    assert abs(broken[0] - broken[1]) <= 1


@pytest.mark.parametrize("mode", ["train", "keep"])
def test_spectral_normalisation_is_as_before(name, mode):
    _, x, y = float_problem()
    model = nn.Sequential(spectral_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 4)).train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    attack = make_quick("attack", name)
    attack.mode = mode
    attack(model, suited(attack.threat, x), y)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_module(name):
    model, x, y = float_problem()
    twin = attack_points(name, model, x, y)
    assert torch.allclose(attack_points(name, torch.jit.script(model), x, y), twin, atol=1e-5)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:UserWarning")
def test_a_quantised_network_has_no_gradient(name):
    model, x, y = float_problem()
    model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    if name in GRADIENT_FREE:
        assert attack_points(name, model, x, y).shape == x.shape
    else:
        y = model(suited(make_quick("attack", name).threat, x)).argmax(1)
        with pytest.raises(ValueError, match="no gradient with respect to its input"):
            attack_points(name, model, x, y)


def test_an_iterator_that_ends_inside_the_model(name):
    def model(z: Tensor) -> Tensor:
        return next(iter(()))

    _, x, y = float_problem()
    with pytest.raises(ValueError, match="the model raised StopIteration"):
        attack_points(name, model, x, y)


def test_a_model_on_another_device(name):
    model, x, y = float_problem()
    with pytest.raises(ValueError, match="x is on cpu and the model on meta: move one of them"):
        attack_points(name, model.to("meta"), x, y)


def test_inputs_with_strides_and_a_gradient(name):
    model, x, y = float_problem()
    attack = make_quick("attack", name)
    x = suited(attack.threat, x)
    odd = x.T.contiguous().T.clone(memory_format=torch.preserve_format).requires_grad_()
    assert not odd.is_contiguous()
    points = attack(model, odd, y)
    assert torch.allclose(points, attack_points(name, model, x, y), atol=1e-5)
    assert odd.grad is None
    assert odd.requires_grad
    assert not points.requires_grad
