"""Each sentence of SECURITY.md names a test that holds it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "SECURITY.md"


def claims() -> list[tuple[str, str, str]]:
    """Each claim of the page: its sentence, and the file and function of its test."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:2] == "* "]
    found = [re.fullmatch(r"\* (.+\.) `(tests/\S+\.py)::(\w+)`", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    return [match.groups() for match in found if match]


def test_every_claim_has_a_test_that_exists():
    missing = []
    for _, file, name in claims():
        tree = ast.parse((ROOT / file).read_text()) if (ROOT / file).is_file() else ast.parse("")
        if name not in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}:
            missing.append(f"{file}::{name}")
    assert not missing


def test_no_claim_stands_for_two_tests_or_two_claims_for_one():
    sentences, tests = ([c[0] for c in claims()], [c[1:] for c in claims()])
    assert len(set(sentences)) == len(sentences) > 25
    assert len(set(tests)) == len(tests)
