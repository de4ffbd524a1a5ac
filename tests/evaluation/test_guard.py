import pytest
import torch
from torch import nn

from sparring.attacks import PGD
from sparring.evaluation import Guard
from sparring.introspect import freeze
from sparring.threats import Linf


def test_passes_are_counted_by_sample():
    guard = Guard(nn.Linear(4, 3))
    x = torch.rand(5, 4, requires_grad=True)
    guard(x)
    with torch.no_grad():
        guard(x[:2])
    assert (guard.forwards, guard.backwards) == (7, 0)
    logits = guard(x)
    torch.autograd.grad(logits[:, 0].sum(), x, retain_graph=True)
    torch.autograd.grad(logits[:, 1].sum(), x)
    assert (guard.forwards, guard.backwards, guard.classes) == (12, 10, 3)
    guard.reset()
    assert (guard.forwards, guard.backwards, guard.outside) == (0, 0, 0)


@pytest.mark.parametrize("steps", [1, 4])
def test_the_passes_of_pgd(steps):
    """Nothing breaks, so each sample goes steps + 1 times forward and steps times backward."""
    guard = Guard(lambda x: torch.stack([x.sum(1) + 99, -x.sum(1)], 1))
    PGD(Linf(0.1), steps=steps)(guard, torch.rand(6, 3), torch.zeros(6, dtype=torch.long))
    assert (guard.forwards, guard.backwards) == (6 * (steps + 1), 6 * steps)


def test_the_modes_inside_stay():
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout())
    model.eval()
    model[1].train()
    guard = Guard(model)
    assert [m.training for m in (guard, model, *model)] == [False, False, False, True]
    with freeze.frozen(guard, "eval"):
        assert not model[1].training
    assert model[1].training


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            torch.full((2, 4), 1.5),
            r"reaches from 1.5 to 1.5, its bounds are \[0, 1\].*put normalisation into the model",
        ),
        (torch.full((2, 4), -0.1), "put normalisation into the model"),
        (torch.full((2, 4), torch.nan), "NaN"),
        (torch.full((2, 4), torch.inf), "reaches from inf"),
        (torch.zeros(2, 5), r"shape \(5,\), the data have \(4,\)"),
        (torch.zeros(2, 4, dtype=torch.long), "int64"),
    ],
)
def test_inputs_no_model_can_answer(x, message):
    with pytest.raises(ValueError, match=message):
        Guard(nn.Linear(4, 3), shape=(4,))(x)


def test_bounds_forgive_rounding_and_may_be_others():
    Guard(nn.Linear(1, 2))(torch.tensor([[1.0000001], [-0.0000001]]))
    Guard(nn.Linear(1, 2), low=-1, high=2)(torch.tensor([[2.0], [-1.0]]))


def test_a_lenient_guard_only_counts():
    guard = Guard(nn.Linear(2, 2), strict=False)
    guard(torch.tensor([[0.0, 2.0], [0.5, 0.5], [torch.nan, 0.5]]))
    assert (guard.outside, guard.forwards) == (2, 3)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: x.sum(1), r"shape \(3,\)"),
        (lambda x: x[:, :1], r"shape \(3, 1\)"),
        (lambda x: x[:2], r"shape \(2, 4\) for 3 samples"),
        (lambda x: x.argmax(1, keepdim=True).expand(3, 2), "int64"),
        (lambda x: {"logits": x}, "returned a dict"),
    ],
)
def test_outputs_that_are_no_logits(model, message):
    with pytest.raises(ValueError, match=message):
        Guard(model)(torch.rand(3, 4))


def test_the_number_of_classes_must_not_change():
    guard = Guard(lambda x: x[:, : 2 + int(x[0, 0] > 0.5)])
    guard(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="3 classes, and 2 before"):
        guard(torch.ones(1, 4))


def test_an_empty_batch_passes():
    assert Guard(nn.Linear(4, 3))(torch.rand(0, 4)).shape == (0, 3)


def test_a_model_that_writes_to_its_input_leaves_the_callers_alone():
    guard = Guard(nn.Sequential(nn.Hardtanh(0.2, 0.8, inplace=True), nn.Linear(4, 3)))
    x = torch.rand(5, 4)
    kept = x.clone()
    logits = guard(x)
    assert torch.equal(guard(x), logits)
    assert torch.equal(x, kept)
    assert guard.forwards == 10


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_dtype_is_counted_once(dtype):
    guard = Guard(nn.Linear(4, 3).to(dtype))
    assert guard(torch.rand(5, 4)).dtype == dtype
    assert guard.forwards == 5


def test_a_model_does_not_answer_local_queries_itself():
    """Its own method could say otherwise than its forward, which the judge runs."""

    class Own(nn.Sequential):
        def local_forward(self, x, dtype):
            raise AssertionError("asked")

    x = torch.rand(2, 1, 8, 8)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    assert Guard(net).local_forward(x, torch.float32) is not None
    assert Guard(Own(*net).eval()).local_forward(x, torch.float32) is None
