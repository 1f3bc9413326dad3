"""Exercises of lesson 03: sinusoids, distances, buckets, rotation, and a misplaced rotation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from zoo_lessons.lab.exercises import Case, Exercise, Mistake, Verdict
from zoo_lessons.layers import Rotary, sinusoidal_positions

# Sinusoidal positions


def _sinusoids(
    angle: Callable[[Tensor, Tensor, int, float], Tensor], layout: str = "side by side"
) -> Callable[..., Tensor]:
    """A table of sines and cosines of `angle(position, i, d_model, base)`, i counting pairs."""

    def answer(length: int, d_model: int, base: float = 10000.0) -> Tensor:
        position = torch.arange(length, dtype=torch.float64)[:, None]
        i = torch.arange(d_model // 2, dtype=torch.float64)
        turned = angle(position, i, d_model, base)
        if layout == "halves":
            return torch.cat([turned.sin(), turned.cos()], dim=-1).float()
        both = [turned.sin(), turned.cos()]
        if layout == "cosine first":
            both.reverse()
        return torch.stack(both, dim=-1).flatten(1).float()

    return answer


def _angle(position: Tensor, i: Tensor, d_model: int, base: float) -> Tensor:
    return position / base ** (2 * i / d_model)


def _own_frequency(length: int, d_model: int, base: float = 10000.0) -> Tensor:
    """Each dimension, not each pair, has a frequency of its own."""
    position = torch.arange(length, dtype=torch.float64)[:, None]
    angle = position / base ** (torch.arange(d_model, dtype=torch.float64) / d_model)
    table = angle.sin()
    table[:, 1::2] = angle[:, 1::2].cos()
    return table.float()


SINUSOIDAL = Exercise(
    id="03.sinusoidal",
    title="The sinusoidal table",
    reference=lambda length, d_model, base=10000.0: sinusoidal_positions(length, d_model, base),
    cases=(
        Case((7, 6), label="7 positions, 6 dimensions"),
        Case((12, 12), label="as many positions as dimensions"),
        Case((5, 2), label="a single pair"),
        Case((40, 8, 100.0), label="base 100"),
        Case((1, 4), label="a single position"),
    ),
    mistakes=(
        Mistake(
            "all sines first, then all cosines",
            _sinusoids(_angle, "halves"),
            "The numbers are right, their places are not. Print the row of position 0: sine and "
            "cosine should alternate, 0 1 0 1 ... Other libraries do use your layout.",
        ),
        Mistake(
            "the cosine comes before the sine",
            _sinusoids(_angle, "cosine first"),
            "Print the row of position 0. The even dimensions 2i hold sin(0) = 0.",
        ),
        Mistake(
            "the exponent is i/d_model instead of 2i/d_model",
            _sinusoids(lambda p, i, d, base: p / base ** (i / d)),
            "Compare the frequency of the last pair with 1/base: yours stops about halfway, at "
            "1/√base. Here i counts pairs; what stands in the exponent?",
        ),
        Mistake(
            "the sine and the cosine of a pair have different frequencies",
            _own_frequency,
            "A sine and its cosine must turn together, or they do not form a point on a circle: "
            "check sin² + cos² = 1 for dimensions 0 and 1 at position 5.",
        ),
        Mistake(
            "the angle is multiplied by base^(2i/d_model) instead of divided",
            _sinusoids(lambda p, i, d, base: p * base ** (2 * i / d)),
            "Later pairs should turn more slowly. Print the last two columns: yours jump wildly.",
        ),
        Mistake(
            "positions start at 1",
            _sinusoids(lambda p, i, d, base: _angle(p + 1, i, d, base)),
            "The first row belongs to position 0: all its sines are 0, all its cosines 1.",
        ),
        Mistake(
            "the angle is taken in degrees",
            _sinusoids(lambda p, i, d, base: torch.deg2rad(_angle(p, i, d, base))),
            "`torch.sin` takes radians, and the formula means radians. No conversion is needed.",
        ),
    ),
)

# Distances and buckets


def _distance(queries: int, keys: int) -> Tensor:
    return torch.arange(keys)[None, :] - torch.arange(queries)[:, None]


DISTANCE = Exercise(
    id="03.distance",
    title="The distance of every pair",
    reference=_distance,
    cases=(
        Case((4, 6), label="4 queries, 6 keys"),
        Case((6, 4), label="6 queries, 4 keys"),
        Case((5, 5), label="as many queries as keys"),
        Case((1, 3), label="a single query"),
    ),
    mistakes=(
        Mistake(
            "query minus key",
            lambda queries, keys: -_distance(queries, keys),
            "Look at row 0: all keys of the first query come after it or are itself. Which sign "
            "should a key that comes later have?",
        ),
        Mistake(
            "the sign is lost",
            lambda queries, keys: _distance(queries, keys).abs(),
            "The word before and the word after get the same number in yours. Order is what we are "
            "after: keep the sign.",
        ),
        Mistake(
            "rows belong to the keys",
            lambda queries, keys: _distance(queries, keys).T.contiguous(),
            "Rows belong to queries and columns to keys, as in the scores. Compare your shape with "
            "(queries, keys).",
        ),
        Mistake(
            "the distance starts at 1",
            lambda queries, keys: _distance(queries, keys) + 1,
            "How far is a word from itself? Look at your diagonal.",
        ),
        Mistake(
            "numbers with a decimal point",
            lambda queries, keys: _distance(queries, keys).float(),
            "The numbers are right. Print the dtype: a distance counts places and picks a bucket, "
            "so it must be an integer.",
        ),
    ),
)

DISTANCES = (-5, 5, -200)  # the exercise's question: key minus query
_BUCKETS = (5, 21, 15)
_BUCKET_MISTAKES = (
    Mistake(
        "before and after are swapped",
        (21, 5, 31),
        "The distance is key minus query: -5 is a key that came *before* the query. Which half of "
        "the buckets is for those?",
    ),
    Mistake(
        "both directions share the buckets",
        (5, 5, 31),
        "All 32 buckets would then be for one direction. Half of them belong to keys after the "
        "query, so that order is not lost.",
    ),
    Mistake(
        "the far distance counts like a near one",
        (5, 21, 200),
        "There are only 32 buckets, numbered from 0. All distances from 128 on share the last "
        "bucket of their half.",
    ),
    Mistake(
        "the last bucket of the other half",
        (5, 21, 31),
        "Two of three. Distance -200 lies before the query, like -5. Which is the last bucket of "
        "that half?",
    ),
    Mistake(
        "the halves have 17 buckets",
        (5, 21, 16),
        "Two of three. The half for earlier keys has 16 buckets, and the first of them is number "
        "0.",
    ),
)


def _grade_buckets(answer: Any) -> Verdict:
    """Accept a tuple, a list or a tensor of three whole numbers."""
    numbers = answer.tolist() if isinstance(answer, Tensor) else list(answer)
    if len(numbers) != len(_BUCKETS):
        raise ValueError(f"expected {len(_BUCKETS)} bucket numbers, got {len(numbers)}")
    given = tuple(int(number) for number in numbers)
    if given == _BUCKETS:
        return Verdict(True, "Right: the sign picks the half, the distance the bucket in it.")
    for mistake in _BUCKET_MISTAKES:
        if given == mistake.answer:
            return Verdict(False, mistake=mistake.name)
    right = sum(one == other for one, other in zip(given, _BUCKETS, strict=True))
    return Verdict(False, f"{right} of 3 are right. Use the picture of the buckets above.")


BUCKET = Exercise(
    id="03.bucket",
    title="Which bucket?",
    reference=_BUCKETS,
    grade=_grade_buckets,
    mistakes=_BUCKET_MISTAKES,
)

# Rotating pairs


def _rotated(
    angle: Callable[[Tensor, Tensor, int, float], Tensor], halves: bool = False
) -> Callable[..., Tensor]:
    """Rotates pairs of x by `angle(position, i, width, base)`, i counting pairs."""

    def answer(x: Tensor, base: float = 10000.0) -> Tensor:
        length, width = x.shape[-2:]
        position = torch.arange(length, dtype=x.dtype)[:, None]
        turn = angle(position, torch.arange(width // 2, dtype=x.dtype), width, base)
        cos, sin = turn.cos(), turn.sin()
        if halves:
            a, b = x.chunk(2, dim=-1)
            return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)

    return answer


def _rotate_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    return (
        Case((normal(7, 6),), label="7 positions, 6 dimensions"),
        Case((normal(2, 3, 9, 4),), label="two more axes in front"),
        Case((normal(8, 8),), label="as many positions as dimensions"),
        Case((normal(20, 4), 50.0), label="base 50"),
        Case((normal(6, 10).float(),), label="float32"),
        Case((normal(6, 5).T[..., :4],), label="a non-contiguous input"),
    )


ROTATE = Exercise(
    id="03.rotate",
    title="Rotate the pairs",
    reference=lambda x, base=10000.0: Rotary(x.shape[-1], base, interleaved=True).rotate(x),
    cases=_rotate_cases,
    mistakes=(
        Mistake(
            "the pairs turn the other way round",
            _rotated(lambda p, i, d, base: -_angle(p, i, d, base)),
            "Put x = (1, 0) at position 1: the formula gives (cos θ, sin θ), with a positive "
            "second number. Which of your signs is off?",
        ),
        Mistake(
            "all pairs turn by the same angle",
            _rotated(lambda p, i, d, base: p + 0 * i),
            "Pair 0 is right, the others turn too fast. Where does θ_i come in?",
        ),
        Mistake(
            "the angle is taken in degrees",
            _rotated(lambda p, i, d, base: torch.deg2rad(_angle(p, i, d, base))),
            "`torch.sin` takes radians, and so does the formula. No conversion is needed.",
        ),
        Mistake(
            "the first half is paired with the second half",
            _rotated(_angle, halves=True),
            "That is how Llama pairs dimensions. Here the pairs are neighbours: (0, 1), (2, 3) and "
            "so on. `x[..., 0::2]` takes every second one.",
        ),
        Mistake(
            "positions start at 1",
            _rotated(lambda p, i, d, base: _angle(p + 1, i, d, base)),
            "The first row stands at position 0, so it must come back as it was.",
        ),
        Mistake(
            "the exponent is i/d instead of 2i/d",
            _rotated(lambda p, i, d, base: p / base ** (i / d)),
            "The last pairs turn too fast. i counts pairs, and there are d/2 of them; look at the "
            "exponent of θ_i again.",
        ),
        Mistake(
            "sine and cosine are multiplied in, but the pairs do not mix",
            lambda x, base=10000.0: x * (1 + sinusoidal_positions(*x.shape[-2:], base).to(x)),
            "A rotation mixes the two numbers of a pair and keeps the pair's length. Compare "
            "`x.norm(dim=-1)` before and after.",
        ),
    ),
)

# Find the bug


def scores_rotated_too_early(q: Tensor, k: Tensor, num_heads: int, start: int = 0) -> Tensor:
    """The faulty function of "find the bug": it rotates before the heads are split."""
    q, k = Rotary(q.shape[-1])(q, k, offset=start)
    q = q.unflatten(-1, (num_heads, -1)).transpose(1, 2)
    k = k.unflatten(-1, (num_heads, -1)).transpose(1, 2)
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def _heads(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # (batch, heads, length, head_dim)


def _scaled(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def _scores(q: Tensor, k: Tensor, num_heads: int, start: int = 0) -> Tensor:
    q, k = _heads(q, num_heads), _heads(k, num_heads)
    return _scaled(*Rotary(q.shape[-1])(q, k, offset=start))


def _interleaved_too_early(q: Tensor, k: Tensor, num_heads: int, start: int = 0) -> Tensor:
    q, k = Rotary(q.shape[-1], interleaved=True)(q, k, offset=start)
    return _scaled(_heads(q, num_heads), _heads(k, num_heads))


def _positions_are_heads(q: Tensor, k: Tensor, num_heads: int, start: int = 0) -> Tensor:
    q, k = q.unflatten(-1, (num_heads, -1)), k.unflatten(-1, (num_heads, -1))
    q, k = Rotary(q.shape[-1])(q, k, offset=start)  # the axis before the last is the heads'
    return _scaled(q.transpose(1, 2), k.transpose(1, 2))


def _queries_only(q: Tensor, k: Tensor, num_heads: int, start: int = 0) -> Tensor:
    q, k = _heads(q, num_heads), _heads(k, num_heads)
    return _scaled(Rotary(q.shape[-1]).rotate(q, start), k)


def _interleaved(q: Tensor, k: Tensor, num_heads: int, start: int = 0) -> Tensor:
    q, k = _heads(q, num_heads), _heads(k, num_heads)
    return _scaled(*Rotary(q.shape[-1], interleaved=True)(q, k, offset=start))


def _full_scale(q: Tensor, k: Tensor, num_heads: int, start: int = 0) -> Tensor:
    return _scores(q, k, num_heads, start) / math.sqrt(num_heads)


def _bug_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(4)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    return (
        Case((normal(2, 5, 12), normal(2, 5, 12), 3), label="3 heads of width 4"),
        Case((normal(1, 7, 16), normal(1, 7, 16), 2, 40), label="2 heads, starting at position 40"),
        Case((normal(3, 4, 16), normal(3, 4, 16), 4), label="as many heads as tokens"),
        Case((normal(2, 2, 8), normal(2, 6, 8), 2), label="2 new queries, 6 keys"),
    )


ROPE_BUG = Exercise(
    id="03.rope_bug",
    title="Find the bug: a distance that is none",
    reference=_scores,
    cases=_bug_cases,
    start=scores_rotated_too_early,
    mistakes=(
        Mistake(
            "neighbours are paired, but still before the heads are split",
            _interleaved_too_early,
            "The symptom is gone, the fault is not: pairs now stay inside a head, but the first "
            "head gets all fast pairs and the last all slow ones. Each head needs all frequencies.",
        ),
        Mistake(
            "the heads count as positions",
            _positions_are_heads,
            "`Rotary` takes the axis before the last for the positions. Print q.shape right before "
            "the rotation: which axis stands there?",
        ),
        Mistake(
            "only the queries are rotated",
            _queries_only,
            "The score must depend on the distance. If the key stays where it is, it depends on "
            "the query's position alone.",
        ),
        Mistake(
            "the pairing was changed along the way",
            _interleaved,
            "The rotation is in the right place. But `interleaved=True` pairs other dimensions: a "
            "trained model's weights would no longer fit. Keep the pairing of the first line.",
        ),
        Mistake(
            "the scale uses the whole width",
            _full_scale,
            "The rotation is right now. The scale is the square root of one head's width, not of "
            "d_model.",
        ),
    ),
)

EXERCISES = (SINUSOIDAL, DISTANCE, BUCKET, ROTATE, ROPE_BUG)
