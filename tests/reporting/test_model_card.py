"""Model cards from results made by hand: several norms, certificates, early ends, foreign texts."""

import dataclasses

import pytest

from sparring.reporting.model_card import CardFacts, model_card
from sparring.results.intervals import wilson
from sparring.results.result import Certificate, Check
from tests.reporting.made import N, make

RECIPE = {
    "method": {"name": "TRADES", "beta": 6.0, "compat": False},
    "threat": {"name": "L2", "eps": 0.5},
    "model": {"name": "mlp", "shape": [20], "classes": 3},
    "train": {"epochs": 7, "batch_size": 50, "optimizer": {"name": "SGD", "lr": 0.1}},
}
FACTS = CardFacts("net", RECIPE, "toy")


def test_results_are_needed():
    with pytest.raises(ValueError, match="no results to show"):
        model_card([], FACTS)


def test_vectors_are_a_table():
    text = model_card([make()], FACTS)
    assert 'pipeline_tag: "tabular-classification"' in text
    assert "| Method | TRADES, beta 6 |" in text
    assert "| Trained against | L2, eps 0.5 |" in text
    assert "| Epochs | 7 of 50 samples per batch, SGD with lr 0.1 |" in text
    assert "inputs (b, 20)" in text
    assert "## Citation" not in text
    train = RECIPE["train"] | {"seconds": 320.0}
    by_clock = model_card([make()], CardFacts("net", RECIPE | {"train": train}, "toy"))
    assert "| Epochs | those of 320 s by the clock, of 50 samples per batch" in by_clock


def test_the_command_names_a_suite_that_exists():
    text = model_card([dataclasses.replace(make(), suite="quick+transfer")], FACTS)
    assert "$ sparring evaluate net --suite quick --surrogate RUN\n" in text


def test_each_norm_has_its_rows_and_the_worst_of_all():
    result = make()
    first, second = result.by_eps
    rows = [dataclasses.replace(first, threat="Linf"), dataclasses.replace(second, threat="L2")]
    text = model_card([dataclasses.replace(result, by_eps=rows)], FACTS)
    assert "| robust | Linf eps 0.05 | 90.00" in text
    assert "| robust | L2 eps 0.1 | 75.00" in text
    assert "| robust | all of them | 75.00" in text


def test_certificates_fired_checks_and_an_early_end_are_said():
    result = make()
    i = wilson(100, N)
    bound = Certificate("crown", i.accuracy, i.low, i.high, N, 1.0)
    rows = [dataclasses.replace(result.by_eps[0], certified=[bound]), result.by_eps[1]]
    check = Check("zero gradients", True, "Use another loss.", "half are 0", "not sound")
    text = model_card(
        [
            dataclasses.replace(
                result,
                by_eps=rows,
                checks=[check],
                verdict="not sound",
                reason="1 of 9 checks fired: zero gradients",
                early="the budget of 5 s was spent",
                notes=["net.onnx: scores alone"],
            )
        ],
        FACTS,
    )
    for part in (
        "| certified | Linf eps 0.05 | ≥ 50.00",
        "**Measurement: not sound** (1 of 9 checks fired: zero gradients). Do not rely",
        "* zero gradients: half are 0. Use another loss.",
        "* The evaluation ended early: the budget of 5 s was spent",
        "* net.onnx: scores alone",
    ):
        assert part in text.replace("\\", ""), part


def test_a_model_without_adversary_is_called_so():
    plain = dataclasses.replace(make(), recipe={"method": {"name": "Standard"}})
    facts = FACTS._replace(recipe={"method": {"name": "Standard"}})
    assert "trained without an adversary" in model_card([plain], facts)


def test_names_are_one_word_in_commands():
    text = model_card([make()], FACTS._replace(name="a; rm -rf ~", repo="ada/b$(x)"))
    assert "hf download ada/b--x- --local-dir b--x-" in text
    assert "; rm" not in text.split("## Use")[1]
