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

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from zoo_lessons.datasets.cleaning import clean, sentences, without_markup
from zoo_lessons.datasets.docstrings import docstrings, modules

__all__ = [
    "PACKAGES",
    "RUN",
    "SOURCES",
    "SPLITS",
    "Document",
    "documents",
    "paragraphs",
    "sentences",
]

SOURCES = ("reference", "docstrings", "all")
SPLITS = ("train", "validation", "test")
# "python" is the standard library. All the others are requirements of the course.
PACKAGES = ("python", "numpy", "scipy", "sklearn", "matplotlib", "torch")
RUN = 10  # no run of so many words is in two splits, so a paragraph needs as many

# Eight of ten documents train; the other two buckets are held out.
_BUCKETS = ("test", "validation", *["train"] * 8)


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
            found = sections.setdefault(without_markup(heading["title"]).replace('"', ""), [])
            for paragraph in clean(topics[name][heading.end() : end]):
                if paragraph not in found:
                    found.append(paragraph)
    for title, found in sections.items():
        yield Document("reference", title, "\n\n".join(found))


def _docstrings(package: str) -> Iterator[Document]:
    for name, path in modules(package):
        found: list[str] = []
        for docstring in docstrings(path.read_text(encoding="utf-8", errors="replace")):
            found.extend(clean(docstring))
        yield Document("docstrings", name, "\n\n".join(found))


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
    """All runs of ten consecutive words, in lower case, without punctuation and digits."""
    words = re.findall(r"[a-z]+", paragraph.lower())
    return {" ".join(words[start : start + RUN]) for start in range(len(words) - RUN + 1)}


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}")
