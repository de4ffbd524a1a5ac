"""README and docs are executed: Python blocks run, TOML blocks parse, commands exist, links lead
somewhere. The built site is checked by `scripts/docs`."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

from sparring.cli.main import app
from sparring.commands import study
from sparring.config import recipe, registry
from sparring.evaluation.checks import SYMPTOMS

ROOT = Path(__file__).parents[1]
SHELL = r"^```(?:console|bash|sh|shell)\n(.*?)^```"
ENDS = {"|", "||", "&", "&&", ";", ">", ">>", "2>&1"}  # of a command in a line of a shell
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """Every fenced block of a language, with its page's name."""
    fence = re.compile(rf"```{language}\n(.*?)```", re.DOTALL)
    return [
        (page.name, code)
        for page in PAGES
        for code in fence.findall(page.read_text(encoding="utf-8"))
    ]


def commands() -> list[str]:
    """Every call of the command line in the pages: indented, or in a block of a shell.

    In a block with prompts, lines without one are output.
    """
    lines = []
    for page in PAGES:
        text = re.sub(r" *\\\n\s*", " ", page.read_text(encoding="utf-8"))
        lines += re.findall(r"^\s+(sparring .*)$", text, re.MULTILINE)
        for block in re.findall(SHELL, text, re.DOTALL | re.MULTILINE):
            prompted = re.findall(r"^\$ (.*)$", block, re.MULTILINE)
            lines += [line for line in prompted or block.splitlines() if line[:9] == "sparring "]
    return sorted({re.sub(r"\s+#.*", "", line.strip()) for line in lines})


def test_the_readme_counts_what_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    index = tomllib.loads((ROOT / "sparring/commands/index.toml").read_text(encoding="utf-8"))
    for room in ("threats", "attacks", "methods", "risks"):
        assert f"{len(index[room])} [{room}](sparring/{room})" in text
    assert f"{len(index['recipes'])} recipes come along" in text
    assert f"adversarial training | {len(index['methods'])} methods |" in text
    assert f"by {len(index['methods'])} methods" in text
    assert f"masked gradients | {len(SYMPTOMS)} checks" in text


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_python_blocks_run(
    page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize(("page", "code"), blocks("toml"))
def test_toml_blocks_are_recipes_or_studies(page: str, code: str, tmp_path: Path) -> None:
    tables = tomllib.loads(code)
    if "runs" in tables:
        path = tmp_path / "study.toml"
        path.write_text(code, encoding="utf-8")
        assert study.load(path).jobs
        return
    whole = recipe.read("digits-mart")
    for name, table in tables.items():
        whole.setdefault(name, {}).update(table)
    whole["weights"] = {**whole.get("weights", {}), "climb": {"name": "AWP"}}
    assert recipe.load_recipe(whole).tables["train"]["schedule"]


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda p: p.stem)
def test_studies_are_ready_to_run(path: Path) -> None:
    plan = study.load(path)
    assert plan.jobs
    assert all(list(plan.tables_for(job, plan.evaluations)) for job in plan.jobs)


@pytest.mark.parametrize("room", ["threat", "attack", "method", "risk", "climb", "ema"])
def test_the_map_names_every_piece(room: str) -> None:
    text = (ROOT / "docs" / "reference" / "map.md").read_text(encoding="utf-8")
    assert [name for name in registry.pieces(room) if f"`{name}`" not in text] == []


def test_there_are_snippets() -> None:
    assert blocks("python")
    assert blocks("toml")
    assert len(commands()) >= 5


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command: str) -> None:
    """Each parses with all its options and values; nothing runs."""
    words = list(itertools.takewhile(lambda w: w not in ENDS, shlex.split(command)))
    if words[1].startswith("-"):
        return
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert words[1] in known
    shown = known[words[1]].make_context(words[1], words[2:])
    name = shown.params.get("recipe") if words[1] == "train" else None
    if name and re.fullmatch(r"[a-z0-9-]+", name):
        assert name in recipe.names()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def _module(path: str):
    file = ROOT / path
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_own_loop_becomes_robust() -> None:
    assert _module("examples/own_loop.py").main(epochs=6) > 0.5


def test_own_method_learns() -> None:
    assert _module("examples/own_method.py").main(epochs=3) < 2.2


def test_own_threat_stays_in_its_window() -> None:
    assert _module("examples/own_threat.py").main() == 0.0
