"""What the documentation site is made of; `scripts/docs` builds it whole and checks it."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import tomllib
from pathlib import Path

import pytest

from scripts.docs_hooks import (
    api,
    check_site,
    commands,
    docstrings,
    links,
    navigation,
    notebook,
    pieces,
    recipe_keys,
    recipes,
)
from sparring import data, evaluation
from sparring.config import recipe

ROOT = Path(__file__).parents[1]
MODULES = (
    *("api", "check_site", "commands", "docstrings", "links", "markdown", "navigation"),
    *("notebook", "pieces", "recipe_keys", "recipes", "signatures"),
)


@pytest.mark.parametrize("name", MODULES)
def test_doctests_of_the_hooks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert doctest.testmod(importlib.import_module(f"scripts.docs_hooks.{name}")).failed == 0


def flat(nav: list) -> list[str]:
    """Return the pages of a nav, in order."""
    values = [v for e in nav for v in (e.values() if isinstance(e, dict) else [e])]
    return [page for v in values for page in (flat(v) if isinstance(v, list) else [v])]


def test_every_page_has_one_place_in_the_nav() -> None:
    docs = ROOT / "docs"
    pages = [path.relative_to(docs).as_posix() for path in docs.rglob("*.md")]
    assert sorted(flat(navigation.navigation(pages))) == sorted(pages)


def test_a_new_page_comes_after_those_in_order_and_an_index_first() -> None:
    pages = ["index.md", *(f"results/{n}.md" for n in ("b", "a", "index")), "how-to/zzz.md"]
    pages += ["how-to/faq.md", "reference/api/attacks.md", "reference/api/sparring.md"]
    assert navigation.navigation(pages) == [
        {"Home": "index.md"},
        {"How-to": ["how-to/faq.md", "how-to/zzz.md"]},
        {"Reference": [{"API": ["reference/api/sparring.md", "reference/api/attacks.md"]}]},
        {"Results": ["results/index.md", "results/a.md", "results/b.md"]},
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](../CHANGELOG.md)", "[a](../reference/changelog.md)"),
        ("[a](../../SECURITY.md#x)", "[a](../reference/security.md#x)"),
        ("[a](data.md#files)", "[a](data.md#files)"),
        ("![plot](../figures/plane.png)", "![plot](../figures/plane.png)"),
        ("[![plot](p.png)](data.md)", "[![plot](p.png)](data.md)"),
        ("[a](../../examples/own_loop.py)", "[a](../source/examples/own_loop.py)"),
        ("[a](../../results)", "[a](../source/results/index.md)"),
        ("[a](../../results/)", "[a](../source/results/index.md)"),
        ("[a](../../nothing.md)", "[a](../../nothing.md)"),
        ("[a](https://a.org/b)", "[a](https://a.org/b)"),
        ("```md\n[a](../../results)\n```", "```md\n[a](../../results)\n```"),
    ],
)
def test_links_out_of_docs_lead_into_the_site(text: str, expected: str) -> None:
    def kind(path: str) -> str:
        return {"results": "folder", "examples/own_loop.py": "file"}.get(path, "")

    if "CHANGELOG" in text:
        text = text.replace("../", "../../")
    assert links.rewritten(text, "how-to/x.md", "docs/how-to/x.md", kind) == expected


def test_the_root_pages_link_as_at_the_root() -> None:
    text = links.rewritten(
        "[a](docs/how-to/data.md)", "reference/security.md", "SECURITY.md", lambda _: ""
    )
    assert text == "[a](../how-to/data.md)"


def test_the_page_of_commands_has_every_option() -> None:
    import typer

    from sparring.cli.main import app

    text = commands.pages(ROOT)[commands.PAGE]
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert command.hidden or f"## {name}\n" in text
        section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        options = [o for p in command.params if not p.hidden for o in p.opts if o[0] == "-"]
        assert [o for o in options if f"`{o}`" not in section] == []


def paths(table: dict, above: str) -> list[str]:
    """Return the dotted keys of a resolved table; of lists, their first entry stands for all."""
    found = []
    for key, value in table.items():
        path = f"{above}.{key}"
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict):
            found += paths(inner, f"{path}.0" if isinstance(value, list) else path)
        elif key != "name":
            found.append(path)
    return found


@pytest.mark.parametrize("name", ["armor-mart-awp-mnist", "cifar10-small-otjr", "fashion-sparsity"])
def test_the_page_of_keys_has_every_key_of_a_recipe(name: str) -> None:
    text = recipe_keys.pages(ROOT)[recipe_keys.PAGE]
    aliases = ("validation.attack", "attack"), ("validation.threat", "threat")
    aliases += (("evaluation.threat", "threat"),)
    for path in (p for t, v in recipe.load_recipe(name).tables.items() for p in paths(v, t)):
        for long, short in aliases:
            path = path.replace(f"{long}.", f"{short}.")
        if not path.startswith("train.optimizer."):  # torch's own
            assert f"`{path}`" in text, path


def test_every_key_has_a_meaning() -> None:
    rows = re.findall(r"^\| `[\w.]+` \|.*$", recipe_keys.pages(ROOT)[recipe_keys.PAGE], re.M)
    assert len(rows) > 300
    assert [row for row in rows if re.search(r"\|\s*\|$", row)] == []


def test_the_pages_of_recipes_have_all_of_them() -> None:
    pages = recipes.pages(ROOT)
    rows = re.findall(r"^\| \[`([\w-]+)`\]\(([\w-]+\.md)#([\w-]+)\)", pages[recipes.PAGE], re.M)
    assert [name for name, _, _ in rows] == recipe.names()
    for name, page, anchor in rows:
        text = pages[f"{recipes.FOLDER}/{page}"]
        assert f"\n## {name}\n" in text
        assert anchor == name
    for block in re.findall(r"```toml\n(.*?)```", "".join(pages.values()), re.DOTALL):
        assert tomllib.loads(block)


def test_the_pages_of_pieces_have_all_of_them() -> None:
    pages = pieces.pages(ROOT)
    assert [s for s in evaluation.SUITES if f"`{s}`" not in pages["reference/suites.md"]] == []
    assert [d for d in data.names() if f"`{d}`" not in pages["reference/data-sets.md"]] == []


def test_the_api_has_a_page_per_room_and_its_public_names() -> None:
    pages = api.pages(ROOT)
    assert "::: sparring.attacks.PGD\n" in pages["reference/api/attacks.md"]
    assert "::: sparring.functional.losses" in pages["reference/api/functional.md"]
    folders = {path.parent.name for path in (ROOT / "sparring").glob("*/__init__.py")}
    assert folders - set(api.ROOMS) <= {"cli", "commands", "recipes", "runtime", "serving"}


def test_docstrings_become_markdown() -> None:
    text = docstrings.as_markdown(
        "Return |p_k| <b>.\n\nArguments:\n    a, b: `x_y` and\n        z_k.\n\nSource: A 2020.\n\n"
        ">>> f(\n...     1)  # doctest: +SKIP\n1\n>>> g()\n\nAfter."
    )
    assert text == (
        "Return &#124;p\\_k&#124; &lt;b>.\n\nArguments:\n    a: `x_y` and\n        z\\_k.\n"
        "    b: `x_y` and\n        z\\_k.\n\nSource: A 2020.\n\n"
        "```pycon\n>>> f(\n...     1)\n1\n>>> g()\n```\n\nAfter."
    )


def test_a_notebook_becomes_a_page(tmp_path: Path) -> None:
    outputs = [
        {"output_type": "stream", "text": ["\x1b[1mepoch\x1b[0m 1\n"]},
        {"data": {"text/html": ["<b>x</b>\n\n<i>y</i>"], "text/plain": ["x"]}},
        {"data": {"image/png": "aGk=\n", "text/plain": ["<Figure>"]}},
        {"data": {"text/plain": ["0.5"]}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Ten minutes\n", "\n", "Text."]},
        {"cell_type": "code", "source": ["f()"], "outputs": outputs},
        {"cell_type": "code", "source": [], "outputs": []},
    ]
    path = tmp_path / "ten.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    text = notebook.page(path)
    assert text.startswith("# Ten minutes, as a notebook\n\n")
    assert "```python\nf()\n```\n\n```text\nepoch 1\n```" in text
    assert "<b>x</b>\n<i>y</i>" in text
    assert "data:image/png;base64,aGk=)" in text
    assert "Figure" not in text


GOOD = '<h1 id="top">MART</h1><a href="#top">up</a><img src="a.png" alt="A">'


def built(site: Path, body: str, style: str = "") -> list[str]:
    """Return the faults of a site of one page."""
    (site / "search").mkdir()
    (site / "index.html").write_text(body, encoding="utf-8")
    (site / "style.css").write_text(style, encoding="utf-8")
    (site / "a.png").write_bytes(b"")
    docs = [{"location": "", "title": "", "text": "MART AutoAttack sparring train"}]
    index = site / "search" / "search_index.json"
    index.write_text(json.dumps({"docs": docs}), encoding="utf-8")
    return check_site.problems(site)


def test_a_good_site_has_no_fault(tmp_path: Path) -> None:
    picture = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'>"
    style = f'/* https://a.org */ a {{ background: url("{picture}") }}'
    assert built(tmp_path, GOOD + '<a href="https://a.org">out</a>', style) == []


@pytest.mark.parametrize(
    "fault",
    [
        '<a href="lost.html">a</a>',
        '<a href="#lost">a</a>',
        '<a href="/index.html">a</a>',
        '<script src="https://a.org/a.js"></script>',
        "<script>fetch('https://a.org/a')</script>",
        '<link rel="stylesheet" href="//a.org/a.css">',
        '<img src="http://a.org/a.png" alt="A">',
        '<img src="a.png">',
        '<p style="background: url(https://a.org/a.png)">',
        "<style>@import 'https://a.org/a.css'</style>",
    ],
)
def test_a_fault_of_the_site_is_seen(fault: str, tmp_path: Path) -> None:
    assert len(built(tmp_path, GOOD + fault)) == 1


def test_a_page_that_the_search_lacks_is_seen(tmp_path: Path) -> None:
    (tmp_path / "other.html").write_text("", encoding="utf-8")
    assert built(tmp_path, GOOD) == ["other.html: not in the search index"]


def test_a_style_that_names_a_host_is_seen(tmp_path: Path) -> None:
    assert len(built(tmp_path, GOOD, "a { src: url(https://a.org/a.woff2) }")) == 1


def test_what_builds_the_site_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = {
        line.partition("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    extra = [name.partition("[")[0] for name in project["optional-dependencies"]["docs"]]
    assert extra
    assert set(extra) <= pins
