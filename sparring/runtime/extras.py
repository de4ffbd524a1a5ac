"""Import an optional package, or say which extra installs it."""

from __future__ import annotations

import importlib
from typing import Any

from .text import printable


def import_extra(module: str, *, extra: str, purpose: str) -> Any:
    """Return an optional package, imported where it is needed.

    Arguments:
        module: to import, as "optuna".
        extra: of sparring that installs it.
        purpose: the option or call that needs it; it opens the message.

    Raises:
        ValueError: if the package is missing, or if it is installed and fails to import.

    >>> import_extra("missing_one", extra="search", purpose="sparring search")
    Traceback (most recent call last):
    ValueError: sparring search needs the package missing_one: pip install 'sparring[search]'
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name in (package, module):
            text = f"{purpose} needs the package {package}: pip install 'sparring[{extra}]'"
            raise ValueError(text) from None
        reason = error
    # A package for another version of PyTorch, as torchvision, may fail with any error.
    except Exception as error:
        reason = error
    text = f"{purpose} needs the package {package}, which is installed and fails to import"
    raise ValueError(f"{text} ({printable(reason)})") from reason
