"""Time PGD-40 against torchattacks, Foolbox and ART: same model, points, radius, step and start.

We judge every returned point in float32: whether it succeeds, and whether it is in the ball.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from common import Row, paired, save
from torch import Tensor, nn

import sparring
from sparring import data
from sparring.attacks import PGD
from sparring.threats import Linf

STEPS = 40
Attack = Callable[[Tensor, Tensor], Tensor]


def torchattacks_pgd(model: nn.Module, eps: float, size: float) -> Attack:
    """Return torchattacks.PGD."""
    import torchattacks

    return torchattacks.PGD(model, eps=eps, alpha=size, steps=STEPS, random_start=True)


def foolbox_pgd(model: nn.Module, eps: float, size: float) -> Attack:
    """Return foolbox.attacks.LinfPGD."""
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=size, steps=STEPS, random_start=True)
    return lambda x, y: attack(wrapped, x, y, epsilons=eps)[1]


def art_pgd(model: nn.Module, eps: float, size: float) -> Attack:
    """Return ART's ProjectedGradientDescentPyTorch."""
    import numpy as np
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    estimator = PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=(1, 28, 28),
        nb_classes=10,
        clip_values=(0, 1),
    )
    attack = ProjectedGradientDescentPyTorch(
        estimator,
        norm=np.inf,
        eps=eps,
        eps_step=size,
        max_iter=STEPS,
        num_random_init=1,
        batch_size=250,
        verbose=False,
    )
    return lambda x, y: torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


PEERS = {"torchattacks": torchattacks_pgd, "foolbox": foolbox_pgd, "art": art_pgd}


def ours(model: nn.Module, eps: float, size: float, precision: str) -> Attack:
    """Return our PGD; channels-last in both precisions."""
    attack = PGD(Linf(eps), steps=STEPS, size=size, precision=precision, channels_last=True)
    return lambda x, y: attack(model, x, y)


def robust(model: nn.Module, attack: Attack, x: Tensor, y: Tensor, eps: float) -> float:
    """Return the share of points still right; a point outside the ball counts as right."""
    z = attack(x, y)
    inside = (
        ((z - x).abs().flatten(1).amax(1) <= eps + 1e-5)
        & (z.flatten(1).amin(1) >= 0)
        & (z.flatten(1).amax(1) <= 1)
    )
    with torch.no_grad():
        right = model(x).argmax(1) == y
        return (right & ((model(z).argmax(1) == y) | ~inside)).float().mean().item()


def short_run() -> Path:
    """Train for two epochs and return the run: robust enough that most points survive."""
    folder = Path(tempfile.mkdtemp(), "mnist-pgd-at")
    return sparring.train("mnist-pgd-at", out=folder, set={"train.epochs": 2}, progress=True)


def main() -> None:
    """Compare on a trained run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", help="an mnist run folder; default: one of a short training")
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--size", type=float, default=0.01)
    parser.add_argument("--n", type=int, default=250)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    model = sparring.load(args.run or short_run())
    test = data.load("mnist").test
    x, y = test.float(slice(args.n)), test.y[: args.n]
    rows = []
    for peer, make in PEERS.items():
        theirs = make(model, args.eps, args.size)
        for precision in ("float32", "bfloat16"):
            mine = ours(model, args.eps, args.size, precision)
            a, b, ratio = paired(lambda: mine(x, y), lambda: theirs(x, y), runs=args.runs)  # noqa: B023
            accuracy = robust(model, mine, x, y, args.eps), robust(model, theirs, x, y, args.eps)
            rows.append(
                Row(
                    f"mnist-net PGD-{STEPS} eps {args.eps} n {args.n}",
                    precision,
                    a,
                    peer,
                    b,
                    ratio,
                    *accuracy,
                )
            )
    save("attack", rows)


if __name__ == "__main__":
    main()
