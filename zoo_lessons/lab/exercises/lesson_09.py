"""Exercises of lesson 09: patches, class token and positions, counting, rollout, an evaluation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case
from zoo_lessons.models.vit import ViT, ViTConfig

# --- image to patches ----------------------------------------------------------------------------


def image_to_patches(images: Tensor, patch_size: int) -> Tensor:
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    x = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    x = x.permute(0, 2, 4, 1, 3, 5)  # (batch, rows, columns, channels, patch_size, patch_size)
    return x.reshape(batch, rows * columns, channels * patch_size**2)


def _six_axes(images: Tensor, patch_size: int) -> Tensor:
    """(batch, channels, rows, patch_size, columns, patch_size)."""
    return images.unflatten(2, (-1, patch_size)).unflatten(4, (-1, patch_size))


def _patches_plain_reshape(images, patch_size):
    batch, channels, height, width = images.shape
    count = (height // patch_size) * (width // patch_size)
    return images.reshape(batch, count, channels * patch_size**2)


def _patches_column_by_column(images, patch_size):
    x = _six_axes(images, patch_size).permute(0, 4, 2, 1, 3, 5)
    return x.flatten(3).flatten(1, 2)


def _patches_channels_last(images, patch_size):
    x = _six_axes(images, patch_size).permute(0, 2, 4, 3, 5, 1)
    return x.flatten(3).flatten(1, 2)


def _patches_transposed_inside(images, patch_size):
    x = _six_axes(images, patch_size).permute(0, 2, 4, 1, 5, 3)
    return x.flatten(3).flatten(1, 2)


def _patches_size_before_rows(images, patch_size):
    """The sides are split as (patch_size, rows) instead of (rows, patch_size)."""
    x = images.unflatten(2, (patch_size, -1)).unflatten(4, (patch_size, -1))
    return x.permute(0, 3, 5, 1, 2, 4).flatten(3).flatten(1, 2)


def _patches_last(images, patch_size):
    return F.unfold(images, patch_size, stride=patch_size)


def _patches_overlapping(images, patch_size):
    return F.unfold(images, patch_size).transpose(1, 2)


def _patch_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def image(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return (
        Case((image(2, 3, 4, 6), 2), label="2 colour images of 4×6 pixels in patches of 2"),
        Case((image(1, 1, 9, 6), 3), label="one grey image, higher than wide, in patches of 3"),
        Case((image(3, 2, 4, 4), 4), label="one patch is the whole image"),
        Case((image(2, 3, 6, 8).transpose(2, 3), 2), label="an image that is not contiguous"),
    )


# --- class token and positions -------------------------------------------------------------------


def embed(patches: Tensor, class_token: Tensor, positions: Tensor) -> Tensor:
    x = torch.cat([class_token.expand(len(patches), -1, -1), patches], dim=1)
    return x + positions


def _embed_token_last(patches, class_token, positions):
    return torch.cat([patches, class_token.expand(len(patches), -1, -1)], dim=1) + positions


def _embed_token_without_position(patches, class_token, positions):
    return torch.cat([class_token.expand(len(patches), -1, -1), patches + positions[:, 1:]], dim=1)


def _embed_positions_shifted(patches, class_token, positions):
    return torch.cat([class_token.expand(len(patches), -1, -1), patches + positions[:, :-1]], dim=1)


def _embed_no_positions(patches, class_token, positions):
    return torch.cat([class_token.expand(len(patches), -1, -1), patches], dim=1)


def _embed_token_added(patches, class_token, positions):
    return patches + class_token + positions[:, 1:]


def _embed_mean_in_front(patches, class_token, positions):
    return torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1) + positions


def _embed_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(1)

    def case(label: str, batch: int, length: int, width: int) -> Case:
        return Case(
            (
                torch.randn(batch, length, width, generator=generator),
                torch.randn(1, 1, width, generator=generator),
                torch.randn(1, 1 + length, width, generator=generator),
            ),
            label=label,
        )

    return (
        case("2 images of 5 patches", 2, 5, 8),
        case("one image", 1, 4, 6),
        case("as many images as tokens", 4, 3, 4),
        case("a single patch", 3, 1, 5),
    )


# --- sizes ---------------------------------------------------------------------------------------


def vit_size(
    image_size: int,
    patch_size: int,
    num_channels: int,
    d_model: int,
    num_layers: int,
    d_ff: int,
    num_labels: int,
) -> tuple[int, int]:
    return _size(image_size, patch_size, num_channels, d_model, num_layers, d_ff, num_labels)


def _size(
    image_size: int,
    patch_size: int,
    num_channels: int,
    d: int,
    num_layers: int,
    d_ff: int,
    num_labels: int,
    *,
    class_token: bool = True,
    positions_of_class_token: bool = True,
    channels: bool = True,
    attention_bias: bool = True,
    last_norm: bool = True,
    norms: int = 2,
    side_only: bool = False,
) -> tuple[int, int]:
    """Tokens and parameters; each option leaves out what someone may forget."""
    patches = image_size // patch_size if side_only else (image_size // patch_size) ** 2
    tokens = patches + class_token
    embedding = (num_channels if channels else 1) * patch_size**2 * d + d
    positions = (tokens if positions_of_class_token else patches) * d
    attention = 4 * d**2 + 4 * d * attention_bias
    block = attention + (2 * d * d_ff + d_ff + d) + norms * 2 * d
    total = embedding + class_token * d + positions + num_layers * block
    return tokens, total + 2 * d * last_norm + (d + 1) * num_labels


def _size_without(**left_out):
    return lambda *sizes: _size(*sizes, **left_out)


# --- rollout -------------------------------------------------------------------------------------


def rollout(weights: Tensor) -> Tensor:
    reach = torch.eye(weights.shape[-1], dtype=weights.dtype)
    for layer in weights.mean(dim=1):  # (tokens, tokens), from the first layer to the last
        reach = (0.5 * layer + 0.5 * torch.eye(len(layer), dtype=layer.dtype)) @ reach
    return reach


def _eye_like(weights: Tensor) -> Tensor:
    return torch.eye(weights.shape[-1], dtype=weights.dtype)


def _rollout_no_residual(weights):
    reach = _eye_like(weights)
    for layer in weights.mean(dim=1):
        reach = layer @ reach
    return reach


def _rollout_wrong_order(weights):
    reach = _eye_like(weights)
    for layer in weights.mean(dim=1):
        reach = reach @ (0.5 * layer + 0.5 * _eye_like(weights))
    return reach


def _rollout_not_normalised(weights):
    reach = _eye_like(weights)
    for layer in weights.mean(dim=1):
        reach = (layer + _eye_like(weights)) @ reach
    return reach


def _rollout_last_layer(weights):
    return 0.5 * weights[-1].mean(dim=0) + 0.5 * _eye_like(weights)


def _rollout_mean_of_layers(weights):
    return 0.5 * weights.mean(dim=(0, 1)) + 0.5 * _eye_like(weights)


def _rollout_residual_at_the_end(weights):
    return 0.5 * _rollout_no_residual(weights) + 0.5 * _eye_like(weights)


def _rollout_elementwise(weights):
    reach = torch.ones_like(weights[0, 0])
    for layer in weights.mean(dim=1):
        reach = (0.5 * layer + 0.5 * _eye_like(weights)) * reach
    return reach


def _rollout_each_head(weights):
    reach = _eye_like(weights).expand(weights.shape[1], -1, -1)
    for layer in weights:
        reach = (0.5 * layer + 0.5 * _eye_like(weights)) @ reach
    return reach.mean(dim=0)


def _rollout_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(2)

    def weights(*shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(*shape, generator=generator)).softmax(dim=-1)

    return (
        Case((weights(2, 3, 5, 5),), label="2 layers of 3 heads, 5 tokens"),
        Case((weights(4, 2, 4, 4, scale=3.0),), label="4 layers with sharp heads"),
        Case((weights(1, 3, 3, 3),), label="a single layer"),
    )


# --- find the bug: an evaluation -----------------------------------------------------------------


def evaluate(model, images, labels, batch_size):
    model.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(labels), batch_size):
            logits = model(images[start : start + batch_size]).logits
            right += (logits.argmax(dim=-1) == labels[start : start + batch_size]).sum().item()
    return right / len(labels)


def faulty_evaluate(model, images, labels, batch_size):
    accuracies = []
    for start in range(0, len(labels), batch_size):
        logits = model(images[start : start + batch_size]).logits
        right = logits.argmax(dim=-1) == labels[start : start + batch_size]
        accuracies.append(right.float().mean())
    return sum(accuracies).item() / len(accuracies)


def _evaluate_mean_of_means(model, images, labels, batch_size):
    return faulty_evaluate(model.eval(), images, labels, batch_size)


def _evaluate_with_dropout(model, images, labels, batch_size):
    right = 0
    for start in range(0, len(labels), batch_size):
        logits = model(images[start : start + batch_size]).logits
        right += (logits.argmax(dim=-1) == labels[start : start + batch_size]).sum().item()
    return right / len(labels)


def _evaluate_without_last_batch(model, images, labels, batch_size):
    whole = len(labels) // batch_size * batch_size or len(labels)
    return evaluate(model, images[:whole], labels[:whole], batch_size)


def _evaluate_full_batches_assumed(model, images, labels, batch_size):
    batches = -(-len(labels) // batch_size)
    return evaluate(model, images, labels, batch_size) * len(labels) / (batches * batch_size)


def _evaluate_count(model, images, labels, batch_size):
    return round(evaluate(model, images, labels, batch_size) * len(labels))


def _evaluate_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(3)
    config = ViTConfig(
        image_size=4,
        patch_size=2,
        num_channels=1,
        d_model=8,
        num_layers=1,
        num_heads=2,
        d_ff=16,
        num_labels=3,
        dropout=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = ViT(config).train()

    def case(label: str, count: int, batch_size: int) -> Case:
        images = torch.randn(count, 1, 4, 4, generator=generator)
        with torch.no_grad():
            best = model.eval()(images).logits.argmax(dim=-1)
        model.train()
        # Right at first and wrong towards the end, so that the last batch differs from the others.
        labels = torch.where(torch.arange(count) < 0.7 * count, best, (best + 1) % 3)
        return Case((model, images, labels, batch_size), label=label)

    return (
        case("50 images in batches of 16", 50, 16),
        case("one image more than two batches", 41, 20),
        case("a batch that is larger than the data", 30, 64),
    )


EXERCISES = (
    Exercise(
        id="09.image_to_patches",
        title="From image to patches",
        reference=image_to_patches,
        cases=_patch_cases,
        mistakes=(
            Mistake(
                "a plain reshape",
                _patches_plain_reshape,
                "A reshape alone cuts the memory into equal strips, and memory runs along whole "
                "rows of the image. Show patch 0 as a picture: it is no square of the image.",
            ),
            Mistake(
                "patches column by column",
                _patches_column_by_column,
                "Patch 1 should lie to the right of patch 0, as words on a page. Yours lies below. "
                "Which of the two grid axes must come first?",
            ),
            Mistake(
                "channels last inside a patch",
                _patches_channels_last,
                "Each patch holds the right numbers in another order: red, green, blue of the "
                "first pixel, and so on. Here all of red comes first, as in a convolution's "
                "weights.",
            ),
            Mistake(
                "rows and columns of the pixels swapped",
                _patches_transposed_inside,
                "Patches stand in the right places, but each is mirrored along its diagonal. Look "
                "at the order of the last two axes before you flatten them.",
            ),
            Mistake(
                "the side split the wrong way round",
                _patches_size_before_rows,
                "Height is split into (rows, patch_size): neighbouring pixels belong to one patch, "
                "so patch_size must be the second, faster axis. Your patches hold pixels that are "
                "far apart.",
            ),
            Mistake(
                "patches along the last axis",
                _patches_last,
                "The values are right, but each patch is a column. The result is (batch, patches, "
                "numbers): one row per token.",
            ),
            Mistake(
                "overlapping patches",
                _patches_overlapping,
                "Your window moves by one pixel. It should move by a whole patch, so that each "
                "pixel belongs to one patch.",
            ),
        ),
    ),
    Exercise(
        id="09.embed",
        title="Class token and positions",
        reference=embed,
        cases=_embed_cases,
        mistakes=(
            Mistake(
                "class token at the end",
                _embed_token_last,
                "The classifier reads token 0. Put the class token in front of the patches.",
            ),
            Mistake(
                "class token without its position",
                _embed_token_without_position,
                "`positions` has one row more than there are patches. That row is for the class "
                "token: concatenate first, then add.",
            ),
            Mistake(
                "positions shifted by one",
                _embed_positions_shifted,
                "Row 0 of `positions` belongs to the class token, row 1 to the first patch. Your "
                "patches have their left neighbour's position.",
            ),
            Mistake(
                "positions are missing",
                _embed_no_positions,
                "Without positions the patches are a heap: shuffle them, and nothing changes.",
            ),
            Mistake(
                "class token added to the patches",
                _embed_token_added,
                "The class token is one more token, not a number that every patch gets. Compare "
                "the length of your result with the length of `positions`.",
            ),
            Mistake(
                "the mean of the patches in front",
                _embed_mean_in_front,
                "The class token is a trained vector, the same for every image. What it gathers "
                "from the patches comes later, by attention.",
            ),
        ),
    ),
    Exercise(
        id="09.vit_size",
        title="How long, how large?",
        reference=vit_size,
        cases=(
            Case((224, 16, 3, 768, 12, 3072, 1000), label="ViT-B/16"),
            Case((8, 2, 1, 48, 3, 96, 10), label="the digits model"),
            Case((30, 5, 2, 12, 2, 20, 7), label="two channels, d_ff not 4 · d_model"),
        ),
        mistakes=(
            Mistake(
                "no class token",
                _size_without(class_token=False),
                "One token stands in front of the patches. It lengthens the sequence, is a vector "
                "of parameters itself, and has a position.",
            ),
            Mistake(
                "no position for the class token",
                _size_without(positions_of_class_token=False),
                "Every token has a position embedding, the class token too.",
            ),
            Mistake(
                "channels forgotten in the patch embedding",
                _size_without(channels=False),
                "A patch holds patch_size² pixels of num_channels numbers each.",
            ),
            Mistake(
                "attention without biases",
                _size_without(attention_bias=False),
                "The four projections of attention have a bias of d_model numbers each.",
            ),
            Mistake(
                "the last LayerNorm forgotten",
                _size_without(last_norm=False),
                "In a pre-norm model one more LayerNorm stands after the last block.",
            ),
            Mistake(
                "one LayerNorm per block",
                _size_without(norms=1),
                "A block has two sub-layers, each with its own LayerNorm of 2 · d_model numbers.",
            ),
            Mistake(
                "patches of one side only",
                _size_without(side_only=True),
                "image_size / patch_size patches fit along one side. The image has two sides.",
            ),
        ),
    ),
    Exercise(
        id="09.rollout",
        title="Attention rollout",
        reference=rollout,
        cases=_rollout_cases,
        mistakes=(
            Mistake(
                "no residual",
                _rollout_no_residual,
                "Each block adds its input to what attention brings. Mix the identity into each "
                "layer's matrix, half and half.",
            ),
            Mistake(
                "multiplied in the wrong order",
                _rollout_wrong_order,
                "Row i of the result says what token i of the *last* layer took in. So the last "
                "layer's matrix stands leftmost in the product.",
            ),
            Mistake(
                "rows are not normalised",
                _rollout_not_normalised,
                "A + I has rows that sum to 2, and products of such matrices grow with every "
                "layer. Print the row sums of your result.",
            ),
            Mistake(
                "the last layer only",
                _rollout_last_layer,
                "What the last layer looks at are mixtures already. Rollout multiplies the "
                "matrices of all layers.",
            ),
            Mistake(
                "layers averaged instead of multiplied",
                _rollout_mean_of_layers,
                "A path through the network passes layer after layer, so the matrices are "
                "multiplied. A mean forgets their order.",
            ),
            Mistake(
                "the residual only at the end",
                _rollout_residual_at_the_end,
                "Every block has its own residual connection. Mix in the identity before each "
                "multiplication.",
            ),
            Mistake(
                "multiplied number by number",
                _rollout_elementwise,
                "Paths lead through all tokens in between, which is what a matrix product sums up. "
                "In Python it is written `@`.",
            ),
            Mistake(
                "heads kept apart",
                _rollout_each_head,
                "You rolled each head out by itself and took the mean at the end. A path may "
                "change heads between layers: take the mean over heads in each layer first.",
            ),
        ),
    ),
    Exercise(
        id="09.evaluate",
        title="Find the bug: an accuracy that depends on the batch size",
        reference=evaluate,
        start=faulty_evaluate,
        cases=_evaluate_cases,
        rtol=1e-5,
        mistakes=(
            Mistake(
                "still a mean of means",
                _evaluate_mean_of_means,
                "Dropout is off now, good. But the last batch is smaller than the others, and it "
                "counts as much as they do.",
            ),
            Mistake(
                "dropout is still on",
                _evaluate_with_dropout,
                "The images are counted right now. But the model is in training mode: call the "
                "function twice on the same images and compare.",
            ),
            Mistake(
                "the last batch is left out",
                _evaluate_without_last_batch,
                "Images that do not fill a batch are images too. Which of them does your loop "
                "never reach?",
            ),
            Mistake(
                "every batch taken as full",
                _evaluate_full_batches_assumed,
                "You divided by the number of batches times their size. That is more than the "
                "number of images when the last batch is not full.",
            ),
            Mistake(
                "a number instead of a share",
                _evaluate_count,
                "That is how many are right. Accuracy is their share among all images.",
            ),
        ),
        praise="The accuracy no longer depends on the batch size, and two calls agree.",
    ),
)
