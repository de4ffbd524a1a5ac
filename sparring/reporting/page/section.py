"""Gather what the page shows of one result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...results.levels import Levels, level_of, robust_at
from ...results.result import AttackRow, EpsRow, Result
from .. import format
from . import answer, classes, curves, reproduce, samples

STRIPPED = "Pictures are not part of this file, which keeps verdicts, predictions and counts."
APART = "The arrays of this result are not beside it."


class AttackLine(NamedTuple):
    """Hold what an attack did: samples that it broke, and accuracy and passes in words.

    Arguments:
        broken: None where the rows do not say how many were left before it.
    """

    name: str
    broken: int | None
    accuracy: str
    skipped: int
    seconds: str
    forwards: str
    backwards: str


class AttackTable(NamedTuple):
    """Hold the attacks at one level.

    Arguments:
        wrong: samples wrong unattacked.
        cascade: each attack ran on what those before it left, so that `broken` counts new ones.
    """

    name: str
    row: EpsRow
    wrong: int
    cascade: bool
    lines: list[AttackLine]
    skipped: int


def attack_table(r: Result, row: EpsRow) -> AttackTable:
    """Return the attacks of a row, each with the samples that it broke."""
    clean, right = answer.count(r.clean, r.n), [answer.count(_share(a), r.n) for a in row.attacks]
    given = [a.attacked + a.skipped for a in row.attacks]
    cascade = all(rows <= left for rows, left in zip(given[1:], right, strict=False))
    broken = _broken(clean, right, given, cascade=cascade)
    lines = [_attack_line(a, count) for a, count in zip(row.attacks, broken, strict=True)]
    name = str(level_of(r, row)) or "the threat"
    return AttackTable(name, row, r.n - clean, cascade, lines, format.num_skipped(row))


def _share(a: AttackRow) -> Any:
    return a  # an attack has an accuracy, as an interval has


def _broken(
    clean: int, right: Sequence[int], given: Sequence[int], *, cascade: bool
) -> list[int | None]:
    """Return the samples that each attack broke, of those that it was given.

    An accuracy is that after all attacks so far in a cascade, and of an attack on near misses
    alone; else it is of the attack alone.
    """
    counts: list[int | None] = []
    joint: int | None = clean  # right after the attacks so far, where it is known
    for left, rows in zip(right, given, strict=True):
        together = cascade or 0 < rows < clean
        before = joint if together else clean
        known = before if rows else left  # files of old do not say on how many an attack ran
        counts.append(None if known is None else max(0, known - left))
        joint = left if together else None
    return counts


def _attack_line(a: AttackRow, broken: int | None) -> AttackLine:
    passes = (f"{v:,.1f}" for v in (a.seconds, a.forwards, a.backwards))
    return AttackLine(a.name, broken, format.attack_text(a), a.skipped, *passes)


def section(r: Result, name: str, levels: Levels, *, whole: bool) -> dict[str, Any]:
    """Return what the template shows of a result.

    Arguments:
        name: that of its run.
        levels: where it is judged.
        whole: with pictures, classes and recipe, which a page of very many results leaves out.
    """
    rows = classes.class_rows(r, levels) if whole else []
    at = answer.at(levels)
    tables = [attack_table(r, row) for row in format.largest_radii(r).values()]
    at_levels = [attack_table(r, row) for row in r.by_eps if level_of(r, row) in levels.values()]
    several = [
        (threat, radii)
        for threat in format.largest_radii(r)
        if len(radii := format.rows_of(r, threat)) > 1
    ]
    return {
        "result": r,
        "answer": answer.answer(r, levels),
        "measurement": answer.measurement(r),
        "setting": answer.setting([r]),
        "at": at,
        "robust": robust_at(r, levels),
        "early": answer.is_early(r, levels),
        "open_end": format.open_end(r, levels),
        "attacks": at_levels or tables,
        "norms": several if whole else [],
        "fired": format.fired_checks(r),
        "quiet": [c for c in r.checks if not c.fired] if whole else [],
        "samples": samples.samples(r) if whole else None,
        "classes": rows,
        "class_chart": classes.class_chart(rows, at),
        "class_sentence": classes.class_sentence(r, rows, levels),
        "confusion": classes.confusion(r) if whole else None,
        "confused_pairs": classes.confused_pairs(r) if whole else [],
        "detection": curves.detection(r) if whole else [],
        "added": curves.added_features(r) if whole else None,
        "probes": format.probe_groups(r) if whole else [],
        "surface": curves.surface(r) if whole else None,
        "missing": STRIPPED if r.stripped else APART,
        "minutes": format.train_minutes(r),
        "commands": reproduce.commands(r, name),
        "recipe": reproduce.recipe_toml(r) if whole else None,
        "hashes": reproduce.hashes(r),
        "whole": whole,
    }
