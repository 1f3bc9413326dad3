from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from zoo_lessons.datasets.shapes import (
    COLORS,
    DIFFICULTIES,
    PALETTE,
    PLACES,
    SHAPES,
    Scene,
    ShapeObject,
    pixel_values,
    render,
    sample_scene,
    to_images,
)

LEVELS = tuple(DIFFICULTIES)


def alone(shape: str = "circle", color: str = "red", size: str = "large", place: str = "centre"):
    return Scene((ShapeObject(shape, color, size, place),))


def covered(image: np.ndarray, color: str) -> np.ndarray:
    """Pixels nearer to this colour than to any other colour of the palette or the background."""
    names = [*COLORS, "background"]
    targets = np.array([PALETTE.get(name, (242, 242, 242)) for name in names], dtype=float)
    distance = ((image[:, :, None, :].astype(float) - targets) ** 2).sum(-1)
    return distance.argmin(-1) == names.index(color)


@pytest.mark.parametrize("difficulty", LEVELS)
@pytest.mark.parametrize("size", [24, 48, 64])
def test_shape_and_type(difficulty: str, size: int) -> None:
    image = render(alone(), size, difficulty)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8


def test_same_arguments_same_bytes_whatever_the_global_state() -> None:
    scene = alone("star", "blue")
    np.random.seed(0)
    first = render(scene, difficulty="hard", seed=(1, 2))
    np.random.seed(1)
    assert np.array_equal(first, render(scene, difficulty="hard", seed=(1, 2)))
    assert not np.array_equal(first, render(scene, difficulty="hard", seed=(1, 3)))


def test_bytes_are_those_of_every_other_machine() -> None:
    rng = np.random.default_rng(0)
    digest = hashlib.sha256()
    for index in range(30):
        scene = sample_scene(rng)
        digest.update(render(scene, 48, LEVELS[index % 3], index).tobytes())
    assert digest.hexdigest() == (
        "731fc15862bc2af8eb04a270099b5d9b80237fd97690dd1d8ab23f4a0eba8b72"
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("color", COLORS)
def test_an_easy_drawing_has_the_palette_colour_in_the_right_place(shape: str, color: str) -> None:
    for place in PLACES:
        mask = covered(render(alone(shape, color, "large", place), 48, "easy"), color)
        rows, columns = np.nonzero(mask)
        assert len(rows) > 40
        third = PLACES.index(place)
        assert int(rows.mean() // 16) == third // 3
        assert int(columns.mean() // 16) == third % 3


@pytest.mark.parametrize("difficulty", LEVELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_large_shape_covers_more_than_any_small_one(difficulty: str, shape: str) -> None:
    how = DIFFICULTIES[difficulty]
    plain = render(alone(shape, "black", "small"), 96, "easy")
    large = render(alone(shape, "black", "large"), 96, "easy")
    ratio = covered(large, "black").sum() / covered(plain, "black").sum()
    assert ratio > 1.2 * ((1 + how.resize) / (1 - how.resize)) ** 2


@pytest.mark.parametrize("difficulty", LEVELS)
def test_captions_stay_true_under_jitter(difficulty: str) -> None:
    """Where an object lands, found by drawing the scene with and without it."""
    rng = np.random.default_rng(2)
    for index in range(60):
        scene = sample_scene(rng)
        centres = [object_centre(scene, i, difficulty, index) for i in range(len(scene.objects))]
        for thing, (x, y) in zip(scene.objects, centres, strict=True):
            if len(scene.objects) == 1:
                cell = PLACES.index(thing.place)
                assert (int(y * 3), int(x * 3)) == (cell // 3, cell % 3)
        for (x0, y0), (x1, y1) in zip(centres, centres[1:], strict=False):
            dx, dy = x1 - x0, y1 - y0
            along, across = (dx, dy) if scene.relation == "left to right" else (dy, dx)
            assert along > 0.2 and along > abs(across)


def object_centre(scene: Scene, index: int, difficulty: str, seed: int) -> tuple[float, float]:
    """Centre of the pixels that change when the object changes its colour, in [0, 1]."""
    thing = scene.objects[index]
    colors = [color for color in COLORS if all(color != t.color for t in scene.objects)]
    objects = list(scene.objects)
    objects[index] = ShapeObject(thing.shape, colors[0], thing.size, thing.place)
    before = render(scene, 48, difficulty, seed).astype(int)
    after = render(Scene(tuple(objects)), 48, difficulty, seed).astype(int)
    rows, columns = np.nonzero(np.abs(before - after).sum(-1) > 30)
    return (columns.min() + columns.max() + 1) / 96, (rows.min() + rows.max() + 1) / 96


@pytest.mark.parametrize("difficulty", ["easy", "medium"])
def test_objects_do_not_hide_each_other(difficulty: str) -> None:
    rng = np.random.default_rng(4)
    for seed in range(40):
        scene = sample_scene(rng, num_objects=(3,))
        alone_areas = []
        for index in range(3):
            alone_areas.append(changed_by(scene, index, difficulty, seed))
        overlap = np.sum(alone_areas, axis=0) > 1
        assert overlap.sum() <= 8  # outlines may touch


def changed_by(scene: Scene, index: int, difficulty: str, seed: int) -> np.ndarray:
    thing = scene.objects[index]
    color = next(c for c in COLORS if all(c != t.color for t in scene.objects))
    objects = list(scene.objects)
    objects[index] = ShapeObject(thing.shape, color, thing.size, thing.place)
    before = render(scene, 48, difficulty, seed).astype(int)
    after = render(Scene(tuple(objects)), 48, difficulty, seed).astype(int)
    return np.abs(before - after).sum(-1) > 3


def test_shapes_differ_from_each_other() -> None:
    masks = {}
    for shape in SHAPES:
        image = render(alone(shape, "black", "large"), 48, "easy", 3)
        masks[shape] = covered(image, "black")
    for one in SHAPES:
        for other in SHAPES:
            if one != other:
                union = (masks[one] | masks[other]).sum()
                assert (masks[one] & masks[other]).sum() / union < 0.85, (one, other)


def test_edges_are_anti_aliased() -> None:
    image = render(alone("circle", "black"), 48, "easy")
    values = set(np.unique(image[:, :, 0])) - {PALETTE["black"][0], 242}
    assert len(values) > 8


def test_difficulty_adds_noise_and_takes_contrast() -> None:
    corner = {d: render(alone(), 48, d)[:14, :14].astype(float) for d in LEVELS}
    spread = [corner[d].std() for d in LEVELS]
    assert spread[0] == 0 < spread[1] < spread[2]


# Machado, Oliveira and Fernandes (2009), severity 1.0, applied to linear RGB.
COLOR_VISION = {
    "full": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.mark.parametrize("vision", COLOR_VISION)
def test_colours_stay_apart_for_colour_blind_readers(vision: str) -> None:
    """CIE 1976 colour difference; about 2 is just noticeable, 20 is plain."""
    rgb = np.array([*PALETTE.values(), (242, 242, 242)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(COLOR_VISION[vision]).T, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = seen @ np.array(to_xyz).T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f.T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert distance[np.triu_indices(len(lab), 1)].min() > (40 if vision == "full" else 25)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="difficulty='brutal' must be one of 'easy', 'medium'"):
        render(alone(), 48, "brutal")
    with pytest.raises(ValueError, match="size=16 must be at least 24"):
        render(alone(), 16)


def test_pixel_values_scale_normalise_and_invert() -> None:
    images = np.stack([render(alone(), 32, "hard", seed) for seed in range(3)])
    plain = pixel_values(images, normalize=False)
    assert plain.shape == (3, 3, 32, 32) and plain.dtype == torch.float32
    assert plain[1, 2, 5, 7].item() == pytest.approx(images[1, 5, 7, 2] / 255)
    torch.testing.assert_close(pixel_values(images), plain * 2 - 1)
    assert np.array_equal(to_images(pixel_values(images)), images)
    assert np.array_equal(to_images(plain, normalized=False), images)
    assert pixel_values(images[0]).shape == (3, 32, 32)


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 3)), np.zeros((3, 4, 4), np.uint8)])
def test_pixel_values_refuses_other_arrays(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"images must be uint8 \(H, W, 3\)"):
        pixel_values(bad)
