"""Holding a model still and running it another way: afterwards everything is as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sparring.introspect import freeze
from tests.oracles import Net, NormedNet


def mixed() -> NormedNet:
    """A model whose modules do not all stand in the same mode, with a frozen weight."""
    model = NormedNet()
    model[1].eval()
    model[5].weight.requires_grad_(False)
    return model


def modes_and_flags(model: nn.Module) -> tuple[list[bool], list[bool]]:
    return [m.training for m in model.modules()], [w.requires_grad for w in model.parameters()]


class TestHold:
    @pytest.mark.parametrize(
        ("mode", "expected"), [("eval", {False}), ("train", {True}), ("keep", {True, False})]
    )
    def test_inside_modes_and_weights_are_as_asked_and_afterwards_as_before(self, mode, expected):
        model = mixed()
        before = modes_and_flags(model)
        with freeze.frozen(model, mode):
            assert {m.training for m in model.modules()} == expected
            assert not any(w.requires_grad for w in model.parameters())
        assert modes_and_flags(model) == before

    def test_an_error_inside_restores_too(self):
        model = mixed()
        before, momentum = modes_and_flags(model), model[1].momentum
        with pytest.raises(RuntimeError, match="stop"), freeze.frozen(model, "train"):
            raise RuntimeError("stop")
        assert modes_and_flags(model) == before
        assert model[1].momentum == momentum

    def test_holds_may_be_nested(self):
        model = mixed()
        before = modes_and_flags(model)
        with freeze.frozen(model, "eval"):
            with freeze.frozen(model, "train"):
                assert all(m.training for m in model.modules())
            assert not any(m.training for m in model.modules())
        assert modes_and_flags(model) == before

    def test_a_plain_function_is_left_alone(self):
        with freeze.frozen(torch.sin, "eval"):
            pass

    def test_an_unknown_mode(self):
        with (
            pytest.raises(
                ValueError,
                match="mode = 'test' is not allowed: mode must be one of eval, train, keep",
            ),
            freeze.frozen(Net(), "test"),
        ):
            pass

    def test_train_mode_uses_batch_statistics(self):
        model, x = NormedNet(), torch.rand(6, 1, 4, 4) * 3
        model[3].p = 0.0
        state = copy.deepcopy(model.state_dict())
        expected = copy.deepcopy(model)(x)
        with freeze.frozen(model, "train"):
            result = model(x)
        assert torch.equal(result, expected)
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


class TestFrozenBatchNorm:
    @pytest.mark.parametrize("momentum", [0.1, 0.01, None])
    def test_statistics_counter_and_momentum_stay(self, momentum):
        model = NormedNet()
        model[1].momentum = momentum
        state, counter = copy.deepcopy(model.state_dict()), model[1].num_batches_tracked
        with freeze.frozen_bn(model):
            for _ in range(3):
                model(torch.rand(6, 1, 4, 4))
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
        assert model[1].num_batches_tracked is counter
        assert model[1].momentum == momentum

    def test_outside_they_move_again(self):
        model = NormedNet()
        with freeze.frozen_bn(model):
            model(torch.rand(6, 1, 4, 4))
        before = model[1].running_mean.clone()
        model(torch.rand(6, 1, 4, 4))
        assert not torch.equal(model[1].running_mean, before)
        assert model[1].num_batches_tracked == 1

    @pytest.mark.parametrize("momentum", [0.1, None])
    @pytest.mark.parametrize("bad", [torch.inf, torch.nan])
    def test_a_batch_that_is_not_finite_leaves_them_alone(self, momentum, bad):
        model = NormedNet()
        model[1].momentum = momentum
        state = copy.deepcopy(model.state_dict())
        with freeze.frozen(model, "train"):
            model(torch.full((6, 1, 4, 4), bad))
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
        assert model[1].track_running_stats

    def test_eval_mode_has_the_running_statistics_and_train_mode_the_batchs(self):
        model, x = NormedNet(), torch.rand(6, 1, 4, 4) * 3
        model(x + 1)  # some statistics
        model[3].p = 0.0
        for training in (True, False):
            model.train(training)
            expected = copy.deepcopy(model)(x)
            with freeze.frozen_bn(model):
                assert torch.equal(model(x), expected)

    def test_a_forward_of_one_s_own_keeps_its_statistics_in_eval_mode(self):
        class Older(nn.BatchNorm1d):
            """As torch 1 wrote it, and many copies of it do."""

            def forward(self, input):
                batchs = self.training or not self.track_running_stats
                mean, var = self.running_mean, self.running_var
                return nn.functional.batch_norm(input, mean, var, training=batchs)

        model, x = nn.Sequential(Older(3)).eval(), torch.rand(4, 3)
        expected = model(x)
        with freeze.frozen(model, "train"), freeze.frozen(model, "eval"):
            assert torch.equal(model(x), expected)

    def test_a_batch_norm_without_statistics(self):
        model = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))
        with freeze.frozen_bn(model):
            assert model(torch.rand(4, 3)).isfinite().all()
        assert not model[0].track_running_stats


class TestChannelsLast:
    def test_layout_inside_and_the_very_same_tensors_after(self):
        model = NormedNet()
        tensors = [w.data for w in model.parameters()]
        with freeze.channels_last(model):
            assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(model[0].weight, tensors[0])
        assert all(
            w.data.data_ptr() == t.data_ptr()
            for w, t in zip(model.parameters(), tensors, strict=True)
        )
        assert model[0].weight.is_contiguous()

    def test_off_and_functions(self):
        model = NormedNet()
        with freeze.channels_last(model, False):
            assert model[0].weight.is_contiguous()
        with freeze.channels_last(torch.sin):
            pass


class TestView:
    def test_plain(self):
        model, x = Net(), torch.rand(3, 6)
        assert torch.equal(freeze.ModelView(model)(x), model(x))
        assert freeze.ModelView(model).model is model

    def test_it_shares_weights_and_modes(self):
        model = NormedNet()
        view = freeze.ModelView(model)
        assert [id(w) for w in view.parameters()] == [id(w) for w in model.parameters()]
        view.eval()
        assert not model[3].training

    @pytest.mark.parametrize("amp", ["bfloat16", "float16"])
    def test_logits_are_float32_and_near(self, amp):
        model, x = Net(), torch.rand(3, 6)
        result = freeze.ModelView(model, amp=amp)(x)
        assert result.dtype == torch.float32
        assert torch.allclose(result, model(x), atol=0.02)
        assert not torch.equal(result, model(x))

    def test_gradients_come_through_bfloat16(self):
        model, x = Net(), torch.rand(3, 6, requires_grad=True)
        (low,) = torch.autograd.grad(freeze.ModelView(model, amp="bfloat16")(x).sum(), x)
        (exact,) = torch.autograd.grad(model(x).sum(), x)
        assert low.dtype == torch.float32
        assert torch.allclose(low, exact, atol=0.05)

    def test_channels_last_hands_images_over_in_that_layout(self):
        model, seen = NormedNet().eval(), []
        model.register_forward_pre_hook(
            lambda _, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
        )
        x = torch.rand(2, 1, 4, 4).expand(2, 1, 4, 4)
        assert torch.allclose(freeze.ModelView(model, channels_last=True)(x), model(x), atol=1e-6)
        assert seen[0]
        flat = torch.rand(3, 6)
        assert torch.equal(freeze.ModelView(Net(), channels_last=True)(flat), Net()(flat))

    @pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch itself
    def test_a_compiled_view_keeps_the_names_of_the_weights(self):
        model = Net()
        names = ["model." + name for name in model.state_dict()]
        assert list(freeze.ModelView(model, compile=True).state_dict()) == names

    def test_an_unknown_precision(self):
        with pytest.raises(
            ValueError,
            match="amp = 'int8' is not allowed: amp must be one of float32, bfloat16, float16",
        ):
            freeze.ModelView(Net(), amp="int8")
