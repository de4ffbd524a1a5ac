"""Define the interface of attacks, and how they search a classifier: in rounds, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any, ClassVar, TypedDict, Unpack

import torch
from torch import Tensor

from ..batch import Batch, Model
from ..component import Component, arguments, require
from ..functional.geometry import broadcast_rows
from ..functional.losses import BY_NAME, margin
from ..introspect import freeze
from ..introspect.forward import attack_inputs, check_labels, check_outputs, is_approximate
from ..introspect.precision import settled_precision
from ..runtime import exact_float32
from ..threats.base import Threat
from .rows import Gain, higher, split_rows, value_and_grad, value_no_grad
from .usage import attack_usage, with_model

# To remove rows the host must read their number, and waits for all work queued on the GPU. Ten
# steps per wait hide it; rows searched in vain meanwhile cost less. A CPU has no such queue.
GPU_CONFIRM_PERIOD = 10


class Execution(TypedDict, total=False):
    """Keywords of every attack that set how it runs, each with its default.

    Arguments:
        mode: of the model's modules: `"eval"`, `"train"` (batch statistics; running ones
            untouched) or `"keep"`.
        precision: inside the model while searching, float32 where the device has no units for
            bfloat16; float32 confirms every success.
        channels_last: hand images to the model in that memory layout.
        seed: of the attack's generator; `reseed` starts it again.
    """

    mode: Annotated[str, "eval"]
    precision: Annotated[str, "float32"]
    channels_last: Annotated[bool, False]
    seed: Annotated[int, 0]


class Float32Execution(TypedDict, total=False):
    """Keywords of an attack that searches in float32 only, as in `Execution`."""

    mode: Annotated[str, "eval"]
    seed: Annotated[int, 0]


class Attack(Component):
    """Search for adversarial inputs: `x_adv = attack(model, x, y)`.

    An attack leaves the model as it was: weights, `.grad`, every module's own mode, batch-norm
    statistics. It draws from its own generator and never touches the global random state.
    """

    threat: Threat  # where it may go; each attack stores its own
    mode: str = "eval"
    seed: int = 0
    restarts: int = 1
    replays: int = 1  # how often a trainer uses each batch; more for `Free` only

    def __init__(self, **execution: Unpack[Execution]) -> None:
        """Check and store how the attack runs.

        Raises:
            TypeError: for a keyword that this attack does not take.
            ValueError: for a mode or precision that does not exist.
        """
        super().__init__()
        known = arguments(type(self)).items()
        values = {k: p.default for k, p in known if k in Execution.__annotations__}
        for key in execution:
            if key not in values:
                raise TypeError(f"{type(self).__name__} has no argument {key!r}")
        values |= execution
        for key, allowed in (("mode", freeze.MODES), ("precision", freeze.PRECISIONS)):
            value = values.get(key, next(iter(allowed)))
            require(value in allowed, key, value, "one of " + ", ".join(allowed))
        for key, value in values.items():
            setattr(self, key, value)

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__call__" in vars(cls):
            cls.__call__ = with_model(cls.__call__)  # type: ignore[method-assign]

    @classmethod
    def usage(cls, name: str, known: Mapping[str, Any], given: Any = None) -> str:
        """Return a call with a threat that fits, in our words for the keywords `given`."""
        return attack_usage(name, known, given or {}, getattr(cls, "norms", ()))

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        """Return adversarial inputs, detached, for `x (b, *d)` in the box and labels `y (b,)`."""
        raise NotImplementedError(f"{type(self).__name__} attacks in training only: it has no call")

    def num_rounds(self, active: ActiveSet) -> int:
        """Return how many rounds a search has; default: `restarts`."""
        return self.restarts

    def reseed(self, seed: int) -> None:
        """Restart the attack's generators at `seed`."""
        self._generators = {}
        self._current_seed = seed

    def generator(self, device: torch.device) -> torch.Generator:
        """Return this attack's generator on a device."""
        if not hasattr(self, "_generators"):
            self.reseed(self.seed)
        generators: dict[torch.device, torch.Generator] = self._generators
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(self._current_seed)
        return generators[device]


class Maximizer(Attack):
    """Maximize any gain over the threat's set: the attack that a trainer needs."""

    def maximize(self, f: Gain, batch: Batch) -> Tensor:
        """Return a z of the threat's set with a high `f(z)`, detached; the model comes frozen."""
        raise NotImplementedError


@contextmanager
def begin_call(
    model: Model, x: Tensor, y: Tensor, *, threat: Threat, mode: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Check the inputs of a call, and yield them as `attack_inputs` returns them; freeze the model,
    and leave `torch.inference_mode`, where nothing has a gradient."""
    kind = f"{type(model).__module__}.{type(model).__name__}"
    require(callable(model), "model", kind, "a module, or a function of a batch (b, *d)")
    inference = torch.is_inference_mode_enabled()
    with torch.inference_mode(False) if inference else nullcontext():
        x, y = attack_inputs(x, y, low=threat.low, high=threat.high)
        with freeze.frozen(model, mode):
            yield x, y


class ActiveSet:
    """Track the samples of a batch that a search has not broken yet; broken ones leave at once.

    Call `logits`, then `record` the points; a sample counts as broken only once float32 confirms
    it. On a GPU rows leave only after ten records per wait for the device. Where its float32 is
    rounded (TF32), a float32 search counts as one of lower precision. So does one whose points end
    elsewhere than the searched model sees: the model itself then confirms their ends.

    Arguments:
        threat: of the search, whose `searched` model it sees; default: the model itself.

    Attributes:
        batch, x, y: the `a` active rows, compact; their inputs `(a, *d)` and labels `(a,)`.
        rows: `(a,)` their row numbers in the whole batch.
        best: `(b, *d)` the confirmed point of a broken sample, else the point of highest value.
        best_value: `(b,)` that value.
        broken: `(b,)` confirmed wrong (targeted: right) in float32.
        lower_precision: float32 passes of the model itself confirm what the search sees; a search
            that approximates them sets it.
    """

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        threat: Threat | None = None,
        precision: str = "float32",
        channels_last: bool = False,
        targeted: bool = False,
        rank: Callable[[Tensor, Tensor], Tensor] = margin,
    ) -> None:
        self.targeted, self.rank = targeted, rank
        precision = settled_precision(precision, x.device)
        rounded = precision != "float32" or exact_float32.is_rounded(x.device)
        searched = model if threat is None else threat.searched(model)
        self._ends = None if threat is None or threat.ends_as_searched(x) else threat
        self.lower_precision = rounded or self._ends is not None or is_approximate(model)
        self.view_float32 = self.view = freeze.ModelView(searched)
        if precision != "float32" or channels_last:
            self.view = freeze.ModelView(searched, amp=precision, channels_last=channels_last)
        if self._ends is not None:
            self.view_float32 = freeze.ModelView(model)
        self.classes: int | None = None
        self.confirm_period = GPU_CONFIRM_PERIOD if x.is_cuda else 1
        self._x, self._y = x, y
        self.best, self.best_value = x.clone(), x.new_full((len(x),), -torch.inf)
        self.broken = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.restart()

    def __len__(self) -> int:
        return len(self.rows)

    def restart(self) -> int:
        """Begin a round on all samples that are not broken; return their number."""
        self.rows = (~self.broken).nonzero()[:, 0]
        self.batch = Batch(self._x[self.rows], self._y[self.rows], index=self.rows)
        self.x, self.y = self.batch.x, self.batch.y
        # each row's first point since the last confirmation that is adversarial, unconfirmed
        self._num_records, self._confirm_after = 0, self.confirm_period
        self._candidate = self.batch.x
        self._has_candidate = torch.zeros_like(self.rows, dtype=torch.bool)
        return len(self.rows)

    def is_adversarial(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return where the adversary has its goal `(a,)`: another class than y or, as in judging,
        none; targeted, y."""
        top, pred = logits.max(1)
        known = top.isfinite()  # as `has_class`, in the same pass
        return known & (pred == y) if self.targeted else ~known | (pred != y)

    def ends_adversarial(self, z: Tensor, rows: Tensor) -> Tensor:
        """Return where the adversary has its goal in float32 `(m,)`, at the ends of points
        `z (m, *d)` of these rows `(m,)` of the whole batch."""
        y = self._y[rows]
        if self._ends is not None:
            z = self._ends.discretize(z, Batch(self._x[rows], y, index=rows))
        return self.is_adversarial(self.logits_float32(z), y)

    def logits(self, z: Tensor) -> Tensor:
        """Compute logits `(a, k)` in the precision of the search, in the dtype of z.

        Raises:
            ValueError: for an output that is no logits, is NaN throughout, or lacks a label.
        """
        return self._checked(self.view(z), z)

    def _checked(self, logits: Any, z: Tensor) -> Tensor:
        if self.classes is None:  # once: the checks wait for the device
            self.classes = check_outputs(logits, len(z))
            check_labels(self._y, self.classes, least=-1)
            # at x too: a search may well end where a good model returns NaN
            if bool(logits.isnan().all()) and bool(value_no_grad(self.view, self._x).isnan().all()):
                raise ValueError("the model's logits are NaN for every sample: there is no class")
        return logits if logits.dtype == z.dtype else logits.to(z.dtype)

    def logits_float32(self, z: Tensor) -> Tensor:
        """Compute logits `(a, k)` in the model's own precision, unrounded, without gradient."""
        with exact_float32.exact_float32(z.device):
            return value_no_grad(lambda z: self._checked(self.view_float32(z), z), z)

    def logits_no_grad(self, z: Tensor) -> Tensor:
        """Compute logits `(a, k)` in the precision of the search, without gradient."""
        return value_no_grad(self.logits, z)

    def confirmed(self, rows: Tensor, z: Tensor) -> Tensor:
        """Return which rows of a mask `(a,)`, seen adversarial at z, are so in float32 too."""
        return self._confirmed(rows, z, rows.nonzero()[:, 0]) if self.lower_precision else rows

    def _confirmed(self, rows: Tensor, z: Tensor, numbers: Tensor) -> Tensor:
        """Return `confirmed` of the rows that have these numbers `(m,)`."""
        if len(numbers) == 0:
            return rows
        wrong = self.ends_adversarial(z[numbers], self.rows[numbers])
        return rows.index_put((numbers,), wrong)

    def value_and_grad(
        self, f: Callable[[Tensor], Tensor], z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute `f(logits of z)` `(a,)`, its gradient in z, and the logits, all detached.

        Entries of the gradient that are not finite become 0.

        Raises:
            ValueError: if the model's output has no gradient.
        """
        logits: list[Tensor] = []

        def gain(z: Tensor) -> Tensor:
            logits.append(self.logits(z))
            return f(logits[0])

        value, grad = value_and_grad(gain, z)
        # one NaN would spread to every later point of its row, and by a norm to all coordinates
        return value, grad.nan_to_num(0.0, 0.0, 0.0), logits[0].detach()

    def record(self, z: Tensor, logits: Tensor, value: Tensor | None = None) -> Tensor | None:
        """Record feasible points `z (a, *d)` of the active rows, with their logits `(a, k)`.

        Arguments:
            value: `(a,)` ranks points that are not adversarial; default: `rank(logits, y)`, its
                negative if targeted.

        Returns:
            The numbers `(m,)` of the rows that stay, or None if all do: for the caller's tensors.
        """
        logits = logits.detach()
        if value is None:
            value = self.rank(logits, self.y) * (-1 if self.targeted else 1)
        value = value.detach()
        best = higher(self.best[self.rows], self.best_value[self.rows], z, value)
        self.best[self.rows], self.best_value[self.rows] = best
        adversarial = self.is_adversarial(logits, self.y)
        self._num_records += 1
        if self.confirm_period == 1 and not adversarial.any():
            return None  # on a CPU, which does not wait
        first = adversarial & ~self._has_candidate
        self._candidate = torch.where(broadcast_rows(first, z), z, self._candidate)
        self._has_candidate = self._has_candidate | adversarial
        due = self.confirm_period == 1 or self._num_records >= self._confirm_after
        return self.confirm() if due else None

    def confirm(self) -> Tensor | None:
        """Remove the rows whose candidate is adversarial in float32; return as `record`."""
        self._confirm_after = self._num_records + self.confirm_period
        gone, keep = split_rows(self._has_candidate)
        if len(gone) == 0:
            return None
        # bfloat16 keeps 8 bits of a logit, so its arg max of two near ties is often wrong.
        # Without this check such rounding would count as a success of the attack.
        if self.lower_precision:
            gone, keep = split_rows(self._confirmed(self._has_candidate, self._candidate, gone))
            self._confirm_after += self.confirm_period  # the host has waited twice
        self._has_candidate = torch.zeros_like(self._has_candidate)
        if len(gone) == 0:
            return None
        self.best[self.rows[gone]] = self._candidate[gone]
        self.broken[self.rows[gone]] = True
        self.rows, self.batch = self.rows[keep], self.batch.take(keep)
        self.x, self.y = self.batch.x, self.batch.y
        self._candidate, self._has_candidate = self._candidate[keep], self._has_candidate[keep]
        return keep

    def finish(self) -> None:
        """End a round: confirm the candidates, and in lower precision check the best points too."""
        self.confirm()
        if self.lower_precision and len(self.rows):
            # rounding errs both ways: a point that is right in bfloat16 may be wrong in float32
            self.broken[self.rows] = self.ends_adversarial(self.best[self.rows], self.rows)


def run_restarts(
    attack: Attack,
    model: Model,
    x: Tensor,
    y: Tensor,
    search: Callable[[ActiveSet, int], None],
    *,
    skip_misclassified: bool = True,
) -> Tensor:
    """Run `search(active, round_index)` for all rounds 0, 1, …, or until every sample is broken;
    return the best points `(b, *d)`. `skip_misclassified` records x first, so that a search sees
    only samples that are right there.
    """
    rank = getattr(attack, "rank", margin)
    names = ("precision", "channels_last", "targeted")  # not every attack has all of them
    execution = {k: getattr(attack, k) for k in names if hasattr(attack, k)}
    free = not (execution.get("targeted") and attack.threat.by_class)
    require(free, "threat", attack.threat, "the same for all classes where y is a target")
    memory = freeze.channels_last(model, bool(execution.get("channels_last")))
    with begin_call(model, x, y, threat=attack.threat, mode=attack.mode) as (x, y), memory:
        if len(x) == 0:
            return x.clone()
        active = ActiveSet(model, x, y, threat=attack.threat, rank=rank, **execution)
        if skip_misclassified:
            active.record(x, active.logits_float32(x))
            active.finish()
        for round_index in range(attack.num_rounds(active)):
            if not active.restart():
                break
            search(active, round_index)
            active.finish()
        return attack.threat.discretize(active.best.detach(), Batch(x, y))


class Search(Attack):
    """Search a classifier in rounds; each round sees only samples that are not broken yet.

    A subclass writes `search`, which calls `active.logits` and records the points; and
    `num_rounds`, if its rounds are not its `restarts`.
    """

    precision: str
    channels_last: bool
    norms: ClassVar[tuple[float, ...]] = (torch.inf, 2, 1)

    def search(self, active: ActiveSet, round_index: int) -> None:
        """Run round number `round_index`, from 0, on the active rows."""
        raise NotImplementedError

    def rank(self, logits: Tensor, y: Tensor) -> Tensor:
        """Rank points that are not adversarial `(a,)`; default: by `loss`, else by the margin."""
        # x is ranked by this, and must not win over the search's points by another scale
        return BY_NAME.get(getattr(self, "loss", ""), margin)(logits, y)

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        return run_restarts(self, model, x, y, self.search)

    def require_ball(self, threat: Threat) -> Threat:
        """Return the threat; raise `ValueError` unless it is a ball of one of `norms`."""
        known = {torch.inf: "Linf", 2: "L2", 1: "L1", 0: "L0"}
        balls = " or ".join(known[p] for p in self.norms)
        ok = getattr(threat, "p", None) in self.norms
        require(ok, "threat", threat, f"a ball of {balls} for {type(self).__name__}")
        return threat
