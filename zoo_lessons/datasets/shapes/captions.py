"""English captions and their French translations.

Each wording is one English template beside one French template, so that the translation of a
sentence depends on nothing but the sentence. French is the harder side, and the more interesting
one: size stands before the noun and colour after it, both agree with the noun's gender, articles
elide before a vowel (l'étoile) and merge with "de" (du, de la, de l', d'un).

    a large green star to the left of a small black cross
    une grande étoile verte à gauche d'une petite croix noire
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from zoo_lessons.datasets.shapes.scenes import Scene, ShapeObject

# English shape: (French noun, gender)
FRENCH_NOUNS = {
    "circle": ("cercle", "m"),
    "square": ("carré", "m"),
    "triangle": ("triangle", "m"),
    "star": ("étoile", "f"),
    "cross": ("croix", "f"),
    "heart": ("cœur", "m"),
    "moon": ("lune", "f"),
    "ring": ("anneau", "m"),
}
# English adjective: (masculine, feminine). "Orange" is a noun used as a colour: it never agrees.
FRENCH_ADJECTIVES = {
    "red": ("rouge", "rouge"),
    "orange": ("orange", "orange"),
    "yellow": ("jaune", "jaune"),
    "green": ("vert", "verte"),
    "blue": ("bleu", "bleue"),
    "purple": ("violet", "violette"),
    "grey": ("gris", "grise"),
    "black": ("noir", "noire"),
    "small": ("petit", "petite"),
    "large": ("grand", "grande"),
}
ENGLISH_PLACES = {
    "top left": "at the top left",
    "top": "at the top",
    "top right": "at the top right",
    "left": "on the left",
    "centre": "in the centre",
    "right": "on the right",
    "bottom left": "at the bottom left",
    "bottom": "at the bottom",
    "bottom right": "at the bottom right",
}
FRENCH_PLACES = {
    "top left": "en haut à gauche",
    "top": "en haut",
    "top right": "en haut à droite",
    "left": "à gauche",
    "centre": "au centre",
    "right": "à droite",
    "bottom left": "en bas à gauche",
    "bottom": "en bas",
    "bottom right": "en bas à droite",
}
# relation: (how the first object stands to the second, the converse, the order of a list)
ENGLISH_RELATIONS = {
    "left to right": ("to the left of", "to the right of", "from left to right"),
    "top to bottom": ("above", "below", "from top to bottom"),
}
FRENCH_RELATIONS = {  # without "de", which merges with the article that follows
    "left to right": ("à gauche", "à droite", "de gauche à droite"),
    "top to bottom": ("au-dessus", "en dessous", "de haut en bas"),
}
VOWELS = "aeiouéè"


class Caption(NamedTuple):
    """One true sentence about a scene, in both languages, and the name of its wording."""

    wording: str
    english: str
    french: str


class Wording(NamedTuple):
    """One template in each language."""

    name: str
    english: str
    french: str


class EnglishPhrases:
    """An object in English: `a` and `the` with its size, `a_short` and `the_short` without."""

    def __init__(self, thing: ShapeObject) -> None:
        short = f"{thing.color} {thing.shape}"
        self.size = thing.size
        self.the = f"the {thing.size} {short}"
        self.the_short = f"the {short}"
        self.a = f"a {thing.size} {short}"
        self.a_short = f"an {short}" if short[0] in "aeiou" else f"a {short}"


class FrenchPhrases:
    """An object in French: `un`, `d_un`, `le`, `du` with its size; the same `_short` without."""

    def __init__(self, thing: ShapeObject) -> None:
        noun, gender = FRENCH_NOUNS[thing.shape]
        feminine = gender == "f"
        color = FRENCH_ADJECTIVES[thing.color][feminine]
        self.size = FRENCH_ADJECTIVES[thing.size][feminine]
        short = f"{noun} {color}"
        sized = f"{self.size} {short}"
        one = "une" if feminine else "un"
        self.un, self.un_short = f"{one} {sized}", f"{one} {short}"
        self.d_un, self.d_un_short = f"d'{self.un}", f"d'{self.un_short}"
        self.le, self.du = definite(sized, feminine)
        self.le_short, self.du_short = definite(short, feminine)


# There are only about a thousand different objects, and each is worded many times.
english_phrases = cache(EnglishPhrases)
french_phrases = cache(FrenchPhrases)


def definite(phrase: str, feminine: bool) -> tuple[str, str]:
    """A French noun phrase with its definite article, alone and after "de".

    >>> definite("étoile rouge", feminine=True)
    ("l'étoile rouge", "de l'étoile rouge")
    """
    if phrase[0] in VOWELS:
        return f"l'{phrase}", f"de l'{phrase}"
    if feminine:
        return f"la {phrase}", f"de la {phrase}"
    return f"le {phrase}", f"du {phrase}"


def plural_size(scene: Scene) -> str:
    """The size as a French plural. One masculine noun makes the whole group masculine."""
    feminine = all(FRENCH_NOUNS[thing.shape][1] == "f" for thing in scene.objects)
    return FRENCH_ADJECTIVES[scene.objects[0].size][feminine] + "s"


# {0}, {1} and {2} are the objects in reading order. The first wording of a kind of scene is
# canonical: it says everything that the scene says.
ALONE = (
    Wording("canonical", "{0.a} {place}", "{0.un} {place}"),
    Wording("there is", "there is {0.a} {place}", "il y a {0.un} {place}"),
    Wording("place first", "{place} there is {0.a}", "{place} se trouve {0.un}"),
    Wording("the ... is", "{0.the} is {place}", "{0.le} est {place}"),
    Wording("size last", "{0.the_short} {place} is {0.size}", "{0.le_short} {place} est {0.size}"),
)
PAIR = (
    Wording("canonical", "{0.a} {first} {1.a}", "{0.un} {first} {1.d_un}"),
    Wording("converse", "{1.a} {second} {0.a}", "{1.un} {second} {0.d_un}"),
    Wording("there is", "there is {0.a} {first} {1.a}", "il y a {0.un} {first} {1.d_un}"),
    Wording("place first", "{first} {1.the} there is {0.a}", "{first} {1.du} se trouve {0.un}"),
    Wording(
        "the ... is",
        "{0.the_short} is {first} {1.the_short}",
        "{0.le_short} est {first} {1.du_short}",
    ),
    Wording(
        "the ... is, converse",
        "{1.the_short} is {second} {0.the_short}",
        "{1.le_short} est {second} {0.du_short}",
    ),
    Wording(
        "size last",
        "{0.the_short} {first} {1.the_short} is {0.size}",
        "{0.le_short} {first} {1.du_short} est {0.size}",
    ),
)
PAIR_OF_ONE_SIZE = (
    Wording(
        "both",
        "{0.the_short} and {1.the_short} are {0.size}",
        "{0.le_short} et {1.le_short} sont {sizes}",
    ),
)
TRIPLE = (
    Wording("canonical", "{order}, {0.a}, {1.a} and {2.a}", "{order}, {0.un}, {1.un} et {2.un}"),
    Wording("between", "{1.a} between {0.a} and {2.a}", "{1.un} entre {0.un} et {2.un}"),
    Wording(
        "the ... is",
        "{1.the_short} is between {0.the_short} and {2.the_short}",
        "{1.le_short} est entre {0.le_short} et {2.le_short}",
    ),
    Wording(
        "there is",
        "there is {0.a_short}, {1.a_short} and {2.a_short}",
        "il y a {0.un_short}, {1.un_short} et {2.un_short}",
    ),
)
TRIPLE_OF_ONE_SIZE = (
    Wording(
        "all",
        "{0.the_short}, {1.the_short} and {2.the_short} are {0.size}",
        "{0.le_short}, {1.le_short} et {2.le_short} sont {sizes}",
    ),
)


def captions(scene: Scene) -> tuple[Caption, ...]:
    """Every caption of the scene, the canonical one first. All of them are true.

    The canonical caption tells a scene from every other; some of the others leave out sizes, or
    the order of three objects.
    """
    return tuple(write(scene, wording) for wording in wordings(scene))


def canonical_caption(scene: Scene) -> Caption:
    """The caption that says everything that the scene says: one scene, one canonical caption."""
    return write(scene, wordings(scene)[0])


def write(scene: Scene, wording: Wording) -> Caption:
    """Fill one wording's two templates."""
    english_slots, french_slots = slots(scene)
    return Caption(
        wording.name,
        wording.english.format(*map(english_phrases, scene.objects), **english_slots),
        wording.french.format(*map(french_phrases, scene.objects), **french_slots),
    )


def wordings(scene: Scene) -> tuple[Wording, ...]:
    """The wordings that are true of this scene, the canonical one first."""
    same_size = len({thing.size for thing in scene.objects}) == 1
    if len(scene.objects) == 1:
        return ALONE
    if len(scene.objects) == 2:
        return PAIR + (PAIR_OF_ONE_SIZE if same_size else ())
    return TRIPLE + (TRIPLE_OF_ONE_SIZE if same_size else ())


def slots(scene: Scene) -> tuple[dict[str, str], dict[str, str]]:
    """What fills the templates' named slots, in English and in French."""
    if scene.relation == "alone":
        place = scene.objects[0].place
        return {"place": ENGLISH_PLACES[place]}, {"place": FRENCH_PLACES[place]}
    names = ("first", "second", "order")
    english = dict(zip(names, ENGLISH_RELATIONS[scene.relation], strict=True))
    french = dict(zip(names, FRENCH_RELATIONS[scene.relation], strict=True))
    return english, french | {"sizes": plural_size(scene)}
