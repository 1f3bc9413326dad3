"""Passages of technical English with their topic, for text classification.

The passages are paragraphs of docstrings (`datasets.prose`). Their topic is where they come from:
`scipy.stats` writes about statistics, `matplotlib` about drawing. Nobody labelled them by hand, so
some labels are debatable: a paragraph about reading a file tells little of its topic. Paragraphs
that name one of the packages are left out, for a name would give the answer away.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from zoo_lessons.datasets.prose import documents

# topic -> the modules that write about it
MODULES = {
    "statistics": ("scipy.stats",),
    "drawing": ("matplotlib",),
    "machine learning": ("sklearn",),
    "neural networks": ("torch.nn", "torch.optim", "torch.autograd", "torch.distributions",
                        "torch.ao"),
    "arrays": ("numpy",),
    "internet": ("asyncio", "email", "ftplib", "html", "http", "imaplib", "nntplib", "poplib",
                 "smtplib", "socket", "socketserver", "ssl", "urllib", "xml", "xmlrpc"),
}  # fmt: skip
TOPICS = tuple(MODULES)
WORDS = (12, 60)  # the shortest and the longest passage

_GIVEN_AWAY = re.compile(
    r"numpy|scipy|sklearn|scikit|matplotlib|torch|\bmpl|\bnp\.|\bhttp|\bxml\b|email",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class TopicPassage:
    """A passage, the number of its topic in `TOPICS`, and the module whose docstring it is from."""

    text: str
    label: int
    module: str


def passages_by_topic(split: str, per_topic: int, *, seed: int = 0) -> list[TopicPassage]:
    """Equally many passages of each topic, in random order.

    Args:
        split: "train", "validation" or "test"; no module is in two of them, and no ten consecutive
            words either.
        per_topic: how many of each topic.
        seed: another seed draws other passages.

    Raises:
        ValueError: an unknown split, or a topic with fewer passages.
    """
    found: list[list[TopicPassage]] = [[] for _ in TOPICS]
    packages = ("python", "numpy", "scipy", "sklearn", "matplotlib", "torch")
    for document in documents("docstrings", split, packages=packages):
        label = _label(document.name)
        if label is not None:
            found[label] += [
                TopicPassage(text, label, document.name)
                for text in document.paragraphs
                if WORDS[0] <= len(text.split()) <= WORDS[1] and not _GIVEN_AWAY.search(text)
            ]
    chance = random.Random(f"{split} {seed}")
    chosen = []
    for topic, passages in zip(TOPICS, found, strict=True):
        if len(passages) < per_topic:
            raise ValueError(
                f"per_topic={per_topic}, but {split} has {len(passages)} passages on {topic}"
            )
        chosen += chance.sample(passages, per_topic)
    chance.shuffle(chosen)
    return chosen


def _label(module: str) -> int | None:
    for label, names in enumerate(MODULES.values()):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return label
    return None
