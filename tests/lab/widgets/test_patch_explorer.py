"""The patch explorer's Python side: cropping, costs, traits, the static picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import traitlets

from zoo_lessons.lab.widgets import PatchExplorer
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.patches import image_to_patches


def photo(height: int = 70, width: int = 100, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, channels)[: 2 + (channels > 1)])


@pytest.fixture
def explorer() -> PatchExplorer:
    return PatchExplorer(photo(), (4, 8, 16, 32), patch_size=16)


def test_the_middle_is_cropped_so_that_all_sizes_divide(explorer):
    pixels = np.frombuffer(explorer._payload["pixels"], np.uint8).reshape(64, 96, 3)
    expected = np.rint(photo()[3:67, 2:98] * 255)
    np.testing.assert_array_equal(pixels, expected)
    assert explorer._payload["given"] == [70, 100]
    assert explorer.grid == (4, 6)
    assert PatchExplorer(photo(channels=1), (7,)).grid == (10, 14)


def test_patches_are_the_librarys(explorer):
    images = torch.from_numpy(photo()[3:67, 2:98]).permute(2, 0, 1)[None]
    for size in explorer.patch_sizes:
        explorer.patch_size = size
        patches = image_to_patches(images, size)
        assert explorer.costs()["patches"] == patches.shape[1]
        assert f"{patches.shape[2]:,} numbers" in explorer.static_text()


def test_multiply_adds_are_those_of_a_block():
    explorer = PatchExplorer(photo(), (16,), d_model=8, d_ff=24)
    block = EncoderBlock(8, 2, 24).eval()
    tokens = explorer.costs()["tokens"]
    assert tokens == 25
    linear = {"projections": 0, "feed-forward": 0}
    for name, module in block.named_modules():
        if isinstance(module, torch.nn.Linear):
            part = "feed-forward" if "feed_forward" in name else "projections"
            linear[part] += tokens * module.in_features * module.out_features
    assert {name: explorer.costs()[name] for name in linear} == linear
    # Scores: tokens² dot products over d_model numbers, heads together; the sums cost as much.
    assert explorer.costs()["attention"] == 2 * 25 * 25 * 8


def test_half_the_side_means_sixteen_times_the_scores():
    explorer = PatchExplorer(photo(), (8, 16), class_token=False)
    scores = {}
    for explorer.patch_size in (8, 16):
        scores[explorer.patch_size] = explorer.costs()["scores"]
    assert scores[8] == 16 * scores[16] == 96**2


def test_traits_stay_in_range(explorer):
    assert (explorer.patch_size, explorer.patch) == (16, 15)
    with pytest.raises(traitlets.TraitError, match=r"patch_size=5 is none of \[4, 8, 16, 32\]"):
        explorer.patch_size = 5
    with pytest.raises(traitlets.TraitError, match=r"patch=24 is outside 0\.\.23"):
        explorer.patch = 24
    explorer.patch_size = 32  # 2 x 3 patches
    assert explorer.patch == 5
    explorer.set_state({"patch_size": 4, "patch": 383})  # as the browser sends them
    assert (explorer.patch_size, explorer.patch) == (4, 383)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_sizes": (64, 48)}, r"\[48, 64\] divide only multiples of 192.*70×100"),
        ({"patch_sizes": ()}, "patch_sizes=.* must be whole numbers"),
        ({"patch_sizes": (0, 4)}, "patch_sizes=.* must be whole numbers"),
        ({"patch_sizes": (4.5,)}, "patch_sizes=.* must be whole numbers"),
        ({"patch_sizes": (4, 8), "patch_size": 16}, r"patch_size=16 is none of \[4, 8\]"),
        ({"image": photo().transpose(2, 0, 1)}, "permute"),
    ],
)
def test_wrong_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PatchExplorer(**{"image": photo(), "patch_sizes": (4, 8), **options})


def test_text_and_picture_follow_the_choice(explorer):
    again = PatchExplorer(photo(), (4, 8, 16, 32), patch_size=16)
    assert explorer.static_text() == again.static_text()
    assert explorer.static_text() == (
        "PatchExplorer: an image of 64 x 96 pixels in patches of 16 x 16: 4 x 6 = 24 patches of "
        "768 numbers, sequence length 25, 625 scores per head, attention is 0.5% of a layer's "
        "multiply-adds"
    )
    first = explorer.static_png()
    assert first == again.static_png()
    again.patch = 0
    assert first != again.static_png()
    again.patch_size = 8
    assert explorer.static_text() != again.static_text()


def test_picture_of_a_photograph_is_small():
    from zoo_lessons.datasets.digits import photographs

    explorer = PatchExplorer(photographs()["china"].permute(1, 2, 0), patch_size=4)
    assert explorer.grid == (96, 160)
    assert len(explorer.static_png()) < 200_000
