"""How near attacks without gradients come to the exact optimum, on Drebin-215.

Malware may add manifest permissions and intents: 136 of the 215 features. Four classifiers of
scikit-learn; where scores add up over bits, or are monotone, the optimum is known in closed form.

python studies/bits_black_box.py results/bits-black-box/table.json
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression

import sparring
from sparring import data
from sparring.results.comparison import correct
from sparring.threats import Bits, Only

BUDGETS = (5, 10, 20)
MUTABLE = ("Manifest Permission", "Intent")


def mutable(source: data.Source, categories: Path) -> list[int]:
    """A 1 for each feature of the manifest, as the set's own table of categories says."""
    with gzip.open(categories, "rt", encoding="utf-8") as file:
        kinds = {row[0].strip(): row[1].strip() for row in csv.reader(file) if len(row) > 1}
    names = source.feature_names or []
    return [int(kinds.get(name) in MUTABLE) for name in names]


def linear_weights(model: Any) -> tuple[np.ndarray, float]:
    """The weights of a logistic regression, and its intercept."""
    return model.coef_[0], float(model.intercept_[0])


def stump_weights(model: Any) -> tuple[np.ndarray, float]:
    """The weights of boosted stumps on bits, read from each tree: the right leaf minus the left."""
    weights = np.zeros(model.n_features_in_)
    zero = float(model.decision_function(np.zeros((1, len(weights))))[0])
    for stage in model.estimators_[:, 0]:
        tree = stage.tree_
        if tree.feature[0] >= 0:
            left, right = tree.children_left[0], tree.children_right[0]
            gap = float(tree.value[right].item() - tree.value[left].item())
            weights[tree.feature[0]] += model.learning_rate * gap
    return weights, zero


def optimum(weights: np.ndarray, bias: float, x: np.ndarray, mask: np.ndarray, eps: int) -> int:
    """How many rows of class 1 an exact adversary brings below 0: the eps lowest weights < 0."""
    gain = np.where((x == 0) & (mask == 1), np.minimum(weights, 0), 0)
    gain.sort(axis=1)
    return int((x @ weights + bias + gain[:, :eps].sum(1) <= 0).sum())


def models() -> dict[str, Any]:
    """The classifiers, not fitted."""
    return {
        "random forest": RandomForestClassifier(100, random_state=0),
        "logistic regression": LogisticRegression(max_iter=2000),
        "boosted stumps": GradientBoostingClassifier(max_depth=1, n_estimators=300, random_state=0),
        "monotone boosting": HistGradientBoostingClassifier(
            monotonic_cst=[1] * 215, random_state=0
        ),
    }


def exact(name: str, model: Any, x: np.ndarray, mask: np.ndarray, eps: int) -> int | None:
    """The number of evasions of an exact adversary; None where it is not known."""
    if name == "logistic regression":
        return optimum(*linear_weights(model), x, mask, eps)
    if name == "boosted stumps":
        return optimum(*stump_weights(model), x, mask, eps)
    return 0 if name == "monotone boosting" else None  # no addition lowers a monotone score


def rows(source: data.Source, mask: list[int]) -> list[dict[str, Any]]:
    """Evaluate each model; a row per model and budget."""
    x, y = source.train.float().numpy(), source.train.y.numpy()
    test, labels = source.test.float().numpy(), source.test.y.numpy()
    out = []
    for name, model in models().items():
        model.fit(x, y)
        detected = test[(labels == 1) & (model.predict(test) == 1)]
        for eps in BUDGETS:
            threat, started = Only(Bits(eps, mutable=mask), classes=[1]), time.perf_counter()
            result = sparring.evaluate(
                model, source, threat, suite="bits-black-box", progress=False, device="cpu"
            )
            seconds, right = time.perf_counter() - started, result.arrays["clean_pred"] == labels
            best = exact(name, model, detected.astype(np.float64), np.array(mask), eps)
            evasions = int(right.sum() - correct(result, eps).sum())
            attacks = {
                a.name: {
                    "evasions": round(int(right.sum()) - a.accuracy * result.n),
                    "queries": round(a.forwards),
                    "seconds": round(a.seconds, 1),
                }
                for a in result.attacks
            }
            assert result.detection is not None
            clean, attacked = (result.detection.rates[k] for k in (0, 1))
            out.append(
                {
                    "model": name,
                    "accuracy": round(result.clean.accuracy, 4),
                    "flips": eps,
                    "detected": len(detected),
                    "evasions": evasions,
                    "exact": best,
                    "share": None if not best else round(evasions / best, 4),
                    "seconds": round(seconds, 1),
                    "verdict": result.verdict,
                    "tpr_at_fpr_1": [round(r.tpr[1].tpr.accuracy, 4) for r in (clean, attacked)],
                    "attacks": attacks,
                }
            )
            print(json.dumps(out[-1]), flush=True)
    return out


def main(out: Path) -> None:
    """Write the table."""
    source = data.load("drebin215")
    root = Path(os.environ["SPARRING_DATA"])
    mask = mutable(source, root / "malware" / "drebin215_feature_categories.csv.gz")
    about = {"data": repr(source), "mutable": sum(mask), "threat": "malware adds, others rest"}
    out.parent.mkdir(parents=True, exist_ok=True)
    table = {**about, "rows": rows(source, mask)}
    out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
