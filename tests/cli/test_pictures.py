"""`sparring attack` from the terminal: table, page, folder, and refusals in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NET = """
import torch

def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 3))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tinynet.py").write_text(NET)
    (tmp_path / "names.txt").write_text("cat\ndog\nship\n")
    for i in range(2):
        pixels = np.random.default_rng(i).integers(60, 200, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"p{i}.png")
    return tmp_path


def sparring(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = ("--trust", "--shape", "3,8,8", "--classes", "names.txt", "--device", "cpu")
    command = [sys.executable, "-m", "sparring", "attack", "tinynet:net", *arguments, *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_a_table_a_page_and_a_folder(folder):
    files = ("p0.png", "p1.png", "--save", "out", "--out", "page.html")
    done = sparring(folder, *files, "--eps", "16/255")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "broke" in done.stdout
    assert "JPEG 75" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["out", "page.html"]
    assert (folder / "out" / "pictures.json").is_file()
    page = (folder / "page.html").read_text()
    assert page.count("data:image/png;base64,") >= 2
    assert "<script src" not in page
    again = sparring(folder, *files, "--eps", "16/255")
    assert again.returncode == 2
    assert "has files in it" in again.stderr


def test_a_page_never_replaces_a_picture(folder):
    before = (folder / "p0.png").read_bytes()
    done = sparring(folder, "p0.png", "--eps", "8/255", "--out", "p0.png")
    assert done.returncode == 2
    assert "ends in .html" in " ".join(done.stderr.split())
    assert (folder / "p0.png").read_bytes() == before


def test_a_mistake_is_one_line_with_the_nearest_name(folder):
    done = sparring(folder, "p0.png", "--eps", "8/255", "--target", "sihp")
    assert done.returncode == 2
    assert "did you mean 'ship'" in done.stderr
    assert "Traceback" not in done.stderr
