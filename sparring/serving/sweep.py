"""Attack one picture at several radii, on several models, and judge every point as a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..attacks.base import Maximizer
from ..attacks.pgd import PGD
from ..batch import Batch
from ..data.outside_pictures import Picture, fit_picture
from ..evaluation.announce import PASSES
from ..evaluation.budget import Budget
from ..evaluation.guard import Guard
from ..evaluation.judge import judge
from ..evaluation.session import attack_title
from ..functional.losses import cross_entropy
from ..introspect import freeze
from ..runtime.seeding import seed_of_text
from ..runtime.workload import Task, Workload
from ..threats.base import Threat
from .choices import Setting
from .served import ServedAnswer, ServedModel, answer

# An attack stops at its first success, just across the boundary. A search for the lowest
# confidence in the label goes on from there, and shows what a larger radius is worth.
DEEPER = "lowest confidence"
STEPS = 20


class Bout(NamedTuple):
    """Hold one model of an attack, with its picture `x (c, h, w)` and the label to lead away from.

    Arguments:
        number: of the model among those that are served.
    """

    number: int
    served: ServedModel
    x: Tensor
    label: int


class WorstPoint(NamedTuple):
    """Hold the worst point of a model within a radius.

    Arguments:
        number: of the bout.
        x_adv: `(c, h, w)` in multiples of 1/255, as a file has them.
        attack: label of the attack that made it, "" for the picture itself.
        elsewhere: what the models of the other bouts answer on the same picture, by number.
    """

    number: int
    eps: float
    x_adv: Tensor
    answer: ServedAnswer
    confidence: float
    is_adversarial: bool
    attack: str = ""
    elsewhere: Mapping[int, ServedAnswer] = {}


def on_grid(x: Tensor) -> Tensor:
    """Return pixels as a file of 8 bits gives them back.

    >>> (255 * on_grid(torch.tensor([0.1]))).round()
    tensor([26.])
    """
    return (255 * x).round().clamp(0, 255).to(torch.uint8).float() / 255


def tasks(bouts: Sequence[Bout], setting: Setting) -> list[Task]:
    """Return every attack at every radius, for the progress."""
    out = []
    for eps in setting.radii()[::-1]:
        threat = setting.threat(eps)
        for bout in bouts:
            labels = [entry.label for entry in setting.suite.entries_for(threat)]
            out += [_task(bout, label, threat) for label in (*labels, DEEPER)]
    return out


def _task(bout: Bout, label: str, threat: Threat) -> Task:
    passes = STEPS + 1 if label == DEEPER else PASSES.get(label, 0)
    return Task(_title(bout, label, threat), label, bout.served.name, 1, passes)


def _title(bout: Bout, label: str, threat: Threat) -> str:
    return f"{bout.served.name} · {attack_title(label, threat)}"


def sweep(
    bouts: Sequence[Bout], setting: Setting, *, budget: Budget, workload: Workload
) -> Iterator[WorstPoint]:
    """Yield every picture itself, then the worst point of every model at every radius.

    The largest radius comes first, since it is the one that was chosen. Once the attacks fail on a
    model, they are left out at its smaller radii, whose balls lie inside. Attacks without gradients
    then leave these radii without a point. A point of a smaller radius counts at a larger one, too:
    in the end, such a point comes again where it is worse.

    Raises:
        BudgetSpent: once the budget is stopped.
    """
    guards = [
        Guard(b.served.model, shape=b.served.shape, strict=False, budget=budget) for b in bouts
    ]
    workload.tasks, workload.passes = tasks(bouts, setting), lambda: sum(g.forwards for g in guards)
    clean = [_clean(number, bout) for number, bout in enumerate(bouts)]
    yield from clean
    falling, hopeless = setting.radii()[::-1], [False for _ in bouts]
    points: list[list[WorstPoint]] = [[] for _ in bouts]
    for eps in falling:
        threat = setting.threat(eps)
        for number, bout in enumerate(bouts):
            guard, worst = guards[number], clean[number]._replace(eps=eps)
            entries = setting.suite.entries_for(threat)
            white = any(entry.kind == "white" for entry in entries)
            tried = white or not hopeless[number]
            for entry in entries:
                wanted = not (hopeless[number] or worst.is_adversarial)
                workload.begin(_title(bout, entry.label, threat), int(wanted))
                if wanted:
                    attack = entry.make(threat)
                    attack.reseed(seed_of_text(f"{entry.label}|{eps}"))
                    x_adv = attack(guard, *_batch(bout))
                    worst = _worse(worst, _judged(worst, bout, threat, x_adv, entry.label))
                workload.step(int(wanted))
                workload.finish()
            hopeless[number] = not worst.is_adversarial
            workload.begin(_title(bout, DEEPER, threat), int(white))
            if white:
                x_adv = lowest_confidence(guard, threat, *_batch(bout))
                worst = _worse(worst, _judged(worst, bout, threat, x_adv, DEEPER))
            workload.step(int(white))
            workload.finish()
            if tried:
                points[number].append(worst)
                yield worst
    for of_model in points:
        yield from raised(of_model[::-1])


def raised(rising: Sequence[WorstPoint]) -> Iterator[WorstPoint]:
    """Yield, at each radius where a smaller one's point is worse, that point."""
    worst = rising[0] if rising else None
    for point in rising[1:]:
        assert worst is not None
        better = _worse(point, worst._replace(eps=point.eps))
        if better is not point:
            yield better
        worst = better


def lowest_confidence(guard: Guard, threat: Threat, x: Tensor, y: Tensor) -> Tensor:
    """Return the point of highest cross-entropy that PGD meets: it goes on after a success."""
    search: Maximizer = PGD(threat, steps=STEPS)
    with freeze.frozen(guard, "eval"):
        model = threat.searched(guard)
        return search.maximize(lambda z: cross_entropy(model(z), y), Batch(x, y))


def elsewhere(point: WorstPoint, bouts: Sequence[Bout]) -> dict[int, ServedAnswer]:
    """Return what the models of the other bouts answer on a point, as a picture fitted to each."""
    pixels = (255 * point.x_adv).round().to(torch.uint8)
    picture = Picture("", pixels, [])
    return {
        number: answer(bout.served, fit_picture(picture, bout.served.shape)[0])
        for number, bout in enumerate(bouts)
        if number != point.number
    }


def _batch(bout: Bout) -> tuple[Tensor, Tensor]:
    device = bout.served.device
    return bout.x[None].to(device), torch.tensor([bout.label], device=device)


def _clean(number: int, bout: Bout) -> WorstPoint:
    """Return the picture itself as the point at eps = 0."""
    first = answer(bout.served, bout.x)
    wrong = first.pred != bout.label
    return WorstPoint(number, 0.0, bout.x, first, first.confidence(bout.label), wrong)


def _judged(like: WorstPoint, bout: Bout, threat: Threat, x_adv: Tensor, label: str) -> WorstPoint:
    """Return what the model says of a point after a file of 8 bits; x where that leaves S."""
    x, y = _batch(bout)
    judgement = judge(bout.served.model, threat, on_grid(x_adv), x, y, name=label)
    point = judgement.point[0].cpu()
    given = answer(bout.served, point)
    wrong = bool(judgement.allowed[0]) and given.pred != bout.label
    confidence = given.confidence(bout.label)
    return WorstPoint(like.number, like.eps, point, given, confidence, wrong, label)


def _worse(first: WorstPoint, second: WorstPoint) -> WorstPoint:
    """Return the point that is adversarial, or else of lower confidence in the label."""

    def rank(point: WorstPoint) -> tuple[bool, float]:
        return point.is_adversarial, -point.confidence

    return second if rank(second) > rank(first) else first
