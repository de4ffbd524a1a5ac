"""The plan of the house, read from the source: who imports whom, and what every file and name
owes."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from torch import nn

import sparring
from sparring import attacks, data, methods, risks, threats, weights
from sparring.component import Component

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sparring"
FILES = sorted(PACKAGE.rglob("*.py"))


class Row(NamedTuple):
    """What a folder may import at the top of its files.

    Arguments:
        level: it imports any folder of a lower level, but for those in `never`.
        beside: folders, or files, of its own level that it imports too.
        packages: third-party packages; others are imported inside the function that needs them.
    """

    level: int
    beside: tuple[str, ...] = ()
    packages: tuple[str, ...] = ("torch",)
    never: tuple[str, ...] = ()


FOLDERS = {
    "batch": Row(0),
    "component": Row(0, ("batch", "runtime.annotations", "runtime.fractions")),
    "runtime": Row(0, ("batch", "component"), ("torch", "numpy", "rich")),
    "functional": Row(1),
    "introspect": Row(1, ("functional",)),
    "results": Row(1, (), ("numpy", "scipy", "sklearn", "pydantic")),
    "threats": Row(2, never=("results", "introspect")),
    "risks": Row(2, never=("results", "introspect")),
    "weights": Row(2, never=("results",)),
    "models": Row(2, (), ("torch", "numpy", "safetensors"), never=("results",)),
    "data": Row(2, (), ("torch", "numpy"), never=("results",)),
    "attacks": Row(3, never=("results", "risks", "weights", "models", "data")),
    "methods": Row(3, ("attacks.base",), never=("results", "risks", "weights", "models", "data")),
    "certification": Row(3, never=("risks", "weights", "models")),
    "objective": Row(4, never=("results", "weights", "models", "data")),
    "losses": Row(5, never=("results", "weights", "models", "data", "evaluation", "metrics")),
    "evaluation": Row(4, (), ("torch", "numpy"), never=("methods", "risks", "weights", "models")),
    "metrics": Row(4, (), ("torch", "numpy"), never=("methods", "risks", "weights", "models")),
    "training": Row(
        5, (), ("torch", "numpy", "safetensors", "tomli_w"), never=("evaluation", "metrics")
    ),
    "config": Row(6, (), ("torch", "tomli_w")),
    "reporting": Row(6, (), ("numpy", "rich", "jinja2", "matplotlib")),
    "compat": Row(6),
    "commands": Row(7, (), ("torch", "numpy", "tomli_w")),
    "sklearn": Row(7, (), ("torch", "numpy", "sklearn")),
    "serving": Row(6, never=("methods", "risks", "weights", "certification")),
    "cli": Row(8, (), ("typer", "rich")),
    "__main__": Row(9, (), ()),
    "sparring": Row(8, (), ()),  # __init__.py: names on demand, and the version for all
}
ONLY = {  # a folder that sees less than its level would let it
    "reporting": {"results", "runtime"},
    "objective": {f"{room}.base" for room in ("threats", "attacks", "methods", "risks")},
    "attacks": {"threats.base"},
    "methods": {"attacks.base"},
    "certification": {"threats.base", "threats.linf", "threats.l2", "threats"},
}
ROOMS = ("threats", "attacks", "methods", "risks", "weights")
LOOSE = {"objective.py", "batch.py", "component.py", "__init__.py", "__main__.py"}
SUPPORT = {"subject", "requested_threat", "rehearsal", "run_data", "timing", "search_space"}
SUPPORT |= {f"study_{part}" for part in ("grid", "plan", "jobs", "match", "workers", "slurm")}
PYTHON_ONLY = {"attack"}  # of commands/: it takes a model and tensors
VERB_OF = {"attack_pictures": "attack"}  # of commands/: the verb, where the file has more letters


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


def imported(file: Path) -> list[tuple[str, str, str | None]]:
    """(module, name, alias) of each of our names that a file imports, anywhere in it."""
    here = ["sparring", *file.relative_to(PACKAGE).parts[:-1]]
    names = []
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            ours = [a for a in node.names if room(a.name) == "sparring"]
            names += [(a.name.partition(".")[2] or "sparring", "", a.asname) for a in ours]
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else []
            target = [part for part in [*above, *(node.module or "").split(".")] if part]
            if target[0] == "sparring":
                base = ".".join(target[1:])
                names += [(base, alias.name, alias.asname) for alias in node.names]
    return names


def imports(file: Path) -> set[str]:
    """Modules of ours that a file imports: "objective", "attacks.base", "sparring" itself."""
    modules = set()
    for base, name, _ in imported(file):
        full = f"{base}.{name}".strip(".")
        modules.add(full if name and exists(full) else base or "sparring")
    return modules - {dotted(file)}


def top_level_packages(file: Path) -> set[str]:
    """Foreign packages imported when the file is, not inside a function."""
    packages = set()
    nodes = list(tree(file).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            nodes += list(ast.iter_child_nodes(node))
        elif isinstance(node, ast.Import):
            packages |= {room(a.name) for a in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            packages.add(room(node.module or ""))
    return packages - set(sys.stdlib_module_names) - {"sparring"}


def allowed(source: str, target: str) -> bool:
    """Whether a folder may import one of our modules."""
    row, below = FOLDERS[source], FOLDERS[room(target)]
    if room(target) == source or target in row.beside or room(target) in row.beside:
        return True
    if target == "sparring":
        return True  # the version
    if room(target) in row.never or below.level >= row.level:
        return False
    if source in ONLY and below.level >= (0 if source == "reporting" else 2):
        return target in ONLY[source] or room(target) in ONLY[source]
    return True


def test_imports_go_down():
    wrong = [
        f"{dotted(file)} imports {target}"
        for file in FILES
        for target in sorted(imports(file))
        if not allowed(room(dotted(file)), target)
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_in_circles():
    """Among the files; a room's `__init__`, which only gathers, stands for nothing."""
    arrows = {dotted(f): imports(f) for f in FILES if f.name != "__init__.py"}
    known = set(arrows)
    while known:
        free = {m for m in known if not arrows[m] & known - {m}}
        assert free, f"a circle among {sorted(known)}"
        known -= free


def test_a_file_of_a_room_imports_its_bases_and_no_other():
    """A base is base.py, or a file of interfaces: one that the room exports nothing from."""
    wrong = []
    for file in FILES:
        here = dotted(file)
        if room(here) in (*ROOMS, "models") and file.name not in ("__init__.py", "combine.py"):
            within = {t for t in imports(file) if room(t) == room(here)}
            pieces = imports(PACKAGE / room(here) / "__init__.py") - {f"{room(here)}.base"}
            wrong += [f"{here} imports {t}" for t in sorted(within & pieces)]
    assert not wrong, "\n".join(wrong)


def test_third_party_imports_are_those_of_the_plan():
    wrong = [
        f"{dotted(file)} imports {package} at its top"
        for file in FILES
        for package in sorted(top_level_packages(file) - {*FOLDERS[room(dotted(file))].packages})
    ]
    assert not wrong, "\n".join(wrong)


def test_private_names_of_torch_stand_in_runtime_alone():
    wrong = []
    for file in FILES:
        for node in ast.walk(tree(file)):
            text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
                text = f"{node.module}.{node.names[0].name}"
            private = text.startswith("torch.") and any(
                p[0] == "_" and p[1] != "_" for p in text.split(".")[1:] if p
            )
            if private and room(dotted(file)) != "runtime":
                wrong.append(f"{dotted(file)}:{node.lineno} {text}")
    assert not wrong, "\n".join(wrong)


def test_no_internal_import_is_aliased():
    wrong = [
        f"{dotted(file)}: {name} as {alias}"
        for file in FILES
        for _, name, alias in imported(file)
        if alias is not None
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_loose_but_the_core():
    assert {f.name for f in PACKAGE.glob("*.py")} == LOOSE
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")}
    assert packages - {"tests"} == {"sparring"}


def lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def test_no_room_is_larger_than_15_percent():
    sizes: Counter[str] = Counter()
    for file in FILES:
        sizes[room(dotted(file))] += lines(file)
    shares = {name: n / sizes.total() for name, n in sizes.items()}
    assert max(shares.values()) <= 0.15, sorted(shares.items(), key=lambda s: -s[1])[:3]


def test_files_stay_under_400_lines():
    folders = ("sparring", "tests", "examples", "benchmarks", "studies", "scripts")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    assert not {str(f.relative_to(ROOT)): lines(f) for f in files if lines(f) > 400}


def test_public_names_are_documented():
    bare = []
    for file in FILES:
        module = tree(file)
        bare += [] if ast.get_docstring(module) else [dotted(file)]
        bare += [
            f"{dotted(file)}.{node.name}"
            for node in module.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ]
    assert not bare


def modules() -> dict[str, object]:
    names = {dotted(f) for f in FILES} - {"__main__"}
    return {
        n: importlib.import_module("sparring" if n == "sparring" else f"sparring.{n}")
        for n in sorted(names)
    }


def test_what_a_file_exports_exists():
    missing = [
        f"{name}.{public}"
        for name, module in modules().items()
        for public in getattr(module, "__all__", [])
        if not hasattr(module, public)
    ]
    assert not missing


def classes() -> list[type]:
    """Every class of the package."""
    return [
        member
        for module in modules().values()
        for member in vars(module).values()
        if inspect.isclass(member) and member.__module__ == module.__name__  # type: ignore[attr-defined]
    ]


def test_a_public_class_has_one_owner():
    ours = [cls for cls in classes() if ".compat." not in cls.__module__]  # those have peers' names
    owners = Counter(cls.__name__ for cls in ours if cls.__name__[0] != "_")
    assert not {name: n for name, n in owners.items() if n > 1}


def unfinished(cls: type) -> set[str]:
    """Methods that a class leaves to its heirs: all they do is raise NotImplementedError."""
    names = set()
    for name, member in inspect.getmembers(cls, inspect.isfunction):
        source = inspect.unwrap(member)
        code = getattr(source, "__code__", None)  # None in C
        generated = code is None or code.co_filename.startswith("<")  # as of a dataclass
        if generated or not member.__module__.startswith("sparring"):
            continue
        (function,) = ast.parse(textwrap.dedent(inspect.getsource(source))).body
        last = function.body[-1] if isinstance(function, ast.FunctionDef) else None
        if isinstance(last, ast.Raise) and "NotImplementedError" in ast.unparse(last):
            names.add(name)
    return names


def test_classes_are_interfaces_or_leaves():
    """Nothing inherits a class that works; two levels below the base of a room at most."""
    wrong = []
    for cls in classes():
        above = [b for b in cls.__mro__[1:] if b.__module__.startswith("sparring")]
        above = [b for b in above if b is not Component]
        wrong += [
            f"{cls.__name__} inherits {base.__name__}, which is no interface"
            for base in above
            if not unfinished(base)
        ]
        wrong += [f"{cls.__name__} is {len(above)} levels deep"] * (len(above) > 2)
    assert not wrong, "\n".join(wrong)


def test_what_a_room_exports_is_finished():
    abstract = {cls.__name__ for cls in classes() if unfinished(cls)}
    # these work inside an objective only
    calls = {name: {"__call__"} for name in ("Free", "NFGSM", "WarmStart")}
    for module in (threats, attacks, methods, risks, weights, data):
        for name in module.__all__:
            member = getattr(module, name)
            if inspect.isclass(member) and issubclass(member, nn.Module):
                bases = {"Threat", "Attack", "Maximizer", "Method", "Risk"}
                bases |= {"WeightPerturbation", "Augment", "AddedRows"}
                assert name in bases & abstract or unfinished(member) == calls.get(name, set())


def components() -> list[type[Component]]:
    return [c for c in classes() if issubclass(c, Component) and c is not Component]


def test_papers_are_in_the_bibliography():
    text = (PACKAGE / "papers.bib").read_text(encoding="utf-8")
    known = [
        line.split("{", 1)[1].rstrip(",") for line in text.splitlines() if line.startswith("@")
    ]
    assert len(known) == len(set(known)), "a paper stands twice"
    assert not {c.__name__: c.paper for c in components() if c.paper not in (None, *known)}


def test_arguments_after_the_first_are_keywords():
    wrong = []
    for cls in components():
        arguments = list(inspect.signature(cls).parameters.values())
        kinds = {p.kind for p in arguments[1:]}
        if "__init__" in vars(cls) and kinds - {
            inspect.Parameter.KEYWORD_ONLY,
            inspect.Parameter.VAR_KEYWORD,
        }:
            wrong.append(cls.__name__)
    assert not wrong


@pytest.mark.parametrize("module", ["sparring", "sparring.cli.main"])
def test_the_command_line_starts_without_torch(module):
    heavy = {"torch", "numpy", "matplotlib", "pydantic"}
    code = f"import sys, {module}; print(*({heavy} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == ""


def test_every_verb_of_the_command_line_is_a_file_of_commands():
    from typer.main import get_command

    from sparring.cli.main import app

    verbs = {name.replace("-", "_") for name in get_command(app).commands}  # type: ignore[attr-defined]
    files = {f.stem for f in (PACKAGE / "commands").glob("*.py")} - {"__init__"}
    assert verbs == {VERB_OF.get(f, f) for f in files - SUPPORT - PYTHON_ONLY}


def test_the_package_gives_its_names_on_demand():
    assert set(dir(sparring)) == set(sparring.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = sparring.trian
