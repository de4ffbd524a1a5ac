"""Read the results of a page: which folders it shows, and the seeds of each run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sparring.results.collapsed import SUFFIX, has_collapsed
from sparring.results.metric_report import MetricReport
from sparring.results.records import is_record
from sparring.results.result import EpsRow, Result
from sparring.results.seeds import training_seed

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
# Strongest first.
SUITES = ("autoattack", "all", "pgd", "bits", "bits-black-box", "from-x", "fast", "quick")
CIFAR_EPS = 8 / 255


@dataclass(frozen=True)
class Page:
    """Describe a page of docs/results/; the file trials/NAME.json, if there is one, has the trials
    that its settings were chosen by.

    Arguments:
        folders: of results/, with the text that replaces the recipe's name in names of its runs.
        eps: the radius of table and figure; None where the threat has none.
        baseline: the run that others are compared with, seed by seed.
        beside: other folders of results/ that the page has tables from.
        rare: classes whose accuracy the page shows beside that of the worst class.
        pairs: runs that the page's text compares: first, second, and the evaluation; default: that
            of the main table.
    """

    name: str
    eps: float | None
    baseline: str
    folders: dict[str, tuple[str, str]] = field(default_factory=dict)
    pairs: tuple[tuple[str, ...], ...] = ()
    beside: tuple[str, ...] = ()
    rare: tuple[int, ...] = ()

    @property
    def file(self) -> Path:
        """Return the file of the page."""
        return ROOT / "docs" / "results" / f"{self.name}.md"

    @property
    def figure(self) -> Path:
        """Return the file of the figure."""
        return ROOT / "docs" / "figures" / "results" / f"{self.name}.svg"

    def sources(self) -> list[Path]:
        """Return the folders of results that the page is made from."""
        return [RESULTS / name for name in (self.folders or {self.name: ("", "")})]

    def shown(self) -> list[Path]:
        """Return the folders and files of results that the page shows anything of."""
        return [*self.sources(), *(RESULTS / name for name in self.beside), trials_file(self.name)]


def trials_file(page: str) -> Path:
    """Return the file of the trials that chose the settings of a page, whether it exists or not."""
    return RESULTS / "trials" / f"{page}.json"


RECIPES = dict.fromkeys(("mnist-autoattack", "mnist-pgd", "mnist-quick", "mnist-pgd40"), ("", ""))
SPARSITY_PAIRS = (
    ("sparsity-0", "standard"),
    ("sparsity-1", "sparsity-0"),
    ("sparsity-2", "sparsity-1"),
    ("sparsity-4", "sparsity-2"),
    ("sparsity-4", "sparsity-1"),
    ("jr", "sparsity-0"),
    ("fgsm-at", "sparsity-4"),
    ("sparsity-at", "pgd-at"),
)
ABLATION_PAIRS = (
    *(("uad-B0", "uad"), ("uad-B0-D0", "uad-D0"), ("uad-A0-B0", "uad-A0")),
    *(("uad-A0-B0-D0", "uad-A0-D0"), ("uad-A0", "uad"), ("uad-A0-D0", "uad-D0")),
    *(("uad-A0-B0-D0", "uad-B0-D0"), ("uad-A0-B0", "uad-B0"), ("uad-D0", "uad")),
    *(("uad-A0-D0", "uad-A0"), ("uad-B0-D0", "uad-B0"), ("uad-A0-B0-D0", "uad-A0-B0")),
)
ARMOR_PAIRS = (
    ("pgd-at", "pgd-at-radius01", "paper"),
    ("pgd-at-radius03-natural", "pgd-at-radius03", "paper"),
    ("armor-mart", "pgd-at", "paper"),
    ("armor-mart", "pgd-at", "autoattack"),
    ("armor-mart", "mart", "paper"),
    ("armor-mart", "udr-mart", "paper"),
    ("armor-mart-awp", "armor-mart", "paper"),
    ("armor-mart-12-epochs", "pgd-at-12-epochs", "paper"),
    ("armor-mart-12-epochs", "pgd-at-12-epochs"),
    ("armor-trades", "trades", "paper"),
    ("armor-transport", "pgd-at", "paper"),
    ("armor-renyi", "pgd-at", "paper"),
)
MALWARE_PAIRS = (
    ("bitsearch-at", "rfgsm-at"),
    ("armor-asym", "rfgsm-at"),
    ("armor-bitsearch", "bitsearch-at"),
    ("monotone", "bitsearch-at"),
    ("monotone-benign", "monotone"),
)
FEW_PAIRS = (
    *((name, "pgd-at") for name in ("armor-kl", "armor-alpha", "armor-renyi", "trades", "mart")),
    ("armor-trades", "trades"),
    ("armor-mart", "mart"),
)
NOISE_PAIRS = (
    *((name, "pgd-at") for name in ("label", "smoothing", "armor-kl", "armor-alpha")),
    *((name, "pgd-at") for name in ("trades", "mart")),
    ("armor-label", "armor-kl"),
)
LAST_EPOCH_PAIRS = (
    *((name, "pgd-at") for name in ("otjr", "otjr-half", "sw-half", "stopped")),
    ("otjr-half", "sw-half"),
    ("otjr-half", "stopped"),
)
RARE_PAIRS = (
    ("balanced", "pgd-at"),
    *((name, "pgd-at") for name in ("armor-kl", "cvar", "per-class")),
    *((name, "balanced") for name in ("balanced-kl", "armor-kl")),
)
MAIN_PAIRS = (
    *((name, "pgd-at") for name in ("trades", "mart", "otjr", "uad", "armor-kl", "armor-mart")),
    ("armor-mart", "mart"),
    ("pgd-at-narrow", "pgd-at"),
    *((f"{name}-wide", "pgd-at") for name in ("otjr", "sw", "uad", "armor-kl", "mart")),
)
RIVALS = ("malware-rivals",)
PAGES = (
    Page(
        "mnist-recipes",
        0.3,
        "mnist-pgd-at",
        RECIPES | {"mnist-otjr-sw8": ("mnist-otjr", "mnist-otjr-sw8")},
    ),
    Page("inside-mnist", 0.3, "pgd-at"),
    Page("inside-fashion", 0.1, "pgd-at"),
    Page("inside-cifar10", CIFAR_EPS, "pgd-at"),
    Page("inside-sweep-mnist", 0.3, "pgd-at"),
    Page("inside-sweep", CIFAR_EPS, "pgd-at"),
    Page("main-fashion", 0.1, "pgd-at", pairs=MAIN_PAIRS),
    Page("fashion-few-rows", 0.1, "pgd-at", pairs=LAST_EPOCH_PAIRS),
    Page("uad-ablation", 0.1, "uad", pairs=ABLATION_PAIRS),
    Page("mnist-sparsity", 0.1, "pgd-at", pairs=SPARSITY_PAIRS),
    Page("fashion-sparsity", 0.1, "pgd-at", pairs=SPARSITY_PAIRS),
    Page("sparsity-sweep", 0.1, "standard"),
    Page("mnist-linf01", 0.1, "pgd-at", pairs=ARMOR_PAIRS),
    Page("mnist01-few-rows", 0.1, "pgd-at", pairs=FEW_PAIRS),
    Page("mnist01-label-noise", 0.1, "pgd-at", pairs=NOISE_PAIRS),
    Page("mnist01-rare-classes", 0.1, "balanced", pairs=RARE_PAIRS, rare=(5, 6, 7, 8, 9)),
    Page("mnist-1000-labels", 0.3, "mart"),
    Page("mnist-100-labels", 0.3, "mart"),
    Page("drebin215", None, "rfgsm-at", pairs=MALWARE_PAIRS, beside=RIVALS),
    Page("defensedroid-api", None, "rfgsm-at", pairs=MALWARE_PAIRS, beside=RIVALS),
)


class Measured(NamedTuple):
    """Hold the results of a run in one evaluation, at one radius: a result and a row per seed."""

    run: str
    evaluation: str
    folder: Path
    rows: list[tuple[Result, EpsRow]]

    @property
    def suite(self) -> str:
        """Return the name of the suite."""
        return self.rows[0][0].suite

    @property
    def eps(self) -> float | None:
        """Return the radius."""
        return self.rows[0][1].eps

    @property
    def results(self) -> list[Result]:
        """Return the results, by seed."""
        return [result for result, _ in self.rows]

    @property
    def robust(self) -> float:
        """Return the mean robust accuracy."""
        return sum(row.robust.accuracy for _, row in self.rows) / len(self.rows)


class Collected(NamedTuple):
    """Hold everything that a page is made from."""

    page: Page
    measured: list[Measured]
    metrics: list[MetricReport]

    def at_eps(self) -> list[Measured]:
        """Return what was measured at the page's radius."""
        return [m for m in self.measured if m.eps == self.page.eps]

    def evaluations(self) -> list[str]:
        """Return the evaluations at the page's radius, strongest first."""
        suites = {m.evaluation: SUITES.index(m.suite) for m in self.at_eps()}
        return sorted(suites, key=lambda name: (suites[name], name))

    def headline(self) -> list[Measured]:
        """Return each run in the evaluation that most runs have, else in its strongest.

        The evaluation is the strongest that at least half of the runs have.
        """
        evaluations = self.evaluations()
        by_run: dict[str, dict[str, Measured]] = {}
        for m in self.at_eps():
            by_run.setdefault(m.run, {})[m.evaluation] = m
        counts = {e: sum(e in group for group in by_run.values()) for e in evaluations}
        main = next(e for e in evaluations if 2 * counts[e] >= len(by_run))
        chosen = [group.get(main) or _strongest(group, evaluations) for group in by_run.values()]
        return sorted(chosen, key=lambda m: (m.evaluation != main, -m.robust))


def _strongest(group: dict[str, Measured], evaluations: Iterable[str]) -> Measured:
    return next(group[e] for e in evaluations if e in group)


def collect(page: Page) -> Collected:
    """Return the results of a page."""
    measured: dict[tuple[str, str, str, float | None], Measured] = {}
    metrics = []
    for folder in page.sources():
        before, after = page.folders.get(folder.name, ("", ""))
        for file in sorted(folder.rglob("*.json")):
            if not is_record(file, "arrays_sha256"):
                metrics.append(MetricReport.load(file))
                continue
            result = Result.load(file)
            run = re.sub(r"-seed\d+$", "", file.stem).replace(before, after, 1)
            seed = training_seed(result)
            result = dataclasses.replace(result, name=f"{run}-seed{seed}")
            evaluation = result.suite if page.folders else file.parent.name
            run += SUFFIX if has_collapsed(result) else ""  # a row of its own, in no mean
            for row in result.by_eps:
                key = (run, evaluation, row.threat, row.eps)
                new = Measured(run, evaluation, file.parent, [])
                measured.setdefault(key, new).rows.append((result, row))
    return Collected(page, list(measured.values()), metrics)


def pairs_of(items: list[Measured]) -> Iterator[tuple[Measured, Measured]]:
    """Yield every pair, the higher accuracy first."""
    ordered = sorted(items, key=lambda m: -m.robust)
    for k, first in enumerate(ordered):
        for second in ordered[k + 1 :]:
            yield first, second
