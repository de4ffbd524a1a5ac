"""What a user writes, checked by a type checker that takes nothing on trust."""

from pathlib import Path

from torch import Tensor, nn

import sparring
from sparring.attacks import PGD
from sparring.threats import Linf


def script(model: nn.Module, x: Tensor, y: Tensor) -> float:
    run: Path = sparring.train("digits-mart", set=["train.epochs=2"])
    result: sparring.Result = sparring.evaluate(run, suite="quick", eps=[0.1], n=100)
    own = sparring.evaluate(model, (x, y), "Linf", eps=8 / 255, name="mine")
    x_adv: Tensor = sparring.attack("pgd", model, x, y, eps=8 / 255, steps=20)
    same: Tensor = PGD(Linf(8 / 255), steps=20)(model, x, y)
    network: nn.Module = sparring.load(run)
    print(network(x_adv), same, result.summary(), own.to_dict(), sparring.data.load("digits").shape)
    return result.clean.accuracy - own.by_eps[0].robust.low
