"""Rewrite links that leave docs/: they lead to a file of the repository, which the site has too."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

LINK = re.compile(
    r"\[(?P<words>(?:[^\[\]]|!?\[[^\[\]]*\])*)\]\((?P<path>[^()\s:#]+)(?P<fragment>#[^()\s]*)?\)"
)
ROOT_PAGES = {  # files at the root of the repository that are pages of the site
    "CHANGELOG.md": "reference/changelog.md",
    "CONTRIBUTING.md": "reference/contributing.md",
    "SECURITY.md": "reference/security.md",
    "README.md": "index.md",
}
SOURCE = "source"  # folder of the site that holds linked files of the repository


def rewritten(markdown: str, page: str, origin: str, kind: Callable[[str], str]) -> str:
    """Return a page's text with its links as the site needs them.

    A link to a file of the repository leads to the site's copy. Of a link to a folder the words
    remain. A link to nothing stays, so that MkDocs reports it.

    Arguments:
        page: path of the page in the site's sources, as `reference/security.md`.
        origin: path of its file in the repository, as `SECURITY.md`.
        kind: of a path in the repository: `"file"`, `"folder"`, or `""` if there is none.

    >>> rewritten("[a](../SECURITY.md#x)", "index.md", "docs/index.md", lambda path: "file")
    '[a](reference/security.md#x)'
    >>> rewritten("[all](../results)", "index.md", "docs/index.md", lambda path: "folder")
    'all'
    """

    def target(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link["path"]))
        if path in ROOT_PAGES:
            inside = ROOT_PAGES[path]
        elif path.startswith("docs/"):
            inside = path.removeprefix("docs/")
        elif kind(path) == "folder":
            return link["words"]
        elif kind(path) == "file":
            inside = f"{SOURCE}/{path}"
        else:
            return link[0]
        relative = posixpath.relpath(inside, posixpath.dirname(page) or ".")
        return f"[{link['words']}]({relative}{link['fragment'] or ''})"

    parts = re.split(r"(^(?:```|~~~).*?^(?:```|~~~)[ \t]*$)", markdown, flags=re.M | re.S)
    parts[::2] = [LINK.sub(target, text) for text in parts[::2]]
    return "".join(parts)
