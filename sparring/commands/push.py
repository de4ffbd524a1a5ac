"""Upload a run to Hugging Face: weights, recipe, results and card; nothing of the machine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from ..config.recipe import load_recipe
from ..runtime import files
from ..runtime.anonymous import anonymous
from ..runtime.extras import import_extra
from ..runtime.importing import reason
from ..runtime.text import printable
from ..training.run_folder import BEST, RECIPE
from . import run_data
from .card import CARD, card_text, public_recipe, public_results
from .subject import existing_run

NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
REPO = re.compile(rf"{NAME}/{NAME}")
CARD_LIMIT = 1 << 22  # bytes
PURPOSE = "sparring push"


class Pushed(NamedTuple):
    """Name the page of a repository, "" after a dry run, and the sizes of its files in bytes."""

    url: str
    sizes: dict[str, int]


def push(
    run: str | Path,
    repo: str,
    *,
    private: bool = False,
    dry_run: bool = False,
    license: str | None = None,
    trust: bool = False,
) -> Pushed:
    """Upload the weights, recipe, results and card of a run in one commit.

    Checkpoints, logs, arrays and exported programs stay here, and so do paths and the name of the
    machine. A download of the repository is a run folder again.

    Arguments:
        repo: "user/name"; created if it does not exist.
        private: create it so that others do not see it.
        dry_run: return the files and their sizes, and upload nothing.
        license, trust: as in `card`; without a card in the folder, one is written for the upload.

    Raises:
        FileNotFoundError: if this is not a run folder, has no weights, or was not evaluated yet.
        ValueError: for a wrong name, a symbolic link, a missing package or token, or what the
            server answers.
    """
    if not REPO.fullmatch(repo) or "--" in repo or ".." in repo:
        raise ValueError(
            f"repo = {printable(repr(repo))} is not allowed: it must be user/name, of letters, "
            "digits, and single . _ - between them"
        )
    content = uploads(existing_run(run), repo=repo, license=license, trust=trust)
    sizes = {
        name: part.stat().st_size if isinstance(part, Path) else len(part)
        for name, part in content.items()
    }
    return Pushed("" if dry_run else _upload(content, repo, private=private), sizes)


def uploads(
    run: Path, *, repo: str = "", license: str | None = None, trust: bool = False
) -> dict[str, bytes | Path]:
    """Return what to upload by its name: bytes, or the file of the weights.

    Raises:
        FileNotFoundError: for a run without weights or results.
        ValueError: for a symbolic link, or a license beside a card that is there.
    """
    weights, card_file = run / BEST, run / CARD
    files.refuse_link(card_file)
    if not weights.is_file():
        raise FileNotFoundError(
            f"{printable(weights)} does not exist: a run writes its weights after the first epoch"
        )
    if card_file.exists() and license is not None:
        raise ValueError(
            f"license belongs to the card, and {printable(card_file)} is there: write it again by "
            f"sparring card {printable(run)} --license {printable(license)}"
        )
    # Before the card, so that a run without results says what to do.
    text = "" if card_file.exists() else card_text(run, license=license, trust=trust, repo=repo)
    card = files.read(card_file, limit=CARD_LIMIT) if card_file.exists() else text.encode()
    recipe = public_recipe(load_recipe(run, trust=trust))
    content: dict[str, bytes | Path] = {CARD: card, BEST: weights}
    content[RECIPE] = tomli_w.dumps(recipe).encode()
    if about := _data_record(run):
        content[run_data.RECORD] = json.dumps(about).encode()
    for name, (_, file) in public_results(run).items():
        content[f"results/{name}"] = file
    return content


def _data_record(run: Path) -> dict[str, str]:
    """Return the record of the data without its path: by it an evaluation knows other data."""
    about = run_data.recorded(run)
    return anonymous({key: value for key, value in about.items() if key != "path"})


def _upload(content: dict[str, bytes | Path], repo: str, *, private: bool) -> str:
    hub: Any = import_extra("huggingface_hub", extra="hub", purpose=PURPOSE)
    if hub.get_token() is None:
        raise ValueError(f"{PURPOSE} needs a token of Hugging Face: hf auth login, or HF_TOKEN")
    api = hub.HfApi()
    files_by_name = {name: str(p) if isinstance(p, Path) else p for name, p in content.items()}
    operations = [
        hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=file)
        for name, file in files_by_name.items()
    ]
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.create_commit(
            repo, operations=operations, commit_message=f"Add the model {repo.partition('/')[2]}"
        )
    except Exception as error:  # of the network, of rights, of the server
        raise ValueError(f"{repo} was not written: {printable(reason(error), 400)}") from error
    return str(getattr(commit, "repo_url", f"https://huggingface.co/{repo}"))
