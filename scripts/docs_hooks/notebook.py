"""Show the notebooks of docs/ as pages: their Markdown, code and stored outputs; nothing is run."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def pages(root: Path) -> dict[str, str]:
    """Return a page per notebook of docs/, by its path in the site."""
    docs = root / "docs"
    return {
        f"{path.relative_to(docs).with_suffix('')}-notebook.md": page(path)
        for path in sorted(docs.rglob("*.ipynb"))
        if ".ipynb_checkpoints" not in path.parts
    }


def page(path: Path) -> str:
    """Return a notebook as Markdown, with a link to the file below its heading."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n\n".join(filter(None, map(_cell, cells)))
    heading = re.match(r"# .*\n?", text)
    title = heading[0].strip() if heading else f"# {path.stem.replace('-', ' ').capitalize()}"
    rest = text[len(heading[0]) :] if heading else text
    note = f"This page is a notebook: [{path.name}]({path.name}) runs in Jupyter."
    return f"{title}, as a notebook\n\n{note}\n\n{rest.strip()}\n"


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"]).strip()
    if cell["cell_type"] == "markdown":
        return source
    if cell["cell_type"] != "code" or not source:
        return ""
    outputs = [_output(output) for output in cell.get("outputs", [])]
    return "\n\n".join([f"```python\n{source}\n```", *filter(None, outputs)])


def _output(output: dict[str, Any]) -> str:
    """Return an output in the richest form that a page can show."""
    data = output.get("data", {})
    if "text/html" in data:
        return f'<div class="notebook-output">\n{_html("".join(data["text/html"]))}\n</div>'
    if "image/svg+xml" in data:
        encoded = base64.b64encode("".join(data["image/svg+xml"]).encode()).decode()
        return f"![Output of the cell above](data:image/svg+xml;base64,{encoded})"
    if "image/png" in data:
        encoded = "".join(data["image/png"]).replace("\n", "")
        return f"![Output of the cell above](data:image/png;base64,{encoded})"
    text = "".join(data.get("text/plain") or output.get("text") or "")
    return f"```text\n{ESCAPES.sub('', text).rstrip()}\n```" if text.strip() else ""


def _html(text: str) -> str:
    """Return HTML without blank lines, at which Markdown would begin a new paragraph."""
    return "\n".join(line for line in text.splitlines() if line.strip())
