"""Generated passages with questions that need reading.

A passage tells of two things and of the people who sold, lent, made or moved them:

    Ada bought the brass lamp from Nora. The silver lamp was moved from the cellar to the old mill.
    Tom lent the brass lamp to Ada.

Each sentence holds two candidates of the same kind (two people, two places, two years), in either
order, and the same people and things come back in other sentences. To know who sold the lamp, it is
not enough to find the sentence: one must read who did what. A question that the passage does not
answer looks like the others: it names a thing that is not there, or a relation that is not told of
this thing. Passages and questions are in the manner of SQuAD 2.0 (Rajpurkar et al. 2018,
arXiv:1806.03822), but generated: nobody asks about lamps like this.

The splits share no person, no noun and no place. The wordings of "test" never occur in the others.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import Literal

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

UNANSWERABLE_SHARE = 0.25

_ADJECTIVES = "brass silver small large red green wooden broken heavy round"


@dataclass(frozen=True)
class _Words:
    people: list[str]
    nouns: list[str]
    places: list[str]


def _words(people: str, nouns: str, places: str) -> _Words:
    return _Words(people.split(), nouns.split(), places.split(", "))


_WORDS: dict[str, _Words] = {
    "train": _words(
        "Ada Tom Nora Paul Rosa Karl Emma Hugo Clara Leon Mary Otto Julia Felix Anna Simon Eva "
        "Peter Laura Max Helen Oscar Lily Martin",
        "lamp key clock piano chair mirror bicycle boat table ring drum camera vase carpet bell "
        "kettle ladder basket telescope trunk",
        "cellar, old mill, garden, north tower, kitchen, barn, town hall, library, attic, harbour, "
        "school, bakery, back room, museum, station, workshop",
    ),
    "validation": _words(
        "Alice George Sarah Victor Diana Henry Irene Louis Vera Arthur",
        "statue violin desk helmet painting wagon radio globe",
        "church, guest room, theatre, stable, south gate, market, chapel, boat house",
    ),
    "test": _words(
        "Jane Robert Ellen David Susan Frank Grace Walter Ruth James",
        "guitar cabinet sword teapot sofa flute bottle stove",
        "castle, west wing, factory, hotel, dining room, temple, prison, farm house",
    ),
}


@dataclass(frozen=True)
class _Relation:
    """What a sentence can tell of a thing.

    `told` and `told_in_test` are wordings; `asked` and `asked_in_test` give, for each role that can
    be asked for, wordings of its question.
    """

    kind: str  # of its two roles: "people", "places" or "years"
    roles: tuple[str, str]
    told: list[str]
    told_in_test: list[str]
    asked: dict[str, list[str]]
    asked_in_test: dict[str, list[str]] = field(default_factory=dict)


_RELATIONS = {
    "sale": _Relation(
        "people",
        ("seller", "buyer"),
        [
            "{seller} sold the {thing} to {buyer}.",
            "{buyer} bought the {thing} from {seller}.",
            "The {thing} was sold to {buyer} by {seller}.",
            "Last week the {thing} was bought by {buyer} from {seller}.",
        ],
        [
            "{buyer} paid {seller} a good price for the {thing}.",
            "For little money, {seller} let {buyer} have the {thing}.",
            "The {thing} was purchased from {seller} by {buyer}.",
        ],
        {
            "seller": ["Who sold the {thing}?", "Who did {buyer} buy the {thing} from?"],
            "buyer": ["Who bought the {thing}?", "Who did {seller} sell the {thing} to?"],
        },
        {
            "seller": ["Who was paid for the {thing}?", "Who was the seller of the {thing}?"],
            "buyer": ["Who paid for the {thing}?", "Who was the buyer of the {thing}?"],
        },
    ),
    "loan": _Relation(
        "people",
        ("lender", "borrower"),
        [
            "{lender} lent the {thing} to {borrower}.",
            "{borrower} borrowed the {thing} from {lender}.",
            "The {thing} was lent to {borrower} by {lender}.",
            "Until May the {thing} is on loan to {borrower} from {lender}.",
        ],
        [
            "{borrower} must give the {thing} back to {lender} soon.",
            "{lender} allowed {borrower} to use the {thing} for a month.",
            "The {thing} was borrowed by {borrower}, and {lender} wants it back.",
        ],
        {
            "lender": ["Who lent the {thing}?", "Who did {borrower} borrow the {thing} from?"],
            "borrower": ["Who borrowed the {thing}?", "Who did {lender} lend the {thing} to?"],
        },
        {
            "lender": ["Who will get the {thing} back?", "Who was the lender of the {thing}?"],
            "borrower": ["Who must return the {thing}?", "Who has the {thing} on loan?"],
        },
    ),
    "repair": _Relation(
        "people",
        ("repairer", "customer"),
        [
            "{repairer} repaired the {thing} for {customer}.",
            "{customer} had the {thing} repaired by {repairer}.",
            "For {customer} the {thing} was repaired by {repairer}.",
            "{customer} brought the {thing} to {repairer}, who repaired it.",
        ],
        [
            "{customer} asked {repairer} to fix the {thing}, and it works again.",
            "The {thing} was mended by {repairer} as a favour to {customer}.",
            "As {customer} had hoped, {repairer} mended the {thing}.",
        ],
        {
            "repairer": ["Who repaired the {thing}?", "Who repaired the {thing} for {customer}?"],
            "customer": [
                "Who was the {thing} repaired for?",
                "Who did {repairer} repair the {thing} for?",
            ],
        },
        {
            "repairer": ["Who fixed the {thing}?", "Who made the {thing} work again?"],
            "customer": ["For whom was the {thing} fixed?", "Who wanted the {thing} to be fixed?"],
        },
    ),
    "move": _Relation(
        "places",
        ("before", "after"),
        [
            "The {thing} was moved from the {before} to the {after}.",
            "The {thing} is in the {after} now, but it was in the {before} before.",
            "Two men carried the {thing} to the {after} from the {before}.",
            "At first the {thing} stood in the {before}, then in the {after}.",
        ],
        [
            "After years in the {before}, the {thing} has a new place in the {after}.",
            "The {thing}, today in the {after}, used to stand in the {before}.",
            "The {thing} left the {before} and arrived at the {after}.",
        ],
        {
            "before": ["Where was the {thing} before?", "Where was the {thing} moved from?"],
            "after": ["Where is the {thing} now?", "Where was the {thing} moved to?"],
        },
        {
            "before": [
                "Where did the {thing} stand in the past?",
                "Which place did the {thing} leave?",
            ],
            "after": ["Where can you see the {thing} today?", "Where did the {thing} arrive?"],
        },
    ),
    "years": _Relation(
        "years",
        ("made", "restored"),
        [
            "The {thing} was made in {made} and restored in {restored}.",
            "Restored in {restored}, the {thing} was made in {made}.",
            "The {thing} dates from {made}, and it was restored in {restored}.",
            "In {restored} the {thing}, made in {made}, was restored.",
        ],
        [
            "The {thing} was built in {made}; the damage was repaired in {restored}.",
            "In {restored} craftsmen renewed the {thing}, which was produced in {made}.",
            "First seen in {made}, the {thing} was renewed in {restored}.",
        ],
        {
            "made": ["When was the {thing} made?", "In which year was the {thing} made?"],
            "restored": ["When was the {thing} restored?", "Which year was the {thing} restored?"],
        },
        {
            "made": ["From which year is the {thing}?", "When was the {thing} produced?"],
            "restored": ["When was the {thing} renewed?", "When did the {thing} become like new?"],
        },
    ),
}


@dataclass(frozen=True)
class Question:
    """A question about a passage.

    Attributes:
        passage, question: texts.
        answer: a piece of the passage, or "" if the passage does not answer the question.
        start: the character of the passage where the answer begins, or -1.
        kind: of the answer: "people", "places" or "years".
        candidates: everything of that kind in the passage, as (first character, text).
    """

    passage: str
    question: str
    answer: str
    start: int
    kind: str
    candidates: tuple[tuple[int, str], ...]

    @property
    def answerable(self) -> bool:
        return bool(self.answer)


@dataclass(frozen=True)
class _Fact:
    relation: str
    thing: str
    values: dict[str, str]  # role -> person, place or year


def reading_questions(
    split: Split, count: int, *, sentences: int = 3, seed: int = 0
) -> list[Question]:
    """Questions, each about a passage of its own.

    A quarter of them has no answer in its passage.

    Args:
        split: "train"; "validation", with other people, things and places; or "test", where the
            wordings of passages and questions are new too.
        count: how many.
        sentences: of each passage, 1 to 3; fewer are easier.
        seed: another seed gives other questions of the same split.

    Raises:
        ValueError: an unknown split, a negative count, or another number of sentences.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} must be one of {', '.join(SPLITS)}")
    if count < 0:
        raise ValueError(f"count={count} must not be negative")
    if sentences not in (1, 2, 3):
        raise ValueError(f"sentences={sentences} must be 1, 2 or 3")
    chance = random.Random(f"{split} {sentences} {seed}")
    return [_question(split, sentences, chance) for _ in range(count)]


def _question(split: str, sentences: int, chance: random.Random) -> Question:
    facts, absent = _world(split, sentences, chance)
    passage, places = _tell(facts, split, chance)
    if chance.random() < UNANSWERABLE_SHARE:
        relation, role, words = _unanswerable(facts, absent, split, chance)
        answer, start = "", -1
    else:
        number = chance.randrange(len(facts))
        fact = facts[number]
        relation, role = fact.relation, chance.choice(_RELATIONS[fact.relation].roles)
        words = {"thing": fact.thing, **fact.values}
        answer, start = fact.values[role], places[number][role]
    question = _pick(_asked(relation, split)[role], chance).format(**words)
    kind = _RELATIONS[relation].kind
    candidates = sorted(
        (places[number][role], value)
        for number, fact in enumerate(facts)
        for role, value in fact.values.items()
        if _RELATIONS[fact.relation].kind == kind
    )
    return Question(passage, question, answer, start, kind, tuple(candidates))


def _world(split: str, sentences: int, chance: random.Random) -> tuple[list[_Fact], str]:
    """Up to three facts about two things, and a thing that is not there.

    One noun names two of the three things, so that the adjective decides.
    """
    words = _WORDS[split]
    noun, other = chance.sample(words.nouns, 2)
    nouns = chance.sample([noun, noun, other], 3)
    adjectives = chance.sample(_ADJECTIVES.split(), 3)
    *things, absent = [f"{a} {n}" for a, n in zip(adjectives, nouns, strict=True)]
    people = chance.sample(words.people, 4)
    facts, told = [], set()
    for thing in [*things, chance.choice(things)][:sentences]:
        relation = chance.choice([name for name in _RELATIONS if (name, thing) not in told])
        told.add((relation, thing))
        facts.append(_Fact(relation, thing, _values(relation, people, words, chance)))
    chance.shuffle(facts)
    return facts, absent


def _values(
    relation: str, people: list[str], words: _Words, chance: random.Random
) -> dict[str, str]:
    kind = _RELATIONS[relation].kind
    if kind == "years":
        pair = [str(year) for year in sorted(chance.sample(range(1700, 1990), 2))]
    else:
        pair = chance.sample(people if kind == "people" else words.places, 2)
    return dict(zip(_RELATIONS[relation].roles, pair, strict=True))


def _tell(
    facts: list[_Fact], split: str, chance: random.Random
) -> tuple[str, list[dict[str, int]]]:
    """The passage, and for each fact the character where each role begins."""
    passage, places = "", []
    for fact in facts:
        relation = _RELATIONS[fact.relation]
        wording = _pick(relation.told_in_test if split == "test" else relation.told, chance)
        begins: dict[str, int] = {}
        passage += " " if passage else ""
        for piece in re.split(r"(\{\w+\})", wording):
            if piece.startswith("{"):
                begins[piece[1:-1]] = len(passage)
                piece = {"thing": fact.thing, **fact.values}[piece[1:-1]]
            passage += piece
        places.append(begins)
    return passage, places


def _unanswerable(
    facts: list[_Fact], absent: str, split: str, chance: random.Random
) -> tuple[str, str, dict[str, str]]:
    """A question that sounds right: (relation, the role asked for, its words)."""
    fact = chance.choice(facts)
    told = {(other.relation, other.thing) for other in facts}
    untold = [name for name in _RELATIONS if (name, fact.thing) not in told]
    if chance.random() < 0.5:  # a thing that is not there
        relation, thing = fact.relation, absent
    else:  # something that is not told about this thing, though perhaps about another
        near = [name for name in untold if any(other.relation == name for other in facts)]
        relation, thing = chance.choice(near or untold), fact.thing
    role = chance.choice(_RELATIONS[relation].roles)
    people = [value for each in facts for value in each.values.values()]
    partner = chance.choice([person for person in people if person in _WORDS[split].people] or [""])
    if not partner:  # nobody is named: a stranger, then
        partner = chance.choice(_WORDS[split].people)
    return relation, role, {"thing": thing, **dict.fromkeys(_RELATIONS[relation].roles, partner)}


def _asked(relation: str, split: str) -> dict[str, list[str]]:
    found = _RELATIONS[relation]
    return found.asked_in_test if split == "test" else found.asked


def _pick(wordings: list[str], chance: random.Random) -> str:
    return wordings[chance.randrange(len(wordings))]
