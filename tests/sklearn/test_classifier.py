"""The classifier of scikit-learn's kind: interface, units, adversary, run folder."""

from __future__ import annotations

import json
import pickle
import warnings
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

import sparring
from sparring.models import wrap_model
from sparring.sklearn import RobustClassifier
from sparring.sklearn.rows import merged_rows

QUICK: dict[str, Any] = {"epochs": 10, "steps": 3, "hidden": (16,), "random_state": 0}


def tumours(n: int = 200):
    x, y = load_breast_cancer(return_X_y=True)
    return train_test_split(x[:n], y[:n], random_state=0, stratify=y[:n])


@pytest.fixture(scope="module")
def fitted():
    x, x_test, y, y_test = tumours()
    return RobustClassifier(**QUICK).fit(x, y), x_test, y_test


def checks(**options: Any) -> list:
    """scikit-learn's checks; the one of array APIs runs only where SciPy is told to have them."""
    made = estimator_checks_generator(RobustClassifier(**options), mark="skip")
    return [check for _, check in made if "array_api" not in getattr(check.func, "__name__", "")]


@pytest.mark.slow
def test_it_passes_every_check_of_scikit_learn():
    for check in checks():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of random labels
            check(RobustClassifier())


FEW = (
    "check_sample_weight_equivalence_on_dense_data",
    "check_classifiers_one_label_sample_weights",
    "check_classifiers_one_label",
    "check_estimators_nan_inf",
    "check_estimators_dtypes",
    "check_fit2d_1sample",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_n_features_in_after_fitting",
    "check_parameters_default_constructible",
    "check_estimator_sparse_tag",
    "check_supervised_y_2d",
    "check_decision_proba_consistency",
)


@pytest.mark.parametrize("name", FEW)
def test_it_passes_a_check_of_scikit_learn(name):
    options = {"epochs": 3, "steps": 1, "hidden": (8,)}
    chosen = [c for c in checks(**options) if c.func.__name__ == name]
    assert chosen
    for check in chosen:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            check(RobustClassifier(**options))


def test_it_learns_and_withstands():
    x, x_test, y, y_test = tumours(569)
    robust = RobustClassifier(eps=0.3, **QUICK).fit(x, y)
    plain = RobustClassifier(eps=0.3, **{**QUICK, "steps": 0}, method="AT").fit(x, y)
    assert robust.score(x_test, y_test) > 0.9
    assert robust.robust_score(x_test, y_test) > plain.robust_score(x_test, y_test) + 0.02
    moved = robust.attack(x_test, y_test)
    assert robust.score(moved, y_test) == pytest.approx(
        robust.robust_score(x_test, y_test), abs=0.05
    )


def test_an_attack_stays_in_the_ball_of_the_scaled_features(fitted):
    model, x, y = fitted
    moved = model.attack(x, y, eps=0.25, steps=5)
    z = (moved - x) / model.scaling_.width
    assert np.abs(z).max() == pytest.approx(0.25, rel=1e-4)
    assert model.attack(x, name="FGSM", eps=0.0).tolist() == x.tolist()


def test_certificates_are_below_attacks(fitted):
    model, x, y = fitted
    proven = model.certify(x, y, eps=0.05)
    moved = model.attack(x, y, eps=0.05, steps=20, restarts=2)
    assert proven.any()
    assert (model.predict(moved)[proven] == y[proven]).all()
    assert not model.certify(x, 1 - model.predict(x), eps=0.05).any()


def test_the_result_is_that_of_the_module_with_raw_features(fitted):
    """`sparring.evaluate` takes the classifier, with gradients, in the units of X."""
    model, x, _ = fitted
    module = wrap_model(model)
    inputs = torch.from_numpy(x).float().requires_grad_()
    logits = module(inputs)
    assert torch.autograd.grad(logits.sum(), inputs)[0].abs().sum() > 0
    assert logits.argmax(1).tolist() == model.predict(x).tolist()
    unscaled = RobustClassifier(**QUICK, scaling=None, bounds=(0.0, 1.0), eps=0.05)
    digits = load_digits()
    unscaled.fit(digits.data[:200] / 16, digits.target[:200])
    rows = (digits.data[200:260] / 16).astype(np.float32), digits.target[200:260]
    outside = sparring.evaluate(unscaled, data=rows, eps=0.05, progress=False)
    inside = unscaled.evaluate(*rows)
    assert outside.robust.accuracy == inside.robust.accuracy
    assert "PGD-20" in str(outside.by_eps[0].attacks)


def test_columns_follow_the_order_of_the_data_classes(fitted):
    model, x, _ = fitted
    turned = wrap_model(model, classes=[1, 0])
    straight = wrap_model(model, classes=[0, 1])
    inputs = torch.from_numpy(x).float()
    assert torch.equal(turned(inputs), straight(inputs)[:, [1, 0]])
    wide = wrap_model(model, classes=3)(inputs)
    assert wide.shape[1] == 3
    assert wide.argmax(1).max() < 2


def test_labels_of_any_kind(fitted):
    model, x, y = fitted
    x_train, _, y_train, _ = tumours()
    names = np.array(["malignant", "benign"])
    named = RobustClassifier(**QUICK).fit(x_train, names[y_train])
    assert named.classes_.tolist() == ["benign", "malignant"]
    assert (named.predict(x) == names[model.predict(x)]).mean() > 0.8
    assert named.evaluate(x, names[y]).n == len(x)
    with pytest.raises(ValueError, match=r"y has the label 'bad', and the classes are 'benign'"):
        named.attack(x, ["bad"] * len(x))


def test_a_weight_is_the_row_as_often_and_the_order_does_not_matter():
    x = np.array([[0.0], [1.0], [-0.0], [1.0]])
    rows = merged_rows(x, np.array([0, 1, 0, 0]), np.array([1.0, 2.0, 0.5, 0.0]))
    assert (rows.x[:, 0].tolist(), rows.weight.tolist()) == ([0.0, 1.0], [1.5, 2.0])
    x, _, y, _ = tumours(80)
    weight = np.random.default_rng(0).integers(0, 3, len(x))
    first = RobustClassifier(**QUICK).fit(x, y, sample_weight=weight)
    order = np.random.default_rng(1).permutation(weight.sum())
    again = RobustClassifier(**QUICK).fit(x.repeat(weight, 0)[order], y.repeat(weight)[order])
    assert np.array_equal(first.decision_function(x), again.decision_function(x))


@pytest.mark.slow
def test_pipelines_searches_and_workers():
    x, x_test, y, y_test = tumours(120)
    grid = {"robustclassifier__eps": [0.1, 0.3], "robustclassifier__method": ["AT"]}
    pipeline = make_pipeline(FunctionTransformer(np.log1p), RobustClassifier(**QUICK))
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(x, y)
    assert search.score(x_test, y_test) > 0.7
    robust = GridSearchCV(
        RobustClassifier(**QUICK), {"lr": [0.01]}, cv=2, scoring=RobustClassifier.robust_score
    ).fit(x, y)
    assert 0 < robust.best_score_ <= 1
    alone = cross_val_score(RobustClassifier(**QUICK), x, y, cv=2)
    with joblib.parallel_backend("loky", n_jobs=2):
        assert (
            cross_val_score(RobustClassifier(**QUICK), x, y, cv=2, n_jobs=2).tolist()
            == alone.tolist()
        )


def test_pickle_and_clone(fitted):
    model, x, _ = fitted
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.decision_function(x), model.decision_function(x))
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        clone(model).predict(x)


def test_names_of_columns_are_checked():
    x, _, y, _ = tumours(80)
    frame = pd.DataFrame(x, columns=[f"c{k}" for k in range(x.shape[1])])
    model = RobustClassifier(**QUICK).fit(frame, y)
    assert model.feature_names_in_.tolist() == list(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[frame.columns[::-1]])


def test_images_in_flat_rows():
    digits = load_digits()
    x, y = digits.data[:300] / 16, digits.target[:300]
    model = RobustClassifier(
        network="mnist-net", shape=(1, 8, 8), scaling=None, bounds=(0, 1), eps="8/255", epochs=4,
        steps=2, random_state=0,
    ).fit(x, y)  # fmt: skip
    assert model.score(x, y) > 0.5
    moved = model.attack(x[:20], y[:20])
    assert moved.shape == (20, 64)
    assert (moved.min(), moved.max()) >= (0, 0)
    assert moved.max() <= 1


def test_a_network_of_ones_own_and_other_pieces():
    def network(*, shape, classes):
        return torch.nn.Sequential(
            torch.nn.Linear(shape[0], 8), torch.nn.ReLU(), torch.nn.Linear(8, classes)
        )

    x, _, y, _ = tumours(80)
    model = RobustClassifier(**{**QUICK, "network": network, "threat": "L2", "eps": 0.5}).fit(x, y)
    assert sum(p.numel() for p in model.network_.parameters()) == 30 * 8 + 8 + 8 * 2 + 2
    with pytest.raises(ValueError, match="network is a function, which a recipe cannot name"):
        model.to_run("nowhere")
    bits = (x > np.median(x, 0)).astype(float)
    model = RobustClassifier(
        **{**QUICK, "threat": "Bits", "eps": 1, "epochs": 40, "scaling": None, "bounds": (0, 1)},
        training_attack={"name": "BGA", "steps": 3},
    ).fit(bits, y)
    flipped = model.attack(bits, y, name="BGA", steps=3)
    assert set(np.unique(flipped)) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"method": "TRADS"}, "method.name = 'TRADS' does not exist; did you mean 'TRADES'"),
        ({"threat": "Linv"}, "threat.name = 'Linv' does not exist; did you mean 'Linf'"),
        ({"scaling": "standart"}, "scaling = 'standart' does not exist; did you mean 'standard'"),
        ({"eps": -1.0}, "eps = -1.0 is not allowed"),
        ({"eps": "8/0"}, "'8/0' is no number"),
        ({"epochs": 0}, "epochs = 0 is not allowed"),
        ({"lr": -1.0}, "lr = -1.0 is not allowed"),
        ({"shape": (1, 8, 8)}, "shape = .* must be of 30 numbers"),
        ({"bounds": (0, 1)}, "bounds = .* for unscaled features"),
        ({"scaling": None, "bounds": (0, 1)}, r"bounds = .* must be around the features"),
        ({"validation_fraction": 1.0}, "validation_fraction = 1.0 is not allowed"),
        ({"hidden": (0,)}, "hidden"),
        ({"network": "mlpp"}, "model.name = 'mlpp' does not exist; did you mean 'mlp'"),
        ({"network": "os:remove"}, "code from outside"),
        ({"threat": 3}, "threat = 3 is not allowed: threat must be a name"),
        ({"hidden": 8}, "hidden = 8 is not allowed"),
        ({"shape": 30}, "shape = 30 is not allowed"),
        ({"scaling": None, "bounds": 1}, "bounds = 1 is not allowed"),
        ({"network": torch.nn.Linear(30, 2)}, "network = .* is not allowed: .* function"),
    ],
)
def test_wrong_arguments_are_told(options, told):
    x, _, y, _ = tumours(60)
    with pytest.raises(ValueError, match=told):
        RobustClassifier(**{**QUICK, **options}).fit(x, y)


def test_sparse_rows_are_refused():
    x, _, y, _ = tumours(60)
    with pytest.raises(TypeError, match="Sparse data was passed"):
        RobustClassifier(**QUICK).fit(sparse.csr_array(x), y)


def test_a_network_at_chance_is_told_once():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(200, 2)), draw.integers(0, 2, 200)
    with pytest.warns(ConvergenceWarning, match="no better than chance after 3 epochs") as warned:
        RobustClassifier(**{**QUICK, "epochs": 3, "lr": 1e-5}).fit(x, y)
    assert len(warned) == 1


def test_a_run_folder_without_pickle(fitted, tmp_path):
    model, x, y = fitted
    run = model.to_run(tmp_path / "run", x, y)
    again = RobustClassifier.from_run(run)
    assert np.array_equal(again.predict_proba(x), model.predict_proba(x))
    assert again.get_params() == model.get_params()
    assert (again.n_iter_, again.n_features_in_) == (model.n_iter_, model.n_features_in_)
    result = sparring.evaluate(run, progress=False, suite="quick")
    assert result.robust.accuracy == model.evaluate(x, y).robust.accuracy
    assert result.dataset == "classifier-rows.npz"
    network = sparring.load(run)
    assert network(model.scaling_.tensor(x)).argmax(1).tolist() == model.predict(x).tolist()
    with pytest.raises(FileExistsError):
        model.to_run(run)
    for text in ("{", "[]", "{}", json.dumps({"arguments": {"nothing": 1}})):
        (run / "classifier.json").write_text(text)
        with pytest.raises(ValueError, match=r"classifier\.json is damaged"):
            RobustClassifier.from_run(run)
    with pytest.raises(FileNotFoundError, match=r"RobustClassifier.to_run writes it"):
        RobustClassifier.from_run(tmp_path)


def test_the_radius_is_given_once(fitted):
    _, x, y = fitted
    with pytest.raises(ValueError, match=r"threat\.eps = 0\.5 is not allowed: .* eps gives"):
        RobustClassifier(**QUICK, threat={"name": "Linf", "eps": 0.5}).fit(x, y)


def test_rows_of_a_run_bring_their_labels(fitted, tmp_path):
    model, x, _ = fitted
    with pytest.raises(ValueError, match="given with X"):
        model.to_run(tmp_path / "run", x)


def test_a_run_of_numpy_s_arguments(tmp_path):
    x, x_test, y, y_test = tumours()
    ways = QUICK | {"hidden": np.array([8]), "random_state": np.int64(3)}
    run = RobustClassifier(**ways).fit(x, y).to_run(tmp_path / "run", x_test, y_test)
    assert RobustClassifier.from_run(run).get_params()["random_state"] == 3


def test_rows_at_the_bounds_and_attacked_ones_are_inside():
    """Bounds such as 0.1 are no numbers of float32, which the network takes."""
    x, x_test, y, y_test = tumours()
    low, width = x.min(0), np.ptp(x, axis=0)
    x, x_test = (0.1 * ((some - low) / width).clip(0, 1) for some in (x, x_test))
    ways = QUICK | {"scaling": None, "bounds": (0, 0.1), "eps": 0.002, "epochs": 40, "lr": 0.03}
    model = RobustClassifier(**ways).fit(x, y)
    moved = model.attack(x_test, y_test)
    assert (moved.min(), moved.max()) == (0, 0.1)
    assert model.evaluate(moved, y_test, suite="quick").robust.accuracy <= 1
    RobustClassifier(**ways).fit(moved, y_test)


@pytest.mark.parametrize("scaling", ["standard", "range"])
def test_features_of_tiny_units_count_as_much(scaling):
    """In farads, a capacitor of a picofarad is no constant."""
    x, _, y, _ = tumours()
    x = (x - x.mean(0)) / x.std(0)
    ways = QUICK | {"scaling": scaling}
    plain, tiny = (RobustClassifier(**ways).fit(x * unit, y) for unit in (1.0, 2.0**-50))
    assert np.allclose(tiny.decision_function(x * 2.0**-50), plain.decision_function(x))


def test_labels_that_move_in_training_rest_in_validation_and_evaluation():
    x, x_test, y, y_test = tumours()
    threat = {"name": "Joint", "of": "Linf", "scale": 1.0, "delta": 0.2, "classes": 2}
    model = RobustClassifier(**QUICK, threat=threat, method="AT").fit(x, y)
    assert model.evaluate(x_test, y_test, suite="quick").threat["name"] == "Linf"
    assert model.attack(x_test, y_test).shape == x_test.shape
