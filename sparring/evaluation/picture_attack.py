"""Attack one picture, and judge what comes out: rounded, and read back from files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..attacks import PGD
from ..attacks.goal import Goal, Transform
from ..batch import Batch, Model
from ..data.outside_pictures import decode_picture
from ..data.picture_formats import Format
from ..functional.losses import margin
from ..introspect import freeze
from ..introspect.predict import logits, predicted_class
from ..results.attacked_pictures import Answer, AttackedPicture, CurvePoint, Survival
from ..results.pictures import png_bytes
from ..threats import Rounded, norm_ball
from .judge import feasible
from .suites import Entry

CURVE = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # radii, in eps
CURVE_STEPS = 10
NO_CLASS = "no finite logits"


class PictureTask(NamedTuple):
    """Hold a picture that was fitted to the model, and the goal of its attack.

    Arguments:
        name: of the files to save; `file` that it came from.
        x: `(c, h, w)`, multiples of 1/255.
        target: the class to reach; None: any but `label`.
    """

    name: str
    file: str
    x: Tensor
    notes: list[str]
    label: int
    label_given: bool
    target: int | None = None

    def reached(self, pred: int) -> bool:
        """Return whether a predicted class is the adversary's goal."""
        return pred != self.label if self.target is None else pred == self.target


class PictureAttack(NamedTuple):
    """Hold how pictures are attacked.

    Arguments:
        threat: a ball; points are rounded to 8 bits inside it.
        entries: attacks, one after another until the goal is reached.
        transforms: that a success must outlast, each with a gradient.
        formats: that the attacked picture is tried in.
        classes: their names.
        curve: attack at growing radii too, for the confidence there.
    """

    threat: Rounded
    entries: Sequence[Entry]
    transforms: Sequence[Transform]
    formats: Sequence[Format]
    classes: Sequence[str]
    lead: float = 0.0
    seed: int = 0
    curve: bool = True

    def run(
        self, model: Model, task: PictureTask, device: torch.device
    ) -> tuple[AttackedPicture, tuple[np.ndarray, np.ndarray]]:
        """Attack one picture; return its record, and its pixels before and after."""
        started = time.perf_counter()
        x = task.x.to(device)[None]
        before, pred, _ = self._answer(model, x, task)
        already = pred != task.label or task.reached(pred)
        x_adv, attack = x, "none"
        if not already:
            x_adv, attack = self._search(model, x, task)
        after, pred, _ = self._answer(model, x_adv, task)
        pixels, pixels_adv = as_bytes(x[0]), as_bytes(x_adv[0])
        reread = decode_picture(png_bytes(pixels_adv), task.name).pixels
        from_file = reread.to(device, torch.float32)[None] / 255
        _, pred_in_file, _ = self._answer(model, from_file, task)
        change = torch.from_numpy(pixels_adv.astype(int) - pixels.astype(int))
        moved = (change.double() / 255)[None]  # whole levels, so that 8/255 is exactly that
        record = AttackedPicture(
            task.name,
            task.file,
            task.notes,
            self.classes[task.label],
            task.label_given,
            None if task.target is None else self.classes[task.target],
            before,
            after,
            already,
            task.reached(pred),
            task.reached(pred_in_file),
            float(self.threat.distance(moved, torch.zeros_like(moved))[0]),
            int(change.abs().max()),
            attack,
            0.0,
            [self._survival(model, one, pixels, pixels_adv, task, device) for one in self.formats],
            self._curve(model, x, task) if self.curve else [],
        )
        record.seconds = round(time.perf_counter() - started, 2)
        return record, (pixels, pixels_adv)

    def _search(self, model: Model, x: Tensor, task: PictureTask) -> tuple[Tensor, str]:
        """Return a point that reaches the whole goal; else one that reaches it without
        transformations and lead; else the nearest to that. And the name of its attack."""
        whole = Goal(
            model, task.label, target=task.target, transforms=self.transforms, lead=self.lead
        )
        plain = Goal(model, task.label, target=task.target)
        x_adv, attack, value = self._climb(whole, x)
        y = torch.tensor([plain.attacked_label], device=x.device)
        # a point that fell short of the whole goal may well reach the plain one
        if value <= 0 and not float(margin(logits(plain, x_adv), y)) > 0:
            x_adv, attack, _ = self._climb(plain, x)
        return x_adv, attack

    def _climb(self, goal: Goal, x: Tensor) -> tuple[Tensor, str, float]:
        """Run the attacks until one reaches a goal; return the best point, its attack and its
        margin."""
        y = torch.tensor([goal.attacked_label], device=x.device)
        best, best_value, best_name = x, -np.inf, self.entries[0].label
        for entry in self.entries:
            attack = entry.make(self.threat)
            attack.reseed(self.seed)
            x_adv = attack(goal, x, y)
            if not bool(feasible(self.threat, x_adv, x, y)):
                continue
            value = float(margin(logits(goal, x_adv), y))
            if value > best_value:
                best, best_value, best_name = x_adv, value, entry.label
            if value > 0:
                break
        return best, best_name, best_value

    def _curve(self, model: Model, x: Tensor, task: PictureTask) -> list[CurvePoint]:
        """Return the model's confidence as eps grows, each time after an attack that goes on to
        its last step: the strongest answer, not the nearest wrong one.

        A model without gradients has none.
        """
        points = [self._curve_point(model, x, 0.0, task)]
        y = torch.tensor([task.label], device=x.device)
        goal = Goal(model, task.label, target=task.target)
        batch = Batch(x, y.new_tensor([goal.attacked_label]))
        for share in CURVE:
            eps = share * self.threat.eps
            try:
                ball = norm_ball(self.threat.p, eps=eps, low=self.threat.low, high=self.threat.high)
                attack = PGD(Rounded(ball), steps=CURVE_STEPS, seed=self.seed)  # type: ignore[arg-type]
                ball.check_reachable(x.shape[1:])
                with freeze.frozen(goal) as run:
                    z = attack.maximize(lambda z: margin(run(z), batch.y), batch)
            except ValueError:  # no gradient, or a ball that holds the whole box
                break
            points.append(self._curve_point(model, z, eps, task))
        return points

    def _curve_point(self, model: Model, x: Tensor, eps: float, task: PictureTask) -> CurvePoint:
        _, pred, shares = self._answer(model, x, task)
        others = np.delete(shares, task.label)
        other = shares[task.target] if task.target is not None else others.max(initial=0.0)
        return CurvePoint(eps, float(shares[task.label]), float(other), task.reached(pred))

    def _survival(
        self,
        model: Model,
        one: Format,
        pixels: np.ndarray,
        pixels_adv: np.ndarray,
        task: PictureTask,
        device: torch.device,
    ) -> Survival:
        both = [torch.from_numpy(one.reread(p).copy()) for p in (pixels, pixels_adv)]
        batch = torch.stack(both).to(device, torch.float32) / 255
        before, _, _ = self._answer(model, batch[:1], task)
        after, pred, _ = self._answer(model, batch[1:], task)
        return Survival(one.name, before, after, task.reached(pred))

    def _answer(self, model: Model, x: Tensor, task: PictureTask) -> tuple[Answer, int, np.ndarray]:
        """Return the model's answer to one input, its class, and its confidence in each."""
        z = logits(model, x)
        pred = int(predicted_class(z)[0])
        shares = z[0].double().softmax(0).nan_to_num(0.0).cpu().numpy()
        if pred < 0:
            return Answer(NO_CLASS, -1, 0.0), pred, shares
        return Answer(self.classes[pred], pred, float(shares[pred])), pred, shares


def as_bytes(x: Tensor) -> np.ndarray:
    """Return an input `(c, h, w)` in [0, 1] as uint8."""
    return (x * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
