"""What there is, and whom to cite for it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from .. import data, evaluation, metrics, models
from ..component import nearest
from ..config import recipe
from ..config.schema import pieces

BIB = Path(__file__).parents[1] / "papers.bib"
PAPERS = {  # of what is no Part with a `paper` of its own
    "FGSM": "goodfellow2015fgsm",
    "BIM": "kurakin2017bim",
    "FGSM_RS": "wong2020fast",
    "digits": "alpaydin1998digits",
    "mnist": "lecun1998gradient",
    "fashion-mnist": "xiao2017fashion",
    "cifar10": "krizhevsky2009cifar",
    "cifar100": "krizhevsky2009cifar",
    "svhn": "netzer2011svhn",
    "lenet": "lecun1998gradient",
    "lenet-sigmoid": "lecun1998gradient",
    "monotone": "fleshman2019nonnegative",
    "resnet9": "paknezhad2022sparsity",
    "xresnet18": "he2019tricks",
    "small-cnn": "zhang2019trades",
    "resnet18": "he2016resnet",
    "preact-resnet18": "he2016preact",
    "wide-resnet": "zagoruyko2016wide",
    "wrn-28-10": "zagoruyko2016wide",
    "wrn-34-10": "zagoruyko2016wide",
}


def _named(room: str) -> Callable[[], Mapping[str, object]]:
    return lambda: pieces(room)


def _recipes() -> dict[str, str]:
    firsts = {
        name: (recipe.SHIPPED / f"{name}.toml").read_text(encoding="utf-8").splitlines()[0]
        for name in recipe.names()
    }
    return {name: line.removeprefix("# ") for name, line in firsts.items()}


KINDS: dict[str, Callable[[], Mapping[str, object]]] = {
    "recipes": _recipes,
    "models": lambda: models.NETWORKS,
    "data": lambda: dict.fromkeys(data.names(), ""),
    "attacks": _named("attack"),
    "threats": _named("threat"),
    "methods": _named("method"),
    "risks": _named("risk"),
    "weights": lambda: pieces("climb") | pieces("ema"),
    "augment": _named("augment"),
    "mix": _named("mix"),
    "suites": lambda: evaluation.SUITES,
    "metrics": lambda: {k: getattr(m, "func", m) for k, m in metrics.METRICS.items()},
}


def kinds() -> list[str]:
    """The kinds of things that `listing` knows."""
    return list(KINDS)


def listing(kind: str | None = None) -> str:
    """Names with a line on each, of one kind or of all.

    >>> "CVaR" in listing("risks")
    True
    """
    if kind is None:
        return "\n\n".join(f"{k}\n{_indent(listing(k))}" for k in KINDS)
    if kind not in KINDS:
        raise ValueError(nearest("list", kind, KINDS))
    lines = {name: _line(thing) for name, thing in KINDS[kind]().items()}
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {line}".rstrip() for name, line in lines.items())


def _line(thing: object) -> str:
    """A line on it: its own, or the first sentence of its docstring."""
    if isinstance(thing, evaluation.Suite):
        return thing.line
    text = thing if isinstance(thing, str) else inspect.getdoc(getattr(thing, "func", thing)) or ""
    return re.split(r"\. |\n", text)[0].rstrip(".") if not isinstance(thing, str) else text


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def entries() -> dict[str, str]:
    """Every paper in `papers.bib`, by its key."""
    found = re.split(r"\n(?=@)", BIB.read_text(encoding="utf-8").strip())
    return {entry.split("{", 1)[1].split(",", 1)[0]: entry.strip() for entry in found}


def cite(name: str) -> str:
    """BibTeX of the papers behind a recipe (name, file or run folder), piece, data set or key.

    >>> print(cite("MART").splitlines()[0])
    @inproceedings{wang2020mart,
    """
    known = entries()
    keys = [name] if name in known else papers(name)
    return "\n\n".join(known[key] for key in keys)


def papers(name: str) -> list[str]:
    """The keys of the papers behind a recipe or a piece, each once."""
    everything = {
        n: p
        for kind in ("attack", "threat", "method", "risk", "climb", "ema")
        for n, p in pieces(kind).items()
    }
    own = {n: getattr(p, "paper", None) for n, p in everything.items()} | PAPERS
    if name in everything or name in PAPERS:
        keys = [own[name]]
    elif name in recipe.names() or Path(name).exists():
        tables = recipe.load(name).tables
        parts = ("attack", "threat", "method", "risk", "model", "data", "weights")
        used = [name for t in parts if t in tables for name in _within(tables[t])]
        keys = [tables["recipe"]["paper"], *(own.get(n) for n in used)]
    else:
        raise ValueError(nearest("cite", name, [*own, *recipe.names()]))
    found = list(dict.fromkeys(key for key in keys if key))
    if not found:
        raise ValueError(f"cite = {name!r}: there is no paper behind it")
    return found


def _within(table: object) -> list[str]:
    """The names of a piece and of all inside it.

    >>> _within({"name": "PerClass", "of": {"name": "KL"}, "classes": [1]})
    ['PerClass', 'KL']
    """
    if isinstance(table, list):
        return [name for one in table for name in _within(one)]
    if not isinstance(table, Mapping):
        return []
    own = [str(table["name"])] if "name" in table else []
    return own + [name for value in table.values() for name in _within(value)]
