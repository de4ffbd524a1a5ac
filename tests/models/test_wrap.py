"""Any model as one of ours: preprocessing inside, logits read from what it answers with."""

import copy
import dataclasses
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sparring.attacks import FGSM
from sparring.models import wrap_model
from sparring.runtime.warning import SparringWarning
from sparring.threats import Linf


def net(d: int = 4, k: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(d, k)).eval()


def by_hand(x, mean, std, scale):
    """(x·scale − mean) / std, a number at a time."""
    found = torch.empty_like(x)
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            for h in range(x.shape[2]):
                for w in range(x.shape[3]):
                    m, s = mean[c % len(mean)], std[c % len(std)]
                    found[i, c, h, w] = (x[i, c, h, w] * scale - m) / s
    return found


@pytest.mark.parametrize(
    ("mean", "std", "scale"),
    [([0.5], [0.25], 1), ([0.1, 0.2], [0.3, 0.4], 1), ([120.0, 90.0], [60.0], 255)],
)
def test_preprocessing_is_the_formula(mean, std, scale):
    x = torch.rand(3, 2, 2, 2, dtype=torch.float64)
    seen = []
    model = wrap_model(lambda z: (seen.append(z), z.flatten(1))[1], mean=mean, std=std, scale=scale)
    model(x)
    torch.testing.assert_close(seen[0], by_hand(x, mean, std, scale), atol=1e-5, rtol=1e-6)


def test_gradients_are_those_in_the_data_s_units():
    inner, x = net(), torch.rand(5, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(
        wrap_model(inner, mean=0.5, std=0.25, scale=2.0)(x)[:, 0].sum(), x
    )
    torch.testing.assert_close(grad, (inner[1].weight[0] * 8).expand(5, 4))


def test_nothing_declared_changes_nothing():
    inner, x = net(), torch.rand(5, 4)
    model = wrap_model(inner)
    assert torch.equal(model(x), inner(x))
    assert list(model.parameters()) == list(inner.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_the_mode_of_the_whole(training):
    model = wrap_model(net().train(training))
    assert {m.training for m in model.modules()} == {training}


def test_a_function_is_normalised_where_its_inputs_are():
    """On the device 'meta', in place of a GPU: a function has no weights that name a device."""
    model = wrap_model(lambda v: v.flatten(1), mean=[0.1, 0.2], std=0.5, scale=255)
    assert model(torch.rand(3, 2, 4, 4, device="meta")).device.type == "meta"
    assert model(torch.rand(3, 2, 4, 4)).device.type == "cpu"


def test_images_are_resized():
    model = wrap_model(lambda z: z.flatten(1), size=4)
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 16)
    assert wrap_model(lambda z: z.flatten(1), size=(2, 4))(torch.rand(2, 1, 8, 8)).shape == (2, 8)
    flat = model(torch.full((1, 1, 8, 8), 0.25))
    torch.testing.assert_close(flat, torch.full((1, 16), 0.25))


@pytest.mark.parametrize(
    "form",
    [np.array, torch.tensor, tuple, lambda v: np.array(v).reshape(3, 1, 1)],
    ids=["array", "tensor", "tuple", "(3, 1, 1)"],
)
def test_mean_and_std_are_read_from_every_row_of_numbers(form):
    x, mean, std = torch.rand(2, 3, 4, 4), [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    want = wrap_model(lambda z: z.flatten(1), mean=mean, std=std)
    model = wrap_model(lambda z: z.flatten(1), mean=form(mean), std=form(std))
    assert torch.equal(model(x), want(x))
    assert repr(model) == repr(want)
    one = wrap_model(lambda z: z.flatten(1), mean=form([0.5, 0.5, 0.5])[0], std=0.5)
    assert one(x).shape == (2, 48)


@pytest.mark.parametrize("weights", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("inputs", [torch.float32, torch.float64, torch.float16, torch.uint8])
def test_inputs_take_the_dtype_of_the_weights_and_logits_are_float32_at_least(weights, inputs):
    inner, x = net(), torch.randint(2, (5, 4)).to(inputs)
    with torch.no_grad():
        for p in inner.parameters():
            p.copy_((8 * p).round() / 8)  # exact in any of them
    z = wrap_model(copy.deepcopy(inner).to(weights))(x)
    assert z.dtype == torch.promote_types(inputs, torch.float32)
    assert torch.equal(z, inner(x.float()).to(z.dtype))


def test_a_model_may_change_its_dtype_after_it_was_wrapped():
    inner, x = net(), torch.rand(5, 4)
    model = wrap_model(inner)
    for changed in (copy.deepcopy(model).double(), model.double()):
        assert changed(x).dtype == torch.float32
        torch.testing.assert_close(changed(x), inner.float()(x))
        inner.double()


def test_a_float64_network_is_attacked_from_float32_inputs():
    inner, x, y = net(), torch.rand(20, 4), torch.randint(3, (20,))
    model = wrap_model(copy.deepcopy(inner).double())
    torch.testing.assert_close(FGSM(Linf(0.1))(model, x, y), FGSM(Linf(0.1))(inner, x, y))


def test_a_model_wrapped_in_inference_mode_has_a_gradient():
    inner, x = net(), torch.rand(5, 4, requires_grad=True)
    with torch.inference_mode():
        model = wrap_model(inner, mean=0.5, std=0.25)
    assert torch.autograd.grad(model(x).sum(), x)[0].abs().max() > 0


@dataclasses.dataclass
class Output:
    features: object
    logits: object


@pytest.mark.parametrize(
    "wrap",
    [
        lambda z: Output(-z, z),
        lambda z: Output(-z, {"logits": (z, -z)}),
        lambda z: {"features": -z, "logits": z},
        lambda z: {"output": z},
        lambda z: ({"logits": z}, -z),
        lambda z: namedtuple("Outputs", "aux logits")(-z, z),
        lambda z: SimpleNamespace(logits=z, loss=None),
        lambda z: {"logits": z, "hidden": None},
        lambda z: (z, "attention"),
        lambda z: [z],
        lambda z: z.detach().numpy(),
        lambda z: z.to_sparse(),
    ],
    ids=[
        *("dataclass", "nested", "second", "only", "first-mapping", "namedtuple"),
        *("object", "mapping", "tuple", "list", "numpy", "sparse"),
    ],
)
def test_logits_are_found_in_the_answer(wrap):
    x = torch.rand(2, 3)
    assert torch.equal(wrap_model(lambda z: wrap(z))(x), x)


@pytest.mark.parametrize("column", [lambda z: z[:, 0], lambda z: z[:, :1]], ids=["(b,)", "(b, 1)"])
def test_one_column_is_two_classes(column):
    x = torch.tensor([[-2.0, 0.0], [3.0, 0.0]])
    assert wrap_model(column)(x).tolist() == [[0.0, -2.0], [0.0, 3.0]]
    p = torch.tensor([[0.25, 0.0]])
    found = wrap_model(column, outputs="probabilities")(p)
    torch.testing.assert_close(found.exp(), torch.tensor([[0.75, 0.25]]))


@pytest.mark.parametrize("rows", [2, 40])
@pytest.mark.parametrize(
    "end",
    [
        lambda z: z.sigmoid(),
        lambda z: z.sigmoid()[:, 0],
        lambda z: torch.cat([0 * z, z], 1).softmax(1)[:, 1:].reshape(-1),
    ],
    ids=["(b, 1)", "(b,)", "softmax"],
)
def test_a_probability_is_not_taken_for_a_logit(end, rows):
    inner, x = net(k=1), torch.rand(rows, 4)
    with pytest.raises(ValueError, match=r"one column, from .* pass outputs='probabilities'"):
        wrap_model(lambda x: end(inner(x)))(x)
    p = wrap_model(lambda x: end(inner(x)), outputs="probabilities")(x).exp()
    torch.testing.assert_close(p[:, 1], inner(x)[:, 0].sigmoid())


def test_a_probability_without_a_graph_is_found_once_there_are_rows():
    model = wrap_model(lambda x: x.detach().numpy()[:, 0])
    assert model(torch.rand(4, 2)).shape == (4, 2)  # four logits may lie there
    with pytest.raises(ValueError, match="pass outputs='probabilities'"):
        model(torch.rand(40, 2))


def test_logits_within_0_and_1_are_said_where_the_graph_shows_no_sigmoid():
    model = wrap_model(lambda x: 0.1 + 0.5 * x[:, :1])
    assert torch.equal(model(torch.zeros(40, 2))[:, 1], torch.full((40,), 0.1))
    model = wrap_model(lambda x: 0.5 * (1 + x[:, :1].tanh()))
    with pytest.warns(SparringWarning, match="pass outputs='probabilities'"):
        model(torch.rand(40, 2))
    model(torch.rand(40, 2))  # said once


@pytest.mark.parametrize("rows", [1, 2, 40])
def test_one_column_of_logits_may_begin_within_0_and_1(rows):
    inner, x = net(k=1), torch.rand(rows, 4)
    shift = 0.5 - inner(x)[0].detach()  # the first is 0.5
    model = wrap_model(lambda x: inner(x) + shift)
    assert model(x[:1]).tolist() == [[0.0, 0.5]]
    assert not model.checked
    assert model(10 * x).shape == (rows, 2)
    assert model.checked == (rows == 40)


def test_probabilities_become_logarithms_with_finite_gradients():
    x = torch.tensor([[0.0, 1.0, 200.0], [0.1, 0.2, 0.3]], requires_grad=True)
    z = wrap_model(lambda x: x.softmax(1), outputs="probabilities")(x)
    torch.testing.assert_close(z[1], x[1].log_softmax(0))
    assert z.isfinite().all()
    (grad,) = torch.autograd.grad(z.sum(), x)
    assert grad.isfinite().all()
    assert grad[1].abs().max() > 0


def test_attacks_see_the_same_model_as_by_hand():
    inner = net()
    x, y = torch.rand(20, 4), torch.randint(3, (20,))
    wide = wrap_model(inner, mean=0.5, std=0.25)
    bare = nn.Sequential(nn.Linear(4, 3)).eval()
    with torch.no_grad():
        bare[0].weight.copy_(inner[1].weight * 4)
        bare[0].bias.copy_(inner[1].bias - 2 * inner[1].weight.sum(1))
    torch.testing.assert_close(FGSM(Linf(0.1))(wide, x, y), FGSM(Linf(0.1))(bare, x, y))


def test_a_function_of_numpy_says_that_it_has_no_gradient():
    weight = np.ones((2, 3), dtype=np.float32)
    model, x = wrap_model(lambda x: x.numpy() @ weight), torch.rand(4, 2)
    assert model(x).shape == (4, 3)
    with pytest.raises(ValueError, match=r"no gradient .*x\.detach\(\)\.numpy\(\)"):
        FGSM(Linf(0.1))(model, x, torch.zeros(4, dtype=torch.long))


def made_in_inference_mode():
    with torch.inference_mode():
        return nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("model", "how", "said"),
    [
        (nn.Linear, {}, "pass an instance"),
        (3, {}, "a module, a function or a classifier"),
        ("net.pt", {}, "is a str.*load_program"),
        (torch.ones(99, 99), {}, "model is a Tensor"),
        (nn.Linear(20, 50).state_dict(), {}, "weights without their network.*load_weights"),
        ({"state_dict": nn.Linear(20, 50).state_dict()}, {}, "weights without their network"),
        (nn.LazyLinear(3), {}, r"lazy layer without weights yet \(weight\)"),
        (nn.LazyBatchNorm1d(affine=False), {}, "lazy layer without weights yet"),
        (nn.Linear(2, 2, device="meta"), {}, "no numbers in weight, on the device 'meta'"),
        (made_in_inference_mode(), {}, r"made inside torch\.inference_mode"),
        (lambda x: x, {"outputs": "logit"}, "one of logits, probabilities"),
        (lambda x: x, {"std": 0.0}, "above 0"),
        (lambda x: x, {"std": [1.0, -1.0]}, "above 0"),
        (lambda x: x, {"scale": 0}, "scale"),
        (lambda x: x, {"scale": "255"}, "scale"),
        (lambda x: x, {"size": 0}, "size"),
        (lambda x: x, {"size": (4, 4, 4)}, "size"),
        (lambda x: x, {"size": 4.5}, "size"),
        (lambda x: x, {"mean": float("nan")}, "finite"),
        (lambda x: x, {"mean": []}, "finite"),
        (lambda x: x, {"mean": "half"}, "finite"),
        (lambda x: x, {"mean": [0.1, None]}, "finite"),
        (lambda x: x, {"mean": np.zeros((3, 3))}, "one per channel"),
    ],
    ids=range(23),
)
def test_mistakes_are_explained(model, how, said):
    with pytest.raises(ValueError, match=said) as error:
        wrap_model(model, **how)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "how", "said"),
    [
        (lambda x: x, {"mean": [0.1, 0.2, 0.3]}, "mean has 3 numbers for inputs of 2 channels"),
        (lambda x: 3 * x, {"outputs": "probabilities"}, r"outside \[0, 1\]"),
        (lambda x: -x, {"outputs": "probabilities"}, r"outside \[0, 1\]"),
        (lambda x: x, {"classes": 3}, "classes = 3 is not allowed"),
        (lambda x: x, {"size": 4}, r"for images, not for inputs of \(2,\)"),
        (lambda x: "cat", {}, "returned a str"),
        (lambda x: None, {}, "returned a NoneType"),
        (lambda x: {"a": x, "b": x}, {}, "returned a dict of a, b: it must"),
        (lambda x: (), {}, "returned a tuple"),
    ],
    ids=range(9),
)
def test_mistakes_that_show_in_use_are_explained(model, how, said):
    with pytest.raises(ValueError, match=said):
        wrap_model(model, **how)(torch.ones(2, 2))
