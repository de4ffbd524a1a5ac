"""The page of a search: it shows what the record holds, and no name in it becomes markup."""

from dataclasses import replace

import pytest
from rich.console import Console

from sparring import reporting
from sparring.results.trials import COMPLETE, FAILED, PRUNED, SearchRecord, Trial

EVIL = "<script>alert(1)</script>\x1b[2J"


@pytest.fixture
def record() -> SearchRecord:
    trials = [
        Trial(
            k, PRUNED if k % 4 == 3 else COMPLETE, {"lr": 0.1 / (k + 1), "method": "MART"}, r, 1 - r
        )
        for k, r in enumerate([0.5, 0.6, 0.55, 0.2, 0.58, 0.61])
    ]
    trials.append(Trial(6, FAILED, {"lr": 0.3, "method": "AT"}, reason=f"broke {EVIL}"))
    return SearchRecord("tiny", {"lr": "0.01..0.3:log", "method": "MART,AT"}, {}, trials=trials)


def test_the_page_names_the_best_trial_and_every_other(record, tmp_path):
    page = reporting.search_page(record, tmp_path / "page.html").read_text()
    assert "Trial 5 has the best robust accuracy on the validation split: 61.00 %" in page
    assert page.count("<tr") == 1 + len(record.trials)
    for text in ("Robust against clean", "variance explained alone", "ended early 1", "failed 1"):
        assert text in page


@pytest.mark.parametrize("trials", [0, 1])
def test_a_search_of_few_trials_has_a_page(record, tmp_path, trials):
    page = reporting.search_page(
        replace(record, trials=record.trials[:trials]), tmp_path / "p.html"
    )
    assert ("No trial is complete yet" in page.read_text()) == (trials == 0)


def test_no_name_becomes_markup(record, tmp_path):
    evil = replace(
        record,
        name=EVIL,
        space={EVIL: "1..2"},
        trials=[replace(t, parameters={EVIL: EVIL if t.number % 2 else 1}) for t in record.trials],
    )
    page = reporting.search_page(evil, tmp_path / "page.html").read_text()
    assert "<script>alert" not in page
    assert "\x1b" not in page
    console = Console(width=120, record=True, file=(tmp_path / "out.txt").open("w"))
    with console.file:
        console.print(reporting.search_summary(record))
    assert "trials that no other beats" in (tmp_path / "out.txt").read_text()
