"""C16: counted on the photograph, and judged by the rule."""

from __future__ import annotations

import torch

from experiments.c16_patches import SIZES, c16_patches, cut, judge, middle
from zoo_lessons.models.vit import ViTConfig


def test_the_photograph_gives_what_the_claim_says():
    result = c16_patches()
    photograph = result["figures"]["photograph"]
    assert (photograph["patches"], photograph["values"], photograph["tokens"]) == (196, 768, 197)
    assert result["verdicts"]["C16"].verdict == "reproduced"


def test_middle_is_the_middle():
    image = torch.arange(6.0 * 8).view(1, 6, 8)
    assert torch.equal(middle(image, 4)[0, 0], image[0, 1:5, 2:6])


def test_other_counts_or_a_gap_refute_it():
    sizes = {"ViT-B/32": {"values": 3072, "width": 768}}
    good = cut(torch.rand(1, 3, 224, 224))
    assert judge(good, sizes).verdict == "reproduced"
    for change in ({"patches": 197}, {"values": 256}, {"equals_convolution": False}):
        assert judge({**good, **change}, sizes).verdict == "the article is wrong"


def test_sizes_agree_with_the_library():
    for name, config in {"ViT-B/16": ViTConfig.base(), "ViT-L/16": ViTConfig.large()}.items():
        assert SIZES[name] == (config.patch_size, config.d_model)
