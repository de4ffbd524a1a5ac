"""The plan of the house, read from the source: who imports whom, and what every file and name
owes."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from torch import nn

import sparring
from sparring import attacks, data, methods, risks, threats, weights
from sparring.component import Part

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sparring"
FILES = sorted(PACKAGE.rglob("*.py"))

PURE = {
    "batch",
    "batchnorm",
    "losses",
    "geometry",
    "moments",
    "ot",
    "probe",
    "dist",
    "memory",
    "part",
    "notice",
    "radius",
}
FIVE = {"threats", "attacks", "methods", "risks", "weights"}
LIBRARY = {"models", "data", "objective", "training", "evaluation", "reporting"}
WHOLE = {
    "recipe",
    "resolve",
    "schema",
    "run",
    "measure",
    "study",
    "metrics",
    "plane",
    "pseudo",
    "catalogue",
}  # they see all rooms, by name
MAY_IMPORT = {  # beside the pure files; a dotted name allows that file alone
    **{name: set() for name in (*PURE, "threats", "risks", "weights", "models", "data")},
    "attacks": {"threats.base"},
    "methods": {"attacks.base"},
    "objective": {"threats.base", "attacks.base", "methods.base", "risks.base"},
    "training": {"attacks.base", "objective", "data", "weights", "sparring"},
    "evaluation": {"threats", "attacks", "data", "sparring"},
    "reporting": {
        "evaluation.result",
        "evaluation.compare",
        "evaluation.seeds",
        "evaluation.detection",
        "evaluation.curves",
        "evaluation.interval",
        "evaluation.plane",
        "evaluation.metrics.record",
    },
    **{name: {*FIVE, *LIBRARY, *WHOLE, "sparring"} for name in WHOLE},
    "given": set(),
    "say": set(),
    "cli": {*WHOLE, "given", "say", "training", "evaluation", "reporting", "sparring"},
    "sparring": WHOLE,
    "__main__": {"cli"},
}
THIRD_PARTY = {  # at the top of a file; others are imported inside the function that needs them
    **{name: {"torch"} for name in (*PURE, *FIVE, "objective")},
    "models": {"torch", "safetensors"},
    "data": {"torch", "numpy"},
    "training": {"torch", "numpy", "rich", "safetensors", "tomli_w"},
    "evaluation": {"torch", "numpy", "rich"},
    "reporting": {"numpy", "rich", "jinja2", "matplotlib"},
    **{name: {"torch", "numpy", "pydantic", "tomli_w"} for name in WHOLE},
    "given": {"typer"},
    "say": {"rich"},
    "cli": {"typer", "rich"},
    "sparring": set(),
    "__main__": set(),
}


def dotted(file: Path) -> str:
    """The module of a file below the package: "attacks.pgd"; a room's `__init__` is the room."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(p for p in parts if p != "__init__") or "sparring"


def room(module: str) -> str:
    return module.split(".")[0]


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def exists(module: str) -> bool:
    path = PACKAGE.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def imports(file: Path) -> set[str]:
    """Modules of ours that a file imports, anywhere in it: "probe", "attacks.base", "sparring" for
    the package itself."""
    here = ["sparring", *file.relative_to(PACKAGE).parts[:-1]]
    found = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            found |= {
                a.name.partition(".")[2] or "sparring"
                for a in node.names
                if room(a.name) == "sparring"
            }
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else []
            target = [*above, *(node.module or "").split(".")]
            target = [part for part in target if part]
            if target[0] != "sparring":
                continue
            base = ".".join(target[1:])
            for alias in node.names:
                name = f"{base}.{alias.name}".strip(".")
                found.add(name if exists(name) else base or "sparring")
    return found - {dotted(file)}


def top_level_third_party(file: Path) -> set[str]:
    """Foreign packages imported when the file is, not inside a function."""
    found = set()
    nodes = list(tree(file).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            nodes += list(ast.iter_child_nodes(node))
        elif isinstance(node, ast.Import):
            found |= {room(a.name) for a in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(room(node.module or ""))
    return {name for name in found if name not in sys.stdlib_module_names and name != "sparring"}


def allowed(file: Path, target: str) -> bool:
    """Whether a file may import one of our modules."""
    source = room(dotted(file))
    if room(target) in PURE or room(target) == source:
        return True
    may = MAY_IMPORT[source]
    return target in may or room(target) in may


EVERY_FILE = pytest.mark.parametrize("file", FILES, ids=dotted)


@EVERY_FILE
def test_imports_go_down(file):
    assert room(dotted(file)) in MAY_IMPORT, "a new room or file: say what it may import"
    wrong = sorted(t for t in imports(file) if not allowed(file, t))
    assert not wrong, f"{dotted(file)} must not import {', '.join(wrong)}"


def test_nothing_imports_in_circles():
    """Among the files; a room's `__init__`, which only gathers, stands for nothing."""
    arrows = {dotted(f): imports(f) for f in FILES if f.name != "__init__.py"}
    known = set(arrows)
    while known:
        free = {m for m in known if not arrows[m] & known - {m}}
        assert free, f"a circle among {sorted(known)}"
        known -= free


@EVERY_FILE
def test_a_file_of_a_room_imports_its_bases_and_no_other(file):
    """A base is base.py, or a file of interfaces: one that the room exports nothing from."""
    here = dotted(file)
    if room(here) not in FIVE | {"models"} or file.name in ("__init__.py", "combine.py"):
        return
    within = {t for t in imports(file) if room(t) == room(here)}
    pieces = imports(PACKAGE / room(here) / "__init__.py") - {f"{room(here)}.base"}
    assert not within & pieces


@EVERY_FILE
def test_third_party_imports_are_those_of_the_plan(file):
    wrong = sorted(top_level_third_party(file) - THIRD_PARTY[room(dotted(file))])
    assert not wrong, f"{dotted(file)} imports {', '.join(wrong)} at its top"


def test_there_is_no_package_of_ours_but_one():
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")}
    assert packages - {"tests"} == {"sparring"}


@pytest.mark.parametrize("folder", ["sparring", "tests", "examples", "benchmarks"])
def test_files_stay_under_400_lines(folder):
    long = {
        str(f.relative_to(ROOT)): n
        for f in (ROOT / folder).rglob("*.py")
        if (n := len(f.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


@EVERY_FILE
def test_public_names_are_documented(file):
    module = tree(file)
    assert ast.get_docstring(module), f"{dotted(file)} has no docstring"
    bare = [
        node.name
        for node in module.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not bare


@EVERY_FILE
def test_what_a_file_exports_exists(file):
    if dotted(file) == "__main__":
        return
    module = importlib.import_module(
        f"sparring.{dotted(file)}" if dotted(file) != "sparring" else "sparring"
    )
    for name in getattr(module, "__all__", []):
        assert hasattr(module, name), name


def classes() -> list[type]:
    """Every class of the package."""
    found = []
    for file in FILES:
        if file.name == "__main__.py":
            continue
        name = "sparring" if dotted(file) == "sparring" else f"sparring.{dotted(file)}"
        members = vars(importlib.import_module(name)).values()
        found += [c for c in members if inspect.isclass(c) and c.__module__ == name]
    return found


def unfinished(cls: type) -> set[str]:
    """Methods that a class leaves to its heirs: all they do is raise NotImplementedError."""
    found = set()
    for name, member in inspect.getmembers(cls, inspect.isfunction):
        if not member.__module__.startswith("sparring"):
            continue
        (function,) = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(member)))).body
        last = function.body[-1] if isinstance(function, ast.FunctionDef) else None
        if isinstance(last, ast.Raise) and "NotImplementedError" in ast.unparse(last):
            found.add(name)
    return found


def test_classes_are_interfaces_or_leaves():
    """Nothing inherits a class that works; two levels below the base of a room at most."""
    for cls in classes():
        ours = [b for b in cls.__mro__[1:] if b.__module__.startswith("sparring") and b is not Part]
        for base in ours:
            assert unfinished(base), (
                f"{cls.__name__} inherits {base.__name__}, which is no interface"
            )
        assert len(ours) <= 2, f"{cls.__name__} is {len(ours)} levels below Part"


def test_what_a_room_exports_is_finished():
    abstract = {"Threat", "Attack", "Maximizer", "Method", "Risk", "Climb", "Augment", "Extra"}
    calls = {"Free": {"__call__"}}  # works inside an objective only
    for module in (threats, attacks, methods, risks, weights, data):
        for name in module.__all__:
            member = getattr(module, name)
            if inspect.isclass(member) and issubclass(member, nn.Module) and name not in abstract:
                assert unfinished(member) == calls.get(name, set()), name


def parts() -> list[type[Part]]:
    return [c for c in classes() if issubclass(c, Part) and c is not Part]


def test_papers_are_in_the_bibliography():
    text = (PACKAGE / "papers.bib").read_text(encoding="utf-8")
    known = [
        line.split("{", 1)[1].rstrip(",") for line in text.splitlines() if line.startswith("@")
    ]
    assert len(known) == len(set(known)), "a paper stands twice"
    for part in parts():
        assert part.paper is None or part.paper in known, f"{part.__name__}.paper = {part.paper!r}"


@pytest.mark.parametrize("part", parts(), ids=lambda p: p.__name__)
def test_arguments_after_the_first_are_keywords(part):
    wanted = list(inspect.signature(part).parameters.values())
    inherited = "__init__" not in vars(part)
    assert inherited or all(p.kind is p.KEYWORD_ONLY for p in wanted[1:])


@pytest.mark.parametrize("module", ["sparring", "sparring.cli"])
def test_the_command_line_starts_without_torch(module):
    heavy = {"torch", "numpy", "matplotlib", "pydantic"}
    code = f"import sys, {module}; print(*({heavy} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == ""


def test_the_package_gives_its_names_on_demand():
    assert set(dir(sparring)) == set(sparring.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = sparring.trian
