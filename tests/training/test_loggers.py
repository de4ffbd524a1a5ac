"""Loggers: what they are told, how they go on, and that none of them ends a training."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest

from sparring.config.recipe import load_recipe
from sparring.runtime import first_edition
from sparring.runtime.warning import SparringWarning
from sparring.training.loggers import LOGGERS, make_logger
from sparring.training.loggers.base import record_id, recorded_id
from sparring.training.run_folder import read_log
from tests.training.small import equal, finish, trainer


class Listed:
    """A user's logger, which keeps what it is told; `fails` in one of its calls."""

    def __init__(self, fails: str = "") -> None:
        self.told, self.fails = [], fails

    def start(self, run):
        self._add("start", (run.name, run.epochs_done, run.epochs))

    def epoch(self, epoch):
        self._add("epoch", epoch.number)

    def close(self):
        self._add("close", None)

    def _add(self, name, value):
        self.told.append((name, value))
        if name == self.fails:
            raise OSError("no route to host")


class FakeMlflow:
    """MLflow's client, in memory."""

    store: ClassVar[dict] = {}

    def __init__(self, tracking_uri):
        self.runs = FakeMlflow.store.setdefault(tracking_uri, {})

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return "1"

    def create_run(self, experiment, *, run_name):
        name = f"run{len(self.runs)}"
        self.runs[name] = {"name": run_name, "params": {}, "metrics": [], "status": "RUNNING"}
        return SimpleNamespace(info=SimpleNamespace(run_id=name))

    def update_run(self, name, status):
        self.runs[name]["status"] = status

    set_terminated = update_run

    def log_batch(self, name, *, metrics=(), params=()):
        assert len(params) <= 100
        self.runs[name]["params"] |= dict(params)
        self.runs[name]["metrics"] += [(key, step, value) for key, value, _, step in metrics]


class FakeWandb(ModuleType):
    """W&B, in memory."""

    def __init__(self):
        super().__init__("wandb")
        self.sessions = []

    def Settings(self, **options):
        return options

    def init(self, **options):
        rows = []
        self.sessions.append((options, rows))
        log = lambda row, step: rows.append((step, row))  # noqa: E731
        return SimpleNamespace(log=log, finish=lambda: rows.append("finished"))


@pytest.fixture
def services(monkeypatch):
    """Both services, faked."""
    FakeMlflow.store.clear()
    tuples = {name: lambda *values: values for name in ("Param", "Metric")}
    modules = {
        "mlflow.tracking": {"MlflowClient": FakeMlflow},
        "mlflow.entities": tuples,
        "mlflow": {},
    }
    for name, members in modules.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    return SimpleNamespace(mlflow=FakeMlflow.store, wandb=wandb)


def test_a_logger_of_ones_own_follows_the_training(tmp_path):
    logger = Listed()
    finish(trainer(tmp_path / "run", epochs=2, log=[logger]))
    first = ("start", ("run", 0, 2))
    assert logger.told == [first, ("epoch", 1), ("epoch", 2), ("close", None)]


def test_loggers_change_no_number(tmp_path):
    bare = finish(trainer(tmp_path / "bare", epochs=2))
    assert equal(bare, finish(trainer(tmp_path / "logged", epochs=2, log=[Listed])))


@pytest.mark.parametrize("when", ["start", "epoch", "close"])
def test_a_logger_that_fails_is_left_out_and_the_training_goes_on(tmp_path, when):
    bad, good = Listed(when), Listed()
    run = trainer(tmp_path / "run", epochs=2, log=[bad, good])
    told = rf"Listed failed in {when} and is left out; .*OSError: no route to host"
    with pytest.warns(SparringWarning, match=told) as warned:
        finish(run)
    assert len(warned) == 1
    assert run.position.epoch == 2
    assert [name for name, _ in good.told] == ["start", "epoch", "epoch", "close"]
    assert [name for name, _ in bad.told][-1] == when


def test_a_training_that_is_left_early_closes_its_loggers(tmp_path):
    logger = Listed()
    for _ in trainer(tmp_path / "run", log=[logger]):
        break
    assert [name for name, _ in logger.told] == ["start", "epoch", "close"]


def test_a_finished_run_bothers_no_logger(tmp_path):
    finish(trainer(tmp_path / "run", epochs=1))
    logger = Listed()
    finish(trainer(tmp_path / "run", epochs=1, log=[logger], resume=True))
    assert logger.told == []


def test_mlflow_goes_on_in_the_same_run(tmp_path, services):
    tables = {"train": {"epochs": 3}, "method": {"name": "MART", "beta": 5.0}}
    log = [{"name": "mlflow", "uri": "here"}]
    for _ in trainer(tmp_path / "run", log=log, recipe=tables):
        break
    (record,) = services.mlflow["here"].values()
    assert record["status"] == "KILLED"
    assert record["params"] == {"train.epochs": "3", "method.name": "MART", "method.beta": "5.0"}
    finish(trainer(tmp_path / "run", log=log, recipe=tables, resume=True))
    (record,) = services.mlflow["here"].values()
    assert record["status"] == "FINISHED"
    assert [step for key, step, _ in record["metrics"] if key == "robust"] == [1, 2, 3]
    rows = read_log(tmp_path / "run")
    assert [v for key, _, v in record["metrics"] if key == "loss"] == [r["loss"] for r in rows]
    assert {key for key, _, _ in record["metrics"]} >= {"clean", "robust", "lr", "seconds"}


def test_mlflow_knows_when_a_training_by_the_clock_is_finished(tmp_path, services):
    log = [{"name": "mlflow", "uri": "here"}]
    for _ in trainer(tmp_path / "stopped", log=log, seconds=60.0):
        break
    finish(trainer(tmp_path / "done", log=log, seconds=0.1))
    status = [record["status"] for record in services.mlflow["here"].values()]
    assert status == ["KILLED", "FINISHED"]


def test_wandb_goes_on_in_the_same_run_and_stays_offline(tmp_path, services):
    for _ in trainer(tmp_path / "run", log=["wandb"], recipe={"method": {"name": "MART"}}):
        break
    finish(
        trainer(tmp_path / "run", log=["wandb"], recipe={"method": {"name": "MART"}}, resume=True)
    )
    (first, rows), (second, more) = services.wandb.sessions
    assert first["id"] == second["id"]
    assert first["mode"] == "offline"
    assert first["dir"] == str(tmp_path / "run")
    assert first["config"] == {"method": {"name": "MART"}}
    assert "resume" not in second
    steps = [row[0] for row in (*rows, *more) if row != "finished"]
    assert steps == [1, 2, 3]
    assert rows[-1] == more[-1] == "finished"
    log = [{"name": "wandb", "mode": "online", "project": "mine"}]
    finish(trainer(tmp_path / "other", epochs=1, log=log))
    options, _ = services.wandb.sessions[-1]
    assert (options["resume"], options["project"]) == ("allow", "mine")


def test_tensorboard_writes_into_the_run(tmp_path):
    finish(trainer(tmp_path / "run", epochs=1, log=["tensorboard"]))
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


def test_the_old_keyword_of_tensorboard_still_works(tmp_path):
    with pytest.warns(DeprecationWarning, match=r"log=\['tensorboard'\]"):
        run = trainer(tmp_path / "run", epochs=1, tensorboard=True)
    finish(run)
    assert (tmp_path / "run" / "tensorboard").is_dir()
    assert first_edition.upgrade({"train": {"tensorboard": False}}) == {"train": {}}
    recipe = load_recipe("digits-mart", set=["train.tensorboard=true"])
    assert recipe.tables["train"]["log"] == [{"name": "tensorboard"}]
    assert "log" not in load_recipe("digits-mart").tables["train"]


@pytest.mark.parametrize("name", LOGGERS)
def test_a_missing_package_is_told_before_anything_is_written(tmp_path, monkeypatch, name):
    for module in ("tensorboard", "mlflow", "mlflow.tracking", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    recipe = load_recipe("digits-mart", set=[f"train.log=['{name}']"])  # loads all the same
    assert recipe.trainer()["log"][0]["name"] == name
    with pytest.raises(ValueError, match=rf"log = .* needs the package .*sparring\[{name}\]"):
        trainer(tmp_path / "run", log=[name])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("['mlfow']", r"train.log.0.name = 'mlfow' does not exist; did you mean 'mlflow'\?"),
        ("[3]", r"train.log.0 = 3 is not allowed: .* must be a name"),
        ("[{uri = 'x'}]", "train.log.0 = .* must be a name"),
        ("[{name = 'mlflow', url = 'x'}]", r"key = 'train.log.0.url' .* 'train.log.0.uri'"),
        ("'mlflow'", "train.log = 'mlflow' is not allowed"),
        ("['os:remove']", "train.log.0.name = 'os:remove' is code from outside"),
    ],
)
def test_a_wrong_logger_is_told_by_its_path(log, told):
    with pytest.raises(ValueError, match=told):
        load_recipe("digits-mart", set=[f"train.log={log}"])


def test_a_logger_from_outside_needs_trust():
    name = "tests.training.test_loggers:Listed"
    table = f"train.log=[{{name = '{name}', fails = 'epoch'}}]"
    recipe = load_recipe("digits-mart", set=[table], trust=True)
    assert make_logger(recipe.trainer()["log"][0]).fails == "epoch"


def test_what_is_no_logger_is_refused():
    with pytest.raises(ValueError, match="an object with start, epoch and close"):
        make_logger(3)
    with pytest.raises(ValueError, match="mode = 'ofline' does not exist; did you mean 'offline'"):
        make_logger({"name": "wandb", "mode": "ofline"})


def test_a_damaged_record_of_ids_is_none(tmp_path):
    record_id(tmp_path, "mlflow", "abc")
    record_id(tmp_path, "wandb", "xyz")
    assert (recorded_id(tmp_path, "mlflow"), recorded_id(tmp_path, "wandb")) == ("abc", "xyz")
    for text in ("{", "[]", '{"mlflow": 3}', '{"mlflow": "a\\u001b"}'):
        (tmp_path / "logged.json").write_text(text)
        assert recorded_id(tmp_path, "mlflow") is None


@pytest.mark.slow
def test_the_real_packages_offline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = ["tensorboard", "mlflow", "wandb"]
    for _ in trainer("run", log=log, recipe={"method": {"name": "MART"}}):
        break
    finish(trainer("run", log=log, recipe={"method": {"name": "MART"}}, resume=True))
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri="sqlite:///mlflow.db")
    name = recorded_id(tmp_path / "run", "mlflow")
    assert client.get_run(name).info.status == "FINISHED"
    assert [m.step for m in client.get_metric_history(name, "robust")] == [1, 2, 3]
    wandb = recorded_id(tmp_path / "run", "wandb")
    assert len(list((tmp_path / "run" / "wandb").glob(f"offline-run-*-{wandb}"))) == 2
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2
