"""The command line, called in this process."""

from __future__ import annotations

import sys

import pytest

from sparring.cli import main


def call(*arguments, capsys, code=0):
    """Run the command line in this process; its output, and it must exit with `code`."""
    old, sys.argv = sys.argv, ["sparring", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as caught:
            main.main()
    finally:
        sys.argv = old
    out, err = capsys.readouterr()
    assert (caught.value.code or 0) == code, out + err
    return out + err
