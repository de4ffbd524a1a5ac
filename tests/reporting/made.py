"""Results made by hand, and what is written of them."""

from __future__ import annotations

import dataclasses
import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from sparring.reporting import page, table
from sparring.results.intervals import wilson
from sparring.results.result import AttackRow, Certificate, Check, EpsRow, Result

N = 200


def attacked(name: str, k: int) -> AttackRow:
    i = wilson(k, N)
    return AttackRow(name, i.accuracy, i.low, i.high, 1.5, 20.5, 19.5)


def make(name: str = "run", *, shape: tuple[int, ...] = (1, 6, 6), standing: int = 150) -> Result:
    """A result of 200 samples and three classes, its arrays in agreement with its numbers."""
    rng = np.random.default_rng(0)
    y = np.arange(N) % 3
    adv = y.copy()
    adv[standing:] = (y[standing:] + 1) % 3
    x = rng.random((4, *shape), dtype=np.float32)
    log = [
        {"epoch": e, "loss": 1 / e, "clean": 0.9, "robust": 0.1 * e, "ema_robust": None}
        for e in (1, 2, 3)
    ]
    last = attacked("PGD-20", standing)
    by_eps = [
        EpsRow(0.05, wilson(180, N), 180, [attacked("FGSM", 185), attacked("PGD-20", 180)]),
        EpsRow(0.1, wilson(standing, N), standing, [attacked("FGSM", 160), last]),
    ]
    return Result(
        name=name,
        recipe={"recipe": {"name": "toy-at"}, "attack": {"steps": 10}},
        dataset="toy",
        split="test",
        n=N,
        threat={"name": "Linf", "eps": 0.1},
        seed=0,
        clean=wilson(195, N),
        robust=by_eps[-1].robust,
        by_eps=by_eps,
        attacks=by_eps[-1].attacks,
        checks=[Check("zero gradients", False, "look elsewhere", "0 %")],
        train={"seconds": 90.0, "epochs": 3, "device": "cpu", "log": log},
        versions={"torch": "2"},
        commit="abc",
        data_sha256="00",
        suite="quick",
        suite_version=1,
        precision="float32",
        device="cpu",
        seconds=3.0,
        class_names=["cat", "dog", "eel"],
        arrays={
            "y": y,
            "clean_pred": y,
            "adv_pred": adv,
            "show_x": x,
            "show_x_adv": np.clip(x + 0.05, 0, 1),
            "show_y": y[:4],
            "show_clean": y[:4],
            "show_adv": np.array([1, 1, -1, 0]),
        },
    )


def text(results: list[Result], *, width: int = 200, **options: Any) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table(results, **options))
    return console.export_text()


def paired(name: str, standing: int, seed: int = 0) -> Result:
    """A result whose samples have row numbers, so that it can be paired."""
    result = make(name, standing=standing)
    result.arrays["index"] = np.arange(N)
    result.recipe = {"recipe": {"name": "toy-at", "seed": seed}}
    return result


def html_of(results: list[Result], folder: Path) -> str:
    """The page, without the pictures that take long to draw."""
    keep = ("index", "y", "clean_pred", "adv_pred")
    lean = [
        dataclasses.replace(r, train={}, arrays={k: r.arrays[k] for k in keep if k in r.arrays})
        for r in results
    ]
    return page(lean, folder / "r.html").read_text(encoding="utf-8")


def certified(name: str, k: int, n: int = N) -> Certificate:
    i = wilson(k, n)
    return Certificate(name, i.accuracy, i.low, i.high, n, 2.0, "what was proven")


def norms() -> Result:
    """A result with two norms and certificates."""
    result = make("two")
    rows = [
        EpsRow(eps, wilson(k, N), k, [attacked("PGD-20", k)], norm)
        for norm, eps, k in (("Linf", 0.1, 150), ("L2", 0.5, 160), ("L2", 1.5, 140))
    ]
    rows[0].certified.append(certified("CROWN-IBP", 110))
    rows[2].certified.extend([certified("IBP", 20, 100), certified("smoothing σ = 1", 90, 100)])
    result.by_eps, result.attacks, result.robust = rows, rows[-1].attacks, wilson(130, N)
    return result


class Page(HTMLParser):
    """Tags, addresses and headings of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href")]
