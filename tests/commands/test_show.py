"""What a recipe would do, in words; and a training that is checked and not begun."""

from __future__ import annotations

import pytest

from sparring.commands.show import duration, rehearse, show
from sparring.data import named
from tests.command import call

TINY = ["train.epochs=2", "attack.steps=1", "model={name='mlp', hidden=[8]}", "data.limit=200"]


def test_a_recipe_shows_its_formula_pieces_and_size():
    summary = show("digits-mart", set=["method.beta=3"], timed=False)
    text = " ".join(summary.text().split())
    for part in (
        "3·KL(p ‖ p')·(1 − p_y)",
        "x' in Linf of eps 0.1 around x, searched by PGD",
        "PGD: steps 7, size 0.025",
        "digits: 1×8×8, 10 classes; 1,375 train, 152 validation, 270 test (built in, no download)",
        "40 epochs in batches of 100, AdamW with lr 0.003",
        "suite pgd in Linf at 0.05, 0.1, on all of test",
        "sparring train digits-mart --set method.beta=3",
    ):
        assert part in text
    assert summary.parameters == 91_702
    assert summary.minutes is None
    assert max(map(len, summary.text(60).splitlines())) <= 60
    assert summary._repr_html_().startswith("<pre>digits-mart")


def test_data_that_are_elsewhere_are_not_read(monkeypatch):
    monkeypatch.setattr(named, "is_here", lambda *_: False)
    text = show("drebin215-monotone").data + show("cifar10-resnet18-trades").data
    assert "not here: drebin215.csv.gz, put into $SPARRING_DATA/drebin215" in text
    assert "not here: downloaded from www.cs.toronto.edu" in text
    assert show("cifar10-resnet18-trades").parameters == 11_173_962


def test_a_missing_file_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    summary = show("digits-mart", set=["data.name=mine.npz"])
    assert summary.data == "mine.npz (no file or folder mine.npz here)"
    assert summary.parameters is None
    assert summary.minutes is None


def test_a_training_is_rehearsed_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    changes = [word for change in TINY for word in ("--set", change)]
    text = call("train", "digits-mart", "--dry-run", *changes, capsys=capsys)
    assert "digits-mart   MART · Linf 0.1 · mlp, 610 parameters · 2 epochs" in text
    assert "about " in text
    assert "nothing written. The run folder would be runs/digits-mart" in text
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="suite"):
        rehearse("digits-mart", set=[*TINY, "evaluation.suite=quik"])


def test_durations():
    assert [duration(m) for m in (0.01, 0.3, 1.2, 12.4, 150, 900, 9000)] == [
        *("1 s", "20 s", "70 s", "12 min", "2.5 h", "15 h", "6 days"),
    ]


def test_every_data_set_has_its_facts():
    assert set(named.FACTS) == set(named.names())
    for name in ("digits", "moons", "blobs"):
        raw, facts = named.read(name, None), named.FACTS[name]
        assert raw.train[0].shape[1:] == facts.shape
        assert len(set(raw.train[1].tolist())) == facts.classes
