"""References: gold tags follow the marks, and no work is in two splits."""

from __future__ import annotations

import pytest

from zoo_lessons.datasets import references as module
from zoo_lessons.datasets.references import TAGS, TYPES, references, split_words, unmarked
from zoo_lessons.tagging import entities, has_illegal_step

SPLITS = ("train", "validation", "test", "other")


def tagged(text: str) -> dict[str, str]:
    """Type -> words of the reference that this text becomes."""
    marked = module._MARKED.fullmatch(module._plain(text))
    reference = module._tagged(marked["before"], marked["title"], marked["after"], "numpy")
    return {
        name: " ".join(reference.words[first:after])
        for name, first, after in entities(reference.tags)
    }


def test_marks_become_tags():
    assert tagged('L. Breiman, "Bagging predictors", Machine Learning 24, 1996.') == {
        "AUTHORS": "L . Breiman",
        "TITLE": "Bagging predictors",
        "VENUE": "Machine Learning",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Roe, J. (1990). "One test." 1991, Some Journal, vol. 3', ("Roe , J", "One test")),
        ('Jane Roe, `"A test (and more)" <https://x.org>`_, Some Journal.', None),
        ("Roe, J., ``A test, again,'' in: *Some Journal* (1990)", ("Roe , J", "A test , again")),
    ],
)
def test_years_links_and_other_marks(text, expected):
    found = tagged(text)
    if expected:
        assert (found["AUTHORS"], found["TITLE"]) == expected
    else:
        assert found["TITLE"] == "A test ( and more )"
    assert found["VENUE"] == "Some Journal"


@pytest.mark.parametrize("split", SPLITS)
def test_tags_fit_the_words_and_are_legal(split):
    found = references(split)
    assert len(found) > 30
    for reference in found:
        assert len(reference.words) == len(reference.tags)
        assert set(reference.tags) <= set(TAGS) and not has_illegal_step(reference.tags)
        assert {name for name, _, _ in entities(reference.tags)} >= {"AUTHORS", "TITLE"}
        assert not set('"“”`*') & set("".join(reference.words))


def test_splits_share_no_title():
    def titles(split):
        return {
            " ".join(one.words[first:after]).lower()
            for one in references(split)
            for name, first, after in entities(one.tags)
            if name == "TITLE"
        }

    found = {split: titles(split) for split in SPLITS}
    for first in SPLITS:
        for second in SPLITS:
            assert first == second or not found[first] & found[second]


def test_order_and_content_do_not_change_between_calls():
    before = references("train")
    module._all_marked.cache_clear()
    assert references("train") == before
    assert {one.library for one in references("other")} == {module.OTHER_LIBRARY}


def test_unmarked_references_have_no_marks():
    found = unmarked()
    assert len(found) > 50
    assert not any('"' in words for words in found)


def test_split_words_keeps_names_and_parts_initials():
    assert split_words("P.J. O'Neil-Smith (1987)") == (
        *("P", ".", "J", ".", "O'Neil-Smith", "(", "1987", ")"),
    )
    assert len(TAGS) == 1 + 2 * len(TYPES)


def test_unknown_split():
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        references("dev")
