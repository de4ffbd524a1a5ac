"""The command line: output, exit codes, one session from training to report."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

import sparring
from sparring import cli

TINY = [
    "--set",
    "train.epochs=1",
    "--set",
    "attack.steps=1",
    "--set",
    "model={name='mlp', hidden=[8]}",
    "--set",
    "train.batch=500",
]


def call(*arguments, capsys, code=0):
    """Run the command line in this process; its output, and it must exit with `code`."""
    old, sys.argv = sys.argv, ["sparring", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as caught:
            cli.main()
    finally:
        sys.argv = old
    out, err = capsys.readouterr()
    assert (caught.value.code or 0) == code, out + err
    return out + err


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
    ("arguments", "said"),
    [
        (["train", "digits-mrt"], "did you mean 'digits-mart'"),
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
    ],
)
def test_a_mistake_exits_with_2_and_one_message(arguments, said, capsys):
    text = call(*arguments, capsys=capsys, code=2)
    assert said in " ".join(text.split())
    assert "Traceback" not in text


def test_debug_shows_the_traceback(capsys):
    assert "Traceback" in call("train", "digits-mrt", "--debug", capsys=capsys, code=2)


def test_a_failure_exits_with_1(capsys, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of luck")

    monkeypatch.setattr("sparring.run.train", fail)
    text = call("train", "digits-mart", capsys=capsys, code=1)
    assert "out of luck" in text
    assert "--debug" in text


def test_an_interrupt_exits_with_130(capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sparring.run.train", stop)
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
    assert call("list", "methods", capsys=capsys).split()[0] == "AT"


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
    tables = sparring.recipe.load(run).tables
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
