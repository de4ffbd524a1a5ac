"""A damaged or forged result is refused in words that name the key; it neither runs nor hangs."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from sparring.results.metric_report import MetricReport
from sparring.results.packing import pack
from sparring.results.pairing import arrays_path
from sparring.results.result import AttackRow, Certificate, EpsRow, Result
from sparring.runtime import npz
from sparring.runtime.npz import read_npz
from tests.results.made import N, result

FIRST = Path(__file__).parent / "first_edition"


@pytest.fixture
def path(tmp_path):
    """A whole result, to be damaged."""
    made = result("toy", [7, 8, 9])
    row = AttackRow("PGD", 0.9, 0.8, 0.95, 1.0, 2.0, 1.0, attacked=95)
    proven = Certificate("crown", 0.5, 0.4, 0.6, 50, 1.0)
    last = made.by_eps[-1]
    made.by_eps[-1] = EpsRow(0.2, last.robust, last.count, [row], "Linf", [proven])
    return made.save(tmp_path / "r.json")


def refused(path, read=Result.load):
    """The message: one or two printable lines that name the file."""
    with pytest.raises(ValueError, match=r"r\.") as error:
        read(path)
    message = str(error.value)
    assert message.isprintable()
    assert len(message) < 700
    return message


def put(path, key, value):
    """Set one number of a file: `by_eps.0.robust.accuracy`."""
    data = json.loads(path.read_bytes())
    inside = data
    *above, last = [int(k) if k.isdecimal() else k for k in key.split(".")]
    for k in above:
        inside = inside[k]
    inside[last] = value
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("clean.accuracy", 5.0, "clean: accuracy = 5.0 .* share in"),
        ("robust.low", -0.1, "robust: low = -0.1 .* share in"),
        ("by_eps.0.robust.high", 1.5, r"by_eps\[0\]: robust: high = 1.5"),
        ("clean.low", 0.99, "clean.low = 0.99 .* at most accuracy = 0.95"),
        ("clean.high", 0.5, "clean.high = 0.5 .* at least accuracy"),
        ("by_eps.1.attacks.0.low", 0.95, r"by_eps\[1\].attacks\[0\].low = 0.95"),
        ("n", -1, "n = -1 .* greater than or equal to 1"),
        ("n", 0, "n = 0 "),
        ("n", 10**300, "n = 10*…0* is not allowed"),
        ("by_eps.0.count", N + 1, r"by_eps\[0\].count = 101 .* at most n = 100"),
        ("by_eps.0.count", -1, "count = -1"),
        ("by_eps.1.attacks.0.attacked", N + 1, "attacked = 101 .* at most n = 100"),
        ("by_eps.1.attacks.0.skipped", -3, "skipped = -3"),
        ("by_eps.1.attacks.0.seconds", -1.0, "seconds = -1.0"),
        ("by_eps.1.certified.0.accuracy", 2, "accuracy = 2"),
        ("seconds", -0.5, "seconds = -0.5"),
        ("seconds", "1", "seconds = '1'"),
        ("by_eps", [], r"by_eps = \[\] .* at least 1 item"),
        ("by_eps.0.eps", -0.1, "eps = -0.1"),
        ("by_eps", {"0": 1}, "by_eps = "),
        ("verdict", ["\x1b[2J"], r"verdict = \['\\x1b\[2J'\]"),
        ("\x1b[2J\n", 1, r"\\x1b\[2J\\n' is unknown"),
        ("name", "x" * 10**6, ""),
        ("versions", {"sparring": "\x1b]0;x\x07" * 99, "torch": 1}, "versions: torch = 1 "),
        ("schema", "\x1b[2J", r"schema '\\x1b\[2J'"),
        ("schema", [1] * 10**5, "schema"),
        ("clean", [[1] * 10**5], "clean"),
    ],
)
def test_a_number_out_of_its_range_is_named(path, key, value, message):
    put(path, key, value)
    if message:
        assert re.search(message, refused(path)), refused(path)
    else:
        Result.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "recursion|nested"),
        (b'{"schema":1,"a":' + b'{"a":' * 100_000, "recursion|nested"),
        (b'{"schema": 1, "recipe": ' + b"[" * 900 + b"]" * 900 + b"}", "recursion"),
        (b'{"schema": 1, "n": NaN}', "NaN is no number of JSON"),
        (b'{"schema": 1, "n": -Infinity}', "-Infinity is no number"),
        (b'{"schema": 1, "n": 1e999}', "not a result"),
        (b'{"schema": 1, "n": 1, "n": 2}', "key 'n' is in one table twice"),
        (b'{"schema": 1, "n": ' + b"9" * 5000 + b"}", "no complete JSON"),
        (b'{"schema": 1, "n": "\xff"}', "no complete JSON"),
        (b"<html>not found</html>", "no complete JSON"),
        (b"PK\x03\x04", "no complete JSON"),
    ],
)
@pytest.mark.parametrize("read", [Result.load, MetricReport.load])
def test_what_is_no_json_of_numbers_is_refused(tmp_path, content, message, read):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message.replace("result", "(result|file of metrics)")):
        read(path)
    refused(path, read)


def test_a_large_file_is_not_read_but_for_who_asks(path, monkeypatch):
    monkeypatch.setenv("SPARRING_RESULT_LIMIT", "1000")
    assert "SPARRING_RESULT_LIMIT raises the limit" in refused(path)
    monkeypatch.setenv("SPARRING_RESULT_LIMIT", str(10**6))
    Result.load(path)
    monkeypatch.setenv("SPARRING_RESULT_LIMIT", "1 GB")
    with pytest.raises(ValueError, match="SPARRING_RESULT_LIMIT = '1 GB' is not allowed"):
        Result.load(path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_a_pipe_does_not_block(tmp_path, kind):
    path = tmp_path / "r.json"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir() if kind == "folder" else path.symlink_to("/dev/zero")
    with pytest.raises((ValueError, OSError), match="a file is expected"):
        Result.load(path)


def forge(path, packed):
    """Put these bytes beside the result, as its arrays."""
    digest = sha256(packed).hexdigest()
    for old in path.parent.glob("r.*.npz"):
        old.unlink()
    put(path, "arrays_sha256", digest)
    arrays_path(path, digest).write_bytes(packed)


def zipped(entries, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def header(text, version=b"\x01\x00"):
    size = len(text).to_bytes(2, "little")
    return b"\x93NUMPY" + version + size + text.encode()


LABELS = np.arange(N) % 2
CLAIM = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s,)}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": LABELS + 1}, "array y = .* the number of classes"),
        ({"y": LABELS - 1}, "array y = "),
        ({"adv_pred": LABELS - 2}, "array adv_pred = .* ≥ -1"),
        ({"y": LABELS[:50]}, r"shape of y = \(50,\) .* \(n,\) = \(100,\)"),
        ({"correct_0.1": np.ones((N, 2))}, "shape of correct_0.1"),
        ({"clean_pred": LABELS.astype(float)}, "array clean_pred = 'float64' .* integers"),
        ({"y": np.array(["a"] * N)}, "array y = '<U1' .* numbers"),
        ({"clean_pred": None}, "arrays = .'adv_pred'. .* with clean_pred"),
        ({"y": None}, "with y"),
        ({"show_x": np.zeros((1, 2))}, "arrays = .'show_x'."),
        ({"surface": np.zeros((3, 2)), "surface_at": np.zeros(3)}, "shape of surface"),
        ({"\x1b[2J": np.zeros(1)}, "named by letters"),
        ({"../up": np.zeros(1)}, "named by letters"),
        ({"y": LABELS.astype(complex)}, "numbers"),
    ],
)
def test_arrays_that_are_not_those_of_the_result_are_refused(path, change, message):
    arrays = Result.load(path).arrays | change
    forge(path, pack({key: value for key, value in arrays.items() if value is not None}))
    assert re.search(message, refused(path)), refused(path)


@pytest.mark.parametrize(
    "packed",
    [
        b"PK",
        zipped([("y.txt", b"")]),
        zipped([("y.npy", b"")]),
        zipped([("y.npy", b"\x93NUMPY\x01\x00\xff")]),
        zipped([("y.npy", header("(" * 9000))]),
        zipped([("y.npy", header(CLAIM % 10**15))]),
        zipped([("y.npy", header(CLAIM % -1))]),
        zipped([("y.npy", header(CLAIM % 1, version=b"\x09\x00") + b"\0" * 8)]),
        zipped([("y.npy", header("{'descr': '|O', 'fortran_order': False, 'shape': ()}"))]),
        zipped([("y.npy", b"")], zipfile.ZIP_LZMA)[:-30],
        pack({"y": np.arange(9)})[:-30],
        zipped([("y.npy", header(CLAIM % 1) + bytes(8))], 0).replace(b"<f8", b"<f4"),
        pack({"y": np.array([print], dtype=object)}),
    ],
)  # fmt: skip
def test_an_npz_of_anything_else_can_not_be_read(path, packed):
    forge(path, packed)
    assert "can't be read" in refused(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(path):
    entry = ("y.npy", header(CLAIM % 1) + bytes(8))
    forge(path, zipped([entry, entry]))
    assert "two have one name" in refused(path)


def test_a_bomb_is_not_unpacked(path):
    packed = pack({"y": np.zeros(10**7)})
    assert len(packed) < 10**5
    with pytest.raises(ValueError, match=r"unpacks to 80,000,\d+ bytes: .* KEY raises"):
        read_npz(packed, "bomb", limit=10**6, key="KEY")


def test_lack_of_memory_is_not_called_damage(path, monkeypatch):
    def full(_):
        raise MemoryError("no memory")

    monkeypatch.setattr(npz, "_array", full)
    with pytest.raises(MemoryError):
        Result.load(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("clean", 1.5, "clean = 1.5"),
        ("n", -1, "n = -1"),
        ("rows.0.undefined", 10**6, r"rows\[0\].undefined = 1000000 .* at most n"),
        ("rows.0.seconds", -1, "seconds = -1"),
        ("rows.0.low", 1e9, r"rows\[0\].low = 1000000000.0"),
        ("profiles.0.mean", [2.0], "mean.* = 2.0"),
    ],
)
def test_metrics_have_ranges_too(tmp_path, key, value, message):
    path = tmp_path / "r.json"
    path.write_bytes((FIRST / "metrics.json").read_bytes())
    put(path, key, value)
    assert re.search(message, refused(path, MetricReport.load))
