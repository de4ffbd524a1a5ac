"""The terminal table and the page: one result and several, whole or with parts missing."""

from __future__ import annotations

import copy
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sparring.evaluation.result import AttackRow, Certificate, Check, EpsRow, Result, wilson
from sparring.reporting import figures, page, table, words

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


def text(results: list[Result], *, width: int = 200) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
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


def paired(name: str, standing: int, seed: int = 0) -> Result:
    """A result whose samples have row numbers, so that it can be paired."""
    result = make(name, standing=standing)
    result.arrays["index"] = np.arange(N)
    result.recipe = {"recipe": {"name": "toy-at", "seed": seed}}
    return result


def certified(name: str, k: int, n: int = N) -> Certificate:
    i = wilson(k, n)
    return Certificate(name, i.accuracy, i.low, i.high, n, 2.0, "what was proven")


def norms() -> Result:
    """A result with two norms and certificates."""
    result = make("two")
    rows = [
        EpsRow(eps, wilson(k, N), k, [_row("PGD-20", k)], norm)
        for norm, eps, k in (("Linf", 0.1, 150), ("L2", 0.5, 160), ("L2", 1.5, 140))
    ]
    rows[0].certified.append(certified("CROWN-IBP", 110))
    rows[2].certified.extend([certified("IBP", 20, 100), certified("smoothing σ = 1", 90, 100)])
    result.by_eps, result.attacks, result.robust = rows, rows[-1].attacks, wilson(130, N)
    return result


def html_of(results: list[Result], folder: Path) -> str:
    """The page, without the pictures that take long to draw."""
    keep = ("index", "y", "clean_pred", "adv_pred")
    lean = [
        dataclasses.replace(r, train={}, arrays={k: r.arrays[k] for k in keep if k in r.arrays})
        for r in results
    ]
    return page(lean, folder / "r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("verdict", ["trust", "look", "do not trust"])
def test_the_verdict_comes_first_with_its_reasons(verdict: str, tmp_path: Path) -> None:
    result = make()
    result.verdict = verdict
    if verdict != "trust":
        check = Check("zero gradients", True, "use the margin", "40 %", "do not trust")
        result.checks = [Check("noise", True, "more", "1 %"), check]
        result.reasons = ["noise: 1 %", "zero gradients: 40 %", "no attack without gradients"]
    said, html = text([result]), html_of([result], tmp_path)
    assert verdict.upper() in said
    assert f"<strong>{verdict.capitalize()}</strong>" in html
    assert html.index("<strong>") < html.index("clean accuracy<b>")
    if verdict != "trust":
        assert said.index("[do not trust] zero gradients: 40 %") < said.index("[look] noise: 1 %")
        assert said.count("no attack without gradients") == 1
        assert said.count("zero gradients: 40 %") == 1
        assert html.index(">do not trust</span>") < html.index(">look</span>")
        assert "<li>no attack without gradients</li>" in html
        assert "<li>zero gradients" not in html


def test_an_early_end_is_marked(tmp_path: Path) -> None:
    result = make()
    result.early = "the budget of 5 s was spent"
    row = result.by_eps[-1]
    row.attacks[1] = dataclasses.replace(row.attacks[1], skipped=30)
    for shown in (text([result]), html_of([result], tmp_path)):
        assert "≤ 75.00" in shown
        assert "≤ 90.00" not in shown
        assert "≤ 80.00" not in shown
        assert "the budget of 5 s was spent" in shown
        assert "30" in shown
    markers = [line.get_marker() for line in figures.radii([result]).axes[0].lines]
    assert markers.count("v") == 2  # the largest radius, and the legend


def test_norms_have_rows_of_their_own(tmp_path: Path) -> None:
    said, html = text([norms()]), html_of([norms()], tmp_path)
    for needed in ("Linf eps 0.1", "L2 eps 0.5", "L2 eps 1.5", "worst of all", "65.00"):
        assert needed in said
    assert html.count("<h3>Attacks at") == 2
    assert "robust accuracy, Linf eps 0.1 and L2 eps 1.5<b>65.00" in html
    assert "every attack at every L2 radius" in html
    assert "every attack at every Linf radius" not in html
    assert "--at Linf=0.1 --at L2=0.5 --at L2=1.5" in html
    assert len(figures.radii([norms()]).axes) == 2
    both = html_of([norms(), make("one")], tmp_path)
    assert "different threats (Linf, Linf and L2)" in both
    assert "<th>worst case</th>" in both


def test_certificates_stand_beside_attacks(tmp_path: Path) -> None:
    said, html = text([norms()]), html_of([norms()], tmp_path)
    assert "≥ 55.00 certified" in said
    assert "≥ 20.00 certified, first 100" in said  # and not the smoothed model's 90
    assert "smoothing σ = 1 (smoothed model, first 100)" in said
    assert "of the smoothed model, first 100 samples" in html
    assert "CROWN-IBP: what was proven." in html
    axes = figures.radii([norms()]).axes
    dashed = [line for line in axes[0].lines if line.get_linestyle() == "--"]
    assert np.asarray(dashed[0].get_ydata()).tolist() == [97.5, pytest.approx(55)]
    assert len(axes[0].collections) == 2


def test_pairs_and_seeds_are_compared(tmp_path: Path) -> None:
    results = [paired("a", 150), paired("b", 170, seed=1), paired("c", 171, seed=2)]
    said, html = text(results), html_of(results, tmp_path)
    assert "−10.00 [−" in said
    assert "0 : 20" in said
    assert "Of the two highest: robust accuracy: 200 samples do not tell b and c apart" in html
    assert "0 : 20" in html
    assert html.count('class="wide left"') == 3
    mean, std = np.mean([75, 85, 85.5]), np.std([75, 85, 85.5], ddof=1)
    for shown in (said, html):
        assert f"{mean:.2f} ± {std:.2f} [" in shown
    assert "Over training seeds" not in html_of(results[:1], tmp_path)
    other = paired("d", 60)
    other.data_sha256 = "11"
    assert words.compared([results[0], other]) == []


def test_what_is_not_trusted_is_nobodys_best(tmp_path: Path) -> None:
    results = [paired("a", 150), paired("b", 170), paired("c", 140)]
    results[1].verdict = "do not trust"
    html = html_of(results, tmp_path)
    assert 'class="best">75.00' in html
    assert 'class="best">85.00' not in html
    assert "Of the two highest: robust accuracy: a is better than c" in html
    assert '<small class="bad">do not trust</small>' in html


def test_the_best_is_marked_among_those_measured_alike(tmp_path: Path) -> None:
    results = [paired("a", 150), paired("b", 170), paired("c", 140), paired("d", 130)]
    results += [paired("lone", 190)]
    for r, suite in zip(results, ("quick", "quick", "pgd", "pgd", "rest"), strict=True):
        r.suite = suite
    html = html_of(results, tmp_path)
    assert [f'class="best">{share}' in html for share in ("75.00", "85.00", "70.00", "65.00")] == [
        *(False, True, True, False)
    ]
    assert 'class="best">95.00' not in html
    assert "Of the two highest under quick: robust accuracy: b is better than a" in html
    assert "Of the two highest under pgd: " in html


def test_a_narrow_terminal_folds_names_and_cuts_none() -> None:
    said = text([make("a-rather-long-name")], width=60)
    assert "…" not in said
    first = [line.split("│")[1].strip() for line in said.splitlines() if line.startswith("│")]
    assert "".join(first).startswith("a-rather-long-name")


def test_many_results_are_compared_with_the_best_measured_alike() -> None:
    results = [paired(str(k), 100 + k, seed=k) for k in range(6)]
    assert len(words.compared(results[:5])) == 10
    assert {"5"} <= set.intersection(*({c.first, c.second} for c in words.compared(results)))
    for r in results[:3]:
        r.suite = "pgd"
    results += [paired(f"{k}'", 10 + k, seed=k) for k in range(3)]
    pairs = {(c.first, c.second) for c in words.compared(results)}
    assert {("0", "2"), ("1", "2"), ("3", "5"), ("5", "0'")} <= pairs
    assert not {("0", "1"), ("3", "4"), ("2", "5")} & pairs


def test_repeated_names_are_told_apart() -> None:
    results = [make("a"), make("a"), make("a"), make("b"), make("a")]
    results[1].suite, results[2].split = "pgd", "val"
    names = [r.name for r in words.labelled(results)]
    assert names == [
        "a · quick · test · 1",
        "a · pgd",
        "a · quick · val",
        "b",
        "a · quick · test · 2",
    ]
    assert [r.name for r in results] == ["a", "a", "a", "b", "a"]
    assert "a · pgd" in text(results)


@pytest.mark.parametrize(
    ("count", "said"), [(1, ">r0<"), (4, ">Comparison of r0, r1, r2, r3<"), (5, "of 5 results<")]
)
def test_a_heading_names_few_results_and_counts_many(count, said, tmp_path) -> None:
    results = [make(f"r{k}") for k in range(count)]
    assert f"{said}/h1>" in page(results, tmp_path / "r.html").read_text(encoding="utf-8")


def test_many_names_stand_below_their_figure_and_few_in_it() -> None:
    few = figures.radii([make(f"run {k}") for k in range(8)])
    many = figures.radii([make(f"run {k}") for k in range(40)])
    assert few.axes[0].get_legend() is not None
    assert not few.legends
    assert many.axes[0].get_legend() is None
    assert [t.get_text() for t in many.legends[0].get_texts()] == [f"run {k}" for k in range(40)]
    assert many.get_figheight() > few.get_figheight() + 2
    figures.svg(many, "drawn without a warning")


def test_a_training_is_drawn_once_for_all_results_of_its_model() -> None:
    other = make("wide · pgd")
    other.train["log"][0]["loss"] = 2.0
    figure = figures.training([make("plain · pgd"), other, make("plain · quick")])
    assert figure is not None
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert [line.get_label() for line in lines] == ["plain", "wide · pgd"]


def test_one_radius_beside_several_is_a_point() -> None:
    several = make("several")
    assert len(several.by_eps) > 1
    one = dataclasses.replace(make("one"), by_eps=several.by_eps[:1])

    def style(results: list[Result], name: str) -> str:
        lines = figures.radii(results).axes[0].lines
        (line,) = [line for line in lines if line.get_label() == name]
        return str(line.get_linestyle())

    assert style([several, one], "one") == "None"
    assert style([several, one], "several") == style([one], "one") == "-"
