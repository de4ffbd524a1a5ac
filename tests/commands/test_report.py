"""Reports of several runs: what is skipped, what is told, at which radius."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparring import reporting
from sparring.commands.report import report
from tests.reporting.made import make


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three runs, of which the last was not evaluated; pages are empty."""
    monkeypatch.setattr(reporting, "page", lambda results, path, **_: path.touch())
    for name, standing in (("weak", 60), ("strong", 150), ("new", 0)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "recipe.toml").write_text("")
        if standing:
            made = make(name, standing=standing)
            made.arrays = {}
            made.train = {}
            made.save(folder / "results" / "a.json")
    return tmp_path / "runs"


def test_a_run_without_results_is_skipped_and_the_best_comes_first(runs: Path) -> None:
    done = report([runs / name for name in ("weak", "new", "strong")], out=runs / "page.html")
    assert [r.name for r in done.results] == ["strong", "weak"]
    assert done.skipped == [runs / "new"]
    assert done.page.is_file()
    assert report([runs / "weak", runs / "new"]).page == runs / "weak" / "report.html"


def test_what_can_not_be_shown_is_told(runs: Path) -> None:
    with pytest.raises(FileNotFoundError, match="new holds no results: evaluate it first"):
        report([runs / "new"], out=runs / "page.html")
    inside = " ".join(str(runs / name) for name in ("new", "strong", "weak"))
    with pytest.raises(FileNotFoundError) as error:
        report([runs], out=runs / "page.html")
    assert str(error.value) == f"{runs} holds runs, not results; name the runs: {inside}"
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        report([runs / "nowhere", runs / "weak"], out=runs / "page.html")


def test_a_radius_may_be_asked_for(runs: Path) -> None:
    both = [runs / "weak", runs / "strong"]
    found = report(both, out=runs / "a.html", at=0.05).results
    assert [r.name for r in found] == ["weak", "strong"]  # alike there
    with pytest.raises(ValueError, match=r"at = 0\.2 .*Linf eps 0\.05, Linf eps 0\.1"):
        report(both, out=runs / "b.html", at=0.2)


def test_a_page_never_replaces_a_result(runs: Path) -> None:
    result = runs / "weak" / "results" / "a.json"
    before = result.read_bytes()
    with pytest.raises(ValueError, match=r"out = .*a\.json.* a file that ends in \.html, \.htm"):
        report([result], out=result)
    assert result.read_bytes() == before
