"""The parts that make the website, and what must be true of the site that `make site` built."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from nbformat import v4

from tools.website import build
from tools.website.build import EXTERNAL_LINKS, SITE, Website
from tools.website.docstrings import as_rst
from tools.website.links import LinkCheck, check_site
from tools.website.pages import LinkError, Links, NotebookPage, as_page
from tools.website.widgets import note, states_script, widget_class, widget_script, write_scripts
from zoo_lessons.lab import widgets as course_widgets
from zoo_lessons.lab.widgets.base import ZooWidget, png_bytes
from zoo_lessons.lab.widgets.mask_explorer import MaskExplorer
from zoo_lessons.lab.widgets.states import read_states, states_path

MASK = {"cell": 0, "text": "a mask", "widget": f"{MaskExplorer.__module__}.MaskExplorer"}


# The library's reference


@pytest.mark.parametrize("installed", [True, False])
def test_a_module_whose_package_is_not_installed_is_named(monkeypatch, installed: bool) -> None:
    monkeypatch.setattr(build, "find_spec", lambda name: "a package" if installed else None)
    pages = dict(build.api_pages(build.ROOT / "zoo_lessons"))
    shown = "automodule:: zoo_lessons.deploy.triton_kernels" in pages["api/deploy.md"]
    assert shown == installed
    assert ("This module needs `triton`" in pages["api/deploy.md"]) == (not installed)


# Links


def write_site(folder: Path, **pages: str) -> LinkCheck:
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(f"<html><body>{body}</body></html>", "utf8")
    return check_site(folder)


def test_sound_pages_have_no_problems(tmp_path: Path) -> None:
    (tmp_path / "figure.png").write_bytes(b"")
    found = write_site(
        tmp_path,
        first='<a href="second.html#Größe">on</a> <img src="figure.png" alt="a figure">',
        second='<h2 id="Größe">x</h2><a href="first.html">back</a> <a href="#Größe">here</a>'
        '<a href="https://example.org/b">out</a><a href="https://example.org/a">out</a>',
    )
    assert found == LinkCheck(2, 3, ["https://example.org/a", "https://example.org/b"], [])


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="none.html">x</a>', "page.html: links to 'none.html': there is no such file"),
        ('<a href="#no">x</a>', "page.html: links to '#no': there is no such anchor"),
        ('<a href="page.html#no">x</a>', "page.html: links to 'page.html#no': there is no such"),
        ('<a href="../page.html">x</a>', "page.html: links to '../page.html': leads out of"),
        ('<img src="none.png" alt="x">', "page.html: loads 'none.png': there is no such file"),
        ('<img src="data:,">', "page.html: no alternative text: data:,"),
        ('<img src="data:," alt=" ">', "page.html: no alternative text: data:,"),
        ('<script src="https://cdn.org/x.js"></script>', "loads https://cdn.org/x.js from the"),
        ('<script src="//cdn.org/x.js"></script>', "loads //cdn.org/x.js from the network"),
        ('<link rel="stylesheet" href="https://cdn.org/x.css">', "loads https://cdn.org/x.css"),
        ('<img srcset="https://cdn.org/x.png 2x" alt="x">', "loads https://cdn.org/x.png 2x"),
        ("<style>@import 'https://cdn.org/x.css';</style>", "loads https://cdn.org/x.css"),
        ('<p style="background:url(https://cdn.org/x.png)">', "loads https://cdn.org/x.png"),
        (
            '<iframe srcdoc="&lt;script src=&quot;https://cdn.org/x.js&quot;&gt;"></iframe>',
            "loads https://cdn.org/x.js from the network",
        ),
    ],
)
def test_broken_pages_are_found(tmp_path: Path, body: str, problem: str) -> None:
    (found,) = write_site(tmp_path, page=body).problems
    assert problem in found


def test_style_files_must_not_ask_the_network(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@font-face { src: url('https://fonts.org/x.woff2') }", "utf8")
    assert check_site(tmp_path).problems == [
        "a.css: loads https://fonts.org/x.woff2 from the network"
    ]


# Pages


@pytest.fixture
def links(tmp_path: Path) -> Links:
    for name in ("notebooks/01.ipynb", "notebooks/02.ipynb", "code.py", "picture.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    return Links(
        tmp_path, "https://host.org/us/course", {"notebooks/01.ipynb", "notebooks/02.ipynb"}
    )


def test_links_lead_to_pages_to_pictures_and_else_to_the_repository(links: Links) -> None:
    text = (
        "[a](02.ipynb#What-it-costs) [b](../code.py) "
        "![c](../picture.png) [d](https://x.org) [e](..)"
    )
    assert links.markdown(text, "notebooks") == (
        "[a](02.ipynb#What-it-costs) [b](https://host.org/us/course/blob/main/code.py) "
        "![c](../picture.png) [d](https://x.org) [e](https://host.org/us/course/tree/main/.)"
    )
    assert links.pictures == {"picture.png"}
    code = "`layer[0](x)` and\n```\nblocks[0](none.md)\n```"
    assert links.markdown(code, "notebooks") == code
    with pytest.raises(LinkError, match="'03.ipynb' leads to no file"):
        links.markdown("[x](03.ipynb)", "notebooks")
    assert links.html('<a href="02.ipynb#x">y</a>', "notebooks") == '<a href="02.html#x">y</a>'


def test_page_links_keep_anchors_and_leave_other_addresses() -> None:
    assert as_page("solutions/01.ipynb#a.ipynb") == "solutions/01.html#a.ipynb"
    assert as_page("https://x.org/01.ipynb") == "https://x.org/01.ipynb"


def test_a_notebook_becomes_a_page(links: Links, tmp_path: Path) -> None:
    png = base64.b64encode(png_bytes(np.zeros((4, 6, 3), np.uint8))).decode()
    shown = {
        "a widget": {"text/plain": "a mask", "image/png": png},
        "a figure": {"text/plain": "a <line>", "image/png": png},
        "a table": {
            "text/plain": "",
            "text/html": '<table><tr><td><a href="02.ipynb">2</a></table>',
        },
    }
    outputs = [v4.new_output("display_data", data=data) for data in shown.values()]
    outputs.append(v4.new_output("stream", text="printed"))
    setup = v4.new_code_cell("import os", metadata={"tags": ["setup"]})
    nb = v4.new_notebook(cells=[v4.new_code_cell("show()", outputs=outputs), setup])
    state = {**MASK, "traits": {}}
    page = NotebookPage(nb, "notebooks/01", links, [state], tmp_path / "static")
    cells = page.convert().cells
    widget, figure, table, stream = cells[0].outputs
    assert page.used == [state]
    assert 'data-widget="mask_explorer" data-states="01" data-index="0"' in widget.data["text/html"]
    assert 'alt="a mask"' in widget.data["text/html"], "the picture stays for pages without scripts"
    found = re.search(
        r'<img src="\.\./_static/(\S+)" alt="(.*?)" width="6" height="4"', figure.data["text/html"]
    )
    assert found and found[2] == "a &lt;line&gt;"
    assert (tmp_path / "static" / found[1]).read_bytes() == base64.b64decode(png)
    assert table.data["text/html"].startswith('<div class="site-scroll"><table>')
    assert 'href="02.html"' in table.data["text/html"]
    assert stream.text == "printed"
    assert cells[1].metadata["tags"] == ["setup", "hide-cell"]


# Widgets


def widget_classes() -> list[type[ZooWidget]]:
    exported = [getattr(course_widgets, name) for name in course_widgets.__all__]
    return [cls for cls in exported if isinstance(cls, type) and cls.__dict__.get("_esm")]


@pytest.mark.parametrize("cls", widget_classes(), ids=lambda cls: cls.__name__)
def test_every_widget_becomes_a_plain_script(cls: type[ZooWidget]) -> None:
    script = widget_script(cls)
    assert not re.search(r"^\s*(import|export)\b", script, re.M)
    assert json.dumps(cls._css, separators=(",", ":")) in script


def test_a_widget_that_imports_is_refused() -> None:
    class Importing(ZooWidget):
        _esm = 'import x from "x";\nfunction render() {}\nexport default { render };'
        _css = ""

    with pytest.raises(ValueError, match="Importing's script must import nothing"):
        widget_script(Importing)


def test_states_lead_to_pages() -> None:
    entry = {**MASK, "traits": {"lessons": [{"file": "01_attention.ipynb"}], "text": "see x.ipynb"}}
    traits = [{"lessons": [{"file": "01_attention.html"}], "text": "see x.ipynb"}]
    assert json.loads(states_script("01", [entry])[len('zooSite.states("01",') :][:-3]) == traits


def test_scripts_are_written_once_per_widget(tmp_path: Path) -> None:
    entry = {**MASK, "traits": {}}
    write_scripts(tmp_path, {"01": [entry, entry], "02": [entry]})
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.js"))
    assert files == ["widgets/mask_explorer.js", "widgets/states/01.js", "widgets/states/02.js"]


def test_notes_say_what_needs_python() -> None:
    explorer = "zoo_lessons.lab.widgets.attention_explorer.AttentionExplorer"
    assert "notebook" in note({"widget": explorer, "traits": {"_has_text_box": True}})
    assert note({"widget": explorer, "traits": {"_has_text_box": False}}) == ""
    assert note({**MASK, "traits": {}}) == ""
    with pytest.raises(TypeError, match="is no widget"):
        widget_class("zoo_lessons.lab.widgets.base.png_bytes")


# Docstrings


def test_docstrings_become_restructuredtext() -> None:
    text = """\
The loss |x̂ - x|, with `a | b` as code.

| | paper | here |
|---|---|---|
| bias | `y` | none |

Kinds:
    "word": one colour
        or two.
    "count": three.

One of
- first
- second

Args:
    x: a tensor. One of
        - a
          b
        - c
    y: another.
"""
    assert (
        "\n".join(as_rst(text.splitlines()))
        == """\
The loss \\|x̂ - x\\|, with `a | b` as code.


.. list-table::
   :header-rows: 1

   * -
     - paper
     - here
   * - bias
     - `y`
     - none


Kinds:

- ``"word"``: one colour
  or two.
- ``"count"``: three.


One of

- first
- second

Args:
    x: a tensor. One of

        - a
          b
        - c
    y: another."""
    )


def test_fields_flush_with_the_text_are_a_list_but_prose_is_not() -> None:
    fields = ["Sounds.", "", "waves: float32 (n, 4000),", "    one second.", "labels: int64 (n,)."]
    assert as_rst(fields)[3:6] == [
        "- ``waves``: float32 (n, 4000),",
        "  one second.",
        "- ``labels``: int64 (n,).",
    ]
    prose = ["Layers.", "", "note: the words before a colon", "may begin a paragraph of prose."]
    assert as_rst(prose) == prose


# The built site


@pytest.fixture(scope="module")
def site() -> Path:
    if not (SITE / EXTERNAL_LINKS).is_file():
        missing = "the website is not built: run make site"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return SITE


def test_the_built_site_is_whole(site: Path) -> None:
    found = check_site(site)
    assert found.problems == []
    assert found.pages > 60 and found.internal > 3000
    assert (site / EXTERNAL_LINKS).read_text("utf8").splitlines() == found.external
    assert any(link.startswith("https://colab.research.google.com/") for link in found.external)
    website = Website()
    for path in [*website.notebooks(), *website.documents()]:
        assert (site / as_page(path)).is_file(), path


def test_every_lesson_shows_its_widgets_alive(site: Path) -> None:
    """A live place for each recorded widget; and each lesson records at least its quiz."""
    website = Website()
    for lesson in website.lessons():
        recorded = read_states(states_path(website.root, lesson.slug))["widgets"]
        assert any(entry["widget"].endswith(".Quiz") for entry in recorded), lesson.slug
        page = (site / "notebooks" / f"{lesson.slug}.html").read_text("utf8")
        assert page.count('class="site-widget"') == len(recorded), lesson.slug
