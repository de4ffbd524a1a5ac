"""The terminal table and the page: one result and several, whole or with parts missing."""

from __future__ import annotations

import copy
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sparring.evaluation.result import AttackRow, Check, EpsRow, Result, wilson
from sparring.reporting import figures, page, table

N = 200


def _row(name: str, k: int) -> AttackRow:
    i = wilson(k, N)
    return AttackRow(name, i.accuracy, i.low, i.high, 1.5, 20.5, 19.5)


def make(name: str = "run", *, shape: tuple[int, ...] = (1, 6, 6), standing: int = 150) -> Result:
    """A result of 200 samples and three classes, its arrays in agreement with its numbers."""
    rng = np.random.default_rng(0)
    y = np.arange(N) % 3
    adv = y.copy()
    adv[standing:] = (y[standing:] + 1) % 3
    x = rng.random((4, *shape), dtype=np.float32)
    log = [
        {"epoch": e, "loss": 1 / e, "clean": 0.9, "robust": 0.1 * e, "ema_robust": None}
        for e in (1, 2, 3)
    ]
    by_eps = [
        EpsRow(0.05, wilson(180, N), 180, [_row("FGSM", 185), _row("PGD-20", 180)]),
        EpsRow(0.1, wilson(standing, N), standing, [_row("FGSM", 160), _row("PGD-20", standing)]),
    ]
    return Result(
        name=name,
        recipe={"recipe": {"name": "toy-at"}, "attack": {"steps": 10}},
        dataset="toy",
        split="test",
        n=N,
        threat={"name": "Linf", "eps": 0.1},
        seed=0,
        clean=wilson(195, N),
        robust=by_eps[-1].robust,
        by_eps=by_eps,
        attacks=by_eps[-1].attacks,
        checks=[Check("zero gradients", False, "look elsewhere", "0 %")],
        train={"seconds": 90.0, "epochs": 3, "device": "cpu", "log": log},
        versions={"torch": "2"},
        commit="abc",
        data_sha256="00",
        suite="quick",
        suite_version=1,
        precision="float32",
        device="cpu",
        seconds=3.0,
        class_names=["cat", "dog", "eel"],
        arrays={
            "y": y,
            "clean_pred": y,
            "adv_pred": adv,
            "show_x": x,
            "show_x_adv": np.clip(x + 0.05, 0, 1),
            "show_y": y[:4],
            "show_clean": y[:4],
            "show_adv": np.array([1, 1, -1, 0]),
        },
    )


def text(results: list[Result]) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table(results))
    return console.export_text()


class Page(HTMLParser):
    """Tags and addresses of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href")]


def test_table_says_the_numbers() -> None:
    said = text([make()])
    for needed in ("97.50", "75.00", "90.00", "150", "PGD-20", "20.5", "worst case", "none of 1"):
        assert needed in said


def test_table_orders_radii_and_shows_fired_checks() -> None:
    result = make()
    result.checks = [Check("zero gradients", True, "use the margin", "40 %")]
    said = text([result])
    assert said.index("eps 0.05") < said.index("eps 0.1 ")
    assert "use the margin" in said
    assert "none of" not in said


def test_page_is_self_contained_and_complete(tmp_path: Path) -> None:
    html = page([make()], tmp_path / "r.html").read_text(encoding="utf-8")
    found = Page(html)
    assert all(a.startswith("data:") for a in found.addresses)
    assert not {"script", "link", "iframe"} & set(found.tags)
    assert found.tags.count("img") == 4
    for needed in ("97.50", "75.00 [68.6, 80.5]", "toy-at", "sparring evaluate runs/run", "abc"):
        assert needed in html


def test_page_compares_and_says_overlap(tmp_path: Path) -> None:
    results = [make("a"), make("b", standing=155), make("c", standing=40)]
    html = page(results, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "overlap" in html
    assert re.search(r'class="best">77\.50', html)
    assert html.count("Which classes fall into which") == 3


def test_page_of_different_data_says_so(tmp_path: Path) -> None:
    other = make("b")
    other.dataset = "elsewhere"
    html = page([make("a"), other], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "different data" in html


def test_stranger_cannot_inject(tmp_path: Path) -> None:
    result = make("<script>alert(1)</script>")
    result.class_names = ["<img src=x onerror=alert(1)>", "b", "c"]
    result.checks = [Check("<b>x</b>", True, "<script>", "d")]
    html = page([result], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "onerror=alert(1)>" not in html


def test_missing_parts_are_said(tmp_path: Path) -> None:
    result = make()
    result.arrays, result.train, result.recipe = {}, {}, {}
    html = page([result], tmp_path / "r.html").read_text(encoding="utf-8")
    assert html.count("arrays of this result are not beside it") == 2
    assert "No training log" in html


def test_no_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no results"):
        page([], tmp_path / "r.html")
    with pytest.raises(ValueError, match="no results"):
        table([])


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 6, 6), (12,)])
def test_samples_of_any_shape(shape: tuple[int, ...]) -> None:
    figure = figures.samples(make(shape=shape))
    assert figure is not None
    assert len(figure.axes) == 12


def test_confusion_counts_rows() -> None:
    figure = figures.confusion(make())
    assert figure is not None
    shown = figure.axes[1].images[0].get_array()
    assert shown is not None
    assert np.allclose(shown.sum(1), 100)
    assert shown[0, 0] == pytest.approx(100 * 50 / 67)


def test_failed_write_keeps_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = page([make()], tmp_path / "r.html")
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        page([copy.deepcopy(make("other"))], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
