"""The work of one of two processes of test_distributed: `python -m tests.ranks RANK STORE OUT`."""

from __future__ import annotations

import sys

import torch
import torch.distributed as td
from torch import Tensor, nn

from sparring.batch import Batch
from sparring.methods import UAD
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.runtime import distributed
from sparring.threats import L1, L2, Box, Linf

WORLD, ROWS = 2, 3
UADS = {"uad": {}, "uad without refinement": {"reference": "none"}}
THREATS = [Linf(0.1), Linf(0.1, init="noise"), L2(0.3), L1(0.8), Box()]


def joint() -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, weights of the samples and weights of the model, the same everywhere."""
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(WORLD * ROWS, 4, generator=draw, dtype=torch.float64)
    weight = torch.rand(WORLD * ROWS, generator=draw, dtype=torch.float64)
    return x, weight, torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)


def risk(u: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Scalars of the joint batch: one that is not additive over samples, and the weighted mean."""
    batch = Batch(torch.zeros(len(u), 1), torch.zeros(len(u), dtype=torch.long), weight=weight)
    return {
        "logsumexp": distributed.gather(u).logsumexp(0),
        "mean": Mean()(u, torch.zeros_like(u), batch),
    }


def gradients(rows: slice) -> dict[str, Tensor]:
    """d risk/d w of a model w·x squared, averaged over processes as DistributedDataParallel
    does."""
    x, weight, w = joint()
    results = {}
    for name in ("logsumexp", "mean"):
        leaf = w.clone().requires_grad_()
        value = risk((x[rows] @ leaf).square(), weight[rows])[name]
        value.backward()
        results |= {name: value.detach(), f"{name} gradient": distributed.mean(leaf.grad)}
    return results


def draws(rows: slice) -> dict[str, Tensor]:
    """Random numbers and random starts of these rows."""
    x = joint()[0][rows]
    batch = Batch(x, torch.zeros(len(x), dtype=torch.long))
    results = {
        kind: distributed.draw(kind, x, torch.Generator().manual_seed(3))
        for kind in ("uniform", "normal", "exponential")
    }
    return results | {
        repr(t): t.random_start(batch, torch.Generator().manual_seed(4)) for t in THREATS
    }


def uad(rows: slice) -> dict[str, Tensor]:
    """Totals of UAD, whose statistics are those of the joint batch, and their gradients."""
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(WORLD * ROWS, 1, 4, 4, generator=draw, dtype=torch.float64)
    noise = torch.rand(x.shape, generator=draw, dtype=torch.float64)
    y, zeros = torch.tensor([0, 0, 1, 0, 0, 0])[rows], torch.zeros(len(x[rows]), dtype=x.dtype)
    batch = Batch(x[rows], y, x_adv=(x + 0.2 * noise)[rows], y_adv=y, cost=zeros)
    results = {"seed": torch.tensor(distributed.generator().initial_seed())}
    for name, more in UADS.items():
        torch.manual_seed(1)
        layers = nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(16, 2)
        model = nn.Sequential(*layers).double()
        torch.manual_seed(5 + distributed.rank())
        method = UAD(**{"sites": ["0", "2"], "reference": "2", "p": 0.7, **more})
        value = Objective(None, method, Mean()).minimize(model, batch).total
        value.backward()
        results |= {
            name: value.detach(),
            f"{name} gradient": distributed.mean(model[0].weight.grad),
        }
    return results


def everything(rows: slice) -> dict[str, Tensor]:
    """All there is to compare."""
    x = joint()[0][rows]
    torch.manual_seed(5 + distributed.rank())
    return (
        gradients(rows)
        | draws(rows)
        | uad(rows)
        | {"gather": distributed.gather(x), "first": distributed.mean(x[0])}
    )


def main(number: int, store: str, out: str) -> None:
    """Join the other process, compute, write down."""
    torch.set_num_threads(1)
    td.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=WORLD)
    results = everything(slice(number * ROWS, (number + 1) * ROWS))
    results |= {
        "rank": torch.tensor(distributed.rank()),
        "world": torch.tensor(distributed.world()),
    }
    torch.save(results, out)
    td.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
