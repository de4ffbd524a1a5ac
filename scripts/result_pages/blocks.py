"""Replace the generated blocks of a page, and know whether they are of the present results.

A block stands between `<!-- made: NAME -->` and `<!-- /made: NAME -->`. The last line of a page is
a comment with two digests: of the results, and of what was made from them. So a test finds pages
that are out of date, or edited by hand, without reading a result.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

BLOCK = re.compile(r"(?<=<!-- made: )([\w-]+) -->\n(.*?)\n(?=<!-- /made: \1 -->)", re.DOTALL)
STAMP = re.compile(r"<!-- results ([0-9a-f]{16}), made ([0-9a-f]{16}) -->\n\Z")


def filled(text: str, made: Mapping[str, str]) -> str:
    """Return a page with its blocks replaced.

    Raises:
        ValueError: if the page has no place for a block, or a block that nothing makes.
    """
    places = [match[1] for match in BLOCK.finditer(text)]
    if sorted(places) != sorted(made):
        raise ValueError(f"the page has blocks {places}, and {list(made)} are made")
    return BLOCK.sub(lambda match: f"{match[1]} -->\n\n{made[match[1]]}\n\n", text)


def stamped(text: str, folders: Iterable[Path], figure: str) -> str:
    """Return a page whose last line has the digests of its results, and of its blocks."""
    body = STAMP.sub("", text)
    return f"{body}<!-- results {of_folders(folders)}, made {of_blocks(body, figure)} -->\n"


def state(text: str, folders: Iterable[Path], figure: str) -> str:
    """Return what is wrong with a page: "" if its blocks are of the present results."""
    stamp = STAMP.search(text)
    if stamp is None:
        return "it has no stamp"
    if stamp[1] != of_folders(folders):
        return "results changed since it was made"
    return "" if stamp[2] == of_blocks(text, figure) else "a block was edited by hand"


def of_folders(folders: Iterable[Path]) -> str:
    """Return a digest of files, and of all files in folders: their names and contents."""
    digest = hashlib.sha256()
    for folder in folders:
        inside = [folder] if folder.is_file() else folder.rglob("*")
        for file in sorted(path for path in inside if path.is_file()):
            name = file.relative_to(folder.parent).as_posix()
            digest.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def of_blocks(text: str, figure: str) -> str:
    """Return a digest of the generated blocks and the figure."""
    parts = [f"{match[1]}\n{match[2]}\n" for match in BLOCK.finditer(text)]
    return hashlib.sha256("".join([*parts, figure]).encode()).hexdigest()[:16]
