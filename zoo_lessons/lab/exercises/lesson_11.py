"""Exercises of lesson 11: masking by sorting, tokens counted, the decoder's input, two losses."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case
from zoo_lessons.models import mae


def _take(x: Tensor, ids: Tensor) -> Tensor:
    """x[b, ids[b, i]] for tokens of any width: (batch, tokens, d) -> (batch, places, d)."""
    return x.gather(1, ids[..., None].expand(-1, -1, x.shape[-1]))


# --- random masking ------------------------------------------------------------------------------


def random_masking(noise: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    return mae.random_masking(noise, mask_ratio)


def _masking(noise: Tensor, visible: int) -> tuple[Tensor, Tensor, Tensor]:
    ids_shuffle = noise.argsort(dim=1)
    ids_restore = ids_shuffle.argsort(dim=1)
    return ids_shuffle[:, :visible], (ids_restore >= visible).to(noise), ids_restore


def _visible(noise: Tensor, mask_ratio: float) -> int:
    return int(noise.shape[1] * (1 - mask_ratio))


def _masking_sorts_once(noise, mask_ratio):
    visible, ids_shuffle = _visible(noise, mask_ratio), noise.argsort(dim=1)
    return ids_shuffle[:, :visible], (ids_shuffle >= visible).to(noise), ids_shuffle


def _masking_restores_by_shuffling(noise, mask_ratio):
    ids_keep, mask, _ = _masking(noise, _visible(noise, mask_ratio))
    return ids_keep, mask, noise.argsort(dim=1)


def _masking_keeps_the_largest(noise, mask_ratio):
    return _masking(-noise, _visible(noise, mask_ratio))


def _masking_one_for_all(noise, mask_ratio):
    return _masking(noise[:1].expand_as(noise), _visible(noise, mask_ratio))


def _masking_inverted(noise, mask_ratio):
    ids_keep, mask, ids_restore = _masking(noise, _visible(noise, mask_ratio))
    return ids_keep, 1 - mask, ids_restore


def _masking_in_shuffled_order(noise, mask_ratio):
    visible = _visible(noise, mask_ratio)
    ids_keep, mask, ids_restore = _masking(noise, visible)
    return (
        ids_keep,
        (torch.arange(noise.shape[1]) >= visible).to(noise).expand_as(mask),
        ids_restore,
    )


def _masking_keeps_the_ratio(noise, mask_ratio):
    return _masking(noise, int(noise.shape[1] * mask_ratio))


def _masking_over_the_batch(noise, mask_ratio):
    visible = _visible(noise, mask_ratio)
    ids_shuffle = noise.argsort(dim=0)
    ids_restore = ids_shuffle.argsort(dim=0)
    return ids_shuffle[:, :visible], (ids_restore >= visible).to(noise), ids_restore


def _masking_sorts_the_kept(noise, mask_ratio):
    ids_keep, mask, ids_restore = _masking(noise, _visible(noise, mask_ratio))
    return ids_keep.sort(dim=1).values, mask, ids_restore


def _masking_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def case(label: str, batch: int, patches: int, mask_ratio: float, *, transposed: bool = False):
        shape = (patches, batch) if transposed else (batch, patches)
        noise = torch.rand(shape, generator=generator, dtype=torch.float64)
        return Case((noise.T if transposed else noise, mask_ratio), label=label)

    return (
        case("3 images of 16 patches, 3/4 hidden", 3, 16, 0.75),
        case("5 images of 10 patches, 3/4 hidden, which leaves 2", 5, 10, 0.75),
        case("2 images of 9 patches, 1/5 hidden, noise in another memory order", 2, 9, 0.2,
             transposed=True),
        case("nothing hidden", 2, 7, 0.0),
    )  # fmt: skip


# --- the decoder's input -------------------------------------------------------------------------


def decoder_input(latent, mask_token, positions, ids_restore):
    visible = latent[:, 1:]
    missing = ids_restore.shape[1] - visible.shape[1]
    x = torch.cat([visible, mask_token.expand(len(latent), missing, -1)], dim=1)
    return torch.cat([latent[:, :1], _take(x, ids_restore)], dim=1) + positions


def _with_mask_tokens(latent: Tensor, mask_token: Tensor, ids_restore: Tensor) -> Tensor:
    """(batch, patches, d) in shuffled order: visible ones, then mask tokens."""
    missing = ids_restore.shape[1] - (latent.shape[1] - 1)
    return torch.cat([latent[:, 1:], mask_token.expand(len(latent), missing, -1)], dim=1)


def _input_mask_tokens_first(latent, mask_token, positions, ids_restore):
    missing = ids_restore.shape[1] - (latent.shape[1] - 1)
    x = torch.cat([mask_token.expand(len(latent), missing, -1), latent[:, 1:]], dim=1)
    return torch.cat([latent[:, :1], _take(x, ids_restore)], dim=1) + positions


def _input_still_shuffled(latent, mask_token, positions, ids_restore):
    x = _with_mask_tokens(latent, mask_token, ids_restore)
    return torch.cat([latent[:, :1], x], dim=1) + positions


def _input_positions_shuffled(latent, mask_token, positions, ids_restore):
    x = _with_mask_tokens(latent, mask_token, ids_restore) + positions[1:]
    return torch.cat([latent[:, :1] + positions[:1], _take(x, ids_restore)], dim=1)


def _input_class_token_unshuffled(latent, mask_token, positions, ids_restore):
    x = torch.cat([latent[:, :1], _with_mask_tokens(latent, mask_token, ids_restore)], dim=1)
    return torch.cat([latent[:, :1], _take(x, ids_restore)], dim=1) + positions


def _input_shuffled_again(latent, mask_token, positions, ids_restore):
    x = _with_mask_tokens(latent, mask_token, ids_restore)
    return torch.cat([latent[:, :1], _take(x, ids_restore.argsort(dim=1))], dim=1) + positions


def _input_mask_tokens_without_positions(latent, mask_token, positions, ids_restore):
    whole = decoder_input(latent, mask_token, positions, ids_restore)
    hidden = torch.cat(
        [torch.zeros_like(ids_restore[:, :1]), ids_restore >= latent.shape[1] - 1], dim=1
    )
    return torch.where(hidden[..., None].bool(), mask_token, whole)


def _input_class_token_without_position(latent, mask_token, positions, ids_restore):
    x = _take(_with_mask_tokens(latent, mask_token, ids_restore), ids_restore) + positions[1:]
    return torch.cat([latent[:, :1], x], dim=1)


def _input_without_class_token(latent, mask_token, positions, ids_restore):
    x = _with_mask_tokens(latent, mask_token, ids_restore)
    return _take(x, ids_restore) + positions[1:]


def _input_without_positions(latent, mask_token, positions, ids_restore):
    x = _take(_with_mask_tokens(latent, mask_token, ids_restore), ids_restore)
    return torch.cat([latent[:, :1], x], dim=1)


def _input_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(1)

    def case(label: str, batch: int, patches: int, visible: int, width: int):
        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        noise = torch.rand(batch, patches, generator=generator)
        ids_restore = noise.argsort(dim=1).argsort(dim=1)
        arguments = random(batch, 1 + visible, width), random(width), random(1 + patches, width)
        return Case((*arguments, ids_restore), label=label)

    return (
        case("3 images, 4 of 16 patches visible", 3, 16, 4, 6),
        case("2 images, 7 of 9 patches visible", 2, 9, 7, 4),
        case("1 image, 1 of 5 patches visible", 1, 5, 1, 8),
    )


# --- the loss ------------------------------------------------------------------------------------


def masked_loss(logits, target, mask):
    per_patch = (logits - target).square().mean(dim=-1)
    return (per_patch * mask).sum() / mask.sum()


def _loss_over_visible(logits, target, mask):
    return masked_loss(logits, target, 1 - mask)


def _loss_over_all(logits, target, mask):
    return (logits - target).square().mean()


def _loss_divided_by_all(logits, target, mask):
    return ((logits - target).square().mean(dim=-1) * mask).mean()


def _loss_not_divided(logits, target, mask):
    return ((logits - target).square().mean(dim=-1) * mask).sum()


def _loss_sums_pixels(logits, target, mask):
    return ((logits - target).square().sum(dim=-1) * mask).sum() / mask.sum()


def _loss_absolute(logits, target, mask):
    return ((logits - target).abs().mean(dim=-1) * mask).sum() / mask.sum()


def _loss_rooted(logits, target, mask):
    return masked_loss(logits, target, mask).sqrt()


def _loss_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(2)

    def case(label: str, batch: int, patches: int, hidden: int, pixels: int, scale: float = 1.0):
        def random() -> Tensor:
            values = torch.randn(batch, patches, pixels, generator=generator, dtype=torch.float64)
            return scale * values

        noise = torch.rand(batch, patches, generator=generator, dtype=torch.float64)
        mask = (noise.argsort(dim=1).argsort(dim=1) < hidden).double()
        return Case((random(), random(), mask), label=label)

    return (
        case("3 images, 12 of 16 patches hidden", 3, 16, 12, 5),
        case("2 images, 1 of 9 patches hidden", 2, 9, 1, 12),
        case("large pixel values", 2, 7, 5, 4, scale=30.0),
    )


# --- find the bug: patch normalisation -----------------------------------------------------------


def normalise_patches(target, eps=1e-6):
    mean = target.mean(dim=-1, keepdim=True)
    variance = target.var(dim=-1, keepdim=True)
    return (target - mean) / (variance + eps).sqrt()


def normalise_images(target, eps=1e-6):
    mean = target.mean(dim=(1, 2), keepdim=True)
    variance = target.var(dim=(1, 2), keepdim=True)
    return (target - mean) / (variance + eps).sqrt()


def _normalise_pixels(target, eps=1e-6):
    mean, variance = target.mean(dim=1, keepdim=True), target.var(dim=1, keepdim=True)
    return (target - mean) / (variance + eps).sqrt()


def _normalise_batch(target, eps=1e-6):
    return (target - target.mean()) / (target.var() + eps).sqrt()


def _normalise_biased(target, eps=1e-6):
    mean = target.mean(dim=-1, keepdim=True)
    variance = target.var(dim=-1, keepdim=True, unbiased=False)
    return (target - mean) / (variance + eps).sqrt()


def _normalise_by_variance(target, eps=1e-6):
    mean, variance = target.mean(dim=-1, keepdim=True), target.var(dim=-1, keepdim=True)
    return (target - mean) / (variance + eps)


def _normalise_eps_outside(target, eps=1e-6):
    mean, deviation = target.mean(dim=-1, keepdim=True), target.std(dim=-1, keepdim=True)
    return (target - mean) / (deviation + eps)


def _normalise_patch_mean_image_variance(target, eps=1e-6):
    mean, variance = target.mean(dim=-1, keepdim=True), target.var(dim=(1, 2), keepdim=True)
    return (target - mean) / (variance + eps).sqrt()


def _normalise_mean_only(target, eps=1e-6):
    return target - target.mean(dim=-1, keepdim=True)


def _normalise_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    bright_and_flat = random(2, 6, 12) * random(2, 6, 1) + 3 * random(2, 6, 1)
    return (
        Case((bright_and_flat,), label="patches of different brightness and contrast"),
        Case((random(3, 5, 4),), label="small patches of 4 numbers"),
        Case((1e-3 * random(2, 4, 8),), label="hardly any contrast, where eps counts"),
        Case((random(1, 7, 7), 0.1), label="a large eps"),
    )


EXERCISES = (
    Exercise(
        id="11.random_masking",
        title="Random masking",
        reference=random_masking,
        cases=_masking_cases,
        mistakes=(
            Mistake(
                "sorted once instead of twice",
                _masking_sorts_once,
                "`noise.argsort()` says which patch stands at each place of the shuffled order. "
                "You need the opposite too: at which place each patch stands.",
            ),
            Mistake(
                "ids_restore shuffles instead of restoring",
                _masking_restores_by_shuffling,
                "Shuffle 0, 1, 2, ... with `ids_shuffle`, then index the result with your "
                "`ids_restore`: do 0, 1, 2, ... come out?",
            ),
            Mistake(
                "keeps the largest noise",
                _masking_keeps_the_largest,
                "Any rule would be as random, but ours keeps the patches with the *smallest* "
                "noise, so that all can compare.",
            ),
            Mistake(
                "the same mask for all images",
                _masking_one_for_all,
                "Print `ids_keep`: all rows are alike. Each image has its own row of noise.",
            ),
            Mistake(
                "the mask is inverted",
                _masking_inverted,
                "1 means hidden. The mask's sum should be the number of hidden patches.",
            ),
            Mistake(
                "the mask is in shuffled order",
                _masking_in_shuffled_order,
                "Your mask is 0 ... 0 1 ... 1 for every image: it speaks of places in the "
                "shuffled order. It must speak of patches in the image.",
            ),
            Mistake(
                "keeps the share that should be hidden",
                _masking_keeps_the_ratio,
                "`mask_ratio` is the share of *hidden* patches. How many are left?",
            ),
            Mistake(
                "sorted over the batch",
                _masking_over_the_batch,
                "`dim=0` compares images with each other. Sort the patches of one image.",
            ),
            Mistake(
                "the kept patches are put in image order",
                _masking_sorts_the_kept,
                "`ids_restore` counts on the shuffled order: place 0 is the patch with the "
                "smallest noise. Leave `ids_keep` as the sorting gave it.",
            ),
        ),
        praise="Sorting noise gives a random choice without a loop, and a second sort undoes it.",
    ),
    Exercise(
        id="11.tokens",
        title="How many tokens?",
        reference=(50, 197),
        mistakes=(
            Mistake(
                "no class token",
                (49, 196),
                "A class token stands in front of the patches, in the encoder and in the decoder.",
            ),
            Mistake(
                "the encoder sees what should be hidden",
                (148, 197),
                "75 % of the patches are *hidden* from the encoder.",
            ),
            Mistake(
                "the encoder sees mask tokens",
                (197, 197),
                "In BERT it would. In MAE mask tokens only come in after the encoder.",
            ),
            Mistake(
                "the decoder sees only what is hidden",
                (50, 148),
                "The decoder gets the encoded patches *and* a mask token for each hidden one.",
            ),
            Mistake(
                "counted pixels per side",
                (57, 225),
                "224 is the side in pixels. How many patches of 16 fit into one side?",
            ),
        ),
        praise="The encoder's 12 wide layers read 50 tokens, the decoder's 8 narrow ones 197.",
    ),
    Exercise(
        id="11.decoder_input",
        title="The decoder's input",
        reference=decoder_input,
        cases=_input_cases,
        mistakes=(
            Mistake(
                "mask tokens come first",
                _input_mask_tokens_first,
                "In the shuffled order the visible patches hold the first places. `ids_restore` "
                "expects the mask tokens behind them.",
            ),
            Mistake(
                "still shuffled",
                _input_still_shuffled,
                "Each row of `positions` belongs to a place in the image, but your tokens are "
                "still in shuffled order.",
            ),
            Mistake(
                "positions added before unshuffling",
                _input_positions_shuffled,
                "Your positions were shuffled along with the tokens. A patch then says that it "
                "sits where the sorting happened to put it.",
            ),
            Mistake(
                "the class token is unshuffled too",
                _input_class_token_unshuffled,
                "`ids_restore` counts patches from 0. With the class token in front, everything "
                "moves by one. Take it off first, put it back after.",
            ),
            Mistake(
                "shuffled once more",
                _input_shuffled_again,
                "`ids_restore` is already the inverse of the shuffle. Its argsort shuffles again.",
            ),
            Mistake(
                "mask tokens have no positions",
                _input_mask_tokens_without_positions,
                "All mask tokens are the same vector. Without a position none of them knows which "
                "patch it should paint.",
            ),
            Mistake(
                "the class token has no position",
                _input_class_token_without_position,
                "`positions` has a row for every token; row 0 is the class token's.",
            ),
            Mistake(
                "no class token",
                _input_without_class_token,
                "The result has 1 + patches tokens: the class token stays in front.",
            ),
            Mistake(
                "no positions",
                _input_without_positions,
                "The encoder's positions went into the patches, but the mask tokens have none yet. "
                "The decoder adds its own to all tokens.",
            ),
        ),
    ),
    Exercise(
        id="11.masked_loss",
        title="The loss on hidden patches",
        reference=masked_loss,
        cases=_loss_cases,
        mistakes=(
            Mistake(
                "over the visible patches",
                _loss_over_visible,
                "1 in the mask means hidden. You grade the model on what it was shown.",
            ),
            Mistake(
                "over all patches",
                _loss_over_all,
                "The mask is not used. A quarter of the loss then comes from patches that the "
                "model could see.",
            ),
            Mistake(
                "divided by the number of all patches",
                _loss_divided_by_all,
                "Visible patches add 0 but are counted. Then the loss falls by itself when fewer "
                "patches are hidden. Divide by the number of hidden ones.",
            ),
            Mistake(
                "not divided",
                _loss_not_divided,
                "A sum grows with the batch and with the ratio. Divide by the number of hidden "
                "patches.",
            ),
            Mistake(
                "summed over the pixels of a patch",
                _loss_sums_pixels,
                "Within a patch, take the mean: otherwise larger patches have a larger loss.",
            ),
            Mistake(
                "absolute instead of squared error",
                _loss_absolute,
                "The formula squares the difference of each pixel.",
            ),
            Mistake(
                "the root of the mean",
                _loss_rooted,
                "The formula has no root. Its gradient would be divided by the loss itself.",
            ),
        ),
    ),
    Exercise(
        id="11.patch_normalisation",
        title="Find the bug: bright patches stay bright",
        reference=normalise_patches,
        start=normalise_images,
        cases=_normalise_cases,
        mistakes=(
            Mistake(
                "normalised over the patches",
                _normalise_pixels,
                "`dim=1` runs over the patches. The pixels of one patch lie along the last axis.",
            ),
            Mistake(
                "normalised over the whole batch",
                _normalise_batch,
                "Now images depend on each other. Print the shape of your mean: it should have one "
                "number per patch.",
            ),
            Mistake(
                "the mean is repaired, the variance is not",
                _normalise_patch_mean_image_variance,
                "The mean is that of the patch now, but the variance is still that of the image.",
            ),
            Mistake(
                "the variance divides by n",
                _normalise_biased,
                "This is LayerNorm's variance. The published code, and so the docstring, divides "
                "by n - 1, as `var` does by itself.",
            ),
            Mistake(
                "divided by the variance",
                _normalise_by_variance,
                "Divide by the standard deviation, the root of the variance.",
            ),
            Mistake(
                "eps outside the root",
                _normalise_eps_outside,
                "eps is added to the variance. In a patch without contrast the two differ by much.",
            ),
            Mistake(
                "only the mean is subtracted",
                _normalise_mean_only,
                "A patch of strong contrast still counts more than a faint one. Divide, too.",
            ),
        ),
        praise="Every patch now has mean 0 and variance 1, whatever its neighbours do.",
    ),
)
