"""Real references to tag: who wrote what, and where it appeared.

Docstrings of scientific libraries cite papers and books:

    .. [1] L. Breiman, "Bagging predictors", Machine Learning 24, pages 123-140, 1996.

Their writers put titles in quotation marks. `references` takes the marks away and keeps what they
said as the gold answer. The task is to find it again, which is useful: many references have no
marks to begin with (`unmarked`).

| type | where the gold answer comes from |
|---|---|
| TITLE | the quotation marks |
| AUTHORS | everything before the opening mark, up to a year |
| VENUE | everything after the closing mark, up to the first number, bracket or word such as "vol" |

So titles and authors are marked by people, and the end of a venue follows a rule of ours. Spelling
mistakes and odd styles are left in. References that hold no such title, or start with it, are left
out. A work that is cited several times is kept once, recognised by the first words of its title.

The references are read from the source files of the installed libraries, as text: nothing is
imported, and nothing is stored. Other versions of the libraries give slightly other data.
"""

from __future__ import annotations

import importlib.util
import re
import unicodedata
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

TYPES = ("AUTHORS", "TITLE", "VENUE")
TAGS = ("O", *(f"{prefix}-{name}" for name in TYPES for prefix in "BI"))

LIBRARIES = ("numpy", "scipy", "sklearn", "matplotlib")  # split into train, validation and test
OTHER_LIBRARY = "networkx"  # other writers; PyTorch installs it

Split = Literal["train", "validation", "test", "other"]

_START = re.compile(r"^[ \t]*\.\. \[\w+\][ \t]*", re.M)
_END = re.compile(r"\n[ \t]*\n|\"{3}|'{3}")
_MARKED = re.compile(r'(?P<before>[^"]{3,250})"(?P<title>[^"]{8,250})"(?P<after>[^"]*)')
_WORD = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")
_YEAR = re.compile(r"1[5-9]\d\d|20\d\d")
_ENDS_VENUE = set(
    "( [ vol volume no number pp p page pages issue ed edition chapter ch section sec issn jstor "
    "arxiv doi accessed".split()
)
_LONGEST = 80  # words; what is longer is a paragraph, not a reference


class Reference(NamedTuple):
    """A reference without its quotation marks.

    words: words and punctuation marks, in order.
    tags: one of `TAGS` for each word.
    library: where it is cited.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    library: str


def references(split: Split) -> tuple[Reference, ...]:
    """The references of a split, in a fixed order that has nothing to do with their source.

    "train", "validation" and "test" share no work: about 70, 10 and 20 % of what `LIBRARIES` cite.
    "other" is what `OTHER_LIBRARY` cites and the others do not.

    Raises:
        ValueError: an unknown split.
        ModuleNotFoundError: a library is not installed.
    """
    if split not in ("train", "validation", "test", "other"):
        raise ValueError(f"unknown split {split!r}: expected train, validation, test or other")
    return tuple(reference for name, reference in _all_marked() if name == split)


@cache
def unmarked() -> tuple[tuple[str, ...], ...]:
    """Words of references in whose text nobody marked anything: there is no gold answer."""
    found: dict[str, tuple[str, ...]] = {}
    for library in LIBRARIES:
        for raw in _raw_references(library):
            text = _plain(raw)
            words = split_words(text)
            if '"' not in text and "*" not in raw and "`" not in raw and 12 <= len(words) <= 50:
                found.setdefault(_work(text), words)
    return tuple(sorted(found.values(), key=_shuffled))


def split_words(text: str) -> tuple[str, ...]:
    """Words and single punctuation marks: "P.J. (1987)" -> P . J . ( 1987 )."""
    return tuple(_WORD.findall(text))


# --- reading -----------------------------------------------------------------------------------


@cache
def _all_marked() -> tuple[tuple[Split, Reference], ...]:
    found: dict[str, tuple[Split, Reference]] = {}
    for library in (*LIBRARIES, OTHER_LIBRARY):
        for raw in _raw_references(library):
            marked = _MARKED.fullmatch(_plain(raw))
            if marked is None or (work := _work(marked["title"])) in found:
                continue
            reference = _tagged(marked["before"], marked["title"], marked["after"], library)
            if reference is not None:
                split = "other" if library == OTHER_LIBRARY else _split_of(work)
                found[work] = (split, reference)
    return tuple(sorted(found.values(), key=lambda entry: _shuffled(entry[1].words)))


@cache
def _raw_references(library: str) -> tuple[str, ...]:
    """The text behind each `.. [1]` in the library's docstrings, white space evened out."""
    spec = importlib.util.find_spec(library)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{library} is not installed; its docstrings are needed")
    root = Path(spec.submodule_search_locations[0])
    found = []
    for file in sorted(root.rglob("*.py")):
        if "tests" not in file.relative_to(root).parts:
            for text in _START.split(file.read_text(encoding="utf-8"))[1:]:
                found.append(" ".join(_END.split(text, maxsplit=1)[0].split()))
    return tuple(found)


def _plain(raw: str) -> str:
    """Without links, roles, addresses and emphasis; quotation marks of all kinds become "."""
    text = re.sub(r"(?::[a-z:]+:)?`([^`<]*?)\s*<[^>]*>`_*", r"\1", raw)
    text = re.sub(r":[a-z]+:`[^`]*`", "", text)
    text = re.sub(r"``|''|[“”]", '"', text)
    text = re.sub(r"(?:https?|ftp)://\S+|(?i:doi):?\s*\S+|%\(\w+\)s", "", text)
    text = unicodedata.normalize("NFC", re.sub(r"[*`]", "", text))
    return " ".join(re.sub(r"[\u0300-\u036f]", "", text).split())  # accents without a letter


def _work(title: str) -> str:
    """What makes two titles the same work: their first words, without case and punctuation."""
    return " ".join(re.findall(r"\w+", title.lower())[:6])


def _split_of(work: str) -> Split:
    share = zlib.crc32(work.encode()) % 100
    return "train" if share < 70 else "validation" if share < 80 else "test"


def _shuffled(words: Sequence[str]) -> int:
    return zlib.crc32("\0".join(words).encode())


def _tagged(before: str, title: str, after: str, library: str) -> Reference | None:
    """Words and tags, or None where a part is missing or does not look like a reference."""
    parts = [split_words(part) for part in (before, title, after)]
    first, second, third = parts
    end = next((i for i, word in enumerate(first) if word == "(" or _YEAR.fullmatch(word)), None)
    start = 0
    while start < len(third) and _before_venue(third[start]):
        start += 1
    stop = start
    while stop < len(third) and not _ends_venue(third[stop]):
        stop += 1
    spans = [_trimmed(first, 0, end), _trimmed(second, 0, None), _trimmed(third, start, stop)]
    words = tuple(word for part in parts for word in part)
    if not all(spans[:2]) or len(words) > _LONGEST or {"\\", "$", "="} & set(words):
        return None
    tags, offset = ["O"] * len(words), 0
    for name, span, part in zip(TYPES, spans, parts, strict=True):
        for place in range(*span) if span else ():
            tags[offset + place] = f"{'B' if place == span[0] else 'I'}-{name}"
        offset += len(part)
    return Reference(words, tuple(tags), library)


def _before_venue(word: str) -> bool:
    return word in ",.;:-()" or word.lower() == "in" or _YEAR.fullmatch(word) is not None


def _ends_venue(word: str) -> bool:
    return word.lower() in _ENDS_VENUE or any(letter.isdigit() for letter in word)


def _trimmed(words: Sequence[str], start: int, stop: int | None) -> tuple[int, int] | None:
    """The span without punctuation at its ends; None if no word is left."""
    stop = len(words) if stop is None else stop
    while start < stop and not words[start][0].isalnum():
        start += 1
    while stop > start and not words[stop - 1][0].isalnum():
        if words[stop - 1] == ")" and "(" in words[start:stop]:
            break
        stop -= 1
    return (start, stop) if start < stop else None
