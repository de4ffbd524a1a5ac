"""Show how an attack is called, to somebody who wrote another library's call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter
from typing import Any

import torch
from torch import Tensor

from ..runtime.annotations import shortened
from ..runtime.fractions import exact_number

# a threat of each norm, for messages
EXAMPLES = {torch.inf: "Linf(8/255)", 2: "L2(0.5)", 1: "L1(10)", 0: "L0(20)", "bits": "Bits(10)"}
# arguments of other libraries, in our words
SPELLED = {
    **dict.fromkeys(("alpha", "eps_iter", "eps_step", "step_size", "abs_stepsize", "lr"), "size"),
    **dict.fromkeys(("n_iter", "nb_iter", "num_iter", "iters", "max_iter", "num_steps"), "steps"),
    **dict.fromkeys(("n_restarts", "num_random_init"), "restarts"),
    "n_queries": "queries",
    "eot_iter": "eot",
    "kappa": "confidence",
    "loss_fn": "loss",
}
COMPAT = "or keep the calls of torchattacks: from sparring.compat import torchattacks"


def attack_usage(
    name: str, known: Mapping[str, Parameter], given: Mapping[str, Any], norms: Iterable[Any]
) -> str:
    """Return a call of an attack; `given` are the keywords of a wrong one.

    >>> known = {"threat": Parameter("threat", Parameter.POSITIONAL_OR_KEYWORD)}
    >>> attack_usage("FGSM", known, {"eps": 4 / 255}, [2]).partition(";")[0]
    'FGSM(L2(4/255))(model, x, y)'
    """
    example = EXAMPLES[next(iter(norms), torch.inf)]
    if "eps" in given:
        example = f"{example.partition('(')[0]}({_number(given['eps'])})"
    renamed = {SPELLED.get(k, k): v for k, v in given.items() if k not in known}
    named = {k: _number(v) for k, v in {**renamed, **given}.items() if k in known}
    named |= {k: "…" for k, p in known.items() if p.default is p.empty and k not in named}
    named |= {"steps": "10"} if "steps" in known and "steps" not in named else {}
    rest = [f"{k}={v}" for k, v in named.items() if k != "threat"]
    call = f"{name}({', '.join([example, *rest])})(model, x, y)"
    foreign = {"eps", *SPELLED} & given.keys() - known.keys()
    return f"{call}; {COMPAT}" if foreign else call


def with_model(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a call of an attack that refuses other than three arguments with the right call."""

    @functools.wraps(call)
    def call_of_model(self: Any, *args: Any, **keywords: Any) -> Tensor:
        count = len(args) + len(keywords)
        if count != 3:
            raise TypeError(
                f"{type(self).__name__}: an attack has no model of its own: call it as "
                f"attack(model, x, y), with 3 arguments, not {count}; {COMPAT}"
            )
        return call(self, *args, **keywords)

    return call_of_model


def _number(value: object) -> str:
    return exact_number(value) if isinstance(value, float) else shortened(value)
