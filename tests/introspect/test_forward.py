"""Running a model without harm to its caller's tensors, and the checks around it."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from sparring.introspect import freeze
from sparring.introspect.forward import (
    SafeForward,
    attack_inputs,
    check_labels,
    check_outputs,
    is_approximate,
    label_numbers,
)
from tests.oracles import Net


class TestSafeForward:
    def test_a_model_that_writes_nothing_gets_the_tensor_itself_from_its_second_call_on(self):
        seen = []
        run = SafeForward(lambda x: seen.append(x) or x * 2)
        x = torch.rand(2, 3)
        for _ in range(3):
            assert torch.equal(run(x), x * 2)
        assert seen[0] is not x
        assert [z is x for z in seen[1:]] == [True, True]

    @pytest.mark.parametrize(
        "write",
        [
            lambda x: x.mul_(2),
            lambda x: x[:, :1].zero_(),
            lambda x: x.data.add_(1),
            lambda x: torch.from_numpy(x.detach().numpy()).add_(1),
            lambda x: nn.functional.relu(x, inplace=True),
        ],
    )
    def test_a_model_that_writes_never_gets_it(self, write):
        x = torch.rand(2, 3) - 0.5
        kept = x.clone()
        run = SafeForward(lambda x: (write(x), x.sum(1))[1])
        first = run(x)
        assert torch.equal(run(x), first)
        assert torch.equal(x, kept)

    def test_gradients_come_through_to_a_leaf(self):
        run, x = SafeForward(nn.ReLU(inplace=True)), torch.tensor([-1.0, 2.0], requires_grad=True)
        for _ in range(2):
            assert torch.autograd.grad(run(x).sum(), x)[0].tolist() == [0.0, 1.0]

    def test_a_model_that_writes_later_only_is_refused(self):
        calls = []

        def model(x):
            calls.append(x)
            return x.mul_(2) if len(calls) > 1 else x * 2

        run, x = SafeForward(model), torch.rand(2, 3)
        run(x)
        with pytest.raises(ValueError, match=r"writes to its input.* x = x\.clone\(\)"):
            run(x)

    def test_an_empty_batch_shows_nothing(self):
        run = SafeForward(lambda x: x.mul_(2))
        run(torch.rand(0, 3))
        x = torch.rand(2, 3)
        kept = x.clone()
        run(x)
        assert torch.equal(x, kept)

    @pytest.mark.parametrize("outer", [torch.float32, torch.float64])
    @pytest.mark.parametrize(
        ("inner", "function"),
        # nobody knows the weights of a function: float32 and float64 are tried
        [(torch.bfloat16, False), *itertools.product((torch.float32, torch.float64), (0, 1))],
    )
    def test_a_model_gets_the_dtype_it_takes(self, outer, inner, function):
        model, x = Net().to(inner), torch.rand(3, 6, dtype=outer)
        run = SafeForward((lambda z: model(z)) if function else model)
        for _ in range(2):
            assert torch.equal(run(x), model(x.to(inner)))

    def test_other_errors_are_the_models_own(self):
        run = SafeForward(Net())
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            run(torch.rand(2, 5))


class TestFrozen:
    def test_it_yields_the_model_safe_to_run(self):
        with freeze.frozen(nn.ReLU(inplace=True)) as run:
            x = torch.tensor([-1.0])
            assert run(x).item() == 0
            assert x.item() == -1

    @pytest.mark.parametrize("mode", ["train", "keep"])
    def test_buffers_written_or_replaced_are_as_before(self, mode):
        class Counter(nn.Module):
            written: torch.Tensor
            replaced: torch.Tensor

            def __init__(self):
                super().__init__()
                self.register_buffer("written", torch.zeros(2))
                self.register_buffer("replaced", torch.zeros(2))

            def forward(self, x):
                self.written += 1
                self.replaced = self.replaced + 1
                return x

        model = nn.Sequential(Counter())
        buffers = list(model.buffers())
        with freeze.frozen(model, mode):
            model(torch.zeros(1, 2))
        assert all(a is b for a, b in zip(model.buffers(), buffers, strict=True))
        assert not any(b.any() for b in buffers)

    def test_a_buffer_nobody_wrote_to_stays_fit_for_a_graph_made_before(self):
        norm = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)).train()
        before = norm(torch.rand(4, 3)).sum()
        with freeze.frozen(norm, "eval"):
            norm(torch.rand(4, 3))
        before.backward()

    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    @pytest.mark.parametrize("scripted", [False, True])
    @pytest.mark.parametrize(
        "norm", [nn.BatchNorm1d(4), nn.InstanceNorm1d(4, track_running_stats=True)]
    )
    def test_running_statistics_whose_kernels_count_no_writes(self, norm, scripted):
        model = nn.Sequential(nn.Linear(3, 6), norm).train()
        model = torch.jit.script(model) if scripted else model
        state = {k: v.clone() for k, v in model.state_dict().items()}
        with freeze.frozen(model, "train"):
            model(torch.rand(5, 4, 3))
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
        assert model.training


class TestInputs:
    @pytest.mark.parametrize("x", [[[0.1, 0.2]], torch.rand(1, 2).numpy(), None])
    def test_no_tensor(self, x):
        with pytest.raises(ValueError, match=r"x is a \w+: it must be a tensor, as torch\.as_tens"):
            attack_inputs(x, torch.tensor([0]), low=0.0, high=1.0)

    def test_a_number(self):
        with pytest.raises(ValueError, match="x has no rows"):
            attack_inputs(torch.tensor(0.5), torch.tensor([0]), low=0.0, high=1.0)

    @pytest.mark.parametrize(
        ("value", "low", "high"),
        [(1000.7, 0, 1000.7), (-1000.7, -1000.7, 2), (3e9, -torch.inf, torch.inf), (5.0, 0, 5)],
    )
    def test_the_float32_of_a_bound_is_inside(self, value, low, high):
        x, y = torch.full((1, 2), value), torch.tensor([0])
        assert torch.equal(attack_inputs(x, y, low=low, high=high)[0], x)

    @pytest.mark.parametrize("beyond", [0.01, -0.01, torch.nan, torch.inf])
    def test_what_no_rounding_explains_is_outside(self, beyond):
        edge = 1000.7 if beyond > 0 else -1000.7
        x = torch.full((1, 2), edge + beyond)
        with pytest.raises(ValueError, match="x reaches from"):
            attack_inputs(x, torch.tensor([0]), low=-1000.7, high=1000.7)
        with pytest.raises(ValueError, match="x reaches from"):
            attack_inputs(torch.full((1, 2), 1.00001), torch.tensor([0]), low=0.0, high=1.0)


def test_a_wrapper_is_as_approximate_as_what_it_wraps():
    class Folded(nn.Identity):
        approximates = True

    assert is_approximate(nn.Sequential(nn.Sequential(Folded())))
    assert not is_approximate(nn.Sequential(nn.Identity()))
    assert not is_approximate(lambda x: x)


class TestLabels:
    @pytest.mark.parametrize("y", [[0, 1], None, torch.rand(2).numpy()])
    def test_no_tensor(self, y):
        with pytest.raises(ValueError, match=r"y is a \w+: labels must be a tensor"):
            label_numbers(y)

    def test_one_hot(self):
        with pytest.raises(ValueError, match=r"labels must be integers .*y\.argmax\(1\)"):
            label_numbers(torch.eye(3))

    def test_unlabelled_rows_where_they_are_allowed(self):
        check_labels(torch.tensor([-1, 2]), 3, least=-1)
        with pytest.raises(ValueError, match="labels from -1 to 2"):
            check_labels(torch.tensor([-1, 2]), 3)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ((torch.zeros(2, 3),), "returned a tuple: it must return logits"),
        (torch.zeros(2), r"shape \(2,\) for 2 samples: it must return logits"),
        (torch.zeros(2, 1), "at least two classes"),
        (torch.zeros(2, 3, dtype=torch.long), "int64"),
    ],
)
def test_outputs(output, message):
    with pytest.raises(ValueError, match=message):
        check_outputs(output, 2)
