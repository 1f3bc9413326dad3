"""Pages of the website: the repository's notebooks and documents, made ready for Sphinx.

The pages lie as the files do in the repository (`notebooks/01_attention.ipynb` becomes
`notebooks/01_attention.html`), so links between them hold. A link to a file that is no page leads
to the repository on GitHub.
"""

from __future__ import annotations

import base64
import html
import posixpath
import re
import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from nbformat import NotebookNode, v4

from tools.website.widgets import note, script_name, widget_class

# Code is left alone; then a link's or an image's target.
_LINK = re.compile(r"(```.*?```|`[^`\n]*`)|(?<=\]\()([^()\s]+)(?=\))", re.S)
_HREF = re.compile(r"""(?<=\shref=")([^"]+)(?=")""")


class LinkError(ValueError):
    """A link in the repository leads to nothing."""


@dataclass(frozen=True)
class Links:
    """Where links lead.

    Args:
        root: the repository's folder.
        repository: its address on GitHub.
        pages: repository paths of the files that are pages, such as "notebooks/01_attention.ipynb".
        pictures: collects the repository paths of pictures that pages show.
    """

    root: Path
    repository: str
    pages: Collection[str]
    pictures: set[str] = field(default_factory=set)

    def target(self, link: str, folder: str) -> str:
        """The same link, as the page must write it.

        Args:
            link: as it stands in a file of `folder`.
            folder: repository path of the folder, "" for the root.

        Raises:
            LinkError: the repository has no such file.
        """
        if link.startswith("#") or re.match(r"[a-z][a-z0-9+.-]*:", link):
            return link
        path = posixpath.normpath(posixpath.join(folder, unquote(link.partition("#")[0])))
        if path in self.pages:
            return link
        place = self.root / path
        if place.suffix in (".png", ".jpg", ".svg") and place.is_file():
            self.pictures.add(path)
            return link
        if path.startswith("..") or not place.exists():
            raise LinkError(f"{folder or 'the root'}: {link!r} leads to no file of the repository")
        return f"{self.repository}/{'tree' if place.is_dir() else 'blob'}/main/{path}"

    def markdown(self, text: str, folder: str) -> str:
        """A Markdown text with its links made right."""
        return _LINK.sub(lambda m: m[1] or self.target(m[2], folder), text)

    def html(self, text: str, folder: str) -> str:
        """A piece of HTML with its links made right; pages are meant as they will be called."""
        return _HREF.sub(lambda m: as_page(self.target(m[1], folder)), text)


def as_page(link: str) -> str:
    """A relative link to a notebook or document as a link to its page."""
    if re.match(r"[a-z][a-z0-9+.-]*:", link):
        return link
    path, mark, anchor = link.partition("#")
    return re.sub(r"\.(ipynb|md)$", ".html", path) + mark + anchor


@dataclass
class NotebookPage:
    """A stored notebook on its way to a page.

    Args:
        nb: the notebook; it is changed.
        name: its path without ending, such as "notebooks/01_attention".
        links: where its links lead.
        states: the states of its widgets (see zoo_lessons.lab.widgets.states).
        static: the site's folder of static files, which takes the pictures.
    """

    nb: NotebookNode
    name: str
    links: Links
    states: list[dict[str, Any]]
    static: Path
    used: list[dict[str, Any]] = field(default_factory=list)  # states that found their output
    pictures: int = 0

    def convert(self) -> NotebookNode:
        """The notebook as the site shows it."""
        for index, cell in enumerate(self.nb.cells):
            if cell.cell_type == "markdown":
                cell.source = self.links.markdown(cell.source, self.folder)
                continue
            if "setup" in cell.metadata.get("tags", []):
                cell.metadata["tags"] = [*cell.metadata["tags"], "hide-cell"]
            cell.outputs = [self._output(output, index) for output in cell.outputs]
        return self.nb

    @property
    def folder(self) -> str:
        return posixpath.dirname(self.name)

    @property
    def slug(self) -> str:
        return posixpath.basename(self.name)

    def static_link(self, path: str) -> str:
        """Link from this page to one of the static files."""
        return "../" * self.name.count("/") + f"_static/{path}"

    def _output(self, output: NotebookNode, cell: int) -> NotebookNode:
        data = output.get("data")
        if data is None:
            return output
        state = self._state(cell, data.get("text/plain", ""))
        if state is not None:
            return _as_html(self._widget(state, self._still(output)))
        if "image/png" in data:
            return _as_html(self._picture(output))
        if "text/html" in data:
            return _as_html(self._scrolling(self.links.html(data["text/html"], self.folder)))
        if "text/markdown" in data:
            data["text/markdown"] = self.links.markdown(data["text/markdown"], self.folder)
        return output

    def _state(self, cell: int, text: str) -> dict[str, Any] | None:
        for state in self.states:
            if state["cell"] == cell and state["text"] == text and state not in self.used:
                return state
        return None

    def _still(self, output: NotebookNode) -> str:
        if "image/png" in output.data:
            return self._picture(output)
        return (
            output.data.get("text/html") or f"<pre>{html.escape(output.data['text/plain'])}</pre>"
        )

    def _widget(self, state: dict[str, Any], still: str) -> str:
        index = len(self.used)
        self.used.append(state)
        return widget_place(state, self.slug, index, still)

    def _picture(self, output: NotebookNode) -> str:
        """The output's PNG as a file of its own, with its alternative text and its size."""
        png = base64.b64decode(output.data["image/png"])
        alt = output.metadata.get("image/png", {}).get("alt") or output.data["text/plain"]
        name = f"figures/{self.slug}-{self.pictures:02d}.png"
        self.pictures += 1
        path = self.static / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)
        width, height = struct.unpack(">II", png[16:24])
        return (
            f'<div class="site-figure"><img src="{self.static_link(name)}" '
            f'alt="{html.escape(alt)}" width="{width}" height="{height}" loading="lazy"></div>'
        )

    @staticmethod
    def _scrolling(text: str) -> str:
        text = re.sub(r"(?=<table\b)", '<div class="site-scroll">', text)
        return text.replace("</table>", "</table></div>")


def widget_place(state: dict[str, Any], page: str, index: int, still: str) -> str:
    """Where site.js draws a widget, with the picture that stands there until it has.

    Args:
        state: the widget's state.
        page: name of the states script.
        index: which of its states this is.
        still: HTML to be seen without JavaScript.
    """
    remark = note(state)
    return (
        f'<div class="site-widget" data-widget="{script_name(widget_class(state["widget"]))}" '
        f'data-states="{page}" data-index="{index}">'
        f'<div class="site-widget-still">{still}</div></div>'
        + (f'<p class="site-note">{html.escape(remark)}</p>' if remark else "")
    )


def _as_html(text: str) -> NotebookNode:
    return v4.new_output("display_data", data={"text/html": text})
