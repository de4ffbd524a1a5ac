"""Metrics and the plane from the command line, to the file, the table, the page and the picture."""

from __future__ import annotations

import io
import json
import math

import pytest
import torch
from rich.console import Console

import sparring
from sparring.commands import evaluate, plane, report
from sparring.commands.metrics import checked_metrics, metrics
from sparring.config.recipe import load_recipe, read
from sparring.metrics import METRICS
from sparring.reporting import boundary_2d
from sparring.results.metric_report import MetricReport
from sparring.runtime.warning import SparringWarning
from tests.command import call

SMALL = {
    "train.epochs": 1,
    "train.batch_size": 500,
    "validation.attack.steps": 1,
    "model": {"name": "mlp", "hidden": [8]},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "digits"
    return sparring.train("digits-standard", out=out, set=SMALL, device="cpu")


def test_a_run_is_measured_and_reported(run, capsys):
    few = ["--metric", "deepfool-l2", "--metric", "eni", "--metric", "entropy"]
    said = call("metrics", run, *few, "--off", "moons", "--n", 20, capsys=capsys, code=2)
    assert "off = (2,) is not allowed" in " ".join(said.split())
    said = call("metrics", run, *few, "--with", "eni.draws=3", "--n", 20, capsys=capsys)
    assert "deepfool-l2 ↑" in said
    assert "eni ↓" in said
    held = MetricReport.load(run / "metrics" / "test.json")
    assert (held.name, held.n, held.dataset) == ("digits", 20, "digits")
    assert held.rows[1].config["draws"] == 3
    assert held.recipe["recipe"]["name"] == "digits-standard"
    evaluate.evaluate(run, suite="quick", n=20, eps=[0.1], device="cpu")
    page = report.report([run]).page
    html = page.read_text(encoding="utf-8")
    assert "Metrics on digits" in html
    assert "eni ↓" in html


def test_from_python(run, tmp_path):
    found = metrics(run, {"ebd": {"directions": 2}}, n=5, out=tmp_path / "a.json", device="cpu")
    assert [row.name for row in found.rows] == ["ebd"]
    assert found.rows[0].config["directions"] == 2


def test_names_and_arguments_are_checked():
    assert list(checked_metrics([])) == list(METRICS)
    for given, said in {
        ("edb",): "did you mean 'ebd'",
        ("ebd", "ebd.direction=2"): "did you mean 'ebd.directions'",
        ("ebd", "eni.draws=2"): "metric = 'eni' does not exist",
        ("ebd", "ebd.low=2"): "key = 'ebd.low' does not exist",
        ("ebd", "ebd.directions=many"): "ebd.directions = 'many' is not allowed",
    }.items():
        with pytest.raises(ValueError, match=said):
            checked_metrics([given[0]], given[1:])


def test_metrics_are_listed(capsys):
    assert call("list", "metrics", capsys=capsys).split()[0] == "rho-adv"


def test_the_plane_from_the_command_line(tmp_path, capsys):
    out, table = tmp_path / "plane.svg", tmp_path / "plane.json"
    recipes = ["plane-standard", "plane-sparsity:data.mix.0.per=2", "digits-trades:attack.steps=1"]
    how = ["--steps", 20, "--seeds", 2, "--out", out, "--table", table]
    said = call("plane", "circles", *recipes, *how, capsys=capsys)
    assert "circles: 100 points, 20 steps, 2 seeds" in said
    assert out.read_text(encoding="utf-8").startswith("<?xml")
    held = json.loads(table.read_text())
    assert [row["name"] for row in held["rows"]] == [r.split(":")[0] for r in recipes]
    assert held["rows"][1]["changes"] == ["data.mix.0.per=2"]
    assert all(len(row["distance"]) == len(row["robust"]["0.2"]) == 2 for row in held["rows"])
    low, mean, high = (held["rows"][0]["mean"]["distance"][k] for k in (1, 0, 2))
    assert low < mean < high


def test_recipes_of_other_data_are_moved_to_the_plane():
    plan = plane.plane_recipe("moons", "mnist-trades", ["method.beta=4"], points=50, seed=3)
    tables = plan.tables
    assert tables["data"]["name"] == "moons"
    assert (tables["data"]["limit"], tables["data"]["seed"], plan.seed) == (50, 3, 3)
    assert tables["data"]["augment"] == []
    assert tables["model"]["name"] == "mlp"
    assert tables["method"]["beta"] == 4
    old = load_recipe("mnist-trades").tables
    ratio = old["attack"]["size"] / old["threat"]["eps"]
    assert tables["threat"]["eps"] == pytest.approx(0.0375)
    assert tables["attack"]["size"] / 0.0375 == pytest.approx(ratio)


def test_a_picture_shows_what_was_generated():
    for name, what in {
        "plane-standard": "",
        "plane-pgd-at": "adversarial",
        "plane-sparsity": "unlabelled",
    }.items():
        plan = plane.plane_recipe("moons", name, [], points=60, seed=0)
        trainer, source = plane.train(plan, 10)
        row = plane.PlaneRow(name, [])
        plane.append_numbers(row, trainer.model, source, [0.2], grid=30, seed=0)
        field = plane.boundary_field(row, trainer, source, grid=30)
        assert field.generator == what
        assert bool(len(field.generated)) == bool(what)
        assert len(field.points) == 60


def test_mistakes_on_the_plane(capsys):
    for arguments, said in {
        ("mons", "plane-standard"): "did you mean 'moons'",
        ("moons", "plane-standrd"): "did you mean 'plane-standard'",
        ("moons", "plane-trades:method.bta=2"): "key = 'method.bta' does not exist",
        ("moons", "plane-standard", "--points", "0"): "points = 0 is not allowed",
        ("moons", "plane-standard", "--out", "a.txt"): "a file that ends in",
    }.items():
        text = call("plane", *arguments, capsys=capsys, code=2)
        assert said in " ".join(text.split())


@pytest.mark.slow
def test_unlabelled_points_push_the_boundary_away_and_labels_alone_do_not():
    """Two moons at λ = 0.1: N_u = 0 is where plain training is, N_u = 3 further away."""
    rows = [f"plane-sparsity:data.mix.0.per={n}" for n in (0, 3)]
    with pytest.warns(SparringWarning, match="per = 0"):
        found = plane.plane("moons", ["plane-standard", *rows], seeds=2, steps=800, grid=120)
    plain, none, three = (row.distance for row in found.rows)
    for k in range(2):
        assert abs(none[k] - plain[k]) < 0.03
        assert three[k] > plain[k] + 0.05


def test_a_figure_s_ending_is_checked_before_the_training(monkeypatch):
    monkeypatch.setattr(plane, "train", None)
    with pytest.raises(ValueError, match="a file that ends in"):
        plane.plane("moons", ["plane-standard"], out="a.txt")


@pytest.mark.parametrize(
    ("recipes", "options", "message"),
    [
        (["plane-standard", "plane-standrd"], {}, "did you mean 'plane-standard'"),
        (["plane-standard", "plane-trades:method.bta=2"], {}, "key = 'method.bta'"),
        (["plane-standard"], {"eps": [0.2, -1.0]}, r"eps = -1\.0 .*standard deviations"),
        (["plane-standard"], {"eps": [math.inf]}, "eps = inf is not allowed"),
        (["plane-standard"], {"grid": 1}, "grid = 1 is not allowed"),
    ],
)
def test_every_mistake_is_told_before_the_first_training(monkeypatch, recipes, options, message):
    monkeypatch.setattr(plane, "train", None)
    with pytest.raises(ValueError, match=message):
        plane.plane("moons", recipes, **options)


@pytest.mark.parametrize("steps", [1, 4, 15, 500, 1500, 1501])
@pytest.mark.parametrize("n", [20, 100, 1000, 1500, 2000])
def test_a_training_has_the_batches_that_were_asked_for(n, steps):
    size = min(64, n)
    epochs, rows = plane.repeated_rows(n, size, steps)
    batches = math.ceil(len(rows) / size)
    assert abs(epochs * batches - steps) <= steps / 100
    if epochs > 1 or steps * size >= n:
        times = torch.bincount(rows, minlength=n)
        assert times.min() >= 1
        assert times.max() - times.min() <= 1


def test_a_radius_that_is_given_twice_counts_once():
    table = plane.plane("moons", ["plane-standard"], steps=2, points=20, grid=12, eps=[0.2, 0.2])
    assert [len(v) for v in table.rows[0].robust.values()] == [1]


def test_a_model_of_one_class_has_no_distance(tmp_path):
    row = plane.PlaneRow("one", [], [math.inf, 0.5], [0.5, 0.9], {"0.2": [0.5, 0.8]})
    table = plane.PlaneTable("moons", 10, 5, "PGD", [0, 1], [row], {}, "")
    text = table.save(tmp_path / "a.json").read_text()
    held = json.loads(text, parse_constant=lambda name: pytest.fail(name))["rows"][0]
    assert (held["distance"], held["mean"]["distance"]) == ([None, 0.5], [None, None, None])
    shown = Console(width=100, record=True, file=io.StringIO())
    shown.print(boundary_2d.rows(table))
    assert "∞" in shown.export_text()


def test_shrinking_leaves_a_threat_without_radius():
    tables = read("mnist-standard")
    before = json.dumps(tables)
    plane._shrink(tables, 0.1)
    assert json.dumps(tables) == before
