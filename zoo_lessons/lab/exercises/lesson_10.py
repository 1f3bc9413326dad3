"""Exercises of lesson 10: soft split, windows with mask and shift, merging, MobileViT's unfold."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case
from zoo_lessons.models.swin import window_reverse


def _random(seed: int):
    """A function that makes random tensors of a shape, the same ones for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator)


# --- soft split ----------------------------------------------------------------------------------


def soft_split(grid: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    x = F.pad(grid, (padding, padding, padding, padding))
    x = x.unfold(2, kernel, stride).unfold(3, kernel, stride)
    # (batch, channels, places down, places across, kernel, kernel)
    return x.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def _squares(grid: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """(batch, channels, places down, places across, kernel, kernel)."""
    x = F.pad(grid, (padding, padding, padding, padding))
    return x.unfold(2, kernel, stride).unfold(3, kernel, stride)


def _split_no_padding(grid, kernel, stride, padding):
    return soft_split(grid, kernel, stride, 0)


def _split_hard(grid, kernel, stride, padding):
    return soft_split(grid, kernel, kernel, padding)


def _split_every_place(grid, kernel, stride, padding):
    return soft_split(grid, kernel, 1, padding)


def _split_padding_on_one_side(grid, kernel, stride, padding):
    return soft_split(F.pad(grid, (0, 2 * padding, 0, 2 * padding)), kernel, stride, 0)


def _split_channels_last(grid, kernel, stride, padding):
    x = _squares(grid, kernel, stride, padding)
    return x.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)


def _split_column_by_column(grid, kernel, stride, padding):
    x = _squares(grid, kernel, stride, padding)
    return x.permute(0, 3, 2, 1, 4, 5).flatten(3).flatten(1, 2)


def _split_transposed_inside(grid, kernel, stride, padding):
    x = _squares(grid, kernel, stride, padding)
    return x.permute(0, 2, 3, 1, 5, 4).flatten(3).flatten(1, 2)


def _split_tokens_last(grid, kernel, stride, padding):
    return F.unfold(grid, kernel, stride=stride, padding=padding)


def _split_not_permuted(grid, kernel, stride, padding):
    x = _squares(grid, kernel, stride, padding)
    return x.reshape(len(x), x.shape[2] * x.shape[3], -1)


def _split_cases() -> tuple[Case, ...]:
    random = _random(0)
    return (
        Case((random(2, 3, 8, 12), 3, 2, 1), label="3×3 step 2, an image wider than high"),
        Case((random(1, 2, 20, 16), 7, 4, 2), label="7×7 step 4, an image higher than wide"),
        Case((random(3, 1, 7, 5), 3, 2, 1), label="odd sides, one channel"),
        Case((random(2, 4, 6, 9), 3, 3, 0), label="a hard cut: step = size, no padding"),
        Case((random(2, 2, 9, 6).transpose(2, 3), 4, 1, 2), label="a grid that is not contiguous"),
    )


# --- windows -------------------------------------------------------------------------------------


def window_partition(x: Tensor, window_size: int) -> Tensor:
    batch, rows, columns, d_model = x.shape
    down, across = rows // window_size, columns // window_size
    x = x.reshape(batch, down, window_size, across, window_size, d_model)
    x = x.permute(0, 1, 3, 2, 4, 5)  # (batch, down, across, window_size, window_size, d_model)
    return x.reshape(batch * down * across, window_size**2, d_model)


def _six_axes(x: Tensor, window_size: int) -> Tensor:
    """(batch, down, window_size, across, window_size, d_model)."""
    return x.unflatten(1, (-1, window_size)).unflatten(3, (-1, window_size))


def _windows_plain_reshape(x, window_size):
    return x.reshape(-1, window_size**2, x.shape[-1])


def _windows_column_by_column(x, window_size):
    x = _six_axes(x, window_size).permute(0, 3, 1, 2, 4, 5)
    return x.flatten(3, 4).flatten(0, 2)


def _windows_transposed_inside(x, window_size):
    x = _six_axes(x, window_size).permute(0, 1, 3, 4, 2, 5)
    return x.flatten(3, 4).flatten(0, 2)


def _windows_batch_last(x, window_size):
    x = _six_axes(x, window_size).permute(1, 3, 0, 2, 4, 5)
    return x.flatten(3, 4).flatten(0, 2)


def _windows_scattered(x, window_size):
    """The sides are split as (window_size, count) instead of (count, window_size)."""
    x = x.unflatten(1, (window_size, -1)).unflatten(3, (window_size, -1))
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3, 4).flatten(0, 2)


def _windows_batch_kept(x, window_size):
    windows = window_partition(x, window_size)
    return windows.unflatten(0, (len(x), -1))


def _windows_of_size_squared_flat(x, window_size):
    return window_partition(x, window_size).flatten(1)


def _window_cases() -> tuple[Case, ...]:
    random = _random(1)
    return (
        Case((random(2, 6, 4, 5), 2), label="2 grids of 6×4 tokens in windows of 2×2"),
        Case((random(3, 3, 9, 2), 3), label="three windows side by side"),
        Case((random(1, 12, 8, 3), 4), label="one grid, windows of 4×4"),
        Case((random(2, 4, 4, 4), 4), label="one window is the whole grid"),
        Case((random(2, 6, 9, 2).transpose(1, 2), 3), label="a grid that is not contiguous"),
    )


# --- the mask of shifted windows -----------------------------------------------------------------


def shifted_window_mask(rows: int, columns: int, window_size: int, shift: int) -> Tensor:
    wrapped_row = torch.arange(rows) >= rows - shift
    wrapped_column = torch.arange(columns) >= columns - shift
    region = 2 * wrapped_row.long()[:, None] + wrapped_column.long()  # (rows, columns), 0 to 3
    region = window_partition(region[None, :, :, None], window_size).squeeze(-1)
    return region[:, :, None] == region[:, None, :]


def _mask_of(region: Tensor, window_size: int) -> Tensor:
    """region (rows, columns) -> True where two tokens of a window are in the same region."""
    region = window_partition(region[None, :, :, None], window_size).squeeze(-1)
    return region[:, :, None] == region[:, None, :]


def _wrapped(length: int, shift: int) -> Tensor:
    return (torch.arange(length) >= length - shift).long()


def _mask_absent(rows, columns, window_size, shift):
    return torch.ones_like(shifted_window_mask(rows, columns, window_size, shift))


def _mask_inverted(rows, columns, window_size, shift):
    return ~shifted_window_mask(rows, columns, window_size, shift)


def _mask_other_direction(rows, columns, window_size, shift):
    """As if the roll had brought the bottom rows to the top."""
    row, column = ((torch.arange(side) < shift).long() for side in (rows, columns))
    return _mask_of(2 * row[:, None] + column, window_size)


def _mask_other_piece(rows, columns, window_size, shift):
    """The pieces of a cut window are swapped: window_size - shift instead of shift."""
    rest = window_size - shift
    region = 2 * _wrapped(rows, rest)[:, None] + _wrapped(columns, rest)
    return _mask_of(region, window_size)


def _mask_rows_only(rows, columns, window_size, shift):
    return _mask_of(_wrapped(rows, shift)[:, None].expand(rows, columns), window_size)


def _mask_regions_added(rows, columns, window_size, shift):
    return _mask_of(_wrapped(rows, shift)[:, None] + _wrapped(columns, shift), window_size)


def _mask_rolled_again(rows, columns, window_size, shift):
    """The regions are rolled although they already describe the rolled grid."""
    region = 2 * _wrapped(rows, shift)[:, None] + _wrapped(columns, shift)
    return _mask_of(region.roll((-shift, -shift), dims=(0, 1)), window_size)


def _mask_wrapped_hidden(rows, columns, window_size, shift):
    """Whoever was wrapped is hidden from everyone, even from its own neighbours."""
    wrapped = (_wrapped(rows, shift)[:, None] + _wrapped(columns, shift)).clamp(max=1)
    keys = window_partition(wrapped[None, :, :, None], window_size).squeeze(-1)
    return (keys == 0)[:, None, :].expand(-1, window_size**2, -1)


def _mask_of_numbers(rows, columns, window_size, shift):
    allowed = shifted_window_mask(rows, columns, window_size, shift)
    return torch.where(allowed, 0.0, -math.inf)


# --- find the bug: attention in shifted windows --------------------------------------------------


def shifted_attention(x: Tensor, attend, window_size: int, shift: int) -> Tensor:
    batch, rows, columns, _ = x.shape
    windows = window_partition(x.roll((-shift, -shift), dims=(1, 2)), window_size)
    mask = shifted_window_mask(rows, columns, window_size, shift).repeat(batch, 1, 1)
    x = window_reverse(attend(windows, mask), window_size, rows, columns)
    return x.roll((shift, shift), dims=(1, 2))


def faulty_shifted_attention(x, attend, window_size, shift):
    return _attention_with(x, attend, window_size, shift, image_by_image=False, back=-1)


def _attention_with(
    x: Tensor,
    attend,
    window_size: int,
    shift: int,
    *,
    masked: bool = True,
    image_by_image: bool = True,
    forward: int = -1,
    back: int = 1,
) -> Tensor:
    """`shifted_attention`, with what a learner may change by mistake as options."""
    batch, rows, columns, _ = x.shape
    windows = window_partition(x.roll((forward * shift,) * 2, dims=(1, 2)), window_size)
    mask = shifted_window_mask(rows, columns, window_size, shift)
    mask = mask if masked else torch.ones_like(mask)
    mask = mask.repeat(batch, 1, 1) if image_by_image else mask.repeat_interleave(batch, dim=0)
    x = window_reverse(attend(windows, mask), window_size, rows, columns)
    return x.roll((back * shift,) * 2, dims=(1, 2))


def _attention_but(**changed):
    return lambda x, attend, window_size, shift: _attention_with(
        x, attend, window_size, shift, **changed
    )


def _attention_rows_back_only(x, attend, window_size, shift):
    return _attention_with(x, attend, window_size, shift, back=0).roll(shift, dims=1)


def _attend(windows: Tensor, mask: Tensor) -> Tensor:
    """One head without weights: (windows, n, d_model), mask (windows, n, n) -> (windows, n, d)."""
    scores = windows @ windows.transpose(1, 2) / windows.shape[-1] ** 0.5
    return scores.masked_fill(~mask, -math.inf).softmax(dim=-1) @ windows


def _count_seen(windows: Tensor, mask: Tensor) -> Tensor:
    """Each token's own numbers times how many tokens it may attend to."""
    return windows * mask.sum(dim=-1, keepdim=True)


def _attention_cases() -> tuple[Case, ...]:
    random = _random(3)
    return (
        Case((random(2, 6, 8, 3), _attend, 2, 1), label="2 grids of 6×8 tokens, windows of 2"),
        Case((random(3, 9, 6, 4), _attend, 3, 1), label="3 grids of 9×6, windows of 3, shift 1"),
        Case((random(1, 8, 12, 2), _attend, 4, 2), label="one grid alone"),
        Case((random(2, 5, 10, 2), _count_seen, 5, 2), label="two windows, shift 2 of 5"),
    )


# --- patch merging -------------------------------------------------------------------------------


def patch_merging(x: Tensor, norm: nn.Module, reduction: nn.Module) -> Tensor:
    x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
    corners = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
    return reduction(norm(torch.cat(corners, dim=-1)))


def _even(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))


def _merging_row_by_row(x, norm, reduction):
    x = _even(x)
    corners = [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    return reduction(norm(torch.cat(corners, dim=-1)))


def _merging_no_norm(x, norm, reduction):
    return patch_merging(x, nn.Identity(), reduction)


def _merging_reshape(x, norm, reduction):
    batch, rows, columns, d_model = _even(x).shape
    return reduction(norm(_even(x).reshape(batch, rows // 2, columns // 2, 4 * d_model)))


def _merging_quarters(x, norm, reduction):
    x = _even(x)
    quarters = [part for half in x.chunk(2, dim=2) for part in half.chunk(2, dim=1)]
    return reduction(norm(torch.cat(quarters, dim=-1)))


def _merging_drops_odd(x, norm, reduction):
    return patch_merging(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2], norm, reduction)


def _merging_pads_in_front(x, norm, reduction):
    x = F.pad(x, (0, 0, x.shape[2] % 2, 0, x.shape[1] % 2, 0))
    return patch_merging(x, norm, reduction)


def _merging_mixed_inside(x, norm, reduction):
    """The four tokens' numbers are interleaved instead of one token after the other."""
    x = _even(x)
    corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
    return reduction(norm(torch.stack(corners, dim=-1).flatten(-2)))


def _merging_cases() -> tuple[Case, ...]:
    random = _random(4)

    def case(label: str, batch: int, rows: int, columns: int, d_model: int) -> Case:
        norm, reduction = nn.LayerNorm(4 * d_model), nn.Linear(4 * d_model, 2 * d_model, bias=False)
        with torch.no_grad():
            norm.weight.copy_(1 + 0.3 * random(4 * d_model))
            norm.bias.copy_(0.3 * random(4 * d_model))
            reduction.weight.copy_(random(2 * d_model, 4 * d_model))
        return Case((3 * random(batch, rows, columns, d_model), norm, reduction), label=label)

    return (
        case("2 grids of 4×6 tokens", 2, 4, 6, 3),
        case("odd rows", 1, 5, 4, 2),
        case("odd columns", 3, 2, 7, 4),
        case("both odd", 2, 3, 5, 2),
    )


# --- MobileViT's unfold --------------------------------------------------------------------------


def unfold(x: Tensor, patch_size: int) -> Tensor:
    batch, channels, height, width = x.shape
    rows, columns = height // patch_size, width // patch_size
    x = x.reshape(batch, channels, rows, patch_size, columns, patch_size)
    x = x.permute(0, 3, 5, 2, 4, 1)  # (batch, patch_size, patch_size, rows, columns, channels)
    return x.reshape(batch * patch_size**2, rows * columns, channels)


def _split_sides(x: Tensor, patch_size: int) -> Tensor:
    """(batch, channels, rows, patch_size, columns, patch_size)."""
    return x.unflatten(2, (-1, patch_size)).unflatten(4, (-1, patch_size))


def _unfold_inside_patches(x, patch_size):
    x = _split_sides(x, patch_size).permute(0, 2, 4, 3, 5, 1)
    return x.flatten(3, 4).flatten(0, 2)


def _unfold_whole_patches(x, patch_size):
    x = _split_sides(x, patch_size).permute(0, 2, 4, 1, 3, 5)
    return x.flatten(3).flatten(1, 2)


def _unfold_places_transposed(x, patch_size):
    x = _split_sides(x, patch_size).permute(0, 5, 3, 2, 4, 1)
    return x.flatten(3, 4).flatten(0, 2)


def _unfold_column_by_column(x, patch_size):
    x = _split_sides(x, patch_size).permute(0, 3, 5, 4, 2, 1)
    return x.flatten(3, 4).flatten(0, 2)


def _unfold_places_before_batch(x, patch_size):
    x = _split_sides(x, patch_size).permute(3, 5, 0, 2, 4, 1)
    return x.flatten(3, 4).flatten(0, 2)


def _unfold_size_before_rows(x, patch_size):
    x = x.unflatten(2, (patch_size, -1)).unflatten(4, (patch_size, -1))
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(0, 2)


def _unfold_plain_reshape(x, patch_size):
    patches = x.shape[2] // patch_size * (x.shape[3] // patch_size)
    return x.reshape(-1, patches, x.shape[1])


def _unfold_cases() -> tuple[Case, ...]:
    random = _random(5)
    return (
        Case((random(2, 3, 4, 6), 2), label="2 grids of 4×6 pixels in patches of 2"),
        Case((random(1, 2, 9, 6), 3), label="patches of 3, a grid higher than wide"),
        Case((random(3, 5, 2, 8), 2), label="a single row of patches"),
        Case((random(2, 4, 8, 4).transpose(2, 3), 2), label="a grid that is not contiguous"),
    )


EXERCISES = (
    Exercise(
        id="10.soft_split",
        title="Soft split",
        reference=soft_split,
        cases=_split_cases,
        mistakes=(
            Mistake(
                "no padding",
                _split_no_padding,
                "Your first square begins at the first pixel. It should begin `padding` pixels "
                "outside, on all four sides. Count your tokens: the formula gives more.",
            ),
            Mistake(
                "a hard cut",
                _split_hard,
                "Your squares do not overlap: the step is `stride`, not the size of the square.",
            ),
            Mistake(
                "a step of one",
                _split_every_place,
                "Your square moves by one pixel. `Tensor.unfold(dimension, size, step)` takes the "
                "step as its third argument.",
            ),
            Mistake(
                "padding on one side",
                _split_padding_on_one_side,
                "The number of tokens is right, but all zeros lie at the bottom and at the right. "
                "Half of them belong at the top and at the left.",
            ),
            Mistake(
                "channels last inside a token",
                _split_channels_last,
                "Each token holds the right numbers in another order. Here all numbers of the "
                "first channel come first, as in a convolution's weights.",
            ),
            Mistake(
                "tokens column by column",
                _split_column_by_column,
                "Token 1 should lie to the right of token 0, as words on a page. Yours lies below.",
            ),
            Mistake(
                "rows and columns of a square swapped",
                _split_transposed_inside,
                "The squares stand in the right places, but each is mirrored along its diagonal. "
                "Look at the last two axes before you flatten them.",
            ),
            Mistake(
                "tokens along the last axis",
                _split_tokens_last,
                "The values are right, but each token is a column. The result is (batch, tokens, "
                "numbers): one row per token.",
            ),
            Mistake(
                "flattened without reordering",
                _split_not_permuted,
                "After both `unfold`s the channels stand before the places. A reshape does not "
                "move them: bring the places to the front first.",
            ),
        ),
    ),
    Exercise(
        id="10.window_partition",
        title="Cut a grid into windows",
        reference=window_partition,
        cases=_window_cases,
        mistakes=(
            Mistake(
                "a plain reshape",
                _windows_plain_reshape,
                "A reshape alone takes tokens that follow each other in memory, and those stand in "
                "one row. Two axes must change places first.",
            ),
            Mistake(
                "windows column by column",
                _windows_column_by_column,
                "Window 1 should lie to the right of window 0. Yours lies below it.",
            ),
            Mistake(
                "tokens of a window transposed",
                _windows_transposed_inside,
                "The windows are right, but inside each the tokens go down before they go right. "
                "The position bias would be read at the wrong places.",
            ),
            Mistake(
                "windows before images",
                _windows_batch_last,
                "All windows of the first image come first, then those of the second. Yours give "
                "window 0 of every image first: with a batch of one you would not see it.",
            ),
            Mistake(
                "windows of scattered tokens",
                _windows_scattered,
                "A side is split into (number of windows, window_size): neighbours belong to one "
                "window, so window_size is the second, faster axis. Yours gather every k-th token.",
            ),
            Mistake(
                "an axis for the images",
                _windows_batch_kept,
                "Right values, one axis too many. Attention takes windows as if they were "
                "sentences of a batch: the first axis is batch · windows.",
            ),
            Mistake(
                "a window as one vector",
                _windows_of_size_squared_flat,
                "You joined the tokens of a window into one vector. Keep them apart: (batch · "
                "windows, window_size², d_model).",
            ),
        ),
    ),
    Exercise(
        id="10.shifted_window_mask",
        title="The mask of shifted windows",
        reference=shifted_window_mask,
        cases=(
            Case((4, 4, 2, 1), label="4×4 tokens, windows of 2, shift 1"),
            Case((6, 9, 3, 1), label="6×9 tokens, windows of 3, shift 1"),
            Case((15, 5, 5, 2), label="one column of three windows of 5, shift 2"),
            Case((8, 12, 4, 2), label="8×12 tokens, windows of 4, shift 2"),
        ),
        mistakes=(
            Mistake(
                "everyone may see everyone",
                _mask_absent,
                "After the roll the last windows hold tokens from opposite edges of the image. "
                "Without a mask they attend to each other.",
            ),
            Mistake(
                "True and False swapped",
                _mask_inverted,
                "True means: may attend. In your mask a token may not even see itself. Look at the "
                "diagonal.",
            ),
            Mistake(
                "the roll goes the other way",
                _mask_other_direction,
                "`roll(-shift)` takes the first rows to the end. Your mask expects strangers in "
                "the first windows; print `torch.arange(6).roll(-1)`.",
            ),
            Mistake(
                "shift and rest of the window swapped",
                _mask_other_piece,
                "In the last window, the last `shift` rows have come from the other edge. You "
                "cut off window_size - shift. With shift = window_size / 2 both look alike.",
            ),
            Mistake(
                "rows only",
                _mask_rows_only,
                "The grid is rolled along both axes, so columns of opposite edges meet, too.",
            ),
            Mistake(
                "regions with equal numbers",
                _mask_regions_added,
                "The corner window has four regions. If you add the row's number and the column's, "
                "two of them get the same one, and strangers count as neighbours.",
            ),
            Mistake(
                "rolled twice",
                _mask_rolled_again,
                "You marked the regions on the rolled grid, and then rolled once more. Mark them "
                "where the tokens stand after the roll.",
            ),
            Mistake(
                "wrapped tokens hidden from everyone",
                _mask_wrapped_hidden,
                "The wrapped tokens are no padding. They may attend to each other: compare regions "
                "of query and key instead of hiding keys.",
            ),
            Mistake(
                "numbers instead of Booleans",
                _mask_of_numbers,
                "The regions are right. Return where attention is allowed, as a Boolean tensor; "
                "who uses the mask turns it into minus infinity.",
            ),
        ),
    ),
    Exercise(
        id="10.shifted_attention",
        title="Find the bug: an image that depends on its batch",
        reference=shifted_attention,
        start=faulty_shifted_attention,
        cases=_attention_cases,
        mistakes=(
            Mistake(
                "the roll is still not undone",
                _attention_but(back=-1),
                "Each image now gets its own masks, good. But let `attend` return its input: the "
                "result should be x, and it is shifted.",
            ),
            Mistake(
                "the masks still go to the wrong windows",
                _attention_but(image_by_image=False),
                "The grid is back in its place, good. Print the order of the windows for a batch "
                "of two, and beside it the order of your masks.",
            ),
            Mistake(
                "not rolled back at all",
                _attention_but(back=0),
                "Without the second roll every token stays where the first one took it. The next "
                "layer would add it to another token's residual.",
            ),
            Mistake(
                "only the rows are rolled back",
                _attention_rows_back_only,
                "The rows are back in place, the columns are not. Roll both axes.",
            ),
            Mistake(
                "the mask was taken out",
                _attention_but(masked=False),
                "Now no image depends on its batch, but tokens from opposite edges attend to each "
                "other. The masks were right; they stood in the wrong order.",
            ),
            Mistake(
                "both rolls turned round",
                _attention_but(forward=1, back=-1),
                "The rolls undo each other now. But the mask was made for a roll by -shift, and "
                "the strangers are at the other end.",
            ),
        ),
        praise="An image no longer depends on the others of its batch.",
    ),
    Exercise(
        id="10.patch_merging",
        title="Patch merging",
        reference=patch_merging,
        cases=_merging_cases,
        mistakes=(
            Mistake(
                "neighbours row by row",
                _merging_row_by_row,
                "The four tokens are right, their order is not: top left, bottom left, top "
                "right, bottom right. The trained weights expect the published order.",
            ),
            Mistake(
                "no LayerNorm",
                _merging_no_norm,
                "You did not use `norm`. It comes after the four are joined, before the map.",
            ),
            Mistake(
                "a plain reshape",
                _merging_reshape,
                "A reshape joins four tokens that follow each other in one row. Take every second "
                "row and every second column instead.",
            ),
            Mistake(
                "four quarters of the grid",
                _merging_quarters,
                "You joined tokens that lie half a grid apart. Neighbours are wanted: slices with "
                "step 2, such as x[:, 0::2].",
            ),
            Mistake(
                "the odd row or column is dropped",
                _merging_drops_odd,
                "A grid of 5 rows becomes 3 rows, not 2: add a row of zeros below when their "
                "number is odd.",
            ),
            Mistake(
                "zeros above and at the left",
                _merging_pads_in_front,
                "The zeros belong below and at the right. Yours move all tokens by one, and other "
                "neighbours are joined.",
            ),
            Mistake(
                "numbers of the four tokens interleaved",
                _merging_mixed_inside,
                "The vector should hold the whole first token, then the whole second one: "
                "concatenate, do not stack.",
            ),
        ),
    ),
    Exercise(
        id="10.mobilevit_unfold",
        title="MobileViT's sequences",
        reference=unfold,
        cases=_unfold_cases,
        mistakes=(
            Mistake(
                "attention inside the patches",
                _unfold_inside_patches,
                "Your sequences hold the pixels of one patch, as windows do. MobileViT does the "
                "opposite: a sequence holds one pixel of every patch.",
            ),
            Mistake(
                "a whole patch as a token",
                _unfold_whole_patches,
                "That is how ViT cuts. Here a pixel is a token of `channels` numbers, and each "
                "place inside the patch has its own sequence.",
            ),
            Mistake(
                "places in the patch transposed",
                _unfold_places_transposed,
                "Sequence 1 should belong to the second pixel in the first row of the patches. "
                "Yours belongs to the first pixel of the second row.",
            ),
            Mistake(
                "patches column by column",
                _unfold_column_by_column,
                "The second token of a sequence comes from the patch to the right of the first. "
                "Yours comes from the patch below.",
            ),
            Mistake(
                "places before images",
                _unfold_places_before_batch,
                "All patch_size² sequences of the first image come first. Yours mix the images; "
                "with a batch of one you would not see it.",
            ),
            Mistake(
                "the side split the wrong way round",
                _unfold_size_before_rows,
                "A side is split into (rows, patch_size). You split it into (patch_size, rows), so "
                "a sequence holds one block of neighbours instead of one pixel of every patch.",
            ),
            Mistake(
                "a plain reshape",
                _unfold_plain_reshape,
                "A reshape cannot take pixels that lie patch_size apart, and it tears the channels "
                "of a pixel apart. Split both sides, then put the axes in order.",
            ),
        ),
    ),
)
