"""Train and evaluate a recipe with every combination of some changes, one after the other.

The ablation of UAD (does each part help?) is eight runs and a page that compares them:

python examples/grid.py cifar10-resnet18-uad --out runs/uad \
    --change A0:method.sites=[] --change B0:method.reference=none --change D0:method.align=none

Each change is made or not: a folder is called after those made, "as-is" without any. A killed grid
goes on where it stood when it is started again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from sparring import measure, run


def combinations(changes: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Names and overrides: every subset of the changes "NAME:KEY=VALUE", the empty one first.

    >>> list(combinations(["A0:method.sites=[]"]))
    [('as-is', []), ('A0', ['method.sites=[]'])]
    """
    parted = [change.partition(":")[::2] for change in changes]
    for name, override in parted:
        if not name or "=" not in override or "=" in name:
            raise ValueError(f"change = {name!r} is not allowed: a change is NAME:KEY=VALUE")
    for made in product((False, True), repeat=len(parted)):
        some = [part for part, on in zip(parted, made, strict=True) if on]
        yield "-".join(name for name, _ in some) or "as-is", [override for _, override in some]


def main(
    recipe: str, *, out: Path, changes: Sequence[str], common: Sequence[str] = (), suite: str = ""
) -> Path:
    """Run the grid; returns the page that compares it.

    Arguments:
        common: overrides of every run; suite: the recipe's own where empty.
    """
    folders = []
    for name, overrides in combinations(changes):
        folder = run.train(recipe, out=out / name, set=[*common, *overrides], resume=True)
        if not list((folder / "results").glob("*.json")):
            measure.evaluate(folder, suite=suite or None)
        print(folder)
        folders.append(folder)
    return measure.report(folders, out=out / "report.html")[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Every combination of some changes.")
    parser.add_argument("recipe")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--change", action="append", default=[], metavar="NAME:KEY=VALUE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--suite", default="")
    given = parser.parse_args()
    more = {"common": given.set, "suite": given.suite}
    print(main(given.recipe, out=given.out, changes=given.change, **more))
