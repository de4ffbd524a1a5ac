"""The pages of suites, data sets and pieces, read from their tables in the package."""

from __future__ import annotations

import functools
import math
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from sparring import attacks, data, evaluation
from sparring.commands import cite
from sparring.commands.list import INDEX
from sparring.data import named
from sparring.evaluation.suites import TRANSFER, Entry
from sparring.threats import L0, L1, L2, Bits, Linf

from .markdown import cell, code, literal, table

NORMS = {math.inf: "Linf", 2: "L2", 1: "L1", 0: "L0", "bits": "bits"}
THREATS = {"Linf": Linf(0.1), "L2": L2(0.1), "L1": L1(0.1), "L0": L0(1), "bits": Bits(eps=1)}
PIECES = {  # kind of `sparring list`: heading, and the API page of its pieces
    "methods": ("Methods", "methods"),
    "threats": ("Threats", "threats"),
    "attacks": ("Attacks", "attacks"),
    "risks": ("Risks", "risks"),
    "weights": ("Weights", "weights"),
    "models": ("Networks", ""),
    "augment": ("Augmentations", "data"),
    "mix": ("Added rows", "data"),
    "metrics": ("Metrics", ""),
}
SUITES_INTRO = """# Suites and attacks

After this page you can choose the attacks of an evaluation: `sparring evaluate RUN --suite NAME`.

A suite is a list of attacks with a version, which rises when its results move. In a cascade an
attack sees only samples that all attacks before it left robust.

"""
DATA_INTRO = """# Data sets

After this page you know which data sets have a name, and where their files come from.
[Data](../how-to/data.md) says how to use your own.

A set is read from `$SPARRING_DATA`, else from the cache, else it is downloaded where an address is
known. Files are checked by their sums.

"""
PIECES_INTRO = """# Pieces by name

After this page you can name every piece in a recipe. `sparring list KIND` prints the same lines.

"""


def pages(root: Path) -> dict[str, str]:
    """Return the pages of suites, data sets and pieces by their paths in the site."""
    return {
        "reference/suites.md": _suites(),
        "reference/data-sets.md": _data_sets(),
        "reference/pieces.md": _pieces(),
    }


def _index() -> dict[str, dict[str, str]]:
    return tomllib.loads(INDEX.read_text(encoding="utf-8"))


def _suites() -> str:
    suites = evaluation.SUITES.values()
    rows = [
        [
            code(suite.name),
            str(suite.version),
            cell(" · ".join(suite.labels)),
            "yes" if suite.cascade else "–",
            "yes" if suite.gradient_free else "–",
            ", ".join(n for n, t in THREATS.items() if any(e.supports(t) for e in suite.entries)),
        ]
        for suite in suites
    ]
    header = ("suite", "version", "attacks in order", "cascade", "gradient-free", "threats")
    note = (
        f"\n`{TRANSFER}` needs `--surrogate RUN`: it attacks that model, and "
        "tries the points on yours. With a surrogate, every other suite ends with these too.\n"
    )
    return SUITES_INTRO + table(header, rows) + note + "\n## Attacks\n\n" + _attacks()


def _attacks() -> str:
    lines = _index()["attacks"]
    rows = [
        [
            _link("attacks", name),
            literal(cell(line)),
            ", ".join(code(s) for s in _suites_with(name)) or "–",
            _paper(name),
        ]
        for name, line in lines.items()
    ]
    return table(("attack", "what it does", "in suites", "paper"), rows)


def _suites_with(name: str) -> list[str]:
    """Return the suites that run an attack."""
    return [s.name for s in evaluation.SUITES.values() if name in map(_attack_of, s.entries)]


@functools.cache
def _attack_of(entry: Entry) -> str:
    """Return the public name of a suite's attack: of what makes it, or of what that returns."""
    for name in attacks.__all__:
        if getattr(attacks, name) is entry.make:
            return name
    threat = next(t for t in THREATS.values() if entry.supports(t))
    return type(entry.make(threat)).__name__


def _data_sets() -> str:
    lines = _index()["data"]
    rows = [
        [code(name), literal(cell(lines.get(name, ""))), _classes(name), _home(name), _paper(name)]
        for name in data.names()
    ]
    return DATA_INTRO + table(("name", "about", "classes", "files from", "paper"), rows)


def _classes(name: str) -> str:
    files = named.FROM_FILES.get(name)
    return cell(", ".join(files.classes)) if files and files.classes else "–"


def _home(name: str) -> str:
    if name in named.BUILT_IN:
        return "nothing to download"
    hosts = [urlsplit(a).hostname for r in named.FROM_FILES[name].remotes for a in r.urls]
    return ", ".join(dict.fromkeys(h for h in hosts if h)) or "your folder"


def _pieces() -> str:
    index = _index()
    sections = []
    for kind, (heading, room) in PIECES.items():
        rows = [
            [_link(room, name), literal(cell(line)), _paper(name)]
            for name, line in index.get(kind, {}).items()
        ]
        sections.append(f"## {heading}\n\n{table(('name', 'what it does', 'paper'), rows)}")
    return PIECES_INTRO + "\n".join(sections)


def _link(room: str, name: str) -> str:
    return f"[{code(name)}](api/{room}.md#sparring.{room}.{name})" if room else code(name)


def _paper(name: str) -> str:
    try:
        return ", ".join(map(code, cite.papers(name)))
    except ValueError:
        return "–"
