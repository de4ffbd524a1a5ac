"""Rewrite docstrings before mkdocstrings renders them; griffe loads this file by its path."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Object

from scripts.docs_hooks.docstrings import as_markdown


class MarkdownDocstrings(Extension):
    """Turn every docstring into Markdown."""

    def on_instance(self, *, obj: Object, **keywords: Any) -> None:
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
