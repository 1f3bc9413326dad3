"""Sequence tasks: each answer follows from what came before, and only questions are asked."""

import pytest
import torch

from zoo_lessons.datasets.sequence_tasks import (
    COPY,
    FIRST_SYMBOL,
    NOISE,
    SEPARATOR,
    TASKS,
    as_text,
    sequence_batch,
    vocabulary_size,
)


def draw(task, seed=0, size=50, **options):
    return sequence_batch(task, size, generator=torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("task", ["copying", "selective copying"])
@pytest.mark.parametrize(("kept", "places"), [(8, 24), (3, 3), (12, 13)])
def test_copying_asks_for_the_symbols_in_order(task, kept, places):
    input_ids, asked = draw(task, kept=kept, places=places)
    assert input_ids.shape == asked.shape == (50, places + 1 + kept)
    for row, questions in zip(input_ids, asked, strict=True):
        context = row[:places]
        symbols = context[context != NOISE]
        assert row[places] == COPY
        assert torch.equal(row[places + 1 :], symbols)
        assert torch.equal(row[1:][questions[:-1]], symbols)
        assert len(set(symbols.tolist())) == kept
    assert not asked[:, -1].any()


def test_only_selective_copying_moves_the_symbols():
    places = {task: draw(task).input_ids[:, :24] != NOISE for task in TASKS[:2]}
    assert (places["copying"] == places["copying"][0]).all()
    assert (places["copying"][0].nonzero() < 8).all()
    share = places["selective copying"].float().mean(dim=0)
    assert ((share > 0.05) & (share < 0.7)).all()  # 8 of 24 everywhere


@pytest.mark.parametrize(("kept", "questions"), [(8, 6), (8, 7), (2, 1)])
def test_induction_asks_for_what_followed(kept, questions):
    input_ids, asked = draw("induction", kept=kept, questions=questions)
    assert input_ids.shape == (50, kept + 3 * questions)
    for row, places in zip(input_ids.tolist(), asked, strict=True):
        shown = row[:kept]
        follower = dict(zip(shown, shown[1:], strict=False))
        assert len(set(shown)) == kept
        found = places.nonzero().flatten().tolist()
        assert len(found) == questions
        for at in found:
            assert row[at - 1] == SEPARATOR
            assert row[at + 1] == follower[row[at]]
        assert len({row[at] for at in found}) == questions  # none is asked twice


@pytest.mark.parametrize("task", TASKS)
def test_ids_lie_in_the_vocabulary_and_the_seed_decides(task):
    first, again, other = (draw(task, seed=seed, num_symbols=9) for seed in (1, 1, 2))
    assert torch.equal(first.input_ids, again.input_ids)
    assert not torch.equal(first.input_ids, other.input_ids)
    symbols = first.input_ids[first.input_ids >= FIRST_SYMBOL]
    assert set(symbols.tolist()) == set(range(FIRST_SYMBOL, vocabulary_size(9)))


def test_as_text():
    assert as_text(torch.tensor([3, NOISE, 5, COPY, 3, SEPARATOR])) == "a · c > a |"


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("sorting", {}, "task='sorting', expected one of copying, selective copying, induction"),
        ("copying", {"kept": 13}, "kept=13, expected 2 to num_symbols=12"),
        ("copying", {"kept": 8, "places": 7}, "places=7, expected at least kept=8"),
        ("induction", {"kept": 6, "questions": 6}, "questions=6, expected 1 to 5"),
    ],
)
def test_errors(task, options, message):
    with pytest.raises(ValueError, match=message):
        sequence_batch(task, 2, **options)
