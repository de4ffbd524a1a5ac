"""A stranger's recipe, and odd changes: read or refused by one `ValueError`, in no time."""

from __future__ import annotations

import datetime
import os
import time
from typing import Any

import pytest

from sparring.config import recipe, toml
from sparring.config.overrides import override
from sparring.runtime.files import NAME_LIMIT

BASE = '[recipe]\nbase = "digits-standard"\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_file_of_any_editor_is_read(tmp_path, encoding, newline):
    path = tmp_path / "mine.toml"
    text = f"# β\n{BASE}[train]\nepochs = 7\n".replace("\n", newline)
    path.write_bytes(text.encode(encoding))
    assert recipe.load_recipe(path).tables["train"]["epochs"] == 7


DEEP = 20_000
BAD = {
    "utf-16": BASE.encode("utf-16"),
    "latin-1": "# caf\xe9".encode("latin-1"),
    "no text": b"\x00\xff\x00",
    "syntax": b"[data\n",
    "twice": b"[data]\n[data]\n",
    "deep list": b"x = " + b"[" * DEEP + b"]" * DEEP,
    "deep table": b"x = " + b"{a=" * DEEP + b"1" + b"}" * DEEP,
    "deep key": b"x." + b"a." * DEEP + b"b = 1",
    "long integer": b"[train]\nepochs = 1" + b"0" * 400,
    "longer integer": b"[train]\nepochs = 1" + b"0" * 9000,
    "date": (BASE + "[train]\nepochs = 2020-01-01").encode(),
    "time": (BASE + "[train]\nepochs = 10:00:00").encode(),
    "nan": (BASE + "[train.optimizer]\nname='SGD'\nlr = nan").encode(),
    "inf": (BASE + "[train]\nclip = inf").encode(),
    "tables": (BASE + "[[train]]\nepochs = 1").encode(),
    "table": (BASE + "[train]\nschedule = {path = 'lr'}").encode(),
    "text": (BASE + "[data]\naugment = 'Flip'").encode(),
    "name of a model": (BASE + "[model]\nname = ['mlp']").encode(),
    "name of a method": (BASE + "[method]\nname = ['AT']").encode(),
    "name of a schedule": (BASE + "[[train.schedule]]\nname = {}\npath = 'lr'").encode(),
    "name of an optimizer": (BASE + "[train.optimizer]\nname = []").encode(),
    "name of data": (BASE + "[data]\nname = 3").encode(),
    "name of a suite": (BASE + "[evaluation]\nsuite = []").encode(),
    "name": b"recipe = 'digits-standard'",
    "base": b"[recipe]\nbase = ['digits-standard']",
    "no name": b"[recipe]\nbase = ''",
    "code": (BASE + "[method]\nname = 'os:remove'").encode(),
    "empty": b"",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_a_short_value_error(tmp_path, kind):
    path = tmp_path / "mine.toml"
    path.write_bytes(BAD[kind])
    start = time.perf_counter()
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        recipe.load_recipe(path)
    assert type(error.value) in (ValueError, FileNotFoundError)
    assert time.perf_counter() - start < 5
    assert len(str(error.value)) < 3000  # the names of all models, at most


def test_a_pipe_a_device_and_a_large_file_are_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.toml")
    for path in (tmp_path / "pipe.toml", "/dev/zero"):
        with pytest.raises(ValueError, match="no regular file"):
            recipe.load_recipe(path)
    monkeypatch.setattr(toml, "FILE_LIMIT", 100)
    (tmp_path / "large.toml").write_text("#" * 101)
    with pytest.raises(ValueError, match="has 101 bytes: at most 100 are read"):
        recipe.load_recipe(tmp_path / "large.toml")
    (tmp_path / "link.toml").symlink_to(tmp_path / "nowhere.toml")
    with pytest.raises(FileNotFoundError, match="there is no recipe at"):
        recipe.load_recipe(tmp_path / "link.toml")


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 5000 + ".toml", "a\0b", "\x1b[2J", "", "."])
def test_a_name_of_no_recipe(name):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        recipe.load_recipe(name)
    assert "\x1b" not in str(error.value)
    assert "x" * 300 not in str(error.value)


def test_a_chain_of_bases_ends(tmp_path):
    for k in range(40):
        (tmp_path / f"r{k}.toml").write_text(f'[recipe]\nbase = "r{k + 1}.toml"\n')
    with pytest.raises(ValueError, match="a chain of 20 recipes at most"):
        recipe.load_recipe(tmp_path / "r0.toml")
    (tmp_path / "r1.toml").write_text('[recipe]\nbase = "r0.toml"\n')
    with pytest.raises(ValueError, match="based on itself"):
        recipe.load_recipe(tmp_path / "r0.toml")


NAMES = [
    "../x",
    "/x",
    "..",
    ".x",
    "a/b",
    "a\\b",
    "C:x",
    "-x",
    "",
    " ",
    "a\nb",
    "a\x1b[2Jb",
    "x" * 101,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_becomes_a_folder_and_stays_in_its_own(name):
    with pytest.raises(ValueError, match=r"recipe\.name = .* is not allowed") as error:
        recipe.load_recipe("digits-standard", set={"recipe.name": name})
    assert len(str(error.value)) < 3 * NAME_LIMIT


@pytest.mark.parametrize(
    "text",
    [
        *("", "=", "=3", "train", "train.", ".train=3", "train..epochs=3", "train.=3"),
        *("train=3", "train.epochs.x=3", "train.epochs=", "train.epochs=[", "train.epochs={a=1}"),
        *(
            "train.epochs=3\n[model]\nname=1",
            "train.epochs=2020-01-01",
            "train.epochs=1" + "0" * 5000,
        ),
        *("a." * DEEP + "b=1", "train.epochs=" + "[" * DEEP, "x" * DEEP + "=1"),
        *("train.schedule.7.path=lr", "train.schedule.x=1", "data.name.x=3", "\x1b[2J=1"),
        *("train.epochs=nan", "train.clip=inf", "train.clip=-inf", "recipe.base=digits-mart"),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_an_odd_change_is_a_short_value_error(text):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        recipe.load_recipe("digits-standard", set=[text])
    assert type(error.value) is ValueError
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 1500


def test_a_value_of_several_lines_is_one_text():
    assert override("a=1\nb=2") == ("a", "1\nb=2")


def itself() -> dict[str, Any]:
    tables: dict[str, Any] = {"recipe": {"base": "digits-standard"}}
    tables["train"] = tables
    return tables


@pytest.mark.parametrize(
    "tables",
    [
        itself(),
        {"recipe": {"base": "digits-standard"}, "train": {"epochs": datetime.date(2020, 1, 1)}},
        {"recipe": {"base": "digits-standard"}, "train": {"epochs": object()}},
        {"recipe": {"base": "digits-standard"}, "train": {3: 4}},
        {3: 4},
        {},
    ],
)
def test_bad_tables_from_python(tables):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        recipe.load_recipe(tables)
    assert len(str(error.value)) < 1500


def test_none_is_a_key_that_is_left_out_and_no_entry_of_a_list():
    inner = {"name": "Bits", "eps": 3, "mutable": None}
    tables = {
        "recipe": {"base": "digits-mart", "paper": None},
        "evaluation": {"threat": inner, "eps": 3},
    }
    threat = recipe.load_recipe(tables).tables["evaluation"]["threat"]
    assert threat["name"] == "Bits"
    assert "mutable" not in threat
    for path in (
        "evaluation.eps",
        "attack.steps",
        "train.schedule",
        "data.augment",
        "train.optimizer",
    ):
        with pytest.raises(ValueError, match=path.replace(".", r"\.")):
            recipe.load_recipe("digits-mart", set={path: [None]})


@pytest.mark.parametrize("eps", [True, -1, "x", float("nan"), []])
def test_an_eps_of_the_threat_is_checked_where_others_replace_it(eps):
    with pytest.raises(ValueError, match=r"evaluation\.threat\.eps = .* is not allowed"):
        recipe.load_recipe("digits-mart", set={"evaluation.threat.eps": eps, "evaluation.eps": 0.1})
