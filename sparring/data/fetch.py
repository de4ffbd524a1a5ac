"""Where a named set's files are: `$SPARRING_DATA`, then the cache, then a download with progress and checksum."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Remote:
    """A file of a named set: its name, where it may be had, and its checksum as `"md5:…"` or `"sha256:…"`."""

    file: str
    url: str
    checksum: str


def cache() -> Path:
    """The folder downloads are kept in."""
    import pooch

    return Path(pooch.os_cache("sparring"))


def roots(name: str, aliases: tuple[str, ...], root: str | Path | None) -> list[Path]:
    """Folders that may hold a set, in the order they are looked at."""
    given = root or os.environ.get("SPARRING_DATA")
    spelled = (name, *aliases)
    places = [Path(given) / s for s in spelled] + [Path(given)] if given else []
    return places + [cache() / s for s in spelled]


def find(places: list[Path], *names: str) -> Path | None:
    """The first of the places that holds every one of the names."""
    return next((p for p in places if all((p / n).exists() for n in names)), None)


def verify(path: Path, checksum: str) -> None:
    """Raise `ValueError` unless the file has the checksum."""
    kind, expected = checksum.split(":")
    found = hashlib.new(kind, path.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(
            f"{path.name} has {kind} {found}, expected {expected}: it is damaged or another file; delete {path} and try again"
        )


def download(name: str, remotes: list[Remote]) -> Path:
    """Fetch the files of a set into the cache; returns their folder.

    Raises:
        FileNotFoundError: if they cannot be had; it says which files to put where.
    """
    import pooch

    place = cache() / name
    for remote in remotes:
        try:
            pooch.retrieve(
                remote.url, known_hash=remote.checksum, fname=remote.file, path=place, progressbar=_progress()
            )
        except ValueError as error:
            raise ValueError(f"{remote.file}: the download does not match its checksum ({error})") from None
        except Exception as error:
            files = "\n  ".join(r.file for r in remotes)
            raise FileNotFoundError(
                f"data set {name!r} is not on this machine and could not be downloaded ({type(error).__name__}). "
                f"Set SPARRING_DATA to a folder with {name}/ in it, or put these files into {place}:\n  {files}"
            ) from None
    return place


def _progress() -> bool:
    try:
        import tqdm  # noqa: F401
    except ImportError:
        return False
    return True
