"""From a picture to `pixel_values`: resize, crop, scale to [0, 1], normalise.

A model reads pixels the way it was trained on them. Other pixels raise no error, they only give
worse answers; so what arrives here is checked first, and an error says what is wrong with it.

Pictures are resized by Pillow, as the published models' were. `torch.nn.functional.interpolate`
comes close with `antialias=True`, some grey levels off at hard edges, and not at all without it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo_lessons.weights import pretrained_folder

Picture = Image.Image | np.ndarray | Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's 400 M training images
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class ImageProcessor:
    """Turns pictures of any size into the `pixel_values` of one model.

    Attributes:
        size: (height, width) to resize to, or one number: the length of the shorter edge, which
            keeps the proportions.
        crop: (height, width) to cut out of the middle afterwards; None keeps everything.
        resample: "nearest", "bilinear", "bicubic" or "lanczos".
        mean, std: per channel, of pixels from 0 to 1. Their number is the number of channels:
            3 for colour, 1 for grey.

    Raises:
        ValueError: an unknown filter, or a mean and std that do not fit together.
    """

    size: int | tuple[int, int]
    crop: tuple[int, int] | None = None
    resample: str = "bicubic"
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD

    def __post_init__(self) -> None:
        if self.resample not in RESAMPLING:
            raise ValueError(f"resample={self.resample!r}, expected one of {', '.join(RESAMPLING)}")
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise ValueError(
                f"mean has {len(self.mean)} values and std {len(self.std)}, expected 3 each for "
                "colour or 1 each for grey"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std={self.std} must be positive")

    @classmethod
    def clip(cls, size: int = 224) -> ImageProcessor:
        """As CLIP was published: shorter edge to `size`, then a square from the middle."""
        return cls(size, crop=(size, size))

    @classmethod
    def vit(cls, size: int = 224) -> ImageProcessor:
        """As ViT was published: squeezed to a square, pixels from -1 to 1."""
        return cls((size, size), resample="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)

    @classmethod
    def blip(cls, size: int = 384) -> ImageProcessor:
        """As BLIP was published: squeezed to a square, CLIP's mean and standard deviation."""
        return cls((size, size))

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> ImageProcessor:
        """Read `preprocessor_config.json` beside a model's weights.

        Args:
            name_or_path: a folder, or the id of a model on the hub, as `load_pretrained` takes it.

        Raises:
            FileNotFoundError: there is no such folder or file, or no network.
            ValueError: steps that this class does not have.
        """
        file = pretrained_folder(name_or_path) / "preprocessor_config.json"
        if not file.is_file():
            raise FileNotFoundError(f"{file.parent} has no preprocessor_config.json")
        return cls.from_hf(json.loads(file.read_text(encoding="utf-8")))

    @classmethod
    def from_hf(cls, config: dict[str, Any]) -> ImageProcessor:
        """Read the settings of a `transformers` image processor, `processor.to_dict()`.

        Raises:
            ValueError: steps that this class does not have.
        """
        for step in ("do_resize", "do_rescale", "do_normalize"):
            if not config.get(step, True):
                raise ValueError(f"unsupported image processor: {step}=False, expected True")
        if config.get("do_pad"):
            raise ValueError("unsupported image processor: do_pad=True, expected False")
        factor = config.get("rescale_factor", 1 / 255)
        if abs(factor - 1 / 255) > 1e-9:
            raise ValueError(
                f"unsupported image processor: rescale_factor={factor}, expected 1/255"
            )
        crops = bool(config.get("do_center_crop"))
        codes = {int(code): name for name, code in RESAMPLING.items()}
        if config.get("resample", 3) not in codes:
            raise ValueError(f"unsupported image processor: resample={config['resample']}")
        return cls(
            # A lone number means the shorter edge to processors that crop, a square to the others.
            _size_from_hf(config["size"], square=not crops),
            crop=_size_from_hf(config["crop_size"], square=True) if crops else None,
            resample=codes[config.get("resample", 3)],
            mean=tuple(config["image_mean"]),
            std=tuple(config["image_std"]),
        )

    def __call__(self, images: Picture | Sequence[Picture]) -> Tensor:
        """Prepare one picture or several, which may differ in size.

        A picture is one of:
        - a `PIL.Image`, which is turned into colour (or grey) first;
        - an array (height, width, channels), as NumPy and Matplotlib hold pictures;
        - a tensor (channels, height, width), as PyTorch does.
        Arrays and tensors hold uint8 from 0 to 255, or floats from 0 to 1. Four axes, or a list,
        are several pictures.

        Returns:
            float32 (pictures, channels, height, width), normalised. Whole numbers give what the
            processors of `transformers` give that use Pillow, to the last bits. Floats are not
            rounded to 256 grey levels on the way, as they would be there.

        Raises:
            TypeError: something else, or numbers of another type.
            ValueError: another number of axes or channels, channels on the wrong side, or values
                out of range: 0 to 255 as floats, 0 to 1 as uint8, normalised already, or NaN.
        """
        if isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
            images = list(images)
        elif not isinstance(images, Sequence):
            images = [images]
        if not images:
            raise ValueError("images is empty, expected at least one picture")
        prepared = [self._prepare(picture) for picture in images]
        shapes = {tuple(each.shape) for each in prepared}
        if len(shapes) > 1:
            raise ValueError(
                f"the pictures become {sorted(shapes)}, which cannot be stacked: set `crop`, or "
                "give `size` as (height, width)"
            )
        return torch.stack(prepared)

    def undo(self, pixel_values: Tensor) -> np.ndarray:
        """Back to pictures that can be shown: uint8 (pictures, height, width, channels)."""
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        x = pixel_values.detach().float().cpu().movedim(1, -1) * std + mean
        return (255 * x).round().clamp(0, 255).to(torch.uint8).numpy()

    def _prepare(self, picture: Picture) -> Tensor:
        pixels = self._resized(self._checked(picture))  # (height, width, channels)
        if self.crop is not None:
            pixels = _centre(pixels, *self.crop)
        if pixels.dtype == np.uint8:
            pixels = (pixels * (1 / 255)).astype(np.float32)  # rounded where the reference rounds
        mean, std = np.float32(self.mean), np.float32(self.std)
        return torch.from_numpy((pixels - mean) / std).movedim(-1, 0).contiguous()

    def _checked(self, picture: Picture) -> np.ndarray:
        """uint8 from 0 to 255 or float32 from 0 to 1, (height, width, channels)."""
        channels = len(self.mean)
        if isinstance(picture, Image.Image):
            pixels = np.asarray(picture.convert("RGB" if channels == 3 else "L"))
            return pixels if channels == 3 else pixels[:, :, None]
        if not isinstance(picture, np.ndarray | Tensor):
            raise TypeError(
                f"a picture is a {type(picture).__name__}, expected a PIL image, a NumPy array or "
                "a tensor"
            )
        first = isinstance(picture, Tensor)
        _require_layout(tuple(picture.shape), channels, channels_first=first)
        pixels = picture.detach().cpu().numpy() if first else picture
        _require_values(pixels)
        pixels = np.moveaxis(pixels, 0, -1) if first else pixels
        return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)

    def _resized(self, pixels: np.ndarray) -> np.ndarray:
        height, width = self._target(*pixels.shape[:2])
        if (height, width) == pixels.shape[:2]:
            return pixels
        method = RESAMPLING[self.resample]
        if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
            return np.asarray(Image.fromarray(pixels).resize((width, height), method))
        planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))  # Pillow takes them one by one
        if pixels.dtype == np.uint8:
            resized = [Image.fromarray(plane).resize((width, height), method) for plane in planes]
            return np.stack([np.asarray(plane) for plane in resized], axis=-1)
        # Bicubic overshoots at edges. With whole numbers Pillow clips after either pass, along the
        # rows and along the columns; with floats it does not.
        for size in ((width, pixels.shape[0]), (width, height)):
            resized = [Image.fromarray(plane).resize(size, method) for plane in planes]
            planes = np.stack([np.asarray(plane) for plane in resized]).clip(0.0, 1.0)
        return np.moveaxis(planes, 0, -1)

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if not isinstance(self.size, int):
            return self.size
        long = int(self.size * max(height, width) / min(height, width))
        return (self.size, long) if height <= width else (long, self.size)


def _size_from_hf(size: int | dict[str, int], square: bool) -> int | tuple[int, int]:
    if isinstance(size, int):
        return (size, size) if square else size
    edges = {name: value for name, value in size.items() if value is not None}
    if set(edges) == {"height", "width"}:
        return edges["height"], edges["width"]
    if set(edges) == {"shortest_edge"} and not square:
        return edges["shortest_edge"]
    raise ValueError(
        f"unsupported image processor: size {edges}, expected height and width, or shortest_edge "
        "with a crop"
    )


def _centre(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle (height, width); a picture that is too small gets a black border."""
    missing = [
        max(0, want - have) for want, have in zip((height, width), pixels.shape, strict=False)
    ]
    border = [((gap + 1) // 2, gap // 2) for gap in missing]
    pixels = np.pad(pixels, [*border, (0, 0)])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def _require_layout(shape: tuple[int, ...], channels: int, *, channels_first: bool) -> None:
    kind = "tensor" if channels_first else "array"
    wanted = f"({channels}, height, width)" if channels_first else f"(height, width, {channels})"
    if len(shape) != 3:
        raise ValueError(f"a picture is a {kind} of shape {shape}, expected {wanted}")
    here, there = (0, -1) if channels_first else (-1, 0)
    if shape[here] == channels:
        return
    if shape[there] == channels:
        move = "x.movedim(-1, 0)" if channels_first else "np.moveaxis(x, 0, -1)"
        side = "last" if channels_first else "first"
        raise ValueError(
            f"a picture is a {kind} of shape {shape}, expected {wanted}: its channels come {side}, "
            f"use {move}"
        )
    raise ValueError(
        f"a picture is a {kind} of shape {shape} with {shape[here]} channels, expected {wanted}"
    )


def _require_values(pixels: np.ndarray) -> None:
    if pixels.size == 0:
        raise ValueError(f"a picture of shape {pixels.shape} has no pixels")
    low, high = pixels.min(), pixels.max()
    if pixels.dtype == np.uint8:
        if high == 1:
            raise ValueError(
                "a uint8 picture holds only 0 and 1, expected 0 to 255: pixels from 0 to 1 lose "
                "their fractions as uint8, keep them as floats"
            )
        return
    if not np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(
            f"a picture holds {pixels.dtype}, expected uint8 from 0 to 255 or floats from 0 to 1"
        )
    if np.isnan(pixels).any():
        raise ValueError("a picture holds NaN")
    if low < 0:
        raise ValueError(
            f"a float picture holds values from {low:.3g} to {high:.3g}, expected 0 to 1: it looks "
            "normalised already, pass it to the model as it is"
        )
    if high > 1:
        reason = "divide it by 255, or make it uint8" if high > 2 else "clip it"
        raise ValueError(
            f"a float picture holds values from {low:.3g} to {high:.3g}, expected 0 to 1: {reason}"
        )
