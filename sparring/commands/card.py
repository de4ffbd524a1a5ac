"""Write the model card of a run, from the results in its folder."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from ..config.recipe import Recipe, load_recipe
from ..reporting.model_card import CardFacts, model_card
from ..results.result import Result
from ..runtime import files
from ..runtime.anonymous import anonymous
from ..runtime.text import printable
from ..training.run_folder import refuse_links
from .cite import entries, papers
from .rehearsal import new_file
from .subject import existing_run

CARD = "README.md"
LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,39}")


def card(
    run: str | Path,
    *,
    out: str | Path | None = None,
    license: str | None = None,
    trust: bool = False,
) -> Path:
    """Write a card for the model of a run: robustness with verdicts, training, use, limits.

    It is Markdown with the front matter that Hugging Face reads, and has no path of this machine.

    Arguments:
        out: the file, of ending .md; default: `RUN/README.md`.
        license: of the weights, as "apache-2.0"; default: the card says that none is stated.
        trust: as in `config.recipe.load_recipe`.

    Raises:
        FileNotFoundError: if this is not a run folder, or it was not evaluated yet.
        ValueError: for a damaged result, or a license that is no identifier.
    """
    out = None if out is None else new_file(out, endings=(".md",))
    folder = existing_run(run)
    path = folder / CARD if out is None else out
    files.refuse_target(path)
    text = card_text(folder, license=license, trust=trust)
    files.write(path, text.encode())
    return path


def card_text(run: Path, *, license: str | None = None, trust: bool = False, repo: str = "") -> str:
    """Return the text of a card.

    Arguments:
        repo: on the hub, as "user/name", which the card says how to load; default: a folder.
    """
    if license is not None and not LICENSE.fullmatch(license):
        raise ValueError(
            f"license = {printable(repr(license))} is not allowed: it must be an identifier, such "
            "as apache-2.0, mit or cc-by-4.0"
        )
    recipe = load_recipe(run, trust=trust)
    tables = public_recipe(recipe)
    results = [result for result, _ in public_results(run).values()]
    if not results:
        raise FileNotFoundError(
            f"{printable(run)} has no results, which are what a card is about: sparring evaluate "
            f"{printable(run)} --suite autoattack"
        )
    facts = CardFacts(
        run.resolve().name,
        tables,
        results[0].dataset,
        license or "",
        _bibtex(recipe),
        repo,
    )
    return model_card(results, facts)


def public_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return the tables of a recipe without paths of this machine."""
    return anonymous(recipe.tables)


def public_results(run: Path) -> dict[str, tuple[Result, bytes]]:
    """Return the results of a run and their files by name, without pictures, arrays and paths.

    Raises:
        ValueError: for a damaged result, or a symbolic link.
    """
    refuse_links(run)
    public = {}
    for path in sorted((run / "results").glob("*.json")):
        table = Result.load(path).strip().to_dict() | {"arrays_sha256": ""}
        content = json.dumps(anonymous(table), ensure_ascii=False, indent=1).encode() + b"\n"
        with tempfile.TemporaryDirectory() as temporary:
            copy = Path(temporary, "result.json")
            copy.write_bytes(content)
            public[path.name] = (Result.load(copy), content)
    return public


def _bibtex(recipe: Recipe) -> str:
    """Return the BibTeX of the papers behind a recipe; "" if there are none."""
    known = entries()
    try:
        keys = papers(recipe)
    except ValueError:  # it names none
        return ""
    return "\n\n".join(known[key] for key in keys if key in known)
