"""The data of a run: found from any folder, and compared with those of the training."""

import json
import shutil
import warnings

import numpy as np
import pytest

from sparring.commands import run_data
from sparring.commands.evaluate import evaluate
from sparring.commands.subject import recipe_target
from sparring.commands.train import train
from sparring.runtime.warning import SparringWarning

RNG = np.random.default_rng(0)
X = RNG.random((120, 6)).astype(np.float32)
Y = (X[:, 0] > 0.5).astype(int)
TABLES = """
[recipe]
name = "r"
[data]
name = "d.npz"
[model]
name = "mlp"
hidden = [4]
[method]
name = "Standard"
[train]
epochs = 1
[evaluation]
suite = "quick"
threat = { name = "Linf" }
eps = [0.01]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, a recipe and a run of it."""
    home = tmp_path_factory.mktemp("home")
    np.savez(home / "d.npz", x=X, y=Y)
    (home / "r.toml").write_text(TABLES)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        train("r.toml", out="runs/r", device="cpu")
    return home


@pytest.fixture
def home(trained, tmp_path, monkeypatch):
    copy = shutil.copytree(trained, tmp_path / "home")
    monkeypatch.chdir(copy)
    return copy


def notes(run="runs/r", **options):
    return recipe_target(run, None, **options).data.notes


def test_unchanged_data_are_not_spoken_of(home):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert notes() == []
        assert notes(set=["data.limit=50"]) == []
        assert notes(set=["data.balance=true"]) == []
    about = json.loads((home / "runs/r" / run_data.RECORD).read_text())
    assert about["path"] == "../../d.npz"
    assert str(home.parent) not in json.dumps(about)


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: (x[::-1], y[::-1]),
        lambda x, y: (np.concatenate([x, x[:9]]), np.concatenate([y, y[:9]])),
        lambda x, y: (x[:-1], y[:-1]),
        lambda x, y: (x, 1 - y),
        lambda x, y: (x * 0.5, y),
    ],
    ids=["reordered", "grown", "cut", "relabelled", "scaled"],
)
def test_changed_data_are_said(home, change):
    x, y = change(X, Y)
    np.savez(home / "d.npz", x=x, y=y)
    with pytest.warns(SparringWarning, match="d.npz changed since the training"):
        assert "rows that the model was trained on" in notes()[-1]


@pytest.mark.parametrize("change", ["data.seed=1", "data.test=0.3", "data.val=30"])
def test_another_split_is_said(home, change):
    with pytest.warns(SparringWarning, match=r"d\.npz is split otherwise than in training"):
        assert "split otherwise" in notes(set=[change])[-1]


def test_a_result_records_the_change(home):
    np.savez(home / "d.npz", x=X[::-1], y=Y[::-1])
    with pytest.warns(SparringWarning, match="changed since the training"):
        result = evaluate("runs/r", n=8, device="cpu")
    assert "changed since the training" in result.notes[-1]
    saved = json.loads((home / "runs/r/results/quick-test.json").read_text())
    assert saved["notes"] == result.notes


def test_other_data_that_are_asked_for_are_noted_without_a_warning(home):
    np.savez(home / "e.npz", x=X[::-1], y=Y[::-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert notes(set=["data.name=e.npz"]) == [
            "evaluated on e.npz, not the data of the training"
        ]


@pytest.mark.parametrize(
    "content", [None, "", "[", "[1]", '{"sha256": 3}', "[" * 60_000, "x" * 70_000, "{}"]
)
def test_a_run_without_a_sound_record_is_evaluated(home, content):
    record = home / "runs/r" / run_data.RECORD
    record.unlink()
    if content is not None:
        record.write_text(content)
    assert notes() == []


def test_a_record_that_is_a_link_is_refused(home):
    record = home / "runs/r" / run_data.RECORD
    record.rename(home / "elsewhere.json")
    record.symlink_to(home / "elsewhere.json")
    with pytest.raises(ValueError, match=r"data\.json is a symbolic link"):
        notes()


def test_a_run_is_evaluated_from_any_folder_and_after_a_move(home, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    assert notes("../home/runs/r") == []
    home.rename(tmp_path / "moved")
    assert notes("../moved/runs/r") == []
    recipe = recipe_target("../moved/runs/r", None).recipe
    assert recipe["data"]["name"] == "d.npz"  # the result speaks of the data, not of a folder


def test_missing_data_are_said_with_what_to_change(home, tmp_path, monkeypatch):
    (home / "d.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file or folder d\.npz in .*data\.name=PATH"):
        notes()
    with pytest.raises(FileNotFoundError, match=r"runs/r/\.\./\.\./d\.npz, as in training"):
        notes()
    with pytest.raises(FileNotFoundError, match=r"no file or folder other\.npz in "):
        notes(set=["data.name=other.npz"])
    np.savez(tmp_path / "kept.npz", x=X, y=Y)
    assert "kept.npz" in notes(set=[f"data.name={tmp_path / 'kept.npz'}"])[-1]
