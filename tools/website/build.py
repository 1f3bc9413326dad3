"""Build the website: collect the pages in build/site-source, let Sphinx write build/site.

The repository stays as it is. Lessons are shown as they are stored; nothing is executed.
"""

from __future__ import annotations

import shutil
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat

from tools.website.links import LinkCheck, check_site
from tools.website.pages import LinkError, Links, NotebookPage, widget_place
from tools.website.widgets import write_scripts
from zoo_lessons.lab import tables
from zoo_lessons.lab.curriculum import LESSONS, PARTS, Lesson
from zoo_lessons.lab.widgets.states import read_states, states_path
from zoo_lessons.lab.widgets.zoo_map import ZooMap

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "build" / "site-source"
SITE = ROOT / "build" / "site"
EXTERNAL_LINKS = "external-links.txt"

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md")
GLOSSARY = "notebooks/glossary.md"
SOLUTIONS = "notebooks/solutions/index.md"
GUIDE = "docs/instructors.md"
# The library's packages in the order in which one thing builds on the other.
PACKAGES = {
    "layers": "the parts that models are made of",
    "models": "the zoo",
    "training": "training",
    "deploy": "smaller, faster, served",
    "datasets": "the small worlds that models learn from",
    "lab": "what lessons teach with",
}
# Modules that import what the lessons do without.
OPTIONAL = {"zoo_lessons.deploy.triton_kernels": "triton"}


class SiteError(Exception):
    """The site cannot be built; the message says why."""


class Website:
    """One build of the site.

    Args:
        root: the repository's folder.
        source: folder for what Sphinx reads; emptied first.
        site: folder for the pages; emptied first.
    """

    def __init__(self, root: Path = ROOT, source: Path = SOURCE, site: Path = SITE) -> None:
        self.root, self.source, self.site = root, source, site
        project = tomllib.loads((root / "pyproject.toml").read_text("utf8"))["project"]
        repository = project["urls"]["repository"].rstrip("/")
        pages = {*self.notebooks(), *self.documents(), GLOSSARY, SOLUTIONS}
        self.links = Links(root, repository, pages)
        self.states: dict[str, list[dict[str, Any]]] = {}

    def build(self) -> LinkCheck:
        """Collect the pages, let Sphinx write the site, check every link of it.

        Raises:
            SiteError: Sphinx warned or failed, or a link leads to nothing.
        """
        for folder in (self.source, self.site):
            shutil.rmtree(folder, ignore_errors=True)
        try:
            self.collect()
        except LinkError as error:
            raise SiteError(str(error)) from None
        from sphinx.cmd.build import build_main  # not at the top: the tests can do without Sphinx

        # Warnings are errors: most are references that lead nowhere.
        options = ["--quiet", "--fail-on-warning", "--jobs", "2"]
        doctrees = self.source.with_name("site-doctrees")
        shutil.rmtree(doctrees, ignore_errors=True)
        if build_main([*options, "-d", str(doctrees), str(self.source), str(self.site)]):
            raise SiteError("Sphinx found what it says above")
        found = check_site(self.site)
        (self.site / EXTERNAL_LINKS).write_text("".join(f"{a}\n" for a in found.external), "utf8")
        if found.problems:
            raise SiteError("\n".join(found.problems))
        return found

    # What becomes a page

    def lessons(self) -> list[Lesson]:
        """The lessons that are written."""
        return [x for x in LESSONS if (self.root / "notebooks" / f"{x.slug}.ipynb").is_file()]

    def notebooks(self) -> list[str]:
        """Repository paths of all lessons and solutions."""
        paths = [f"notebooks/{lesson.slug}.ipynb" for lesson in self.lessons()]
        solutions = [f"notebooks/solutions/{lesson.slug}.ipynb" for lesson in self.lessons()]
        return [*paths, *(path for path in solutions if (self.root / path).is_file())]

    def documents(self) -> list[str]:
        """Repository paths of the Markdown files that are pages."""
        docs = sorted(self.root.glob("docs/**/*.md"))
        guides = [path.relative_to(self.root).as_posix() for path in docs]
        return [
            path
            for path in (*DOCUMENTS, *guides)
            if (self.root / path).is_file() and not path.startswith("docs/site/")
        ]

    # Collecting

    def collect(self) -> None:
        """Write everything that Sphinx reads."""
        shutil.copytree(self.root / "docs" / "site", self.source)
        for path in self.notebooks():
            self._notebook(path)
        for path in self.documents():
            text = (self.root / path).read_text("utf8")
            text = self.links.markdown(text, path.rpartition("/")[0])
            if path == GUIDE:
                below = [_name(other) for other in self.documents() if self._is_guide(other)]
                text += "\n\n" + _toctree("", [f"/{name}" for name in below], hidden=True)
            self._write(path, text)
        for path in self.links.pictures:
            (self.source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.root / path, self.source / path)
        self._write(GLOSSARY, _glossary())
        self._write(SOLUTIONS, self._solutions())
        for path, text in api_pages(self.root / "zoo_lessons"):
            self._write(path, text)
        self._home()
        write_scripts(self.source / "_static", self.states)
        _copy_mathjax(self.source / "_static" / "mathjax")

    def _write(self, path: str, text: str) -> None:
        place = self.source / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf8")

    def _notebook(self, path: str) -> None:
        nb = nbformat.read(self.root / path, as_version=4)
        name = _name(path)
        slug = name.rpartition("/")[2]
        is_solution = "/solutions/" in path
        recorded = [] if is_solution else read_states(states_path(self.root, slug))["widgets"]
        page = NotebookPage(nb, name, self.links, recorded, self.source / "_static")
        page.convert()
        if page.used:
            self.states[page.slug] = page.used
        self._write(path, nbformat.writes(nb) + "\n")

    def _home(self) -> None:
        state = {
            "widget": f"{ZooMap.__module__}.{ZooMap.__name__}",
            "traits": _in_folder(ZooMap().get_state(["_map", "selected", "route"]), "notebooks/"),
        }
        self.states["home"] = [state]
        still = f"<pre>{ZooMap().static_text()}</pre>"
        parts = {
            "zoo map": widget_place(state, "home", 0, still),
            "routes": tables.routes().data.replace("](", "](notebooks/"),
            "lessons": self._lesson_table(),
        }
        text = (self.source / "index.md").read_text("utf8")
        for name, part in parts.items():
            marker = f"<!-- {name} -->"
            if text.count(marker) != 1:
                raise SiteError(f"docs/site/index.md must hold {marker} once")
            text = text.replace(marker, part)
        self._write("index.md", f"{text}\n{self._contents()}")

    def _lesson_table(self) -> str:
        rows = ["| | Lesson | Minutes | The question |", "|---|---|---|---|"]
        for lesson in self.lessons():
            link = f"[{lesson.title}](notebooks/{lesson.slug}.ipynb)"
            rows.append(f"| {lesson.number} | {link} | {lesson.minutes} | {lesson.question} |")
        return "\n".join(rows)

    def _contents(self) -> str:
        """The tables of contents that the sidebar shows."""
        trees = [
            _toctree(
                f"Part {part}: {name}",
                [f"notebooks/{lesson.slug}" for lesson in self.lessons() if lesson.part == part],
            )
            for part, name in PARTS.items()
        ]
        titles = {"README.md": "Install and use", "data/README.md": "Data and licences"}
        documents = [
            f"{titles[path]} <{_name(path)}>" if path in titles else _name(path)
            for path in self.documents()
            if not self._is_guide(path)
        ]
        trees.append(_toctree("Exercises", [_name(SOLUTIONS)]))
        trees.append(_toctree("Look up", [_name(GLOSSARY), "api/index"]))
        trees.append(_toctree("The course", [*documents, "third-party"]))
        return "\n".join(trees)

    def _is_guide(self, path: str) -> bool:
        """Is this the instructor's page of one lesson? Those hang below the guide itself."""
        return path.startswith("docs/lessons/") and (self.root / GUIDE).is_file()

    def _solutions(self) -> str:
        slugs = [
            _name(path.rpartition("/")[2]) for path in self.notebooks() if "/solutions/" in path
        ]
        text = (
            "# Solutions\n\nSolved exercises, with the reasons. Try each exercise yourself first: "
            "the hints in the lesson help, and the lesson's check recognises common mistakes.\n\n"
        )
        return text + _toctree("", slugs, hidden=False)


def api_pages(package: Path) -> Iterator[tuple[str, str]]:
    """The pages of the library's reference: (path, Markdown)."""
    entries = ["zoo_lessons"]
    yield "api/zoo_lessons.md", _api_page("zoo_lessons", sorted(package.glob("[!_]*.py")), package)
    for name in PACKAGES:
        modules = sorted((package / name).rglob("*.py"))
        shown = [path for path in modules if not path.name.startswith(("_", "lesson_"))]
        yield f"api/{name}.md", _api_page(f"zoo_lessons.{name}", shown, package)
        entries.append(name)
    text = (
        "# The library\n\nThe parts, models and tools that the lessons import. Arrows point one "
        "way: layers, models, training, deploy.\n\n"
    )
    yield "api/index.md", text + _toctree("", entries, hidden=False)


def _api_page(title: str, modules: list[Path], package: Path) -> str:
    what = PACKAGES.get(title.rpartition(".")[2], "what one does with a model")
    parts = [f"# {title}: {what}\n"]
    for path in modules:
        dotted = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        text = f"```{{eval-rst}}\n.. automodule:: {dotted}\n   :members:\n```\n"
        needs = OPTIONAL.get(dotted)
        if needs and find_spec(needs) is None:
            text = f"This module needs `{needs}`, which was not installed where this was built.\n"
        parts.append(f"## {dotted.removeprefix(f'{title}.')}\n\n{text}")
    return "\n".join(parts)


def _name(path: str) -> str:
    """A page's name for Sphinx: its path without the ending."""
    return path.rpartition(".")[0]


def _glossary() -> str:
    return (
        "# Notation and glossary\n\n## Notation\n\n"
        f"{tables.notation().data}\n\n## Glossary\n\n{tables.glossary().data}\n"
    )


def _toctree(caption: str, entries: list[str], *, hidden: bool = True) -> str:
    options = [f":caption: {caption}"] if caption else [":maxdepth: 1"]
    options += [":hidden:"] if hidden else []
    return "\n".join(["```{toctree}", *options, "", *entries, "```", ""])


def _in_folder(value: Any, prefix: str) -> Any:
    """Links of a widget that stands in another folder than the notebooks."""
    if isinstance(value, str):
        return prefix + value if value.endswith(".ipynb") else value
    if isinstance(value, dict):
        return {key: _in_folder(item, prefix) for key, item in value.items()}
    return [_in_folder(item, prefix) for item in value] if isinstance(value, list) else value


def _copy_mathjax(target: Path) -> None:
    """MathJax, from a package that brings it for Sphinx: one file and its licence."""
    files = distribution("sphinx-mathjax-offline").files or []
    wanted = [
        f for f in files if f.name == "tex-svg.js" or "/input/tex/extensions/" in f.as_posix()
    ]
    if not wanted:
        raise SiteError("sphinx-mathjax-offline holds no tex-svg.js: install requirements-site.txt")
    for file in wanted:
        below = file.as_posix().partition("static/mathjax/")[2]
        (target / below).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.locate(), target / below)
    shutil.copy(ROOT / "docs" / "site" / "licences" / "apache-2.0.txt", target / "LICENSE")


def main() -> int:
    started = time.perf_counter()
    website = Website()
    try:
        found = website.build()
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file())
    print(
        f"{(SITE / 'index.html').relative_to(ROOT)}: {found.pages} pages, {size / 1e6:.0f} MB, "
        f"{found.internal} internal links hold, {len(found.external)} external ones are listed in "
        f"{EXTERNAL_LINKS}; {time.perf_counter() - started:.0f} s"
    )
    return 0
