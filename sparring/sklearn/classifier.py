"""A classifier of scikit-learn's kind that is trained against an adversary."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    validate_data,
)
from torch import Tensor, nn

from .. import certification, evaluation
from ..component import require
from ..config.registry import complete, make, maker
from ..data import Source, Split
from ..results.result import Result
from ..runtime.text import printable
from ..threats.base import Threat
from . import saved
from .recipe import judged_threat, radius, recipe_of, threat_table
from .rows import merged_rows, source_of
from .scaling import Scaled, Scaling, box
from .training import trained

Piece = str | dict[str, Any]


class RobustClassifier(ClassifierMixin, BaseEstimator):
    """Classify by a network that is trained against an adversary, as scikit-learn's estimators do.

    `eps` counts in the units of `scaling`: for "standard" in deviations of each feature, for
    "range" in shares of its range, for None in those of X.

    Arguments:
        eps: radius of the adversary, a number or "8/255"; 0 trains without one, and None is for
            a threat without radius.
        threat: where the adversary may go, by name or as a table of a recipe.
        method: of training, by name or as a table, as `{"name": "TRADES", "beta": 3}`.
        hidden: widths of the layers of the default network.
        network: another one, by name (`sparring list models`), as a table, or a function of
            `shape` and `classes`.
        shape: of one sample, as `(1, 8, 8)` for pictures in flat rows; default: a vector.
        scaling: "standard", "range", or None for features in units of their own, as pixels.
        bounds: (low, high) of valid features for `scaling=None`; default: none that bind. With
            "range" the adversary stays in the range of the training rows.
        epochs, batch_size, lr: of AdamW, with a one-cycle schedule.
        steps: of PGD in training; 0 trains without an adversary.
        training_attack: another attack for training and validation, by name or as a table.
        validation_fraction: share of the rows that chooses the best epoch by its accuracy under
            attack, or the training rows where that is fewer than 100; 0 keeps the last epoch.
        random_state: seed of weights, order, held-out rows and draws.
        device: default: CUDA if available, else the CPU.
        verbose: show the epochs.

    Attributes:
        classes_: labels, in the order of the outputs' columns.
        n_features_in_, feature_names_in_: of X; names for a table of strings alone.
        network_: from scaled features `(b, *shape)` to logits `(b, k)`, on the CPU.
        epochs_: a record per epoch: loss, accuracies, seconds.
        n_iter_: number of epochs.
        recipe_: of the training.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RobustClassifier(eps=0.1, epochs=20, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        *,
        eps: float | str | None = 0.1,
        threat: Piece = "Linf",
        method: Piece = "TRADES",
        hidden: tuple[int, ...] = (64, 64),
        network: Piece | Callable[..., nn.Module] | None = None,
        shape: tuple[int, ...] | None = None,
        scaling: str | None = "standard",
        bounds: tuple[float, float] | None = None,
        epochs: int = 30,
        batch_size: int = 64,
        lr: float = 0.01,
        steps: int = 7,
        training_attack: Piece | None = None,
        validation_fraction: float = 0.1,
        random_state: Any = None,
        device: str | None = None,
        verbose: bool = False,
    ) -> None:
        self.eps = eps
        self.threat = threat
        self.method = method
        self.hidden = hidden
        self.network = network
        self.shape = shape
        self.scaling = scaling
        self.bounds = bounds
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.steps = steps
        self.training_attack = training_attack
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on rows X (n, d) with labels y (n,), each with its weight ≥ 0.

        A weight of 2 counts as the row twice; the order of the rows does not matter.

        Raises:
            ValueError: for rows, labels or arguments that do not fit.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        self.classes_, numbers = np.unique(y[weight > 0], return_inverse=True)
        count = len(self.classes_)
        if count < 2:
            kinds = f"{count} class{'' if count == 1 else 'es'}"
            raise ValueError(
                f"y has {kinds} with positive weight, and a classifier needs at least 2 classes"
            )
        rows = merged_rows(X[weight > 0], numbers.astype(np.int64), weight[weight > 0])
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.scaling_ = Scaling.fit(self.scaling, rows.x, rows.weight, self.shape)
        z, eps = self.scaling_.apply(rows.x).astype(np.float32), radius(self.eps)
        self.bounds_ = box(self.scaling, self.bounds, z, eps=eps)
        self.recipe_ = recipe_of(
            self.get_params(deep=False),
            name=type(self).__name__,
            bounds=self.bounds_,
            shape=self.scaling_.shape,
            classes=count,
            seed=seed,
        )
        names = [printable(label) for label in self.classes_]
        share = float(self.validation_fraction)
        source = source_of(rows, self.scaling_, names, self.bounds_, share=share, seed=seed)
        make_network = self.network if callable(self.network) else None
        self.network_, self.epochs_, self.best_ = trained(
            self.recipe_, source, make_network, verbose=self.verbose
        )
        self.n_iter_ = len(self.epochs_)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return logits `(n, k)`; of two classes the second's minus the first's, `(n,)`."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict(self, X: Any) -> np.ndarray:
        """Return the labels of rows X (n, d)."""
        logits = self._logits(X)
        if len(self.classes_) == 2:
            return self.classes_[(logits[:, 1] - logits[:, 0] > 0).astype(int)]
        return self.classes_[logits.argmax(1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities `(n, k)`, columns in the order of `classes_`."""
        logits = torch.from_numpy(self._logits(X))
        return logits.softmax(1).numpy()

    def attack(
        self, X: Any, y: Any = None, *, name: str = "PGD", eps: Any = None, **options: Any
    ) -> np.ndarray:
        """Return adversarial rows `(n, d)` in the units of X, without judging them.

        Arguments:
            y: labels; default: the predicted ones.
            name: of the attack (`sparring list attacks`).
            eps: radius in the units of `scaling`; default: that of the training.
            options: of the attack, as `steps=50, seed=1`.

        Raises:
            ValueError: for labels, names or numbers that do not fit.
        """
        x, z, labels = self._rows(X, y)
        threat = self._threat(eps, z)
        adversary = maker("attack", name, "attack")(threat, **options)
        with torch.random.fork_rng(devices=[]):
            z_adv = adversary(self.network_, z, labels)
        moved = self.scaling_.moved(x, z, z_adv)
        if self.bounds is None:
            return moved
        # the way in float32 may end beyond by rounding, as a row may have begun
        low, high = self.bounds_
        return moved.clip(np.minimum(x, low), np.maximum(x, high))

    def certify(
        self, X: Any, y: Any = None, *, eps: Any = None, method: str = "crown-ibp"
    ) -> np.ndarray:
        """Return for which rows it is proven that no point within eps changes the label `(n,)`.

        Arguments:
            y: labels; default: the predicted ones. A wrong prediction is never proven.
            eps: as for `attack`.
            method: "ibp", "crown-ibp" or "crown".

        Raises:
            ValueError: for a threat but Linf and L2, or a network that the method cannot read.
        """
        _, z, labels = self._rows(X, y)
        threat = self._threat(eps, z)
        return (
            certification.certify(self.network_, z, labels, threat=threat, method=method)
            .cpu()
            .numpy()
        )

    def evaluate(self, X: Any, y: Any, *, eps: Any = None, **options: Any) -> Result:
        """Attack rows with a suite, and return the result: accuracies, verdict, every attack.

        Arguments:
            eps: as for `attack`.
            options: of `sparring.evaluation.evaluate`, as `suite="autoattack", progress=False`.
        """
        _, z, labels = self._rows(X, y)
        threat = self._threat(eps, z)
        names = [printable(label) for label in self.classes_]
        rows = Split(z, labels)
        source = Source("rows", rows, rows, rows, names, bounds=(threat.low, threat.high))
        settings = {"progress": False, "name": type(self).__name__, **options}
        return evaluation.evaluate(self.network_, source, threat, **settings)

    def robust_score(self, X: Any, y: Any, *, eps: Any = None, suite: str = "quick") -> float:
        """Return the accuracy under a suite's attacks: an upper bound on the true one.

        As `scoring=RobustClassifier.robust_score` it chooses in scikit-learn's searches.
        """
        return self.evaluate(X, y, eps=eps, suite=suite).robust.accuracy

    def to_module(self) -> nn.Module:
        """Return a module from features `(b, d)` or `(b, *shape)`, as in X, to logits `(b, k)`.

        It has gradients; `sparring.evaluate` takes it from the classifier itself.
        """
        check_is_fitted(self)
        return Scaled(copy.deepcopy(self.network_), self.scaling_).eval()

    def to_run(self, folder: str | Path, X: Any = None, y: Any = None) -> Path:
        """Write a run folder without pickle; `from_run` reads it, and so do `sparring`'s commands.

        Arguments:
            X, y: test rows, which the folder keeps for its evaluation.

        Raises:
            FileExistsError: for a folder that holds a run.
            ValueError: for a network that a recipe cannot name, or X or y without the other.
        """
        check_is_fitted(self)
        # X alone would be labelled by the classifier, which is then right on all of it
        both = "given with X, or both left out"
        require((X is None) == (y is None), "y", "omitted" if y is None else "given", both)
        test = None if X is None else self._rows(X, y)[1:]
        return saved.write_run(self, Path(folder), test)

    @classmethod
    def from_run(cls, folder: str | Path) -> Self:
        """Return the fitted classifier that `to_run` wrote; the folder cannot run code.

        Raises:
            ValueError: for a damaged folder.
            FileNotFoundError: for one that `to_run` did not write.
        """
        return saved.read_run(cls, Path(folder))

    def _checked(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, reset=False)

    def _logits(self, X: Any) -> np.ndarray:
        """Return logits in float64, so that a row's do not depend on those beside it."""
        x = self._checked(X)
        network = copy.deepcopy(self.network_).double()
        with torch.no_grad():
            parts = torch.from_numpy(self.scaling_.apply(x)).split(1024)
            return torch.cat([network(part) for part in parts]).numpy()

    def _rows(self, X: Any, y: Any) -> tuple[np.ndarray, Tensor, Tensor]:
        """Return x (n, d), scaled `(n, *shape)`, and class numbers (n,)."""
        x = self._checked(X)
        labels = self.predict(X) if y is None else column_or_1d(y)
        require(len(labels) == len(x), "y", f"{len(labels)} labels", f"one per row, {len(x)}")
        unknown = labels[~np.isin(labels, self.classes_)].tolist()
        if unknown:
            known = ", ".join(map(repr, self.classes_.tolist()[:8]))
            raise ValueError(f"y has the label {unknown[0]!r}, and the classes are {known}")
        numbers = np.searchsorted(self.classes_, labels).astype(np.int64)
        return x, self.scaling_.tensor(x), torch.from_numpy(numbers)

    def _threat(self, eps: Any, z: Tensor) -> Threat:
        """Return the threat of a radius, in a box that holds the rows z."""
        eps = radius(self.eps if eps is None else eps)
        bounds = box(self.scaling, self.bounds, z.numpy(), eps=eps, before=self.bounds_)
        table = judged_threat(threat_table(self.threat, eps, bounds))
        return make("threat", complete("threat", table, "threat"), "threat")
