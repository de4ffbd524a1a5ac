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
    shown = repr(name if len(name) <= 200 else f"{name[:200]}…")
    if not trust:
        raise ValueError(
            f"{key} = {shown} is code from outside, which runs when it is loaded; "
            "if you know what it does, pass --trust (in Python: trust=True)"
        )
    module, _, path = name.partition(":")
    require(module and path, key, name, '"module:Class"')
    here = os.getcwd()
    sys.path.insert(0, here)  # a console script, unlike `python -m`, does not search it
    try:
        return functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except (Exception, SystemExit) as error:  # someone else's code may raise anything, or exit
        raise ValueError(f"{key} = {shown} can't be loaded: {reason(error)}") from error
    finally:
        sys.path.remove(here)


def reason(error: BaseException) -> str:
    """Return an error's type and last line, where torch puts the reason below its traceback.

    >>> reason(RuntimeError("a long story\\nthe reason\\n"))
    'RuntimeError: the reason'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f": {lines[-1]}" if lines else ""
    return type(error).__name__ + (text if len(text) <= 300 else f"{text[:300]}…")
