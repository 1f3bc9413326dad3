"""Exercises of lesson 14: resampler, gates, one image per word, freezing, a cache's bug."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case

# --- one attention of the resampler --------------------------------------------------------------


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v


def resample(latents: Tensor, patches: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor) -> Tensor:
    latents = latents.expand(len(patches), -1, -1)
    seen = torch.cat([patches, latents], dim=1)
    return latents + _attend(latents @ w_q, seen @ w_k, seen @ w_v)


def _resample_patches_only(latents, patches, w_q, w_k, w_v):
    return latents + _attend(latents @ w_q, patches @ w_k, patches @ w_v)


def _resample_without_residual(latents, patches, w_q, w_k, w_v):
    return resample(latents, patches, w_q, w_k, w_v) - latents


def _resample_patches_ask(latents, patches, w_q, w_k, w_v):
    latents = latents.expand(len(patches), -1, -1)
    seen = torch.cat([patches, latents], dim=1)
    return patches + _attend(patches @ w_q, seen @ w_k, seen @ w_v)


def _resample_everything_asks(latents, patches, w_q, w_k, w_v):
    latents = latents.expand(len(patches), -1, -1)
    seen = torch.cat([patches, latents], dim=1)
    return seen + _attend(seen @ w_q, seen @ w_k, seen @ w_v)


def _resample_no_scale(latents, patches, w_q, w_k, w_v):
    return resample(latents, patches, w_q * math.sqrt(latents.shape[-1]), w_k, w_v)


def _resample_raw_values(latents, patches, w_q, w_k, w_v):
    return resample(latents, patches, w_q, w_k, torch.eye(len(w_v), dtype=w_v.dtype))


def _resample_softmax_over_latents(latents, patches, w_q, w_k, w_v):
    latents = latents.expand(len(patches), -1, -1)
    seen = torch.cat([patches, latents], dim=1)
    scores = latents @ w_q @ (seen @ w_k).transpose(-2, -1) / math.sqrt(latents.shape[-1])
    return latents + scores.softmax(dim=-2) @ (seen @ w_v)


def _resample_across_the_batch(latents, patches, w_q, w_k, w_v):
    every = patches.flatten(0, 1).expand(len(patches), -1, -1)
    return resample(latents, every, w_q, w_k, w_v)


def _resample_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def case(label: str, batch: int, patches: int, latents: int, width: int, size: float) -> Case:
        def draw(*shape: int) -> Tensor:
            return size * torch.randn(shape, generator=generator, dtype=torch.float64)

        weights = [draw(width, width) / math.sqrt(width) for _ in range(3)]
        return Case((draw(latents, width), draw(batch, patches, width), *weights), label=label)

    return (
        case("2 images of 9 patches, 3 latents", 2, 9, 3, 5, 1.0),
        case("3 images, fewer patches than latents", 3, 2, 4, 6, 1.2),
        case("one patch, one latent", 2, 1, 1, 4, 1.5),
        case("40 patches, 2 latents", 1, 40, 2, 8, 0.8),
    )


# --- gates ---------------------------------------------------------------------------------------


def gated_block(
    x: Tensor,
    attend: Callable[[Tensor], Tensor],
    feed_forward: Callable[[Tensor], Tensor],
    gates: Tensor | None = None,
) -> Tensor:
    gates = torch.zeros(2, dtype=x.dtype) if gates is None else gates
    x = x + gates[0].tanh() * attend(x)
    return x + gates[1].tanh() * feed_forward(x)


def _gated(
    squash: Callable[[Tensor], Tensor], start: float = 0.0, **options: bool
) -> Callable[..., Tensor]:
    """A block with another function on its gates, or another start."""

    def block(x, attend, feed_forward, gates=None):
        gates = torch.full((2,), start, dtype=x.dtype) if gates is None else gates
        a, b = squash(gates)
        if options.get("gates_the_sum"):
            x = a * (x + attend(x))
            return b * (x + feed_forward(x))
        if options.get("mixes"):
            x = (1 - a) * x + a * attend(x)
            return (1 - b) * x + b * feed_forward(x)
        if options.get("one_gate"):
            b = a
        if options.get("open_feed_forward"):
            b = 1.0
        if options.get("side_by_side"):
            return x + a * attend(x) + b * feed_forward(x)
        if options.get("no_residual"):
            x = a * attend(x)
            return b * feed_forward(x)
        x = x + a * attend(x)
        return x + b * feed_forward(x)

    return block


class _Layer:
    """A fixed function of x that is not linear, as an attention or feed-forward layer."""

    def __init__(self, width: int, seed: int):
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(width, width, generator=generator, dtype=torch.float64)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.sin(x @ self.weight) + 0.5


def _gated_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(1)

    def case(label: str, shape: tuple[int, ...], gates: list[float] | None) -> Case:
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        layers = (_Layer(shape[-1], 2), _Layer(shape[-1], 3))
        given = () if gates is None else (torch.tensor(gates, dtype=torch.float64),)
        return Case((x, *layers, *given), label=label)

    return (
        case("a fresh block: no gates are given", (2, 3, 4), None),
        case("gates 0.8 and -0.4", (2, 5, 3), [0.8, -0.4]),
        case("large gates: 2.5 and -3", (1, 4, 6), [2.5, -3.0]),
        case("only the second gate is open", (3, 2, 5), [0.0, 1.2]),
    )


# --- one image for each word ---------------------------------------------------------------------


def image_mask(is_image: Tensor, num_images: int) -> Tensor:
    last = is_image.cumsum(dim=1)
    return last[..., None] == torch.arange(1, num_images + 1)


def _mask_one_late(is_image, num_images):
    last = is_image.cumsum(dim=1) - is_image.long()
    return last[..., None] == torch.arange(1, num_images + 1)


def _mask_counts_from_zero(is_image, num_images):
    return is_image.cumsum(dim=1)[..., None] == torch.arange(num_images)


def _mask_all_previous(is_image, num_images):
    return is_image.cumsum(dim=1)[..., None] >= torch.arange(1, num_images + 1)


def _mask_later(is_image, num_images):
    return is_image.cumsum(dim=1)[..., None] <= torch.arange(1, num_images + 1)


def _mask_first_for_early_words(is_image, num_images):
    last = is_image.cumsum(dim=1).clamp(min=1)
    return last[..., None] == torch.arange(1, num_images + 1)


def _mask_early_words_see_all(is_image, num_images):
    mask = image_mask(is_image, num_images)
    return mask | ~mask.any(dim=-1, keepdim=True)


def _mask_inverted(is_image, num_images):
    return ~image_mask(is_image, num_images)


def _mask_over_the_batch(is_image, num_images):
    last = is_image.flatten().cumsum(dim=0).view_as(is_image)
    return last[..., None] == torch.arange(1, num_images + 1)


def _mask_only_image_tokens(is_image, num_images):
    return image_mask(is_image, num_images) & is_image[..., None]


def _mask_cases() -> tuple[Case, ...]:
    def case(label: str, rows: list[str], num_images: int) -> Case:
        is_image = torch.tensor([[letter == "I" for letter in row] for row in rows])
        return Case((is_image, num_images), label=label)

    return (
        case("two rows; two words come before the first image", ["..I..I.", "I..I.I."], 3),
        case("one image at the very start", ["I..."], 1),
        case("no image token at all", ["...", "..."], 2),
        case("images side by side; the last one is filled up", [".II.", "...I", "I.I."], 3),
    )


# --- freeze --------------------------------------------------------------------------------------


class Part(nn.Module):
    """A part of a model. Two are equal if the same parameters train, in the same mode."""

    def __init__(self, width: int, depth: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.up = nn.Linear(width, width + 1)
        self.norm = nn.LayerNorm(width + 1)
        self.statistics = nn.BatchNorm1d(width + 1)
        self.dropout = nn.Dropout(0.1)
        self.below = Part(width + 1, depth - 1) if depth > 1 else nn.Identity()

    def state(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """All parameters, those that would be trained, and the modules in training mode."""
        return (
            tuple(name for name, _ in self.named_parameters()),
            tuple(name for name, p in self.named_parameters() if p.requires_grad),
            tuple(name or "itself" for name, m in self.named_modules() if m.training),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and self.state() == other.state()

    __hash__ = nn.Module.__hash__

    def __repr__(self) -> str:
        everything, trained, training = self.state()
        return (
            f"a module with {len(trained)} of {len(everything)} parameters to train and "
            f"{len(training)} of {len(list(self.modules()))} modules in training mode"
        )


def freeze(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False).eval()


def _freeze_eval_only(module):
    return module.eval()


def _freeze_no_eval(module):
    return module.requires_grad_(False)


def _freeze_linear_only(module):
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.requires_grad_(False)
    return module.eval()


def _freeze_own_parameters(module):
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad = False
    return module.eval()


def _freeze_weights_only(module):
    for name, parameter in module.named_parameters():
        if name.endswith("weight"):
            parameter.requires_grad = False
    return module.eval()


def _freeze_top_mode_only(module):
    module.requires_grad_(False)
    module.training = False
    return module


def _freeze_cases() -> tuple[Case, ...]:
    partly = Part(2, 2)
    partly.up.requires_grad_(False).eval()
    return (
        Case((Part(3, 1),), label="one level deep, with LayerNorm, BatchNorm and dropout"),
        Case((Part(2, 3),), label="parts within parts"),
        Case((partly,), label="some layers are frozen already"),
    )


# --- find the bug --------------------------------------------------------------------------------


def mask_of_new_tokens(is_image: Tensor, num_images: int, cached: int) -> Tensor:
    return image_mask(is_image, num_images)[:, cached:]


def forgetful_mask_of_new_tokens(is_image: Tensor, num_images: int, cached: int) -> Tensor:
    return image_mask(is_image[:, cached:], num_images)


def _new_tokens_of_row_0(is_image, num_images, cached):
    return mask_of_new_tokens(is_image[:1].expand_as(is_image), num_images, cached)


def _new_tokens_last_image(is_image, num_images, cached):
    mask = torch.zeros(len(is_image), is_image.shape[1] - cached, num_images, dtype=torch.bool)
    mask[..., -1] = True
    return mask


def _new_tokens_old_ones(is_image, num_images, cached):
    return image_mask(is_image, num_images)[:, :-cached] if cached else image_mask(is_image, 0)


def _new_tokens_stuck(is_image, num_images, cached):
    before = is_image[:, :cached].sum(dim=1)[:, None].expand(-1, is_image.shape[1] - cached)
    return before[..., None] == torch.arange(1, num_images + 1)


def _new_tokens_all_of_them(is_image, num_images, cached):
    return image_mask(is_image, num_images)


def _new_tokens_plus_positions(is_image, num_images, cached):
    last = is_image[:, cached:].cumsum(dim=1) + cached
    return last[..., None] == torch.arange(1, num_images + 1)


def _new_token_cases() -> tuple[Case, ...]:
    def case(label: str, rows: list[str], num_images: int, cached: int) -> Case:
        is_image = torch.tensor([[letter == "I" for letter in row] for row in rows])
        return Case((is_image, num_images, cached), label=label)

    return (
        case("the prompt is cached, one new word", ["I..I..", "..I..."], 2, 5),
        case("an image follows after the cache", [".I.I..", "II.I.."], 3, 3),
        case("nothing is cached yet", ["I.I", "..I"], 2, 0),
        case("no image so far", ["....", "...I"], 1, 2),
    )


EXERCISES = (
    Exercise(
        id="14.resample",
        title="One attention of the resampler",
        reference=resample,
        cases=_resample_cases,
        mistakes=(
            Mistake(
                "the latents are no keys",
                _resample_patches_only,
                "In the resampler, keys and values come from patches *and* latents. So a latent "
                "can also see what the others hold.",
            ),
            Mistake(
                "no residual",
                _resample_without_residual,
                "The attention's output is added to the latents; they do not vanish.",
            ),
            Mistake(
                "the patches ask",
                _resample_patches_ask,
                "Your result has as many rows as there are patches. The latents ask, so that "
                "there is a row for each latent, however many patches come in.",
            ),
            Mistake(
                "everything asks",
                _resample_everything_asks,
                "This is self-attention over patches and latents. Only the latents are queries: "
                "that is what makes the output's length fixed.",
            ),
            Mistake(
                "no scale",
                _resample_no_scale,
                "Divide the scores by the square root of the width, as in every attention.",
            ),
            Mistake(
                "values without their matrix",
                _resample_raw_values,
                "Keys and values are two different maps of the same sequence. `w_v` is not used.",
            ),
            Mistake(
                "softmax over the latents",
                _resample_softmax_over_latents,
                "Each latent shares its attention out among the keys, so the softmax runs over "
                "the last axis of the scores.",
            ),
            Mistake(
                "images of the batch are mixed",
                _resample_across_the_batch,
                "Each image gets latents of its own: no key may come from another image.",
            ),
        ),
    ),
    Exercise(
        id="14.gated_block",
        title="Gates that start at zero",
        reference=gated_block,
        cases=_gated_cases,
        praise="A fresh block returns its input, and the language model does not notice it.",
        mistakes=(
            Mistake(
                "no tanh",
                _gated(lambda gates: gates),
                "The learned number passes a tanh, which keeps the gate between -1 and 1.",
            ),
            Mistake(
                "gates start at one",
                _gated(torch.tanh, start=1.0),
                "A fresh block must not change the language model. At which value of its number "
                "is a gate shut?",
            ),
            Mistake(
                "sigmoid instead of tanh",
                _gated(torch.sigmoid),
                "A sigmoid gate stands half open at zero. tanh(0) is 0.",
            ),
            Mistake(
                "the gate scales the sum",
                _gated(torch.tanh, gates_the_sum=True),
                "Only what is added passes the gate. With a shut gate yours loses the text.",
            ),
            Mistake(
                "the gate mixes old and new",
                _gated(torch.tanh, mixes=True),
                "The text passes whole, whatever the gate says: the residual has no factor.",
            ),
            Mistake(
                "one gate for both",
                _gated(torch.tanh, one_gate=True),
                "Attention and feed-forward have a gate each: `gates[0]` and `gates[1]`.",
            ),
            Mistake(
                "the feed-forward layer has no gate",
                _gated(torch.tanh, open_feed_forward=True),
                "The feed-forward layer is new and untrained, too, and it also stands behind a "
                "gate.",
            ),
            Mistake(
                "side by side",
                _gated(torch.tanh, side_by_side=True),
                "The feed-forward layer reads what the attention has left, not the block's input.",
            ),
            Mistake(
                "no residual",
                _gated(torch.tanh, no_residual=True),
                "Both results are added to what was there before. A shut gate must leave x.",
            ),
        ),
    ),
    Exercise(
        id="14.image_mask",
        title="Which image a word sees",
        reference=image_mask,
        cases=_mask_cases,
        mistakes=(
            Mistake(
                "the <image> token sees the image before",
                _mask_one_late,
                "You count the images *before* each position. The <image> token itself already "
                "belongs to its image.",
            ),
            Mistake(
                "off by one: the next image",
                _mask_counts_from_zero,
                "After the first <image> token the count is 1, but that image has index 0. Yours "
                "looks one image ahead.",
            ),
            Mistake(
                "all previous images",
                _mask_all_previous,
                "Only the *last* image before a word is seen. What came earlier reaches the word "
                "through the language model's own attention.",
            ),
            Mistake(
                "later images",
                _mask_later,
                "Your words see images that are still to come. In training they would read the "
                "answer; in use there is nothing to read.",
            ),
            Mistake(
                "early words see the first image",
                _mask_first_for_early_words,
                "Before the first image there is none to see: the row of such a word is all False.",
            ),
            Mistake(
                "early words see everything",
                _mask_early_words_see_all,
                "A word without an image before it sees no image. An all-False row is right here: "
                "attention then adds zero.",
            ),
            Mistake(
                "True where hidden",
                _mask_inverted,
                "In this course True means: may attend.",
            ),
            Mistake(
                "the count runs on into the next row",
                _mask_over_the_batch,
                "Each row of the batch is a text of its own. Count along one row only.",
            ),
            Mistake(
                "only the <image> tokens see",
                _mask_only_image_tokens,
                "The words after an image see it as well, until the next image comes.",
            ),
        ),
    ),
    Exercise(
        id="14.freeze",
        title="Frozen means frozen",
        reference=freeze,
        cases=_freeze_cases,
        mistakes=(
            Mistake(
                "evaluation mode only",
                _freeze_eval_only,
                "`eval()` switches dropout off. It does not stop gradients: the optimizer would go "
                "on training every weight. (`module.requires_grad = False` does not, either: each "
                "*parameter* has the flag.)",
            ),
            Mistake(
                "still in training mode",
                _freeze_no_eval,
                "Dropout still disturbs the output, and BatchNorm's statistics still follow the "
                "data. Which mode stops that?",
            ),
            Mistake(
                "only the linear layers",
                _freeze_linear_only,
                "LayerNorm and BatchNorm have weights and biases, too, and yours go on training.",
            ),
            Mistake(
                "only the module's own parameters",
                _freeze_own_parameters,
                "Nearly all parameters sit in modules within the module. Reach those as well.",
            ),
            Mistake(
                "only the weights",
                _freeze_weights_only,
                "Biases, and parameters with other names, go on training.",
            ),
            Mistake(
                "only the outermost mode",
                _freeze_top_mode_only,
                "`training` is a flag of each module within the module. `eval()` sets them all.",
            ),
        ),
    ),
    Exercise(
        id="14.mask_of_new_tokens",
        title="Find the bug: images and a cache",
        reference=mask_of_new_tokens,
        start=forgetful_mask_of_new_tokens,
        cases=_new_token_cases,
        mistakes=(
            Mistake(
                "every row gets the first row's images",
                _new_tokens_of_row_0,
                "The texts of a batch have their images at different places.",
            ),
            Mistake(
                "always the last image",
                _new_tokens_last_image,
                "A row may have fewer images than others, or one still to come. Count its "
                "<image> tokens.",
            ),
            Mistake(
                "the old tokens' rows",
                _new_tokens_old_ones,
                "These rows belong to tokens that the cache already holds.",
            ),
            Mistake(
                "new images do not count",
                _new_tokens_stuck,
                "You count the cached images. A new <image> token moves the count on.",
            ),
            Mistake(
                "rows for cached tokens, too",
                _new_tokens_all_of_them,
                "Only the new tokens go through the model: the mask needs a row for each of those.",
            ),
            Mistake(
                "cached tokens are counted, not cached images",
                _new_tokens_plus_positions,
                "What must be carried over is the number of *images* so far, not of tokens.",
            ),
        ),
    ),
)
