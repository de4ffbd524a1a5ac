"""What torchattacks 3.5.1 has: recorded, so that the quick tests need no package of theirs."""

from __future__ import annotations

import inspect

SIGNATURES = {
    "APGD": (
        "model, norm='Linf', eps=8/255, steps=10, n_restarts=1, seed=0, loss='ce', "
        "eot_iter=1, rho=0.75, verbose=False"
    ),
    "APGDT": (
        "model, norm='Linf', eps=8/255, steps=10, n_restarts=1, seed=0, eot_iter=1, "
        "rho=0.75, verbose=False, n_classes=10"
    ),
    "BIM": "model, eps=8/255, alpha=2/255, steps=10",
    "CW": "model, c=1, kappa=0, steps=50, lr=0.01",
    "EADL1": (
        "model, kappa=0, lr=0.01, binary_search_steps=9, max_iterations=100, "
        "abort_early=True, initial_const=0.001, beta=0.001"
    ),
    "FAB": (
        "model, norm='Linf', eps=8/255, steps=10, n_restarts=1, alpha_max=0.1, "
        "eta=1.05, beta=0.9, verbose=False, seed=0, multi_targeted=False, "
        "n_classes=10"
    ),
    "FFGSM": "model, eps=8/255, alpha=10/255",
    "FGSM": "model, eps=8/255",
    "GN": "model, std=0.1",
    "JSMA": "model, theta=1.0, gamma=0.1",
    "MIFGSM": "model, eps=8/255, alpha=2/255, steps=10, decay=1.0",
    "PGD": "model, eps=8/255, alpha=2/255, steps=10, random_start=True",
    "PGDL2": ("model, eps=1.0, alpha=0.2, steps=10, random_start=True, eps_for_division=1e-10"),
    "SPSA": ("model, eps=0.3, delta=0.01, lr=0.01, nb_iter=1, nb_sample=128, max_batch_size=64"),
    "VANILA": "model",
    "AutoAttack": (
        "model, norm='Linf', eps=8/255, version='standard', n_classes=10, seed=None, verbose=False"
    ),
    "DeepFool": "model, steps=50, overshoot=0.02",
    "MultiAttack": "attacks, verbose=False",
    "Square": (
        "model, norm='Linf', eps=8/255, n_queries=5000, n_restarts=1, p_init=0.8, "
        "loss='margin', resc_schedule=True, seed=0, verbose=False"
    ),
}


def arguments(call: object) -> list[tuple[str, object]]:
    """Names and defaults of a call's arguments, in order."""
    return [(p.name, p.default) for p in inspect.signature(call).parameters.values()]  # type: ignore[arg-type]


def recorded(name: str) -> list[tuple[str, object]]:
    """Names and defaults of a class of theirs."""
    return arguments(eval(f"lambda {SIGNATURES[name]}: None"))
