"""Near misses of a search in lower precision are searched again in float32."""

import pytest
import torch

from sparring.evaluation import Suite, evaluate
from sparring.evaluation.judge import finite_margin


class Coarse:
    """In bf16 it goes the share `near` of the way to a point that breaks, in float32 all of it."""

    def __init__(self, near: float) -> None:
        self.near, self.precision, self.seen = near, "float32", []

    def __call__(self, model, x, y):
        self.seen.append((self.precision, len(x)))
        return x + (1.0 if self.precision == "float32" else self.near) * 0.5


@pytest.mark.parametrize(("near", "runs"), [(0.99, 2), (0.5, 1)])
def test_what_low_precision_nearly_broke_is_searched_again(near, runs):
    x, y = torch.full((3, 1), 0.2), torch.tensor([0, 0, 0])
    seen = []

    def model(x):
        return torch.cat([0.695 - x, x - 0.695], 1)

    def make(_):
        attack = Coarse(near)
        seen.append(attack.seen)
        return attack

    result = evaluate(
        model, (x, y), "Linf", Suite("own", 1, (("A", make),)), eps=0.6, precision="bfloat16"
    )
    calls = [call for attack in seen for call in attack]
    assert [precision for precision, _ in calls] == ["bfloat16", "float32"][:runs]
    assert result.robust.accuracy == (0.0 if runs == 2 else 1.0)


def test_the_margin_is_positive_where_the_model_is_wrong():
    z = torch.tensor([[1.0, 3.0, 0.5], [2.0, 1.0, 2.5], [torch.nan, 0.0, 1.0]])
    assert finite_margin(z, torch.tensor([1, 0, 1]))[:2].tolist() == [-2.0, 0.5]
    assert finite_margin(z, torch.tensor([1, 0, 1]))[2].isnan()
