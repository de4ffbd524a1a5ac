"""Say of a model whether it was trained against anything, and attacked at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .shown import ShownResult

UNDEFENDED, NOT_ATTACKED = "undefended", "not attacked"
ROBUST_NETS = {"monotone"}  # whose architecture is the defence


def defence(result: ShownResult) -> str:
    """Return "undefended" for a model of plain training, "not attacked" where no attack ran, or "".

    Plain training has no adversary, no regularization, no robust risk and no robust architecture.
    """
    if not any(row.attacks and row.eps != 0 for row in result.by_eps):
        return NOT_ATTACKED
    method, risk, model = (_table(result.recipe, key) for key in ("method", "risk", "model"))
    # A method that is nothing but its name has no penalty with a weight.
    plain = method.keys() == {"name"} and risk.get("name", "Mean") == "Mean"
    # Features that may speak for benign can be added: such a net needs training against that.
    robust_net = str(model.get("name")) in ROBUST_NETS and model.get("benign") is None
    defended = "attack" in result.recipe or robust_net
    return UNDEFENDED if plain and not defended else ""


def _table(recipe: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = recipe.get(key)
    return table if isinstance(table, Mapping) else {}
