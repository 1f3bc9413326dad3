"""Exercises of lesson 19: grids, integer sums, ranges, and training through a rounding."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case


def _random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- an asymmetric grid --------------------------------------------------------------------------


def quantize_asymmetric(x: Tensor, low: float, high: float) -> tuple[Tensor, float, int]:
    scale = (high - low) / 255
    zero_point = -128 - round(low / scale)
    q = ((x / scale).round() + zero_point).clamp(-128, 127).to(torch.int8)
    return q, scale, zero_point


def _grid_256_steps(x, low, high):
    scale = (high - low) / 256
    zero_point = -128 - round(low / scale)
    return ((x / scale).round() + zero_point).clamp(-128, 127).to(torch.int8), scale, zero_point


def _grid_zero_point_not_rounded(x, low, high):
    scale = (high - low) / 255
    zero_point = -128 - low / scale
    q = (x / scale + zero_point).round().clamp(-128, 127).to(torch.int8)
    return q, scale, zero_point


def _grid_zero_point_cut(x, low, high):
    scale = (high - low) / 255
    zero_point = -128 - int(low / scale)  # towards zero
    return ((x / scale).round() + zero_point).clamp(-128, 127).to(torch.int8), scale, zero_point


def _grid_zero_point_of_high_sign(x, low, high):
    scale = (high - low) / 255
    zero_point = -128 + round(low / scale)
    return ((x / scale).round() + zero_point).clamp(-128, 127).to(torch.int8), scale, zero_point


def _grid_cut_instead_of_rounded(x, low, high):
    scale = (high - low) / 255
    zero_point = -128 - round(low / scale)
    return ((x / scale).trunc() + zero_point).clamp(-128, 127).to(torch.int8), scale, zero_point


def _grid_wraps_around(x, low, high):
    scale = (high - low) / 255
    zero_point = -128 - round(low / scale)
    wide = (x / scale).round().to(torch.int64) + zero_point
    return ((wide + 128) % 256 - 128).to(torch.int8), scale, zero_point


def _grid_unsigned(x, low, high):
    scale = (high - low) / 255
    zero_point = -round(low / scale)
    return ((x / scale).round() + zero_point).clamp(0, 255).to(torch.uint8), scale, zero_point


def _grid_zero_point_subtracted(x, low, high):
    scale = (high - low) / 255
    zero_point = -128 - round(low / scale)
    return ((x / scale).round() - zero_point).clamp(-128, 127).to(torch.int8), scale, zero_point


def _grid_cases() -> tuple[Case, ...]:
    return (
        Case((2 * _random(5, 7, seed=0), -1.7, 4.1), label="numbers beyond both ends"),
        Case((_random(40, seed=1).abs() * 3 - 0.17, -0.17, 6.0), label="a range like GELU's"),
        Case((_random(3, 4, seed=2), -0.35, 0.22), label="a narrow range"),
        Case((5 * _random(11, seed=3), -8.0, 0.3), label="mostly negative numbers"),
    )


# --- a weight, one scale for each output channel -------------------------------------------------


def quantize_channels(weight: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).round().clamp(-127, 127).to(torch.int8), scale


def _channels_of_inputs(weight):
    scale = weight.abs().amax(dim=0, keepdim=True) / 127
    return (weight / scale).round().clamp(-127, 127).to(torch.int8), scale


def _channels_one_scale(weight):
    scale = (weight.abs().amax() / 127).expand(len(weight), 1)
    return (weight / scale).round().clamp(-127, 127).to(torch.int8), scale


def _channels_max_without_abs(weight):
    scale = weight.amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
    return (weight / scale).round().clamp(-127, 127).to(torch.int8), scale


def _channels_over_128(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 128
    return (weight / scale).round().clamp(-128, 127).to(torch.int8), scale


def _channels_over_128_wrapped(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 128
    wide = (weight / scale).round().to(torch.int64)
    return ((wide + 128) % 256 - 128).to(torch.int8), scale


def _channels_over_255(weight):
    span = weight.amax(dim=1, keepdim=True) - weight.amin(dim=1, keepdim=True)
    scale = span / 255
    return (weight / scale).round().clamp(-127, 127).to(torch.int8), scale


def _channels_cut(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).trunc().to(torch.int8), scale


def _channels_scale_inverted(weight):
    scale = 127 / weight.abs().amax(dim=1, keepdim=True)
    return (weight * scale).round().clamp(-127, 127).to(torch.int8), scale


def _channel_cases() -> tuple[Case, ...]:
    skewed = _random(6, 6, seed=2) - 2.0  # square: the axes cannot be told by their sizes
    return (
        Case((_random(4, 9, seed=0) * torch.tensor([[0.01], [1.0], [5.0], [0.3]]),),
             label="4 outputs of very different size, 9 inputs"),
        Case((skewed,), label="a square matrix, mostly negative"),
        Case((_random(7, 3, seed=4).T,), label="not contiguous"),
        Case((torch.tensor([[-1.0, 0.5], [0.25, -2.0]], dtype=torch.float64),),
             label="the largest number of each row is negative"),
    )  # fmt: skip


# --- a product in integers -----------------------------------------------------------------------


def integer_linear(
    q_x: Tensor, x_scale: float, x_zero_point: int, q_weight: Tensor, weight_scale: Tensor
) -> Tensor:
    total = (q_x.to(torch.int32) - x_zero_point) @ q_weight.to(torch.int32).T
    return x_scale * weight_scale * total


def _integer_in_int8(q_x, x_scale, x_zero_point, q_weight, weight_scale):
    total = _wrapped(q_x.long() @ q_weight.long().T, 8)
    sums = q_weight.to(torch.int32).sum(dim=1)
    return x_scale * weight_scale * (total - x_zero_point * sums)


def _integer_difference_in_int8(q_x, x_scale, x_zero_point, q_weight, weight_scale):
    moved = _wrapped(q_x.long() - x_zero_point, 8)
    return x_scale * weight_scale * (moved @ q_weight.long().T)


def _integer_all_in_int8(q_x, x_scale, x_zero_point, q_weight, weight_scale):
    moved = _wrapped(q_x.long() - x_zero_point, 8)
    return x_scale * weight_scale * _wrapped(moved @ q_weight.long().T, 8)


def _integer_in_int16(q_x, x_scale, x_zero_point, q_weight, weight_scale):
    total = _wrapped((q_x.long() - x_zero_point) @ q_weight.long().T, 16)
    return x_scale * weight_scale * total


def _integer_no_zero_point(q_x, x_scale, x_zero_point, q_weight, weight_scale):
    return x_scale * weight_scale * (q_x.long() @ q_weight.long().T)


def _integer_zero_point_after_scale(q_x, x_scale, x_zero_point, q_weight, weight_scale):
    return x_scale * weight_scale * (q_x.long() @ q_weight.long().T) - x_zero_point


def _integer_zero_point_once(q_x, x_scale, x_zero_point, q_weight, weight_scale):
    return x_scale * weight_scale * (q_x.long() @ q_weight.long().T - x_zero_point)


def _integer_zero_point_added(q_x, x_scale, x_zero_point, q_weight, weight_scale):
    return x_scale * weight_scale * ((q_x.long() + x_zero_point) @ q_weight.long().T)


def _integer_zero_point_unscaled(q_x, x_scale, x_zero_point, q_weight, weight_scale):
    x = x_scale * q_x.double() - x_zero_point  # dequantized before the zero point goes
    return weight_scale * (x @ q_weight.double().T)


def _integer_x_scale_only(q_x, x_scale, x_zero_point, q_weight, weight_scale):
    return x_scale * ((q_x.long() - x_zero_point) @ q_weight.long().T).double()


def _integer_scale_as_column(q_x, x_scale, x_zero_point, q_weight, weight_scale):
    return x_scale * weight_scale[:, None] * ((q_x.long() - x_zero_point) @ q_weight.long().T)


def _wrapped(values: Tensor, bits: int) -> Tensor:
    """What is left of integers in a register of so many bits."""
    half = 2 ** (bits - 1)
    return (values + half) % (2 * half) - half


def _integer_cases() -> tuple[Case, ...]:
    def case(label: str, rows: int, inputs: int, outputs: int, zero_point: int, seed: int) -> Case:
        generator = torch.Generator().manual_seed(seed)
        q_x = torch.randint(-128, 128, (rows, inputs), generator=generator).to(torch.int8)
        q_weight = torch.randint(-127, 128, (outputs, inputs), generator=generator).to(torch.int8)
        scales = torch.rand(outputs, generator=generator, dtype=torch.float64) / 100 + 0.001
        return Case((q_x, 0.03, zero_point, q_weight, scales), label=label)

    high = torch.full((2, 300), 127, dtype=torch.int8)
    return (
        case("3 tokens, 4 outputs, zero point -100", 3, 40, 4, -100, 0),
        case("as many tokens as outputs", 5, 64, 5, 17, 1),
        case("zero point 0", 2, 33, 3, 0, 2),
        Case((high, 0.01, -128, high, torch.full((2,), 0.02, dtype=torch.float64)),
             label="300 products, all as large as they can be"),
    )  # fmt: skip


# --- find the bug: a range that saw too much -----------------------------------------------------


def static_scales(calibration: list[Tensor], test: list[Tensor]) -> float:
    return max(batch.abs().max().item() for batch in calibration) / 127


def leaking_static_scales(calibration: list[Tensor], test: list[Tensor]) -> float:
    scale = 0.0
    for batch in calibration + test:
        scale = batch.max().item() / 127
    return scale


def _scales_still_test(calibration, test):
    return max(batch.abs().max().item() for batch in calibration + test) / 127


def _scales_last_batch(calibration, test):
    return calibration[-1].abs().max().item() / 127


def _scales_no_abs(calibration, test):
    return max(batch.max().item() for batch in calibration) / 127


def _scales_no_abs_with_test(calibration, test):
    return max(batch.max().item() for batch in calibration + test) / 127


def _scales_last_no_abs(calibration, test):
    return calibration[-1].max().item() / 127


def _scales_mean(calibration, test):
    return sum(batch.abs().max().item() for batch in calibration) / len(calibration) / 127


def _scales_test_only(calibration, test):
    return max(batch.abs().max().item() for batch in test) / 127


def _bug_cases() -> tuple[Case, ...]:
    def batches(count: int, seed: int, scales: list[float]) -> list[Tensor]:
        return [
            scale * _random(3, 5, seed=seed + i)
            for i, scale in zip(range(count), scales, strict=True)
        ]

    negative = [-_random(4, 4, seed=8).abs() * 5, _random(4, 4, seed=9)]
    return (
        Case((batches(3, 0, [1, 4, 2]), batches(2, 10, [9, 7])),
             label="the largest number of all stands in a test batch"),
        Case((negative, batches(1, 20, [1.5])), label="the largest number is negative"),
        Case((batches(4, 30, [6, 1, 1, 1]), batches(2, 40, [0.5, 8])),
             label="the first batch is the widest"),
        Case((batches(2, 50, [3, 5]), []), label="no test batch"),
    )  # fmt: skip


# --- two numbers in a byte -----------------------------------------------------------------------


def unpack(packed: Tensor) -> Tensor:
    halves = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2).to(torch.int8)
    return torch.where(halves > 7, halves - 16, halves)


def _unpack_unsigned(packed):
    return torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2).to(torch.int8)


def _unpack_upper_first(packed):
    return unpack(packed).unflatten(-1, (-1, 2)).flip(-1).flatten(-2)


def _unpack_halves_apart(packed):
    values = unpack(packed).unflatten(-1, (-1, 2))
    return torch.cat((values[..., 0], values[..., 1]), dim=-1)


def _unpack_moved_by_8(packed):
    return _unpack_unsigned(packed) - 8


def _unpack_sign_bit(packed):
    halves = _unpack_unsigned(packed)
    return torch.where(halves > 7, -(halves - 8), halves)


def _unpack_lower_only(packed):
    return unpack(packed)[..., 0::2]


_PACKED = (
    Case((torch.tensor([[0x21, 0x43], [0xF8, 0x7E]], dtype=torch.uint8),),
         label="two rows of two bytes"),
    Case((torch.arange(256, dtype=torch.uint8),), label="all bytes"),
    Case((torch.tensor([[[0x90, 0x0A, 0xFF]]], dtype=torch.uint8),), label="three axes"),
)  # fmt: skip


# --- a gradient through a rounding ---------------------------------------------------------------


def weight_gradient(weight: Tensor, x: Tensor, target: Tensor, scale: float) -> Tensor:
    weight = weight.clone().requires_grad_(True)
    on_grid = scale * (weight / scale).round().clamp(-7, 7)
    inside = weight.clamp(-7.5 * scale, 7.5 * scale)
    rounded = inside + (on_grid - inside).detach()
    (x @ rounded.T - target).square().mean().backward()
    return weight.grad


def _gradient(weight, x, target, rounded):
    weight = weight.clone().requires_grad_(True)
    (x @ rounded(weight).T - target).square().mean().backward()
    return weight.grad if weight.grad is not None else torch.zeros_like(weight)


def _on_grid(weight: Tensor, scale: float) -> Tensor:
    return scale * (weight / scale).round().clamp(-7, 7)


def _gradient_is_zero(weight, x, target, scale):
    return _gradient(weight, x, target, lambda w: _on_grid(w, scale))


def _gradient_never_rounded(weight, x, target, scale):
    return _gradient(weight, x, target, lambda w: w)


def _gradient_beyond_the_ends(weight, x, target, scale):
    return _gradient(weight, x, target, lambda w: w + (_on_grid(w, scale) - w).detach())


def _gradient_divided_by_scale(weight, x, target, scale):
    return weight_gradient(weight, x, target, scale) / scale


def _gradient_float_forward(weight, x, target, scale):
    return _gradient(weight, x, target, lambda w: w.clamp(-7.5 * scale, 7.5 * scale))


def _gradient_summed(weight, x, target, scale):
    return weight_gradient(weight, x, target, scale) * target.numel()


def _gradient_cases() -> tuple[Case, ...]:
    def case(label: str, outputs: int, inputs: int, rows: int, scale: float, seed: int) -> Case:
        return Case(
            (
                _random(outputs, inputs, seed=seed),
                _random(rows, inputs, seed=seed + 1),
                _random(rows, outputs, seed=seed + 2),
                scale,
            ),
            label=label,
        )

    return (
        case("3 outputs, 5 inputs", 3, 5, 4, 0.2, 0),
        case("some weights beyond the ends of the grid", 4, 6, 7, 0.1, 10),
        case("a coarse grid", 2, 3, 5, 0.7, 20),
    )


EXERCISES = (
    Exercise(
        id="19.asymmetric",
        title="An asymmetric grid",
        reference=quantize_asymmetric,
        cases=_grid_cases,
        mistakes=(
            Mistake(
                "256 steps",
                _grid_256_steps,
                "256 points have 255 gaps between them. What does the last point of your grid "
                "stand for, `low` and `high` in mind?",
            ),
            Mistake(
                "the zero point is not an integer",
                _grid_zero_point_not_rounded,
                "The zero point is stored as an integer too. As a fraction, no integer stands for "
                "0 exactly: print what 0.0 becomes.",
            ),
            Mistake(
                "the zero point is cut, not rounded",
                _grid_zero_point_cut,
                "`int()` cuts towards zero. The zero point is then up to one step off: round it.",
            ),
            Mistake(
                "the zero point has the wrong sign",
                _grid_zero_point_of_high_sign,
                "`low` should become -128. Put x = low into your formula and see where it lands.",
            ),
            Mistake(
                "cut instead of rounded",
                _grid_cut_instead_of_rounded,
                "Turning a number into an integer cuts its fraction off. That errs by up to a "
                "whole step; rounding errs by at most half of one.",
            ),
            Mistake(
                "overflow wraps around",
                _grid_wraps_around,
                "A number a little above `high` became a very negative one. Clamp to -128 ... 127 "
                "*before* the conversion to int8.",
            ),
            Mistake(
                "unsigned",
                _grid_unsigned,
                "Your integers run from 0 to 255. The exercise asks for int8: `low` becomes -128.",
            ),
            Mistake(
                "the zero point is subtracted",
                _grid_zero_point_subtracted,
                "On the way to integers the zero point is added; it is subtracted on the way back.",
            ),
        ),
        praise="And 0.0 has an integer of its own, exactly.",
    ),
    Exercise(
        id="19.channels",
        title="One scale for each output channel",
        reference=quantize_channels,
        cases=_channel_cases,
        mistakes=(
            Mistake(
                "the wrong axis",
                _channels_of_inputs,
                "You made one scale for each *input*. Each row of the weight makes one output: its "
                "maximum runs over the columns, `dim=1`.",
            ),
            Mistake(
                "one scale for all",
                _channels_one_scale,
                "All rows share the scale of the largest one. A small row is left with few steps.",
            ),
            Mistake(
                "maximum without absolute value",
                _channels_max_without_abs,
                "A row's largest number in size may be negative. What happens to -1.0 in the row "
                "[-1.0, 0.5]?",
            ),
            Mistake(
                "divided by 128",
                _channels_over_128,
                "With a scale of max / 128 the largest number becomes 128, which is not in int8. A "
                "symmetric grid goes from -127 to 127.",
            ),
            Mistake(
                "128 wraps around",
                _channels_over_128_wrapped,
                "The largest number of a row turned into -128. Divide by 127, and clamp before the "
                "conversion.",
            ),
            Mistake(
                "scale of an asymmetric grid",
                _channels_over_255,
                "(max - min) / 255 needs a zero point to go with it. Without one, the longer side "
                "is cut off. Take the largest absolute value.",
            ),
            Mistake(
                "cut instead of rounded",
                _channels_cut,
                "`.to(torch.int8)` cuts the fraction off. Round first.",
            ),
            Mistake(
                "the inverse scale",
                _channels_scale_inverted,
                "The integers are right. But the scale is what they are multiplied by on the way "
                "back; you return its inverse.",
            ),
        ),
    ),
    Exercise(
        id="19.integer_linear",
        title="A linear layer in integers",
        reference=integer_linear,
        cases=_integer_cases,
        mistakes=(
            Mistake(
                "summed in int8",
                _integer_in_int8,
                "One product of two int8 numbers can be 16,129 and does not fit into int8. PyTorch "
                "keeps the dtype of the inputs and wraps around silently: go to int32 first.",
            ),
            Mistake(
                "all in int8",
                _integer_all_in_int8,
                "Print the dtype of `q_x - x_zero_point` and of the product: both are int8, and "
                "both wrap around. Go to int32 before the first of them.",
            ),
            Mistake(
                "zero point subtracted in int8",
                _integer_difference_in_int8,
                "127 - (-128) is 255, which is not in int8. Convert to int32 before you subtract.",
            ),
            Mistake(
                "summed in 16 bits",
                _integer_in_int16,
                "Two products fill an int16, and a row has hundreds. Sum in int32.",
            ),
            Mistake(
                "the zero point is forgotten",
                _integer_no_zero_point,
                "An input of 0.0 is stored as the zero point. So a row of zeros must give 0.0; "
                "does it?",
            ),
            Mistake(
                "zero point after the scales",
                _integer_zero_point_after_scale,
                "The zero point is an integer of the *input*. It must go before the product, or be "
                "multiplied by the sum of each weight row.",
            ),
            Mistake(
                "zero point subtracted once",
                _integer_zero_point_once,
                "Each of the products holds the zero point, times another weight. Once is not "
                "enough: subtract z · (sum of the weight's row).",
            ),
            Mistake(
                "zero point added",
                _integer_zero_point_added,
                "On the way back, the zero point is subtracted: x = s · (q - z).",
            ),
            Mistake(
                "dequantized before the zero point is subtracted",
                _integer_zero_point_unscaled,
                "You computed s · q - z. The zero point counts steps of the grid, so it goes "
                "first: s · (q - z).",
            ),
            Mistake(
                "the scale of the weight is missing",
                _integer_x_scale_only,
                "Both factors were integers, so both scales must come back.",
            ),
            Mistake(
                "scales along the wrong axis",
                _integer_scale_as_column,
                "There is one scale for each output, and outputs are the *columns* of the result.",
            ),
        ),
        praise="No float number was multiplied until the sums stood.",
    ),
    Exercise(
        id="19.calibration_bug",
        title="Find the bug: a scale that knows too much",
        reference=static_scales,
        start=leaking_static_scales,
        cases=_bug_cases,
        mistakes=(
            Mistake(
                "the test batches still count",
                _scales_still_test,
                "The range is part of the model. If test inputs set it, the test says nothing "
                "about inputs that come later.",
            ),
            Mistake(
                "only the last batch counts",
                _scales_last_batch,
                "Each batch overwrites the scale of those before. Keep the largest.",
            ),
            Mistake(
                "negative numbers do not count",
                _scales_no_abs,
                "The grid is symmetric. An input of -5 needs as wide a grid as +5: what is the "
                "maximum of its size?",
            ),
            Mistake(
                "negative numbers do not count, and test batches do",
                _scales_no_abs_with_test,
                "The loop keeps the largest now. Two things are left: which batches it runs over, "
                "and what it does with -5.",
            ),
            Mistake(
                "only the last batch, and only its positive numbers",
                _scales_last_no_abs,
                "The test batches are out. Look at what happens to `scale` in each round of the "
                "loop, and at an input of -5.",
            ),
            Mistake(
                "the mean of the batches",
                _scales_mean,
                "A mean of maxima cuts the widest batches off. That can be a choice, but the "
                "exercise asks for a grid that covers all calibration batches.",
            ),
            Mistake(
                "only the test batches count",
                _scales_test_only,
                "It is the other way round: calibration inputs set the scale, test inputs are for "
                "the verdict.",
            ),
        ),
        praise="It covers all calibration inputs and has never met a test input.",
    ),
    Exercise(
        id="19.unpack",
        title="Two numbers in a byte",
        reference=unpack,
        cases=_PACKED,
        mistakes=(
            Mistake(
                "unsigned",
                _unpack_unsigned,
                "Your numbers run from 0 to 15. In two's complement, 8 to 15 stand for -8 to -1.",
            ),
            Mistake(
                "the upper half first",
                _unpack_upper_first,
                "The first number of each pair is in the *lower* half of the byte.",
            ),
            Mistake(
                "pairs torn apart",
                _unpack_halves_apart,
                "You put all lower halves before all upper ones. The two numbers of a byte are "
                "neighbours: `torch.stack(..., dim=-1).flatten(-2)`.",
            ),
            Mistake(
                "moved by 8",
                _unpack_moved_by_8,
                "0 must stay 0. Only numbers above 7 are negative, by 16.",
            ),
            Mistake(
                "a sign bit",
                _unpack_sign_bit,
                "The fourth bit is not a sign in front of three bits: in two's complement it "
                "counts -8. So 1111 is -1.",
            ),
            Mistake(
                "half of the numbers",
                _unpack_lower_only,
                "Each byte holds two numbers. Shift by 4 for the second one.",
            ),
        ),
    ),
    Exercise(
        id="19.straight_through",
        title="A gradient through a rounding",
        reference=weight_gradient,
        cases=_gradient_cases,
        mistakes=(
            Mistake(
                "no gradient at all",
                _gradient_is_zero,
                "The slope of a staircase is 0, so nothing would ever be learned. On the way back, "
                "take the rounding for the identity.",
            ),
            Mistake(
                "never rounded",
                _gradient_never_rounded,
                "This is the gradient of the float layer. The loss must be that of the *rounded* "
                "weight; only the slope of the rounding is replaced.",
            ),
            Mistake(
                "cut off, but not rounded",
                _gradient_float_forward,
                "The weights stay within the grid, but they do not lie on it. Round on the way "
                "forward.",
            ),
            Mistake(
                "a gradient beyond the ends",
                _gradient_beyond_the_ends,
                "A weight that was cut off does not change the output when it moves a little, so "
                "its gradient is 0. Only the rounding is taken for the identity, not the cut.",
            ),
            Mistake(
                "divided by the scale",
                _gradient_divided_by_scale,
                "The rounded weight is s · round(w / s). The scale comes in twice, and its two "
                "slopes cancel.",
            ),
            Mistake(
                "the sum of the errors",
                _gradient_summed,
                "The loss is the *mean* of the squared errors.",
            ),
        ),
    ),
)
