"""Say how to make a result again: commands, recipe, versions and hashes."""

from __future__ import annotations

import shlex
from typing import Any, NamedTuple

from ...results.result import Result
from ...runtime.fractions import format_number
from ...runtime.text import printable
from .. import format

WHOLE = {  # samples of test sets
    "digits": 270,
    "mnist": 10_000,
    "fashion-mnist": 10_000,
    "kmnist": 10_000,
    "cifar10": 10_000,
    "cifar100": 10_000,
}
NAMED = ("Linf", "L2", "L1", "L0", "Bits")  # threats that `--threat` takes
FIRST = "not drawn by the seed"  # of the note on samples that are the data's first ones
DIGITS = 12  # of a hash that are shown; the whole is in its title


class Hash(NamedTuple):
    """Hold a hash in short and whole."""

    name: str
    short: str
    whole: str


def commands(r: Result, name: str) -> list[str]:
    """Return the commands that train, evaluate and report a model again.

    Names come from a stranger's file: each is one word to the shell that they are pasted into.
    """
    table = r.recipe.get("recipe")
    recipe = str(table.get("name", "RECIPE.toml")) if isinstance(table, dict) else "RECIPE.toml"
    levels = [(format.threat_name(r, row), format_number(row.eps)) for row in r.by_eps if row.eps]
    several = len(format.largest_radii(r)) > 1
    eps = [("--at", f"{threat}={eps}") if several else ("--eps", eps) for threat, eps in levels]
    # Without --n an evaluation takes the whole set.
    some = [] if r.n == WHOLE.get(r.dataset) and r.split == "test" else [("--n", r.n)]
    split = [] if r.split == "test" else [("--split", r.split)]
    claims = [row.sampled for row in r.by_eps if row.sampled is not None]
    sample = [("--sample", claim.sample) for claim in claims[:1]]
    threat = [] if several else _threat(r)
    options = [*format.suite_options(r.suite), *threat, *eps, *some, *split, *sample, *_also(r)]
    flags = ["--first"] * any(FIRST in note for note in r.notes) + ["--compile"] * r.compiled
    run = f"runs/{name}"
    return [
        _line("train", recipe, "--out", run),
        _line("evaluate", run, *(word for pair in options for word in pair), *flags),
        _line("report", run),
    ]


def _also(r: Result) -> list[tuple[str, str]]:
    """Return the options for a precision, certificates and probes, where there are any."""
    certificates = dict.fromkeys(c.name.lower() for row in r.by_eps for c in row.certified)
    probes = dict.fromkeys(value.probe for value in r.probes if value.probe)
    precision = [] if r.precision == "float32" else [("--precision", r.precision)]
    several = [("--certify", name) for name in certificates]
    return precision + several + [("--probes", name) for name in probes]


def _threat(r: Result) -> list[tuple[str, str]]:
    """Return the option for a threat other than the recipe's, which needs none."""
    table = r.recipe.get("evaluation")
    threat = table.get("threat") if isinstance(table, dict) else None
    default = threat.get("name") if isinstance(threat, dict) else "Linf"
    names = [name for name in format.threat_names([r]) if name in NAMED and name != default]
    return [("--threat", name) for name in names]


def _line(*words: object) -> str:
    return shlex.join(["sparring", *(printable(word) for word in words)])


def recipe_toml(r: Result) -> str | None:
    """Return the resolved recipe as the TOML that `sparring train` reads; None if unknown.

    TOML has no null: keys without a value have their default in a recipe, and are left out.
    """
    import tomli_w

    if not r.recipe:
        return None
    lines = tomli_w.dumps(_without_none(r.recipe)).rstrip().split("\n")
    return "\n".join(printable(line, 2000) for line in lines)


def _without_none(tables: Any) -> Any:
    if isinstance(tables, dict):
        return {k: _without_none(v) for k, v in tables.items() if v is not None}
    if isinstance(tables, list):
        return [_without_none(v) for v in tables if v is not None]
    return tables


def hashes(r: Result, *, arrays: bool = True) -> list[Hash]:
    """Return the hashes of commit, data and arrays that are known."""
    known = {"commit": r.commit, "data sha256": r.data_sha256}
    known |= {"arrays sha256": r.arrays_sha256} if arrays else {}
    return [Hash(name, value[:DIGITS], value) for name, value in known.items() if value]
