"""French by hand, and captions that say what the scene says."""

from __future__ import annotations

import re
from itertools import permutations, product

import numpy as np
import pytest

from zoo_lessons.datasets.shapes import (
    COLORS,
    PLACES,
    SHAPES,
    SIZES,
    Scene,
    ShapeObject,
    canonical_caption,
    captions,
    sample_scene,
)
from zoo_lessons.datasets.shapes.captions import ENGLISH_PLACES, FRENCH_ADJECTIVES, FrenchPhrases


def thing(words: str, place: str) -> ShapeObject:
    size, color, shape = words.split()
    return ShapeObject(shape, color, size, place)


def row(*objects: str) -> Scene:
    places = {1: ["left"], 2: ["left", "right"], 3: ["left", "centre", "right"]}[len(objects)]
    return Scene(tuple(thing(words, place) for words, place in zip(objects, places, strict=True)))


def column(*objects: str) -> Scene:
    places = {2: ["top", "bottom"], 3: ["top", "centre", "bottom"]}[len(objects)]
    return Scene(tuple(thing(words, place) for words, place in zip(objects, places, strict=True)))


def alone(words: str, place: str) -> Scene:
    return Scene((thing(words, place),))


# Written out by hand: every noun and every adjective in each form that French has for it.
INDEFINITE = {
    "small red circle": "un petit cercle rouge",
    "large red moon": "une grande lune rouge",
    "small orange square": "un petit carré orange",
    "large orange cross": "une grande croix orange",
    "small yellow triangle": "un petit triangle jaune",
    "large yellow star": "une grande étoile jaune",
    "large green heart": "un grand cœur vert",
    "small green star": "une petite étoile verte",
    "large blue ring": "un grand anneau bleu",
    "small blue cross": "une petite croix bleue",
    "small purple circle": "un petit cercle violet",
    "large purple moon": "une grande lune violette",
    "large grey square": "un grand carré gris",
    "small grey star": "une petite étoile grise",
    "small black triangle": "un petit triangle noir",
    "large black cross": "une grande croix noire",
}
# Short definite forms, alone and after "de": elision (l'), contraction (du), and neither (de la).
DEFINITE = {
    "red circle": ("le cercle rouge", "du cercle rouge"),
    "blue square": ("le carré bleu", "du carré bleu"),
    "grey triangle": ("le triangle gris", "du triangle gris"),
    "black star": ("l'étoile noire", "de l'étoile noire"),
    "purple cross": ("la croix violette", "de la croix violette"),
    "green heart": ("le cœur vert", "du cœur vert"),
    "orange moon": ("la lune orange", "de la lune orange"),
    "yellow ring": ("l'anneau jaune", "de l'anneau jaune"),
}
TRANSLATIONS = {
    # alone
    "a small red star at the top left": "une petite étoile rouge en haut à gauche",
    "there is a small red star at the top left": "il y a une petite étoile rouge en haut à gauche",
    "at the top left there is a small red star": (
        "en haut à gauche se trouve une petite étoile rouge"
    ),
    "the small red star is at the top left": "la petite étoile rouge est en haut à gauche",
    "the red star at the top left is small": "l'étoile rouge en haut à gauche est petite",
    "a large grey ring in the centre": "un grand anneau gris au centre",
    "the grey ring in the centre is large": "l'anneau gris au centre est grand",
    # two in a row
    "a large green moon to the left of a small orange square": (
        "une grande lune verte à gauche d'un petit carré orange"
    ),
    "a small orange square to the right of a large green moon": (
        "un petit carré orange à droite d'une grande lune verte"
    ),
    "to the left of the small orange square there is a large green moon": (
        "à gauche du petit carré orange se trouve une grande lune verte"
    ),
    "the green moon is to the left of the orange square": (
        "la lune verte est à gauche du carré orange"
    ),
    "the orange square is to the right of the green moon": (
        "le carré orange est à droite de la lune verte"
    ),
    "the green moon to the left of the orange square is large": (
        "la lune verte à gauche du carré orange est grande"
    ),
    # two in a column, one size
    "there is a small purple circle above a small black star": (
        "il y a un petit cercle violet au-dessus d'une petite étoile noire"
    ),
    "the black star is below the purple circle": "l'étoile noire est en dessous du cercle violet",
    "the purple circle is above the black star": (
        "le cercle violet est au-dessus de l'étoile noire"
    ),
    "the purple circle and the black star are small": (
        "le cercle violet et l'étoile noire sont petits"
    ),
    # feminine plural
    "the blue star and the purple cross are large": (
        "l'étoile bleue et la croix violette sont grandes"
    ),
    # three
    "from left to right, a large red heart, a small blue cross and a large yellow ring": (
        "de gauche à droite, un grand cœur rouge, une petite croix bleue et un grand anneau jaune"
    ),
    "a small blue cross between a large red heart and a large yellow ring": (
        "une petite croix bleue entre un grand cœur rouge et un grand anneau jaune"
    ),
    "the blue cross is between the red heart and the yellow ring": (
        "la croix bleue est entre le cœur rouge et l'anneau jaune"
    ),
    "there is a red heart, a blue cross and a yellow ring": (
        "il y a un cœur rouge, une croix bleue et un anneau jaune"
    ),
    "from top to bottom, a large orange star, a large grey moon and a large black star": (
        "de haut en bas, une grande étoile orange, une grande lune grise et une grande étoile noire"
    ),
    "there is an orange star, a grey moon and a black star": (
        "il y a une étoile orange, une lune grise et une étoile noire"
    ),
    "the orange star, the grey moon and the black star are large": (
        "l'étoile orange, la lune grise et l'étoile noire sont grandes"
    ),
}
SCENES = (
    alone("small red star", "top left"),
    alone("large grey ring", "centre"),
    row("large green moon", "small orange square"),
    column("small purple circle", "small black star"),
    row("large blue star", "large purple cross"),
    row("large red heart", "small blue cross", "large yellow ring"),
    column("large orange star", "large grey moon", "large black star"),
)


def many_scenes(count: int) -> list[Scene]:
    rng = np.random.default_rng(5)
    splits = ("train", "validation", "test", "composition")
    return [sample_scene(rng, splits[i % 4]) for i in range(count)]


@pytest.mark.parametrize("english, french", INDEFINITE.items())
def test_indefinite_phrases_agree(english: str, french: str) -> None:
    phrases = FrenchPhrases(thing(english, "centre"))
    assert phrases.un == french
    assert phrases.d_un == f"d'{french}"


def test_hand_written_phrases_cover_every_adjective_in_both_genders() -> None:
    hand_written = set(" ".join(INDEFINITE.values()).split())
    assert {form for forms in FRENCH_ADJECTIVES.values() for form in forms} <= hand_written
    assert {words.split()[2] for words in INDEFINITE} == set(SHAPES)


@pytest.mark.parametrize("english, french", DEFINITE.items())
def test_definite_articles_elide_and_contract(english: str, french: tuple[str, str]) -> None:
    phrases = FrenchPhrases(thing(f"small {english}", "centre"))
    assert (phrases.le_short, phrases.du_short) == french


@pytest.mark.parametrize(
    "english, le, du",
    [
        ("small black star", "la petite étoile noire", "de la petite étoile noire"),
        ("large yellow ring", "le grand anneau jaune", "du grand anneau jaune"),
    ],
)
def test_an_adjective_before_the_noun_prevents_elision(english: str, le: str, du: str) -> None:
    phrases = FrenchPhrases(thing(english, "centre"))
    assert (phrases.le, phrases.du) == (le, du)


def test_whole_sentences_match_translations_written_by_hand() -> None:
    produced = {c.english: c.french for scene in SCENES for c in captions(scene)}
    assert TRANSLATIONS.items() <= produced.items()


def test_places_match_translations_written_by_hand() -> None:
    french = {
        "top left": "un petit cercle noir en haut à gauche",
        "top": "un petit cercle noir en haut",
        "top right": "un petit cercle noir en haut à droite",
        "left": "un petit cercle noir à gauche",
        "centre": "un petit cercle noir au centre",
        "right": "un petit cercle noir à droite",
        "bottom left": "un petit cercle noir en bas à gauche",
        "bottom": "un petit cercle noir en bas",
        "bottom right": "un petit cercle noir en bas à droite",
    }
    scenes = {place: alone("small black circle", place) for place in PLACES}
    assert {place: canonical_caption(scene).french for place, scene in scenes.items()} == french


@pytest.mark.parametrize(
    "shapes, french",
    [(("star", "cross"), "grandes"), (("star", "heart"), "grands"), (("ring", "heart"), "grands")],
)
def test_plural_is_feminine_only_for_two_feminine_nouns(
    shapes: tuple[str, str], french: str
) -> None:
    for first, second in permutations(shapes):
        scene = row(f"large blue {first}", f"large red {second}")
        (both,) = [c for c in captions(scene) if c.wording == "both"]
        assert both.french.endswith(f"sont {french}")


def test_no_unelided_or_uncontracted_french() -> None:
    forbidden = re.compile(r"\b(?:de|le|la) [aeiouéœ]|\bde le\b|\bde une?\b|\bde les\b|  | $|^ ")
    for scene in many_scenes(1500):
        for caption in captions(scene):
            rest = re.sub(r"de haut en bas", "", caption.french)
            assert not forbidden.search(rest), caption.french


def test_english_uses_an_only_before_a_vowel() -> None:
    for scene in many_scenes(1500):
        for caption in captions(scene):
            for article, following in re.findall(r"\b(an?) (\w)", caption.english):
                assert (article == "an") == (following in "aeiou"), caption.english


def test_translation_is_a_one_to_one_function_of_the_sentence() -> None:
    to_french: dict[str, str] = {}
    to_english: dict[str, str] = {}
    singles = [Scene((ShapeObject(*words),)) for words in product(SHAPES, COLORS, SIZES, PLACES)]
    for scene in singles + many_scenes(5000):
        for caption in captions(scene):
            assert to_french.setdefault(caption.english, caption.french) == caption.french
            assert to_english.setdefault(caption.french, caption.english) == caption.english
    assert len(to_french) > 20_000


def read_canonical(text: str) -> Scene:
    """Read a canonical caption back: an independent, much simpler grammar."""
    phrases = re.findall(r"\ba (small|large) (\w+) (\w+)", text)
    if len(phrases) == 1:
        place = {words: place for place, words in ENGLISH_PLACES.items()}[
            text.split(" ".join(phrases[0]) + " ")[1]
        ]
        places: tuple[str, ...] = (place,)
    else:
        horizontal = "left" in text
        places = ("left", "centre", "right") if horizontal else ("top", "centre", "bottom")
        places = places if len(phrases) == 3 else (places[0], places[2])
    return Scene(
        tuple(
            ShapeObject(shape, color, size, place)
            for (size, color, shape), place in zip(phrases, places, strict=True)
        )
    )


def test_the_canonical_caption_says_everything() -> None:
    for scene in many_scenes(1000):
        assert read_canonical(canonical_caption(scene).english) == scene


def test_every_wording_names_the_right_things_in_the_right_order() -> None:
    for scene in many_scenes(1000):
        names = [f"{t.color} {t.shape}" for t in scene.objects]
        for caption in captions(scene):
            english = caption.english
            found = re.findall(rf"(?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})", english)
            assert sorted(found) == sorted(names)
            sizes = re.findall(r"(small|large) (\w+ \w+)", english)
            assert all(
                (size, name) in [(t.size, f"{t.color} {t.shape}") for t in scene.objects]
                for size, name in sizes
            )
            relation = re.search(r"^(to the left of|above) ", english)
            if relation:
                assert found == names[::-1]
            elif "between" in english:
                assert found[0] == names[1]
            elif re.search(r"right of|below", english):
                assert found == names[::-1]
            else:
                assert found == names


def test_wordings_of_a_scene_are_distinct_and_the_first_is_canonical() -> None:
    for scene in many_scenes(200):
        found = captions(scene)
        assert found[0] == canonical_caption(scene)
        assert found[0].wording == "canonical"
        assert len({c.english for c in found}) == len({c.wording for c in found}) == len(found) >= 4
