"""A run of sparring 0.1, the first edition, resumes, loads and evaluates under today's names.

`first_edition/run` was written by sparring 0.1.0 (commit e2b3de7): an MLP of 32 units on digits,
MART by PGD-2 with risk KL, stopped after the first of three epochs.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

import sparring
from sparring.config.recipe import load_recipe
from sparring.runtime.first_edition import upgrade_settings
from sparring.training.checkpoint import load_last
from sparring.training.run_folder import read_log

OLD = Path(__file__).parent / "first_edition" / "run"
RECORDED = (  # loss, clean and robust accuracy of epochs 2 and 3, by sparring 0.1.0
    (2.3752065095034514, 0.743421052631579, 0.2565789473684211),
    (2.3062639193101364, 0.8157894736842105, 0.3157894736842105),
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "run"))


def test_it_resumes_with_the_numbers_of_the_version_that_began_it(run):
    before = (run / "recipe.toml").read_bytes()
    sparring.train(run, out=run, resume=True, device="cpu")
    rows = read_log(run)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row, (loss, clean, robust) in zip(rows[1:], RECORDED, strict=True):
        assert row["loss"] == pytest.approx(loss, rel=1e-4)
        assert row["clean"] == pytest.approx(clean, abs=0.02)
        assert row["robust"] == pytest.approx(robust, abs=0.02)
        assert list(row) == list(rows[0])
        assert list(row["parts"]) == list(rows[0]["parts"])
    assert (run / "recipe.toml").read_bytes() == before


def test_its_recipe_has_the_batch_size_under_its_new_name():
    assert "batch = 100" in (OLD / "recipe.toml").read_text()
    table = load_recipe(OLD).tables["train"]
    assert table["batch_size"] == 100
    assert "batch" not in table


def test_other_settings_still_do_not_resume(run):
    with pytest.raises(ValueError, match=r"train\.batch_size was 100 and is 50 now"):
        sparring.train(run, out=run, resume=True, set={"train.batch": 50}, device="cpu")


def test_its_model_loads():
    model = sparring.load(OLD)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert not model.training


def test_it_evaluates(run):
    result = sparring.evaluate(run, suite="quick", n=40, device="cpu")
    assert 0.1 < result.clean.accuracy < 1
    assert result.train["versions"]["sparring"] == "0.1.0"
    assert (run / "results" / "quick-test.json").is_file()


def test_the_settings_of_a_run_without_a_recipe_are_upgraded_too():
    assert upgrade_settings({"batch": 16, "epochs": 3}) == {"batch_size": 16, "epochs": 3}


def test_a_checkpoint_of_another_format_names_the_version_and_the_way_out(run):
    state = torch.load(run / "last.pt", weights_only=True)
    torch.save(state | {"format": 2}, run / "last.pt")
    (run / "machine.json").write_text(json.dumps({"versions": {"sparring": "9.1.0"}}))
    message = (
        r"checkpoint format 2, written by sparring 9\.1\.0; sparring .* reads format 1: "
        r"install sparring 9\.1\.0 to resume this run, or train again"
    )
    with pytest.raises(ValueError, match=message):
        sparring.train(run, out=run, resume=True)
    (run / "machine.json").unlink()
    with pytest.raises(ValueError, match="written by another version of sparring"):
        load_last(run)
    assert sparring.load(run)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
