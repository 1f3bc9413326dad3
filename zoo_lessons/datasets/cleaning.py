"""English sentences out of docstrings and documentation: no code, grammar, tables or markup."""

from __future__ import annotations

import re
from collections.abc import Iterator

MIN_WORDS = 10  # of a paragraph

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

_TYPOGRAPHY = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "…": "..."})
# A character that the pattern needs (looking for it is faster), the pattern, its replacement.
_MARKUP = tuple(
    (needed, re.compile(pattern), replacement)
    for needed, pattern, replacement in (
        ("`", r":math:`([^`\\^_{}]*)`", r"\1"),  # a formula without commands is just a letter
        ("`", r"!?:[\w:.+-]+:`~?!?[\w.]*?\.?([\w ]+(?:\(\))?)`", r"\1"),  # :func:`~numpy.dot`
        ("`", r":[\w:.+-]+:`([^`<]+?)\s*<[^`>]*>`", r"\1"),
        ("`", r"`([^`<]+?)\s*<[^`>]+>`_{1,2}", r"\1"),  # `a link <https://...>`_
        ("_", r"\s?\[[\w#*.-]{1,12}\]_", ""),  # [1]_
        ("`", r"``?(?:\.(?=[A-Z]))?([^`]*)``?_{0,2}", r"\1"),  # `code`, `.Axes`
        ("*", r"(?<![\w*])\*{1,2}(\w(?:[^*]*[\w.?!)])?)\*{1,2}(?![\w*])", r"\1"),  # *emphasis*
        ("[", r"(?<=[\w.,;)\"']) \[\d+\](?=[\s.,;]|$)", ""),  # a footnote's number
        ("-", r"(?<=[a-z])- (?=[a-z])(?!- (?:and|or) )", "-"),  # a line broken after a hyphen
    )
)
# What no sentence holds: grammar, prompts, formulas, addresses, rules and boxes of tables.
_NOT_PROSE = re.compile(
    r"::=|>>>|\\|https?://|www\.|@|[|{}$~^<>]|:\w+:|==|--+[->]|\[\[|\S {3,}\S|`"
)
_PLAIN_WORD = re.compile(r"""["'(]*[A-Za-z]+(?:[-'/][A-Za-z]+)*["')]*[.,;:!?]*["')]*$""")
_LITTLE_WORDS = frozenset(
    "the a an of to is are in and or for that this be if it not as by with on from at was can will "
    "which when than then its has have does do may must should would these those there no any all "
    "only each into used so but also".split()
)


def clean(text: str) -> list[str]:
    """The paragraphs of English in a docstring, or in a topic of the reference.

    Each is one line of at least ten words that begins with a capital letter, ends with a full stop,
    a question mark or an exclamation mark, and consists mostly of plain words, many of them such as
    "the" and "is". What does not look like this is left out, so some prose is lost, too.
    """
    found = []
    for block in _blocks(text):
        paragraph = _prose(" ".join(block))
        if paragraph:
            found.append(paragraph)
    return found


def _blocks(text: str) -> Iterator[list[str]]:
    """The blocks of lines that may be prose: no headings, listed sections, directives, code.

    A block ends at an empty line, at a list's next item, and where the indentation changes.
    """
    lines = [line.rstrip() for line in text.expandtabs().split("\n")] + [""]
    block: list[str] = []
    indent = 0  # of the block
    skip_from: int | None = None  # skip what is indented at least this much
    in_list_section = False
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        stripped = line.lstrip()
        here = len(line) - len(stripped)
        if not stripped or _UNDERLINE.match(line):
            if block:
                yield block
                if block[-1].endswith("::"):
                    skip_from = indent + 1
            block = []
            continue
        if skip_from is not None and here >= skip_from:
            continue
        skip_from = None
        is_heading = bool(_UNDERLINE.match(following))
        if is_heading:
            in_list_section = stripped.lower().strip("*: ") in _LIST_SECTIONS
        directive = _DIRECTIVE.match(stripped)
        section = _GOOGLE_SECTION.match(stripped)
        is_directive = directive or (section and section[1].lower() in _LIST_SECTIONS)
        bullet = _BULLET.match(stripped)
        changes = here < indent or here > indent + 4 or bullet or _FIELD.match(stripped)
        if block and (is_heading or is_directive or changes):
            yield block
            block = []
        if is_heading or in_list_section:
            continue
        if is_directive:
            if not (directive and directive[1] in _PROSE_DIRECTIVES):
                skip_from = here + 1
            continue
        if not block:
            indent = here
        block.append(stripped[bullet.end() :] if bullet else stripped)


_BEGINNING = re.compile(r"[\"'(]?[A-Z]")
_END = re.compile(r"[.!?][\"')]*$")
_MARKED_BEGINNING = re.compile(r"[\"'(*`:!“‘]|[A-Z]")


def _prose(text: str) -> str | None:
    """One paragraph without markup and without an unfinished sentence, or None: it is no prose."""
    if len(text) < 40 or not _MARKED_BEGINNING.match(text) or _FIELD.match(text):
        return None
    text = without_markup(text)
    if _NOT_PROSE.search(text) or not _BEGINNING.match(text):
        return None
    if not _END.search(text):  # ends in a colon, or in words without a full stop
        text = " ".join(sentences(text)[:-1])
    words = text.split()
    little = len([word for word in words if word.lower() in _LITTLE_WORDS])
    plain = len([word for word in words if _PLAIN_WORD.match(word)])
    if (
        little < 0.2 * len(words)
        or plain < 0.8 * len(words)
        or len(re.findall("[A-Za-z]+", text)) < MIN_WORDS
    ):
        return None
    return text


def without_markup(text: str) -> str:
    """The text on one line, without the marks of reStructuredText."""
    text = text.translate(_TYPOGRAPHY)
    for needed, pattern, replacement in _MARKUP:
        if needed in text:
            text = pattern.sub(replacement, text)
    return " ".join(text.split())


# A sentence ends with its mark and what closes around it, before a space and a new beginning, which
# is no initial ("R. W. Hamming").
_SENTENCE_END = re.compile(r"""[.!?]["')\]]*\s+(?=["'(\[*]*[A-Z0-9_])(?![A-Z]\.\s)""")
# ... unless the full stop belongs to an abbreviation, or to the second of two initials.
_ABBREVIATION = re.compile(
    r"""(?:^|[\s("'\[])(?:[Ee]\.g|[Ii]\.e|cf|vs|viz|resp|approx|al|[Ff]igs?|[Ee]qs?|Sec|Refs?|Ch
    |Vol|pp|Dr|Mrs?|Ms|Prof|(?:[A-Z]\.\s?)+[A-Z])\.$""",
    re.VERBOSE,
)


def sentences(text: str) -> list[str]:
    """Split a paragraph into sentences; joined by single spaces they give the paragraph back.

    A rule, not a model: a sentence ends at ".", "!" or "?" before white space and a capital letter,
    digit, underscore or quotation mark, unless the full stop belongs to an abbreviation such as
    "e.g.", or to initials. A single capital may end a sentence: in this prose it is more often a
    matrix A than a person.
    """
    text = " ".join(text.split())
    parts, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        if text[match.start()] == "." and _ABBREVIATION.search(text[start : match.start() + 1]):
            continue
        parts.append(text[start : match.end()].rstrip())
        start = match.end()
    return [*parts, text[start:]] if text[start:] else parts
