"""Requests: what they look like, and what is wrong with one that does not.

A request is a JSON object; its `type` says which model it is for. Nothing that comes from outside
is ever unpickled or evaluated, and images come as numbers, so that no image decoder meets bytes of
unknown origin.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

DIGIT_SIZE, SHAPES_SIZE, MAX_CHARACTERS = 8, 48, 2000
SHAPES_BYTES = SHAPES_SIZE * SHAPES_SIZE * 3


class RequestError(Exception):
    """A request that gets an error for an answer.

    Attributes:
        status: of HTTP.
        code: one word for programs.
        retry_after: seconds after which it makes sense to try again, if it does.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after

    def body(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": str(self)}}


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    user: str | None = Field(default=None, max_length=100)

    def input(self) -> Any:
        """What the model sees, as JSON: everything but the type and the user."""
        return self.model_dump(exclude={"type", "user"})


class EmbedRequest(_Request):
    """{"type": "embed", "text": "The cat sat on the mat"}"""

    type: Literal["embed"]
    text: str = Field(min_length=1, max_length=MAX_CHARACTERS)


class DigitRequest(_Request):
    """{"type": "digit", "image": 8 rows of 8 numbers from 0 (paper) to 1 (ink)}"""

    type: Literal["digit"]
    image: list[list[float]]

    @field_validator("image")
    @classmethod
    def _is_image(cls, image: list[list[float]]) -> list[list[float]]:
        if len(image) != DIGIT_SIZE:
            raise ValueError(f"image has {len(image)} rows, expected {DIGIT_SIZE}")
        for i, row in enumerate(image):
            if len(row) != DIGIT_SIZE:
                raise ValueError(f"image row {i} has {len(row)} numbers, expected {DIGIT_SIZE}")
            wrong = [value for value in row if not 0 <= value <= 1]  # NaN is wrong, too
            if wrong:
                raise ValueError(f"image row {i} holds {wrong[0]}, expected numbers from 0 to 1")
        return image


class CaptionRequest(_Request):
    """{"type": "caption", "image": base64 of 48 · 48 · 3 bytes: rows of red, green, blue}"""

    type: Literal["caption"]
    image: str

    @field_validator("image")
    @classmethod
    def _is_image(cls, image: str) -> str:
        try:
            given = len(base64.b64decode(image, validate=True))
        except binascii.Error as error:
            raise ValueError(f"image is not base64 ({error})") from None
        if given != SHAPES_BYTES:
            raise ValueError(
                f"image has {given} bytes, expected {SHAPES_BYTES} "
                f"({SHAPES_SIZE} rows of {SHAPES_SIZE} pixels of red, green, blue)"
            )
        return image


class Feedback(BaseModel):
    """{"id": of an answer, "label": what would have been right}"""

    model_config = ConfigDict(extra="forbid", strict=True)
    id: str = Field(max_length=64)
    label: int | str


PredictRequest = EmbedRequest | DigitRequest | CaptionRequest
_PREDICT = TypeAdapter(Annotated[PredictRequest, Field(discriminator="type")])
_FEEDBACK = TypeAdapter(Feedback)


def parse_request(body: bytes) -> PredictRequest:
    """A checked request.

    Raises:
        RequestError: 400 if the body is not a JSON object, 422 if it is not a request; the message
            says where, what came, and what was expected.
    """
    return _parse(body, _PREDICT)


def parse_feedback(body: bytes) -> Feedback:
    """Checked feedback. Raises RequestError as `parse_request` does."""
    return _parse(body, _FEEDBACK)


def _parse(body: bytes, adapter: TypeAdapter) -> Any:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise RequestError(400, "not_json", f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise RequestError(
            400, "not_an_object", f"the body is {_kind(value)}, expected a JSON object"
        )
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise RequestError(422, "invalid_request", _explain(error)) from None


def _explain(error: ValidationError) -> str:
    """The first three problems, each with its place, what came and what was expected."""
    problems = error.errors(include_url=False)
    parts = []
    for problem in problems[:3]:
        place = ".".join(str(step) for step in problem["loc"])
        given = problem.get("input")
        if problem["type"] == "value_error":  # ours: says both already
            text = str(problem["ctx"]["error"])
        elif problem["type"] in ("missing", "extra_forbidden"):
            text = problem["msg"]
        else:
            text = f"{problem['msg']}; given: {_short(given)}"
        parts.append(f"{place}: {text}" if place else text)
    more = len(problems) - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more else "")


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a Boolean", type(None): "null"}
    return names.get(type(value), "a number")
