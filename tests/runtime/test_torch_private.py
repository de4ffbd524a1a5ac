"""Private names of torch: what the package does in a torch that no longer has them."""

import runpy

import torch
from torch import nn

from sparring.functional.batch_norm import double_backward
from sparring.runtime import torch_private


def second_derivative() -> tuple[str, torch.Tensor]:
    """The name of batch norm's backward pass inside `double_backward`, and ∂‖∂(y²)/∂x‖²/∂x."""
    torch.manual_seed(0)
    norm, x = nn.BatchNorm1d(3).double(), torch.rand(5, 3, dtype=torch.float64).requires_grad_()
    with double_backward():
        y = norm(x)
    (g,) = torch.autograd.grad(y.square().sum() + y.pow(3).sum(), x, create_graph=True)
    return y.grad_fn.name(), torch.autograd.grad(g.square().sum(), x)[0]


def test_without_the_check_of_batched_tensors_plain_autograd_takes_over(monkeypatch):
    fast, expected = second_derivative()
    monkeypatch.delattr(torch._C._functorch, "is_legacy_batchedtensor")
    assert torch_private.batched_tensor_check() is None
    plain, result = second_derivative()
    assert (fast, plain) == ("_NormBackward", "NativeBatchNormBackward0")
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-10)


def test_without_their_base_class_the_public_batch_norms_are_listed(monkeypatch):
    assert isinstance(nn.BatchNorm2d(2), torch_private.BATCH_NORM)
    assert not isinstance(nn.InstanceNorm2d(2), torch_private.BATCH_NORM)
    monkeypatch.delattr(nn.modules.batchnorm, "_BatchNorm")
    listed = runpy.run_path(torch_private.__file__)["BATCH_NORM"]
    assert all(isinstance(layer(2), listed) for layer in (nn.BatchNorm1d, nn.SyncBatchNorm))


def test_without_the_joint_update_tensors_move_one_by_one(monkeypatch):
    ends = [torch.rand(3), torch.rand(2, 2)]
    results = []
    for _ in range(2):
        targets = [torch.full((3,), 0.3), torch.ones(2, 2)]
        torch_private.lerp_all(targets, ends, 0.1)
        results.append(targets)
        monkeypatch.delattr(torch, "_foreach_lerp_", raising=False)
    assert all(map(torch.equal, *results))
