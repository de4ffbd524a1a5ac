"""Hostile pickles: none of them calls, reserves memory, loops or is taken for data."""

import os
import pickle
import pickletools
import struct
import subprocess
import sys

import numpy as np
import pytest

from sparring.data import cifar
from sparring.runtime import pickles


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def raw(value):
    return b"B" + struct.pack("<I", len(value)) + value


def dtype(code, state=b"N", align=b"\x89\x88"):
    """A type of numpy with a state of the file's choice."""
    made = b"cnumpy\ndtype\n(" + text(code) + align + b"tR"
    return made if state is None else made + state + b"b"


def state(order="|", names=b"N", fields=b"N", size=-1, flags=0, subtype=b"N"):
    numbers = [b"J" + struct.pack("<i", n) for n in (size, size, flags)]
    return b"(K\x03" + text(order) + subtype + names + fields + b"".join(numbers) + b"t"


PLAIN = dtype("u1", state())
BLANK = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"


def array(kind=PLAIN, shape=b"K\x02M\x00\x0c\x86", content=bytes(6144), fortran=b"\x89"):
    return BLANK + b"(K\x01" + shape + kind + fortran + raw(content) + b"tb"


def batch(data, labels=b"](K\x00K\x01e", more=b""):
    return b"\x80\x02}(" + text("data") + data + text("labels") + labels + more + b"u."


LAUGHS = b"".join(b"h\x00" * 2 + b"\x86q\x00" for _ in range(60))
HOSTILE = {
    "objects-that-say-none": batch(array(dtype("O8", state()), content=bytes(6144 * 8))),
    "objects": batch(array(dtype("O8", state(flags=63)), content=bytes(6144 * 8))),
    "void-of-objects": batch(
        array(
            dtype(
                "V8",
                state(
                    names=text("a") + b"\x85",
                    fields=b"}" + text("a") + dtype("O8", state()) + b"K\x00\x86s",
                    size=8,
                ),
            ),
            content=bytes(6144 * 8),
        )
    ),
    "void": batch(array(dtype("V8", state(size=8)), content=bytes(6144 * 8))),
    "fields-on-a-number": batch(array(dtype("u1", state(names=text("a") + b"\x85")))),
    "size-on-a-number": batch(array(dtype("u1", state(size=0)))),
    "objects-flag-on-a-number": batch(array(dtype("u1", state(flags=63)))),
    "subtype": batch(array(dtype("u1", state(subtype=PLAIN + b"K\x02\x86")))),
    "odd-byte-order": batch(array(dtype("u1", state("|O")))),
    "short-state": batch(array(dtype("u1", b"K\x03\x85"))),
    "text-type": batch(array(dtype("S4", state(size=4)), content=bytes(6144 * 4))),
    "dates": batch(array(dtype("M8", state()), content=bytes(6144 * 8))),
    "negative-shape": batch(array(shape=b"J\xff\xff\xff\xffM\x00\x0c\x86")),
    "shape-above-the-bytes": batch(array(content=bytes(10))),
    "shape-of-2^62": batch(array(shape=b"\x8a\x08\0\0\0\0\0\0\0\x40M\x00\x0c\x86")),
    "shape-of-2^800": batch(array(shape=b"\x8a\x65" + bytes(100) + b"\x01M\x00\x0c\x86")),
    "shape-of-text": batch(array(shape=text("2") + b"M\x00\x0c\x86")),
    "shape-of-500-sizes": batch(array(shape=b"(" + b"K\x01" * 500 + b"t")),
    "state-of-a-list": batch(b"]" + state() + b"b"),
    "array-without-state": batch(BLANK),
    "another-class": batch(BLANK.replace(b"cnumpy\nndarray", b"cnumpy\ndtype")),
    "a-call-of-an-array": batch(b"cnumpy\nndarray\n(J\0\0\0\x7ftR"),
    "labels-in-a-circle": batch(array(), b"]q\x07h\x07a"),
    "labels-that-are-the-batch": b"\x80\x02}q\x07("
    + text("data")
    + array()
    + text("labels")
    + b"h\x07u.",
    "billion-laughs-as-labels": batch(array(), b")q\x00" + LAUGHS),
    "billion-laughs-in-labels": batch(array(), b"])q\x00" + LAUGHS + b"a"),
    "billion-laughs-as-a-key": batch(array(), more=b")q\x00" + LAUGHS + b"K\x00"),
    "billion-laughs-as-a-name": batch(array(), b")q\x00" + LAUGHS + text("x") + b"\x93"),
    "billion-laughs-as-a-codec": batch(
        array(), b"c_codecs\nencode\n" + text("x") + b")q\x00" + LAUGHS + b"\x86R"
    ),
    "one-text-encoded-often": batch(
        array(),
        b"](" + text("x" * 9000) + b"q\x00" + b"c_codecs\nencode\n(h\x00tR" * 100_000 + b"e",
    ),
    "nested-labels": batch(array(), b"](" + b"]" * 300_000 + b"a" * 299_999 + b"e"),
    "bytes-of-2^60": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x.",
    "bytearray-of-2^60": b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b"x.",
    "number-of-2^31-bytes": b"\x80\x02\x8b\xff\xff\xff\x7fx.",
    "digits": batch(array(), b"](I" + b"9" * 100_000 + b"\ne"),
    "persistent-id": batch(array(), b"Pid\n"),
    "extension": batch(array(), b"\x82\x01"),
    "new-object": batch(array(), b"cnumpy\nndarray\n)\x81"),
    "instance": batch(array(), b"(ios\nsystem\n"),
    "outside-buffer": b"\x80\x05\x97.",
    "memo-of-nothing": b"\x80\x02h\x05.",
    "empty-stack": b"\x80\x02\x85.",
    "no-mark": b"\x80\x02t.",
    "append-to-nothing": b"\x80\x02Na.",
    "assign-to-a-list": b"\x80\x02]NNs.",
    "labels-of-3e7": batch(array(), b"](K\x00J" + struct.pack("<i", 30_000_000) + b"e"),
    "labels-of-2^62": batch(array(), b"](K\x00\x8a\x08\0\0\0\0\0\0\0\x40e"),
    "labels-with-fractions": batch(array(), b"](K\x00G" + struct.pack(">d", 0.5) + b"e"),
    "labels-of-words": batch(array(), b"](K\x00" + text("1") + b"e"),
    "escapes-in-a-name": b"\x80\x02c\x1b[2J\n\x1b[31m\n.",
}

HARMLESS = {  # the pickle module would reserve 64 GiB for each
    "memory-for-the-memo": batch(array(), more=text("z") + b"Nr\xff\xff\xff\xff"),
    "memo-index-of-digits": batch(array(), more=text("z") + b"Np" + b"9" * 4000 + b"\n"),
    # negative labels are for the check of samples to refuse
    "labels-below-2^62": batch(array(), b"](K\x00\x8a\x0a" + bytes(9) + b"\x80e"),
}


def test_the_pieces_make_a_readable_batch(tmp_path):
    """Otherwise the hostile ones could be refused for a slip in these tests."""
    path = tmp_path / "data_batch_1"
    for content in (batch(array()), batch(array(dtype("u1", state(), b"K\x00K\x01")))):
        path.write_bytes(content)
        x, y = cifar.python(path)
        assert x.shape == (2, 3, 32, 32)
        assert y.tolist() == [0, 1]
        assert pickle.loads(content)["labels"] == [0, 1]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_in_words(tmp_path, name):
    path = tmp_path / "data_batch_1"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match="data_batch_1") as caught:
        cifar.python(path)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 600
    assert "Error" not in message.replace("PickleError", "")


def test_hostile_pickles_take_little_memory(tmp_path):
    """In a process of its own that may not reserve more."""
    for name, content in (HOSTILE | HARMLESS).items():
        (tmp_path / name.replace("/", "-")).write_bytes(content)
    code = (
        "import sys, pathlib, resource; from sparring.data import cifar\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try: cifar.python(path)\n"
        "    except ValueError: print('refused', path.name)\n"
        "    else: print('read', path.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-600:]
    assert done.stdout.count("refused") == len(HOSTILE)
    assert done.stdout.count("read") == len(HARMLESS)


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "numpy.load", "numpy.core.dtype"])
def test_every_name_but_those_of_arrays_is_refused(name):
    module, _, function = name.rpartition(".")
    with pytest.raises(pickles.PickleError, match="only plain arrays are read"):
        pickles.load(f"c{module}\n{function}\n(S'x'\ntR.".encode())


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("kind", ["u1", "<i4", ">i8", "<f4", ">f8", "?"])
def test_plain_arrays_of_every_protocol_are_read(protocol, kind):
    a = np.arange(6).reshape(2, 3).astype(kind)
    for given in (a, np.asfortranarray(a), a[::-1], a[0], a[:0]):
        read = pickles.load(pickle.dumps({"a": given}, protocol=protocol))["a"]
        assert read.dtype == given.dtype
        assert np.array_equal(read, given)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_of_every_protocol_are_read(protocol):
    given = {"a": [1, -2, 2**70, 1.5, None, True], b"b" if protocol > 2 else "b": ("x", [[]])}
    assert pickles.load(pickle.dumps(given, protocol=protocol)) == given
    assert pickles.load(pickletools.optimize(pickle.dumps(given, protocol=protocol))) == given


def test_class_names_are_a_list_of_texts(tmp_path):
    path = tmp_path / "meta"
    path.write_bytes(pickle.dumps({b"names": [b"apple", "bee"]}))
    assert cifar.class_names(path, "names") == ["apple", "bee"]
    assert cifar.class_names(path, "others") == []
    for wrong in ([["apple"]], "apple", [1], {"a": 1}):
        path.write_bytes(pickle.dumps({"names": wrong}))
        with pytest.raises(ValueError, match="names must be a list of texts"):
            cifar.class_names(path, "names")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_batch_that_is_no_regular_file_is_refused(tmp_path, make):
    make(tmp_path / "batch")
    for read in (cifar.python, cifar.binary):
        with pytest.raises(ValueError, match="no regular file"):
            read(tmp_path / "batch")
