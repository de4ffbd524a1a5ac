"""Cite the papers behind a recipe, a piece or a data set."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ..component import did_you_mean, require
from ..config import recipe
from ..config.registry import pieces
from ..runtime.annotations import shortened

BIB = Path(__file__).parents[1] / "papers.bib"


PAPERS = {  # for names that are not components with a `paper` attribute
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


def entries() -> dict[str, str]:
    """Return every entry of `papers.bib` by its key."""
    texts = re.split(r"\n(?=@)", BIB.read_text(encoding="utf-8").strip())
    return {entry.split("{", 1)[1].split(",", 1)[0]: entry.strip() for entry in texts}


def cite(name: str) -> str:
    """Return the BibTeX of the papers behind a recipe (name, file or run folder), piece, data set
    or key.

    >>> print(cite("MART").splitlines()[0])
    @inproceedings{wang2020mart,
    """
    known = entries()
    keys = [name] if name in known else papers(name)
    for key in keys:
        # a recipe may name any paper
        require(key in known, "paper", key, "one of the keys of papers.bib, to be cited")
    return "\n\n".join(known[key] for key in keys)


def papers(name: str | recipe.Recipe) -> list[str]:
    """Return the keys of the papers behind a recipe or a piece, each once."""
    everything = {
        n: p
        for kind in ("attack", "threat", "method", "risk", "climb", "ema")
        for n, p in pieces(kind).items()
    }
    known = {n: getattr(p, "paper", None) for n, p in everything.items()} | PAPERS
    if isinstance(name, str) and (name in everything or name in PAPERS):
        keys = [known[name]]
    elif isinstance(name, recipe.Recipe) or name in recipe.names() or os.path.exists(name):
        tables = (recipe.load_recipe(name) if isinstance(name, str) else name).tables
        parts = ("attack", "threat", "method", "risk", "model", "data", "weights")
        used = [name for t in parts if t in tables for name in _within(tables[t])]
        keys = [tables["recipe"]["paper"], *(known.get(n) for n in used)]
    else:
        raise ValueError(did_you_mean("cite", str(name), [*known, *recipe.names()], listed=""))
    unique = list(dict.fromkeys(key for key in keys if key))
    if not unique:
        raise ValueError(f"cite = {shortened(str(name))}: there is no paper behind it")
    return unique


def _within(table: object) -> list[str]:
    """Return the names of a piece and of all pieces inside it.

    >>> _within({"name": "PerClass", "of": {"name": "KL"}, "classes": [1]})
    ['PerClass', 'KL']
    """
    if isinstance(table, list):
        return [name for one in table for name in _within(one)]
    if not isinstance(table, Mapping):
        return []
    names = [str(table["name"])] if "name" in table else []
    return names + [name for value in table.values() for name in _within(value)]
