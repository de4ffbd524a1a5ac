"""Hold the pictures of a page in memory, and attack one of them: what the routes call."""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from ..component import require
from ..data.outside_pictures import Picture, decode_picture, fit_picture
from ..runtime.fractions import format_number
from ..runtime.importing import reason
from ..runtime.text import printable
from ..threats import NORMS
from .choices import DEFAULT_EPS, Setting, menu, setting
from .jobs import AttackJob, JobRunner
from .png import address, difference, png
from .served import ServedAnswer, ServedModel, answer, class_table, num_samples, sample_picture
from .sweep import DEEPER, Bout, WorstPoint, elsewhere, sweep

KEPT = 8  # pictures: as fitted to the models, not as large as they came
NAME_LETTERS = 80


class Fitted(NamedTuple):
    """Hold a picture as each model takes it."""

    xs: list[Tensor]


class Missing(LookupError):
    """Refuse a picture or a job that the server does not have, or no longer."""


@dataclass
class Session:
    """Answer the requests of a page; every method may run in any thread."""

    served: Sequence[ServedModel]
    runner: JobRunner = field(default_factory=JobRunner)
    _pictures: OrderedDict[str, Fitted] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def about(self) -> dict[str, Any]:
        """Return what the page offers: models, threats, attacks, and the first choices."""
        first = self.served[0]
        radii = dict(DEFAULT_EPS)
        if first.eps:
            radii[first.threat] = format_number(first.eps)
        classes = dict.fromkeys(name for one in self.served for name in one.class_names)
        return {
            "models": [
                {
                    "name": one.name,
                    "about": one.about,
                    "input": _size(one.shape),
                    "side": max(one.shape[1:]),
                    "samples": num_samples(one),
                }
                for one in self.served
            ],
            "threats": [{"name": n, "eps": radii[n], "attacks": menu(n)} for n in NORMS],
            "threat": first.threat,
            "attack": "quick",
            "classes": list(classes),
            "deeper": DEEPER,
        }

    def upload(self, content: bytes, name: str) -> dict[str, Any]:
        """Decode a picture, keep it as fitted to every model, and return what each answers.

        Raises:
            ValueError: for what is no picture, as `decode_picture`, or one that a model fails on.
            Busy: while an attack runs.
        """
        return self._keep(decode_picture(content, printable(name, NAME_LETTERS)), None)

    def sample(self, number: object, row: object = None) -> dict[str, Any]:
        """Take a test sample of a model's data, drawn where `row` is None, as `upload`.

        Raises:
            ValueError: for a model or a row that does not exist, or that a model fails on.
        """
        one = self.served[_index("model", number, len(self.served))]
        rows = num_samples(one)
        require(rows, "model", one.name, "one with test samples: it was served without data")
        drawn = secrets.randbelow(rows) if row is None else _index("row", row, rows)
        return self._keep(*sample_picture(one, drawn))

    def attack(self, request: object) -> AttackJob:
        """Start the attack that a request describes by picture, threat, eps, attack and label.

        Raises:
            ValueError: for a key, name or number that is not allowed.
            Missing: for a picture that is no longer kept.
            Busy: while another attack runs.
        """
        known = ("picture", "threat", "eps", "attack", "label", "models")
        if not isinstance(request, dict) or set(request) - set(known):
            raise ValueError(f"the request must be a table of {', '.join(known)}")
        with self._lock:
            fitted = self._pictures.get(str(request.get("picture")))
        if fitted is None:
            raise Missing("the picture is no longer here: drop it again")
        numbers = request.get("models")
        numbers = list(range(len(self.served))) if numbers is None else numbers
        ok = isinstance(numbers, list) and 0 < len(numbers) <= len(self.served)
        require(ok, "models", numbers, "a list of one or more models by number")
        assert isinstance(numbers, list)
        numbers = sorted({_index("models", n, len(self.served)) for n in numbers})
        chosen = [self.served[n] for n in numbers]
        label = request.get("label")
        names = [name for one in chosen for name in one.class_names]
        require(label is None or label in names, "label", label, "the name of a class, or null")
        plan = setting(request.get("threat"), request.get("eps"), request.get("attack"), chosen)
        return self.runner.start(partial(self._work, numbers, fitted, label, plan))

    def _work(
        self, numbers: list[int], fitted: Fitted, label: str | None, plan: Setting, job: AttackJob
    ) -> Iterator[WorstPoint]:
        for n in numbers:
            one, x = self.served[n], fitted.xs[n]
            known = one.label(label)
            y = answer(one, x).pred if known is None else known
            require(y >= 0, "picture", one.name, "one that the model names a class for")
            job.bouts.append(Bout(n, one, x, y))
        for point in sweep(job.bouts, plan, budget=job.budget, workload=job.workload):
            yield point._replace(elsewhere=elsewhere(point, job.bouts))

    def progress(self, id: str, after: int = 0) -> dict[str, Any]:
        """Return how far an attack is, with its steps from number `after` on.

        Raises:
            Missing: for a job that is neither the current nor the last one.
        """
        job = self._job(id)
        state, count = job.state, len(job.rows)  # first: the thread may go on
        return {
            "job": job.id,
            "state": state,
            "error": job.error,
            "share": job.share(),
            "rows": [self._step(job, k) for k in range(max(after, 0), count)],
        }

    def cancel(self, id: str) -> None:
        """Cancel an attack; one that has ended stays as it is."""
        self._job(id).cancel()

    def download(self, id: str, row: int) -> tuple[str, bytes]:
        """Return the picture of a step as a file's name and its PNG.

        Raises:
            Missing: for a step that does not exist.
        """
        job = self._job(id)
        if not 0 <= row < len(job.rows):
            raise Missing("there is no such picture")
        point = job.rows[row]
        name = re.sub(r"[^A-Za-z0-9]+", "-", job.bouts[point.number].served.name).strip("-")
        eps = format_number(point.eps).replace("/", "of")
        return f"{name or 'model'}-eps-{eps}.png", png(point.x_adv)

    def _keep(self, picture: Picture, label: str | None) -> dict[str, Any]:
        """Fit a picture to every model, keep it, and return it with every model's answer."""
        fits = [fit_picture(picture, one.shape) for one in self.served]
        xs = [x for x, _ in fits]
        with self.runner.models():
            answers = [_first_answer(one, x) for one, x in zip(self.served, xs, strict=True)]
        id = secrets.token_urlsafe(9)
        with self._lock:
            self._pictures[id] = Fitted(xs)
            while len(self._pictures) > KEPT:
                self._pictures.popitem(last=False)
        _, height, width = picture.pixels.shape
        return {
            "picture": id,
            "name": picture.name,
            "size": f"{width} × {height}",
            "notes": picture.notes,
            "label": label,
            "models": [
                {"image": address(x), "notes": notes, **class_table(one, given)}
                for one, (x, notes), given in zip(self.served, fits, answers, strict=True)
            ],
        }

    def _job(self, id: str) -> AttackJob:
        job = self.runner.job(id)
        if job is None:
            raise Missing("there is no such attack, or another one has begun since")
        return job

    def _step(self, job: AttackJob, row: int) -> dict[str, Any]:
        """Return a finished step as JSON."""
        point: WorstPoint = job.rows[row]
        bout: Bout = job.bouts[point.number]
        moved = (point.x_adv - bout.x).abs()
        return {
            "row": row,
            "model": bout.number,
            "eps": point.eps,
            "eps_text": format_number(point.eps),
            "label": bout.served.class_names[bout.label],
            "confidence": point.confidence,
            "adversarial": point.is_adversarial,
            "attack": point.attack,
            "image": address(point.x_adv),
            "difference": address(difference(point.x_adv, bout.x)),
            "levels": round(255 * float(moved.max())),
            "pixels": int((moved.amax(0) > 0).sum()),
            "of": moved[0].numel(),
            "elsewhere": [
                {"model": other.number, **class_table(other.served, given)}
                for other, given in ((job.bouts[n], a) for n, a in point.elsewhere.items())
            ],
            **class_table(bout.served, point.answer, also=[bout.label]),
        }


def _first_answer(one: ServedModel, x: Tensor) -> ServedAnswer:
    """Return the answer of a model on a picture that has just come.

    Raises:
        ValueError: if the model fails on it, or exits, which would end the server.
    """
    try:
        return answer(one, x)
    except (Exception, SystemExit) as error:  # foreign code may raise anything, or exit
        why = printable(reason(error), None)
        raise ValueError(f"{one.name} fails on this picture: {why}") from error


def _size(shape: Sequence[int]) -> str:
    """Return a model's input in words.

    >>> _size((1, 28, 28))
    '28 × 28 grey'
    """
    channels, height, width = shape
    return f"{width} × {height} {'grey' if channels == 1 else 'RGB'}"


def _index(key: str, value: object, count: int) -> int:
    """Return a number from 0 to count - 1.

    Raises:
        ValueError: for anything else.
    """
    ok = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count
    require(ok, key, value, f"a whole number from 0 to {count - 1}")
    assert isinstance(value, int)
    return value
