"""The last-noun task: labels as a plain loop gives them, and what may be asked for."""

import pytest
import torch

from zoo_lessons.datasets.last_noun import (
    NO_LABEL,
    NOUNS,
    WORDS,
    last_noun_batch,
    last_nouns,
)


def draw(seed=0, batch_size=20, length=15, **kwargs):
    return last_noun_batch(batch_size, length, torch.Generator().manual_seed(seed), **kwargs)


def test_labels_agree_with_a_loop():
    batch = draw()
    for words, labels in zip(batch.input_ids.tolist(), batch.labels.tolist(), strict=True):
        last = NO_LABEL
        for word, label in zip(words, labels, strict=True):
            assert label == last  # the word itself does not count yet
            last = word if word < len(NOUNS) else last


def test_order_matters():
    one = torch.tensor([[0, 1, 9]])
    assert last_nouns(one)[0].tolist() == [NO_LABEL, 0, 1]
    assert last_nouns(one[:, [1, 0, 2]])[0].tolist() == [NO_LABEL, 1, 0]


def test_batch():
    batch = draw(batch_size=400, length=50)
    assert batch.input_ids.shape == batch.labels.shape == (400, 50)
    assert set(batch.input_ids.unique().tolist()) == set(range(len(WORDS)))
    assert (batch.input_ids < len(NOUNS)).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(batch.input_ids, draw(batch_size=400, length=50).input_ids)
    assert not torch.equal(batch.input_ids, draw(1, batch_size=400, length=50).input_ids)
    assert (draw(noun_share=0.0).labels == NO_LABEL).all()


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"length": 0}, {"noun_share": 1.5}])
def test_errors(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        draw(**wrong)
