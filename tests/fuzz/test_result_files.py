"""Result files with one bad value, or damaged in their bytes, are refused in words."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from sparring import reporting
from sparring.evaluation import evaluate
from sparring.results import Result, pairing
from tests.fuzz.bad_values import bad_for, leaves, replaced
from tests.fuzz.harness import ACCEPTED, fault, fuzz

# Entries that look bad and are good; each with the reason.
TEXTS = (  # only a person reads them; all are shown with their escapes
    r"name|dataset|split|commit|device|suite|precision|early|verdict|data_sha256"
    r"|(versions|reasons|notes|class_names)\..*|by_eps\.\d+\.threat"
    r"|(by_eps\.\d+\.)?attacks\.\d+\.\w+|by_eps\.\d+\.certified\.\d+\.\w+"
    r"|checks\.\d+\.\w+|probes\.\d+\.\w+|detection\.(positive|rates\.\d+\.name)"
)
TABLES = r"(recipe|train|threat|versions)(\..*)?"  # another version may write other keys
NUMBERS = (  # any number may be measured, or drawn from
    r"seed|suite_version|detection\.rates\.\d+\.tpr\.\d+\.threshold|checks\.\d+\.(value|threshold)|probes\.\d+\.(clean|adversarial|low|high)"
)
LISTS = r"notes|reasons|class_names|checks|probes|attacks|by_eps(\.\d+\.(attacks|certified))?"
SCORES = ("clean_score", "adv_score")  # any finite numbers
# A model may have more outputs than the data have classes: such predictions are shown as wrong.
PREDICTIONS = ("clean_pred", "adv_pred")


def argued(path: str, bad: Any) -> bool:
    """Return whether a value that looks bad is argued to be good."""
    if isinstance(bad, str) and re.fullmatch(TEXTS, path):
        return True
    if isinstance(bad, int | float) and not isinstance(bad, bool) and re.fullmatch(NUMBERS, path):
        return True
    if (path, bad) == ("arrays_sha256", ""):  # a result that has no arrays
        return True
    texts = isinstance(bad, list) and all(isinstance(v, str) for v in bad)
    return bool(re.fullmatch(TABLES, path) or (texts and re.fullmatch(LISTS, path)))


@cache
def result() -> Result:
    """Evaluate a linear model of two classes, with everything that a result can hold."""
    torch.manual_seed(0)
    y = torch.arange(40) % 2
    x = 0.3 * torch.rand(40, 1, 3, 3) + 0.2 + 0.3 * y[:, None, None, None]
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 9))
        model[1].bias.copy_(torch.tensor([4.5, -4.5]))
    options = {"eps": [0.05, 0.2], "probes": "masking", "certify": "ibp"}
    return evaluate(model, (x, y), "Linf", "quick", name="fuzz", progress=False, **options)


@cache
def saved(folder: Path) -> dict[str, Any]:
    """Save a good result into `folder`; return its JSON."""
    return json.loads(result().save(folder / "good.json").read_bytes())


def read_and_show(path: Path) -> None:
    """Read a result and show it in every way that a user would."""
    loaded = Result.load(path)
    reporting.table([loaded])
    reporting.page([loaded], path.with_suffix(".html"))


def numbers_out_of_range(path: str, value: Any) -> list[Any]:
    """Return numbers of the right type that no evaluation gives."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    key = path.rpartition(".")[2]
    if key in ("accuracy", "low", "high"):
        return [5.0, -0.1, 1.0001]
    return [-1, -(2**63)] if key in ("n", "count", "attacked", "skipped", "infeasible") else []


def check_value(data: st.DataObject, folder: Path) -> None:
    """Draw a bad value for an entry of a good result; reading it must raise one sentence."""
    good = saved(folder)
    path, value = data.draw(st.sampled_from(list(leaves(good))))
    dotted = ".".join(map(str, path))
    bad = data.draw(st.sampled_from([*bad_for(value), *numbers_out_of_range(dotted, value)]))
    try:
        text = json.dumps(replaced(good, path, bad), default=str)
    except ValueError:
        return
    target = folder / "bad.json"
    target.write_text(text)
    wrong = fault(lambda: read_and_show(target))
    good = wrong == ACCEPTED and argued(dotted, bad)
    assert wrong is None or good, f"{dotted} = {str(bad)[:80]!r} {wrong}"


def check_bytes(data: st.DataObject, folder: Path) -> None:
    """Damage a good result's JSON or arrays in their bytes; reading it must raise one sentence.

    Damaged arrays keep the hash of the good ones, as after a bad copy, or get theirs, as forged.
    """
    text = json.dumps(saved(folder)).encode()
    digest = saved(folder)["arrays_sha256"]
    packed = next(folder.glob("good.*.npz")).read_bytes()
    kind = data.draw(st.sampled_from(["json", "copied", "forged"]))
    content = text if kind == "json" else packed
    # a share: the length depends on the times that were measured
    cut = int(data.draw(st.integers(0, 999)) / 1000 * len(content))
    junk = data.draw(st.sampled_from([b"", b"\x00" * 50, b"\xff\xfe", b"[" * 100_000, b"<html>"]))
    damaged = content[:cut] + junk
    if kind == "json":
        text = damaged
    else:
        packed = damaged
    if kind == "forged":
        forged = hashlib.sha256(packed).hexdigest()
        text, digest = text.replace(digest.encode(), forged.encode()), forged
    for old in folder.glob("bad.*"):
        old.unlink()
    (folder / "bad.json").write_bytes(text)
    pairing.arrays_path(folder / "bad.json", digest).write_bytes(packed)
    wrong = fault(lambda: read_and_show(folder / "bad.json"))
    assert wrong is None, f"{kind} cut at {cut}, then {junk[:8]!r}: {wrong}"


def check_arrays(data: st.DataObject, folder: Path) -> None:
    """Save a result with one array of another length, kind or range; reading it must refuse."""
    made = copy.deepcopy(result())
    name = data.draw(st.sampled_from(sorted(made.arrays)))
    old = made.arrays[name]
    others = [old[:-1], old[:, None], old.astype("U3"), old.astype("M8[s]"), old.astype(complex)]
    others += [np.full(old.shape, 10**6), np.full(old.shape, -7), np.zeros((0, 3)), np.float64(1)]
    made.arrays[name] = values = data.draw(st.sampled_from(others))
    kept = name.startswith(("show_", "surface")) or name in (*SCORES, *PREDICTIONS)
    # an index may be of any row, and come twice
    kept = kept or (name == "index" and values.dtype.kind in "if" and (values >= 0).all())
    try:
        made.save(folder / "bad.json")
    except ValueError:
        return
    wrong = fault(lambda: read_and_show(folder / "bad.json"))
    good = wrong == ACCEPTED and kept
    assert wrong is None or good, f"{name} as {made.arrays[name]!r:.80}: {wrong}"


CHECKS = {
    "result values": check_value,
    "result bytes": check_bytes,
    "result arrays": check_arrays,
}


@pytest.mark.parametrize("kind", CHECKS)
def test_a_bad_result_file_is_refused(kind, tmp_path):
    fuzz(kind, lambda data: CHECKS[kind](data, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHECKS)
def test_many_bad_result_files_are_refused(kind, tmp_path):
    fuzz(kind, lambda data: CHECKS[kind](data, tmp_path), slow=True)
