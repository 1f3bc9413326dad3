"""The interleave explorer's Python side: the mask, the pictures, errors, the static picture."""

import io

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image

from zoo_lessons.lab.widgets import InterleaveExplorer
from zoo_lessons.models.flamingo import image_mask

TOKENS = "Two pets : <image> a cat . <image> a dog .".split()


def pictures(count=2):
    return [np.full((12, 10, 3), 40 * i, np.uint8) for i in range(1, count + 1)]


@pytest.mark.parametrize("all_previous", [False, True])
@pytest.mark.parametrize("text", [TOKENS, ["<image>"], ["only", "words"], ["<image>"] * 3 + ["x"]])
def test_the_mask_is_the_models(text, all_previous):
    shown = InterleaveExplorer(text, all_previous=all_previous).mask()
    is_image = torch.tensor([[token == "<image>" for token in text]])
    expected = image_mask(is_image, text.count("<image>"), all_previous=all_previous)[0]
    assert shown.dtype == bool
    np.testing.assert_array_equal(shown, expected.numpy())


def test_text_says_what_the_picked_token_sees():
    assert InterleaveExplorer(TOKENS).static_text() == (
        "InterleaveExplorer: 11 tokens, 2 images, each token sees the last image; "
        "token 10 ('.') sees image 2"
    )
    explorer = InterleaveExplorer(TOKENS, query=9, all_previous=True)
    assert explorer.static_text().endswith("all images so far; token 9 ('dog') sees images 1, 2")
    explorer.query = 1
    assert explorer.static_text().endswith("token 1 ('pets') sees no image")


def test_picture_follows_the_state():
    first = InterleaveExplorer(TOKENS, pictures())
    assert first.static_png() == InterleaveExplorer(TOKENS, pictures()).static_png()
    for other in (
        InterleaveExplorer(TOKENS, pictures(), query=4),
        InterleaveExplorer(TOKENS, pictures(), all_previous=True),
        InterleaveExplorer(TOKENS),
        InterleaveExplorer(TOKENS, pictures()[::-1]),
    ):
        assert other.static_png() != first.static_png()
    picture = Image.open(io.BytesIO(first.static_png()))
    assert 700 <= picture.width <= 1000 and len(first.static_png()) < 60_000
    assert InterleaveExplorer(["no", "$image$", "here"]).static_png()


def test_images_are_sent_as_bytes():
    sent = InterleaveExplorer(TOKENS, pictures())._images
    assert [(i["height"], i["width"], i["channels"], len(i["pixels"])) for i in sent] == [
        (12, 10, 3, 360)
    ] * 2
    assert sent[1]["pixels"][0] == 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "got 0 tokens, expected 1 to 64"),
        ((["a"] * 65,), "got 65 tokens"),
        ((TOKENS, pictures(3)), "got 3 images for 2 <image> tokens"),
        ((TOKENS, [np.zeros((3, 4, 4))] * 2), r"image 1 has shape \(3, 4, 4\)"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        InterleaveExplorer(*arguments)


def test_wrong_numbers():
    with pytest.raises(ValueError, match="query=11 must be between 0 and 10"):
        InterleaveExplorer(TOKENS, query=11)
    with pytest.raises(ValueError, match="num_latents=0"):
        InterleaveExplorer(TOKENS, num_latents=0)
    explorer = InterleaveExplorer(TOKENS)
    with pytest.raises((ValueError, traitlets.TraitError), match="query=-1 must be"):
        explorer.query = -1
