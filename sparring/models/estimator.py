"""Turn a fitted classifier of scikit-learn's kind into scores, one column per class."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..runtime.text import printable
from .base import ArrayFunction, kind_names

QUICK_ROWS = 4096  # of larger batches the rows take the time, and a forest may share them out
TINY = float(np.finfo("float32").tiny)
PAIRS = "decision_function_shape"  # the argument of SVC that asks for one score per pair
HANDING_ON = {"RFE", "RFECV", "SelfTrainingClassifier"}  # estimator_'s scores


def is_estimator(model: Any) -> bool:
    """Return whether an object scores arrays as scikit-learn's classifiers do."""
    return hasattr(model, "decision_function") or hasattr(model, "predict_proba")


def estimator_scores(model: Any, classes: int | Sequence[Any] | None) -> ArrayFunction:
    """Return a fitted classifier as a function from inputs to scores `(b, k)`, without gradient.

    Arguments:
        classes: their number; or their labels in the data's order; None: 0..k−1.

    Raises:
        ValueError: for a model that is not fitted, no classifier, or of other classes.
    """
    name = type(model).__name__
    labels = [*getattr(model, "classes_", ())]
    if not labels or any(getattr(label, "ndim", 0) for label in labels):
        problem = "gives several labels a sample" if labels else "has no classes_"
        raise ValueError(
            f"model = {name} {problem}: it must be a classifier of one label, and fitted"
        )
    order = _class_order(labels, classes)
    columns = [order.index(label) for label in labels]
    answer = _shifted(model)
    raw = answer is not None or (hasattr(model, "decision_function") and not _averages(model))
    pairs = raw and len(labels) > 2 and _scores_pairs(model)
    answer = answer or (model.decision_function if raw else _quick_forest(model))

    def scores(x: Any) -> Tensor:
        if not len(x):
            return torch.zeros(0, len(order))
        flat = x.reshape(len(x), -1).astype("float64")
        # fitted on a table with named columns it warns at each call: `check_features` compared them
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            z = torch.as_tensor(answer(flat))
        z = z[:, 0] if z.ndim == 2 and z.shape[1] == 1 else z
        z = torch.stack([torch.zeros_like(z), z], 1) if z.ndim == 1 else z
        z = votes(z, len(labels)) if pairs else z
        if z.shape[1] != len(labels):
            raise ValueError(f"the model gives {z.shape[1]} scores for {len(labels)} classes")
        z = z if raw else z.clamp_min(torch.finfo(torch.float32).tiny).log()
        if columns == list(range(len(order))):
            return z
        # a class that the model never saw gets the lowest score: it is never predicted
        wide = (z.amin(1, keepdim=True) - 1).repeat(1, len(order))
        wide[:, columns] = z
        return wide

    digest = f"{name} {_fingerprint(model)}"
    return ArrayFunction(scores, digest=digest, without_gradient=True)


def _quick_forest(model: Any) -> Callable[[Any], Any]:
    """Return `predict_proba`, for a forest without the work around its trees.

    A call of a forest of 100 trees takes 6 ms before it looks at a row; asking its trees takes
    0.3 ms. The first batch is answered both ways, and if a bit differs, the forest's own way stays.
    """
    forest = type(model).__module__ == "sklearn.ensemble._forest"
    parts = model.estimators_ if forest else ()
    trees: list[Any] = [part.tree_ for part in parts if hasattr(part, "tree_")]
    if not trees or len(trees) < len(parts):
        return model.predict_proba
    agree: list[bool] = []

    def proba(x: Any) -> Any:
        if len(x) > QUICK_ROWS or (agree and not agree[0]):
            return model.predict_proba(x)
        with np.errstate(over="ignore"):
            rows = x.astype("float32")
        # a tree checks nothing: of too few features it would read what lies behind the row
        if x.shape[1] != model.n_features_in_ or not np.isfinite(rows).all():
            return model.predict_proba(x)
        total = trees[0].predict(rows)
        for tree in trees[1:]:
            total = total + tree.predict(rows)
        quick = total / len(trees)
        if not agree:
            slow = model.predict_proba(x)
            agree.append(quick.shape == slow.shape and bool((quick == slow).all()))
            return slow
        return quick

    return proba


class ReorderedLogits(nn.Module):
    """Give the logits of a network the columns of other classes.

    Arguments:
        columns: of the network's outputs in the new ones.
        count: of the new ones; those without a column get the lowest logit.
    """

    def __init__(self, network: nn.Module, columns: Sequence[int], count: int) -> None:
        super().__init__()
        self.network, self.columns, self.count = network, list(columns), count

    def forward(self, x: Tensor) -> Tensor:
        z = self.network(x)
        wide = (z.amin(1, keepdim=True) - 1).repeat(1, self.count)
        return wide.index_copy(1, torch.tensor(self.columns, device=z.device), z)


def estimator_module(model: Any, classes: int | Sequence[Any] | None) -> nn.Module:
    """Return the module of a classifier that has one: inputs to logits `(b, k)`, with gradient.

    Arguments and errors as in `estimator_scores`.
    """
    network, labels = model.to_module(), [*model.classes_]
    by_number = classes is None or isinstance(classes, int)
    if by_number and not all(isinstance(v, int | np.integer) for v in labels):
        return network  # names without an order of the data's: that of the classifier
    order = _class_order(labels, classes)
    columns = [order.index(label) for label in labels]
    if columns == list(range(len(order))):
        return network
    return ReorderedLogits(network, columns, len(order))


def votes(z: Tensor, classes: int) -> Tensor:
    """Return a score per class `(b, k)` from one per pair i < j `(b, k(k−1)/2)`, positive for i.

    The score is the number of pairs won, plus less than 1/2 of confidence to order equal numbers.
    This is what SVC gives for decision_function_shape = "ovr".

    >>> votes(torch.tensor([[2.0, -1.0, -3.0]]), 3).argmax(1)
    tensor([2])
    """
    pairs = list(combinations(range(classes), 2))
    if z.shape[1] != len(pairs):
        raise ValueError(f"the model gives {z.shape[1]} scores for {len(pairs)} pairs of classes")
    won, confidence = z.new_zeros(2, len(z), classes)
    for column, (first, second) in zip(z.unbind(1), pairs, strict=True):
        won[:, first] += column >= 0
        won[:, second] += column < 0
        confidence[:, first] += column
        confidence[:, second] -= column
    return won + confidence / (3 * (confidence.abs() + 1))


def _scores_pairs(model: Any) -> bool:
    """Return whether a classifier, or the one whose scores it hands on, scores pairs of classes.

    One inside that only adds to its scores, as in OneVsRestClassifier, says nothing about them.
    """
    return getattr(_chain(model)[-1], PAIRS, None) == "ovo"


def _averages(model: Any) -> bool:
    """Return whether a classifier predicts from the mean of probabilities: bagging does, where its
    parts have them, though it may have a mean of other scores too."""
    chain = _chain(model)
    bags = [k for k, part in enumerate(chain) if "BaggingClassifier" in kind_names(part)]
    return bool(bags) and hasattr(chain[bags[0] + 1], "predict_proba")


def _chain(model: Any) -> list[Any]:
    """Return a classifier, the one inside whose scores it hands on, the one inside that, and so
    on."""
    chain = [model]
    while True:
        model, kinds = chain[-1], kind_names(chain[-1])
        if "FrozenEstimator" in kinds:  # it has every attribute of the one inside, and not its kind
            chain.append(model.estimator)
        elif hasattr(model, "best_estimator_"):  # of a search
            chain.append(model.best_estimator_)
        elif hasattr(model, "final_estimator_"):  # of a stack
            chain.append(model.final_estimator_)
        elif "BaggingClassifier" in kinds:  # `estimator_` is not fitted
            chain.append(model.estimators_[0])
        elif kinds & HANDING_ON and hasattr(model, "estimator_"):
            chain.append(model.estimator_)
        elif "Pipeline" in kinds:
            chain.append(model.steps[-1][1])
        else:
            return chain


def _shifted(model: Any) -> Callable[[Any], Any] | None:
    """Return the score of class 1 of two, above 0 where `predict` says it, for a classifier whose
    `predict` compares its scores with another threshold than 0 or 1/2; else None."""
    last = _chain(model)[-1]
    kinds = set() if _averages(model) else kind_names(last)
    if "OneVsOneClassifier" in kinds and len(last.classes_) == 2:
        of_votes = not hasattr(last.estimators_[0], "decision_function")
        return (lambda x: model.decision_function(x) - 0.5) if of_votes else None
    if "BaseThresholdClassifier" not in kinds:
        return None
    tuned, method = hasattr(last, "best_threshold_"), last.response_method
    threshold = last.best_threshold_ if tuned else last.threshold
    positive = last._curve_scorer._get_pos_label() if tuned else last.pos_label
    if method == "auto":
        method = "predict_proba" if hasattr(model, "predict_proba") else "decision_function"
    if threshold == "auto":
        threshold = 0.5 if method == "predict_proba" else 0.0
    column = 1 if positive is None else [*last.classes_].index(positive)

    def score(x: Any) -> Any:
        z = getattr(model, method)(x)
        z = z[:, column] if z.ndim == 2 else z * (1 if column else -1)
        # `predict` says the positive label at the threshold too; float32 keeps the sign
        z = np.where(z >= threshold, (z - threshold).clip(TINY), (z - threshold).clip(None, -TINY))
        return z if column else -z

    return score


def _class_order(labels: list[Any], classes: int | Sequence[Any] | None) -> list[Any]:
    """Return the labels in the order of the data's classes."""
    count = len(labels) if classes is None else classes
    order = list(range(count) if isinstance(count, int) else count)
    if any(label not in order for label in labels):
        known = "0 to k−1" if isinstance(count, int) else _shown(order)
        raise ValueError(
            f"the model tells apart {_shown(labels)}; the data's classes are {known}: rename them, "
            "or pass classes=[…], the model's labels in the data's order, to wrap_model"
        )
    return order


def _shown(labels: Sequence[Any]) -> str:
    """Return labels in a row, short and safe to show."""
    return ", ".join(printable(str(v), 40) for v in labels[:8]) + (", …" if len(labels) > 8 else "")


def check_features(model: Any, names: Sequence[str] | None) -> None:
    """Raise `ValueError` if a classifier was fitted on named columns and the data name others, or
    the same in another order: it would read one feature for another.

    Arguments:
        names: of the data's features, in order; None if they have none.
    """
    fitted = [str(name) for name in getattr(model, "feature_names_in_", ())]
    if not fitted or names is None or fitted == list(names):
        return
    missing = [name for name in fitted if name not in set(names)]
    if missing:
        text = f"the model was fitted on a column {printable(missing[0], 60)!r} that the data lack"
        raise ValueError(f"{text}: give it the same columns (it has {len(fitted)})")
    extra = [name for name in names if name not in set(fitted)]
    if extra:
        text = (
            f"the data have a column {printable(extra[0], 60)!r} that the model was not fitted on"
        )
        raise ValueError(f"{text}: drop it by data.drop")
    k = next(k for k, (a, b) in enumerate(zip(fitted, names, strict=True)) if a != b)
    raise ValueError(
        f"the model was fitted on the data's columns in another order: its column {k} is "
        f"{printable(fitted[k], 60)!r}, theirs {printable(names[k], 60)!r}"
    )


def _fingerprint(model: Any) -> str:
    """Return a text that differs between two fits; of an object without pickle, its address."""
    try:
        return hashlib.sha256(pickle.dumps(model)).hexdigest()[:16]
    except Exception:  # pickling runs the object's own code
        return hex(id(model))
