"""Write the table of what each idea bought: a run with it beside a run without it."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean, stdev
from typing import NamedTuple

from . import statistics
from .collect import Collected, Measured
from .tables import code, minutes, p_text, table

HEADS = ("idea", "runs, with it and without", "study", "under", "points", "McNemar p", "minutes")


class Idea(NamedTuple):
    """Name an idea and the two runs of a page that show it.

    Arguments:
        evaluation: of both; "": that of the page's main table.
    """

    name: str
    page: str
    first: str
    second: str
    evaluation: str = ""


IDEAS = (
    Idea("ARMOR-MART, over PGD-AT", "mnist-linf01", "armor-mart", "pgd-at", "pgd"),
    Idea("ARMOR over MART, tuned", "main-fashion", "armor-mart", "mart"),
    Idea("ARMOR-KL, tuned", "main-fashion", "armor-kl", "pgd-at"),
    Idea("ARMOR-KL, at one radius", "main-fashion", "armor-kl-wide", "pgd-at"),
    Idea("ARMOR-KL, few rows", "mnist01-few-rows", "armor-kl", "pgd-at"),
    Idea("ARMOR-α, few rows", "mnist01-few-rows", "armor-alpha", "pgd-at"),
    Idea("ARMOR-KL, wrong labels", "mnist01-label-noise", "armor-kl", "pgd-at"),
    Idea("a label adversary, wrong labels", "mnist01-label-noise", "label", "pgd-at"),
    Idea("ARMOR-KL, rare classes", "mnist01-rare-classes", "armor-kl", "pgd-at"),
    Idea("ARMOR-KL, rare classes drawn evenly", "mnist01-rare-classes", "balanced-kl", "balanced"),
    Idea("ARMOR on bits", "drebin215", "armor-bitsearch", "bitsearch-at"),
    Idea("OTJR", "inside-mnist", "otjr", "pgd-at"),
    Idea("OTJR, tuned", "main-fashion", "otjr", "pgd-at"),
    Idea("OTJR, at one radius", "main-fashion", "otjr-wide", "pgd-at"),
    Idea("OTJR, last epoch on few rows", "fashion-few-rows", "otjr-half", "pgd-at"),
    Idea("OTJR at twice that weight, few rows", "fashion-few-rows", "otjr", "pgd-at"),
    Idea("its sliced Wasserstein term alone, few rows", "fashion-few-rows", "sw-half", "pgd-at"),
    Idea("its sliced Wasserstein term alone", "inside-mnist", "sw", "pgd-at"),
    Idea("UAD", "inside-mnist", "uad", "pgd-at"),
    Idea("UAD, tuned", "main-fashion", "uad", "pgd-at"),
    Idea("UAD, at one radius", "main-fashion", "uad-wide", "pgd-at"),
    Idea("data sparsity, over plain training", "fashion-sparsity", "sparsity-4", "standard"),
    Idea("data sparsity, over PGD-AT", "fashion-sparsity", "sparsity-at", "pgd-at"),
    Idea("MART", "inside-mnist", "mart", "pgd-at"),
    Idea("MART, tuned", "main-fashion", "mart", "pgd-at"),
    Idea("a larger radius in training", "main-fashion", "pgd-at", "pgd-at-narrow"),
    Idea("MART, few rows", "mnist01-few-rows", "mart", "pgd-at"),
    Idea("MART on rows without labels", "mnist-1000-labels", "mart-kl", "mart"),
    Idea("a better inner attack on bits", "drebin215", "bitsearch-at", "rfgsm-at"),
    Idea("a monotone net on bits", "drebin215", "monotone", "bitsearch-at"),
)


def ideas_table(pages: Iterable[Collected], titles: dict[str, str]) -> str:
    """Return a line per idea: the difference in points, p of each seed, and the time it takes."""
    by_name = {found.page.name: found for found in pages}
    lines = []
    for idea in IDEAS:
        found = by_name[idea.page]
        first, second = (_measured(found, run, idea.evaluation) for run in idea[2:4])
        pairs = statistics.on_same_samples(first, second).values()
        points = [100 * pair.difference for pair in pairs]
        lines.append(
            [
                idea.name,
                f"{code(first.run)}, {code(second.run)}",
                f"[{titles[idea.page]}]({idea.page}.md)",
                code(first.evaluation),
                _mean(points),
                ", ".join(p_text(pair.p) for pair in pairs),
                f"{minutes(first)}, {minutes(second)}",
            ]
        )
    return table(HEADS, lines)


def _measured(found: Collected, run: str, evaluation: str) -> Measured:
    evaluation = evaluation or found.headline()[0].evaluation
    return next(m for m in found.at_eps() if (m.run, m.evaluation) == (run, evaluation))


def _mean(points: list[float]) -> str:
    """Return the mean difference, with its standard deviation over several seeds.

    >>> _mean([1.0]), _mean([-1.0, -3.0])
    ('+1.0', '−2.0 ± 1.4 (2)')
    """
    spread = f" ± {stdev(points):.1f} ({len(points)})" if len(points) > 1 else ""
    return f"{fmean(points):+.1f}{spread}".replace("-", "−")
