"""English prose that every installation of the course already has, read when it is asked for.

Two sources: the Python language reference that each Python carries for its `help()`
(`pydoc_data.topics`), and the docstrings of the standard library and of the packages that the
course installs. Source files are read as text; nothing is imported, downloaded or written.
Another version of Python or of a package has slightly other texts, so figures that depend on them
differ a little from one environment to the next.

Code, doctests, grammar, tables, lists of parameters and markup are taken out; what stays is whole
sentences. No ten consecutive words occur in two splits. GPT-3 was cleaned by the same kind of rule,
with 13 words (Brown et al. 2020, https://arxiv.org/abs/2005.14165, appendix C).
"""

from __future__ import annotations

import ast
import os
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path
from typing import NamedTuple

SOURCES = ("reference", "docstrings", "all")
SPLITS = ("train", "validation", "test")
# "python" is the standard library. All the others are requirements of the course.
PACKAGES = ("python", "numpy", "scipy", "sklearn", "matplotlib", "torch")
# No ten consecutive words are in two splits, so a paragraph needs at least ten.
RUN = 10

# Eight of ten documents train; the other two buckets are held out.
_BUCKETS = ("test", "validation", *["train"] * 8)
# Folders without prose of the package's own: tests, copies of other packages, generated code, and
# the reference itself, which is the other source. Folders that begin with an underscore are left
# out too (torch has a hundred thousand words of compiler internals there), except numpy's core.
_SKIPPED_FOLDERS = frozenset(
    "test tests testing externals extern array_api_compat array_api_extra site-packages "
    "dist-packages idlelib lib2to3 pydoc_data turtledemo encodings include".split()
)
_KEPT_FOLDERS = frozenset({"_core"})


class Document(NamedTuple):
    """The prose of one section of the reference, or of one module's docstrings.

    source: "reference" or "docstrings".
    name: the section's heading ("Lists") or the module ("scipy.stats._qmc").
    text: clean paragraphs, each on a line of its own, with an empty line between them.
    """

    source: str
    name: str
    text: str

    @property
    def split(self) -> str:
        """The one split that this document belongs to, chosen by a hash of its name (8 : 1 : 1)."""
        digest = blake2b(f"{self.source}:{self.name}".encode(), digest_size=8).digest()
        return _BUCKETS[int.from_bytes(digest, "big") % len(_BUCKETS)]

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs of `text`."""
        return self.text.split("\n\n")


def documents(
    source: str = "reference",
    split: str | None = None,
    *,
    packages: Sequence[str] = PACKAGES,
) -> list[Document]:
    """The documents of a source, in alphabetical order, with their repetitions removed.

    A paragraph goes if most of its runs of ten words stand in an earlier paragraph of its split.
    A held-out paragraph also goes if any of its runs stands in train; one of test, if any stands
    in validation. Documents that keep nothing are left out. Computed once per process.

    Args:
        source: "reference", "docstrings" or "all" (both).
        split: "train", "validation", "test", or None for all three.
        packages: whose docstrings to read; "python" is the standard library.

    Raises:
        ValueError: an unknown source or split, or no packages.
        ModuleNotFoundError: a package that is not installed.
    """
    _require_choice("source", source, SOURCES)
    if split is not None:
        _require_choice("split", split, SPLITS)
    if isinstance(packages, str) or not packages:
        raise ValueError(f"packages must be a tuple of names such as {PACKAGES}, got {packages!r}")
    found = _documents(source, tuple(packages) if source != "reference" else ())
    return [document for document in found if split in (None, document.split)]


def paragraphs(
    source: str = "reference",
    split: str | None = None,
    *,
    packages: Sequence[str] = PACKAGES,
) -> list[str]:
    """All paragraphs of `documents(source, split, packages=packages)`, in the same order.

    Each is one line of English of at least ten words, and ends with a full stop, a question mark
    or an exclamation mark.

    Raises:
        ValueError, ModuleNotFoundError: as `documents`.
    """
    found = documents(source, split, packages=packages)
    return [paragraph for document in found for paragraph in document.paragraphs]


# A sentence ends with its mark and what closes around it, before a space and a new beginning.
_SENTENCE_END = re.compile(r"""[.!?]["')\]]*\s+(?=["'(\[*]*[A-Z0-9_])""")
# ... unless that "." belongs to an abbreviation, a person's initial, or a number before a noun.
_ABBREVIATION = re.compile(
    r"""(?:^|[\s("'\[])(?:e\.g|i\.e|cf|vs|viz|resp|approx|al|ca|Fig|Figs|fig|Eq|Eqs|eq|Sec|Sect|sec
    |Ch|ch|Ref|Refs|ref|No|no|Vol|vol|pp|p|Dr|Mr|Mrs|Ms|Prof|St|Jr|ver|[A-Z])\.$""",
    re.VERBOSE,
)


def sentences(text: str) -> list[str]:
    """Split a paragraph into sentences; joined by single spaces they give the paragraph back.

    A rule, not a model: a sentence ends at ".", "!" or "?" before white space and a capital letter,
    digit, underscore or quotation mark, unless the full stop belongs to an abbreviation such as
    "e.g.", or to an initial.
    """
    text = " ".join(text.split())
    parts, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        if text[match.start()] == "." and _ABBREVIATION.search(text[start : match.start() + 1]):
            continue
        parts.append(text[start : match.end()].rstrip())
        start = match.end()
    return [*parts, text[start:]] if text[start:] else parts


# ------------------------------------------------------------------ reading


_HEADING = re.compile(r"^(?P<title>\S.*)\n([*=~^\-])\2{3,}$", re.MULTILINE)


@lru_cache(maxsize=8)
def _documents(source: str, packages: tuple[str, ...]) -> tuple[Document, ...]:
    found = list(_reference()) if source != "docstrings" else []
    for package in packages:
        found.extend(_docstrings(package))
    return _without_repetitions(found)


def _reference() -> Iterator[Document]:
    from pydoc_data.topics import topics  # 0.6 MB, needed by few who import this module

    # A topic holds one or more sections, and "compound" repeats what "if" and "while" hold.
    sections: dict[str, list[str]] = {}
    for name in sorted(topics):
        headings = list(_HEADING.finditer(topics[name]))
        ends = [heading.start() for heading in headings[1:]] + [len(topics[name])]
        for heading, end in zip(headings, ends, strict=True):
            found = sections.setdefault(_without_markup(heading["title"]).replace('"', ""), [])
            for paragraph in _clean(topics[name][heading.end() : end]):
                if paragraph not in found:
                    found.append(paragraph)
    for title, found in sections.items():
        yield Document("reference", title, "\n\n".join(found))


def _docstrings(package: str) -> Iterator[Document]:
    for name, path in _modules(package):
        found: list[str] = []
        for docstring in docstrings(path.read_text(encoding="utf-8", errors="replace")):
            found.extend(_clean(docstring))
        yield Document("docstrings", name, "\n\n".join(found))


def _modules(package: str) -> Iterator[tuple[str, Path]]:
    """The dotted names and files of a package's modules, in alphabetical order."""
    if package == "python":
        root, prefix = Path(sysconfig.get_path("stdlib")), ()
    else:
        spec = find_spec(package)  # finds a top-level package without importing it
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(
                f"packages names {package!r}, which is not an installed package; "
                f"install it, or leave it out of packages"
            )
        root, prefix = Path(spec.submodule_search_locations[0]), (package,)
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if _has_prose(name)]
        inside = Path(folder).relative_to(root).parts
        for file in files:
            if file.endswith(".py"):
                stem = () if file == "__init__.py" else (file.removesuffix(".py"),)
                found.append((".".join((*prefix, *inside, *stem)), Path(folder, file)))
    yield from sorted(found)


def _has_prose(folder: str) -> bool:
    return folder in _KEPT_FOLDERS or not (folder.startswith("_") or folder in _SKIPPED_FOLDERS)


# A docstring is the first statement of a module, class or function: a string at the beginning of a
# line, with nothing before it but comments, or below a line that ends with a colon.
_DOCSTRING = re.compile(
    r"""(?:\A|:[ \t]*(?:\#[^\n]*)?\n)(?:\s*\#[^\n]*\n)*\s*
    (?P<literal>[rRuU]?(?P<quote>\"{3}|'{3})(?:[^\\]|\\.)*?(?P=quote))""",
    re.VERBOSE | re.DOTALL,
)


def docstrings(source: str) -> list[str]:
    """The triple-quoted docstrings of a Python file, in order, with their indentation removed.

    It looks for strings where docstrings stand. Python's own parser takes twenty times as long,
    and finds the same but for a few (tests/datasets/test_prose.py counts them).
    """
    found = []
    for match in _DOCSTRING.finditer(source):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a "\s" that should have been a raw string
            try:
                found.append(cleandoc(ast.literal_eval(match["literal"])))
            except (SyntaxError, ValueError):  # not a literal: an example inside another string
                continue
    return found


# ------------------------------------------------------------------ cleaning

# Sections of numpydoc (underlined) and of Google's style ("Args:") that hold lists or code.
_LIST_SECTIONS = frozenset(
    "parameters,other parameters,returns,return,yields,receives,raises,warns,attributes,methods,"
    "examples,example,references,see also,args,arguments,keyword arguments,keyword args,kwargs,"
    "inputs,input,outputs,output,shape,variables,usage,fields,properties,literature,todo,"
    "authors,author".split(",")
)
# Directives whose body is prose; the body of any other is left out.
_PROSE_DIRECTIVES = frozenset("note warning important tip caution attention hint danger".split())

_UNDERLINE = re.compile(r"\s*([-=~^*#_+\"'`.])\1{2,}\s*$")
_GOOGLE_SECTION = re.compile(r"(?:\*\*)?([A-Za-z ]{3,20}?)(?:\*\*)?::?(?:\*\*)?$")
_DIRECTIVE = re.compile(r"\.\.\s+(?:([\w-]+)::|\S)")
_FIELD = re.compile(r":[a-zA-Z][\w ,*.]*:|@\w+")
_BULLET = re.compile(r"(?:[-*+•]|\(?(?:\d{1,2}|[a-z])[.)]|\[\d+\])\s+")

_MARKUP = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[‘’]", "'"),
        (r"[“”]", '"'),
        (r":math:`([^`\\^_{}]*)`", r"\1"),  # a formula without commands is just a letter
        (r"!?:[\w:.+-]+:`~?!?[\w.]*?\.?([\w ]+(?:\(\))?)`", r"\1"),  # :func:`~numpy.dot`
        (r":[\w:.+-]+:`([^`<]+?)\s*<[^`>]*>`", r"\1"),
        (r"`([^`<]+?)\s*<[^`>]+>`_{1,2}", r"\1"),  # `a link <https://...>`_
        (r"\s?\[[\w#*.-]{1,12}\]_", ""),  # [1]_
        (r"``?([^`]*)``?_{0,2}", r"\1"),
        (r"(?<![\w*])\*{1,2}(\w(?:[^*]*[\w.?!)])?)\*{1,2}(?![\w*])", r"\1"),  # *emphasis*
        (r"(?<=[\w.,;)\"']) \[\d+\](?=[\s.,;]|$)", ""),  # a footnote's number
        (r"(?<=[a-z])- (?=[a-z])(?!- (?:and|or) )", "-"),  # a line broken after a hyphen
        (r"\s+", " "),
    )
)
# What no sentence holds: grammar, prompts, formulas, addresses, rules and boxes of tables.
_NOT_PROSE = re.compile(
    r"::=|>>>|\.\.\. |\\|https?://|www\.|@|[|{}$~^<>]|:\w+:|==|--+[->]|\[\[|\S {3,}\S|``|_\b\d"
)
_PLAIN_WORD = re.compile(r"""["'(]*[A-Za-z]+(?:[-'/][A-Za-z]+)*["')]*[.,;:!?]*["')]*$""")
_LITTLE_WORDS = frozenset(
    "the a an of to is are in and or for that this be if it not as by with on from at was can will "
    "which when than then its has have does do may must should would these those there no any all "
    "only each into used so but also".split()
)


def _clean(text: str) -> list[str]:
    """The paragraphs of English in a docstring, or in a topic of the reference."""
    found = []
    for block in _blocks(text):
        paragraph = _prose(" ".join(block))
        if paragraph:
            found.append(paragraph)
    return found


def _blocks(text: str) -> Iterator[list[str]]:
    """The blocks of lines that may be prose: no headings, listed sections, directives, code.

    A block ends at an empty line, at a list's next item, and where the indentation grows.
    """
    lines = [line.rstrip() for line in text.expandtabs().split("\n")] + ["", ""]
    block: list[str] = []
    indent = 0  # of the block
    skip_from: int | None = None  # skip all lines indented at least this much
    in_list_section = False
    for line, following in zip(lines, lines[1:], strict=False):
        stripped = line.lstrip()
        here = len(line) - len(stripped)
        if not stripped or _UNDERLINE.match(line):
            if block:
                yield block
                if block[-1].endswith("::"):
                    skip_from = indent + 1
                block = []
            continue
        if skip_from is not None:
            if here >= skip_from:
                continue
            skip_from = None
        if following and _UNDERLINE.match(following):  # a heading
            in_list_section = stripped.lower().strip("*: ") in _LIST_SECTIONS
            if block:
                yield block
                block = []
            continue
        if in_list_section:
            continue
        if block and here <= indent and here != indent and not _BULLET.match(block[0]):
            yield block
            block = []
        directive = _DIRECTIVE.match(stripped)
        section = _GOOGLE_SECTION.match(stripped)
        if directive or (section and section[1].lower() in _LIST_SECTIONS):
            if block:
                yield block
                block = []
            if not (directive and directive[1] in _PROSE_DIRECTIVES):
                skip_from = here + 1
            continue
        bullet = _BULLET.match(stripped)
        if block and (bullet or here > indent + 4 or _FIELD.match(stripped)):
            yield block
            block = []
        if not block:
            indent = here
        block.append(stripped[bullet.end() :] if bullet else stripped)


def _prose(text: str) -> str | None:
    """One paragraph without markup, cut after its last full stop, or None if it is not prose."""
    if len(text) < 40 or _FIELD.match(text):
        return None
    text = _without_markup(text)
    if _NOT_PROSE.search(text) or not re.match(r"[\"'(]?[A-Z]", text):
        return None
    end = max(text.rfind(mark) for mark in ".!?")
    if end < 0:
        return None
    if end < len(text) - 3:  # ends in a colon, or in words without a full stop
        whole = sentences(text)
        text = " ".join(whole[:-1])
        if not text:
            return None
    words = text.split()
    plain = sum(1 for word in words if _PLAIN_WORD.match(word))
    little = sum(1 for word in words if word.lower() in _LITTLE_WORDS)
    if len(_words(text)) < RUN or plain < 0.8 * len(words) or little < 0.2 * len(words):
        return None
    return text


def _without_markup(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return text.strip()


# ------------------------------------------------------------------ repetitions


def _words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation and digits."""
    return re.findall(r"[a-z]+", text.lower())


def _without_repetitions(found: Iterable[Document]) -> tuple[Document, ...]:
    """Drop paragraphs that mostly repeat others, and see that splits share no run of ten words."""
    found = sorted(document for document in found if document.text)
    kept: list[Document] = []
    other_splits: set[str] = set()
    for split in SPLITS:
        this_split: set[str] = set()
        for document in found:
            if document.split != split:
                continue
            texts = []
            for paragraph in document.paragraphs:
                runs = _runs(paragraph)
                if runs.isdisjoint(other_splits) and len(runs & this_split) <= len(runs) / 2:
                    this_split |= runs
                    texts.append(paragraph)
            if texts:
                kept.append(document._replace(text="\n\n".join(texts)))
        other_splits |= this_split
    return tuple(sorted(kept))


def _runs(paragraph: str) -> set[str]:
    """All runs of ten consecutive words."""
    words = _words(paragraph)
    return {" ".join(words[start : start + RUN]) for start in range(len(words) - RUN + 1)}


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}")
