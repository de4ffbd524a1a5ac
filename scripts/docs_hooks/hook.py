"""The events of MkDocs: generated pages, their order, links out of docs/, nothing from a host."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # MkDocs loads this file by its path

from scripts.docs_hooks import (  # noqa: E402
    api,
    commands,
    links,
    navigation,
    notebook,
    pieces,
    recipe_keys,
    recipes,
)

HOSTS = re.compile(r"https://(?:unpkg\.com|api\.github\.com|bit\.ly)[\w./@-]*")
GENERATORS = (api, commands, pieces, recipe_keys, recipes)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show the version below every page; leave out the 404 page, whose links need a server."""
    import sparring

    config.copyright = f"sparring {sparring.__version__} · Apache-2.0"
    config.extra["version"] = sparring.__version__
    config.theme.static_templates.discard("404.html")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and order all of them."""
    pages = {uri: text for generator in GENERATORS for uri, text in generator.pages(ROOT).items()}
    pages |= notebook.pages(ROOT)
    for file, uri in links.ROOT_PAGES.items():
        if uri.startswith("reference/"):
            pages[uri] = (ROOT / file).read_text(encoding="utf-8")
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    for path in _linked_files(files):
        files.append(
            File.generated(config, f"{links.SOURCE}/{path}", abs_src_path=str(ROOT / path))
        )
    sources = [file.src_uri for file in files.documentation_pages()]
    config.nav = navigation.navigation(s for s in sources if not s.startswith(links.SOURCE))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files of the repository to their place in the site; open the first page."""
    uri = page.file.src_uri
    if uri == "index.md":
        page.meta["hide"] = ["navigation", "toc"]
        version = f"Version {config.extra['version']} · [what changed](../CHANGELOG.md)"
        markdown = markdown.replace("\n\n", f"\n\n{version}\n\n", 1)
    return links.rewritten(markdown, uri, _origin(uri), _kind)


def on_post_page(output: str, *, page: Any, config: MkDocsConfig) -> str:
    """Name the search for readers of screens: the theme leaves its dialog without a name."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"', 1)


def on_post_build(config: MkDocsConfig) -> None:
    """Remove addresses of hosts that the theme asks for optional scripts, and what is not used."""
    site = Path(config.site_dir)
    shutil.rmtree(site / "assets" / "javascripts" / "lunr", ignore_errors=True)  # other languages
    for script in site.glob("assets/javascripts/**/*.js"):
        text = HOSTS.sub("", script.read_text(encoding="utf-8"))
        script.write_text(re.sub(r"//# sourceMappingURL=\S+", "", text), encoding="utf-8")
    for style in site.glob("assets/stylesheets/*.css"):
        text = style.read_text(encoding="utf-8")
        style.write_text(re.sub(r"/\*# sourceMappingURL=\S+ \*/", "", text), encoding="utf-8")
    for unused in (*site.glob("assets/**/*.map"), site / "sitemap.xml.gz", site / "sitemap.xml"):
        unused.unlink(missing_ok=True)


def _origin(uri: str) -> str:
    """Return the path in the repository of a page's text."""
    copies = {page: file for file, page in links.ROOT_PAGES.items() if page != "index.md"}
    return copies.get(uri, f"docs/{uri}")


def _kind(path: str) -> str:
    """Return what a path of the repository is, for `links.rewritten`."""
    if (ROOT / path).is_file():
        return "file"
    return "folder" if (ROOT / path).is_dir() else ""


def _linked_files(files: Files) -> list[str]:
    """Return the files of the repository, outside docs/, that pages link to."""
    linked: set[str] = set()

    def remember(path: str) -> str:
        if _kind(path) == "file":
            linked.add(path)
        return _kind(path)

    for file in files.documentation_pages():
        links.rewritten(file.content_string, file.src_uri, _origin(file.src_uri), remember)
    return sorted(linked)
