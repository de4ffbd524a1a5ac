"""AutoAttack's class and calls, answered by our evaluation: `from sparring.compat.autoattack import
AutoAttack`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import attacks, evaluation
from ..component import checked, did_you_mean, require
from ..evaluation.suites import LP, SUITES, Entry, Suite
from ..introspect import predict
from ..results.result import Result
from ..runtime.output import write_line

VERSIONS = ("standard", "plus", "rand", "custom")
NORMS = ("Linf", "L2", "L1")
ATTACKS = ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t")
SHIPPED = {"standard": "autoattack", "plus": "autoattack-plus", "rand": "autoattack-rand"}


@dataclass
class Budget:
    """Hold the budget of one of their attacks, to be changed as `adversary.apgd.n_restarts = 2`."""

    n_restarts: int = 1
    n_iter: int = 100
    eot_iter: int = 1
    rho: float = 0.75
    n_target_classes: int = 9
    n_queries: int = 5000
    use_largereps: bool = False


class AutoAttack:
    """Run AutoAttack: `AutoAttack(model, eps=8/255).run_standard_evaluation(x, y)`.

    Arguments:
        model: inputs in [0, 1] to logits.
        seed: default: 0.
        attacks_to_run: for version `"custom"`, of `ATTACKS`.
        device: default: CUDA, or where there is none the model's.
        log_path: a file to which what is printed is appended.

    Attributes:
        apgd, apgd_targeted, fab, square: budgets of the attacks.
        result: `Result` of the last evaluation, with its verdict.

    Differs: version `"standard"` ends with second draws on the near misses, as our suite
    `"autoattack"`; every point is judged outside of the attacks; seed None is 0, not the time; no
    TensorFlow. Checks of the defence are those of our verdict.
    """

    @checked
    def __init__(
        self,
        model: Any,
        norm: str = "Linf",
        eps: float = 0.3,
        seed: int | None = None,
        verbose: bool = True,
        attacks_to_run: Sequence[str] = [],
        version: str = "standard",
        is_tf_model: bool = False,
        device: Any = "cuda",
        log_path: str | Path | None = None,
    ) -> None:
        if norm not in NORMS:
            raise ValueError(did_you_mean("norm", norm, NORMS))
        if version not in VERSIONS:
            raise ValueError(did_you_mean("version", version, VERSIONS))
        require(not is_tf_model, "is_tf_model", is_tf_model, "False: convert the model to ONNX")
        custom = version == "custom"
        allowed = "[] unless version = 'custom'"
        require(custom or not attacks_to_run, "attacks_to_run", list(attacks_to_run), allowed)
        self.model, self.norm, self.epsilon, self.seed = model, norm, eps, seed
        self.verbose, self.version, self.log_path = verbose, version, log_path
        self.device = _device(model, device)
        self.attacks_to_run = list(attacks_to_run)
        self.apgd, self.fab = Budget(n_restarts=5), Budget(n_restarts=5)
        self.apgd_targeted, self.square = Budget(), Budget()
        self.result: Result | None = None
        if not custom:
            self.set_version(version)

    def set_version(self, version: str = "standard") -> None:
        """Set attacks and budgets as published.

        Raises:
            ValueError: for another version than `"standard"`, `"plus"` or `"rand"`.
        """
        if version not in SHIPPED:
            raise ValueError(did_you_mean("version", version, SHIPPED))
        self.version = version
        self.attacks_to_run, budgets = published(version, self.norm)
        for name, budget in budgets.items():
            setattr(self, name, budget)

    @property
    def suite(self) -> Suite:
        """Return the suite that an evaluation runs: ours of this version, if nothing was changed
        and the norm is not L1."""
        if self.version in SHIPPED and self.norm != "L1":
            names, budgets = published(self.version, self.norm)
            if names == self.attacks_to_run and budgets == self.budgets:
                return SUITES[SHIPPED[self.version]]
        for name in self.attacks_to_run:
            if name not in ATTACKS:
                raise ValueError(did_you_mean("attacks_to_run", name, ATTACKS))
        require(self.attacks_to_run, "attacks_to_run", [], "of " + ", ".join(ATTACKS))
        entries = [self._entry(name) for name in dict.fromkeys(self.attacks_to_run)]
        return Suite("autoattack-custom", 1, entries, cascade=True)

    @property
    def budgets(self) -> dict[str, Budget]:
        """Return the budgets by name."""
        names = ("apgd", "fab", "square", "apgd_targeted")
        return {name: getattr(self, name) for name in names}

    def run_standard_evaluation(
        self,
        x_orig: Tensor,
        y_orig: Tensor,
        bs: int = 250,
        return_labels: bool = False,
        state_path: str | Path | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return adversarial points `(n, *d)`, x where nothing breaks it; print accuracies.

        Arguments:
            bs: samples per batch.
            return_labels: return the predictions there `(n,)` too.
            state_path: a `.json` file, from which a killed evaluation goes on; it ends as the
                result.
        """
        self._write(f"using {self.version} version including {', '.join(self.attacks_to_run)}.")
        result = self._evaluate(x_orig, y_orig, bs, self.suite, state_path)
        x_adv, y_adv = self._points(result, x_orig)
        self._report(result, x_adv, x_orig)
        return (x_adv, y_adv) if return_labels else x_adv

    def run_standard_evaluation_individual(
        self, x_orig: Tensor, y_orig: Tensor, bs: int = 250, return_labels: bool = False
    ) -> dict[str, Any]:
        """Return what each attack alone returns, by its name; every one sees all samples."""
        points: dict[str, Any] = {}
        for name in self.attacks_to_run:
            one = Suite(f"autoattack-{name}", 1, [self._entry(name)])
            result = self._evaluate(x_orig, y_orig, bs, one, None)
            x_adv, y_adv = self._points(result, x_orig)
            points[name] = (x_adv, y_adv) if return_labels else x_adv
            share, seconds = result.robust.accuracy, result.seconds
            self._write(f"robust accuracy by {name.upper()} {share:.2%} ({seconds:.1f} s)")
        return points

    def clean_accuracy(self, x_orig: Tensor, y_orig: Tensor, bs: int = 250) -> float:
        """Return the accuracy on these inputs."""
        model = self._model()
        parts = zip(x_orig.split(bs), y_orig.split(bs), strict=True)
        right = sum(
            int((predict.predict(model, x.to(self.device)) == y.to(self.device)).sum())
            for x, y in parts
        )
        self._write(f"clean accuracy: {right / len(x_orig):.2%}")
        return right / len(x_orig)

    def _model(self) -> Any:
        return self.model.to(self.device) if isinstance(self.model, nn.Module) else self.model

    def _evaluate(
        self, x: Tensor, y: Tensor, bs: int, suite: Suite, state_path: str | Path | None
    ) -> Result:
        out = None if state_path is None else Path(state_path)
        ok = out is None or out.suffix == ".json"
        require(ok, "state_path", str(state_path), "the name of a .json file")
        run: dict[str, Any] = {
            "eps": self.epsilon,
            "batch_size": bs,
            "keep": "float32",
            "device": self.device,
        }
        self.result = evaluation.evaluate(
            self.model,
            (x.detach().cpu(), y.detach().cpu()),
            self.norm,
            suite,
            seed=self.seed or 0,
            out=out,
            progress=None if self.verbose else False,
            **run,
        )
        return self.result

    def _points(self, result: Result, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return theirs: the point that breaks a sample, else x, and the predictions there."""
        y, clean, pred = (
            torch.from_numpy(result.arrays[key]) for key in ("y", "clean_pred", "adv_pred")
        )
        broken = ((clean == y) & (pred != y)).nonzero()[:, 0]
        x_adv = x.detach().clone()
        x_adv[broken.to(x.device)] = torch.from_numpy(result.x_adv)[broken].to(x)
        return x_adv, torch.where(clean == y, pred, clean).to(x.device)

    def _report(self, result: Result, x_adv: Tensor, x: Tensor) -> None:
        self._write(f"initial accuracy: {result.clean.accuracy:.2%}")
        total = 0.0
        for row in result.attacks:
            total += row.seconds
            self._write(
                f"robust accuracy after {row.name}: {row.accuracy:.2%} (total time {total:.1f} s)"
            )
        order = {"Linf": torch.inf, "L2": 2, "L1": 1}[self.norm]
        size = torch.linalg.vector_norm((x_adv - x).flatten(1), ord=order, dim=1).max()
        self._write(f"max {self.norm} perturbation: {size.item():.5f}")
        self._write(f"robust accuracy: {result.robust.accuracy:.2%}")
        self._write(f"verdict: {result.verdict}, {result.reason}")

    def _write(self, text: str) -> None:
        if self.verbose:
            write_line(text)
        if self.log_path is not None:
            with Path(self.log_path).open("a", encoding="utf-8") as log:
                log.write(text + "\n")

    def _entry(self, name: str) -> Entry:
        """Return one of their attacks, with its present budget."""
        apgd, targeted, fab, square = self.apgd, self.apgd_targeted, self.fab, self.square
        if name in ("apgd-ce", "apgd-dlr"):
            run: dict[str, Any] = {**_apgd(apgd), "loss": name.removeprefix("apgd-")}
            return Entry(name.upper(), lambda t: attacks.APGD(t, **run), norms=LP)
        if name == "apgd-t":
            run: dict[str, Any] = {**_apgd(targeted), "targets": targeted.n_target_classes}
            return Entry("APGD-T", lambda t: attacks.APGD(t, loss="dlr-targeted", **run), norms=LP)
        if name in ("fab", "fab-t"):
            rounds: dict[str, Any] = {
                "steps": fab.n_iter,
                "restarts": 1 if name == "fab-t" else fab.n_restarts,
            }
            targets = fab.n_target_classes if name == "fab-t" else 0
            make = lambda t: attacks.FAB(t, targets=targets, **rounds)  # noqa: E731
            return Entry(name.upper(), make, norms=LP)
        run: dict[str, Any] = {
            "queries": square.n_queries,
            "restarts": square.n_restarts,
            "plan": 10_000,
        }
        return Entry("Square", lambda t: attacks.Square(t, **run), "black", LP)


def published(version: str, norm: str) -> tuple[list[str], dict[str, Budget]]:
    """Return the attacks of a version, and their budgets."""
    one, five = Budget(), Budget(n_restarts=5)
    budgets = {"apgd": one, "apgd_targeted": one, "fab": one, "square": one}
    names = ["apgd-ce", "apgd-t", "fab-t", "square"]
    if version == "plus":
        names, budgets = [str(name) for name in ATTACKS], budgets | {"apgd": five, "fab": five}
    elif version == "rand":
        names, budgets = ["apgd-ce", "apgd-dlr"], budgets | {"apgd": Budget(eot_iter=20)}
    elif norm == "L1":
        budgets["apgd"] = Budget(n_restarts=5, use_largereps=True)
        budgets["apgd_targeted"] = Budget(n_target_classes=5, use_largereps=True)
    return names, {name: replace(budget) for name, budget in budgets.items()}


def _apgd(budget: Budget) -> dict[str, Any]:
    run: dict[str, Any] = {
        "steps": budget.n_iter,
        "restarts": budget.n_restarts,
        "eot": budget.eot_iter,
    }
    return run | {"rho": budget.rho, "largereps": budget.use_largereps}


def _device(model: Any, device: Any) -> torch.device:
    """Return the device, or the model's where CUDA, their default, is not at hand."""
    device = torch.device(device)
    if device.type != "cuda" or torch.cuda.is_available():
        return device
    weight = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if weight is None else weight.device
