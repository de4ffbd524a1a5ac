"""Read a classifier of scikit-learn from a skops file: no pickle, and no code of the file runs."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..runtime.extras import import_extra
from ..runtime.importing import reason
from .archive import ZIP, archive_names, printable
from .base import kind_names, missing_file

SCHEMA = "schema.json"  # the member that makes a zip archive a skops file
LIMIT = 1 << 31  # bytes of all members, unpacked
SHOWN = 6  # types that a message names
# Types of scikit-learn that skops leaves to its user to trust. Those without arrays of indices are
# plain objects; compiled code follows the indices of the others, so `check_indices` reads them.
PLAIN = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.metrics._scorer._PassthroughScorer",
    "sklearn.model_selection._split.KFold",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.utils._bunch.Bunch",
)
TREE = "sklearn.tree._tree.Tree"
BINNED_TREE = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
KNOWN = (*PLAIN, TREE, BINNED_TREE)


def is_estimator_file(path: Path) -> bool:
    """Return whether a file is a skops file, by its content."""
    with path.open("rb") as file:
        if file.read(len(ZIP)) != ZIP:
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            return SCHEMA in archive.namelist()
    except Exception:  # a damaged archive may raise anything; its reader says what is wrong
        return False


def load_estimator(path: str | Path, *, trust: bool = False) -> Any:
    """Load the classifier in a skops file; only types of scikit-learn, numpy and scipy are built.

    Arguments:
        trust: build the other types too: importing and building them runs their code.

    Raises:
        FileNotFoundError: for a missing file.
        ValueError: without the package skops; for a damaged file, or a type from elsewhere, named.
    """
    path = Path(path)
    if not path.is_file():
        raise missing_file(path, "a classifier")
    skops = import_extra("skops.io", extra="skops", purpose=f"a skops file as {path.name}")
    try:
        archive_names(path)
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        unknown = [] if size > LIMIT else skops.get_untrusted_types(file=path)
    except Exception as error:  # each kind of damage raises its own
        raise _damaged(path, error) from error
    if size > LIMIT:
        raise ValueError(f"{path} would unpack to {size:,} bytes: at most {LIMIT:,} are read")
    foreign = [name for name in unknown if name not in KNOWN]
    if foreign and not trust:
        named = ", ".join(printable(name) for name in foreign[:SHOWN])
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        raise ValueError(
            f"{path} was refused: it holds {named}{more}, no type of scikit-learn that is known to "
            "be safe; if you know what it does, pass --trust (in Python: trust=True)"
        )
    try:
        model = skops.load(path, trusted=unknown)
    except Exception as error:
        raise _damaged(path, error) from error
    if not trust:
        check_indices(model, path)
    return model


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged, or no skops file ({reason(error)})")


def check_indices(model: Any, path: Path) -> None:
    """Raise `ValueError` for a model that makes compiled code read or write outside of an array.

    That is a tree whose nodes point outside it, back, or at a feature that the samples do not have;
    or arrays of boosted trees, neighbours or support vectors whose sizes do not fit each other.
    """
    parts = list(_parts(model))
    if not all(map(_has_sound_trees, parts)):
        raise ValueError(f"{path} is damaged: a tree in it points outside of itself")
    for check in (_has_sound_neighbours, _has_sound_vectors, _has_sound_stages):  # this one runs it
        for part in parts:
            try:
                ok = check(part)
            except Exception as error:  # what a file gives may be of any type, or missing
                raise _damaged(path, error) from error
            if not ok:
                text = f"the arrays of its {type(part).__name__} do not fit each other"
                raise ValueError(f"{path} is damaged: {text}")


def _has_sound_trees(owner: Any) -> bool:
    import numpy as np

    features = getattr(owner, "n_features_in_", None)
    trees = [owner.tree_] if hasattr(owner, "tree_") else []
    inner = np.ravel(np.asarray(getattr(owner, "estimators_", ()), dtype=object))
    trees += [part.tree_ for part in inner if hasattr(part, "tree_")]
    ok = all(_is_sound(tree, features) for tree in trees)
    for stage in getattr(owner, "_predictors", ()):
        ok = ok and all(_is_sound_binned(tree, features) for tree in stage)
    return ok


def _has_sound_neighbours(owner: Any) -> bool:
    """Return whether each row of nearest neighbours has a label, which counts its class."""
    import numpy as np

    if not (hasattr(owner, "_fit_X") and hasattr(owner, "classes_")):
        return True
    labels = owner.classes_ if owner.outputs_2d_ else [owner.classes_]
    y, counts = np.asarray(owner._y).reshape(-1, len(labels)), [*map(len, labels)]
    return len(y) == len(owner._fit_X) and bool(((y >= 0) & (y < counts)).all())


def _has_sound_vectors(owner: Any) -> bool:
    """Return whether a support vector machine has the numbers that libsvm reads."""
    import numpy as np

    if not hasattr(owner, "_n_support"):
        return True
    support, classifies = np.asarray(owner.support_), "BaseSVC" in kind_names(owner)
    counts = np.asarray(owner._n_support)[: None if classifies else 1]
    pairs = max(len(counts) * (len(counts) - 1) // 2, 1)
    rows = len(support) if owner.kernel == "precomputed" else len(owner.support_vectors_)
    ok = bool((counts >= 0).all()) and counts.sum() == len(support) == rows
    ok = ok and bool(((support >= 0) & (support < owner.shape_fit_[0])).all())
    ok = ok and owner._dual_coef_.shape == (max(len(counts) - 1, 1), rows)
    ok = ok and {len(owner._probA), len(owner._probB)} <= {0, pairs}
    return ok and len(owner._intercept_) == pairs


def _has_sound_stages(owner: Any) -> bool:
    """Return whether gradient boosting has one tree a stage for each column that it adds to."""
    import numpy as np

    if not (hasattr(owner, "_raw_predict_init") and hasattr(owner, "estimators_")):
        return True
    if any(hasattr(part, "_raw_predict_init") for part in _parts(owner.init_)):
        return False  # one inside another is not checked yet
    row = np.zeros((1, int(owner.n_features_in_)), "float32")
    return owner.estimators_.shape[1:] == owner._raw_predict_init(row).shape[1:]


def _is_sound(tree: Any, features: Any) -> bool:
    import numpy as np

    left, right, feature = (
        np.asarray(v) for v in (tree.children_left, tree.children_right, tree.feature)
    )
    inner, number = left != -1, np.arange(len(left))
    below = all(((child > number) & (child < len(number)))[inner].all() for child in (left, right))
    least = min(tree.n_features, 0 if features is None else int(features))
    return bool(len(left)) and below and bool(((feature >= 0) & (feature < least))[inner].all())


def _is_sound_binned(tree: Any, features: Any) -> bool:
    import numpy as np

    nodes, width = tree.nodes, 0 if features is None else int(features)
    inner, number = nodes["is_leaf"] == 0, np.arange(len(nodes))
    inside = (nodes["feature_idx"] >= 0) & (nodes["feature_idx"] < width)
    for child in (nodes["left"], nodes["right"]):
        inside &= (child > number) & (child < len(nodes))
    words = len(tree.raw_left_cat_bitsets)
    inside &= (nodes["is_categorical"] == 0) | (nodes["bitset_idx"] < words)
    return bool(len(nodes)) and bool(inside[inner].all())


def _parts(model: Any) -> Iterator[Any]:
    """Yield every object of scikit-learn inside a model, itself first, each once."""
    import numpy as np

    waiting, seen = [model], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list | tuple):
            waiting += part
        elif isinstance(part, np.ndarray) and part.dtype == object:
            waiting += part.ravel().tolist()
        elif type(part).__module__.startswith("sklearn.") and hasattr(part, "__dict__"):
            yield part
            waiting += vars(part).values()
