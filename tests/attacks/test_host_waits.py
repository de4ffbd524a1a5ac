"""How often an attack makes the host wait for a GPU, counted on a CPU; and the GPU's branches give
what the CPU's give."""

import math

import pytest
import torch
from torch import Tensor, nn

from sparring import attacks, threats
from sparring.attacks import FAB, rows
from sparring.attacks.base import Search
from sparring.functional import geometry
from tests.host_waits import HostWaits, believed_gpu, waits_per_step


@pytest.fixture(scope="module")
def problem() -> tuple[nn.Module, Tensor, Tensor]:
    """A small net, and images with the labels that it gives them."""
    torch.manual_seed(0)
    pool = nn.AvgPool2d(4)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), pool, nn.Flatten())
    net.append(nn.Linear(16, 10)).eval()
    x = torch.rand(8, 1, 8, 8)
    return net, x, net(x).argmax(1)


@pytest.fixture(scope="module")
def bits_problem() -> tuple[nn.Module, Tensor, Tensor]:
    """A small net on binary features, and rows with the labels that it gives them."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    x = (torch.rand(8, 20) < 0.3).float()
    return net, x, net(x).argmax(1)


def balls(eps: float) -> dict[str, threats.Threat]:
    return {"Linf": threats.Linf(eps), "L2": threats.L2(8 * eps), "L1": threats.L1(64 * eps)}


SEARCHES = {
    "PGD": lambda ball, n, **k: attacks.PGD(ball, steps=n, **k),
    "APGD": lambda ball, n, **k: attacks.APGD(ball, steps=n, **k),
    "APGDT": lambda ball, n, **k: attacks.APGDT(ball, steps=n, targets=1, **k),
    "FAB": lambda ball, n, **k: FAB(ball, steps=n, targets=1, **k),
    "Square": lambda ball, n, **k: attacks.Square(ball, queries=n, plan=10_000, **k),
    "MIFGSM": lambda ball, n, **k: attacks.MIFGSM(ball, steps=n, **k),
}
SINGLE = {
    "CW L2": lambda eps, n: attacks.CW(threats.L2(8 * eps), steps=n, search_steps=1, abort=False),
    "CW Linf": lambda eps, n: attacks.CW(threats.Linf(eps), steps=n, search_steps=1, abort=False),
    "EAD": lambda eps, n: attacks.EAD(threats.L1(64 * eps), steps=n, search_steps=1, abort=False),
    "SPSA": lambda eps, n: attacks.SPSA(threats.Linf(eps), steps=n, samples=4),
    "SparseRS": lambda eps, n: attacks.SparseRS(threats.L0(1), queries=n),
}


class TestPerStep:
    @pytest.mark.parametrize(
        ("norm", "precision"),
        [("Linf", "float32"), ("Linf", "bfloat16"), ("L2", "float32"), ("L1", "float32")],
    )
    @pytest.mark.parametrize("name", list(SEARCHES))
    def test_a_search_waits_once_in_ten_steps(self, problem, name, norm, precision):
        def run(n: int) -> None:
            attack: Search = SEARCHES[name](balls(1e-4)[norm], n, precision=precision)
            attack(*problem)

        assert waits_per_step(run, 10, 20) <= 0.1

    @pytest.mark.parametrize("name", list(SINGLE))
    def test_so_do_the_others(self, problem, name):
        run = lambda n: SINGLE[name](1e-4, n)(*problem)  # noqa: E731
        assert waits_per_step(run, 20, 40) <= 0.1

    def test_to_abort_asks_five_times_a_round(self, problem):
        attack = attacks.CW(threats.Linf(1e-4), steps=100, search_steps=1)
        with believed_gpu(), HostWaits() as waits:
            attack(*problem)
        asked = {place.split()[1].split(":")[0]: n for place, n in waits.places.items()}
        assert asked["minimal_norm.py"] <= 5
        assert asked["rows.py"] <= 5 + 3  # and at x, and at both ends of the round

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_where_rows_break_on_the_way(self, precision):
        """Row i breaks at about step 2i: each tenth step removes rows."""
        linear = nn.Linear(4, 2)
        model = nn.Sequential(nn.Flatten(), linear)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor([[1.0] * 4, [0.0] * 4]))
            linear.bias.copy_(torch.tensor([0.0, 1.0]))
        x = (0.26 + 0.02 * torch.arange(20.0)).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)
        y = torch.zeros(20, dtype=torch.long)
        threat, left = threats.Linf(1.0), []

        def run(n: int) -> None:
            attack = attacks.PGD(
                threat, steps=n, size=0.01, random_start=False, precision=precision
            )
            left.append(int((model(attack(model, x, y)).argmax(1) == y).sum()))

        waits = waits_per_step(run, 10, 40)
        assert left == [15, 0]
        assert waits <= 0.1

    def test_a_step_of_deepfool_waits_once(self, problem):
        """It has a pass per class: one wait in ten passes."""
        model, x, y = problem
        with believed_gpu(), HostWaits() as waits:
            attacks.DeepFool(threats.Linf(0.1), steps=5).distances(model, x, y)
        asked = sum(n for place, n in waits.places.items() if "rows.py" in place)
        assert asked <= 5 + 2  # also at the last point, and for the whole search


class TestTrainingsAttack:
    @pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
    @pytest.mark.parametrize("best", [False, True])
    def test_pgd_never_waits(self, problem, norm, best):
        attack = attacks.PGD(balls(0.1)[norm], steps=5, best=best)
        assert self.waits(attack, problem) == 0

    @pytest.mark.parametrize(
        "attack",
        [
            attacks.FGSM(threats.Linf(0.1)),
            attacks.FGSM_RS(threats.Linf(0.1)),
            attacks.Free(threats.Linf(0.1)),
            attacks.PGD(threats.L0(3), steps=5, size=1.0),
            attacks.PGD(threats.Transport(1.0), steps=5, size=0.1),
            attacks.PGD(threats.SoftLinf(0.1), steps=5),
            attacks.PGD(threats.Box(), steps=5, size=0.1),
        ],
        ids=lambda attack: type(attack.threat).__name__,
    )
    def test_nor_do_others(self, problem, attack):
        assert self.waits(attack, problem) == 0

    @pytest.mark.parametrize("eps", [3, math.inf])
    @pytest.mark.parametrize("name", ["BGA", "BCA", "Grosse", "DFGSM", "RFGSM", "BitSearch"])
    def test_searches_over_bits_wait_for_the_check_of_their_inputs_alone(
        self, bits_problem, name, eps
    ):
        """An input that is no bit is refused by name, which takes one wait for each batch."""
        attack = getattr(attacks, name)(threats.Bits(eps), steps=3)
        assert self.waits(attack, bits_problem) == 1

    @pytest.mark.parametrize("eps", [1, 3, 5])
    def test_bits_are_projected_alike_on_a_gpu(self, eps):
        draw = torch.Generator().manual_seed(0)
        x = (torch.rand(9, 20, generator=draw) < 0.3).double()
        z = x + torch.randn(x.shape, generator=draw, dtype=x.dtype)
        threat, batch = threats.Bits(eps), attacks.base.Batch(x, torch.zeros(9, dtype=torch.long))
        here = threat.project(z, batch)
        assert (threat.distance(z.clamp(0, 1), x) > eps).any()
        with believed_gpu():
            there = threat.project(z, batch)
        torch.testing.assert_close(there, here)

    def waits(self, attack: attacks.Maximizer, problem: tuple[nn.Module, Tensor, Tensor]) -> int:
        """The waits of one attack of a training, in its second batch."""
        from sparring.introspect.freeze import ModelView
        from sparring.methods import AT
        from sparring.objective import Objective
        from sparring.risks import Mean

        model, x, y = problem
        view, objective = ModelView(model), Objective(attack, AT(), Mean())
        batch = attacks.base.Batch(x, y)
        with believed_gpu():
            objective.maximize(view, batch)
            with HostWaits() as waits:
                objective.maximize(view, batch)
        return waits.total


class TestCounter:
    """The counter itself: what waits and what does not."""

    @pytest.mark.parametrize(
        ("waits", "call"),
        [
            (1, lambda x: x.sum().item()),
            (1, lambda x: bool((x > 0).any())),
            (1, lambda x: x[x > 0.5]),
            (1, lambda x: (x > 0).nonzero()),
            (1, lambda x: x.cpu()),
            (1, lambda x: torch.as_tensor(0.5, device=x.device)),
            (1, lambda x: x.new_tensor([1.0])),
            (1, lambda x: torch.arange(3).to(x.device)),
            (1, lambda x: x[torch.tensor([0, 1])]),
            (0, lambda x: int(torch.arange(3).max())),
            (0, lambda x: x.new_full((), 0.5)),
            (0, lambda x: torch.where(x > 0.5, x, 0.0)),
            (0, lambda x: x.clone().masked_fill_(x > 0.5, 0.0)),
            (0, lambda x: nn.functional.one_hot((x[:, 0] > 0.5).long(), 3)),
            (0, lambda x: x[torch.arange(2, device=x.device)]),
            (0, lambda x: 2 * x + torch.tensor(0.5)),
        ],
    )
    def test_counts(self, waits, call):
        with believed_gpu(), HostWaits() as counted:
            call(torch.rand(3, 2, device="cpu"))
        assert counted.total == waits


class TestSameResults:
    """A believed GPU gives what the CPU gives: the branches differ in when they ask."""

    @pytest.mark.parametrize("name", ["PGD", "APGD", "MIFGSM"])
    def test_verdicts_of_searches(self, problem, name):
        attack = SEARCHES[name](threats.Linf(0.05), 12)
        model, x, y = problem
        here = model(attack(model, x, y)).argmax(1) != y
        with believed_gpu():
            x_adv = SEARCHES[name](threats.Linf(0.05), 12)(model, x, y)
        assert torch.equal(model(x_adv).argmax(1) != y, here)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    @pytest.mark.parametrize("norm", ["Linf", "L2"])
    def test_distances_of_fab(self, problem, norm, precision):
        """On a GPU too the points are wrong in float32, and as near: asked later, kept alike."""
        model, x, y = problem
        y = torch.cat([y[:6], (y[6:] + 1) % 10])  # two samples are wrong at x: distance 0
        fab = FAB(balls(0.1)[norm], steps=20, targets=3, precision=precision)
        point, here = fab.distances(model, x, y)
        with believed_gpu():
            point, there = fab.distances(model, x, y)
        assert torch.equal(here.isfinite(), there.isfinite())
        assert (there[6:] == 0).all()
        found = there.isfinite()
        assert (model(point)[found].argmax(1) != y[found]).all()
        assert torch.allclose(here[found], there[found], rtol=1e-6)

    @pytest.mark.parametrize("p", [torch.inf, 2])
    def test_steps_to_a_hyperplane(self, p):
        """Twelve rounds of Newton's method are enough for random planes in 784 coordinates."""
        x, w = torch.rand(16, 784), torch.randn(16, 784)
        gap = torch.randn(16) * 40
        way = geometry.step_to_hyperplane(x, w, gap, p, 0.0, 1.0)
        with believed_gpu():
            same = geometry.step_to_hyperplane(x, w, gap, p, 0.0, 1.0)
        assert torch.allclose(way, same, rtol=0, atol=1e-6)

    def test_masks_of_the_highest_scores(self):
        score, k = torch.rand(4, 9), torch.tensor([0.0, 2.5, 3.0, 20.0])
        expected = geometry.topk_mask(score, k)
        with believed_gpu():
            assert torch.equal(geometry.topk_mask(score, k), expected)
        assert expected.sum(1).tolist() == [0, 2, 3, 9]


def test_rows_are_split_in_order():
    mask = torch.rand(50) < 0.4
    gone, keep = rows.split_rows(mask)
    assert torch.equal(gone, mask.nonzero()[:, 0])
    assert torch.equal(keep, (~mask).nonzero()[:, 0])


def test_rounded_float32_counts_as_lower_precision(problem, monkeypatch):
    """Where a GPU rounds float32 to TF32, true float32 confirms what a search sees."""
    model, x, y = problem
    asked: list[int] = []
    from sparring.runtime import exact_float32

    monkeypatch.setattr(
        exact_float32, "is_rounded", lambda device: not exact_float32.is_requested()
    )

    class Rounded(nn.Module):
        """Every class is wrong, except in true float32."""

        def forward(self, x: Tensor) -> Tensor:
            asked.append(exact_float32.is_requested())
            return model(x) if exact_float32.is_requested() else model(x).roll(1, 1)

    threat = threats.Linf(1e-4)
    x_adv = attacks.PGD(threat, steps=3)(Rounded(), x, y)
    assert True in asked
    assert False in asked
    active = attacks.base.ActiveSet(Rounded(), x, y)
    assert active.lower_precision
    active.record(x, active.logits_no_grad(x))
    active.finish()
    assert not active.broken.any()
    assert torch.equal(model(x_adv).argmax(1), y)
