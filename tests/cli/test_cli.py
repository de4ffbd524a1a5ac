"""The command line: output, exit codes, one session from training to report."""

import dataclasses
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.naive_bayes import GaussianNB
from torch import nn

import sparring
from sparring import data, evaluation
from sparring.attacks import Noise
from sparring.commands.evaluate import evaluate_to_file
from sparring.config.recipe import load_recipe
from sparring.results import Result
from sparring.runtime.warning import SparringWarning
from sparring.threats import Linf
from tests.command import call

STUDY = Path(__file__).parents[2] / "studies" / "digits.toml"
TINY = [
    "--set",
    "train.epochs=1",
    "--set",
    "attack.steps=1",
    "--set",
    "model={name='mlp', hidden=[8]}",
    "--set",
    "train.batch_size=500",
]


def test_help_starts_without_torch():
    program = (
        "import sys, sparring.cli; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_help_is_quick():
    def seconds():
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "sparring", "--help"], check=True, capture_output=True
        )
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 1.5  # 0.25 on a quiet machine


def test_version_and_help(capsys):
    assert call("--version", capsys=capsys).strip() == f"sparring {sparring.__version__}"
    for command in ("train", "evaluate", "report", "list", "cite"):
        assert "Usage" in call(command, "--help", capsys=capsys)


def test_public_names():
    assert {"train", "evaluate", "load"} <= set(dir(sparring))
    assert callable(sparring.load)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        sparring.lod  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "digits-mrt"],
            "did you mean 'digits-mart', 'digits-trades' or 'digits-pgd-at'? `",
        ),
        (["train", "digits-mrt"], "`sparring list recipes` has all"),
        (["show", "digits-mrt"], "did you mean 'digits-mart'"),
        (["compare", "no-such-run"], "no-such-run does not exist"),
        (["runs", "no-such-folder"], "no folder no-such-folder here"),
        (["list", "models", "--method", "MART"], "choose among recipes, not among models"),
        (["list", "--data", "mnst"], "did you mean 'mnist'"),
        (["evaluate", "digits-mart"], "digits-mart is a recipe"),
        (["evaluate", "net.pt2", "--data", "mnist", "--eps", "0.3"], "no file net.pt2 here"),
        (["train", "digits-mart", "--set", "method.bta=3"], "did you mean 'method.beta'"),
        (["train", "digits-mart", "--set", "threat.eps=-1"], "threat.eps = -1.0 is not allowed"),
        (["train", "digits-mart", "--set", "method=own:Mine"], "--trust"),
        (["train", "no/such.toml"], "there is no recipe at"),
        (["train"], "Missing argument"),
        (["trian"], "No such command"),
        (["evaluate", "no-such-run"], "no-such-run"),
        (["report", "no-such-run"], "no-such-run"),
        (["list", "modles"], "did you mean 'models'"),
        (["cite", "TRADE"], "did you mean 'TRADES'"),
        (["evaluate", "os:remove", "--eps", "1"], "data is missing"),
        (["evaluate", "os:remove", "--data", "digits"], "eps is missing"),
        (["evaluate", "os:remove", "--data", "digits", "--eps", "8/0"], "as 0.3 or 8/255"),
        (["evaluate", "os:remove", "--data", "digits", "--eps", "1"], "--trust"),
        (
            ["evaluate", "math:sqrt", "--data", "diggits", "--eps", "1", "--trust"],
            "did you mean 'digits'",
        ),
        (["evaluate", "x", "--mean", "a,b"], "mean = 'a,b' is not allowed"),
        (["evaluate", "x", "--robustbench", "a.txt"], "a .json file"),
        (["evaluate", "x", "--junit", "best.pt"], "ends in .xml"),
        (["evaluate", "x", "--out", "best.pt"], "ends in .json"),
        (["study", str(STUDY), "--report", "digits.toml"], "ends in .html"),
        (["evaluate", "x", "--robustbench", "a.json", "--suite", "quick"], "'autoattack'"),
        (["evaluate", "x", "--recipe", "digits-mart", "--data", "mnist"], "--set data.name"),
    ],
)
def test_a_mistake_exits_with_2_and_one_message(arguments, message, capsys):
    text = call(*arguments, capsys=capsys, code=2)
    assert message in " ".join(text.split())
    assert "Traceback" not in text


def test_a_notice_is_one_line_and_other_warnings_keep_their_place(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # to be put back
    call("--version", capsys=capsys)
    assert (
        warnings.formatwarning(SparringWarning("no rows"), SparringWarning, "a.py", 3)
        == "Note: no rows\n"
    )
    other = warnings.formatwarning(UserWarning("old"), UserWarning, "a.py", 3, "x = 1")
    assert other == "a.py:3: UserWarning: old\n  x = 1\n"


def test_debug_shows_the_traceback(capsys):
    assert "Traceback" in call("train", "digits-mrt", "--debug", capsys=capsys, code=2)


def test_a_failure_exits_with_1(capsys, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of luck")

    monkeypatch.setattr("sparring.commands.train.train", fail)
    text = call("train", "digits-mart", capsys=capsys, code=1)
    assert "out of luck" in text
    assert "--debug" in text


def test_an_interrupt_exits_with_130(capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sparring.commands.train.train", stop)
    call("train", "digits-mart", capsys=capsys, code=130)


def test_list(capsys):
    everything = call("list", capsys=capsys)
    for name in (
        "digits-mart",
        "wrn-34-10",
        "fashion-mnist",
        "FGSM",
        "Linf",
        "TRADES",
        "Mean",
        "AWP",
        "EMA",
        "Shift",
        "quick",
    ):
        assert name in everything
    assert call("list", "methods", capsys=capsys).startswith("ALP ")


def test_cite(capsys):
    assert "wang2020mart" in call("cite", "MART", capsys=capsys)
    both = call("cite", "mnist-trades", capsys=capsys)
    assert "zhang2019trades" in both
    assert "lecun1998gradient" in both
    assert both.count("@inproceedings{zhang2019trades") == 1
    assert "there is no paper" in call("cite", "Mean", capsys=capsys, code=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """One small run, trained through the command line."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    command = [
        sys.executable,
        "-m",
        "sparring",
        "train",
        "digits-mart",
        "--out",
        str(out),
        "--seed",
        "3",
        *TINY,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_train_leaves_a_run_folder(run):
    assert {"recipe.toml", "log.jsonl", "last.pt", "best.safetensors"} <= {
        p.name for p in run.iterdir()
    }
    tables = load_recipe(run).tables
    assert tables["recipe"] == {"name": "digits-mart", "paper": "wang2020mart", "seed": 3}
    assert tables["model"]["shape"] == [1, 8, 8]


def test_an_existing_run_is_never_overwritten(run, capsys):
    weights = (run / "best.safetensors").read_bytes()
    text = call("train", "digits-mart", "--out", run, *TINY, capsys=capsys, code=2)
    assert "--resume" in text
    assert (run / "best.safetensors").read_bytes() == weights


def test_load_gives_the_best_weights_in_eval_mode(run):
    model = sparring.load(run)
    assert not any(m.training for m in model.modules())
    best = load_file(run / "best.safetensors")
    assert all((model.state_dict()[key] == value).all() for key, value in best.items())


def test_a_run_that_names_foreign_code_does_not_load(run, tmp_path):
    text = (run / "recipe.toml").read_text().replace('name = "mlp"', 'name = "os:remove"')
    (tmp_path / "recipe.toml").write_text(text)
    (tmp_path / "best.safetensors").write_bytes((run / "best.safetensors").read_bytes())
    with pytest.raises(ValueError, match="--trust"):
        sparring.load(tmp_path)


def test_evaluate_and_report(run, tmp_path, capsys):
    text = call(
        "evaluate",
        run,
        "--suite",
        "quick",
        "--eps",
        "0.05",
        "--eps",
        "0.1",
        "--n",
        "40",
        capsys=capsys,
    )
    assert "clean" in text
    assert (run / "results" / "quick-test.json").is_file()
    weights = call(
        "evaluate",
        run / "best.safetensors",
        *(
            "--recipe",
            run / "recipe.toml",
            "--suite",
            "quick",
            "--n",
            "40",
            "--out",
            tmp_path / "other.json",
        ),
        *("--split", "val"),
        capsys=capsys,
    )
    assert "clean" in weights
    assert (tmp_path / "other.json").is_file()
    call("report", run, capsys=capsys)
    assert (run / "report.html").read_text().lstrip().lower().startswith("<!doctype html")
    call("report", run, tmp_path / "other.json", "--out", tmp_path / "both.html", capsys=capsys)
    assert (tmp_path / "both.html").is_file()


def test_a_weights_file_needs_its_recipe(run, capsys):
    assert "--recipe" in call("evaluate", run / "best.safetensors", capsys=capsys, code=2)


STRANGERS = """
import torch
from torch import nn

def logits(x):
    return x.flatten(1)[:, :10]

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def needy(x, y):
    return make()(x)

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
"""


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module in the current folder with a network, which is in a file too."""
    (tmp_path / "strangers_models.py").write_text(STRANGERS)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(model).save("net.pt")
    yield "strangers_models"
    sys.modules.pop("strangers_models", None)


WAYS = ("--data", "digits", "--eps", "5/250", "--n", "30", "--suite", "quick")


def test_a_program_is_evaluated_without_recipe(stranger, capsys, tmp_path):
    assert "--trust" in call("evaluate", "net.pt", *WAYS, capsys=capsys, code=2)
    call("evaluate", "net.pt", *WAYS, "--trust", "--out", "file.json", capsys=capsys)
    call("evaluate", f"{stranger}:make", *WAYS, "--trust", "--out", "name.json", capsys=capsys)
    ways = ("--mean", "0.5", "--std", "0.5", "--threat", "L2", "--batch", "7")
    call("evaluate", "net.pt", *WAYS, *ways, "--trust", "--out", "l2.json", capsys=capsys)
    one, two, three = (Result.load(f"{f}.json") for f in ("file", "name", "l2"))
    assert (one.name, two.name) == ("net", "make")
    assert one.by_eps[0].count == two.by_eps[0].count
    pred = [result.arrays["clean_pred"] for result in (one, two, three)]
    assert (pred[0] == pred[1]).all()
    assert (pred[0] != pred[2]).any()
    assert (one.dataset, one.n, one.threat["name"]) == ("digits", 30, "Linf")
    assert three.threat["name"] == "L2"
    call("report", "file.json", "l2.json", "--out", "page.html", capsys=capsys)


@pytest.mark.parametrize(
    ("model", "ways", "message"),
    [
        ("net.pt", ["--data", "odd.npz"], "does not take the data's samples of shape (1, 9, 9)"),
        ("net.pt", ["--mean", "0.1,0.2"], "mean has 2 numbers for inputs of 1 channels"),
        ("net.pt", ["--outputs", "probabilities"], "outside [0, 1]"),
        ("{}:needy", [], "does not take the data's samples of shape (1, 8, 8): TypeError"),
        ("{}:Net", [], "Net takes arguments: name a function"),
        ("{}:nett", [], "can't be loaded"),
    ],
    ids=range(6),
)
def test_a_model_that_does_not_fit_is_one_clear_line(stranger, model, ways, message, capsys):
    x = np.zeros((40, 9, 9), dtype=np.uint8)
    np.savez("odd.npz", x=x, y=np.arange(40) % 10)
    model = model.format(stranger)
    text = call("evaluate", model, *WAYS, *ways, "--trust", capsys=capsys, code=2)
    assert message in " ".join(text.split())
    assert "Traceback" not in text


def test_models_of_all_kinds_in_python(stranger):
    source = data.load("digits")
    x, y = source.train.x.flatten(1).numpy(), source.train.y.numpy()
    forest = GaussianNB(var_smoothing=0.1).fit(x, y)
    suite = evaluation.Suite("noise", 1, (("noise", lambda t: Noise(t, draws=3)),))
    ways = {"eps": 0.1, "n": 50, "suite": suite}
    result = sparring.evaluate(forest, data=source, **ways)
    assert result.clean.accuracy > 0.7
    assert result.name == "GaussianNB"
    named = GaussianNB(var_smoothing=0.1).fit(x, np.array(list("jihgfedcba"))[y])
    letters = dataclasses.replace(source, class_names=list("jihgfedcba"))
    assert sparring.evaluate(named, data=letters, **ways).clean == result.clean
    both = sparring.evaluate(f"{stranger}:logits", data="digits", trust=True, **ways)
    assert (
        both.clean == sparring.evaluate(lambda x: x.flatten(1)[:, :10], data="digits", **ways).clean
    )
    threat = Linf(0.05)
    bare = sparring.evaluate(
        nn.Flatten(), data=(source.test.x[:9], y[:9] * 0), threat=threat, suite=suite
    )
    assert bare.by_eps[0].eps == 0.05


def test_a_run_in_another_threat(run, capsys, tmp_path):
    ways = ("--suite", "quick", "--n", "20", "--threat", "L2", "--out", tmp_path / "l2.json")
    assert "eps" in call("evaluate", run, *ways, capsys=capsys, code=2)
    call("evaluate", run, *ways, "--eps", "0.5", capsys=capsys)
    assert Result.load(tmp_path / "l2.json").threat["name"] == "L2"


def test_robustbench_s_entry(stranger, capsys, monkeypatch):
    real, asked = evaluate_to_file, []

    def quick(model, **ways):
        asked.append(ways["suite"])
        result, _ = real(model, **(ways | {"suite": "quick"}))
        return dataclasses.replace(result, suite="autoattack", verdict="sound"), None

    monkeypatch.setattr("sparring.commands.evaluate.evaluate_to_file", quick)
    ways = [*WAYS[:-2], "--trust", "--robustbench", "entry.json"]
    assert "entry.json" in call("evaluate", "net.pt", *ways, capsys=capsys)
    assert asked == ["autoattack"]
    entry = json.loads(Path("entry.json").read_text())
    assert entry["dataset"] == "digits"
    assert "30 test samples" in entry["footnote"]
