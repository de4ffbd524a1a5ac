"""A model, its samples and a place to run: the clean pass, then attack by attack, in batches."""

from __future__ import annotations

import copy
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ..batch import Model
from ..data import Split
from ..introspect import freeze
from ..introspect.predict import logits, predict
from ..runtime import distributed
from ..runtime.allocator import out_of_memory
from ..runtime.compiled import CompiledModel, compile_sizes
from ..runtime.progress import EvaluationProgress
from ..runtime.seeding import seed_of_text, seeded
from ..threats.base import Threat
from .budget import Budget, Spent
from .cache import BatchCache, Record
from .guard import Guard, labels
from .judge import Judgement, judge, lead

SHOWN = 16


CLOSE = 0.1  # of the lead that y had unattacked: what is left of it after a near miss


@dataclass
class AttackOutcome:
    """What one attack did to all n samples at one radius, summed over batches.

    Arguments:
        prediction: `(n,)` on the judged points; the clean one where it was not run.
        broken: `(n,)` an allowed point that the model gets wrong was found.
        counts: samples passed forward, backward, and asked about outside the box.
        kind: what the attack needs, as in `suites.Entry`.
        skipped: rows that a spent budget left out.
        score: `(n,)` of two classes, on the judged points; the clean one where it was not run.
        changed: `(n, ⌈d/8⌉)` packed bits, the features that a binary threat changed; else None.
        shown: judged points of the rows that are shown, by row.
    """

    label: str
    prediction: np.ndarray
    broken: np.ndarray
    attacked: int
    seconds: float = 0.0
    infeasible: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=np.int64))
    shown: dict[int, np.ndarray] = field(default_factory=dict)
    kind: str = "white"
    skipped: int = 0
    score: np.ndarray = field(default_factory=lambda: np.zeros(0))
    changed: np.ndarray | None = None


class AttackRunner:
    """Runs passes over the samples; a batch that a killed session finished is not run again.

    Attributes:
        clean, right: `(n,)` predictions without attack, and where they are correct.
        classes, least, most: k, and the range of the inputs. `begin` fills these five, `shown` and
            `score`.
        score: `(n,)` of two classes, the logit of class 1 minus that of class 0; else NaN.
        shown: the first rows that are right.
        earlier: seconds that batches took in earlier sessions.
    """

    def __init__(
        self,
        model: Model,
        rows: Split,
        threat: Threat,
        *,
        place: torch.device,
        batch: int,
        state: BatchCache,
        display: EvaluationProgress,
        budget: Budget | None = None,
        compile: bool = False,
    ) -> None:
        self.budget = budget or Budget()
        self.model, self.rows, self.place, self.batch = model, rows, place, batch
        self.searched = CompiledModel(model, compile_sizes(batch, place)) if compile else model
        self.low, self.high, self.shape = threat.low, threat.high, tuple(rows.x.shape[1:])
        self.state, self.display = state, display
        self.y = rows.y.cpu().numpy()
        self.clean = np.full(len(rows), -1)
        self.right = np.zeros(len(rows), dtype=bool)
        self.score = np.full(len(rows), np.nan)
        self.classes, self.least, self.most, self.earlier = 0, np.inf, -np.inf, 0.0

    def pick(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Samples `x (b, *d)` float32 and `y (b,)` of these rows, where the model runs."""
        at = torch.from_numpy(rows).to(self.rows.x.device)
        return self.rows.float(at).to(self.place), self.rows.y[at].to(self.place)

    def _each(
        self, key: str, rows: np.ndarray, run: Callable[[np.ndarray, int], Record], *, seed: str
    ) -> Iterator[tuple[np.ndarray, Record]]:
        """Every batch's rows and record: as kept, else run with draws of its own, and kept.

        Processes that torchrun started take turns at the batches, and share what they found. What
        a spent budget leaves out is missing.
        """
        parts = [rows[start : start + self.batch] for start in range(0, len(rows), self.batch)]
        alone, found = distributed.world() == 1, {}
        for number in range(distributed.rank(), len(parts), distributed.world()):
            name = f"{key}-{number:05d}-{zlib.crc32(parts[number].tobytes()):08x}"
            record = self._one(name, parts[number], run, f"{seed}|{number}")
            if record is None:
                break
            if alone:
                yield parts[number], record
            else:
                found[number] = record
        if not alone:
            for number, record in sorted(distributed.gather_dict(found).items()):
                yield parts[number], record

    def _one(
        self, key: str, rows: np.ndarray, run: Callable[[np.ndarray, int], Record], seed: str
    ) -> Record | None:
        """The record of a batch, or None where the budget was spent before its end."""
        record = self.state.get(key)
        if record is not None:
            self.earlier += float(record["seconds"])
            return record
        begun, own = time.perf_counter(), seed_of_text(seed)
        try:
            with seeded(self.place, own), distributed.alone():
                record = run(rows, own)
        except Spent:
            return None
        record["seconds"] = np.array(time.perf_counter() - begun)
        return self.state.put(key, record)

    def begin(self) -> None:
        """The clean pass, which also checks every input, label and output."""
        guard = Guard(self.model, low=self.low, high=self.high, shape=self.shape)

        def run(rows: np.ndarray, own: int) -> Record:
            x, _ = self.pick(rows)
            stamp = _stamp(self.model)
            said = predict(guard, x).cpu().numpy()
            if _stamp(self.model) != stamp:
                raise ValueError("the model changes its own weights when it is called: freeze them")
            if rows[0] == 0:
                labels(self.rows.y, guard.classes or 0)
            return {
                "clean": said,
                "range": np.array([x.min().item(), x.max().item()]),
                "k": np.array(guard.classes),
                **_score(self.model, x, guard.classes),
            }

        self.display.begin("clean", len(self.y))
        for rows, record in self._each("clean", np.arange(len(self.y)), run, seed="clean"):
            self.clean[rows], self.classes = record["clean"], int(record["k"])
            self.least, self.most = (
                min(self.least, record["range"][0]),
                max(self.most, record["range"][1]),
            )
            self.right[rows] = self.clean[rows] == self.y[rows]
            self.score[rows] = record.get("score", np.nan)
            self.display.step(len(rows), int(self.right[rows].sum()))
        self.shown = np.flatnonzero(self.right)[:SHOWN]

    def attack(
        self,
        key: str,
        label: str,
        attack: Callable[..., object],
        threat: Threat,
        rows: np.ndarray,
        *,
        seed: str,
        kind: str = "white",
    ) -> AttackOutcome:
        """Run an attack on these rows and judge what it returns; draws are its own, from `seed`."""

        def run(part: np.ndarray, own: int) -> Record:
            return self._halved(label, attack, threat, part, own)

        self.display.begin(key_of(label, threat), len(rows), wrong=len(self.y) - len(rows))
        done = AttackOutcome(
            label, self.clean.copy(), np.zeros(len(self.y), dtype=bool), attacked=0, kind=kind
        )
        done.score = self.score.copy()
        if threat.binary:
            width = -(-int(np.prod(self.shape)) // 8)
            done.changed = np.zeros((len(self.y), width), dtype=np.uint8)
        for part, record in self._each(key, rows, run, seed=seed):
            said, allowed = record["prediction"], record["allowed"]
            done.attacked += len(part)
            done.prediction[part] = said
            done.broken[part] = allowed & (said != self.y[part])
            done.infeasible += int((~allowed).sum())
            done.counts += record["counts"]
            done.seconds += float(record["seconds"])
            done.score[part] = record.get("score", done.score[part])
            if done.changed is not None:
                done.changed[part] = record["changed"]
            done.shown |= dict(
                zip(part[np.isin(part, self.shown)].tolist(), record["shown"], strict=True)
            )
            self.display.step(len(part), int((~done.broken[part]).sum()))
        done.skipped = len(rows) - done.attacked
        return done

    def _halved(
        self, label: str, attack: Callable[..., object], threat: Threat, rows: np.ndarray, seed: int
    ) -> Record:
        """A batch; or, where it does not fit in memory, its halves one after the other."""
        try:
            return self._batch(label, attack, threat, rows, seed)
        except (RuntimeError, MemoryError) as error:
            if len(rows) == 1 or not out_of_memory(error):
                raise
        if self.place.type == "cuda":
            torch.cuda.empty_cache()
        middle = len(rows) // 2
        parts = (rows[:middle], rows[middle:])
        halves = [
            self._halved(label, attack, threat, part, seed_of_text(f"{seed}|{i}"))
            for i, part in enumerate(parts)
        ]
        joined = {key: np.concatenate([half[key] for half in halves]) for key in halves[0]}
        return joined | {"counts": halves[0]["counts"] + halves[1]["counts"]}

    def _batch(
        self, label: str, attack: Callable[..., object], threat: Threat, rows: np.ndarray, seed: int
    ) -> Record:
        x, y = self.pick(rows)
        box = {"low": self.low, "high": self.high, "shape": self.shape}
        guard = Guard(self.searched, **box, strict=False, budget=self.budget)
        if callable(reseed := getattr(attack, "reseed", None)):
            reseed(seed)
        stamp = _stamp(self.model)
        with freeze.frozen(self.model, "eval"):
            found = attack(guard, x.clone(), y.clone())
        if _stamp(self.model) != stamp:
            raise ValueError(
                f"attack {label!r} changed the model's weights: what was measured is another model"
            )
        verdict = judge(self.model, threat, found, x, y, who=label)
        verdict = self._close(label, attack, guard, threat, verdict, x, y)
        shown = torch.from_numpy(np.flatnonzero(np.isin(rows, self.shown))).to(self.place)
        moved = (verdict.point != x).flatten(1).cpu().numpy() if threat.binary else None
        return {
            "prediction": verdict.prediction.cpu().numpy(),
            "allowed": verdict.allowed.cpu().numpy(),
            "counts": np.array([guard.forwards, guard.backwards, guard.strays]),
            "shown": verdict.point[shown].cpu().numpy(),
            **_score(self.model, verdict.point, self.classes),
            **({} if moved is None else {"changed": np.packbits(moved, axis=1)}),
        }

    def _close(
        self,
        label: str,
        attack: Callable[..., object],
        guard: Guard,
        threat: Threat,
        verdict: Judgement,
        x: Tensor,
        y: Tensor,
    ) -> Judgement:
        """After a search in lower precision, what it nearly broke is searched in float32 again."""
        if getattr(attack, "precision", "float32") == "float32":
            return verdict
        near = verdict.lead < CLOSE * lead(logits(self.model, x), y)
        rows = (near & verdict.allowed & ~verdict.broken(y)).nonzero()[:, 0]
        if len(rows) == 0:
            return verdict
        finer = copy.copy(attack)
        finer.precision = "float32"  # type: ignore[attr-defined]
        some, own = x[rows], y[rows]
        with freeze.frozen(self.model, "eval"):
            found = finer(guard, some.clone(), own.clone())
        again = judge(self.model, threat, found, some, own, who=label)
        won = again.broken(own).nonzero()[:, 0]
        return verdict.with_rows(rows[won], Judgement(*(t[won] for t in again)))


def _score(model: Model, x: Tensor, classes: int | None) -> Record:
    """The logit of class 1 minus that of class 0 `(b,)`, where there are no other classes."""
    if classes != 2:
        return {}
    z = logits(model, x).double()
    return {"score": (z[:, 1] - z[:, 0]).cpu().numpy()}


def key_of(label: str, threat: Threat) -> str:
    """An attack at a radius, in words.

    >>> from sparring.threats import Linf
    >>> key_of("FGSM", Linf(0.1))
    'FGSM · Linf 0.1'
    """
    eps = threat.eps
    return f"{label} · {type(threat).__name__}" + ("" if eps is None else f" {eps:.4g}")


def _stamp(model: Model) -> list[tuple[int, int]]:
    """Changes when a parameter is written to or replaced."""
    return (
        [(p.data_ptr(), p._version) for p in model.parameters()]
        if isinstance(model, nn.Module)
        else []
    )
