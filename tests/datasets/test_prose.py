from __future__ import annotations

import hashlib
import itertools
import os
import re
import subprocess
import sys

import pytest

from zoo_lessons.datasets import prose
from zoo_lessons.datasets.prose import (
    PACKAGES,
    SPLITS,
    Document,
    documents,
    paragraphs,
    sentences,
)

# One package and the reference: all of prose takes seconds, and is built in the same way.
SMALL = ("numpy",)


def runs(texts: list[str], length: int = 10) -> set[tuple[str, ...]]:
    found = set()
    for text in texts:
        words = re.findall(r"[a-z]+", text.lower())
        found.update(tuple(words[start : start + length]) for start in range(len(words) - 9))
    return found


@pytest.mark.parametrize("source", ["reference", "all"])
def test_splits_share_no_document_and_no_ten_words(source: str) -> None:
    found = {split: documents(source, split, packages=SMALL) for split in SPLITS}
    names = {split: {(one.source, one.name) for one in found[split]} for split in SPLITS}
    seen = {
        split: runs([text for one in found[split] for text in one.paragraphs]) for split in SPLITS
    }
    for one, other in itertools.combinations(SPLITS, 2):
        assert names[one].isdisjoint(names[other])
        assert seen[one] and seen[other] and seen[one].isdisjoint(seen[other])


def test_every_document_is_in_the_split_of_its_name() -> None:
    for split in SPLITS:
        assert {one.split for one in documents("all", split, packages=SMALL)} == {split}
    assert sum(len(documents("reference", split)) for split in SPLITS) == len(documents())
    share = [Document("docstrings", f"module{i}", "").split for i in range(2000)].count("train")
    assert 0.77 < share / 2000 < 0.83


def test_paragraphs_are_clean_and_never_repeated() -> None:
    found = paragraphs("all", packages=SMALL)
    assert len(found) == len(set(found)) > 1500
    for paragraph in found:
        assert "\n" not in paragraph and "  " not in paragraph and paragraph == paragraph.strip()
        assert paragraph[-1] in ".!?\"')" and len(re.findall("[A-Za-z]+", paragraph)) >= 10
        assert not re.search(r"::=|>>>|``|https?:|\\|[|`]", paragraph)
        assert " ".join(sentences(paragraph)) == paragraph


def test_a_document_holds_its_paragraphs() -> None:
    one = next(one for one in documents("reference") if one.name == "The for statement")
    assert len(one.paragraphs) > 2 and "\n\n".join(one.paragraphs) == one.text
    assert any("the loop terminates" in text for text in one.paragraphs)
    assert paragraphs("reference") == [text for one in documents() for text in one.paragraphs]


def named(split: str) -> str:
    """The name of a document of this split."""
    names = (str(number) for number in itertools.count())
    return next(name for name in names if Document("", name, "").split == split)


def test_near_repetitions_stay_once_and_leave_the_held_out_splits() -> None:
    common = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    long = f"Return {common} fifteen sixteen seventeen eighteen nineteen twenty"
    new = (
        "All that follows is new and was never said before by anyone, so that more than half of "
        "what stands here is found in no other place."
    )
    kept = prose._without_repetitions(
        [
            Document("", named("train"), f"{long}.\n\n{long}, or so.\n\n{long}. {new}"),
            Document("", named("validation"), f"Here {common}.\n\nHere is a thing."),
            Document("", named("test"), f"There {common}.\n\nHere is a thing.\n\nThe end."),
        ]
    )
    texts = {one.split: one.paragraphs for one in kept}
    assert texts["train"] == [f"{long}.", f"{long}. {new}"]
    assert texts["validation"] == ["Here is a thing."]  # too short for a run of ten words
    assert texts["test"] == ["Here is a thing.", "The end."]


def test_the_sources_are_as_large_as_the_lessons_need() -> None:
    words = {
        split: sum(len(text.split()) for text in paragraphs("reference", split)) for split in SPLITS
    }
    assert words["train"] > 20_000 and min(words.values()) > 1_500
    assert PACKAGES[0] == "python"


def test_the_same_prose_in_every_process() -> None:
    code = (
        "import hashlib; from zoo_lessons.datasets.prose import documents; "
        "print(hashlib.sha256(repr(documents('all', packages=('numpy',))).encode()).hexdigest())"
    )
    digests = {hashlib.sha256(repr(documents("all", packages=SMALL)).encode()).hexdigest()}
    environment = {**os.environ, "PYTHONHASHSEED": "1"}  # in this process it is another one
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    digests.add(done.stdout.strip())
    assert len(digests) == 1


def test_errors() -> None:
    with pytest.raises(ValueError, match="source='web' must be one of 'reference'"):
        documents("web")
    with pytest.raises(ValueError, match="split='dev' must be one of 'train'"):
        paragraphs("reference", "dev")
    with pytest.raises(ValueError, match="packages must be a tuple"):
        documents("docstrings", packages="numpy")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        documents("docstrings", packages=("no_such_package",))
