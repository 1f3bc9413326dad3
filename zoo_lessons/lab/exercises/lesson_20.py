"""Exercises of lesson 20: intensity, a fused row, cancellation, online softmax, its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case

# --- arithmetic intensity ------------------------------------------------------------------------


def matmul_intensity(m: int, k: int, n: int, bytes_per_number: int) -> float:
    return 2 * m * k * n / (bytes_per_number * (m * k + k * n + m * n))


def _intensity_reads_only(m, k, n, bytes_per_number):
    return 2 * m * k * n / (bytes_per_number * (m * k + k * n))


def _intensity_one_flop_a_pair(m, k, n, bytes_per_number):
    return matmul_intensity(m, k, n, bytes_per_number) / 2


def _intensity_reads_for_each_sum(m, k, n, bytes_per_number):
    return 2 * m * k * n / (bytes_per_number * (2 * m * k * n + m * n))


def _intensity_in_numbers(m, k, n, bytes_per_number):
    return matmul_intensity(m, k, n, 1)


def _intensity_in_float32(m, k, n, bytes_per_number):
    return matmul_intensity(m, k, n, 4)


def _intensity_weight_only(m, k, n, bytes_per_number):
    return 2 * m * k * n / (bytes_per_number * k * n)


def _intensity_upside_down(m, k, n, bytes_per_number):
    return 1 / matmul_intensity(m, k, n, bytes_per_number)


_INTENSITY_CASES = (
    Case((1, 768, 3072, 4), label="one token through a layer of BERT-Base"),
    Case((512, 768, 3072, 2), label="512 tokens, two bytes a number"),
    Case((5, 7, 11, 1), label="odd sizes, int8"),
    Case((64, 3, 64, 8), label="a short inner size, float64"),
)

# --- LayerNorm and GELU of one row ---------------------------------------------------------------


def norm_gelu_row(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    centred = x - x.mean()
    y = centred / torch.sqrt((centred**2).mean() + eps) * weight + bias
    return 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))


def _normed(x, weight, bias, eps):
    centred = x - x.mean()
    return centred / torch.sqrt((centred**2).mean() + eps) * weight + bias


def _row_with_tanh(x, weight, bias, eps):
    return F.gelu(_normed(x, weight, bias, eps), approximate="tanh")


def _row_with_sigmoid(x, weight, bias, eps):
    y = _normed(x, weight, bias, eps)
    return y * torch.sigmoid(1.702 * y)


def _row_unbiased(x, weight, bias, eps):
    return F.gelu((x - x.mean()) / torch.sqrt(x.var() + eps) * weight + bias)


def _row_eps_outside(x, weight, bias, eps):
    centred = x - x.mean()
    return F.gelu(centred / (torch.sqrt((centred**2).mean()) + eps) * weight + bias)


def _row_without_eps(x, weight, bias, eps):
    return norm_gelu_row(x, weight, bias, 0.0)


def _row_not_centred(x, weight, bias, eps):
    return F.gelu(x / torch.sqrt((x**2).mean() + eps) * weight + bias)


def _row_without_weight(x, weight, bias, eps):
    return norm_gelu_row(x, torch.ones_like(weight), torch.zeros_like(bias), eps)


def _row_gelu_first(x, weight, bias, eps):
    return _normed(F.gelu(x), weight, bias, eps)


def _row_norm_only(x, weight, bias, eps):
    return _normed(x, weight, bias, eps)


def _row_erf_of_y(x, weight, bias, eps):
    y = _normed(x, weight, bias, eps)
    return 0.5 * y * (1 + torch.erf(y))


def _row_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def case(label: str, width: int, mean: float, spread: float, eps: float) -> Case:
        x, weight, bias = torch.randn(3, width, generator=generator, dtype=torch.float64)
        return Case((mean + spread * x, weight, bias, eps), label=label)

    return (
        case("a row of 7 numbers", 7, 2.0, 1.5, 1e-5),
        case("a large eps", 16, -1.0, 0.5, 0.3),
        case("a row of two numbers", 2, 5.0, 2.0, 1e-3),
    )


# --- find the bug: variance in one pass ----------------------------------------------------------


def normalise(x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(dim=-1, keepdim=True) + eps)


def normalise_in_one_pass(x: Tensor, eps: float) -> Tensor:
    mean = x.mean(dim=-1, keepdim=True)
    variance = (x**2).mean(dim=-1, keepdim=True) - mean**2
    return (x - mean) / torch.sqrt(variance + eps)


def _normalise_clamped(x, eps):
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x**2).mean(dim=-1, keepdim=True) - mean**2).clamp(min=0)
    return (x - mean) / torch.sqrt(variance + eps)


def _normalise_absolute(x, eps):
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x**2).mean(dim=-1, keepdim=True) - mean**2).abs()
    return (x - mean) / torch.sqrt(variance + eps)


def _normalise_unbiased(x, eps):
    return (x - x.mean(dim=-1, keepdim=True)) / torch.sqrt(x.var(dim=-1, keepdim=True) + eps)


def _normalise_eps_outside(x, eps):
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (torch.sqrt((centred**2).mean(dim=-1, keepdim=True)) + eps)


def _normalise_all(x, eps):
    centred = x - x.mean()
    return centred / torch.sqrt((centred**2).mean() + eps)


def _normalise_columns(x, eps):
    return normalise(x.T, eps).T


def _normalise_nan_to_num(x, eps):
    return normalise_in_one_pass(x, eps).nan_to_num()


def _normalise_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(1)

    def case(label: str, rows: int, width: int, mean: float, eps: float) -> Case:
        x = torch.randn(rows, width, generator=generator)
        return Case((mean + x, eps), label=label)

    return (
        case("mean 0", 3, 20, 0.0, 1e-5),
        case("mean 0, a large eps", 4, 6, 0.0, 0.5),
        case("mean 2,000, spread 1", 5, 64, 2000.0, 1e-5),
        case("mean -3,000, spread 1", 6, 32, -3000.0, 1e-5),
    )


# --- one step of the online softmax --------------------------------------------------------------


def online_step(
    maximum: Tensor, total: Tensor, weighted: Tensor, scores: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    new = torch.maximum(maximum, scores.max())
    rescale = torch.exp(maximum - new)
    exps = torch.exp(scores - new)
    return new, rescale * total + exps.sum(), rescale * weighted + exps @ v


def _step_without_rescaling(maximum, total, weighted, scores, v):
    new = torch.maximum(maximum, scores.max())
    exps = torch.exp(scores - new)
    return new, total + exps.sum(), weighted + exps @ v


def _step_total_not_rescaled(maximum, total, weighted, scores, v):
    new, _, weighted = online_step(maximum, total, weighted, scores, v)
    return new, total + torch.exp(scores - new).sum(), weighted


def _step_output_not_rescaled(maximum, total, weighted, scores, v):
    new, total, _ = online_step(maximum, total, weighted, scores, v)
    return new, total, weighted + torch.exp(scores - new) @ v


def _step_rescaled_the_wrong_way(maximum, total, weighted, scores, v):
    new = torch.maximum(maximum, scores.max())
    rescale = torch.exp(torch.where(maximum == -math.inf, maximum, new - maximum))
    exps = torch.exp(scores - new)
    return new, rescale * total + exps.sum(), rescale * weighted + exps @ v


def _step_old_maximum_in_exp(maximum, total, weighted, scores, v):
    new = torch.maximum(maximum, scores.max())
    rescale = torch.exp(maximum - new)
    exps = torch.exp(scores - torch.where(maximum == -math.inf, new, maximum))
    return new, rescale * total + exps.sum(), rescale * weighted + exps @ v


def _step_own_maximum(maximum, total, weighted, scores, v):
    new = torch.maximum(maximum, scores.max())
    rescale = torch.exp(maximum - new)
    exps = torch.exp(scores - scores.max())
    return new, rescale * total + exps.sum(), rescale * weighted + exps @ v


def _step_forgets_the_past_maximum(maximum, total, weighted, scores, v):
    new = scores.max()
    rescale = torch.exp(maximum - new)
    exps = torch.exp(scores - new)
    return new, rescale * total + exps.sum(), rescale * weighted + exps @ v


def _step_divides_each_time(maximum, total, weighted, scores, v):
    new, total, weighted = online_step(maximum, total, weighted, scores, v)
    return new, total, weighted / total


def _step_in_place(maximum, total, weighted, scores, v):
    new = torch.maximum(maximum, scores.max())
    rescale = torch.exp(maximum - new)
    exps = torch.exp(scores - new)
    total *= rescale
    total += exps.sum()
    weighted *= rescale
    weighted += exps @ v
    return new, total, weighted


def _step_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(2)

    def case(label: str, before: list[float], scores: list[float], d_v: int) -> Case:
        past = torch.tensor(before, dtype=torch.float64)
        values = torch.randn(len(before) + len(scores), d_v, generator=generator).double()
        if len(past):
            maximum = past.max()
            exps = torch.exp(past - maximum)
            state = (maximum, exps.sum(), exps @ values[: len(past)])
        else:
            zero = torch.zeros((), dtype=torch.float64)
            state = (zero - math.inf, zero, torch.zeros(d_v, dtype=torch.float64))
        block = torch.tensor(scores, dtype=torch.float64)
        return Case((*state, block, values[len(past) :]), label=label)

    return (
        case("the first block", [], [0.5, -1.0, 2.0], 3),
        case("the maximum rises", [0.2, -0.7], [1.5, 0.1, 2.4], 4),
        case("the maximum stays", [3.0, 1.0, 2.5], [0.5, 1.5], 2),
        case("scores beyond the range of exp", [800.0, 799.0], [802.0, 795.0, 801.0], 3),
        case("a block of one key", [-900.0], [-901.0], 2),
    )


# --- find the bug: a block that is wholly masked -------------------------------------------------

_Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _in_blocks(scores: Tensor, v: Tensor, block: int, step: _Step) -> Tensor:
    """`step(maximum, part)` gives the factor of what was there and the exponentials of the part."""
    queries = len(scores)
    maximum = scores.new_full((queries,), -math.inf)
    total, weighted = scores.new_zeros(queries), scores.new_zeros(queries, v.shape[1])
    for start in range(0, len(v), block):
        part = scores[:, start : start + block]
        new = torch.maximum(maximum, part.amax(dim=1))
        rescale, exps = step(maximum, torch.cat([new[:, None], part], dim=1))
        total = rescale * total + exps.sum(dim=1)
        weighted = rescale[:, None] * weighted + exps @ v[start : start + block]
        maximum = new
    return weighted / total[:, None]


def masked_blocks(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block: int) -> Tensor:
    scores = (q @ k.T / q.shape[1] ** 0.5).masked_fill(~mask, -math.inf)

    def step(maximum, part):
        base = part[:, 0].masked_fill(part[:, 0] == -math.inf, 0.0)
        return torch.exp(maximum - base), torch.exp(part[:, 1:] - base[:, None])

    output = _in_blocks(scores, v, block, step)
    return output.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)


def masked_blocks_with_nan(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, block: int) -> Tensor:
    scores = (q @ k.T / q.shape[1] ** 0.5).masked_fill(~mask, -math.inf)

    def step(maximum, part):
        return torch.exp(maximum - part[:, 0]), torch.exp(part[:, 1:] - part[:, :1])

    return _in_blocks(scores, v, block, step)


def _blocks_nan_to_num(q, k, v, mask, block):
    return masked_blocks_with_nan(q, k, v, mask, block).nan_to_num()


def _blocks_skipped_for_all(q, k, v, mask, block):
    """A block that one query may not see is left out for every query."""
    keep = mask.clone()
    for start in range(0, len(k), block):
        if not mask[:, start : start + block].any(dim=1).all():
            keep[:, start : start + block] = False
    return masked_blocks(q, k, v, keep, block)


def _blocks_large_negative(q, k, v, mask, block):
    scores = (q @ k.T / q.shape[1] ** 0.5).masked_fill(~mask, -1e9)

    def step(maximum, part):
        return torch.exp(maximum - part[:, 0]), torch.exp(part[:, 1:] - part[:, :1])

    return _in_blocks(scores, v, block, step)


def _blocks_small_negative(q, k, v, mask, block):
    scores = (q @ k.T / q.shape[1] ** 0.5).masked_fill(~mask, -10.0)

    def step(maximum, part):
        return torch.exp(maximum - part[:, 0]), torch.exp(part[:, 1:] - part[:, :1])

    return _in_blocks(scores, v, block, step)


def _blocks_ignore_the_mask(q, k, v, mask, block):
    return masked_blocks(q, k, v, torch.ones_like(mask), block)


def _blocks_nan_for_nothing(q, k, v, mask, block):
    output = masked_blocks(q, k, v, mask, block)
    return output.masked_fill(~mask.any(dim=1, keepdim=True), math.nan)


def _blocks_zero_masked_weights_late(q, k, v, mask, block):
    """Softmax over everything, masked weights set to zero afterwards."""
    weights = (q @ k.T / q.shape[1] ** 0.5).softmax(dim=1)
    return (weights * mask) @ v


def _masked_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(3)

    def case(label: str, hidden: list[tuple[int, slice]], queries=3, keys=8, block=3) -> Case:
        q = torch.randn(queries, 4, generator=generator, dtype=torch.float64)
        k = torch.randn(keys, 4, generator=generator, dtype=torch.float64)
        v = torch.randn(keys, 5, generator=generator, dtype=torch.float64)
        mask = torch.ones(queries, keys, dtype=torch.bool)
        for row, columns in hidden:
            mask[row, columns] = False
        return Case((q, k, v, mask, block), label=label)

    return (
        case("no block is wholly masked", [(0, slice(1, 2)), (2, slice(4, 8))]),
        case("the first block is masked for one query", [(1, slice(0, 3))]),
        case("only the last key is left for one query", [(2, slice(0, 7))]),
        case("one query may attend to nothing", [(0, slice(0, 8)), (1, slice(0, 4))]),
    )


# --- the backward pass ---------------------------------------------------------------------------


def score_gradient(
    scores: Tensor, logsumexp: Tensor, v: Tensor, output: Tensor, grad: Tensor
) -> Tensor:
    weights = torch.exp(scores - logsumexp[:, None])
    mean = (grad * output).sum(dim=1)
    return weights * (grad @ v.T - mean[:, None])


def _gradient_without_mean(scores, logsumexp, v, output, grad):
    return torch.exp(scores - logsumexp[:, None]) * (grad @ v.T)


def _gradient_plain_mean(scores, logsumexp, v, output, grad):
    to_weights = grad @ v.T
    weights = torch.exp(scores - logsumexp[:, None])
    return weights * (to_weights - to_weights.mean(dim=1, keepdim=True))


def _gradient_mean_of_the_block(scores, logsumexp, v, output, grad):
    weights = torch.exp(scores - logsumexp[:, None])
    to_weights = grad @ v.T
    return weights * (to_weights - (weights * to_weights).sum(dim=1, keepdim=True))


def _gradient_softmax_of_the_block(scores, logsumexp, v, output, grad):
    mean = (grad * output).sum(dim=1)
    return scores.softmax(dim=1) * (grad @ v.T - mean[:, None])


def _gradient_no_logsumexp(scores, logsumexp, v, output, grad):
    mean = (grad * output).sum(dim=1)
    return torch.exp(scores) * (grad @ v.T - mean[:, None])


def _gradient_without_weights(scores, logsumexp, v, output, grad):
    return grad @ v.T - (grad * output).sum(dim=1)[:, None]


def _gradient_mean_over_queries(scores, logsumexp, v, output, grad):
    weights = torch.exp(scores - logsumexp[:, None])
    return weights * (grad @ v.T - (grad * output).sum())


def _gradient_of_the_log(scores, logsumexp, v, output, grad):
    mean = (grad * output).sum(dim=1)
    return (scores - logsumexp[:, None]) * (grad @ v.T - mean[:, None])


def _gradient_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(4)

    def case(label: str, queries: int, keys: int, d_v: int, start: int, stop: int) -> Case:
        scores = 2 * torch.randn(queries, keys, generator=generator, dtype=torch.float64)
        v = torch.randn(keys, d_v, generator=generator, dtype=torch.float64)
        grad = torch.randn(queries, d_v, generator=generator, dtype=torch.float64)
        block = slice(start, stop)
        output = scores.softmax(dim=1) @ v
        return Case(
            (scores[:, block], scores.logsumexp(dim=1), v[block], output, grad), label=label
        )

    return (
        case("the second of three blocks", 4, 9, 5, 3, 6),
        case("all keys in one block", 3, 5, 4, 0, 5),
        case("a block of one key", 2, 6, 3, 5, 6),
    )


EXERCISES = (
    Exercise(
        id="20.matmul_intensity",
        title="Arithmetic intensity of a product",
        reference=matmul_intensity,
        cases=_INTENSITY_CASES,
        mistakes=(
            Mistake(
                "the result is not counted",
                _intensity_reads_only,
                "The product must also be written: that is traffic, too.",
            ),
            Mistake(
                "multiplications only",
                _intensity_one_flop_a_pair,
                "Each number of the result is a sum of k products: k multiplications, and as many "
                "additions.",
            ),
            Mistake(
                "each factor is read for every product",
                _intensity_reads_for_each_sum,
                "You read the factors anew for every multiplication. The roofline asks what must "
                "be moved at least: each number once, however often it is used.",
            ),
            Mistake(
                "FLOPs per number",
                _intensity_in_numbers,
                "Intensity is per byte. A number has `bytes_per_number` of them.",
            ),
            Mistake(
                "always four bytes",
                _intensity_in_float32,
                "Not every number is a float32. Use `bytes_per_number`.",
            ),
            Mistake(
                "only one factor is counted",
                _intensity_weight_only,
                "Two matrices are read and one is written. You counted the bytes of one matrix.",
            ),
            Mistake(
                "bytes per FLOP",
                _intensity_upside_down,
                "That is the inverse: work belongs above the fraction bar, traffic below.",
            ),
        ),
        praise="With one token, the weights dominate the traffic, and each is used once.",
    ),
    Exercise(
        id="20.norm_gelu_row",
        title="One row, one kernel",
        reference=norm_gelu_row,
        cases=_row_cases,
        mistakes=(
            Mistake(
                "GELU's tanh approximation",
                _row_with_tanh,
                "The values are close, but not equal: this is GPT-2's approximation with tanh. "
                "The formula above has erf.",
            ),
            Mistake(
                "GELU's sigmoid approximation",
                _row_with_sigmoid,
                "This is CLIP's quick GELU. The formula above has erf.",
            ),
            Mistake(
                "unbiased variance",
                _row_unbiased,
                "LayerNorm divides the sum of squares by n. `var` divides by n - 1, unless told "
                "otherwise; with two numbers that is a factor of two.",
            ),
            Mistake(
                "eps outside the root",
                _row_eps_outside,
                "Look at where eps stands in the formula: with the variance, below the root.",
            ),
            Mistake(
                "eps left out",
                _row_without_eps,
                "The case with a large eps shows it: eps is added to the variance.",
            ),
            Mistake(
                "the mean is not subtracted",
                _row_not_centred,
                "This divides by the root of the mean square (RMSNorm). LayerNorm first "
                "subtracts the mean.",
            ),
            Mistake(
                "weight and bias left out",
                _row_without_weight,
                "The normalised numbers are multiplied by `weight`, and `bias` is added.",
            ),
            Mistake(
                "GELU before LayerNorm",
                _row_gelu_first,
                "The order is LayerNorm first: GELU is applied to its result.",
            ),
            Mistake("no GELU", _row_norm_only, "This is the LayerNorm. GELU is still to come."),
            Mistake(
                "√2 forgotten",
                _row_erf_of_y,
                "erf takes y / √2: that makes (1 + erf) / 2 the normal distribution's cumulative "
                "probability.",
            ),
        ),
    ),
    Exercise(
        id="20.variance_bug",
        title="Find the bug: the one-pass variance",
        reference=normalise,
        start=normalise_in_one_pass,
        cases=_normalise_cases,
        rtol=1e-3,
        atol=3e-3,
        mistakes=(
            Mistake(
                "negative variance clamped",
                _normalise_clamped,
                "No more nan, but the variance is still wrong: it is a small difference of two "
                "large numbers, and their digits are used up. What could be subtracted before "
                "squaring?",
            ),
            Mistake(
                "absolute value of the variance",
                _normalise_absolute,
                "A wrong variance with the right sign is still wrong. What could be subtracted "
                "before squaring?",
            ),
            Mistake(
                "nan replaced afterwards",
                _normalise_nan_to_num,
                "This hides the rows in which it is seen. The others are off as well: compare "
                "their variance with `x.double().var(correction=0)`.",
            ),
            Mistake(
                "unbiased variance",
                _normalise_unbiased,
                "The cancellation is gone. But LayerNorm divides by n, not by n - 1.",
            ),
            Mistake(
                "eps outside the root",
                _normalise_eps_outside,
                "The cancellation is gone. But eps belongs to the variance, below the root.",
            ),
            Mistake(
                "one mean for all rows",
                _normalise_all,
                "Each row has a mean and a variance of its own: the last axis.",
            ),
            Mistake(
                "normalised over the rows",
                _normalise_columns,
                "You normalised each column. LayerNorm works on the last axis.",
            ),
        ),
        praise="Two passes over numbers that are already in fast memory cost little.",
    ),
    Exercise(
        id="20.online_step",
        title="One step of the online softmax",
        reference=online_step,
        cases=_step_cases,
        mistakes=(
            Mistake(
                "no rescaling",
                _step_without_rescaling,
                "What you had was measured from the old maximum, the new block from the new one. "
                "Before they can be added, they need the same reference.",
            ),
            Mistake(
                "the sum is not rescaled",
                _step_total_not_rescaled,
                "The output is right, but the sum below the fraction bar still has the old "
                "reference: weights would not sum to 1.",
            ),
            Mistake(
                "the output is not rescaled",
                _step_output_not_rescaled,
                "The sum is right, but the weighted values still have the old reference.",
            ),
            Mistake(
                "rescaled the wrong way",
                _step_rescaled_the_wrong_way,
                "The factor is at most 1: a larger maximum makes old exponentials smaller. You "
                "have its inverse.",
            ),
            Mistake(
                "the block is measured from the old maximum",
                _step_old_maximum_in_exp,
                "You computed the new maximum, but the block's exponentials still use the old "
                "one. With scores that rise, they may overflow.",
            ),
            Mistake(
                "the block is measured from its own maximum",
                _step_own_maximum,
                "A block whose largest score is below the maximum so far must not count as if it "
                "had reached it.",
            ),
            Mistake(
                "the maximum forgets the past",
                _step_forgets_the_past_maximum,
                "The new maximum is the larger of two: of what was seen before, and of the block. "
                "With this one, the factor can exceed 1 and overflow.",
            ),
            Mistake(
                "divided at each step",
                _step_divides_each_time,
                "The state keeps the sum of weighted values undivided. Divide once, after the "
                "last block.",
            ),
            Mistake(
                "changed in place",
                _step_in_place,
                "The values are right, but the caller's state changed with them. Make new tensors.",
            ),
        ),
        praise="This is the heart of FlashAttention.",
    ),
    Exercise(
        id="20.masked_block",
        title="Find the bug: a block that is wholly masked",
        reference=masked_blocks,
        start=masked_blocks_with_nan,
        cases=_masked_cases,
        mistakes=(
            Mistake(
                "nan replaced at the end",
                _blocks_nan_to_num,
                "A query whose first block is masked loses everything that comes after: once nan, "
                "always nan. The step that makes it must not.",
            ),
            Mistake(
                "the block is skipped for all queries",
                _blocks_skipped_for_all,
                "A block may be masked for one query and open for the others. Handle each row by "
                "itself.",
            ),
            Mistake(
                "-1e9 instead of -inf",
                _blocks_large_negative,
                "Later blocks wipe out the error. But a query that may attend to nothing gets the "
                "mean of all values, and it should get zeros.",
            ),
            Mistake(
                "a score that is only small",
                _blocks_small_negative,
                "exp(-10) is small, but not 0: masked keys still leak a little.",
            ),
            Mistake(
                "mask left out",
                _blocks_ignore_the_mask,
                "Without the mask there is no nan, but no mask either.",
            ),
            Mistake(
                "nan where there is nothing to attend to",
                _blocks_nan_for_nothing,
                "Nearly there: a query that may attend to nothing should give zeros. Its sum is "
                "0, and 0 / 0 is nan.",
            ),
            Mistake(
                "masked after the softmax",
                _blocks_zero_masked_weights_late,
                "Masked keys have already taken their share of the sum: the weights of a row no "
                "longer add up to 1.",
            ),
        ),
    ),
    Exercise(
        id="20.score_gradient",
        title="The backward pass of a block",
        reference=score_gradient,
        cases=_gradient_cases,
        mistakes=(
            Mistake(
                "the mean is not subtracted",
                _gradient_without_mean,
                "If all scores of a query rise together, nothing changes; so its gradients sum "
                "to 0 over all keys. Yours do not: subtract the weighted mean.",
            ),
            Mistake(
                "unweighted mean",
                _gradient_plain_mean,
                "The mean is weighted by the softmax's weights, over *all* keys. grad · output "
                "is just that.",
            ),
            Mistake(
                "mean over this block only",
                _gradient_mean_of_the_block,
                "With all keys in one block this is right. But other blocks take part in the "
                "mean; grad · output has them in it.",
            ),
            Mistake(
                "softmax over this block only",
                _gradient_softmax_of_the_block,
                "The weights of one block do not sum to 1. `logsumexp` knows all keys.",
            ),
            Mistake(
                "weights not normalised",
                _gradient_no_logsumexp,
                "exp(score) is not yet a weight: subtract the query's `logsumexp` first.",
            ),
            Mistake(
                "the weights are missing",
                _gradient_without_weights,
                "This would be the gradient for equal weights of 1. A key that has no weight gets "
                "no gradient.",
            ),
            Mistake(
                "one mean for all queries",
                _gradient_mean_over_queries,
                "Each query has its own mean: sum over the last axis only.",
            ),
            Mistake(
                "logarithm of the weights",
                _gradient_of_the_log,
                "score - logsumexp is the logarithm of a weight. One function is missing.",
            ),
        ),
    ),
)
