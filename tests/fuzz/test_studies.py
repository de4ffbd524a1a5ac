"""Studies with one bad value, or with damaged bytes, are refused in words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import strategies as st

from sparring.commands import study
from tests.fuzz.bad_values import one_bad_value
from tests.fuzz.damaged_text import damaged, is_shorter_or_changed
from tests.fuzz.harness import ACCEPTED as SILENT
from tests.fuzz.harness import fault, fuzz

STUDY: dict[str, Any] = {
    "name": "digits",
    "seeds": [0, 1],
    "set": ["train.epochs=1"],
    "jobs": 10,
    "runs": {
        "teacher": {"recipe": "digits-standard"},
        "grid": {"recipe": "digits-mart", "seeds": [2], "grid": {"light": "method.beta=2"}},
    },
    "evaluations": {"pgd": {"n": 10, "suite": "pgd", "only": ["teacher"]}},
    "metrics": {"distances": {"names": ["deepfool-l2"], "n": 5, "split": "test"}},
}
# Bad by their look and good by their meaning; each with the reason.
ACCEPTED: dict[str, str] = {}


def check_value(data: st.DataObject, folder: Path) -> None:
    """Draw a study with a bad value; loading it must raise one sentence."""
    path, bad, tables = data.draw(one_bad_value(STUDY))
    try:
        text = tomli_w.dumps(tables)
    except (TypeError, ValueError):  # TOML has no None
        text = tomli_w.dumps(STUDY | {"seeds": "none"})
    (folder / "bad.toml").write_text(text)
    wrong = fault(lambda: study.load(folder / "bad.toml"), lines=3)
    good = wrong == SILENT and any(re.fullmatch(p, path) for p in ACCEPTED)
    assert wrong is None or good, f"{path} = {str(bad)[:80]!r} {wrong}"


def check_text(data: st.DataObject, folder: Path) -> None:
    """Damage a study's text; loading it must raise one sentence, or take what is left for less."""
    text = tomli_w.dumps(STUDY).encode()
    bad = data.draw(damaged(text))
    (folder / "bad.toml").write_bytes(bad)
    wrong = fault(lambda: study.load(folder / "bad.toml"), lines=3)
    good = wrong == SILENT and is_shorter_or_changed(bad, text)
    assert wrong is None or good, f"{bad[:200]!r} … {bad[-200:]!r}: {wrong}"


CHECKS = {"study values": check_value, "study texts": check_text}


@pytest.mark.parametrize("kind", CHECKS)
def test_a_bad_study_is_refused(kind, tmp_path):
    fuzz(kind, lambda data: CHECKS[kind](data, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHECKS)
def test_many_bad_studies_are_refused(kind, tmp_path):
    fuzz(kind, lambda data: CHECKS[kind](data, tmp_path), slow=True)
