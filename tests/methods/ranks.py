"""What one of two processes does with a method of the joint batch; run as `python -m
tests.methods.ranks RANK STORE OUT` and read by test_ranks."""

from __future__ import annotations

import sys
from dataclasses import replace

import torch
import torch.distributed as td
from torch import Tensor

from sparring.batch import Batch
from sparring.methods import JR, OTJR, SAT, TransportJR
from sparring.objective import Objective
from sparring.risks import Mean
from sparring.runtime import distributed
from sparring.training import parallel
from tests.oracles import problem

WORLD, ROWS = 2, 4
METHODS = [OTJR(), OTJR(law="orthonormal", layer="0"), JR(projections=2), TransportJR(), SAT()]


def gradients(rows: slice) -> dict[str, Tensor]:
    """Loss and gradient of each method at these rows of the joint batch, as training takes them:
    through the engine, double backward included."""
    result = {}
    for number, method in enumerate(METHODS):
        model, x, y = problem(WORLD * ROWS)
        x_adv = (x + 0.1 * x.flip(0)).clamp(0, 1)
        cost = torch.zeros(len(x), dtype=x.dtype)
        batch = Batch(x, y, x_adv=x_adv, y_adv=y, cost=cost)
        mine = {key: getattr(batch, key)[rows] for key in ("x", "y", "x_adv", "y_adv", "cost")}
        batch = replace(batch, **mine, weight=batch.weight[rows], index=batch.index[rows])
        objective = Objective(None, method, Mean())
        torch.manual_seed(3 + distributed.rank())
        engine = parallel.distribute_loss(model, objective, torch.device("cpu"))
        loss = engine(batch)
        loss.total.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        result |= {
            f"{number} gradient": gradient,
            f"{number}": distributed.mean(loss.total.detach()),
        }
    return result


def main(number: int, store: str, out: str) -> None:
    """Join the other process, compute, write down."""
    torch.set_num_threads(1)
    td.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=WORLD)
    result = gradients(slice(number * ROWS, (number + 1) * ROWS))
    torch.save(result | {"world": torch.tensor(distributed.world())}, out)
    parallel.leave_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
