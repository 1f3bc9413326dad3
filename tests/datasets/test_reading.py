import itertools
import re

import pytest

from zoo_lessons.datasets.reading import SPLITS, reading_questions


@pytest.mark.parametrize("split", SPLITS)
def test_answers_are_pieces_of_their_passages(split):
    questions = reading_questions(split, 300)
    assert len(questions) == 300
    for q in questions:
        if q.answerable:
            assert q.passage[q.start : q.start + len(q.answer)] == q.answer
            assert (q.start, q.answer) in q.candidates
        else:
            assert (q.answer, q.start) == ("", -1)
        for start, text in q.candidates:
            assert q.passage[start : start + len(text)] == text
    share = sum(q.answerable for q in questions) / 300
    assert 0.65 < share < 0.85


def test_every_answer_has_a_rival_in_its_sentence():
    for q in reading_questions("validation", 200):
        if q.answerable:
            sentence = next(
                m.span() for m in re.finditer(r"[^.]+\.", q.passage) if m.end() > q.start
            )
            inside = [text for start, text in q.candidates if sentence[0] <= start < sentence[1]]
            assert len(inside) == 2 and inside[0] != inside[1]


def test_splits_share_no_words_that_matter():
    def words(split, share):
        return set(re.findall(r"\w+", " ".join(share(q) for q in reading_questions(split, 400))))

    answers = {split: words(split, lambda q: q.answer) for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        common = {word for word in answers[one] & answers[other] if not word.isdigit()}
        assert common <= {"room", "house"}


def test_the_test_split_has_its_own_wordings():
    def wordings(split):
        texts = (q.question for q in reading_questions(split, 600))
        return {re.sub(r"the \w+ \w+|\b[A-Z]\w+(?<!Who)(?<!When)(?<!Where)", "_", t) for t in texts}

    assert wordings("train") & wordings("validation")
    assert not wordings("train") & wordings("test")


def test_an_unanswerable_question_asks_for_what_is_not_told():
    for q in reading_questions("train", 300, sentences=1):
        thing = re.search(r"the (\w+ \w+)", q.question)[1]
        if q.answerable:
            assert f"the {thing}" in q.passage.replace("The", "the")


def test_the_same_seed_gives_the_same_questions():
    assert reading_questions("test", 5, seed=3) == reading_questions("test", 5, seed=3)
    assert reading_questions("test", 5, seed=3) != reading_questions("test", 5, seed=4)


@pytest.mark.parametrize("sentences", [1, 2, 3])
def test_number_of_sentences(sentences):
    for q in reading_questions("train", 20, sentences=sentences):
        assert q.passage.count(".") == sentences


def test_refused():
    with pytest.raises(ValueError, match="split 'dev' must be one of"):
        reading_questions("dev", 3)
    with pytest.raises(ValueError, match="count=-1"):
        reading_questions("train", -1)
    with pytest.raises(ValueError, match="sentences=4"):
        reading_questions("train", 1, sentences=4)
