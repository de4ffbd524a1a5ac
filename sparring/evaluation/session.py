"""Run attacks over all samples in batches: a clean pass, then one attack after the other."""

from __future__ import annotations

import copy
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..batch import Batch, Model
from ..data import Split
from ..introspect import freeze
from ..introspect.folded_model import CHECKED_ROWS, folded_model
from ..introspect.predict import logits, predict
from ..runtime import distributed, exact_float32
from ..runtime.allocator import out_of_memory, retry_smaller_batch
from ..runtime.compiled import CompiledModel, compile_sizes
from ..runtime.fractions import with_radius
from ..runtime.identity import modules_of, tensors_hash
from ..runtime.progress import EvaluationProgress
from ..runtime.seeding import seed_of_text, seeded
from ..runtime.torch_private import tensor_version
from ..threats.base import Threat, on_rows
from .budget import Budget, BudgetSpent
from .cache import BatchCache, Record
from .guard import Guard, check_labels
from .judge import Judgement, finite_margin, judge, two_class_score
from .protocol import EvaluationProtocol
from .radii import Norm
from .worst_points import WorstPoints

FULL = "out of memory"  # in place of a record, from a process whose memory ran out
NEAR_MISS = 0.1  # a margin that fell below this share of the clean one
RunBatch = Callable[[np.ndarray, int], Record]
RunAttack = Callable[..., object]
RunAgain = Callable[[RunAttack, Tensor], Judgement]
T = TypeVar("T")


@dataclass
class AttackOutcome:
    """Hold the outcome of one attack at one radius on all n samples.

    Arguments:
        pred: `(n,)` at the judged points; the clean one where the attack was not run.
        is_adversarial: `(n,)` the attack returned an allowed point that the model gets wrong.
        counts: samples passed forward, passed backward, and queried outside the box.
        access: what the attack needs, as in `suites.Entry`.
        skipped: samples that a spent budget left out.
        score: `(n,)` of two classes, at the judged points; the clean one where it was not run.
        changed: `(n, ⌈d/8⌉)` packed bits, the features that a binary threat changed; else None.
        margin: `(n,)` at the judged points; −inf where the attack was not run, NaN for logits that
            are not finite.
    """

    label: str
    pred: np.ndarray
    is_adversarial: np.ndarray
    attacked: int
    seconds: float = 0.0
    infeasible: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=np.int64))
    access: str = "white"
    skipped: int = 0
    score: np.ndarray = field(default_factory=lambda: np.zeros(0))
    changed: np.ndarray | None = None
    margin: np.ndarray = field(default_factory=lambda: np.zeros(0))


class AttackRunner:
    """Run a model over the samples, clean and under attacks, and keep finished batches.

    Arguments:
        batch_size: the one that the caller chose, where memory made the protocol's smaller.

    Attributes:
        clean_pred, correct_clean: `(n,)` predictions without attack, and where they are correct.
        classes, x_min, x_max: k, and the range of the inputs; all filled by `clean_pass`.
        clean_score: `(n,)` of two classes, the logit of class 1 minus that of class 0; else NaN.
        worst: the worst points of samples.
        cached_seconds: time that cached batches took when they were run.
        checked: number of samples that each symptom was measured on, by its name.
    """

    def __init__(
        self,
        model: Model,
        rows: Split,
        threats: Sequence[Threat],
        protocol: EvaluationProtocol,
        *,
        device: torch.device,
        cache: BatchCache,
        display: EvaluationProgress,
        batch_size: int | None = None,
    ) -> None:
        self.model, self.rows, self.protocol, self.device = model, rows, protocol, device
        self.first_batch_size = protocol.batch_size if batch_size is None else batch_size
        self.budget = Budget(seconds=protocol.seconds, queries=protocol.queries)
        self.batch_size = size = protocol.batch_size
        compiled = protocol.compile
        self.attack_model = CompiledModel(model, compile_sizes(size, device)) if compiled else model
        self.threats, self.shape = threats, tuple(rows.x.shape[1:])
        self.low, self.high = threats[-1].low, threats[-1].high
        self.cache, self.display = cache, display
        self.y = rows.y.cpu().numpy()
        self.clean_pred = np.full(len(rows), -1)
        self.correct_clean = np.zeros(len(rows), dtype=bool)
        self.clean_score = np.full(len(rows), np.nan)
        self.classes, self.x_min, self.x_max, self.cached_seconds = 0, np.inf, -np.inf, 0.0
        self.checked, self.smallest_measured = dict[str, int](), size
        self.layouts: dict[nn.Parameter, Tensor] = {}  # of the weights, for all attack calls
        self.modules = modules_of(model)
        self.weights, self.buffers = self._weights_hash(), self._buffers_hash()

    def samples(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return `x (b, *d)` float32 and `y (b,)` of these rows, on the runner's device."""
        index = torch.from_numpy(rows).to(self.rows.x.device)
        return self.rows.float(index).to(self.device), self.rows.y[index].to(self.device)

    def index(self, rows: np.ndarray) -> Tensor:
        """Return these rows' numbers in the data as given `(b,)`, on the runner's device."""
        index = self.rows.index
        return index[torch.from_numpy(rows).to(index.device)].to(self.device)

    def measure(self, run: Callable[[int], T], seed: int, *, most: int | None = None) -> T:
        """Return `run(batch_size)` of this process alone, with draws from `seed`; at most `most` a
        batch, and half as many as long as memory runs out."""
        first = min(most or self.batch_size, self.batch_size)

        def once(batch_size: int) -> T:
            if batch_size < first:
                self.smallest_measured = min(self.smallest_measured, batch_size)
            with seeded(self.device, seed), distributed.alone():
                return run(batch_size)

        return retry_smaller_batch(once, first)

    def notes(self) -> list[str]:
        """Return remarks on this evaluation: batches that memory made smaller."""
        notes, size = [], self.protocol.batch_size
        if size < self.first_batch_size:
            notes.append(
                f"memory ran out at a batch size of {self.first_batch_size}: it was {size}, and "
                "the result is that of this size"
            )
        if self.smallest_measured < size:
            notes.append(
                f"memory ran out in a check or probe: its batch size was {self.smallest_measured}"
            )
        return notes

    def weights_changed(self) -> bool:
        """Return whether a weight differs from its value at the start, however it was written."""
        return self._weights_hash() != self.weights

    def buffers_changed(self) -> bool:
        """Return whether a buffer differs from its value at the start."""
        return self._buffers_hash() != self.buffers

    def _weights_hash(self) -> str:
        return tensors_hash(item for m in self.modules for item in m.named_parameters())

    def _buffers_hash(self) -> str:
        return tensors_hash(item for m in self.modules for item in m.named_buffers())

    def _batches(
        self, key: str, rows: np.ndarray, run: RunBatch, *, seed: str
    ) -> Iterator[tuple[np.ndarray, Record]]:
        """Yield the rows and the record of every batch, from the cache or from `run`.

        Processes that torchrun started divide the batches and share the records. Batches that a
        spent budget left out are missing.
        """
        size = self.batch_size
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        alone, failed, records = distributed.world() == 1, "", {}
        for number in range(distributed.rank(), len(batches), distributed.world()):
            batch_rows = batches[number]
            name = f"{key}-{number:05d}-{zlib.crc32(batch_rows.tobytes()):08x}"
            record = self.cache.get(name)
            if record is not None:
                self.cached_seconds += float(record["seconds"])
            else:
                # A seed per batch, not per pass: a resumed or distributed evaluation then draws
                # the same numbers as one process that runs through.
                batch_seed, started = seed_of_text(f"{seed}|{number}"), time.perf_counter()
                try:
                    with seeded(self.device, batch_seed), distributed.alone():
                        record = run(batch_rows, batch_seed)
                except BudgetSpent:
                    break
                except Exception as error:
                    # All processes must hear of it: the others wait for this one's records.
                    if alone or not out_of_memory(error):
                        raise
                    failed = str(error) or type(error).__name__
                    break
                record["seconds"] = np.array(time.perf_counter() - started)
                self.cache.put(name, record)
            if alone:
                yield batch_rows, record
            else:
                records[number] = record
        if not alone:
            if failed:
                records[-1 - distributed.rank()] = {FULL: np.array(failed)}
            for number, record in sorted(distributed.gather_dict(records).items()):
                if FULL in record:
                    raise MemoryError(str(record[FULL]))
                yield batches[number], record

    def clean_pass(self) -> None:
        """Predict all samples without attack; check every input, label and output."""
        guard = Guard(self.model, low=self.low, high=self.high, shape=self.shape)

        def run(rows: np.ndarray, seed: int) -> Record:
            x, y = self.samples(rows)
            for threat in self.threats:
                threat.check_samples(Batch(x, y, index=self.index(rows)))
            versions = _weight_versions(self.model)
            pred = predict(guard, x).cpu().numpy()
            if _weight_versions(self.model) != versions:
                raise ValueError("the model changes its own weights when it is called: freeze them")
            if rows[0] == 0:
                check_labels(self.rows.y, guard.classes or 0)
            return {
                "clean": pred,
                "range": np.array([x.min().item(), x.max().item()]),
                "k": np.array(guard.classes),
                **two_class_score(self.model, x, guard.classes),
            }

        self.display.begin("clean", len(self.y))
        for rows, record in self._batches("clean", np.arange(len(self.y)), run, seed="clean"):
            self.clean_pred[rows], self.classes = record["clean"], int(record["k"])
            self.x_min = min(self.x_min, record["range"][0])
            self.x_max = max(self.x_max, record["range"][1])
            self.correct_clean[rows] = self.clean_pred[rows] == self.y[rows]
            self.clean_score[rows] = record.get("score", np.nan)
            self.display.step(len(rows), int(self.correct_clean[rows].sum()))
        if self.weights_changed():
            self.cache.clear()
            raise ValueError("the model changes its own weights when it is called: freeze them")
        if not self.protocol.compile:
            few = np.arange(min(CHECKED_ROWS, len(self.y)))
            self.attack_model = folded_model(self.model, self.samples(few)[0])
        self.worst = WorstPoints(self.y, self.clean_pred, self.shape, self.protocol.keep)

    def attack(
        self,
        key: str,
        label: str,
        attack: RunAttack,
        threat: Threat,
        rows: np.ndarray,
        *,
        seed: str,
        norm: Norm,
        access: str = "white",
        spared: int = 0,
    ) -> AttackOutcome:
        """Run an attack on these rows, with draws from `seed`, and judge the points it returns;
        `spared` others are robust so far, and shown so. For a norm with a number keep the worst
        points."""
        wrong = len(self.y) - len(rows) - spared
        title = attack_title(label, threat, norm.name)
        self.display.begin(title, len(rows), wrong=wrong, right=spared)
        none, score = np.zeros(len(self.y), dtype=bool), self.clean_score.copy()
        outcome = AttackOutcome(label, self.clean_pred.copy(), none, 0, access=access, score=score)
        outcome.margin = np.full(len(self.y), -np.inf)
        if threat.binary:
            width = -(-int(np.prod(self.shape)) // 8)
            outcome.changed = np.zeros((len(self.y), width), dtype=np.uint8)
        run = partial(self._attack_batch, label, attack, threat, norm.number is not None)
        for part, record in self._batches(key, rows, run, seed=seed):
            pred, allowed = record["prediction"], record["allowed"]
            outcome.attacked += len(part)
            outcome.pred[part] = pred
            outcome.is_adversarial[part] = allowed & (pred != self.y[part])
            outcome.infeasible += int((~allowed).sum())
            outcome.counts += record["counts"]
            outcome.seconds += float(record["seconds"])
            outcome.score[part] = record.get("score", outcome.score[part])
            outcome.margin[part] = record["margin"]
            if outcome.changed is not None:
                outcome.changed[part] = record["changed"]
            if norm.number is not None:
                kept = part[record["kept"]]
                about = (outcome.pred[kept], outcome.is_adversarial[kept], outcome.margin[kept])
                self.worst.update(kept, record["points"], *about, norm.number)
            self.display.step(len(part), int((~outcome.is_adversarial[part]).sum()))
        if self.weights_changed():
            self.cache.clear()  # the finished batches of this attack are of another model
            raise ValueError(weights_message(label))
        outcome.skipped = len(rows) - outcome.attacked
        return outcome

    def _attack_batch(
        self,
        label: str,
        attack: RunAttack,
        threat: Threat,
        keeps: bool,
        rows: np.ndarray,
        seed: int,
    ) -> Record:
        """Attack one batch through the guard, then judge its points on the model itself."""
        x, y = self.samples(rows)
        box = {"low": self.low, "high": self.high, "shape": self.shape}
        guard = Guard(self.attack_model, **box, strict=False, budget=self.budget)
        if callable(reseed := getattr(attack, "reseed", None)):
            reseed(seed)
        versions = _weight_versions(self.model)

        def judged(attack: RunAttack, x: Tensor, y: Tensor) -> Judgement:
            with freeze.frozen(self.model, "eval"), freeze.kept_layouts(self.layouts):
                # clones: an attack that writes to its inputs must not move what it is judged by
                x_adv = attack(guard, x.clone(), y.clone())
            if _weight_versions(self.model) != versions:
                raise ValueError(weights_message(label))
            # Last and past the guard: not counted, not limited, and no attack can influence it.
            return judge(self.model, threat, x_adv, x, y, name=label)

        def again(attack: RunAttack, rows: Tensor) -> Judgement:
            with on_rows((attack, threat), rows, x[rows]):
                return judged(attack, x[rows], y[rows])

        with on_rows((attack, threat), self.index(rows), x):
            first = judged(attack, x, y)
            judgement = self._recheck_near_misses(again, attack, first, x, y)
        record = {
            "prediction": judgement.pred.cpu().numpy(),
            "allowed": judgement.allowed.cpu().numpy(),
            "margin": judgement.margin.cpu().numpy(),
            "counts": np.array([guard.forwards, guard.backwards, guard.outside]),
            **two_class_score(self.model, judgement.point, self.classes),
        }
        if keeps:
            kept = self.worst.wanted(rows, judgement.is_adversarial(y).cpu().numpy())
            points = judgement.point[torch.from_numpy(kept).to(self.device)]
            record |= {"kept": kept, "points": points.cpu().numpy()}
        if threat.binary:
            record["changed"] = np.packbits((judgement.point != x).flatten(1).cpu().numpy(), axis=1)
        return record

    def _recheck_near_misses(
        self, again: RunAgain, attack: RunAttack, first: Judgement, x: Tensor, y: Tensor
    ) -> Judgement:
        """Repeat the attack in true float32 where the margin fell below 10 % of the clean one."""
        lower = getattr(attack, "precision", "float32") != "float32"
        if not lower and not exact_float32.is_rounded(self.device):
            return first
        # An attack may stop before the boundary by the rounding of bfloat16 or TF32: without a
        # second attempt the robust accuracy would be too high.
        near = first.margin > NEAR_MISS * finite_margin(logits(self.model, x), y)
        rows = (near & first.allowed & ~first.is_adversarial(y)).nonzero()[:, 0]
        if len(rows) == 0:
            return first
        if lower:
            attack = copy.copy(attack)
            attack.precision = "float32"  # type: ignore[attr-defined]
        with exact_float32.exact_float32(self.device):
            second = again(attack, rows)
        # Only adversarial points replace the first ones: another failure may be further away.
        better = second.is_adversarial(y[rows]).nonzero()[:, 0]
        return first.with_rows(rows[better], Judgement(*(t[better] for t in second)))


def attack_title(label: str, threat: Threat, norm: str = "") -> str:
    """Return the line that the progress display shows for an attack; default of `norm`: the
    threat's class.

    >>> from sparring.threats import Linf
    >>> attack_title("FGSM", Linf(8 / 255))
    'FGSM · Linf 8/255'
    """
    return f"{label} · {with_radius(norm or type(threat).__name__, threat.eps)}"


def weights_message(label: str) -> str:
    """Return the message about an attack that left the model with other weights."""
    return (
        f"attack {label!r} changed the model's weights, so its result is not of your "
        "model: restore them in the attack"
    )


def _weight_versions(model: Model) -> list[tuple[int, int]]:
    """Return a list that differs after a parameter was written to or replaced."""
    parameters = model.parameters() if isinstance(model, nn.Module) else ()
    return [(p.data_ptr(), tensor_version(p)) for p in parameters]
