"""Check the built site: its links and anchors, that no host is asked, and that search is whole.

Usage: python -m scripts.docs_hooks.check_site site
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"src", "srcset", "poster", "data", "background"}  # attributes that load what they name
ADDRESS = re.compile(r"https?://[\w.-]+|(?<=[\"'(`])//[\w-]+(?:\.[\w-]+)+")
HARMLESS = ("http://www.w3.org/",)  # names of XML, which nothing fetches
COMMENT = re.compile(r"/\*.*?\*/|(?:<|\\3c )!--.*?--|^\s*//.*?$", re.DOTALL | re.MULTILINE)
WORDS = ("MART", "AutoAttack", "sparring train")  # that a search must find


class Page(HTMLParser):
    """Collect what a page links to, what it loads, and the anchors it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.without_alt: list[str] = []
        self._in_code = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.anchors |= {values[key] for key in ("id", "name") if key in values}
        self.loads += [values[key] for key in FETCHED & values.keys()]
        if tag == "link":
            self.loads.append(values.get("href", ""))
        elif "href" in values:
            self.links.append(values["href"])
        if tag == "img" and not values.get("alt", "").strip():
            self.without_alt.append(values.get("src", "")[:80])
        self.loads += re.findall(r"url\(['\"]?([^'\")]+)", values.get("style", ""))
        self._in_code = tag if tag in ("script", "style") else ""

    def handle_data(self, data: str) -> None:
        if self._in_code:
            self.loads += addresses(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_code = ""


def addresses(code: str) -> list[str]:
    """Return the addresses of hosts in a script or style, outside of comments.

    >>> addresses("/* https://a.org */ fetch('https://b.org/x'); '//c.org'")
    ['https://b.org', '//c.org']
    """
    bare = COMMENT.sub("", code)
    for name in HARMLESS:
        bare = bare.replace(name, "")
    return ADDRESS.findall(bare)


def problems(site: Path) -> list[str]:
    """Return a line per fault of the site."""
    pages = {
        path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }
    faults = []
    for name, page in pages.items():
        faults += [f"{name}: {link} leads nowhere" for link in _dead(site, name, page, pages)]
        faults += [f"{name}: loads {at} from a host" for at in page.loads if _is_remote(at)]
        faults += [f"{name}: a picture without words, {src}" for src in page.without_alt]
    for path in sorted(p for p in site.rglob("*") if p.suffix in (".js", ".css")):
        if path.parent.name != "search":
            faults += [
                f"{path.relative_to(site)}: names the host {at}"
                for at in addresses(path.read_text(encoding="utf-8"))
            ]
    return faults + _search_faults(site, set(pages))


def _dead(site: Path, name: str, page: Page, pages: dict[str, Page]) -> Iterator[str]:
    """Yield the links and loads of a page that name no file or anchor of the site."""
    for link in (*page.links, *page.loads):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        if link.startswith("/"):
            yield link
            continue
        target = (site / name).parent / unquote(parts.path) if parts.path else site / name
        if not target.is_file():
            yield link
            continue
        inside = target.resolve().relative_to(site.resolve()).as_posix()
        known = pages[inside].anchors if inside in pages else {unquote(parts.fragment)}
        if parts.fragment and unquote(parts.fragment) not in known | {"__top"}:
            yield link


def _is_remote(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in ("http", "https") or bool(parts.netloc)


def _search_faults(site: Path, pages: set[str]) -> list[str]:
    """Return what the search index lacks: pages, or words that it must find."""
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].partition("#")[0] or "index.html" for entry in index["docs"]}
    text = " ".join(f"{entry['title']} {entry['text']}" for entry in index["docs"])
    lost = [f"{page}: not in the search index" for page in sorted(pages - found)]
    return lost + [f"search: no page has {word!r}" for word in WORDS if word not in text]


def main() -> None:
    """Print the faults of the site; exit with 1 if there are some."""
    site = Path(sys.argv[1] if len(sys.argv) > 1 else "site")
    faults = problems(site)
    size = sum(p.stat().st_size for p in site.rglob("*") if p.is_file()) / 1e6
    count = len(list(site.rglob("*.html")))
    print("\n".join(faults) or f"{site}: {count} pages, {size:.1f} MB, no fault")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
