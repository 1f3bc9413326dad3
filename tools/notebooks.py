#!/usr/bin/env python3
"""Build and check the course's notebooks.

An author edits `notebooks/source/NN_topic.py` (jupytext's py:percent format); `build` executes it
into `notebooks/NN_topic.ipynb`, the notebook that a learner opens. Solutions work the same way
under `notebooks/solutions/`.

    python tools/notebooks.py new 01             skeletons of lesson 01 and of its solutions
    python tools/notebooks.py build 01           execute lesson 01 and its solutions
    python tools/notebooks.py build notebooks/source/01_attention.py      only this one
    python tools/notebooks.py refresh            title cards, set-up cells and README's table only
    python tools/notebooks.py check              is every pair in step, executed and clean?

Two builds on one machine give the same bytes: cell ids are fixed, and timings, widget state and
language versions are left out. The data of the widgets goes to `docs/widgets/`, for the website.
The title card, the set-up cell and the lesson table in README.md come from
`zoo_lessons/lab/curriculum.py`, and the repository's address from `pyproject.toml`.
"""

from __future__ import annotations

import argparse
import difflib
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, unquote

import jupytext
import nbformat
from jupytext.config import load_jupytext_configuration_file
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from traitlets.config import Config

from zoo_lessons.lab.curriculum import LESSONS, PARTS, Lesson, component, model
from zoo_lessons.lab.widgets.states import (
    WIDGET_VIEW,
    state_problems,
    states_path,
    write_states,
)

ROOT = Path(__file__).resolve().parents[1]
CELL_TIMEOUT_S = 600
MAX_CODE_LINES = 30
MAX_FOLDER_BYTES = 15_000_000

TITLE_TAG, SETUP_TAG = "title-card", "setup"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
TABLE_START = "<!-- lesson table: written by tools/notebooks.py -->"
TABLE_END = "<!-- end of the lesson table -->"

# What a lesson imports from the widgets' package; `Answer` is a value that one of them takes.
WIDGET_IMPORT = re.compile(r"^from zoo_lessons\.lab\.widgets import (.+)$", re.MULTILINE)
NOT_A_WIDGET = {"Answer"}
CHECK_CELL = re.compile(r"^# %%.* tags=\[.*\"check\"", re.MULTILINE)

PEAK_MEMORY_CODE = """
try:
    import resource, sys
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak // (1024 if sys.platform == "darwin" else 1))
except ImportError:  # Windows
    print(0)
"""


@dataclass(frozen=True)
class Pair:
    """One notebook: the source an author edits and the executed file a learner opens."""

    lesson: Lesson
    folder: Path
    is_solution: bool

    @property
    def source(self) -> Path:
        return self.folder / "source" / f"{self.lesson.slug}.py"

    @property
    def notebook(self) -> Path:
        return self.folder / f"{self.lesson.slug}.ipynb"


class Course:
    """The notebooks of one checkout.

    Args:
        root: folder that holds `pyproject.toml`, `README.md` and `notebooks/`.
        lessons: the curriculum.
    """

    def __init__(self, root: Path = ROOT, lessons: Sequence[Lesson] = LESSONS) -> None:
        self.root = root
        self.lessons = tuple(lessons)

    @cached_property
    def repository(self) -> str:
        project = tomllib.loads((self.root / "pyproject.toml").read_text("utf8"))["project"]
        return project["urls"]["repository"].rstrip("/")

    @cached_property
    def jupytext_config(self):
        return load_jupytext_configuration_file(str(self.root / "pyproject.toml"))

    def pair(self, lesson: Lesson, *, solution: bool = False) -> Pair:
        folder = self.root / "notebooks"
        return Pair(lesson, folder / "solutions" if solution else folder, solution)

    def pairs(self) -> list[Pair]:
        """Every lesson and solution of which the source or the notebook exists."""
        both = [self.pair(lesson, solution=s) for s in (False, True) for lesson in self.lessons]
        return [pair for pair in both if pair.source.exists() or pair.notebook.exists()]

    def strays(self) -> list[Path]:
        """Notebooks and sources that belong to no lesson of the curriculum."""
        known = {path for pair in self.pairs() for path in (pair.source, pair.notebook)}
        folder = self.root / "notebooks"
        found = [*folder.rglob("*.ipynb"), *folder.rglob("source/*.py")]
        return sorted(p for p in found if p not in known and ".ipynb_checkpoints" not in p.parts)

    def select(self, names: Sequence[str]) -> list[Pair]:
        """Pairs by number or name (lesson and solution), or by the path of either file.

        Raises:
            ValueError: a name fits no lesson.
        """
        if not names:
            return self.pairs()
        return [pair for name in names for pair in self._select(name)]

    def _select(self, name: str) -> list[Pair]:
        if "/" in name or "\\" in name:
            path = Path(name).resolve()
            chosen = [pair for pair in self.pairs() if path in (pair.source, pair.notebook)]
        else:
            chosen = [p for p in self.pairs() if name in (p.lesson.number, p.lesson.slug)]
        if not chosen:
            known = ", ".join(dict.fromkeys(pair.lesson.slug for pair in self.pairs())) or "none"
            raise ValueError(f"no notebook is called {name!r}; there are: {known}")
        return chosen

    # What the builder writes itself

    def title_card(self, pair: Pair) -> str:
        """Markdown of a notebook's first cell."""
        lesson = pair.lesson
        links = self._links(pair)
        if pair.is_solution:
            return "\n".join(
                [
                    f"# {lesson.number} · {lesson.title}: solutions",
                    "",
                    f"Solutions to the exercises of [{lesson.slug}](../{lesson.slug}.ipynb), with "
                    "the reasons. Try each exercise yourself first: the hints in the lesson help.",
                    "",
                    links,
                ]
            )
        needs = " · ".join(self._lesson_link(number) for number in lesson.needs)
        place = [f"**On the zoo map:** part {lesson.part}, {PARTS[lesson.part]}"]
        if lesson.uses:
            place.append(f"**New parts:** {', '.join(component(id_).name for id_ in lesson.uses)}")
        if lesson.models:
            place.append(f"**Models:** {', '.join(model(id_).name for id_ in lesson.models)}")
        return "\n".join(
            [
                f"# {lesson.number} · {lesson.title}",
                "",
                f"*{lesson.question}*",
                "",
                "After this lesson you can",
                "",
                *(f"- {goal}" for goal in lesson.goals),
                "",
                f"**Time:** {lesson.minutes} minutes · **You need first:** "
                f"{needs or 'some Python; nothing about Transformers'}",
                "",
                " · ".join(place),
                "",
                links,
            ]
        )

    def _lesson_link(self, number: str) -> str:
        needed = next(lesson for lesson in self.lessons if lesson.number == number)
        text = f"{needed.number} {needed.title}"
        exists = self.pair(needed).source.exists()
        return f"[{text}]({needed.slug}.ipynb)" if exists else text

    def _links(self, pair: Pair) -> str:
        """Plain text links: badges are remote images, and the course opens offline."""
        path = pair.notebook.relative_to(self.root).as_posix()
        repository = self.repository.removeprefix("https://github.com/")
        links = [
            f"[Open in Colab](https://colab.research.google.com/github/{repository}/blob/main/{path})",
            f"[Open in Binder](https://mybinder.org/v2/gh/{repository}/main"
            f"?labpath={quote(path, safe='')})",
        ]
        solution = self.pair(pair.lesson, solution=True)
        if not pair.is_solution and solution.source.exists():
            links.append(f"[Solutions](solutions/{solution.notebook.name})")
        return " · ".join(links)

    def setup_cell(self, pair: Pair) -> str:
        """Code of a notebook's second cell. Only Colab, where nothing is installed, fetches."""
        return "\n".join(
            [
                "import importlib.util",
                "import os",
                "import subprocess",
                "import sys",
                "",
                'if "google.colab" in sys.modules and not importlib.util.find_spec("zoo_lessons"):',
                f'    repository = "{self.repository}"',
                '    clone = f"git clone --quiet --depth 1 {repository} course"',
                '    for command in (clone, "pip install --quiet --editable course"):',
                "        subprocess.run(command.split(), check=True)",
                '    os.chdir("course/notebooks")',
                '    sys.path.append(os.path.abspath(".."))',
                "",
                "from zoo_lessons import lab",
                "",
                f'lab.begin("{pair.lesson.number}")',
            ]
        )

    def lesson_table(self) -> str:
        """The README's table of lessons; a lesson without a notebook yet has no link."""
        rows = ["| | Lesson | Minutes | Exercises | The question | Models | Widgets |"]
        rows.append("|---|---|---|---|---|---|---|")
        part = None
        for lesson in self.lessons:
            if lesson.part != part:
                part = lesson.part
                rows.append(f"| **{part}** | **{PARTS[part]}** | | | | | |")
            pair = self.pair(lesson)
            title, exercises, widgets = f"{lesson.title} (planned)", "", ""
            if pair.source.exists():
                source = pair.source.read_text("utf8")
                title = f"[{lesson.title}](notebooks/{pair.notebook.name})"
                exercises = len(CHECK_CELL.findall(source))
                widgets = ", ".join(_widgets(source))
            models = ", ".join(model(id).name for id in lesson.models)
            rows.append(
                f"| {lesson.number} | {title} | {lesson.minutes} | {exercises} "
                f"| {lesson.question} | {models} | {widgets} |"
            )
        return "\n".join(rows)

    def readme(self) -> str:
        """README.md with its lesson table brought up to date.

        Raises:
            ValueError: the table's markers are missing.
        """
        text = (self.root / "README.md").read_text("utf8")
        if text.count(TABLE_START) != 1 or text.count(TABLE_END) != 1:
            raise ValueError(f"README.md must hold {TABLE_START!r} and {TABLE_END!r} once each")
        before, rest = text.split(TABLE_START)
        after = rest.split(TABLE_END)[1]
        return f"{before}{TABLE_START}\n{self.lesson_table()}\n{TABLE_END}{after}"

    def write_readme(self) -> None:
        """Bring the lesson table in README.md up to date."""
        (self.root / "README.md").write_text(self.readme(), "utf8")

    # Source and notebook

    def read_source(self, pair: Pair) -> NotebookNode:
        """The source as a notebook with a current title card and set-up cell.

        Raises:
            ValueError: the source lacks a cell tagged title-card or setup as its first or second.
        """
        nb = jupytext.read(pair.source, config=self.jupytext_config)
        tags = [cell.metadata.get("tags", []) for cell in nb.cells[:2]]
        if len(tags) < 2 or TITLE_TAG not in tags[0] or SETUP_TAG not in tags[1]:
            raise ValueError(
                f"{self._show(pair.source)}: the first two cells must be tagged {TITLE_TAG} "
                f"(markdown) and {SETUP_TAG} (code), got tags {tags}"
            )
        nb.cells[0].source = self.title_card(pair)
        nb.cells[1].source = self.setup_cell(pair)
        return _normalised(nb)

    def source_text(self, nb: NotebookNode) -> str:
        """The py:percent text of a notebook, exactly as JupyterLab's jupytext would save it."""
        return jupytext.writes(nb, fmt="py:percent", config=self.jupytext_config)

    def new(self, lesson: Lesson) -> list[Path]:
        """Write the skeletons of a lesson and of its solutions.

        Raises:
            FileExistsError: one of them is there already.
        """
        pairs = [self.pair(lesson, solution=solution) for solution in (False, True)]
        for pair in pairs:
            if pair.source.exists():
                raise FileExistsError(f"{self._show(pair.source)} is there already")
        for pair in pairs:
            pair.source.parent.mkdir(parents=True, exist_ok=True)
            pair.source.write_text(_SOLUTION_SKELETON if pair.is_solution else _LESSON_SKELETON)
        for pair in pairs:  # only now: the lesson's card links to the solutions when they exist
            pair.source.write_text(self.source_text(self.read_source(pair)), "utf8")
        return [pair.source for pair in pairs]

    def build(self, pair: Pair) -> BuildReport:
        """Bring a source into its normal form and execute it into its notebook.

        Raises:
            CellExecutionError: a cell failed; the notebook on disk stays as it was.
        """
        nb = _formatted(self.read_source(pair))
        pair.source.write_text(self.source_text(nb), "utf8")
        started = time.perf_counter()
        peak_kib = execute(nb, pair.notebook.parent)
        seconds = time.perf_counter() - started
        if not pair.is_solution:
            write_states(nb, states_path(self.root, pair.lesson.slug))
        _clean(nb)
        nbformat.validate(nb)
        pair.notebook.write_text(nbformat.writes(nb) + "\n", "utf8")
        return BuildReport(pair, seconds, peak_kib / 1024, pair.notebook.stat().st_size)

    def refresh(self, pair: Pair) -> None:
        """Rewrite title card and set-up cell, in source and notebook, without executing."""
        fresh = self.read_source(pair)
        pair.source.write_text(self.source_text(fresh), "utf8")
        if pair.notebook.exists():
            nb = nbformat.read(pair.notebook, as_version=4)
            for old, new in zip(nb.cells[:2], fresh.cells[:2], strict=True):
                old.source = new.source
            pair.notebook.write_text(nbformat.writes(nb) + "\n", "utf8")

    def check(self, pair: Pair) -> list[str]:
        """What is wrong with one pair; nothing when the list is empty."""
        for path in (pair.source, pair.notebook):
            if not path.exists():
                return [f"{self._show(path)}: missing"]
        try:
            wanted = self.source_text(self.read_source(pair))
        except ValueError as error:
            return [str(error)]
        nb = nbformat.read(pair.notebook, as_version=4)
        steps = [
            (pair.source, pair.source.read_text("utf8"), wanted, "rebuild it"),
            (pair.notebook, self.source_text(nb), wanted, "rebuild it from its source"),
        ]
        problems = []
        for path, have, want, advice in steps:
            if have != want:
                diff = difflib.unified_diff(
                    have.splitlines(), want.splitlines(), "as it is", "as built", lineterm="", n=1
                )
                lines = "\n".join(f"    {line}" for line in diff)
                problems.append(f"{self._show(path)}: out of step, {advice}\n{lines}")
        name = self._show(pair.notebook)
        problems += [f"{name}: {problem}" for problem in notebook_problems(nb, self.root)]
        problems += [f"{name}: {problem}" for problem in link_problems(nb, pair.notebook.parent)]
        if not pair.is_solution:
            problems += state_problems(nb, states_path(self.root, pair.lesson.slug))
        return problems

    def check_all(self, names: Sequence[str] = ()) -> list[str]:
        """Check the named pairs, or with no names all of them, the folder and the README."""
        problems = [problem for pair in self.select(names) for problem in self.check(pair)]
        if names:
            return problems
        problems += [f"{self._show(path)}: belongs to no lesson" for path in self.strays()]
        size = sum(p.stat().st_size for p in (self.root / "notebooks").rglob("*") if p.is_file())
        if size > MAX_FOLDER_BYTES:
            problems.append(
                f"notebooks/ holds {size / 1e6:.1f} MB, at most {MAX_FOLDER_BYTES / 1e6:.0f}"
            )
        if self.readme() != (self.root / "README.md").read_text("utf8"):
            problems.append("README.md: the lesson table is stale, run tools/notebooks.py refresh")
        return problems

    def _show(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class BuildReport:
    """What one build took: wall-clock seconds, the kernel's peak memory, the file's size."""

    pair: Pair
    seconds: float
    peak_mib: float
    size_bytes: int


def _widgets(source: str) -> list[str]:
    """Names of the widgets that a lesson's source imports, each once, in its order."""
    names = [name.strip() for names in WIDGET_IMPORT.findall(source) for name in names.split(",")]
    return [name for name in dict.fromkeys(names) if name not in NOT_A_WIDGET]


def _normalised(nb: NotebookNode) -> NotebookNode:
    """Keep only what the course uses: kernelspec and tags, with cell ids that never change."""
    nb.metadata = NotebookNode({"kernelspec": NotebookNode(KERNELSPEC)})
    nb.nbformat, nb.nbformat_minor = 4, 5
    for index, cell in enumerate(nb.cells):
        cell.id = f"cell-{index:03d}"
        tags = cell.metadata.get("tags")
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
    return nb


def _formatted(nb: NotebookNode) -> NotebookNode:
    """Format the code cells with ruff, so that a lesson's code has the library's style."""
    command = [sys.executable, "-m", "ruff", "format", "--quiet", "--stdin-filename", "x.ipynb"]
    command += ["--config", str(ROOT / "pyproject.toml"), "-"]
    done = subprocess.run(
        command, input=nbformat.writes(nb), capture_output=True, text=True, encoding="utf8"
    )
    if done.returncode:
        raise ValueError(f"ruff format failed: {done.stderr.strip()}")
    return _normalised(nbformat.reads(done.stdout, as_version=4))


def execute(nb: NotebookNode, folder: Path) -> int:
    """Run every cell but those tagged nbval-skip; return the kernel's peak memory in KiB."""
    skipped = [cell for cell in nb.cells if _has_tag(cell, "nbval-skip")]
    sources = [cell.source for cell in skipped]
    for cell in skipped:
        cell.source = ""
    nb.cells.append(nbformat.v4.new_code_cell(PEAK_MEMORY_CODE))
    client = NotebookClient(
        nb,
        timeout=CELL_TIMEOUT_S,
        kernel_name=KERNELSPEC["name"],
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),  # or kernels warn
    )
    client.execute()
    peak = nb.cells.pop()
    for cell, source in zip(skipped, sources, strict=True):
        cell.source = source
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, []
    return int(peak.outputs[0].text)


def _clean(nb: NotebookNode) -> None:
    """Remove what changes from build to build or is dead without a kernel."""
    _normalised(nb)
    for cell in _code_cells(nb):
        for output in cell.outputs:
            if output.output_type in ("display_data", "execute_result"):
                output.data.pop(WIDGET_VIEW, None)
                output.metadata.pop(WIDGET_VIEW, None)
        cell.outputs = [output for output in cell.outputs if output.get("data") != {}]


def notebook_problems(nb: NotebookNode, root: Path = ROOT) -> list[str]:
    """What is wrong with an executed notebook taken alone."""
    problems = []
    if "widgets" in nb.metadata:
        problems.append("holds widget state")
    elif set(nb.metadata) != {"kernelspec"}:
        names = ", ".join(sorted(nb.metadata)) or "none"
        problems.append(f"was not written by build: its metadata are {names}, not kernelspec")
    for index, cell in enumerate(nb.cells):
        problems += [f"cell {index}: {problem}" for problem in _cell_problems(cell)]
    text = nbformat.writes(nb)
    for label, pattern in machine_patterns(root):
        if match := re.search(pattern, text):
            context = text[max(0, match.start() - 30) : match.end() + 30]
            problems.append(f"holds {label}: ...{context!r}...")
    return problems


def link_problems(nb: NotebookNode, folder: Path) -> Iterator[str]:
    """Links in the author's text that lead to no file, as seen from the notebook's folder."""
    for index, cell in enumerate(nb.cells):
        if cell.cell_type != "markdown" or _has_tag(cell, TITLE_TAG):
            continue
        for target in re.findall(r"\]\(([^()\s#]+\.\w+)(?:#[^()]*)?\)", cell.source):
            if "://" not in target and not (folder / unquote(target)).exists():
                yield f"cell {index}: links to {target!r}, which is not there"


def machine_patterns(root: Path) -> list[tuple[str, str]]:
    """What must not be stored, because it differs from machine to machine."""
    places = {str(root), str(ROOT), str(Path.home()), sys.prefix} - {"/"}
    literal = [re.escape(place) + r"(?![\w.-])" for place in sorted(places)]
    home = r"(?<![\w.:/])/(?:home|Users|root|tmp|var/folders)/[\w.]"
    return [
        ("a path of this machine", "|".join([*literal, home, r"[A-Z]:\\\\+Users"])),
        ("a memory address", r"\bat 0x[0-9a-fA-F]{6,}"),
    ]


def _cell_problems(cell: NotebookNode) -> Iterator[str]:
    if cell.cell_type == "markdown":
        yield from _alt_problems(cell.source)
        return
    if cell.cell_type != "code":
        yield f"is a {cell.cell_type} cell, expected markdown or code"
        return
    lines = len(cell.source.splitlines())
    if lines > MAX_CODE_LINES:
        yield f"has {lines} lines of code, at most {MAX_CODE_LINES}"
    # nbval passes a cell that was never executed without comparing anything.
    if cell.execution_count is None and cell.source.strip() and not _has_tag(cell, "nbval-skip"):
        yield "was not executed"
    for output in cell.outputs:
        yield from _output_problems(output, may_raise=_has_tag(cell, "raises-exception"))


def _output_problems(output: NotebookNode, *, may_raise: bool) -> Iterator[str]:
    if output.output_type == "error" and not may_raise:
        yield f"raised {output.ename}: {output.evalue}"
    if output.output_type == "stream" and output.name == "stderr":
        yield f"wrote to stderr: {output.text.strip()[:200]!r}"
    for mimetype, content in output.get("data", {}).items():
        if mimetype == WIDGET_VIEW:
            yield "holds a widget view"
        elif mimetype == "image/png":
            details = output.metadata.get(mimetype, {})
            if not str(details.get("alt", output.metadata.get("alt", ""))).strip():
                yield "shows a PNG without alt text"
        elif mimetype == "image/svg+xml":
            yield "shows an SVG; use a PNG, which nbval does not compare byte by byte"
        elif mimetype in ("text/html", "text/markdown"):
            yield from _alt_problems(content)


def _alt_problems(text: str) -> Iterator[str]:
    for target in re.findall(r"!\[\s*\]\(([^)]*)\)", text):
        yield f"shows the image {target!r} without alt text"
    for tag in re.findall(r"<img\b[^>]*>", text):
        if not re.search(r"""\balt\s*=\s*("[^"]*[^"\s][^"]*"|'[^']*[^'\s][^']*')""", tag):
            yield f"shows {tag[:80]!r} without alt text"


def _code_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def _has_tag(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


_PLACEHOLDERS = """\
# %% [markdown] tags=["title-card"]
# Written by tools/notebooks.py.

# %% tags=["setup"]
# Written by tools/notebooks.py.
"""

_LESSON_SKELETON = (
    _PLACEHOLDERS
    + """
# %% [markdown]
# ## The question
# One concrete example, for instance "The cat sat on the mat".

# %% [markdown]
# ## Formula, code, picture
# One step at a time: the plain loop, the vectorised form, `assert` that they agree.

# %% [markdown]
# ## Read the real thing

# %% [markdown]
# ## What it costs

# %% [markdown]
# ## Quiz

# %% [markdown]
# ## Summary
"""
)

_SOLUTION_SKELETON = (
    _PLACEHOLDERS
    + """
# %% [markdown]
# ## Exercise 1
# What the answer is, and why.
"""
)


def _print_report(report: BuildReport) -> None:
    name = report.pair.notebook.relative_to(ROOT).as_posix()
    print(
        f"{name:<48} {report.seconds:6.1f} s  {report.peak_mib:6.0f} MiB  "
        f"{report.size_bytes / 1000:6.0f} kB"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="write the skeletons of a lesson and its solutions")
    new.add_argument("name", help="number or name from the curriculum: 01 or 01_attention")
    build = commands.add_parser("build", help="execute sources into notebooks")
    check = commands.add_parser("check", help="fail when a notebook is stale or unclean")
    refresh = commands.add_parser(
        "refresh", help="rewrite title cards, set-up cells and README's table; executes nothing"
    )
    for command in (build, check, refresh):
        command.add_argument("names", nargs="*", help="numbers, names or paths; default: all")
    options = parser.parse_args(arguments)

    course = Course()
    try:
        if options.command == "new":
            fitting = [x for x in LESSONS if options.name in (x.number, x.slug)]
            if not fitting:
                raise ValueError(f"the curriculum has no lesson {options.name!r}")
            print("\n".join(course._show(path) for path in course.new(fitting[0])))
        elif options.command == "build":
            for pair in course.select(options.names):
                _print_report(course.build(pair))
            course.write_readme()
        elif options.command == "refresh":
            for pair in course.select(options.names):
                course.refresh(pair)
            course.write_readme()
        else:
            problems = course.check_all(options.names)
            if problems:
                print("\n".join(problems))
                return 1
            print(f"{len(course.select(options.names))} notebooks are in step and clean")
    except (ValueError, FileExistsError, CellExecutionError) as error:
        print(f"tools/notebooks.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
