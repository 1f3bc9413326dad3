"""What a scene is: one to three coloured shapes, each at a named place.

A scene is pure meaning. It holds no pixels and no jitter, so two scenes are equal exactly when
their canonical captions are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "grey", "black")
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "moon", "ring")
SIZES = ("small", "large")

ROW = ("left", "centre", "right")
COLUMN = ("top", "centre", "bottom")
PLACES = (
    *("top left", "top", "top right"),
    *("left", "centre", "right"),
    *("bottom left", "bottom", "bottom right"),
)
RELATIONS = ("alone", "left to right", "top to bottom")
MAX_OBJECTS = 3

# Every colour and every shape occurs in exactly one held-out pair, so a model that never saw
# "green star" has still seen each of the two words, and each of the two looks, many times.
HELD_OUT_PAIRS = frozenset(
    {
        ("red", "triangle"),
        ("orange", "heart"),
        ("yellow", "circle"),
        ("green", "star"),
        ("blue", "moon"),
        ("purple", "square"),
        ("grey", "cross"),
        ("black", "ring"),
    }
)


def require_choice(name: str, value: object, choices: tuple) -> None:
    """Raise a ValueError that lists the choices, unless `value` is one of them."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}")


def require_at_least(name: str, value: int, minimum: int, unit: str = "") -> None:
    """Raise a ValueError that says what came and what was expected, if `value` is too small."""
    if value < minimum:
        raise ValueError(f"{name}={value} must be at least {minimum}{unit}")


@dataclass(frozen=True)
class ShapeObject:
    """One coloured shape.

    Raises:
        ValueError: a colour, shape, size or place that the world does not have.
    """

    shape: str
    color: str
    size: str
    place: str

    def __post_init__(self) -> None:
        require_choice("shape", self.shape, SHAPES)
        require_choice("color", self.color, COLORS)
        require_choice("size", self.size, SIZES)
        require_choice("place", self.place, PLACES)

    @property
    def pair(self) -> tuple[str, str]:
        """(color, shape): what the composition split holds out."""
        return self.color, self.shape


@dataclass(frozen=True)
class Scene:
    """One to three objects: alone at one of nine places, or in a row, or in a column.

    Objects come in reading order, left to right or top to bottom. No two objects of a scene share
    both colour and shape, so that "the red circle" always means one object.

    Raises:
        ValueError: no or too many objects, places that form neither a row nor a column in reading
            order, or two objects with the same colour and shape.
    """

    objects: tuple[ShapeObject, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.objects) <= MAX_OBJECTS:
            raise ValueError(f"a scene has 1 to {MAX_OBJECTS} objects, got {len(self.objects)}")
        if len(self.objects) > 1 and self.places not in (
            places_for(len(self.objects), "left to right"),
            places_for(len(self.objects), "top to bottom"),
        ):
            raise ValueError(
                f"places {self.places} are neither a row (left to right) nor a column "
                "(top to bottom) in reading order"
            )
        pairs = [thing.pair for thing in self.objects]
        if len(set(pairs)) < len(pairs):
            raise ValueError(f"objects must differ in colour or shape, got {pairs}")

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(thing.place for thing in self.objects)

    @cached_property
    def relation(self) -> str:
        """One of RELATIONS."""
        if len(self.objects) == 1:
            return "alone"
        return "left to right" if self.places[0] == "left" else "top to bottom"

    @property
    def has_held_out_pair(self) -> bool:
        """True when some object's colour and shape form one of HELD_OUT_PAIRS."""
        return any(thing.pair in HELD_OUT_PAIRS for thing in self.objects)


def places_for(num_objects: int, relation: str) -> tuple[str, ...]:
    """The places of two or three objects in a row or a column, in reading order."""
    line = ROW if relation == "left to right" else COLUMN
    return line if num_objects == 3 else (line[0], line[2])
