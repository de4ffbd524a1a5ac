"""Where a named set's files are: `$SPARRING_DATA`, the cache, or a download with its checksum."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runtime.files import write
from .readers import needs, verify


@dataclass(frozen=True)
class Remote:
    """A file of a named set: its name, checksum (`"md5:…"` or `"sha256:…"`) and addresses."""

    file: str
    checksum: str
    urls: tuple[str, ...]


def cache() -> Path:
    """The folder that downloads are kept in."""
    return Path(needs("pooch", "pooch").os_cache("sparring"))


def plain(name: str) -> str:
    """A name without case and punctuation, so that `CIFAR-10`, `cifar_10` and `cifar10` are one.

    >>> plain("CIFAR-10")
    'cifar10'
    """
    return "".join(c for c in name.lower() if c.isalnum())


def places(name: str, root: str | Path | None, inner: Sequence[str] = ()) -> list[Path]:
    """Folders that may hold a set, in the order they are looked at.

    Arguments:
        root: looked in before the cache; `$SPARRING_DATA` when omitted.
        inner: folders that the set's archives unpack to.

    Raises:
        FileNotFoundError: if `root` or `$SPARRING_DATA` is no folder.
    """
    given = root or os.environ.get("SPARRING_DATA")
    if given and not Path(given).expanduser().is_dir():
        asked = "root" if root else "SPARRING_DATA"
        raise FileNotFoundError(f"{asked} = {str(given)!r} is no folder")
    found = []
    for top in ([Path(given).expanduser()] if given else []) + [cache()]:
        within = sorted(p for p in top.iterdir() if p.is_dir()) if top.is_dir() else []
        own = [p for p in within if plain(p.name) == plain(name)]
        # a root given by hand may be the set's own folder; elsewhere loose files may be another's
        tops = [*own, top] if root and top != cache() else own
        found += [p for t in tops for p in (t, *(t / i for i in inner))] + [top / i for i in inner]
    found = [p for p in found if p.is_dir()]
    return list(dict.fromkeys(found))


def download(name: str, remotes: Sequence[Remote]) -> Path:
    """Fetch the files of a set into the cache; returns their folder.

    Raises:
        FileNotFoundError: if they cannot be had; it says which files to put where.
        ValueError: if what came has another checksum.
    """
    place = cache() / name
    for remote in remotes:
        _retrieve(name, remote, place, remotes)
    return place


def _retrieve(name: str, remote: Remote, place: Path, remotes: Sequence[Remote]) -> None:
    pooch, failures = needs("pooch", "pooch"), []
    for url in remote.urls:
        bar = _Bar(remote.file)
        try:
            pooch.retrieve(url, remote.checksum, remote.file, place, progressbar=bar)
            return
        except Exception as error:  # each protocol has its own; the next address may do
            failures.append(error)
        finally:
            bar.close()
    if any(isinstance(e, ValueError) and "hash" in str(e) for e in failures):
        raise ValueError(
            f"{remote.file} of {name!r} came with another checksum than {remote.checksum}: "
            f"the download was damaged, or the file changed ({failures[-1]})"
        )
    files = "".join(f"\n  {r.file}  ({r.checksum})" for r in remotes)
    why = failures[-1] if failures else "no address is known that offers these files"
    raise FileNotFoundError(
        f"data set {name!r} is not on this machine and can't be downloaded ({why}).\n"
        f"Put these files into {place},\nor into {name}/ in a folder named by SPARRING_DATA:{files}"
    )


class _Bar:
    """A progress bar as pooch wants it, drawn by rich; shown from the first byte on."""

    def __init__(self, what: str) -> None:
        self.what, self.total = what, 0
        self.shown: Any = None
        self.task: Any = None

    def update(self, amount: int) -> None:
        if self.shown is None:
            rich = needs("rich.progress", "rich")
            columns = ("{task.description}", rich.BarColumn(), rich.DownloadColumn())
            console = needs("rich.console", "rich").Console(stderr=True)
            self.shown = rich.Progress(
                *columns, rich.TransferSpeedColumn(), rich.TimeRemainingColumn(), console=console
            )
            self.task = self.shown.add_task(self.what, total=self.total or None)
            self.shown.start()
        self.shown.update(self.task, advance=amount)

    def reset(self) -> None:
        if self.shown is not None:
            self.shown.update(self.task, completed=0)

    def close(self) -> None:
        if self.shown is not None:
            self.shown.stop()


def unpack(archive: Path, checksum: str, members: Sequence[str], place: Path) -> Path:
    """Take members by their last name out of a verified tar into a folder, whole or not at all."""
    verify(archive, archive.read_bytes(), checksum)
    place.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        held = {Path(m.name).name: m for m in tar.getmembers() if m.isfile()}
        for name in members:
            opened = tar.extractfile(held[name])
            assert opened is not None
            write(place / name, opened.read())
    return place
