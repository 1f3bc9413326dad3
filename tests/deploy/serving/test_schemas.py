"""Requests: what passes, and what the error says about what does not."""

from __future__ import annotations

import base64
import json

import pytest

from zoo_lessons.deploy.serving.schemas import (
    SHAPES_BYTES,
    RequestError,
    parse_feedback,
    parse_request,
)

BLANK = [[0.0] * 8] * 8


def body(**fields) -> bytes:
    return json.dumps(fields).encode()


def test_a_request_keeps_its_input_and_leaves_out_who_asks() -> None:
    asked = parse_request(body(type="embed", text="The cat sat on the mat", user="ada"))
    assert asked.input() == {"text": "The cat sat on the mat"}
    assert (asked.type, asked.user) == ("embed", "ada")


def test_whole_numbers_in_an_image_are_numbers() -> None:
    assert parse_request(body(type="digit", image=[[1] * 8] * 8)).input() == {
        "image": [[1.0] * 8] * 8
    }


@pytest.mark.parametrize(
    ("given", "status", "parts"),
    [
        (b"{", 400, ["not JSON"]),
        (b"\xff\xfe", 400, ["not JSON"]),
        (b"[" * 100_000, 400, ["not JSON"]),
        (b"[1]", 400, ["an array", "JSON object"]),
        (b"null", 400, ["null"]),
        (body(text="x"), 422, ["type"]),
        (body(type="sing"), 422, ["'sing'", "'embed', 'digit', 'caption'"]),
        (body(type="embed"), 422, ["text", "required"]),
        (body(type="embed", text=""), 422, ["at least 1 character", '""']),
        (body(type="embed", text="a" * 2001), 422, ["at most 2000"]),
        (body(type="embed", text=5), 422, ["string", "5"]),
        (body(type="embed", text="a", admin=True), 422, ["admin", "not permitted"]),
        (body(type="digit", image=BLANK[:7]), 422, ["7 rows", "expected 8"]),
        (body(type="digit", image=[*BLANK[:7], [0.0] * 9]), 422, ["row 7", "9 numbers"]),
        (body(type="digit", image=[*BLANK[:7], [0.0] * 7 + [16.0]]), 422, ["16.0", "from 0 to 1"]),
        (body(type="digit", image=[*BLANK[:7], [0.0] * 7 + [float("nan")]]), 422, ["nan"]),
        (body(type="digit", image=[*BLANK[:7], ["0"] * 8]), 422, ["number", '"0"', "more"]),
        (body(type="caption", image="ä"), 422, ["image"]),
        (body(type="caption", image="AAAA"), 422, ["3 bytes", str(SHAPES_BYTES)]),
    ],
)
def test_an_error_says_what_came_and_what_was_expected(given, status, parts) -> None:
    with pytest.raises(RequestError) as caught:
        parse_request(given)
    assert caught.value.status == status
    for part in parts:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 600  # an error must not echo a whole request


def test_a_caption_request_has_the_right_number_of_bytes() -> None:
    image = base64.b64encode(bytes(SHAPES_BYTES)).decode()
    assert parse_request(body(type="caption", image=image)).input() == {"image": image}


def test_feedback_has_an_id_and_a_label() -> None:
    assert parse_feedback(body(id="a", label=3)).label == 3
    with pytest.raises(RequestError, match="label"):
        parse_feedback(body(id="a"))
