"""The image search's Python side: rankings both ways, checks, the static picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from zoo_lessons.lab.widgets import ImageSearch

# Images 0 and 3 carry the same caption.
CAPTIONS = ["a red circle", "a blue star", "a green ring", "a red circle"]
VECTORS = {name: np.eye(3)[place] for place, name in enumerate(dict.fromkeys(CAPTIONS))}
IMAGE_VECTORS = np.array([[1, 0, 0], [0, 1, 0], [0, 0.6, 0.8], [0.8, 0.6, 0]])


def embed(text: str) -> np.ndarray:
    if text not in VECTORS:
        raise ValueError("I know three captions only.")
    return VECTORS[text]


def search(**changes: Any) -> ImageSearch:
    images = np.zeros((4, 8, 6, 3), dtype=np.uint8)
    images[..., 0] = np.array([10, 80, 150, 220])[:, None, None]
    options: dict[str, Any] = {
        "images": images,
        "captions": CAPTIONS,
        "image_embeds": IMAGE_VECTORS,
        "text_embeds": torch.tensor(np.stack([VECTORS[name] for name in CAPTIONS])),
        "embed": embed,
        "examples": ["a red circle", "a blue star"],
        "count": 3,
        "count_captions": 2,
    }
    return ImageSearch(**{**options, **changes})


def ask(box: ImageSearch, **content: Any) -> str:
    """The error that the reader sees, or ""."""
    sent = []
    box.send = sent.append
    box._handle_custom_msg({**content, "request": "r"}, [])
    return sent[0]["error"]


def test_the_first_search_is_there_at_once():
    shown = search()
    assert shown.query == "a red circle" and shown.picked == 0
    assert [each["image"] for each in shown._found["images"]] == [0, 3, 1]
    assert [each["cosine"] for each in shown._found["images"]] == [1.0, 0.8, 0.0]
    assert shown._found["images"][1]["pixels"] == bytes([220, 0, 0] * 48)
    assert [row["caption"] for row in shown._captions["rows"]] == ["a red circle", "a blue star"]


def test_texts_find_images_and_images_find_captions():
    shown = search()
    found = shown.search("a blue star")
    assert [image for image, _ in found] == [1, 2, 3]  # equal cosines keep their order
    assert shown.picked == 1
    assert shown.pick(2) == [
        ("a green ring", pytest.approx(0.8)),
        ("a blue star", pytest.approx(0.6)),
    ]
    assert [row["own"] for row in shown._captions["rows"]] == [True, False]


def test_equal_captions_are_listed_once_and_both_own():
    shown = search(count_captions=3)
    assert len(shown.pick(3)) == 3
    assert [row["own"] for row in shown._captions["rows"]] == [True, False, False]


def test_the_readers_questions_and_their_errors():
    shown = search()
    assert ask(shown, kind="text", text="a green ring") == ""
    assert (shown.query, shown.picked) == ("a green ring", 2)
    assert ask(shown, kind="image", image=3) == "" and shown.picked == 3
    assert ask(shown, kind="text", text="a cat") == "I know three captions only."
    assert ask(shown, kind="text", text=" ") == "Type a caption first."
    assert ask(shown, kind="image", image=4) == "image=4 is outside 0..3"
    assert (shown.query, shown.picked) == ("a green ring", 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"captions": CAPTIONS[:3]}, r"images have shape \(4, 8, 6, 3\) for 3 captions"),
        ({"image_embeds": 2 * IMAGE_VECTORS}, "image_embeds has rows of length 2 to 2, expected 1"),
        ({"text_embeds": IMAGE_VECTORS[:3]}, r"text_embeds has shape \(3, 3\), expected \(4, "),
        ({"image_embeds": IMAGE_VECTORS * np.nan}, "image_embeds has rows of length nan"),
        ({"count": 5}, "count=5 must be from 1 to 4"),
        ({"count_captions": 4}, "count_captions=4 must be from 1 to 3"),
        ({"examples": ()}, "needs a query or examples"),
        ({"query": "a cat"}, "three captions only"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        search(**changes)


def test_text_and_picture_follow_the_state():
    shown, again = search(), search()
    assert shown.static_text() == (
        "ImageSearch: “a red circle” among 4 images; the nearest one shows “a red circle”"
    )
    first = shown.static_png()
    assert first == again.static_png() and len(first) < 60_000
    shown.pick(3)
    assert shown.static_png() != first
    picked = shown.static_png()
    shown.search("a blue star")
    assert shown.static_png() not in (first, picked)
