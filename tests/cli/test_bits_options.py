"""Bits on the command line: a forest from a file, a csv with its options, and who may move what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier

import sparring
from sparring import data
from sparring.commands.requested_threat import RequestedThreat, class_number
from sparring.results import Result
from sparring.threats import Bits, Linf, Only
from tests.command import call

NAMES = ["a", "b", "c", "os=x", "os=y"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A csv of 300 apps, and a forest that was fitted on its earlier rows."""
    where = tmp_path_factory.mktemp("apps")
    rng = np.random.default_rng(0)
    x = (rng.random((300, 5)) < 0.5).astype(int)
    x[:, 4] = 1 - x[:, 3]
    kinds = np.where(x[:, 0] + x[:, 3] + 0.5 * rng.random(300) > 1.2, "malware", "benign")
    lines = [f"id{i},{i},{','.join(map(str, x[i]))},{kinds[i]}" for i in range(300)]
    (where / "apps.csv").write_text("\n".join([f"sha256,when,{','.join(NAMES)},kind", *lines]))
    (where / "mutable.txt").write_text("b\nc\nos=x\nos=y\n")
    apps = data.load(where / "apps.csv", time="when")
    y = [apps.class_names[k] for k in apps.train.y]
    forest = RandomForestClassifier(10, random_state=0).fit(apps.train.float().numpy(), y)
    skops.io.dump(forest, where / "forest.skops")
    return where


def evaluated(folder: Path, *more: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    return call(
        *("evaluate", str(folder / "forest.skops"), "--data", str(folder / "apps.csv")),
        *("--set", "data.time=when", "--device", "cpu", *more),
        capsys=capsys,
        code=code,
    )


BITS = ("--threat", "Bits", "--add-only", "--classes", "malware", "--suite", "bits-black-box")


def test_a_forest_is_judged_from_its_file(folder, tmp_path, capsys):
    out = tmp_path / "r.json"
    more = ("--mutable", str(folder / "mutable.txt"), "--set", 'data.groups=["os="]')
    text = evaluated(folder, *BITS, *more, "--eps", "1", "--out", str(out), capsys=capsys)
    assert "BitBeam" in text
    assert "FPR 0.1 % and 1 % needs 1,000 negatives" in " ".join(text.split())
    result = Result.load(out)
    threat = result.threat
    assert threat["classes"] == [1]
    assert threat["of"]["mutable"] == [0, 1, 1, 1, 1]
    assert threat["of"]["groups"] == [[3, 4]]
    assert threat["of"]["add_only"] is True
    assert "column 'sha256' dropped: it names the rows" in result.notes
    apps = data.load(folder / "apps.csv", time="when", groups=["os="])
    same = Only(Bits(1, mutable=[0, 1, 1, 1, 1], groups=apps.groups), classes=[1])
    again = sparring.evaluate(
        str(folder / "forest.skops"), apps, same, suite="bits-black-box", progress=False
    )
    assert again.robust == result.robust


def test_the_name_alone_takes_mask_and_groups_from_the_data(folder, tmp_path):
    apps = data.load(
        folder / "apps.csv", time="when", groups=["os="], mutable=folder / "mutable.txt"
    )
    result = sparring.evaluate(
        str(folder / "forest.skops"), apps, "bits", suite="bits-black-box", progress=False
    )
    assert result.threat["groups"] == [[3, 4]]
    assert result.threat["mutable"] == [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--add-only", "--eps", "1"), "add_only = True is not allowed: add_only must be left out"),
        (("--threat", "Linf", "--mutable", "x", "--eps", "1"), "it belongs to --threat Bits"),
        (("--at", "Linf=0.1", "--classes", "1"), "at takes no add-only, mutable or classes"),
        ((*BITS[:3], "--classes", "malwar"), "class = 'malwar' does not exist; did you mean 'malw"),
        (
            (*BITS, "--set", "train.epochs=1"),
            "set = 'train.epochs' is not allowed: set must be data.",
        ),
        ((*BITS, "--set", "data.labl=kind"), "did you mean 'data.label'"),
        ((*BITS, "--set", "data.time=wen"), "did you mean 'when'"),
        ((*BITS, "--mutable", "none.txt"), "mutable = 'none.txt' is not a file"),
        ((*BITS, "--eps", "1.5"), "eps = 1.5 is not allowed|whole numbers of flips"),
        (("--classes", "malware"), "eps is missing"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message, folder, capsys):
    import re

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        text = " ".join(evaluated(folder, *options, capsys=capsys, code=2).split())
    assert re.search(message, text), text


def test_a_mask_of_another_length_says_both(folder, tmp_path, capsys):
    (tmp_path / "mask.txt").write_text("1\n0\n1\n")
    text = evaluated(folder, *BITS, "--mutable", str(tmp_path / "mask.txt"), capsys=capsys, code=2)
    assert "3 entries and the data have 5 features" in " ".join(text.split())


def test_classes_of_any_threat_and_any_name():
    x = data.load("digits")
    threat = RequestedThreat("Linf", classes=["3", 7]).build(x, [0.1, 0.2])
    assert isinstance(threat, Only)
    assert (threat.classes, threat.eps) == ([3, 7], 0.1)
    own = RequestedThreat(None, classes=["1"]).build(x, None, Linf(0.3))
    assert isinstance(own, Only)
    assert own.eps == 0.3
    assert class_number("2", ["1", "2"]) == 1  # a name comes before a number
