"""What files keep of an attack: twenty pictures, two models, and the successes per format.

sparring train cifar10-small-pgd-at --set train.epochs=4 --out runs/robust
sparring train cifar10-small-pgd-at --set method=Standard --set train.epochs=5 \
    --set validation.threat.eps=0 --set validation.attack.steps=1 --out runs/plain
python studies/pictures.py runs/plain=2/255 runs/robust=8/255

The pictures are eighteen test images of CIFAR-10, enlarged to 256 × 256, and the two photographs
that come with scikit-learn. The result is results/attack-pictures.json; the table for
docs/how-to/attack-pictures.md is printed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

import sparring
from sparring import data
from sparring.results.attacked_pictures import AttackedPictures
from sparring.runtime import provenance

OUT = Path(__file__).parents[1] / "results" / "attack-pictures.json"
CIFAR = 18
ATTACKS: dict[str, dict[str, Any]] = {
    "pgd": {},
    "apgd": {},
    "fab": {},
    "square": {"options": {"queries": 1000}},
    "apgd --jpeg 75": {"jpeg": 75},
    "apgd --jpeg 75 --resize 0.5": {"jpeg": 75, "resize": 0.5},
    "apgd --lead 2": {"lead": 2.0},
}
SHOWN = ("PNG", "WebP lossless", "WebP 80", "JPEG 95", "JPEG 75", "JPEG 50", "resize 0.5")


def write_pictures(folder: Path) -> list[Path]:
    """Write the pictures, and return their paths."""
    test = data.load("cifar10").test
    paths = []
    for i in range(CIFAR):
        pixels = (test.float(slice(i, i + 1))[0] * 255).round().byte().permute(1, 2, 0).numpy()
        large = Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC)
        paths.append(folder / f"cifar-{i}.png")
        large.save(paths[-1])
    for pixels, name in zip(load_sample_images().images, ("china", "flower"), strict=True):
        paths.append(folder / f"{name}.jpg")
        Image.fromarray(np.asarray(pixels)).save(paths[-1], quality=95)
    return paths


def row(run: str, name: str, record: AttackedPictures, seconds: float) -> dict[str, Any]:
    """Return one line of the table: how many pictures broke, and what each format keeps."""
    return {
        "model": record.model,
        "run": run,
        "eps": record.eps,
        "attack": name,
        "attacked": len(record.attacked),
        "broken": len(record.broken),
        "kept": {name: kept for name, kept, _ in record.survival()},
        "seconds": round(seconds, 1),
        "pictures": [
            {
                "name": p.name,
                "before": f"{p.before.name} {p.before.confidence:.2f}",
                "after": f"{p.after.name} {p.after.confidence:.2f}",
                "verdict": p.verdict,
                "levels": p.levels,
                "kept": [s.format for s in p.survival if s.adversarial],
            }
            for p in record.pictures
        ],
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of the docs."""
    lines = [
        f"| model | attack | broken | {' | '.join(SHOWN)} |",
        f"|---|---|{'---:|' * (1 + len(SHOWN))}",
    ]
    for one in rows:
        shares = [
            f"{one['kept'].get(name, 0) / one['broken']:.2f}" if one["broken"] else "–"
            for name in SHOWN
        ]
        broken = f"{one['broken']} of {one['attacked']}"
        lines.append(f"| {one['model']} | {one['attack']} | {broken} | {' | '.join(shares)} |")
    return "\n".join(lines)


def main(runs: Sequence[str]) -> None:
    """Attack the pictures against each run, write the result and print the table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder))
        for run, _, eps in (text.partition("=") for text in runs):
            for name, options in ATTACKS.items():
                started, attack = time.perf_counter(), name.split()[0]
                record = sparring.attack_pictures(
                    run, paths, eps=eps, attack=attack, curve=False, **options
                )
                rows.append(row(Path(run).name, name, record, time.perf_counter() - started))
                print(rows[-1]["model"], name, rows[-1]["broken"], rows[-1]["kept"], flush=True)
    about = {"commit": provenance.commit(), "versions": provenance.versions()}
    OUT.write_text(json.dumps({**about, "rows": rows}, indent=1, ensure_ascii=False) + "\n")
    print(markdown(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
