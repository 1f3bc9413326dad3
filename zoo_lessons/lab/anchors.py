"""Where a link into a notebook leads: the anchors of headings.

JupyterLab makes a heading's anchor from its text, with hyphens for spaces; so do nbconvert,
nbviewer and GitHub's viewer, which are built on it. So a link to a section has one form for all of
them: `15_efficient_attention.ipynb#Hierarchical-attention:-what-it-saves`. A website that is built
by other tools makes other anchors, and must translate.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from zoo_lessons.lab.curriculum import lesson

# What JavaScript's encodeURI leaves alone. JupyterLab compares a link with its encoded form, so
# ours must be encoded as a browser does it.
_SAFE = "~@#$&*!+=:;,?/'"


def heading_anchor(heading: str) -> str:
    """The anchor of a heading, as JupyterLab makes it.

    Args:
        heading: its Markdown text, without the leading `##`.
    """
    text = re.sub(r"`([^`]*)`|\*\*([^*]*)\*\*", r"\1\2", heading.strip())
    return text.replace(" ", "-")


def headings(markdown: str) -> list[str]:
    """The headings of a Markdown text, without their `#`, in order. Code in fences has none."""
    without_code = re.sub(r"^```.*?^```", "", markdown, flags=re.M | re.S)
    return re.findall(r"^#{1,6} +(.+?)\s*$", without_code, re.M)


def percent_markdown(source: str) -> str:
    """The Markdown cells of a notebook in jupytext's percent format, joined to one text."""
    cells = re.split(r"^# %%(.*)$", source, flags=re.M)[1:]  # header, body, header, body ...
    texts = [
        body for head, body in zip(cells[::2], cells[1::2], strict=True) if "[markdown]" in head
    ]
    return "\n".join(re.sub(r"^# ?", "", text, flags=re.M) for text in texts)


def cell_link(cell: str) -> str:
    """The link to a lesson's section, as seen from another lesson.

    Args:
        cell: lesson and anchor, "04#Training-time-per-token", as verdicts name it.

    Raises:
        ValueError: no lesson has this number, or there is no anchor.
    """
    number, _, anchor = cell.partition("#")
    if not anchor:
        raise ValueError(f"cell {cell!r} must be lesson#heading, as in '04#What-it-costs'")
    return f"{lesson(number).slug}.ipynb#{quote(anchor, safe=_SAFE)}"
