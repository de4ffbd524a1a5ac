"""README and docs are executed: Python blocks run, TOML blocks parse, commands exist, links lead
somewhere."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sparring.cli.main import app
from sparring.commands import study
from sparring.config import recipe, registry

ROOT = Path(__file__).parents[1]
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
    """Every line of the pages that calls the command line."""
    lines = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    found = [
        re.sub(r"\s+#.*", "", line.strip()) for line in lines if re.match(r"\s+sparring \w+", line)
    ]
    return sorted(set(found))


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
def test_commands_exist(command: str) -> None:
    words = command.split()
    result = CliRunner().invoke(app, [words[1], "--help"])
    assert result.exit_code == 0
    options = [w.split("=")[0] for w in words if w.startswith("--")]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    assert all(option in plain for option in options), plain
    if words[1] == "train" and not words[2].startswith("-"):
        assert words[2] in recipe.names()


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
