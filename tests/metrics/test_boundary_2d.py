"""The boundary in the plane against a line, a circle and three sectors."""

import math

import pytest
import torch
from torch import nn

from sparring.metrics import boundary_2d


class Line(nn.Module):
    """Class 1 where w·x > c."""

    w = torch.tensor([0.6, 0.8])

    def forward(self, x):
        s = x @ self.w - 0.7
        return torch.stack([0 * s, 30 * s], 1)


class Circle(nn.Module):
    """Class 1 outside a circle of radius 0.3 around the middle."""

    def forward(self, x):
        s = (x - 0.5).square().sum(1) - 0.09
        return torch.stack([0 * s, s], 1)


class Sectors(nn.Module):
    """Three classes that meet in the middle."""

    def forward(self, x):
        angle = torch.tensor([0.5, 0.5 + 2 * math.pi / 3, 0.5 + 4 * math.pi / 3])
        return (x - 0.5) @ torch.stack([angle.cos(), angle.sin()])


def test_the_distance_to_a_line_is_exact():
    x = boundary_2d.lattice(0.2, 0.8, 9)
    found = boundary_2d.distance(x, boundary_2d.boundary(Line(), m=40))
    inside = (x @ Line.w - 0.7).abs()
    foot = x - (x @ Line.w - 0.7)[:, None] * Line.w
    kept = ((foot > 0) & (foot < 1)).all(1)  # the foot of the perpendicular is in the box
    assert kept.sum() > 40
    assert torch.allclose(found[kept], inside[kept], atol=2e-6)


@pytest.mark.parametrize("m", [50, 100, 200])
def test_the_distance_to_a_circle_is_right_to_second_order(m):
    x = boundary_2d.lattice(0.05, 0.95, 19)
    found = boundary_2d.distance(x, boundary_2d.boundary(Circle(), m=m))
    exact = ((x - 0.5).norm(dim=1) - 0.3).abs()
    cell = 1 / (m - 1)
    assert (found - exact).abs().max() <= (math.sqrt(2) * cell) ** 2 / (8 * 0.3) + 1e-6
    assert (found - exact).abs().max() > 0


def test_the_boundary_is_where_the_class_changes():
    ends = boundary_2d.boundary(Circle(), m=60).reshape(-1, 2)
    assert torch.allclose((ends - 0.5).norm(dim=1), torch.tensor(0.3), atol=1e-6)
    length = boundary_2d.boundary(Circle(), m=200).diff(dim=1).norm(dim=2).sum().item()
    assert length == pytest.approx(2 * math.pi * 0.3, rel=1e-3)


def test_three_classes_meet_in_one_place():
    segments = boundary_2d.boundary(Sectors(), m=80)
    middle = torch.tensor([[0.5, 0.5]])
    assert boundary_2d.distance(middle, segments).item() < 1 / 79
    x = boundary_2d.lattice(0.3, 0.7, 9)
    top = Sectors()(x).topk(2, 1).values
    exact = (top[:, 0] - top[:, 1]) / math.sqrt(3)  # the planes' normals have length √3
    assert (boundary_2d.distance(x, segments) - exact).abs().max() < 1 / 79


def test_no_boundary_is_infinitely_far():
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.bias.copy_(torch.tensor([100.0, 0.0]))
    segments = boundary_2d.boundary(model, m=20)
    assert segments.shape == (0, 2, 2)
    assert boundary_2d.distance(torch.zeros(3, 2), segments).eq(torch.inf).all()


def test_the_slope_of_the_softmax():
    """For logits (0, s): ∂p/∂x = ±p(1 − p)·30·w, twice."""
    x = boundary_2d.lattice(0, 1, 5)
    with torch.no_grad():
        p = Line()(x).softmax(1)[:, 1]
    exact = math.sqrt(2) * p * (1 - p) * 30
    assert torch.allclose(boundary_2d.slope(Line(), x), exact, atol=1e-5)
    with pytest.raises(ValueError, match="needs gradients"):
        boundary_2d.slope(lambda z: Line()(z).detach(), x)


def test_a_field_holds_it_all():
    field = boundary_2d.field_of("circle", Circle(), torch.rand(7, 2), torch.zeros(7).long(), m=30)
    assert field.prediction.shape == field.slope.shape == field.distance.shape == (30, 30)
    assert field.prediction[15, 15] == 0
    assert field.prediction[0, 0] == 1
    assert field.distance[15, 15] == pytest.approx(0.3, abs=0.03)
    assert field.generated.shape == (0, 2)
