"""A network at chance is noticed in the log, in the weights' metadata and in a warning; a healthy
one gives no alarm."""

from __future__ import annotations

import math
import re
import warnings

import pytest
import torch
from torch import nn

from sparring.attacks import PGD
from sparring.data import Source, Split, load
from sparring.methods import AT, Standard
from sparring.objective import Objective
from sparring.risks import KL, Mean
from sparring.runtime.warning import SparringWarning
from sparring.threats import Linf
from sparring.training import Trainer
from sparring.training.collapse import likely_causes, patience
from sparring.training.run_folder import read_log
from sparring.training.validate import is_at_chance, score
from tests.training.small import read_metadata


@pytest.fixture(scope="module")
def digits() -> Source:
    return load("digits")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def training(source: Source, out, *, lr: float = 0.1, epochs: int = 4, **more) -> Trainer:
    optimizer = {"name": "SGD", "lr": lr, "momentum": 0.9}
    goal = Objective(None, Standard(), Mean())
    return Trainer(net(), goal, source, out=out, epochs=epochs, optimizer=optimizer, **more)


def messages(run: Trainer) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(run)
    return [str(w.message) for w in caught if w.category is SparringWarning]


def test_a_collapsed_training_is_noticed(digits, tmp_path):
    texts = messages(training(digits, tmp_path / "run", lr=50.0))
    assert len(texts) == 2  # after three epochs, and at the end
    pattern = r"after epoch 4 of 4 the network predicts no better than chance: .* 152 rows.*lr = 50"
    assert re.search(pattern, texts[-1])
    assert [row["at_chance"] for row in read_log(tmp_path / "run")] == [True] * 4
    assert read_metadata(tmp_path / "run")["at_chance"] == "True"


def test_a_healthy_training_gives_no_alarm(digits, tmp_path):
    assert messages(training(digits, tmp_path / "run")) == []
    assert not any("at_chance" in row for row in read_log(tmp_path / "run"))
    assert "at_chance" not in read_metadata(tmp_path / "run")


def test_a_resumed_training_counts_on(digits, tmp_path):
    run = training(digits, tmp_path / "run", lr=50.0, epochs=5)
    for epoch in run:
        if epoch.number == 2:
            break
    texts = messages(training(digits, tmp_path / "run", lr=50.0, epochs=5, resume=True))
    assert [text.split(" the ")[0] for text in texts] == [
        "after epoch 3 of 5",
        "after epoch 5 of 5",
    ]


def test_epochs_that_are_not_validated_count_neither_way(digits, tmp_path):
    texts = messages(training(digits, tmp_path / "run", lr=50.0, epochs=5, every=2))
    rows = read_log(tmp_path / "run")
    assert ["at_chance" in row for row in rows] == [False, True, False, True, True]
    assert len(texts) == 1


class Fixed(nn.Module):
    """Logits from a table that x numbers."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits[x[:, 0].round().long()]


@pytest.mark.parametrize(
    ("kind", "at_chance"),
    [("constant", True), ("all equal", True), ("random", True), ("weak", False), ("rare", False)],
)
def test_what_is_chance(kind, at_chance):
    draw = torch.Generator().manual_seed(0)
    y = (torch.arange(400) < 24).long()  # 6 % of the second class, as in malware
    logits = torch.zeros(400, 2)
    if kind == "constant":
        logits[:, 0] = torch.rand(400, generator=draw) + 1
    elif kind == "random":
        logits[:, 1] = torch.randn(400, generator=draw) - 1
    elif kind == "weak":  # worse than a constant guess, and far from random
        logits[:, 1] = y + 0.7 * torch.randn(400, generator=draw) - 0.6
    elif kind == "rare":  # a third of the rare class, which hardly moves the accuracy
        logits[:, 1] = torch.where(torch.arange(400) < 8, 1.0, -1.0)
    split = Split(torch.arange(400.0)[:, None], y)
    result = score(Fixed(logits), split, None, device=torch.device("cpu"))
    assert result.at_chance == at_chance


def test_of_few_rows_nothing_is_concluded():
    assert not is_at_chance(0.1, 0.1, 49)
    assert is_at_chance(0.1, 0.1, 50)


def test_unlabelled_and_weighted_rows_count_as_they_do_for_the_accuracy():
    x, y = torch.arange(100.0)[:, None], torch.arange(100) % 2
    model = Fixed(torch.eye(2)[y])
    split = Split(x, torch.where(torch.arange(100) < 10, -1, y), weight=torch.rand(100) + 0.5)
    assert not score(model, split, None, device=torch.device("cpu")).at_chance


def test_causes_name_the_values_of_the_training():
    goal = Objective(PGD(Linf(0.25), steps=1), AT(), KL())
    text = likely_causes(goal, lr=3.0, loss=50.0, classes=10)
    for part in ("lr = 3 (the loss is far", "eps = 0.25", "re-weighting of KL", "normalise"):
        assert part in text
    calm = likely_causes(Objective(None, Standard(), Mean()), lr=3.0, loss=math.log(10), classes=10)
    assert calm == "lr = 3; inputs that the model does not normalise"


def test_patience_grows_with_the_training():
    assert [patience(n) for n in (1, 10, 40, 120)] == [3, 3, 5, 10]
