"""Pieces that speak of classes, and data that do not have them."""

import pytest
from torch import nn

from sparring.attacks import PGD
from sparring.evaluation import evaluate
from sparring.methods import AT
from sparring.objective import Objective
from sparring.risks import KL, Mean, PerClass
from sparring.threats import Joint, Linf, Only
from sparring.training import Trainer
from tests.training.small import network, source

BALL = Linf(0.1)


def train(out, *, threat=BALL, risk=None, validation=None):
    attack = PGD(threat=threat, steps=1)
    goal = Objective(attack, AT(), Mean() if risk is None else risk)
    return Trainer(network(), goal, source(), out=out, epochs=1, validation=validation)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ({"risk": PerClass(KL(), classes=[1, 3])}, r"classes = \[1, 3\] .* labels below 3"),
        ({"threat": Only(BALL, classes=[3])}, r"classes = \[3\] .* labels below 3"),
        ({"threat": Only(Only(BALL, classes=[7]), classes=[1])}, r"classes = \[7\]"),
        ({"threat": Joint(BALL, scale=1.0, delta=0.4, classes=4)}, "classes = 4 .* 3, those of"),
        ({"validation": PGD(threat=Only(BALL, classes=[3]), steps=1)}, r"classes = \[3\]"),
    ],
)
def test_training_refuses_them_and_leaves_no_folder(tmp_path, pieces, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", **pieces)
    assert not (tmp_path / "run").exists()


def test_training_takes_those_that_are_there(tmp_path):
    pieces = {"threat": Only(BALL, classes=[0, 2]), "risk": PerClass(KL(), classes=[1, 2])}
    assert len(list(train(tmp_path / "run", **pieces))) == 1


def test_evaluation_refuses_them(tmp_path):
    data, model = source(), nn.Linear(6, 3)
    for good in (0, 2):
        threat = Only(BALL, classes=[good])
        assert evaluate(model, data, threat=threat, suite="quick", n=8, progress=False).n == 8
    with pytest.raises(ValueError, match=r"classes = \[3\] .* labels below 3"):
        evaluate(model, data, threat=Only(BALL, classes=[3]), suite="quick", progress=False)
