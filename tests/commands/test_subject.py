"""Models by path, name or object: what is read, what is refused, and in how many words."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import sparring
from sparring.commands import evaluate, metrics, subject
from sparring.config import recipe
from tests.oracles import Net


def rows(n: int = 40):
    x = torch.rand(n, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return x, Net(6, 4, scale=2.0)(x).argmax(1)


def run(model=None, **more):
    model = Net(6, 4, scale=2.0) if model is None else model
    return evaluate.evaluate(model, **{"data": rows(), "suite": "quick", "eps": 0.1} | more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on the digits, after one epoch."""
    table = recipe.load_recipe("digits-standard", set=["train.epochs=1", "evaluation.n=20"])
    return sparring.train(table, out=tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the run, to be damaged."""
    return shutil.copytree(trained, tmp_path / "digits")


SOURCE = """
import torch
from torch import nn

def make(): return nn.Linear(6, 4)
def pair(x): return x[:, :4], x
def broken(): raise KeyError("no weights here")
def stopping(x): raise SystemExit("no GPU")
def leaving(): raise SystemExit("usage: net FILE")
class Net(nn.Module):
    def __init__(self, width): super().__init__()
word = "net"
"""


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """The name of a module in the current folder."""
    (tmp_path / "strangers_models.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    yield "strangers_models"
    sys.modules.pop("strangers_models", None)


@pytest.mark.parametrize(
    "form",
    [
        lambda z: (z, "features"),
        lambda z: {"features": -z, "logits": z},
        lambda z: [z],
    ],
    ids=["tuple", "mapping", "list"],
)
def test_a_surrogate_is_read_as_a_model_is(form):
    other = Net(6, 4, seed=1)
    want = run(suite="transfer", surrogate=other)
    found = run(suite="transfer", surrogate=lambda x: form(other(x)))
    assert found.robust == want.robust
    assert other.training == Net(6, 4, seed=1).training


def test_a_surrogate_comes_from_a_file_or_a_module_too(stranger, tmp_path):
    other = Net(6, 4, seed=1).eval()
    want = run(suite="transfer", surrogate=other)
    example = (torch.rand(4, 6),)
    dims = ({0: torch.export.Dim("b")},)
    path = tmp_path / "other.pt2"
    torch.export.save(torch.export.export(other, example, dynamic_shapes=dims), path)
    assert run(suite="transfer", surrogate=path, trust=True).robust == want.robust
    assert run(suite="transfer", surrogate=f"{stranger}:pair", trust=True).n == 40
    for name in (path, f"{stranger}:pair"):
        with pytest.raises(ValueError, match=r"^surrogate: .*--trust"):
            run(suite="transfer", surrogate=name)


@pytest.mark.parametrize(
    ("surrogate", "words"),
    [
        (Net(5, 4), r"surrogate: the model does not take the data's samples of shape \(6,\)"),
        (lambda x: None, "surrogate: .*returned a NoneType"),
        (3, "surrogate: model is a int"),
        (nn.Linear(6, 4).state_dict(), "surrogate: model is a OrderedDict.*without their network"),
        ("nowhere", "surrogate: nowhere is not a run folder: there is no file or folder"),
    ],
)
def test_mistakes_in_a_surrogate_name_it(surrogate, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words) as error:
        run(surrogate=surrogate)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("name", ["nte.pt2", "./nte.pt2", "nte.onnx", "sub/nte"])
def test_a_mistyped_file_is_missing_whatever_comes_with_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pt2").write_bytes(b"")
    for more in ({}, {"trust": True}, {"mean": 0.5}, {"data": None}):
        with pytest.raises(FileNotFoundError, match=r"no file .*nte|is not a run folder") as e:
            run(name, **more)
        assert ("did you mean 'net.pt2'?" in str(e.value)) == (name in ("nte.pt2", "./nte.pt2"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", r"model: broken\(\) failed: KeyError: 'no weights here'"),
        ("leaving", r"model: leaving\(\) failed: SystemExit: usage: net FILE"),
        ("stopping", r"samples of shape \(6,\): SystemExit: no GPU"),
        ("Net", "model = Net takes arguments"),
        ("word", "model is a str"),
        ("nothing", "can't be loaded: AttributeError"),
    ],
)
def test_mistakes_in_a_module_s_model_are_explained(stranger, name, words):
    with pytest.raises(ValueError, match=words):
        run(f"{stranger}:{name}", trust=True)


def test_a_module_s_model_is_evaluated_with_and_without_a_recipe(stranger, trained):
    assert run(f"{stranger}:make", trust=True).n == 40
    text = f"import sparring\ndef load(): return sparring.load({str(trained)!r})\n"
    Path("strangers_loader.py").write_text(text)
    found = evaluate.evaluate(
        "strangers_loader:load", recipe="digits-standard", trust=True, n=20, suite="quick"
    )
    assert found.clean == evaluate.evaluate(trained, n=20, suite="quick", out="r.json").clean


def test_without_a_recipe_a_model_has_no_data_to_be_measured_on(tmp_path):
    for model in (Net(6, 4), lambda x: x):
        with pytest.raises(ValueError, match="recipe is missing"):
            metrics.metrics(model)
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="recipe is missing"):
        metrics.metrics(tmp_path / "weights.safetensors")


def test_a_run_without_recipe_says_what_to_do_and_takes_one(folder):
    want = evaluate.evaluate(folder, n=20, suite="quick")
    (folder / "recipe.toml").unlink()
    with pytest.raises(FileNotFoundError, match=r"no recipe\.toml.*--recipe.*sparring\.load\("):
        evaluate.evaluate(folder)
    found = evaluate.evaluate(folder, recipe="digits-standard", n=20, suite="quick")
    assert found.clean == want.clean
    (folder / "best.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"it has no recipe\.toml$"):
        evaluate.evaluate(folder)


@pytest.mark.parametrize("name", [5000 * "a", 5000 * "a" + ":b", "a/" + 5000 * "b", 3000 * "a/"])
def test_a_name_that_no_system_takes_is_shortened(name):
    for call in (evaluate.evaluate, sparring.load):
        with pytest.raises(FileNotFoundError, match="is not a run folder: ") as error:
            call(name)
        assert len(str(error.value)) < 300


def test_a_pipe_is_neither_a_run_nor_a_model(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    for more in ({}, {"recipe": "digits-standard"}):
        with pytest.raises(FileNotFoundError, match="it is no regular file"):
            evaluate.evaluate(tmp_path / "pipe.pt", **more)


def test_a_file_is_no_run(folder):
    with pytest.raises(FileNotFoundError, match="is not a run folder: it is a file"):
        sparring.load(folder / "recipe.toml")


NAMES = ["recipe.toml", "log.jsonl", "best.safetensors", "machine.json", "results", "metrics"]


@pytest.mark.parametrize("name", NAMES)
def test_links_in_a_run_folder_are_refused(folder, tmp_path, name):
    aside = tmp_path / "aside"
    if (folder / name).exists():
        (folder / name).rename(aside)
    else:
        aside.mkdir()
    (folder / name).symlink_to(aside)
    for call in (evaluate.evaluate, sparring.load):
        with pytest.raises(ValueError, match=f"{name} is a symbolic link"):
            call(folder)


def test_a_link_to_a_run_folder_is_followed(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert isinstance(sparring.load(tmp_path / "link"), nn.Module)


DAMAGES = {
    "best.safetensors": [b"", b"<html>", b"\x10" + 7 * b"\0" + b'{"a":1}', 40 * b"\xff"],
    "machine.json": [b"", b"{", b"[1]", b"\xff\xfe"],
}


@pytest.mark.parametrize(
    ("name", "content"), [(name, c) for name, contents in DAMAGES.items() for c in contents]
)
def test_a_damaged_file_of_a_run_is_named_in_a_line(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is damaged") as error:
        evaluate.evaluate(folder, n=20, suite="quick")
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_named(folder):
    save_file(nn.Linear(2, 2).state_dict(), folder / "best.safetensors")
    with pytest.raises(ValueError, match=r"best\.safetensors does not fit the model \(missing"):
        evaluate.evaluate(folder)


def test_a_run_of_layers_whose_names_differ_by_a_prefix_is_evaluated(stranger, tmp_path):
    source = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential()
        self.model.add_module("fc", nn.Linear(64, 32))
        self.fc = nn.Linear(32, 10)
    def forward(self, x): return self.fc(self.model(x.flatten(1)).relu())
"""
    (tmp_path / "strangers_models.py").write_text(source)
    table = recipe.load_recipe(
        "digits-standard", set=["train.epochs=1", f"model={{name='{stranger}:Net'}}"], trust=True
    )
    made = sparring.train(table, out=tmp_path / "own")
    written, loaded = load_file(made / "best.safetensors"), sparring.load(made, trust=True)
    assert {k: v.tolist() for k, v in loaded.state_dict().items()} == {
        k: v.tolist() for k, v in written.items()
    }
    assert evaluate.evaluate(made, n=20, suite="quick", trust=True).n == 20


def test_a_name_with_a_separator_is_a_path():
    assert subject.is_program(Path("package.module:Class"))
    assert not subject.is_program(Path("C:\\models\\net.pt"))
    assert not subject.is_program(Path("runs/2026-01-01T10:00"))


def test_an_evaluation_says_that_the_training_did_not_learn(tmp_path):
    changes = {"train.epochs": 1, "train.optimizer.lr": 1e-9}
    run = sparring.train("digits-standard", out=tmp_path / "run", set=changes)
    assert any("did not learn" in note for note in evaluate.evaluate(run, n=20).notes)


def test_a_training_that_learns_is_not_doubted(trained):
    assert not any("did not learn" in note for note in evaluate.evaluate(trained, n=20).notes)
