"""The table of what each idea bought: its lines are those of the committed results."""

from __future__ import annotations

import re

import pytest

from scripts.result_pages import build, collect, ideas


@pytest.fixture(scope="module")
def page() -> collect.Collected:
    """A page of three seeds a run."""
    return collect.collect(next(page for page in collect.PAGES if page.name == "drebin215"))


def test_a_line_has_the_mean_of_seeds_and_the_p_of_each(page, monkeypatch):
    monkeypatch.setattr(ideas, "IDEAS", (ideas.Idea("mine", "drebin215", "monotone", "rfgsm-at"),))
    line = ideas.ideas_table([page], {"drebin215": "Malware"}).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:4] == ["mine", "`monotone`, `rfgsm-at`", "[Malware](drebin215.md)", "`all`"]
    means = {m.run: m.robust for m in page.headline()}
    difference = 100 * (means["monotone"] - means["rfgsm-at"])
    assert float(cells[4].split(" ±")[0]) == pytest.approx(difference, abs=0.05)
    assert cells[4].endswith("(3)")
    assert len(cells[5].split(", ")) == 3
    assert re.fullmatch(r"\d+\.\d, \d+\.\d", cells[6])


def test_a_lower_mean_has_a_minus_sign(page, monkeypatch):
    monkeypatch.setattr(ideas, "IDEAS", (ideas.Idea("mine", "drebin215", "rfgsm-at", "monotone"),))
    assert "| −5.0 ± " in ideas.ideas_table([page], {"drebin215": "Malware"})


def test_the_sentences_name_every_system_of_the_table():
    text = build.INDEX.read_text(encoding="utf-8")
    below = text.partition("<!-- /made: ideas -->")[2].partition("## Studies")[0]
    for system in ("ARMOR", "OTJR", "UAD", "Data sparsity", "MART"):
        assert f"* **{system}**" in below
        assert any(system.lower() in idea.name.lower() for idea in ideas.IDEAS)
