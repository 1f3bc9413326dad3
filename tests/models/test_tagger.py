"""The tagger: only the position encoding differs, and each encoding breaks the bag of words."""

from dataclasses import replace

import pytest
import torch

from zoo_lessons.models.tagger import Tagger, TaggerConfig

CONFIG = TaggerConfig(vocab_size=11, num_labels=5, d_model=24, num_heads=3, d_ff=20, max_length=9)
ORDER = torch.tensor([4, 2, 0, 5, 1, 3])


def build(positions):
    torch.manual_seed(0)
    return Tagger(replace(CONFIG, positions=positions)).eval()


def outputs(positions):
    model, ids = build(positions), torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])
    return model(ids)[:, ORDER], model(ids[:, ORDER])


def test_without_positions_it_is_a_bag_of_words():
    moved, read = outputs("none")
    assert moved.shape == (2, 6, 5)
    torch.testing.assert_close(moved, read)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "relative", "rotary"])
def test_positions_tell_the_order(positions):
    moved, read = outputs(positions)
    assert not torch.allclose(moved, read, atol=1e-4)


def test_parameters():
    count = {
        name: sum(p.numel() for p in build(name).parameters())
        for name in ("none", "sinusoidal", "learned", "relative", "rotary")
    }
    extra = {name: number - count["none"] for name, number in count.items()}
    assert extra == {
        "none": 0, "sinusoidal": 0, "learned": 9 * 24, "relative": 32 * 3, "rotary": 0,
    }  # fmt: skip


def test_length():
    ids = torch.zeros(1, 10, dtype=torch.long)
    for positions in ("sinusoidal", "relative", "rotary"):
        assert build(positions)(ids).shape == (1, 10, 5)
    with pytest.raises(ValueError, match="10 positions, expected at most max_length=9"):
        build("learned")(ids)


def test_errors():
    with pytest.raises(ValueError, match="positions='rope', expected one of none, sinusoidal"):
        replace(CONFIG, positions="rope")
    with pytest.raises(ValueError, match="ids from 11 to 11, expected 0 to 10"):
        build("none")(torch.tensor([[11]]))
