"""Names and first lines of docstrings: nouns of the field, and verbs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sparring"
FILES = sorted(PACKAGE.rglob("*.py"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

NO_NAMES = {
    *("said", "told", "tell", "asked", "found", "held", "place", "own", "stands"),
    *("standing", "luck", "whoever"),
}
NO_OPENERS = {
    *("A", "An", "The", "What", "Whether", "Where", "How", "Which", "Who", "Whoever", "When"),
    *("As", "Of", "It"),
}
NO_PHRASES = (
    *("whoever", "so many ", "unasked", "anew", "luck", "dear ", "where omitted", "of which"),
)


def identifiers(tree: ast.Module) -> set[str]:
    """Every name that a file defines: functions, classes, arguments, variables, attributes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def test_identifiers_are_no_words_of_speech_and_posture():
    wrong = [
        f"{file.relative_to(PACKAGE)}: {name}"
        for file in FILES
        for name in sorted(identifiers(ast.parse(file.read_text(encoding="utf-8"))))
        if NO_NAMES & set(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().split("_"))
    ]
    assert not wrong, "\n".join(wrong)


def docstrings(file: Path):
    """(where, docstring) of a module's public functions and methods."""
    stack = [("", node) for node in ast.parse(file.read_text(encoding="utf-8")).body]
    while stack:
        prefix, node = stack.pop()
        if isinstance(node, ast.ClassDef):
            stack += [(f"{node.name}.", inner) for inner in node.body]
        elif isinstance(node, ast.FunctionDef) and node.name[0] != "_":
            decorators = {ast.unparse(d) for d in node.decorator_list}
            if text := ast.get_docstring(node):
                yield f"{prefix}{node.name}", text, "property" in decorators


def test_docstrings_of_functions_open_with_a_verb():
    wrong = [
        f"{file.relative_to(PACKAGE)}: {where}: {text.split()[0]} …"
        for file in FILES
        for where, text, is_property in docstrings(file)
        if not is_property and text.split()[0].strip("`") in NO_OPENERS
    ]
    assert not wrong, "\n".join(wrong)


def test_docstrings_of_public_classes_open_with_a_word():
    """One sentence comes before the formula: `sparring list` prints it."""
    wrong = [
        f"{file.relative_to(PACKAGE)}: {node.name}: {text.split()[0]} …"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name[0] != "_"
        if (text := ast.get_docstring(node)) and not re.match(r"[A-Z][a-z]+\b", text)
    ]
    assert not wrong, "\n".join(wrong)


def test_pages_and_docstrings_use_plain_phrases():
    wrong = [
        f"{file.relative_to(ROOT)}:{number}: {phrase.strip()}"
        for file in (*PAGES, *FILES)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        for phrase in NO_PHRASES
        if re.search(rf"\b{phrase}", line, re.IGNORECASE)
    ]
    assert not wrong, "\n".join(wrong)
