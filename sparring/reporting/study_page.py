"""Gather what a study's page shows, as plain data: panels, the answer, pairs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple, Protocol

from ..results import seeds
from ..results.collapsed import with_collapsed
from ..results.comparison import compare_at
from ..results.headlines import trained_eps
from ..results.intervals import Interval
from ..results.levels import (
    Levels,
    defence,
    headline,
    is_conclusive,
    robust_at,
    tied_with_best,
)
from ..results.result import Result
from ..runtime.fractions import format_number
from ..runtime.text import printable
from . import format, study_table
from .digits import counted
from .study_table import UNSOUND_MARK, Grid, ResultsByEvaluation, by_run

# From the strongest; suites that are not named come last.
STRENGTH = (
    *("autoattack", "autoattack-plus", "all", "autoattack-rand", "bits", "bits-published"),
    *("fast", "pgd", "black-box", "from-x", "quick"),
)
MOST_NAMED = 4  # runs in a sentence


class StudyText(Protocol):
    """Hold what a study's file says of it: title, question, and the runs' readable labels."""

    @property
    def title(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...


class StudyRow(NamedTuple):
    """Hold one run of a panel: shares in [0, 1].

    Arguments:
        run, label: its key in the study, and its name for readers.
        mean, low, high: over seeds, with the 95 % t interval of the mean; of one seed, its accuracy
            with the interval over samples.
        points: the accuracy of each seed.
        clean: mean clean accuracy.
        mark, prefix: "†" if a measurement is not sound; "≤ " if one ended early, or its later
            attacks ran on a sample.
        defence: "undefended" of plain training, "not attacked" where no attack ran, or "".
        best: it is the best, or is not told apart from it.
    """

    run: str
    label: str
    mean: float
    low: float
    high: float
    points: list[float]
    clean: float
    mark: str
    prefix: str
    defence: str
    best: bool

    @property
    def title(self) -> str:
        """Return the label, and what the model lacks."""
        return _title(self.label, self.defence)


class StudyPanel(NamedTuple):
    """Hold one evaluation at its headline, its runs ordered by the strongest evaluation.

    Arguments:
        split: whose samples were attacked.
    """

    evaluation: str
    suite: str
    where: str
    split: str
    n: int
    rows: list[StudyRow]


class StudyPair(NamedTuple):
    """Compare two runs in an evaluation, first − second, in points; as in `RecipePair`."""

    evaluation: str
    first: str
    second: str
    where: str
    difference: str
    clear: bool


class StudyPage(NamedTuple):
    """Hold everything that a study's page shows, beside the reports of its results.

    Arguments:
        facts: data, net, threat, samples and seeds, as names and values.
        sentences: what the strongest evaluation answers.
        table, accuracies: the five columns of a first look; clean and every evaluation and radius.
        pairs: differences of runs, in every evaluation.
        results: the results, by evaluation.
    """

    title: str
    question: str
    facts: list[tuple[str, str]]
    sentences: list[str]
    panels: list[StudyPanel]
    table: Grid
    accuracies: Grid
    pairs: list[StudyPair]
    results: ResultsByEvaluation


def study_page(plan: StudyText, results: ResultsByEvaluation) -> StudyPage:
    """Return the data of a study's page; names from files are escaped."""
    results = {printable(k): format.shown_names(group) for k, group in results.items() if group}
    labels = with_collapsed(plan.labels)
    order = ranked_evaluations(results)
    panels = _panels(results, order, labels)
    return StudyPage(
        printable(plan.title),
        printable(plan.question),
        _facts([r for group in results.values() for r in group]),
        _sentences(panels),
        panels,
        summary_table(results, labels),
        study_table.accuracy_table(results, labels),
        [pair for kind in order for pair in _pairs(kind, results[kind], labels)],
        results,
    )


def ranked_evaluations(results: ResultsByEvaluation) -> list[str]:
    """Return the names of evaluations: those of most runs first, among them the strongest suite.

    An evaluation of at least half of the runs counts as one of most. One on training or validation
    rows comes after all on test rows. Of equal suites, the one at the recipes' radius comes first.
    """
    most = max((len(by_run(group)) for group in results.values()), default=0)

    def key(name: str) -> tuple[bool, bool, int, bool]:
        group = results[name]
        suite = group[0].suite.partition("+")[0]
        rank = STRENGTH.index(suite) if suite in STRENGTH else len(STRENGTH)
        trained = {
            trained_eps(r, level.threat) for r in group for level in headline(group).values()
        }
        at_trained = any(level.eps in trained for level in headline(group).values())
        seen = group[0].split in ("train", "val")
        return len(by_run(group)) * 2 < most, seen, rank, not at_trained

    return sorted((name for name, group in results.items() if group), key=key)


def _panels(
    results: ResultsByEvaluation, order: Sequence[str], labels: Mapping[str, str]
) -> list[StudyPanel]:
    panels, runs = [], ranked_runs(results, order)
    for kind in order:
        group = results[kind]
        levels = headline(group)
        best = tied_with_best(group, levels)
        known = by_run(r for r in group if robust_at(r, levels) is not None)
        rows = [_row(run, labels, known[run], levels, best) for run in runs if run in known]
        first, where = group[0], _where(levels)
        panels.append(
            StudyPanel(
                kind, f"{first.suite} v{first.suite_version}", where, first.split, first.n, rows
            )
        )
    return panels


def ranked_runs(results: ResultsByEvaluation, order: Sequence[str]) -> list[str]:
    """Return runs by robust accuracy under the first evaluation that has them, best first."""
    runs: list[str] = []
    for kind in order:
        levels = headline(results[kind])
        means = {run: _mean(group, levels) for run, group in by_run(results[kind]).items()}
        runs += [run for run in sorted(means, key=lambda run: -means[run]) if run not in runs]
    return runs


def _where(levels: Levels) -> str:
    """Return the radii of an evaluation in words, "" if it has none."""
    known = {norm: level for norm, level in levels.items() if level.eps is not None}
    return format.levels_text(known)


def _accuracies(group: Sequence[Result], levels: Levels) -> list[Interval]:
    return [share for r in group if (share := robust_at(r, levels)) is not None]


def _mean(group: Sequence[Result], levels: Levels) -> float:
    return fmean([i.accuracy for i in _accuracies(group, levels)] or [-1.0])


def _row(
    run: str, labels: Mapping[str, str], group: Sequence[Result], levels: Levels, best: set[str]
) -> StudyRow:
    shares = _accuracies(group, levels)
    mean, low, high = shares[0].accuracy, shares[0].low, shares[0].high
    if len(shares) > 1:
        spread = seeds.spread(group, levels=levels)
        mean, low, high = spread.mean, max(0.0, spread.low), min(1.0, spread.high)
    return StudyRow(
        run,
        printable(labels.get(run, run)),
        mean,
        low,
        high,
        [share.accuracy for share in shares],
        fmean(r.clean.accuracy for r in group),
        "" if all(map(format.is_trusted, group)) else UNSOUND_MARK,
        format.mean_prefix(group, levels),
        defence(group[0]),
        all(r.name in best for r in group),
    )


def summary_table(results: ResultsByEvaluation, labels: Mapping[str, str] | None = None) -> Grid:
    """Return five columns by the strongest evaluation of most runs, best first.

    They are run, clean, robust accuracy at the headline, the verdict on the measurement, and
    minutes of training.
    """
    results = {kind: group for kind, group in results.items() if group}
    order, labels = ranked_evaluations(results), with_collapsed(labels or {})
    if not order:
        return Grid(["run", "clean", "robust", "measurement", "minutes"], [])
    strongest = by_run(results[order[0]])
    levels = headline(results[order[0]])
    lines = []
    for run in ranked_runs(results, order):
        known = study_table.largest_evaluation(results, run)
        group = strongest.get(run, [])
        row = _row(run, labels, group, levels, set()) if _accuracies(group, levels) else None
        lines.append(
            [
                _title(printable(labels.get(run, run)), defence(known[0])),
                f"{100 * fmean(r.clean.accuracy for r in known):.1f}",
                _summary_cell(row),
                _verdicts(group),
                study_table.minutes(known),
            ]
        )
    head = " at ".join(filter(None, (order[0], _where(levels))))
    return Grid(["run", "clean", head, "measurement", "minutes"], lines)


def _title(label: str, lack: str) -> str:
    return f"{label} ({lack})" if lack else label


def _summary_cell(row: StudyRow | None) -> str:
    """Return a robust accuracy with its 95 % interval, over seeds or samples, to a tenth."""
    if row is None:
        return "–"
    mean, low, high = (100 * v for v in (row.mean, row.low, row.high))
    return f"{row.prefix}{mean:.1f}{row.mark} [{low:.1f}, {high:.1f}]"


def _verdicts(group: Sequence[Result]) -> str:
    """Return the gravest verdict of some seeds, and of how many it is where they differ."""
    words = [r.verdict or "no verdict" for r in group]
    gravest = next((w for w in (*format.SEVERITY, *words) if w in words), "–")
    return gravest if len(set(words)) < 2 else f"{gravest} ({words.count(gravest)} of {len(words)})"


def _facts(results: Sequence[Result]) -> list[tuple[str, str]]:
    nets = (r.recipe.get("model") for r in results)
    radii: dict[str, list[str]] = {}
    for threat, eps in format.all_radii(results):
        radii.setdefault(threat, []).extend([] if eps is None else [format_number(eps)])
    threats = [f"{t} eps {', '.join(eps)}" if eps else t for t, eps in radii.items()]
    samples: dict[int, list[str]] = {}
    for r in results:
        samples.setdefault(r.n, []).append(r.suite)
    training = {seeds.training_seed(r) for r in results}
    facts = {
        "data": dict.fromkeys(f"{r.dataset} {r.split}" for r in results),
        "net": dict.fromkeys(str(n["name"]) for n in nets if isinstance(n, dict) and "name" in n),
        "threat": threats,
        "samples": [
            f"{n:,} ({', '.join(dict.fromkeys(suites))})" for n, suites in sorted(samples.items())
        ],
        "seeds": [counted(len(training), "seed")] if training else [],
    }
    return [(key, printable(", ".join(values))) for key, values in facts.items() if values]


def _sentences(panels: Sequence[StudyPanel]) -> list[str]:
    """Return what the strongest evaluation answers, and which measurements are not sound."""
    panel = next((p for p in panels if p.rows), None)
    if panel is None:
        return []
    at = f" at {panel.where}" if panel.where else ""
    under = f"Under {panel.evaluation}{at}"
    sentences = _best_sentences(under, panel.rows)
    if more := _overstated(panel, panels):
        sentences.append(more)
    if doubted := [row.label for row in panel.rows if row.mark]:
        sentences.append(f"{UNSOUND_MARK} The measurement of {_listed(doubted)} is not sound.")
    return sentences


def _best_sentences(under: str, rows: Sequence[StudyRow]) -> list[str]:
    best = [row for row in rows if row.best]
    if not best and len(rows) > 1:
        return [f"{under}, no run can be called the best."]
    top = max(best or rows, key=lambda row: row.mean)
    over = f"mean of {counted(len(top.points), 'seed')}" if len(top.points) > 1 else "one seed"
    share, most = f"{100 * top.mean:.1f} % ({over})", "most: " if best else ""
    sentences = [f"{under}, {top.label} withstands {most}{top.prefix}{share}."]
    if others := [row.label for row in best if row is not top]:
        verb = "is" if len(others) == 1 else "are"
        sentences.append(f"{_listed(others)} {verb} not told apart from it.")
    return sentences


def _overstated(strongest: StudyPanel, panels: Sequence[StudyPanel]) -> str:
    """Return how much more the weakest evaluation reports at the same radius, if it does.

    Of the same split: on rows of the training, a net withstands more under the same attack.
    """
    means = {row.run: row.mean for row in strongest.rows}
    more = [
        (row.mean - means[row.run], panel.evaluation, row.label)
        for panel in panels
        if (panel.where, panel.split) == (strongest.where, strongest.split)
        for row in panel.rows
        if row.run in means
    ]
    points, evaluation, label = max(more)
    if 100 * points < 1:
        return ""
    return f"{evaluation} reports up to {100 * points:.1f} points more, for {label}."


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:MOST_NAMED])
    shown += [f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _pairs(kind: str, results: Sequence[Result], labels: Mapping[str, str]) -> list[StudyPair]:
    """Compare the runs of an evaluation; with the best only, if there are many."""
    levels = headline(results)
    runs = {run: group for run, group in by_run(results).items() if _mean(group, levels) >= 0}
    pairs = list(itertools.combinations(runs, 2))
    if len(pairs) > format.MOST_PAIRS:
        best = max(runs, key=lambda run: _mean(runs[run], levels))
        pairs = [(best, run) for run in runs if run != best]
    compared = []
    for names in pairs:
        difference = _difference(runs[names[0]], runs[names[1]], levels)
        if difference and max(_mean(runs[run], levels) for run in names) > 0:
            first, second = (printable(labels.get(run, run)) for run in names)
            where = _where(levels)
            compared.append(StudyPair(kind, first, second, where, *difference))
    return compared


def _difference(
    first: Sequence[Result], second: Sequence[Result], levels: Levels
) -> tuple[str, bool] | None:
    """Return a difference over seeds, or over samples where both have one; and if it is clear."""
    conclusive = all(map(is_conclusive, (*first, *second)))
    measured = all(robust_at(r, levels) is not None for r in (*first, *second))
    if min(len(first), len(second)) > 1 and measured:
        d = seeds.difference(first, second, levels=levels)
        text = format.points(Interval(d.difference, d.low, d.high))
        return text, conclusive and d.low * d.high > 0
    pair = compare_at(first[0], second[0], levels) if len(first) == len(second) == 1 else None
    return (format.difference_text(pair), conclusive and pair.clear) if pair else None
