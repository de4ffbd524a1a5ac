"""Turn the JSONs of both stages into the rows of a table: what was measured, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .parts import DONE, read

Rows = Iterator[tuple[str, str]]


def table(files: Sequence[Path]) -> str:
    """Return the table of some JSONs as Markdown; it says which parts did not end.

    Raises:
        ValueError: for a file that is not a stage's, or of a rehearsal.
    """
    lines = ["| on the GPU | measured |", "|---|---|"]
    for file in files:
        content = read(file)
        if "parts" not in content or content.get("rehearsal"):
            raise ValueError(f"{file} is not the JSON of a stage that ran on a GPU")
        lines += [f"| {what} | {value} |" for what, value in rows(content)]
    return "\n".join(lines)


def rows(content: dict[str, Any]) -> Rows:
    """Yield the rows of one stage; a part without numbers says why."""
    for name, entry in content["parts"].items():
        kind = name.split()[0]
        found = entry.get("found", {})
        if found and kind in READERS:
            yield from READERS[kind](name, found)
        if entry["state"] != DONE:
            yield name, f"{entry['state']}: {entry.get('why', '')}".replace("|", "/")


def _machine(_: str, found: dict[str, Any]) -> Rows:
    versions = found["versions"]
    yield "machine", f"{found.get('gpu', found['cpu'])}, PyTorch {versions.get('torch')}"


def _tests(_: str, found: dict[str, Any]) -> Rows:
    failed = ", ".join(found["failed"]) or "none"
    yield "tests marked `cuda`", f"{found['passed']} passed, failed: {failed}"


def _tf32(_: str, found: dict[str, Any]) -> Rows:
    on, off = (found[key]["logits"] for key in ("on", "off"))
    text = f"{on:.1e} with TF32, {off:.1e} without, {found['judge']:.1e} by the judge"
    yield "error of logits, relative to the largest", text


def _waits(_: str, found: dict[str, Any]) -> Rows:
    for name, count in found.items():
        if count["per_step"] is not None:
            yield f"waits of the host, a further step of {name}", f"{count['per_step']:.2f}"


def _graphs(_: str, found: dict[str, Any]) -> Rows:
    for precision, row in found.items():
        text = f"{row['recorded']}; logits differ by {row['logits']:.1e}"
        text += f", gradients by {row['gradient']:.1e}"
        yield f"CUDA graphs recorded by three equal attacks, {precision}", text


def _verdicts(_: str, found: dict[str, Any]) -> Rows:
    for name, row in found.get("rows", {}).items():
        text = f"{row['robust']} of {row['of']} robust; only the CPU breaks {len(row['kinder'])}"
        yield f"digits, `autoattack`, {name}", f"{text}, only this way {len(row['stricter'])}"


def _throughput(_: str, found: dict[str, Any]) -> Rows:
    for row in found["rows"]:
        how = "compiled" if row["compiled"] else "eager"
        text = f"{row['images_at_10']:,.0f} trained by PGD-10"
        if "apgd_images" in row:
            text += f", {row['apgd_images']:,.0f} APGD steps"
        yield f"ResNet-18, images a second, batch {row['batch']}, {how}", text


def _train(name: str, found: dict[str, Any]) -> Rows:
    last = found.get("last", {})
    steps = (found.get("chosen") or {}).get("steps")
    text = f"{found.get('epochs', 0)} epochs in {last.get('seconds', 0):.0f} s"
    yield f"{name}", text + (f", {steps} attack steps" if steps else "")


def _autoattack(name: str, found: dict[str, Any]) -> Rows:
    low, high = found["interval"]
    text = f"{100 * found['robust']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    text += f", clean {100 * found['clean']:.1f} %, in {found['seconds']:.0f} s"
    yield f"{name}, {found['n']} test images", text


def _ratios(_: str, found: dict[str, Any]) -> Rows:
    for name in ("otjr-paper / pgd-at", "uad / pgd-at", "sparsity speedup"):
        if name in found:
            yield f"{name}, K = {found['k']}, batch {found['batch']}", f"{found[name]:.2f}"


def _peer(_: str, found: dict[str, Any]) -> Rows:
    if "theirs" in found:
        text = f"{found['ours']} against {found['theirs']} of {found['n']} robust, agreement "
        text += f"{100 * found['agreement']:.0f} %, time ratio {found['ratio']:.2f}"
        yield "AutoAttack's own code, float32, TF32 off", text


READERS = {
    "machine": _machine,
    "tests": _tests,
    "tf32": _tf32,
    "waits": _waits,
    "graphs": _graphs,
    "verdicts": _verdicts,
    "throughput": _throughput,
    "compiled": _throughput,
    "train": _train,
    "autoattack": _autoattack,
    "ratios": _ratios,
    "peer": _peer,
}
