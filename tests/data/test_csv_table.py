"""Every way in which people write a csv: read alike, or refused; never other rows unsaid."""

import codecs
import contextlib
import time
import warnings

import numpy as np
import pytest
import torch

from sparring import data
from sparring.data import readers
from sparring.data.tables import class_weights, mutable_mask
from sparring.runtime.warning import SparringWarning

TEXT = "a,b,label\n0.5,1,no\n-1e-1,0,yes\n.25,1.,no\n"
X = np.array([[0.5, 1], [-0.1, 0], [0.25, 1]], np.float32)


def read(folder, content, label=None):
    path = folder / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return readers.csv(path, label)[:4]


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace("\n", "\n\n").encode(),
        TEXT.replace(",", ";").encode(),
        TEXT.replace(",", "\t").encode(),
        TEXT.replace(",", ";").replace(".", ",").encode(),
        TEXT.replace(",", " , ").encode(),
        TEXT.replace("0.5", '"0.5"').encode(),
    ],
    ids=[
        *("utf-8", "utf-8-mark", "utf-16-le", "utf-16-be", "utf-32", "crlf", "cr", "blank-lines"),
        *("semicolons", "tabs", "decimal-commas", "spaces", "quoted"),
    ],
)
def test_encodings_line_ends_separators_and_decimal_commas(tmp_path, content):
    x, y, classes, features = read(tmp_path, content)
    assert x.dtype == np.float32
    assert np.array_equal(x, X)
    assert (y.tolist(), classes, features) == ([0, 1, 0], ["no", "yes"], ["a", "b"])


def test_a_tsv_is_a_csv_of_tabs(tmp_path):
    rows = "".join(f"{k / 60}\t0.5\t{k % 2}\n" for k in range(60))
    (tmp_path / "t.tsv").write_text(f"a\tlabel\tb\n{rows}".replace("0.5\t", ""))
    (tmp_path / "u.tsv").write_text(f"a\tb\tlabel\n{rows}")
    assert data.load(tmp_path / "u.tsv").feature_names == ["a", "b"]
    with pytest.raises(ValueError, match="row 2: 2 cells, the first has 3"):
        data.load(tmp_path / "t.tsv")


def test_numbers_are_those_of_numpy(tmp_path):
    rng = np.random.default_rng(0)
    cells = [f"{v:.{k % 18}g}" for k, v in enumerate(rng.standard_normal(3000) ** 9)]
    rows = [cells[k : k + 30] for k in range(0, 3000, 30)]
    text = "".join(",".join(row) + f",{k % 2}\n" for k, row in enumerate(rows))
    expected = np.loadtxt(text.splitlines(), np.float32, delimiter=",")[:, :-1]
    assert np.array_equal(read(tmp_path, text)[0], expected)


def test_a_quoted_cell_with_line_ends_separators_and_quotes(tmp_path):
    text = '"a;\n""b""",c,"the\nclass"\n0,1,"one,\ntwo"\n1,0,three\n1,1,three\n'
    x, y, classes, features = read(tmp_path, text)
    assert x.tolist() == [[0, 1], [1, 0], [1, 1]]
    assert (y.tolist(), classes) == ([0, 1, 1], ["one,\ntwo", "three"])
    assert features == ['a;\n"b"', "c"]
    with pytest.raises(ValueError, match="row 6: 2 cells"):  # as an editor counts lines
        read(tmp_path, '"a\nb",c,l\n0,1,"x\ny"\n\n1,1\n')
    with pytest.raises(ValueError, match="row 5: a quote is not closed"):
        read(tmp_path, 'a,b,l\n0,1,x\n0,1,"y\n1,1,x\n1,0,y\n')


@pytest.mark.parametrize("true", ["True", "true", "TRUE", "yes", "Yes"])
def test_flags_are_ones_and_zeros(tmp_path, true):
    false = {"T": "False", "t": "false", "y": "no", "Y": "No"}[true[0]]
    x, *_ = read(tmp_path, f"a,b,label\n{true},{false},1\n{false},0.5,0\n")
    assert x.tolist() == [[1, 0], [0, 0.5]]


@pytest.mark.parametrize(
    ("first", "rows", "header"),
    [
        ("0.1,0.5,benign", 3, False),
        ("0,1,1", 3, False),
        ("True,False,1", 3, False),
        ("yes,no,spam", 3, False),
        ("0,1,label", 2, True),  # columns that are numbered
        ("0,1,2", 2, True),
        ("a,b,1", 2, True),
        ("a,1,label", 2, True),
        (",0,label", 2, True),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_first_row_is_a_header_or_data(tmp_path, first, rows, header, separator):
    label = first.rpartition(",")[2] if not header else "0"
    text = f"{first}\n0,1,{label}\n1,0,{label}\n".replace(",", separator)
    x, y, _, features = read(tmp_path, text)
    assert (len(x), len(y)) == (rows, rows)
    assert features == (first.split(",")[:-1] if header else [])


def test_a_first_row_that_may_be_either_is_refused(tmp_path):
    text = "2019,2020,kind\n1,2,a\n3,4,a\n"
    with pytest.raises(ValueError, match="row 1: no other row has its label, 'kind': set label ="):
        read(tmp_path, text)
    assert read(tmp_path, text, label="kind")[3] == ["2019", "2020"]


@pytest.mark.parametrize(
    ("labels", "classes", "y"),
    [
        (["0", "1", "1.0"], ["0", "1"], [0, 1, 1]),
        (["1.0", "1", "1.00", "2"], ["1", "2"], [0, 0, 0, 1]),
        (["1.0", "2.0", "1.0"], ["1.0", "2.0"], [0, 1, 0]),  # as the file spells them
        (["-1", "1", "+1"], ["-1", "+1"], [0, 1, 1]),
        (["0.5", "-0.5"], ["-0.5", "0.5"], [1, 0]),
        (["1e1", "10"], ["10"], [0, 0]),
        (["1_0", "10"], ["10", "1_0"], [1, 0]),
        (["9007199254740992", "9007199254740993"], None, [0, 1]),
        (["None", "2", "a"], ["2", "None", "a"], [1, 0, 2]),
    ],
)
def test_two_spellings_of_a_number_are_one_class(labels, classes, y):
    numbers, names = readers.encode(labels)
    assert numbers.tolist() == y
    assert classes is None or names == classes


def test_latin_1_is_read_and_announced(tmp_path):
    text = "größe,länge,art\n0,1,weiß\n1,0,schwarz\n"
    with pytest.warns(SparringWarning, match="not UTF-8 and is read as Latin-1"):
        *_, classes, features = read(tmp_path, text.encode("latin-1"))
    assert (classes, features) == (["schwarz", "weiß"], ["größe", "länge"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label,a,b\n0,1,1\n1,0,0\n1,1,1\n", "column 'label' is read as a feature"),
        ("Class,a,b\n0,1,1\n1,0,0\n1,1,1\n", "label = 'Class' names it"),
        ("a,a,b\n0,1,1\n1,0,0\n", "several columns are called 'a'"),
        (",a,b\n0,1,1\n1,0,0\n2,1,1\n", "the first column counts the rows"),
        ("Unnamed: 0,a,b\n5,1,1\n6,0,0\n7,1,1\n", "the first column counts the rows"),
    ],
)
def test_columns_that_are_probably_others_are_announced(tmp_path, text, words):
    with pytest.warns(SparringWarning, match=words):
        read(tmp_path, text)


def test_a_named_label_is_trusted_with_a_warning(tmp_path):
    text = "a,b\n" + "".join(f"{k / 50},0\n" for k in range(50))
    with pytest.warns(SparringWarning, match="50 classes of 50 rows.*no classes"):
        assert len(read(tmp_path, text, label="a")[2]) == 50
    grades = "a,b\n" + "".join(f"0,{k % 11 / 10}\n" for k in range(50))
    assert len(read(tmp_path, grades)[2]) == 11  # few values, often: classes that are numbers


def test_a_misspelled_label_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match=r"\(did you mean 'kind'\?\); it has kind, u"):
        read(tmp_path, "kind,u\n1,0\n0,1\n", label="kinds")
    with pytest.raises(ValueError, match="no header"):
        read(tmp_path, "0,1\n1,0\n", label="kind")


def test_an_ordinary_file_is_read_without_a_word(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("label", "class", "kind", "y"):
            read(tmp_path, TEXT.replace("label", name))
            read(tmp_path, f"{name},a\n1,0\n0,1\n", label=name)


def test_a_name_of_two_features_is_not_a_mask(tmp_path):
    with pytest.raises(ValueError, match="names 'a', as several features are called"):
        mutable_mask(["a"], 3, ["a", "b", "a"])
    assert mutable_mask(["b"], 3, ["a", "b", "a"]) == [0, 1, 0]
    mask = tmp_path / "mask.txt"
    mask.write_text("b\n", encoding="utf-16")
    assert mutable_mask(mask, 2, ["a", "b"]) == [0, 1]


@pytest.mark.parametrize(
    "mask", [[1, 0], [True, False], np.array([1, 0]), np.array([True, False]), np.array([1.0, 0])]
)
def test_a_mask_of_any_kind_of_numbers(mask):
    assert mutable_mask(mask, 2, None) == [1, 0]


@pytest.mark.parametrize(
    "balance", ["yes", "true", ["a", "b"], [[1, 2], [3]], [1j, 1], [1], [-1, 2]]
)
def test_a_balance_that_is_no_weights_is_refused(balance):
    with pytest.raises(ValueError, match=r"balance = .* true, false, or 2 weights"):
        class_weights(balance, torch.tensor([0, 1]), 2)


def test_all_rows_arrive_in_the_source(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "".join(f"{i / 60:.3f},0.5,{('benign', 'malware')[i % 2]}\n" for i in range(60))
    )
    source = data.load(path)
    assert sum(len(s) for s in (source.train, source.val, source.test)) == 60
    assert source.class_names == ["benign", "malware"]


def svmlight(folder, text):
    path = folder / "t.svm"
    path.write_text(text)
    return readers.svmlight(path)


def test_svmlight_indices_comments_queries_and_labels(tmp_path):
    x, y, names = svmlight(tmp_path, "# c\n1 qid:3 1:0.5 3:1 # note\n-1 2:0.25\n")
    assert x.tolist() == [[0.5, 0, 1], [0, 0.25, 0]]
    assert (y.tolist(), names) == ([1, 0], ["-1", "1"])
    assert svmlight(tmp_path, "1 0:0.5 2:1\n0 1:1\n")[0].tolist() == [[0.5, 0, 1], [0, 1, 0]]
    y, names = svmlight(tmp_path, "30000001 1:1\n30000002 1:1\n0.5 1:1\n")[1:]
    assert (y.tolist(), names) == ([1, 2, 0], ["0.5", "30000001", "30000002"])


def test_the_width_of_a_table_can_be_raised(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARRING_MAX_FEATURES", "3")
    assert svmlight(tmp_path, "1 3:1\n0 1:1\n")[0].shape == (2, 3)
    with pytest.raises(ValueError, match="4 features: at most 3 are read; SPARRING_MAX_FEATURES"):
        svmlight(tmp_path, "1 4:1\n0 1:1\n")
    with pytest.raises(ValueError, match="4 features: at most 3"):
        read(tmp_path, "0,1,0,1\n")


@pytest.mark.parametrize("cell", ["?", "NA", "n/a", "#N/A", "null", "NaN", "", " ? "])
def test_a_missing_label_is_no_class(tmp_path, cell):
    with pytest.raises(ValueError, match=r"row 3: the label in column 'label' is .*; fill it or"):
        read(tmp_path, f"a,b,label\n0,1,no\n1,0,{cell}\n1,1,yes\n")


@pytest.mark.parametrize("cell", ["none", "-"])
def test_words_that_may_name_a_class_do(tmp_path, cell):
    assert cell in read(tmp_path, f"a,b,label\n0,1,no\n1,0,{cell}\n1,1,no\n")[2]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("cell", ["2.5", '"2.5"', " 2.5 ", ".5", "-2.5e3", '"2.5E-1"'])
@pytest.mark.parametrize("last", [True, False])
def test_decimal_points_beside_commas_are_refused_in_any_cell(tmp_path, end, separator, cell, last):
    order = ("label", "a", "b") if last else ("label", "b", "a")
    rows = [{"label": "no", "a": "1,5", "b": "2,5"}, {"label": "yes", "a": "1,5", "b": cell}]
    lines = [
        order,
        *([row[k] for k in order] for row in rows),
    ]
    text = end.join(separator.join(line) for line in lines) + end
    with pytest.raises(ValueError, match="decimal commas, and also decimal points"):
        read(tmp_path, text, label="label")


def test_a_point_within_a_word_is_no_decimal_point(tmp_path):
    text = 'a;b;label\r\n1,5;2;"v. 2.5 b"\r\n\r\n1,5;3;v2.5\r\n'
    assert read(tmp_path, text)[2] == ["v. 2.5 b", "v2.5"]


def test_many_blank_lines_and_spaces_take_no_time(tmp_path):
    start = time.process_time()
    for filling in ("\n" * 300_000, " " * 100_000 + "\n", '""' * 50_000 + "\n"):
        with contextlib.suppress(ValueError):
            read(tmp_path, "a;b;label\n1,5;2;x\n" + filling + "1,5;3;y\n")
    assert time.process_time() - start < 5
