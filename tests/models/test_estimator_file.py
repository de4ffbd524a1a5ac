"""Classifiers in skops files: known types load, others are refused by name, and run no code."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC, NuSVC, OneClassSVM

import sparring
from sparring.commands.subject import external_target, surrogate_model
from sparring.data import Source, Split
from sparring.models import is_estimator_file, load_estimator, wrap_model
from sparring.threats import Bits

RNG = np.random.default_rng(0)
X = (RNG.random((200, 8)) < 0.4).astype(float)
Y = (X[:, 0] + X[:, 1] + 0.7 * RNG.random(200) > 1.2).astype(int)
NAMES = np.array(["benign", "malware"])
KINDS = [
    RandomForestClassifier(5, random_state=0),
    ExtraTreesClassifier(5, random_state=0),
    GradientBoostingClassifier(n_estimators=5, random_state=0),
    HistGradientBoostingClassifier(max_iter=5, random_state=0),
    SVC(),
    LinearSVC(random_state=0),
    LogisticRegression(),
    BaggingClassifier(n_estimators=3, max_features=0.5, random_state=0),
    make_pipeline(StandardScaler(), LogisticRegression()),
    CalibratedClassifierCV(LinearSVC(random_state=0), cv=2),
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
    GradientBoostingClassifier(n_estimators=3, init=LogisticRegression(), random_state=0),
    BaggingClassifier(GradientBoostingClassifier(n_estimators=3), n_estimators=2, random_state=0),
    KNeighborsClassifier(algorithm="brute", metric="manhattan"),
    RadiusNeighborsClassifier(3.0, algorithm="brute"),
    NuSVC(nu=0.1),
]


def source() -> Source:
    split = Split(torch.tensor(X, dtype=torch.float32), torch.tensor(Y))
    return Source("apps", split, split, split, list(NAMES), feature_names=list("abcdefgh"))


def saved(model: Any, path: Path, y: np.ndarray = Y) -> Path:
    skops.io.dump(model.fit(X, y), path)
    return path


@pytest.mark.parametrize("model", KINDS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("labels", [Y, NAMES[Y]], ids=["numbers", "words"])
def test_known_kinds_load_without_trust_and_predict_as_before(model, labels, tmp_path):
    path = saved(model, tmp_path / "m.skops", labels)
    assert is_estimator_file(path)
    target = external_target(str(path), source(), {}, eps=1)
    pred = target.model(torch.tensor(X, dtype=torch.float32)).argmax(1)
    assert np.array_equal(NAMES[pred] if labels.dtype.kind == "U" else pred, model.predict(X))
    assert target.name == "m"


def test_a_type_from_elsewhere_is_refused_by_name_and_not_run(tmp_path):
    pipe = make_pipeline(FunctionTransformer(np.asarray), LogisticRegression()).fit(X, Y)
    pipe.steps[0][1].func = __import__("os").system
    skops.io.dump(pipe, tmp_path / "m.skops")
    with pytest.raises(ValueError, match=r"was refused: it holds posix\.system, no type of scikit"):
        load_estimator(tmp_path / "m.skops")
    assert load_estimator(tmp_path / "m.skops", trust=True).steps[0][1].func is not None


def test_a_tree_that_points_outside_of_itself_is_refused(tmp_path):
    path = saved(RandomForestClassifier(2, random_state=0), tmp_path / "m.skops")
    for field, value in (("left_child", 99_999), ("feature", 99_999), ("right_child", 0)):
        broken = tmp_path / f"{field}.skops"
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(broken, "w") as new:
            for name in old.namelist():
                content = old.read(name)
                if name.endswith(".npy"):
                    array = np.load(io.BytesIO(content))
                    if array.dtype.names and field in array.dtype.names:
                        array[field][0] = value
                        buffer = io.BytesIO()
                        np.save(buffer, array)
                        content = buffer.getvalue()
                new.writestr(name, content)
        with pytest.raises(ValueError, match="is damaged: a tree in it points outside of itself"):
            load_estimator(broken)


def boosted(**changes: Any) -> GradientBoostingClassifier:
    return _changed(GradientBoostingClassifier(n_estimators=2).fit(X, Y), changes)


def _changed(model: Any, changes: dict[str, Any]) -> Any:
    for name, value in changes.items():
        setattr(model, name, value(getattr(model, name, None)))
    return model


def narrowed() -> GradientBoostingClassifier:
    """A boosting that says it takes 2 features; all trees but the first read the others."""
    few = GradientBoostingClassifier(n_estimators=1).fit(X[:, :2], Y)
    trees = [few.estimators_, GradientBoostingClassifier(n_estimators=3).fit(X, Y).estimators_]
    return _changed(few, {"estimators_": lambda _: np.concatenate(trees)})


OUTSIDE = {  # compiled code of scikit-learn would read or write outside of an array
    "stages": lambda: boosted(estimators_=lambda old: np.repeat(old, 300, axis=1)),
    "row": lambda: boosted(estimators_=lambda old: old[:, 0]),
    "subsets": lambda: _changed(narrowed(), {"estimators_features_": lambda _: [1]}),
    "nested": lambda: boosted(init_=lambda _: boosted()),
    "labels": lambda: _changed(
        KNeighborsClassifier(algorithm="brute", metric="manhattan").fit(X, Y),
        {"_y": lambda old: old + 100_000},
    ),
    "few-labels": lambda: _changed(
        RadiusNeighborsClassifier(algorithm="brute").fit(X, Y), {"_y": lambda old: old[:1].copy()}
    ),
    "weights": lambda: _changed(SVC().fit(X, Y), {"_dual_coef_": lambda old: old[:, :2].copy()}),
    "counts": lambda: _changed(
        SVC().fit(X, Y), {"_n_support": lambda old: np.ones(old.sum(), old.dtype)}
    ),
    "no-offsets": lambda: _changed(SVC().fit(X, Y), {"_intercept_": lambda old: old[:0].copy()}),
    "no-array": lambda: _changed(SVC().fit(X, Y), {"_dual_coef_": lambda _: None}),
    "rows": lambda: _changed(
        SVC(kernel="precomputed").fit(X @ X.T, Y), {"support_": lambda old: old + 1_000_000}
    ),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_arrays_that_do_not_fit_each_other_are_refused(name, tmp_path):
    skops.io.dump(make_pipeline(StandardScaler(), OUTSIDE[name]()), tmp_path / "m.skops")
    with pytest.raises(ValueError, match=r"m\.skops is damaged"):
        load_estimator(tmp_path / "m.skops")


def test_detectors_of_outliers_have_arrays_that_fit(tmp_path):
    skops.io.dump(OneClassSVM().fit(X), tmp_path / "m")
    assert load_estimator(tmp_path / "m").predict(X).shape == Y.shape


@pytest.mark.parametrize("damage", ["cut", "schema", "nothing"])
def test_a_damaged_file_is_named(damage, tmp_path):
    path = saved(LogisticRegression(), tmp_path / "m.skops")
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
        assert not is_estimator_file(path)
    elif damage == "schema":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("schema.json", json.dumps({"__class__": 3}))
    else:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("schema.json", "")
    with pytest.raises(ValueError, match=r"m\.skops is damaged"):
        load_estimator(path)


def test_a_missing_file_has_its_nearest_name(tmp_path):
    saved(LogisticRegression(), tmp_path / "model.skops")
    with pytest.raises(FileNotFoundError, match=r"did you mean .*model\.skops"):
        load_estimator(tmp_path / "modle.skops")


def test_classes_that_the_data_lack_are_named(tmp_path):
    path = saved(LogisticRegression(), tmp_path / "m.skops", np.array(["B", "S"])[Y])
    with pytest.raises(
        ValueError, match="tells apart B, S; the data's classes are benign, malware"
    ):
        external_target(str(path), source(), {}, eps=1)


def test_a_surrogate_may_have_words_for_classes(tmp_path):
    path = saved(LogisticRegression(), tmp_path / "m.skops", NAMES[Y])
    assert surrogate_model(path, source()) is not None


def test_named_columns_must_be_those_of_the_data():
    class Named(LogisticRegression):
        pass

    model = Named().fit(X, Y)
    for names, message in (
        (list("abcdefgx"), "fitted on a column 'x' that the data lack"),
        (list("abcdefg"), "the data have a column 'h' that the model was not fitted on"),
        (list("bacdefgh"), "in another order: its column 0 is 'b', theirs 'a'"),
    ):
        model.feature_names_in_ = np.array(names, dtype=object)
        with pytest.raises(ValueError, match=message):
            external_target(model, source(), {}, eps=1)


def test_a_quick_forest_gives_the_same_bits():
    forest = RandomForestClassifier(20, random_state=0).fit(X, Y)
    model = wrap_model(forest)
    x = torch.tensor(X, dtype=torch.float32)
    expected = torch.as_tensor(forest.predict_proba(X)).clamp_min(torch.finfo().tiny).log().float()
    for _ in range(2):
        assert torch.equal(model(x), expected)
        assert torch.equal(model(x[:1]), expected[:1])


def test_a_forest_of_words_is_evaluated_from_its_file(tmp_path):
    path = saved(RandomForestClassifier(10, random_state=0), tmp_path / "m.skops", NAMES[Y])
    result = sparring.evaluate(
        str(path), source(), Bits(2), suite="bits-black-box", progress=False, device="cpu"
    )
    assert result.name == "m"
    assert result.robust.accuracy < result.clean.accuracy
    quiet = {c.name for c in result.checks if not c.fired}
    assert "no gradients" in quiet
    assert not {"zero gradients", "quantised or clipped inputs"} & {c.name for c in result.checks}
    assert any("no gradients by its kind" in note for note in result.notes)


def test_the_package_is_asked_for(tmp_path, monkeypatch):
    path = saved(LogisticRegression(), tmp_path / "m.skops")
    monkeypatch.setitem(__import__("sys").modules, "skops.io", None)
    with pytest.raises(ValueError, match=r"pip install 'sparring\[skops\]'"):
        load_estimator(path)
