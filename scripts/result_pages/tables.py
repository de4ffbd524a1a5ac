"""Write the tables of a page as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from sparring.reporting import format, study_markdown
from sparring.results import levels
from sparring.results.collapsed import SUFFIX
from sparring.results.intervals import Interval
from sparring.results.result import AttackRow, Result
from sparring.results.seeds import training_seed
from sparring.runtime.fractions import format_number
from sparring.runtime.text import printable

from . import statistics
from .collect import ROOT, Collected, Measured, pairs_of

DATA = {
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "drebin215": "Drebin-215",
    "defensedroid-api": "DefenseDroid, API calls",
}
DASH = "–"
PAIR_HEADS = ("seed", "points", "alone right: first, second", "McNemar p")


def table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; bars in cells are escaped."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def folded(summary: str, content: str) -> str:
    """Return a closed block that opens on a click, on GitHub and on the site."""
    return f"<details markdown>\n<summary>{summary}</summary>\n\n{content}\n\n</details>"


def code(name: str) -> str:
    """Return a name as code."""
    return f"`{printable(name)}`"


def threat_text(result: Result) -> str:
    """Return a threat in words, without its radius."""
    inner = result.threat.get("of", result.threat)
    if inner.get("name") != "Bits":
        return str(inner["name"])
    return "malware may add any features" if inner.get("add_only") else "features may flip"


def accuracy(accuracies: Sequence[Interval | AttackRow]) -> str:
    """Return an accuracy in %: with its interval, or mean ± standard deviation over seeds."""
    if len(accuracies) == 1:
        return format.percent(accuracies[0])
    values = [100 * i.accuracy for i in accuracies]
    return f"{fmean(values):.2f} ± {stdev(values):.2f} ({len(values)})"


def robust(measured: Measured) -> str:
    """Return robust accuracy in %, marked ≤ where an attack skipped samples."""
    skipped = any(format.num_skipped(row) for _, row in measured.rows)
    return ("≤ " if skipped else "") + accuracy([row.robust for _, row in measured.rows])


def minutes(measured: Measured) -> str:
    """Return the mean minutes of a training."""
    seconds = [r.train["seconds"] for r in measured.results if "seconds" in r.train]
    return f"{fmean(seconds) / 60:.1f}" if seconds else DASH


def head(found: Collected) -> str:
    """Return the table of what was measured, and how."""
    results = [r for m in found.measured for r in m.results]
    models = dict.fromkeys(_model(r) for r in results)
    runs = {m.run for m in found.measured}
    seeds = sorted({training_seed(r) for r in results})
    trained = {(m.run, training_seed(r)): r.train for m in found.measured for r in m.results}
    hours = sum(t.get("seconds", 0) for t in trained.values()) / 3600
    epochs = sorted({t["epochs"] for t in trained.values() if "epochs" in t})
    links = [f"[{path.name}]({up(path)}/)" for path in found.page.sources()]
    splits = " and ".join(sorted({r.split for r in results}))
    data = ", ".join(DATA.get(name, name) for name in dict.fromkeys(r.dataset for r in results))
    lines = [
        ("data", f"{data}, {splits} split"),
        ("net", ", ".join(models)),
        ("threat", _threat(found, results)),
        ("trainings", f"{len(trained)}: {len(runs)} runs, {_seeds(seeds)}"),
        ("epochs", ", ".join(map(str, epochs))),
        ("hours of training", f"{hours:.1f} in all, on CPU cores"),
        ("attacked by", "; ".join(_evaluations(found))),
        ("files", ", ".join(links)),
    ]
    return table(["what", "here"], lines)


def _seeds(seeds: Sequence[int]) -> str:
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds))


def _model(result: Result) -> str:
    model = result.recipe.get("model", {})
    width = f", width {model['width']}" if "width" in model else ""
    return f"`{model.get('name', '?')}`{width}"


def _threat(found: Collected, results: Sequence[Result]) -> str:
    names = dict.fromkeys(threat_text(r) for r in results)
    radii = sorted({m.eps for m in found.measured if m.eps is not None})
    eps = f", eps {', '.join(map(format_number, radii))}" if radii else ""
    return ", ".join(names) + eps


def _evaluations(found: Collected) -> list[str]:
    first = {m.evaluation: m for m in found.measured}
    texts = []
    for name, m in sorted(first.items()):
        suite = "" if name == m.suite else f"suite `{m.suite}`, "
        texts.append(f"{code(name)} ({suite}{_samples(found, name)} samples)")
    return texts


def _samples(found: Collected, evaluation: str) -> str:
    sizes = {r.n for m in found.measured if m.evaluation == evaluation for r in m.results}
    return " or ".join(f"{n:,}" for n in sorted(sizes, reverse=True))


def up(path: Path) -> str:
    """Return the way from a page of results to a file of the repository."""
    return "../../" + str(path.relative_to(ROOT))


def headline(found: Collected) -> str:
    """Return the one table of a page: runs by robust accuracy, the best in bold."""
    items = found.headline()
    bold = statistics.tied_with_best(items)
    main = items[0].evaluation
    clean = clean_of(found)
    lines = []
    for m in items:
        value = f"**{robust(m)}**" if m.run in bold and m.evaluation == main else robust(m)
        value += "" if m.evaluation == main else f" (`{m.evaluation}`)"
        remarks = [levels.defence(m.results[0])]
        remarks += ["did not learn"] if m.run.endswith(SUFFIX) else []
        name = code(m.run.removesuffix(SUFFIX))
        name += "".join(f" ({remark})" for remark in remarks if remark)
        lines.append([name, clean[m.run], value, statistics.measurement(m), minutes(m)])
    if seeds := shared_seeds(found):
        lines = [[cell.replace(f" ({seeds})", "") for cell in line] for line in lines]
    at = "" if found.page.eps is None else f" at {format_number(found.page.eps)}"
    return table(["run", "clean", f"robust, `{main}`{at}", "measurement", "minutes"], lines)


def shared_seeds(found: Collected) -> int:
    """Return the number of seeds, if every run has the same number of several; else 0."""
    counts = {len(m.rows) for m in found.measured}
    return 0 if len(counts) > 1 or counts == {1} else counts.pop()


def clean_of(found: Collected) -> dict[str, str]:
    """Return each run's clean accuracy: of most seeds, then of most samples."""
    best: dict[str, Measured] = {}
    for m in found.measured:
        known = best.get(m.run)
        if known is None or (len(m.rows), m.results[0].n) > (len(known.rows), known.results[0].n):
            best[m.run] = m
    return {run: accuracy([r.clean for r in m.results]) for run, m in best.items()}


def everything(found: Collected) -> str:
    """Return the table of all evaluations and radii."""
    order = _order(found)
    results: dict[str, list[Result]] = {}
    for m in sorted(found.measured, key=lambda m: order.index(m.run)):
        group = results.setdefault(m.evaluation, [])
        known = {r.name for r in group}  # a result stands in a list once, with all its radii
        group += [r for r in m.results if r.name not in known]
    ordered = {name: results[name] for name in sorted(results, key=lambda n: _rank(found, n))}
    return f"{study_markdown(ordered, {})}\n\n† The measurement is not sound."


def metrics(found: Collected) -> str:
    """Return the table of metrics, "" if there are none."""
    order = _order(found)
    reports = sorted(found.metrics, key=lambda report: order.index(_run(report.name)))
    return study_markdown({}, {"metrics": reports})


def _order(found: Collected) -> list[str]:
    order = [m.run for m in found.headline()]
    return order + sorted({m.run for m in found.measured} - set(order))


def _rank(found: Collected, evaluation: str) -> tuple[int, str]:
    strongest = found.evaluations()
    return (strongest.index(evaluation) if evaluation in strongest else len(strongest), evaluation)


def _run(name: str) -> str:
    return name.rpartition("-seed")[0] or name


def pair_tables(found: Collected) -> list[tuple[str, str]]:
    """Return title and table of all pairs: over seeds, and on the same samples."""
    tables = []
    if lines := _seed_lines(found):
        heads = ["pair", "clean", *map(code, found.evaluations())]
        title = "All pairs over seeds: difference in points, with Welch's 95 % interval"
        tables.append((title, table(heads, lines)))
    for evaluation in found.evaluations():
        items = [m for m in found.at_eps() if m.evaluation == evaluation]
        if lines := _sample_lines(found, items):
            title = f"Pairs on the same samples under <code>{evaluation}</code>"
            tables.append((title, table(["pair", *PAIR_HEADS], lines)))
    return tables


def chosen_pairs(found: Collected) -> str:
    """Return the table of the pairs that the page's text is about, on the same samples."""
    measured = {(m.run, m.evaluation): m for m in found.at_eps()}
    main = found.headline()[0].evaluation
    named = any(len(pair) > 2 for pair in found.page.pairs)
    lines = []
    for first, second, *rest in found.page.pairs:
        evaluation = rest[0] if rest else main
        sides = measured[first, evaluation], measured[second, evaluation]
        for line in _pair_lines(*sides):
            lines.append([*line[:1], *([code(evaluation)] if named else []), *line[1:]])
    return table(["pair", *(["under"] if named else []), *PAIR_HEADS], lines)


def _seed_lines(found: Collected) -> list[list[str]]:
    by_evaluation = {
        e: {m.run: m for m in found.at_eps() if m.evaluation == e} for e in found.evaluations()
    }
    lines = []
    for first, second in pairs_of(found.headline()):
        cells, clean = [], DASH
        for items in by_evaluation.values():
            a, b = items.get(first.run), items.get(second.run)
            over = statistics.over_seeds(a, b) if a and b else None
            cells.append(_points(over.difference, over.low, over.high) if over else DASH)
            if a and b and (of_clean := statistics.over_seeds(a, b, clean=True)):
                clean = _points(*of_clean)  # the last evaluation has the most samples
        if clean != DASH:
            lines.append([f"{code(first.run)} − {code(second.run)}", clean, *cells])
    return lines


def _sample_lines(found: Collected, items: list[Measured]) -> list[list[str]]:
    all_seeds = all(len(m.rows) > 1 for m in items)
    lines = []
    for first, second in pairs_of(items):
        if all_seeds and found.page.baseline not in (first.run, second.run):
            continue
        lines += _pair_lines(first, second)
    return lines


def _pair_lines(first: Measured, second: Measured) -> list[list[str]]:
    lines = []
    for seed, c in statistics.on_same_samples(first, second).items():
        points = _points(c.difference, c.low, c.high)
        alone = f"{c.first_only}, {c.second_only}"
        pair = f"{code(first.run)} − {code(second.run)}"
        lines.append([pair, str(seed), points, alone, p_text(c.p)])
    return lines


def _points(difference: float, low: float, high: float) -> str:
    return format.points(Interval(difference, low, high))


def p_text(p: float) -> str:
    """Return a p value with two digits.

    >>> p_text(0.0123), p_text(1.5e-7), p_text(1.0)
    ('0.012', '1.5e-7', '1')
    """
    mantissa, _, exponent = (f"{p:.1e}" if p < 1e-3 else f"{p:.2g}").partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa
