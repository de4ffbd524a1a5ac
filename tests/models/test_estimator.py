"""Classifiers of scikit-learn's kind: scores that agree with their own predictions."""

import copy

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, OneClassSVM

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
