"""The look-up task: answers as a plain loop finds them, distances, and what may be asked for."""

import pytest
import torch

from zoo_lessons.datasets.look_up import NO_ANSWER, look_up_batch, written


def draw(seed=0, batch_size=20, pairs=9, **kwargs):
    return look_up_batch(batch_size, pairs, torch.Generator().manual_seed(seed), **kwargs)


@pytest.mark.parametrize("blanks", [0, 3])
def test_answers_and_distances_agree_with_a_loop(blanks):
    batch = draw(blanks=blanks)
    assert batch.keys.shape == (20, 18 + blanks)
    for rows in zip(*(part.tolist() for part in batch), strict=True):
        known = {}
        tokens = list(zip(*rows, strict=True))
        assert tokens[:blanks] == [(48, 0, NO_ANSWER, 0)] * blanks
        for place, (key, value, answer, distance) in enumerate(tokens[blanks:]):
            if place % 2 == 0:
                assert key not in known and (answer, distance) == (NO_ANSWER, 0)
                known[key] = (place, value - 1)
            else:
                assert value == 0 and (place - distance, answer) == known[key]
        assert all(0 <= value < 8 for _, value in known.values())


def test_near_and_far_are_asked_for_equally_often():
    """On a logarithmic scale: as often 1 to 2 entries back as 4 to 8, and so on."""
    distances = draw(batch_size=4000, pairs=31).distances[:, -1]  # of the last question
    back = (distances + 1) // 2
    shares = [((back >= low) & (back < 2 * low)).double().mean().item() for low in (1, 2, 4, 8, 16)]
    assert shares == pytest.approx([0.2] * 5, abs=0.02)


def test_same_seed_same_texts():
    assert all(torch.equal(one, other) for one, other in zip(draw(), draw(), strict=True))
    assert not torch.equal(draw().keys, draw(1).keys)


def test_written():
    batch = draw(batch_size=2, pairs=2, blanks=1)
    words = written(batch, 1).split()
    key, value = batch.keys[1, 1].item(), batch.values[1, 1].item()
    assert words[:3] == ["·", f"k{key}={value - 1}", f"k{key}?"] and len(words) == 5


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="pairs=0"):
        draw(pairs=0)
    with pytest.raises(ValueError, match="pairs=9, expected at most num_keys=8"):
        draw(num_keys=8)
