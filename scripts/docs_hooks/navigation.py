"""The order of the site's pages, made from the folders: a new page needs no entry."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from . import api

ORDER = {  # folder: its title, and pages or folders in order; others follow by name
    "tutorial": (
        "Tutorial",
        ("first-ten-minutes", "reading-a-report", "first-ten-minutes-notebook"),
    ),
    "how-to": (
        "How-to",
        (
            *("attack-my-model", "train-on-my-data", "coming-from", "adding-a-piece"),
            *("extending", "training", "data", "any-model", "plane", "gpu", "faq"),
        ),
    ),
    "reference": (
        "Reference",
        (
            *("commands", "recipes", "recipe-keys", "suites", "data-sets", "pieces"),
            *("map", "glossary", "changelog", "security", "contributing", "api"),
        ),
    ),
    "reference/recipes": ("Recipes", ()),
    "reference/api": ("API", tuple(api.ROOMS)),
    "results": ("Results", ()),
    "explanation": ("Explanation", ("which-method", "choosing", "evaluating")),
}


def navigation(pages: Iterable[str]) -> list[Any]:
    """Return MkDocs' nav of pages given by their path: the index, then a section per folder.

    A folder inside a section is a group of it. A folder's `index.md` opens it.

    >>> navigation(["index.md", "how-to/faq.md", "how-to/data.md"])
    [{'Home': 'index.md'}, {'How-to': ['how-to/data.md', 'how-to/faq.md']}]
    """
    paths = sorted({PurePosixPath(page) for page in pages})
    sections = [folder for folder in ORDER if "/" not in folder]
    inside = {folder: [p for p in paths if p.parts[0] == folder] for folder in sections}
    found = {folder: below for folder, below in inside.items() if below}
    groups = [{ORDER[f][0]: _entries(below, PurePosixPath(f))} for f, below in found.items()]
    return [{"Home": "index.md"}, *groups]


def _entries(paths: list[PurePosixPath], folder: PurePosixPath) -> list[Any]:
    """Return the pages of a folder in order, its folders as groups at the place of their name."""
    order = ("index", *ORDER.get(str(folder), ("", ()))[1])
    names = {path.relative_to(folder).parts[0].removesuffix(".md") for path in paths}
    entries: list[Any] = []
    for name in sorted(names, key=lambda n: (order.index(n) if n in order else len(order), n)):
        page, below = folder / f"{name}.md", folder / name
        if page in paths:
            entries.append(str(page))
        inner = [path for path in paths if below in path.parents]
        if inner:
            title = ORDER[str(below)][0] if str(below) in ORDER else name.capitalize()
            entries.append({title: _entries(inner, below)})
    return entries
