"""The pages of the API: the public names of each room; mkdocstrings reads, and imports none."""

from __future__ import annotations

import ast
from pathlib import Path

INDEX = "reference/api/index.md"
ROOMS = {  # each a page: what a reader does with it
    "sparring": "Train, evaluate, report and compare, each by one call.",
    "attacks": "Search for adversarial inputs.",
    "threats": "Say where the adversary may go.",
    "methods": "Define the adversary's gain and the model's loss.",
    "risks": "Aggregate the losses of samples.",
    "weights": "Perturb or average the weights.",
    "losses": "Train in a loop of your own, one call per method.",
    "objective": "Combine attack, method and risk.",
    "models": "Build networks, and wrap models from elsewhere.",
    "data": "Load data, augment batches, add rows.",
    "training": "Train by an objective, epoch by epoch.",
    "evaluation": "Attack a model with a suite, and judge the points.",
    "certification": "Prove lower bounds on robust accuracy.",
    "metrics": "Measure distances, slopes and flatness.",
    "results": "Read, compare and summarize results.",
    "reporting": "Write tables and pages.",
    "sklearn": "Train a robust classifier behind scikit-learn's interface.",
    "compat": "Keep the calls of torchattacks, AutoAttack and RobustBench.",
    "config": "Turn recipes into objects.",
    "functional": "Losses, geometry, optimal transport, batch norm: pure functions.",
    "introspect": "Look inside a model: features, Jacobians, predictions.",
    "batch": "The records that pieces hand to each other.",
    "component": "The base of every piece.",
}
INTRO = """# API

After this page you know in which room a name is. Each page shows the public names with their
arguments, sources and a short example that the tests run.

"""


def pages(root: Path) -> dict[str, str]:
    """Return the index of the API and a page per room, by their paths in the site."""
    package = root / "sparring"
    rows = [f"* [`{_module(room)}`]({room}.md): {about}" for room, about in ROOMS.items()]
    out = {INDEX: INTRO + "\n".join(rows) + "\n"}
    for room, about in ROOMS.items():
        blocks = [f"::: {name}" for name in names(package, room)]
        head = f"---\ntitle: {room}\n---\n\n# {_module(room)}\n\n{about}\n"
        out[f"reference/api/{room}.md"] = "\n\n".join([head, *blocks]) + "\n"
    return out


def names(package: Path, room: str) -> list[str]:
    """Return the dotted names that a room's page shows: its public names, or its files.

    >>> from pathlib import Path
    >>> names(Path("sparring"), "risks")[:2]
    ['sparring.risks.Alpha', 'sparring.risks.CVaR']
    """
    folder = package if room == "sparring" else package / room
    module = _module(room)
    if not folder.is_dir():
        return [module]
    public = sorted(_exported(folder / "__init__.py"), key=str.lower)
    shown = [n for n in public if n[0] != "_" and not _is_module(folder / n)]
    files = [f.stem for f in sorted(folder.glob("[!_]*.py"))]
    return [f"{module}.{name}" for name in (shown or files)]


def _exported(file: Path) -> list[str]:
    """Return the names in a file's `__all__`, without importing it."""
    exported: list[str] = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            value = node.value  # type: ignore[attr-defined]
            exported += [str(n.value) for n in ast.walk(value) if isinstance(n, ast.Constant)]
    return exported


def _is_module(path: Path) -> bool:
    return path.with_suffix(".py").is_file() or path.is_dir()


def _module(room: str) -> str:
    return room if room == "sparring" else f"sparring.{room}"
