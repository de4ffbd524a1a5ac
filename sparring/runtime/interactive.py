"""Tell whether somebody watches: at a terminal, or in a notebook."""

from __future__ import annotations

import sys

NOTEBOOK_SHELLS = ("ZMQInteractiveShell", "Shell")  # of Jupyter and of Colab


def shows_progress(progress: bool | None) -> bool:
    """Return whether to show progress; None: on a terminal or in a notebook, and nowhere else.

    >>> shows_progress(True), shows_progress(False)
    (True, False)
    """
    return in_notebook() or sys.stderr.isatty() if progress is None else progress


def in_notebook() -> bool:
    """Return whether this process runs the cells of a notebook."""
    ipython = sys.modules.get("IPython")  # a notebook has imported it
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ in NOTEBOOK_SHELLS
