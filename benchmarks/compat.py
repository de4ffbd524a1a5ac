"""Compare `sparring.compat` with the packages whose calls it answers: same net, samples and calls.

Both attack one MNIST net of PGD adversarial training; it is trained here if `--weights` is no file.
We judge every returned point in float32. Seconds are of processor time, so that other work of the
machine does not count. Rows are saved one by one, and those already saved are not run again:

    python benchmarks/compat.py benchmarks/results/compat.json
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring import attacks, data
from sparring.compat import torchattacks as ours
from sparring.compat.autoattack import AutoAttack
from sparring.introspect.predict import predict
from sparring.threats import Linf

WIDE, NARROW, L2 = {"eps": 0.25}, {"eps": 0.1}, {"norm": "L2", "eps": 1.5}
CALLS = [  # name, arguments, seeds
    ("FGSM", NARROW, 1),
    ("FGSM", WIDE, 1),
    ("FFGSM", {**WIDE, "alpha": 0.3}, 20),
    ("BIM", {**WIDE, "alpha": 0.05}, 1),
    ("PGD", {**NARROW, "alpha": 0.02}, 3),
    ("PGD", {**WIDE, "alpha": 0.05}, 3),
    ("PGD", {**WIDE, "alpha": 0.025, "steps": 40}, 3),
    ("PGDL2", {"eps": 1.5, "alpha": 0.3}, 3),
    ("MIFGSM", {**WIDE, "alpha": 0.05}, 1),
    ("APGD", WIDE, 3),
    ("APGD", {**WIDE, "steps": 50, "loss": "dlr"}, 1),
    ("APGD", L2, 3),
    ("APGDT", WIDE, 5),
    ("APGDT", L2, 1),
    ("FAB", WIDE, 1),
    ("FAB", {**WIDE, "multi_targeted": True}, 1),
    ("FAB", L2, 1),
    ("Square", {**WIDE, "n_queries": 500}, 1),
    ("Square", {**L2, "n_queries": 500}, 1),
    ("CW", {"steps": 100, "lr": 0.05}, 1),
    ("EADL1", {"max_iterations": 20, "binary_search_steps": 4, "initial_const": 1.0}, 1),
    ("DeepFool", {"steps": 20}, 1),  # theirs runs sample by sample
]
AUTO = [("Linf", 0.25), ("L2", 1.5)]


def network() -> nn.Module:
    """The net: two convolutions and two linear layers."""
    layers = [nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10))


def train(net: nn.Module, x: Tensor, y: Tensor, *, epochs: int = 5) -> None:
    """PGD adversarial training at eps 0.2 with five steps."""
    optimizer, step = torch.optim.AdamW(net.parameters(), 2e-3), 0
    total = epochs * len(x) // 200
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(200):
            step += 1
            eps = 0.2 * min(1, step / 200)
            optimizer.param_groups[0]["lr"] = 3e-3 * min(step / 60, 1) * (1 - step / total) + 1e-5
            attack = attacks.PGD(Linf(eps), steps=5, size=eps / 3, seed=step)
            x_adv = attack(net, x[rows], y[rows])
            optimizer.zero_grad()
            F.cross_entropy(net(x_adv), y[rows]).backward()
            optimizer.step()


def measured(net: nn.Module, x: Tensor, y: Tensor, run: Callable[[int], Tensor], seeds: int) -> Any:
    """Robust accuracy (mean over seeds), L2 distance of errors, and processor seconds of a run."""
    rows = []
    for seed in range(seeds):
        started = time.process_time()
        x_adv = run(seed).detach()
        seconds = time.process_time() - started
        right = predict(net, x_adv) == y
        l2 = (x_adv - x).flatten(1).norm(dim=1)[~right]
        rows.append((right.double().mean().item(), l2.mean().item(), seconds))
    accuracy, l2, seconds = (sum(column) / seeds for column in zip(*rows, strict=True))
    each = [row[0] for row in rows]
    return {"accuracy": accuracy, "each": each, "l2": l2, "seconds": round(seconds, 2)}


def their_torchattacks(net: nn.Module, name: str, kw: dict[str, Any], x: Tensor, y: Tensor) -> Any:
    """One call of theirs."""
    import torchattacks

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        seeded = name in ("APGD", "APGDT", "FAB", "Square")
        more = {"seed": seed} if seeded else {}
        return getattr(torchattacks, name)(net, **kw, **more)(x, y)

    return run


def our_torchattacks(net: nn.Module, name: str, kw: dict[str, Any], x: Tensor, y: Tensor) -> Any:
    """One call of ours: the same."""
    attack = getattr(ours, name)(net, **kw)

    def run(seed: int) -> Tensor:
        if hasattr(attack, "seed"):
            attack.seed = seed
        return attack(x, y)

    return run


def their_autoattack(net: nn.Module, kw: dict[str, Any], x: Tensor, y: Tensor) -> Any:
    """AutoAttack's own code, as pyautoattack packages it."""
    import pyautoattack

    logging.disable()
    return lambda seed: pyautoattack.AutoAttack(net, seed=seed, **kw).run_standard_evaluation(
        x, y, batch_size=250
    )[0]


def our_autoattack(net: nn.Module, kw: dict[str, Any], x: Tensor, y: Tensor) -> Any:
    """The same call of ours."""
    return lambda seed: AutoAttack(
        net, seed=seed, verbose=False, device="cpu", **kw
    ).run_standard_evaluation(x, y, bs=250)


def main() -> None:
    """Run what is missing in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, default=Path("compat-net.pt"))
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--only", default="", help="calls that contain this text")
    parser.add_argument("--auto", type=int, default=500, help="samples of AutoAttack; 0: none")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    mnist, net = data.load("mnist"), network()
    if options.weights.is_file():
        net.load_state_dict(torch.load(options.weights, weights_only=True))
    else:
        train(net, mnist.train.float(slice(0, 20_000)), mnist.train.y[:20_000])
        torch.save(net.state_dict(), options.weights)
    net.eval()
    table = json.loads(options.out.read_text()) if options.out.is_file() else []
    done = {(row["peer"], row["call"]) for row in table}
    x, y = mnist.test.float(slice(0, options.n)), mnist.test.y[: options.n]
    x_auto, y_auto = x[: options.auto], y[: options.auto]
    work = [
        ("torchattacks", name, kw, seeds, their_torchattacks, our_torchattacks, (x, y))
        for name, kw, seeds in CALLS
    ]
    auto = [(f"{norm} {eps}", {"norm": norm, "eps": eps}) for norm, eps in AUTO]
    for peer, name, kw, seeds, theirs, mine, samples in work:
        call = f"{name}({', '.join(f'{k}={v}' for k, v in kw.items())})"
        if options.only not in call:
            continue
        run(options.out, table, done, peer, call, seeds, theirs(net, name, kw, *samples),
            mine(net, name, kw, *samples), net, samples)  # fmt: skip
    if options.auto:
        for call, kw in auto:
            theirs, mine = (f(net, kw, x_auto, y_auto) for f in (their_autoattack, our_autoattack))
            call = f"AutoAttack({call})"
            if options.only not in call:
                continue
            run(options.out, table, done, "pyautoattack", call, 1, theirs, mine, net,
                (x_auto, y_auto))  # fmt: skip


def run(
    out: Path,
    table: list[Any],
    done: set[tuple[str, str]],
    peer: str,
    call: str,
    seeds: int,
    theirs: Any,
    mine: Any,
    net: nn.Module,
    samples: tuple[Tensor, Tensor],
) -> None:
    """Run one row, unless it is there, and save the table."""
    if (peer, call) in done:
        return
    x, y = samples
    row = {"peer": peer, "call": call, "n": len(x), "seeds": seeds}
    row["ours"] = measured(net, x, y, mine, seeds)
    row["theirs"] = measured(net, x, y, theirs, seeds)
    table.append(row)
    out.write_text(json.dumps(table, indent=1) + "\n")
    shown = [f"{row[k]['accuracy']:.4f} {row[k]['seconds']:.1f} s" for k in ("theirs", "ours")]
    print(call, *shown, flush=True)


if __name__ == "__main__":
    main()
