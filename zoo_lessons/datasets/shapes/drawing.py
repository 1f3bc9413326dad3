"""Draw a scene with numpy alone, and turn images into what models take.

Drawing uses additions, multiplications and comparisons of float64 numbers and one seeded generator,
so a scene, a difficulty and a seed give the same bytes everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from zoo_lessons.datasets.shapes.scenes import (
    PLACES,
    Scene,
    ShapeObject,
    require_at_least,
    require_choice,
)

# Chosen to differ in lightness as well as in hue, so that readers who do not tell red from green,
# or blue from yellow, can still tell these eight apart.
PALETTE = {
    "red": (184, 12, 34),
    "orange": (226, 124, 6),
    "yellow": (255, 214, 5),
    "green": (48, 182, 104),
    "blue": (20, 92, 238),
    "purple": (126, 20, 150),
    "grey": (116, 116, 116),
    "black": (5, 5, 24),
}
RADIUS = {"small": 0.098, "large": 0.148}  # of the image's side
MIN_IMAGE_SIZE = 24
_SUPERSAMPLING = 4

Grid = np.ndarray


@dataclass(frozen=True)
class Difficulty:
    """How far a drawing may stray from the ideal. Lengths are fractions of the image's side."""

    jitter: float  # along the line of the objects, or both ways for one object
    drift: float  # across the line of the objects
    rotation: float  # degrees, either way
    resize: float  # relative change of the radius, either way
    background: tuple[float, float]  # range of the background's grey level, 0 to 255
    texture: float  # grey levels of smooth background variation, either way
    noise: float  # grey levels of pixel noise, either way
    contrast: tuple[float, float]  # 1 keeps the palette's colour, 0 hides it in the background
    specks: int  # how many small distractors


DIFFICULTIES = {
    "easy": Difficulty(0.01, 0.02, 0.0, 0.0, (242.0, 242.0), 0.0, 0.0, (1.0, 1.0), 0),
    "medium": Difficulty(0.04, 0.07, 15.0, 0.06, (222.0, 250.0), 6.0, 10.0, (0.85, 1.0), 0),
    "hard": Difficulty(0.06, 0.1, 32.0, 0.12, (196.0, 248.0), 18.0, 30.0, (0.72, 0.95), 10),
}


def render(
    scene: Scene, size: int = 48, difficulty: str = "medium", seed: int | tuple[int, ...] = 0
) -> np.ndarray:
    """Draw a scene, anti-aliased by averaging 4 x 4 samples a pixel.

    Args:
        scene: what to draw.
        size: the image's side in pixels, at least 24.
        difficulty: "easy" (plain), "medium" (jitter, rotation, mild noise) or "hard" (stronger
            jitter, textured background, noise, lower contrast and distractor specks). The caption
            stays true: "left" stays left, and a small shape stays smaller than any large one.
        seed: one non-negative integer, or several. Other seeds draw the same scene differently.

    Returns:
        uint8 array (size, size, 3), red, green, blue.

    Raises:
        ValueError: an unknown difficulty, or an image too small to tell the shapes apart.
    """
    require_choice("difficulty", difficulty, tuple(DIFFICULTIES))
    require_at_least("size", size, MIN_IMAGE_SIZE, " pixels")
    how = DIFFICULTIES[difficulty]
    rng = np.random.default_rng(seed)
    image = _background(how, size, rng)
    background = image.copy()
    for _ in range(how.specks):
        _draw_speck(image, rng)
    for thing in scene.objects:
        _draw_object(image, background, thing, scene, how, rng)
    if how.noise:
        image += (rng.random(image.shape) * 2 - 1) * how.noise
    return np.floor(np.clip(image, 0, 255) + 0.5).astype(np.uint8)


def pixel_values(images: np.ndarray, normalize: bool = True) -> torch.Tensor:
    """Turn uint8 images into a model's input.

    Args:
        images: uint8 (H, W, 3) or (N, H, W, 3).
        normalize: False gives values in [0, 1]; True gives (x - 0.5) / 0.5, in [-1, 1].

    Returns:
        float32 tensor (3, H, W) or (N, 3, H, W).

    Raises:
        ValueError: another dtype or shape.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[-1] != 3:
        raise ValueError(
            f"images must be uint8 (H, W, 3) or (N, H, W, 3), got {images.dtype} {images.shape}"
        )
    values = torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, -3))).float() / 255
    return (values - 0.5) / 0.5 if normalize else values


def to_images(values: torch.Tensor, normalized: bool = True) -> np.ndarray:
    """The inverse of `pixel_values`: (3, H, W) or (N, 3, H, W) to uint8 (..., H, W, 3)."""
    values = values.detach().float().cpu()
    values = values * 0.5 + 0.5 if normalized else values
    channels_last = np.moveaxis((values.clamp(0, 1) * 255).round().numpy(), -3, -1)
    return np.ascontiguousarray(channels_last).astype(np.uint8)


def _background(how: Difficulty, size: int, rng: np.random.Generator) -> np.ndarray:
    low, high = how.background
    level = low + (high - low) * rng.random()
    tint = (rng.random(3) * 2 - 1) * how.texture / 2
    knots = (rng.random((5, 5)) * 2 - 1) * how.texture
    image = np.empty((size, size, 3))
    image[:] = level + tint
    if how.texture:
        image += _smooth(knots, size)[..., None]
    return image


def _smooth(knots: np.ndarray, size: int) -> np.ndarray:
    """Stretch a small square grid to (size, size) by bilinear interpolation."""
    position = np.arange(size) * ((len(knots) - 1) / size)
    low = position.astype(int)
    share = position - low
    rows = knots[low] * (1 - share)[:, None] + knots[low + 1] * share[:, None]
    return rows[:, low] * (1 - share) + rows[:, low + 1] * share


def _draw_speck(image: np.ndarray, rng: np.random.Generator) -> None:
    """A dot about one pixel wide at any grey level: too small to be a shape."""
    x, y, level, strength = rng.random(4)
    radius = 0.012 + 0.01 * rng.random()
    cover = _coverage(_circle, x, y, radius, 0.0, len(image))
    _blend(image, cover * (0.4 + 0.5 * strength), np.full(3, 255 * level))


def _draw_object(
    image: np.ndarray,
    background: np.ndarray,
    thing: ShapeObject,
    scene: Scene,
    how: Difficulty,
    rng: np.random.Generator,
) -> None:
    shift_x, shift_y, turn, grow = rng.random(4) * 2 - 1
    low, high = how.contrast
    contrast = low + (high - low) * rng.random()
    jitter = how.jitter / 4 if len(scene.objects) == 3 else how.jitter  # three fill the line
    along_x = how.drift if scene.relation == "top to bottom" else jitter
    along_y = how.drift if scene.relation == "left to right" else jitter
    radius = RADIUS[thing.size] * (1 + how.resize * grow)
    x, y = _centre(thing.place)
    # Keep the whole shape inside the picture.
    margin = 1.15 * radius
    x = min(max(x + along_x * shift_x, margin), 1 - margin)
    y = min(max(y + along_y * shift_y, margin), 1 - margin)
    cover = _coverage(SHAPE_TESTS[thing.shape], x, y, radius, how.rotation * turn, len(image))
    color = contrast * np.array(PALETTE[thing.color], dtype=float) + (1 - contrast) * background
    _blend(image, cover, color)


def _centre(place: str) -> tuple[float, float]:
    """The ideal centre of a place, as fractions of the side from the top left corner."""
    column, row = PLACES.index(place) % 3, PLACES.index(place) // 3
    stops = (0.175, 0.5, 0.825)
    return stops[column], stops[row]


def _coverage(
    inside: Callable[[Grid, Grid], Grid],
    x: float,
    y: float,
    radius: float,
    degrees: float,
    size: int,
) -> np.ndarray:
    """The share of each pixel that a shape covers, (size, size) in [0, 1]."""
    cover = np.zeros((size, size))
    reach = 1.3 * radius
    left, right = max(int((x - reach) * size), 0), min(int((x + reach) * size) + 2, size)
    top, bottom = max(int((y - reach) * size), 0), min(int((y + reach) * size) + 2, size)
    steps = (np.arange(_SUPERSAMPLING) + 0.5) / _SUPERSAMPLING
    columns = ((np.arange(left, right)[:, None] + steps).ravel() / size - x) / radius
    rows = ((np.arange(top, bottom)[:, None] + steps).ravel() / size - y) / radius
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    u = cosine * columns[None, :] + sine * rows[:, None]
    v = cosine * rows[:, None] - sine * columns[None, :]
    samples = inside(u, v).reshape(bottom - top, _SUPERSAMPLING, right - left, _SUPERSAMPLING)
    cover[top:bottom, left:right] = samples.mean(axis=(1, 3))
    return cover


def _blend(image: np.ndarray, cover: np.ndarray, color: np.ndarray) -> None:
    image += cover[..., None] * (color - image)


def _circle(x: Grid, y: Grid) -> Grid:
    return x * x + y * y <= 0.92**2


def _square(x: Grid, y: Grid) -> Grid:
    return (np.abs(x) <= 0.82) & (np.abs(y) <= 0.82)


def _ring(x: Grid, y: Grid) -> Grid:
    distance = x * x + y * y
    return (distance <= 1.0) & (distance >= 0.52**2)


def _moon(x: Grid, y: Grid) -> Grid:
    bite = (x - 0.5) * (x - 0.5) + y * y
    return (x * x + y * y <= 1.0) & (bite >= 0.78**2)


def _cross(x: Grid, y: Grid) -> Grid:
    wide = (np.abs(x) <= 1.0) & (np.abs(y) <= 0.3)
    tall = (np.abs(x) <= 0.3) & (np.abs(y) <= 1.0)
    return wide | tall


def _heart(x: Grid, y: Grid) -> Grid:
    """The curve (x² + y² - 1)³ = x² y³ with y upwards, scaled into the unit square."""
    x, y = 1.16 * x, 0.12 - 1.16 * y
    lobe = x * x + y * y - 1
    return lobe * lobe * lobe <= x * x * y * y * y


def _polygon(corners: list[tuple[float, float]]) -> Callable[[Grid, Grid], Grid]:
    """Even-odd test: a point is inside when a ray to the right crosses the outline an odd time."""

    def inside(x: Grid, y: Grid) -> Grid:
        result = np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=bool)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            crosses = (y0 > y) != (y1 > y)
            if y0 != y1:
                result ^= crosses & (x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))
        return result

    return inside


def _corners(count: int, radii: tuple[float, ...], drop: float) -> list[tuple[float, float]]:
    """Corners at equal angles from the top, at alternating radii, moved down by `drop`."""
    angles = [2 * math.pi * i / count for i in range(count)]
    return [
        (radii[i % len(radii)] * math.sin(a), drop - radii[i % len(radii)] * math.cos(a))
        for i, a in enumerate(angles)
    ]


SHAPE_TESTS: dict[str, Callable[[Grid, Grid], Grid]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _polygon(_corners(3, (1.15,), 0.22)),
    "star": _polygon(_corners(10, (1.12, 0.46), 0.06)),
    "cross": _cross,
    "heart": _heart,
    "moon": _moon,
    "ring": _ring,
}
