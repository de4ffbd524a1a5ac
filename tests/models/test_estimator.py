"""Classifiers of scikit-learn's kind: scores that agree with their own predictions."""

import copy

import numpy as np
import pytest
import torch
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.feature_selection import RFE, RFECV, SelectFromModel
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.svm import SVC, LinearSVC, OneClassSVM

from sparring import evaluation
from sparring.models import wrap_model


def several_labels() -> RandomForestClassifier:
    rng = np.random.default_rng(0)
    return RandomForestClassifier(2).fit(rng.random((20, 2)), rng.integers(0, 2, (20, 2)))


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    return (0.3 * y[:, None] + 0.2 * rng.random((90, 4))).reshape(90, 1, 2, 2), y


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogisticRegression(),
        lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        lambda: RandomForestClassifier(5, random_state=0),
        lambda: SVC(break_ties=True),
        lambda: SVC(decision_function_shape="ovo"),
        lambda: make_pipeline(StandardScaler(), SVC(decision_function_shape="ovo")),
        lambda: GridSearchCV(SVC(), {"decision_function_shape": ["ovo"]}, cv=2),
        lambda: OneVsOneClassifier(LogisticRegression()),
        lambda: GaussianNB(),
    ],
    ids=[
        *("logistic", "pipeline", "forest", "svc", "pairs", "pairs-in-pipeline"),
        *("pairs-in-search", "one-vs-one", "bayes"),
    ],
)
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_estimators_agree_with_their_own_predictions(make, classes, points):
    x, y = points
    y = np.minimum(y, classes - 1) + (classes == 4) * (np.arange(90) % 3 == 0)
    fitted = make().fit(x.reshape(90, 4), y)
    model = wrap_model(fitted)
    z = model(torch.tensor(x, dtype=torch.float32))
    assert z.shape == (90, classes)
    assert z.dtype == torch.float32
    assert not z.requires_grad
    assert (z.argmax(1).numpy() == fitted.predict(x.reshape(90, 4))).all()
    assert model(torch.zeros(0, 1, 2, 2)).shape == (0, classes)


def pairs(**options) -> SVC:
    return SVC(kernel="linear", decision_function_shape="ovo", **options)


def slopes(fitted) -> np.ndarray:
    return abs(fitted.coef_).sum(0)


INSIDE = {  # a classifier of pairs inside another: the first four have scores of their own
    "one-vs-rest": lambda: OneVsRestClassifier(pairs()),
    "stacked": lambda: StackingClassifier([("a", pairs())], cv=2),
    "selection": lambda: make_pipeline(
        SelectFromModel(pairs(), importance_getter=slopes),  # pyright: ignore[reportArgumentType]
        LogisticRegression(),
    ),
    "search": lambda: GridSearchCV(OneVsRestClassifier(pairs()), {}, cv=2),
    "final": lambda: StackingClassifier([("a", GaussianNB())], final_estimator=pairs(), cv=2),
    "rfe": lambda: RFE(pairs()),
    "rfecv": lambda: RFECV(pairs(), cv=2),
    "deep": lambda: GridSearchCV(make_pipeline(StandardScaler(), RFE(pairs())), {}, cv=2),
    "bagging": lambda: BaggingClassifier(pairs(), 15, random_state=0),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", INSIDE)
@pytest.mark.parametrize("classes", [3, 4])
def test_a_classifier_of_pairs_inside_another(name, classes):
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, 120)
    x = 0.3 * y[:, None] + 0.4 * rng.random((120, 4))
    fitted = INSIDE[name]().fit(x, y)
    assert (wrap_model(fitted)(torch.tensor(x)).argmax(1).numpy() == fitted.predict(x)).all()


def forest() -> RandomForestClassifier:
    return RandomForestClassifier(10, random_state=0, max_depth=4)  # probabilities in tenths


def fixed(inner, threshold, **options) -> FixedThresholdClassifier:
    return FixedThresholdClassifier(inner, threshold=threshold, **options)


THRESHOLDS = {  # classifiers whose `predict` is not the largest of their scores
    "pairs of probabilities": lambda: OneVsOneClassifier(forest()),
    "pairs in a bag": lambda: BaggingClassifier(OneVsOneClassifier(forest()), 3, random_state=0),
    "pairs of scores": lambda: OneVsOneClassifier(LinearSVC(random_state=0)),
    "a tenth": lambda: fixed(forest(), 0.3),
    "the other class": lambda: fixed(LogisticRegression(), 0.8, pos_label=0),
    "scores": lambda: fixed(LinearSVC(random_state=0), -0.5),
    "other scores": lambda: fixed(
        LogisticRegression(), -1.0, pos_label=0, response_method="decision_function"
    ),
    "its default": lambda: fixed(LinearSVC(random_state=0), "auto"),
    "all": lambda: fixed(forest(), 0.0),
    "tuned": lambda: TunedThresholdClassifierCV(LogisticRegression(), scoring="f1", cv=3),
    "deep": lambda: GridSearchCV(make_pipeline(StandardScaler(), fixed(forest(), 0.3)), {}, cv=2),
    "in a bag": lambda: BaggingClassifier(fixed(forest(), 0.1), 3, random_state=0),
    "a bag": lambda: BaggingClassifier(LogisticRegression(), 5, max_samples=0.1, random_state=0),
}


@pytest.mark.parametrize("name", THRESHOLDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_class_is_that_of_another_threshold(name, dtype):
    rng = np.random.default_rng(0)
    x = rng.random((240, 4)).astype("float32")
    y = (x[:, 0] + 0.8 * rng.random(240) > 1.1).astype(int)
    fitted = THRESHOLDS[name]().fit(x.astype(float), y)
    got = wrap_model(fitted)(torch.tensor(x, dtype=dtype)).argmax(1).numpy()
    assert (got == fitted.predict(x.astype(float))).all()


@pytest.mark.parametrize("scaled", [False, True])
def test_pairs_in_a_frozen_classifier(points, scaled):
    frozen = pytest.importorskip("sklearn.frozen")
    x, y = points[0].reshape(90, 4), points[1]
    inner = make_pipeline(StandardScaler(), pairs()) if scaled else pairs()
    fitted = frozen.FrozenEstimator(inner.fit(x, y))
    assert (wrap_model(fitted)(torch.tensor(x)).argmax(1).numpy() == fitted.predict(x)).all()


def test_the_pairs_that_self_training_hands_on(points):
    x, y = points
    some = np.where(np.arange(90) < 80, y, -1)  # −1: without a label
    fitted = SelfTrainingClassifier(GaussianNB()).fit(x.reshape(90, 4), some)
    fitted.estimator_ = pairs().fit(x.reshape(90, 4), y)  # its own probabilities are deprecated
    z = wrap_model(fitted)(torch.tensor(x))
    assert (z.argmax(1).numpy() == fitted.predict(x.reshape(90, 4))).all()


@pytest.mark.parametrize("classes", [3, 4, 5])
def test_scores_of_pairs_become_those_that_svc_gives_per_class(classes):
    rng = np.random.default_rng(1)
    x = rng.random((120, 5))
    y = x[:, :classes].argmax(1)
    pairs, each = (
        wrap_model(SVC(decision_function_shape=shape).fit(x, y))(torch.tensor(x))
        for shape in ("ovo", "ovr")
    )
    torch.testing.assert_close(pairs, each)


def test_labels_are_mapped_to_the_data_s_order(points):
    x, y = points
    names = np.array(["cat", "dog", "eel"])
    fitted = LogisticRegression().fit(x.reshape(90, 4), names[y])
    z = wrap_model(fitted, classes=["eel", "bee", "dog", "cat"])(torch.tensor(x))
    want = fitted.decision_function(x.reshape(90, 4))
    np.testing.assert_allclose(z[:, [3, 2, 0]], want)
    assert (z[:, 1] < z[:, [0, 2, 3]].amin(1)).all()  # what it never learned
    with pytest.raises(ValueError, match=r"tells apart cat, dog, eel.*classes=\["):
        wrap_model(fitted)


def test_a_class_that_was_never_seen_is_never_said(points):
    x, y = points
    kept = y != 1
    fitted = RandomForestClassifier(5, random_state=0).fit(x.reshape(90, 4)[kept], y[kept])
    with pytest.raises(ValueError, match="tells apart 0, 2"):
        wrap_model(fitted)
    said = wrap_model(fitted, classes=3)(torch.tensor(x)).argmax(1)
    assert set(said.tolist()) == {0, 2}


def test_estimators_have_no_gradient_and_say_so(points):
    x, y = points
    model = wrap_model(LogisticRegression().fit(x.reshape(90, 4), y))
    data = (torch.tensor(x, dtype=torch.float32), torch.tensor(y))
    with pytest.raises(ValueError, match="no gradient"):
        evaluation.evaluate(model, data, "Linf", eps=0.1, progress=False)


def test_two_fits_can_be_told_apart(points):
    x, y = points
    fits = [LogisticRegression(C=c).fit(x.reshape(90, 4), y) for c in (1.0, 1.0, 2.0)]
    same, again, other = (repr(wrap_model(f)) for f in fits)
    assert same == again != other
    model = wrap_model(fits[0])
    assert copy.deepcopy(model).model is model.model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (LogisticRegression(), "LogisticRegression has no classes_: .*fitted"),
        (OneClassSVM(), "has no classes_: it must be a classifier"),
        (several_labels(), "several labels a sample"),
    ],
    ids=["not-fitted", "no-classifier", "several-labels"],
)
def test_mistakes_are_explained(model, words):
    with pytest.raises(ValueError, match=words):
        wrap_model(model)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")  # sklearn's
def test_a_forest_refuses_rows_that_its_trees_would_misread(points):
    x, y = points
    model = wrap_model(RandomForestClassifier(5, random_state=0).fit(x.reshape(90, 4), y))
    flat = torch.tensor(x).reshape(90, 4)
    for _ in range(2):  # the first batch, and one that the trees answer themselves
        for columns in (3, 5):
            with pytest.raises(ValueError, match=f"X has {columns} features, but .* expecting 4"):
                model(flat.repeat(1, 2)[:, :columns])
        for bad in (torch.inf, 1e300):
            with pytest.raises(ValueError, match="infinity or a value too large"):
                model(torch.full((2, 4), bad, dtype=torch.float64))
        model(flat)


def test_a_forest_answers_what_is_missing_as_it_would_itself(points):
    x, y = points
    holes = np.where(np.random.default_rng(1).random((90, 4)) < 0.2, np.nan, x.reshape(90, 4))
    fitted = RandomForestClassifier(5, random_state=0).fit(holes, y)
    model = wrap_model(fitted)
    for _ in range(2):
        assert (model(torch.tensor(holes)).argmax(1).numpy() == fitted.predict(holes)).all()
