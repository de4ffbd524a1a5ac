"""A stranger's file ends in a sentence: soon, and in little memory."""

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sparring import data
from sparring.data import readers
from tests.data.bad_files import BOMBS, FILES
from tests.data.made_files import NOISE, idx, picture, xy

ALL = {**FILES, **BOMBS}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Of each bad file what loading it raises, in a process of little memory."""
    folder = tmp_path_factory.mktemp("bad")
    for key, (name, write, _) in ALL.items():
        path = folder / key / name
        path.parent.mkdir()
        write(path) if callable(write) else path.write_bytes(write)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.data.bad_files", folder],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


def test_there_are_many():
    assert len(ALL) >= 80


@pytest.mark.parametrize("key", ALL)
def test_a_bad_file_is_refused_in_a_sentence(outcomes, key):
    kind, message = outcomes[key]["error"]
    words = ALL[key][2]
    assert kind in ("ValueError", "FileNotFoundError", "IsADirectoryError", "PermissionError")
    assert re.search(words, message, re.DOTALL), message
    assert len(message) < 500
    assert message.count("\n") <= 1
    assert outcomes[key]["seconds"] < 2


@pytest.mark.parametrize("name", ["t.csv", "t.npz", "t.svm", "t.csv.gz"])
def test_a_file_without_permission_is_one_line(tmp_path, monkeypatch, name):
    def refuse(path, *rest):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / name).write_bytes(b"0,1,0\n")
    monkeypatch.setattr("sparring.runtime.files.os.open", refuse)
    with pytest.raises(PermissionError, match=rf"Permission denied: '.*{name}'"):
        data.load(tmp_path / name)


ROWS = "".join(f"{k / 40},{k % 3},{k % 2}\n" for k in range(40))
WHOLE = {
    "t.csv": f"a,b,label\n{ROWS}".encode(),
    "u.csv": f"a,b,label\n{ROWS}".replace(",", ";").encode("utf-16"),
    "t.svm": "".join(f"{k % 2} 1:{k / 40} 3:1\n" for k in range(40)).encode(),
    "t.npz": xy(),
    "idx": idx(2, 4, 4, content=bytes(32)),
    **{
        f"{form}.png": picture(NOISE, form) for form in ("PNG", "JPEG", "BMP", "WEBP", "GIF", "PPM")
    },
    "LZW.png": picture(NOISE, "TIFF", compression="tiff_lzw"),
}


@pytest.mark.filterwarnings("ignore::sparring.runtime.warning.SparringWarning")
@pytest.mark.parametrize("name", WHOLE)
def test_no_change_of_bytes_raises_anything_else(tmp_path, name):
    """A file with some bytes changed, lost or added is read, or refused in a sentence."""
    read = {".png": readers.picture, "": readers.idx}.get(Path(name).suffix, data.load)
    rng, path, whole = np.random.default_rng(len(name)), tmp_path / name, WHOLE[name]
    refused = 0
    for k in range(150):
        start = int(rng.integers(len(whole)))
        end = start + int(rng.integers(1, 9)) if k % 3 else len(whole)
        content = whole[:start] + rng.bytes(int(rng.integers(9))) + whole[end:]
        path.write_bytes(content)
        try:
            read(path)
        except (ValueError, OSError) as error:
            refused += 1
            assert len(str(error)) < 500  # noqa: PT017
            assert str(error).count("\n") <= 1  # noqa: PT017
    assert refused > 10
