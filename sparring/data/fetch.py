"""Find the files of a named set: in `$SPARRING_DATA`, the cache, or a verified download."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runtime.files import write
from . import limits
from .readers import require_package, verify


@dataclass(frozen=True)
class Remote:
    """Describe a file of a set: its name, checksum (`"md5:…"` or `"sha256:…"`) and addresses."""

    file: str
    checksum: str
    urls: tuple[str, ...]


def cache_folder() -> Path:
    """Return the folder of downloads."""
    return Path(require_package("pooch", "pooch").os_cache("sparring"))


def normalized(name: str) -> str:
    """Return a name without case and punctuation: `CIFAR-10`, `cifar_10` and `cifar10` are one.

    >>> normalized("CIFAR-10")
    'cifar10'
    """
    return "".join(c for c in name.lower() if c.isalnum())


def candidate_folders(name: str, root: str | Path | None, inner: Sequence[str] = ()) -> list[Path]:
    """Return the folders that may hold a set, in the order of search.

    Arguments:
        root: searched before the cache; default: `$SPARRING_DATA`.
        inner: folders that the set's archives unpack to.

    Raises:
        FileNotFoundError: if `root` or `$SPARRING_DATA` is not a folder.
    """
    given = root or os.environ.get("SPARRING_DATA")
    first = [Path(given).expanduser()] if given else []
    if first and not first[0].is_dir():
        key = "root" if root else "SPARRING_DATA"
        raise FileNotFoundError(f"{key} = {str(given)!r} is not a folder")
    folders = []
    for top in [*first, cache_folder()]:
        within = sorted(p for p in top.iterdir() if p.is_dir()) if top.is_dir() else []
        named = [p for p in within if normalized(p.name) == normalized(name)]
        # a root passed by hand may be the set's folder; elsewhere loose files may be another set's
        tops = [*named, top] if root and top != cache_folder() else named
        folders += [p for t in tops for p in (t, *(t / i for i in inner))]
        folders += [top / i for i in inner]
    return list(dict.fromkeys(p for p in folders if p.is_dir()))


def download(name: str, remotes: Sequence[Remote]) -> Path:
    """Download the files of a set into the cache; return their folder.

    Raises:
        FileNotFoundError: if a download fails; the message says which files to put where.
        ValueError: if a downloaded file has another checksum.
    """
    folder = cache_folder() / name
    for remote in remotes:
        _retrieve(name, remote, folder, remotes)
    return folder


def _retrieve(name: str, remote: Remote, folder: Path, remotes: Sequence[Remote]) -> None:
    pooch, failures = require_package("pooch", "pooch"), []
    for url in remote.urls:
        bar = _DownloadBar(remote.file)
        try:
            pooch.retrieve(url, remote.checksum, remote.file, folder, progressbar=bar)
            return
        except Exception as error:  # each protocol raises its own; the next address may work
            # its frames hold the connection, which pooch leaves open after an error
            failures.append(error.with_traceback(None))
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
        f"data set {name!r} is not on this machine and can't be downloaded ({why}).\nPut these "
        f"files into {folder},\nor into {name}/ in a folder named by SPARRING_DATA:{files}"
    )


class _DownloadBar:
    """A progress bar with pooch's interface, drawn by rich from the first byte on.

    It also ends a download above `limits.max_bytes()`: pooch lets it see each part, and has no
    limit.
    """

    def __init__(self, file: str) -> None:
        self.file, self.received, self._total = file, 0, 0
        self.shown: Any = None

    @property
    def total(self) -> int:
        """The bytes that the server announces, or 0."""
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        limits.check_bytes(f"the download {self.file}", total)
        self._total = total

    def update(self, amount: int) -> None:
        self.received += amount
        limits.check_bytes(f"the download {self.file}", self.received)
        if self.shown is None:
            rich = require_package("rich.progress", "rich")
            console = require_package("rich.console", "rich").Console(stderr=True)
            columns = ("{task.description}", rich.BarColumn(), rich.DownloadColumn())
            speed = (rich.TransferSpeedColumn(), rich.TimeRemainingColumn())
            self.shown = rich.Progress(*columns, *speed, console=console)
            self.task = self.shown.add_task(self.file, total=self.total or None)
            self.shown.start()
        self.shown.update(self.task, advance=amount)

    def reset(self) -> None:
        self.received = 0
        if self.shown is not None:
            self.shown.update(self.task, completed=0)

    def close(self) -> None:
        if self.shown is not None:
            self.shown.stop()


def unpack(archive: Path, checksum: str, members: Sequence[str], folder: Path) -> None:
    """Extract members of a verified tar, by their file name, into a folder.

    Raises:
        ValueError: for an archive that is damaged or another, that unpacks to more than
            `limits.max_bytes()`, or that lacks a member as a regular file.
    """
    content = limits.read(archive)
    verify(archive, content, checksum)
    if content[:2] == b"\x1f\x8b":
        content = limits.gunzip(archive, content)
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            # by file name alone: a path in the archive cannot lead out of the folder
            entries = {Path(m.name).name: m for m in tar.getmembers() if m.isfile()}
            for name in members:
                if name not in entries:
                    raise ValueError(f"it has no file {name}")
                # a sparse member may be larger than its archive
                limits.check_bytes(f"its member {name}", entries[name].size)
                opened = tar.extractfile(entries[name])
                assert opened is not None  # it is a file
                folder.mkdir(parents=True, exist_ok=True)
                write(folder / name, opened.read())
    except (tarfile.TarError, ValueError) as error:
        raise ValueError(f"{archive} can't be unpacked: {error}") from None
