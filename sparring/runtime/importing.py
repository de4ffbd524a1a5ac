"""Import an object called "module:Class", which runs that module's code."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from typing import Any

from ..component import require


def import_object(name: str, *, key: str, trust: bool = False) -> Any:
    """Import "package.module:Class" and return the object; the current folder is searched too.

    Arguments:
        key: a recipe's path or an argument, for messages.
        trust: required, since importing a module runs its code.

    Raises:
        ValueError: without trust; or if the name is not "module:Class" or cannot be imported.

    >>> import_object("collections:OrderedDict.fromkeys", key="model", trust=True)("ab")
    OrderedDict([('a', None), ('b', None)])
    >>> import_object("os:remove", key="attack.name")
    Traceback (most recent call last):
    ValueError: attack.name = 'os:remove' is code from outside, which runs when it is loaded; ...
    """
    if not trust:
        raise ValueError(
            f"{key} = {name!r} is code from outside, which runs when it is loaded; "
            "if you know what it does, pass --trust (in Python: trust=True)"
        )
    module, _, path = name.partition(":")
    require(module and path, key, name, '"module:Class"')
    here = os.getcwd()
    sys.path.insert(0, here)  # a console script, unlike `python -m`, does not search it
    try:
        return functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except Exception as error:  # importing runs someone else's code, which may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{key} = {name!r} can't be loaded: {reason}") from error
    finally:
        sys.path.remove(here)
