"""Time data-sparsity training in batches against the authors' batches of one, in seconds per row.

Both take whole steps (neighbours, loss, backward, optimizer) over the same rows, half of them
unlabelled.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from common import Row, merged, paired, save
from torch import nn

from sparring import models
from sparring.batch import Batch
from sparring.introspect import freeze
from sparring.methods import Sparsity

NETS = {
    "lenet-sigmoid": (1, 28, 28),
    "mnist-net": (1, 28, 28),
    "resnet9": (3, 32, 32),
}


def steps(view: nn.Module, batch: Batch, size: int) -> Callable[[], None]:
    """Return a pass over the batch in steps of `size` rows."""
    method = Sparsity(beta=1e4, sigma_n=0.0126, scale=0.3081)
    optimizer = torch.optim.Adam(view.parameters(), lr=1e-4)

    def run() -> None:
        for rows in torch.arange(len(batch)).split(size):
            loss = method.loss(view, Batch(batch.x[rows], batch.y[rows])).per_sample.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def main() -> None:
    """Time every network and precision; the ratio is batched ÷ one by one, per row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=512, help="rows of a batch")
    parser.add_argument("--ones", type=int, default=32, help="rows taken one by one")
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    args = parser.parse_args()
    rows = []
    for net in args.nets:
        shape, n, few = NETS[net], args.rows, args.ones
        x, y = torch.rand(n, *shape), torch.randint(0, 10, (n,))
        batch = Batch(x, torch.where(torch.arange(n) % 2 == 0, y, -1))
        part = Batch(batch.x[:few], batch.y[:few])
        for precision in ("float32", "bfloat16"):
            model = models.build(net, shape=shape, classes=10).to(memory_format=torch.channels_last)
            view = freeze.ModelView(model, amp=precision, channels_last=True)
            plain = freeze.ModelView(model)  # what a batch of one runs fastest in
            mine, ones, ratio = paired(steps(view, batch, n), steps(plain, part, 1), runs=args.runs)
            work, scale = f"{net} sparsity b{n}", few / n
            rows.append(
                Row(work, precision, mine / n, "batches of one, float32", ones / few, ratio * scale)
            )
            print(f"{work} {precision}: {1 / (ratio * scale):.0f} times the rows a second")
    save("sparsity", merged("sparsity", rows))


if __name__ == "__main__":
    main()
