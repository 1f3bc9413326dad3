"""Exercises of lesson 22: layers split over ranks, micro-batches, gradients of copies, memory.

The ranks of a group are lists and axes here, in one process, so that a check takes no time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.deploy import parallel, timetables
from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case

# --- a feed-forward layer over ranks -------------------------------------------------------------


def split_feed_forward(
    x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor, ranks: int
) -> tuple[Tensor, Tensor]:
    partials = torch.stack(
        [
            F.gelu(F.linear(x, own_up, own_bias)) @ own_down.T
            for own_up, own_bias, own_down in zip(
                up.chunk(ranks), up_bias.chunk(ranks), down.chunk(ranks, dim=1), strict=True
            )
        ]
    )
    return partials, partials.sum(dim=0) + down_bias


def _split_no_sum(x, up, up_bias, down, down_bias, ranks):
    partials, _ = split_feed_forward(x, up, up_bias, down, down_bias, ranks)
    return partials, partials[0] + down_bias


def _split_mean(x, up, up_bias, down, down_bias, ranks):
    partials, _ = split_feed_forward(x, up, up_bias, down, down_bias, ranks)
    return partials, partials.mean(dim=0) + down_bias


def _split_bias_everywhere(x, up, up_bias, down, down_bias, ranks):
    partials, _ = split_feed_forward(x, up, up_bias, down, down_bias, ranks)
    partials = partials + down_bias
    return partials, partials.sum(dim=0)


def _split_bias_on_the_first(x, up, up_bias, down, down_bias, ranks):
    partials, y = split_feed_forward(x, up, up_bias, down, down_bias, ranks)
    return torch.cat([partials[:1] + down_bias, partials[1:]]), y


def _split_no_bias(x, up, up_bias, down, down_bias, ranks):
    partials, _ = split_feed_forward(x, up, up_bias, down, down_bias, ranks)
    return partials, partials.sum(dim=0)


def _split_no_up_bias(x, up, up_bias, down, down_bias, ranks):
    return split_feed_forward(x, up, torch.zeros_like(up_bias), down, down_bias, ranks)


def _split_by_rows_first(x, up, up_bias, down, down_bias, ranks):
    hidden = [
        F.gelu(own_x @ own_up.T + up_bias / ranks)
        for own_x, own_up in zip(x.chunk(ranks, dim=-1), up.chunk(ranks, dim=1), strict=True)
    ]
    partials = torch.stack([h @ down.T for h in hidden])
    return partials, partials.sum(dim=0) + down_bias


def _split_strided(x, up, up_bias, down, down_bias, ranks):
    partials = torch.stack(
        [
            F.gelu(F.linear(x, up[r::ranks], up_bias[r::ranks])) @ own.T
            for r, own in enumerate(down.chunk(ranks, dim=1))
        ]
    )
    return partials, partials.sum(dim=0) + down_bias


def _split_not_at_all(x, up, up_bias, down, down_bias, ranks):
    y = F.linear(F.gelu(F.linear(x, up, up_bias)), down)
    return torch.stack([y / ranks] * ranks), y + down_bias


def _split_no_activation(x, up, up_bias, down, down_bias, ranks):
    partials = torch.stack(
        [
            F.linear(x, own_up, own_bias) @ own_down.T
            for own_up, own_bias, own_down in zip(
                up.chunk(ranks), up_bias.chunk(ranks), down.chunk(ranks, dim=1), strict=True
            )
        ]
    )
    return partials, partials.sum(dim=0) + down_bias


def _split_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def case(label: str, batch: int, d_model: int, d_ff: int, ranks: int) -> Case:
        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        return Case(
            (draw(batch, d_model), draw(d_ff, d_model), draw(d_ff), draw(d_model, d_ff),
             draw(d_model), ranks),
            label=label,
        )  # fmt: skip

    return (
        case("5 inputs of width 6, d_ff = 8, 2 ranks", 5, 6, 8, 2),
        case("3 inputs of width 6, d_ff = 12, 3 ranks", 3, 6, 12, 3),
        case("2 inputs of width 4, d_ff = 16, 4 ranks", 2, 4, 16, 4),
    )


# --- a fused q, k, v projection over ranks -------------------------------------------------------


def qkv_rows(num_heads: int, head_dim: int, rank: int, ranks: int) -> list[int]:
    return parallel.qkv_outputs(num_heads, head_dim, rank, ranks).tolist()


def _every_row(num_heads: int, head_dim: int) -> Tensor:
    return torch.arange(3 * num_heads * head_dim)


def _rows_neighbours(num_heads, head_dim, rank, ranks):
    return _every_row(num_heads, head_dim).chunk(ranks)[rank].tolist()


def _rows_every_so_many(num_heads, head_dim, rank, ranks):
    return _every_row(num_heads, head_dim)[rank::ranks].tolist()


def _rows_strided_heads(num_heads, head_dim, rank, ranks):
    every = _every_row(num_heads, head_dim).view(3, num_heads, head_dim)
    return every[:, rank::ranks].flatten().tolist()


def _rows_of_queries(num_heads, head_dim, rank, ranks):
    return _every_row(num_heads, head_dim).view(3, -1).chunk(ranks, dim=1)[rank][0].tolist()


def _rows_head_by_head(num_heads, head_dim, rank, ranks):
    every = _every_row(num_heads, head_dim).view(3, ranks, -1, head_dim)
    return every[:, rank].transpose(0, 1).flatten().tolist()


def _rows_one_head(num_heads, head_dim, rank, ranks):
    return _every_row(num_heads, head_dim).view(3, num_heads, head_dim)[:, rank].flatten().tolist()


def _rows_part_of_each_head(num_heads, head_dim, rank, ranks):
    every = _every_row(num_heads, head_dim).view(3, num_heads, ranks, -1)
    return every[:, :, rank].flatten().tolist()


_ROWS = (
    Case((4, 6, 0, 2), label="4 heads of width 6, rank 0 of 2"),
    Case((4, 6, 1, 2), label="4 heads of width 6, rank 1 of 2"),
    Case((6, 6, 1, 3), label="6 heads of width 6, rank 1 of 3"),
    Case((8, 4, 3, 4), label="8 heads of width 4, rank 3 of 4"),
)

# --- the bubble ----------------------------------------------------------------------------------


def bubble(stages: int, micro_batches: int) -> float:
    return timetables.bubble_share(stages, micro_batches)


_BUBBLES = tuple(
    Case((p, m), label=f"{p} stages, {m} micro-batches")
    for p, m in ((4, 8), (2, 1), (8, 32), (3, 5), (1, 4))
)

# --- micro-batches -------------------------------------------------------------------------------


def micro_batch_gradient(weight: Tensor, x: Tensor, y: Tensor, micro_batches: int) -> Tensor:
    return sum(g * n for g, n in _pieces(weight, x, y, micro_batches)) / len(x)


def _pieces(weight: Tensor, x: Tensor, y: Tensor, micro_batches: int) -> list[tuple[Tensor, int]]:
    """The gradient of each micro-batch's mean loss, and the micro-batch's size."""
    found = []
    for part_x, part_y in zip(x.chunk(micro_batches), y.chunk(micro_batches), strict=True):
        w = weight.detach().clone().requires_grad_()
        F.cross_entropy(part_x @ w.T, part_y).backward()
        found.append((w.grad, len(part_x)))
    return found


def _micro_start(weight, x, y, micro_batches):
    return sum(g for g, _ in _pieces(weight, x, y, micro_batches))


def _micro_over_count(weight, x, y, micro_batches):
    return _micro_start(weight, x, y, micro_batches) / micro_batches


def _micro_over_batch(weight, x, y, micro_batches):
    return _micro_start(weight, x, y, micro_batches) / len(x)


def _micro_sum_of_losses(weight, x, y, micro_batches):
    return micro_batch_gradient(weight, x, y, micro_batches) * len(x)


def _micro_last(weight, x, y, micro_batches):
    return _pieces(weight, x, y, micro_batches)[-1][0]


def _micro_divided_twice(weight, x, y, micro_batches):
    return micro_batch_gradient(weight, x, y, micro_batches) / micro_batches


def _micro_over_size(weight, x, y, micro_batches):
    return sum(g / n for g, n in _pieces(weight, x, y, micro_batches))


def _micro_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(1)

    def case(label: str, batch: int, width: int, classes: int, micro_batches: int) -> Case:
        weight, x = (
            torch.randn(rows, width, generator=generator, dtype=torch.float64)
            for rows in (classes, batch)
        )
        y = torch.randint(classes, (batch,), generator=generator)
        return Case((weight, x, y, micro_batches), label=label)

    return (
        case("8 examples in 4 micro-batches", 8, 5, 3, 4),
        case("7 examples in micro-batches of 3, 3 and 1", 7, 4, 3, 3),
        case("10 examples in micro-batches of 4, 4 and 2", 10, 3, 5, 3),
    )


# --- gradients of copies -------------------------------------------------------------------------


def average(gradients: Tensor, images: list[int]) -> Tensor:
    counts = torch.tensor(images, dtype=gradients.dtype)
    return counts @ gradients / counts.sum()


def _average_sum(gradients, images):
    return gradients.sum(dim=0)


def _average_plain(gradients, images):
    return gradients.mean(dim=0)


def _average_weighted_sum(gradients, images):
    return average(gradients, images) * sum(images)


def _average_twice(gradients, images):
    return average(gradients, images) / len(images)


def _average_inverse(gradients, images):
    inverse = [1 / count for count in images]
    return average(gradients, inverse)


def _average_first(gradients, images):
    return gradients[0]


def _average_of_largest(gradients, images):
    return gradients[max(range(len(images)), key=lambda i: images[i])]


def _average_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(2)

    def case(label: str, images: list[int], parameters: int) -> Case:
        gradients = torch.randn(len(images), parameters, generator=generator, dtype=torch.float64)
        return Case((gradients, images), label=label)

    return (
        case("4 ranks with 8 images each", [8, 8, 8, 8], 6),
        case("3 ranks with 8, 8 and 3 images", [8, 8, 3], 5),
        case("2 ranks with 1 and 9 images", [1, 9], 7),
    )


# --- memory of a stage ---------------------------------------------------------------------------


def stage_bytes(
    parameters: int, activations: int, stage: int, stages: int, micro_batches: int
) -> int:
    return 16 * parameters + min(stages - stage, micro_batches) * activations


def _bytes_gpipe(parameters, activations, stage, stages, micro_batches):
    return 16 * parameters + micro_batches * activations


def _bytes_all_stages(parameters, activations, stage, stages, micro_batches):
    return 16 * parameters + min(stages, micro_batches) * activations


def _bytes_from_the_start(parameters, activations, stage, stages, micro_batches):
    return 16 * parameters + min(stage + 1, micro_batches) * activations


def _bytes_one_less(parameters, activations, stage, stages, micro_batches):
    return 16 * parameters + min(stages - stage - 1, micro_batches) * activations


def _bytes_no_limit(parameters, activations, stage, stages, micro_batches):
    return 16 * parameters + (stages - stage) * activations


def _bytes_no_adam(parameters, activations, stage, stages, micro_batches):
    return 4 * parameters + min(stages - stage, micro_batches) * activations


def _bytes_no_master(parameters, activations, stage, stages, micro_batches):
    return 12 * parameters + min(stages - stage, micro_batches) * activations


def _bytes_weights_only(parameters, activations, stage, stages, micro_batches):
    return 2 * parameters + min(stages - stage, micro_batches) * activations


_BYTES = (
    Case((1000, 70, 0, 4, 8), label="first of 4 stages, 8 micro-batches"),
    Case((1300, 50, 2, 4, 8), label="third of 4 stages, 8 micro-batches"),
    Case((900, 90, 3, 4, 16), label="last of 4 stages, 16 micro-batches"),
    Case((1100, 110, 1, 8, 3), label="second of 8 stages, 3 micro-batches"),
)

# --- the list ------------------------------------------------------------------------------------

EXERCISES = (
    Exercise(
        id="22.column_row",
        title="Columns, then rows",
        reference=split_feed_forward,
        cases=_split_cases,
        mistakes=(
            Mistake(
                "no all-reduce",
                _split_no_sum,
                "Each rank knows only what its own hidden units add to the output. What must "
                "happen to the parts before somebody reads the output?",
            ),
            Mistake(
                "a mean instead of a sum",
                _split_mean,
                "A matrix product sums over the hidden units. The ranks hold different units of "
                "one sum, not several estimates of one value.",
            ),
            Mistake(
                "the second bias on every rank",
                _split_bias_everywhere,
                "The parts are summed. A bias that stands in each of them is added as many times "
                "as there are ranks.",
            ),
            Mistake(
                "the second bias in the first rank's part",
                _split_bias_on_the_first,
                "The sum is right. But the parts should all be made in the same way: add the bias "
                "after the sum.",
            ),
            Mistake(
                "the second bias is lost",
                _split_no_bias,
                "The parts are right. The whole layer also adds `down_bias`, once.",
            ),
            Mistake(
                "the first bias is lost",
                _split_no_up_bias,
                "Each hidden unit has its own bias. A rank needs those of its units.",
            ),
            Mistake(
                "rows first",
                _split_by_rows_first,
                "You split the sum *before* the activation, and gelu(a) + gelu(b) is not "
                "gelu(a + b). Give each rank whole hidden units: a part of the rows of `up`.",
            ),
            Mistake(
                "units and weights of different ranks",
                _split_strided,
                "A rank's columns of `down` must belong to the hidden units that it computed. Cut "
                "both matrices in the same way.",
            ),
            Mistake(
                "every rank does everything",
                _split_not_at_all,
                "The output is right, and nothing is saved: each rank should use only its part of "
                "`up` and of `down`.",
            ),
            Mistake(
                "no activation",
                _split_no_activation,
                "Between the two matrices stands a GELU. It acts on each hidden unit alone, so "
                "each rank can apply it to its own.",
            ),
        ),
    ),
    Exercise(
        id="22.qkv_rows",
        title="Heads over ranks",
        reference=qkv_rows,
        cases=_ROWS,
        mistakes=(
            Mistake(
                "a piece of the fused matrix",
                _rows_neighbours,
                "With two ranks the first would get all queries and half of the keys, and no "
                "value. A head needs its query, its key and its value on the same rank.",
            ),
            Mistake(
                "every so many rows",
                _rows_every_so_many,
                "This cuts through the heads. A head's score sums over its whole width, so its "
                "rows must stay together.",
            ),
            Mistake(
                "every so many heads",
                _rows_strided_heads,
                "These are whole heads, but not neighbours. W^O is split into neighbouring pieces, "
                "so rank 0 must have the first heads.",
            ),
            Mistake(
                "queries only",
                _rows_of_queries,
                "The fused matrix holds three blocks: queries, keys, values. A rank needs its "
                "heads from each of them.",
            ),
            Mistake(
                "sorted by head",
                _rows_head_by_head,
                "The right rows, in another order. The layer reads all queries first, then all "
                "keys, then all values.",
            ),
            Mistake(
                "one head",
                _rows_one_head,
                "A rank has num_heads / ranks heads. Yours has one.",
            ),
            Mistake(
                "a part of every head",
                _rows_part_of_each_head,
                "A head's score sums over its whole width. Split between heads, not inside them.",
            ),
        ),
    ),
    Exercise(
        id="22.bubble",
        title="The bubble",
        reference=bubble,
        cases=_BUBBLES,
        mistakes=(
            Mistake(
                "m + p steps",
                lambda stages, micro_batches: (stages - 1) / (micro_batches + stages),
                "Count with p = 2 and m = 1: two steps in all, and one of them idle for each "
                "stage. The last micro-batch starts at step m, and passes p - 1 more stages.",
            ),
            Mistake(
                "idle against busy",
                lambda stages, micro_batches: (stages - 1) / micro_batches,
                "This compares idle steps with busy ones. The share is of all steps.",
            ),
            Mistake(
                "the busy share",
                lambda stages, micro_batches: micro_batches / (micro_batches + stages - 1),
                "This is the share of time in which a stage works. The bubble is the rest.",
            ),
            Mistake(
                "p idle steps",
                lambda stages, micro_batches: stages / (micro_batches + stages - 1),
                "With one stage nothing is idle. Your formula says otherwise.",
            ),
            Mistake(
                "without micro-batches",
                lambda stages, micro_batches: (stages - 1) / stages,
                "This is the bubble of one micro-batch. More of them fill the pipeline.",
            ),
        ),
    ),
    Exercise(
        id="22.micro_batches",
        title="Find the bug: the loss of micro-batches",
        reference=micro_batch_gradient,
        cases=_micro_cases,
        start=_micro_start,
        mistakes=(
            Mistake(
                "divided by the number of micro-batches",
                _micro_over_count,
                "This is right while all micro-batches are equally large. When the last one is "
                "smaller, its examples count more than the others.",
            ),
            Mistake(
                "means divided by the batch",
                _micro_over_batch,
                "`cross_entropy` has divided by the micro-batch's size already. Dividing by the "
                "whole batch as well divides twice.",
            ),
            Mistake(
                "a sum of losses",
                _micro_sum_of_losses,
                "You have summed over the examples. The whole batch takes the mean.",
            ),
            Mistake(
                "the last micro-batch only",
                _micro_last,
                "Each micro-batch overwrites what the one before found. Gradients add up.",
            ),
            Mistake(
                "divided once too often",
                _micro_divided_twice,
                "The weights of the micro-batches must sum to 1. Yours sum to one over their "
                "number.",
            ),
            Mistake(
                "small micro-batches count more",
                _micro_over_size,
                "A mean over n examples should count n times. You divide by n, where it should "
                "multiply.",
            ),
        ),
    ),
    Exercise(
        id="22.average",
        title="Gradients of copies",
        reference=average,
        cases=_average_cases,
        mistakes=(
            Mistake(
                "a sum",
                _average_sum,
                "With four ranks your gradient is four times too long, as if the learning rate "
                "were four times as high. All-reduce sums; what is left to do?",
            ),
            Mistake(
                "ranks count equally",
                _average_plain,
                "Right while all ranks have equally many images. A rank with 3 images must not "
                "weigh as much as one with 8.",
            ),
            Mistake(
                "weighted, not divided",
                _average_weighted_sum,
                "The weights are right. They must be divided by the number of all images.",
            ),
            Mistake(
                "averaged twice",
                _average_twice,
                "The weights must sum to 1. You divided by the number of ranks as well.",
            ),
            Mistake(
                "few images count more",
                _average_inverse,
                "Each rank's gradient is a mean over its images. More images must give it more "
                "weight, not less.",
            ),
            Mistake(
                "the first rank's",
                _average_first,
                "All ranks must end with the same gradient, made from the images of all.",
            ),
            Mistake(
                "the largest rank's",
                _average_of_largest,
                "All ranks must end with the same gradient, made from the images of all.",
            ),
        ),
    ),
    Exercise(
        id="22.stage_bytes",
        title="Bytes of a stage",
        reference=stage_bytes,
        cases=_BYTES,
        mistakes=(
            Mistake(
                "GPipe's activations",
                _bytes_gpipe,
                "This keeps all micro-batches, as GPipe does. In 1F1B a stage starts going back "
                "before all have come forward.",
            ),
            Mistake(
                "the first stage's, everywhere",
                _bytes_all_stages,
                "This is right for the first stage. Later stages get a micro-batch back sooner: "
                "look at the last one, which goes back at once.",
            ),
            Mistake(
                "counted from the wrong end",
                _bytes_from_the_start,
                "The first stage waits longest for its first backward pass, so it keeps most, not "
                "least.",
            ),
            Mistake(
                "one too few",
                _bytes_one_less,
                "The last stage keeps one micro-batch: the one that it works on. Yours keeps none.",
            ),
            Mistake(
                "more than there are",
                _bytes_no_limit,
                "A stage cannot keep more micro-batches than there are.",
            ),
            Mistake(
                "Adam is missing",
                _bytes_no_adam,
                "Weight and gradient are 4 bytes of a parameter. Adam keeps three numbers more, in "
                "float32.",
            ),
            Mistake(
                "no copy of the weights in float32",
                _bytes_no_master,
                "Adam's two moments are 8 bytes. Mixed precision also keeps the weights themselves "
                "in float32.",
            ),
            Mistake(
                "weights only",
                _bytes_weights_only,
                "This is what inference needs. Training also holds gradients and Adam's state.",
            ),
        ),
    ),
)
