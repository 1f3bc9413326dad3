"""Check a built site: links and anchors, alternative texts, and that no page asks the network.

External links are collected, and never fetched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself: element -> attributes.
_LOADED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "video": ("src", "poster"),
}
_LOADED_RELATIONS = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "preconnect"}
_OUTSIDE = re.compile(r"^(?:https?:|wss?:)?//", re.I)
_CSS_ADDRESS = re.compile(r"""(?:url\(\s*|@import\s+)["']?\s*((?:https?:)?//[^"')\s]+)""", re.I)


@dataclass
class LinkCheck:
    """What was found. `problems` has one line for each thing that is wrong."""

    pages: int = 0
    internal: int = 0
    external: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class PageReader(HTMLParser):
    """Reads one page: its ids, what it links to, what it loads, which images lack a text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.without_alt: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        have = {name: value or "" for name, value in attrs}
        self.ids.update(have[name] for name in ("id", "name") if name in have)
        if tag in ("a", "area") and "href" in have:
            self.links.append(have["href"])
        if tag == "link" and _LOADED_RELATIONS & set(have.get("rel", "").lower().split()):
            self.loaded.append(have.get("href", ""))
        for name in _LOADED.get(tag, ()):
            if name in have:
                self.loaded += (
                    re.split(r"\s*,\s*", have[name]) if name == "srcset" else [have[name]]
                )
        if tag == "img" and not have.get("alt", "").strip():
            self.without_alt.append(have.get("src", "")[:80])
        self.loaded += _CSS_ADDRESS.findall(have.get("style", ""))
        self._in_style = tag == "style"
        if tag == "iframe" and "srcdoc" in have:
            inner = PageReader()
            inner.feed(have["srcdoc"])
            self.loaded += inner.loaded
            self.without_alt += inner.without_alt

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loaded += _CSS_ADDRESS.findall(data)


def check_site(site: Path) -> LinkCheck:
    """Read all pages and styles below a folder."""
    readers: dict[Path, PageReader] = {}
    for path in sorted(site.rglob("*.html")):
        readers[path] = PageReader()
        readers[path].feed(path.read_text("utf8"))
    found = LinkCheck(pages=len(readers))
    external: set[str] = set()
    for path, reader in readers.items():
        name = path.relative_to(site).as_posix()
        found.problems += [f"{name}: no alternative text: {src}" for src in reader.without_alt]
        for address in reader.loaded:
            if _OUTSIDE.match(address):
                found.problems.append(f"{name}: loads {address} from the network")
            elif problem := _broken(address, path, site, readers):
                found.problems.append(f"{name}: loads {address!r}: {problem}")
        for link in reader.links:
            if urlsplit(link).scheme or _OUTSIDE.match(link):
                external.add(link)
                continue
            found.internal += 1
            if problem := _broken(link, path, site, readers):
                found.problems.append(f"{name}: links to {link!r}: {problem}")
    for path in sorted(site.rglob("*.css")):
        for address in _CSS_ADDRESS.findall(path.read_text("utf8")):
            name = path.relative_to(site).as_posix()
            found.problems.append(f"{name}: loads {address} from the network")
    found.external = sorted(external)
    return found


def _broken(link: str, page: Path, site: Path, readers: dict[Path, PageReader]) -> str:
    """What is wrong with a link inside the site; "" if nothing is."""
    parts = urlsplit(link)
    if parts.scheme == "data":
        return ""
    target = page
    if parts.path:
        target = (page.parent / unquote(parts.path)).resolve()
        if not target.is_relative_to(site.resolve()):
            return "leads out of the site"
        if not target.is_file():
            return "there is no such file"
    if parts.fragment and target.suffix == ".html":
        reader = readers.get(target) or readers.get(site / target.relative_to(site.resolve()))
        if reader is None or unquote(parts.fragment) not in reader.ids:
            return "there is no such anchor"
    return ""
