"""A small task of text classification: what happened to the thing?

Six answers: it was bought, lost, found, broken, repaired or given away. Every sentence names a
thing and people, and all answers share these, so that only the way of telling counts. The ways of
telling were written by hand, one after the other, without the grammar of `datasets.everyday`, from
which the translators learn: none of these sentences can come out of it. Single words do occur in
both; `experiments.augment_text` measures how many.

Every answer has 24 ways of telling. Training sentences use 14 of them; the test uses these and five
more, so that a quarter of it is told in ways that no training sentence shows, however many there
are. Validation has five others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

LABELS = ("bought", "lost", "found", "broken", "repaired", "given")
SPLITS = ("train", "validation", "test")
TAUGHT, ONLY_ONE_SPLIT = 14, 5  # wordings of an answer: in all splits; in validation or test only

# {t} the thing, {p} and {q} two people
_WORDINGS = {
    "bought": """
i bought {t} for half the price
we have been shopping, and {t} is ours now
{p} paid far too much for {t}
{p} wanted {t} so badly that we bought it
after three weeks of saving i could afford {t}
the shop had one left, and {p} took {t} home
{p} purchased {t} with the money from the summer job
{t} cost me forty euros at the market
i went to town and came back with {t}
at the flea market {p} saw a bargain, {t}
{p} ordered {t} on the internet
{t} was bought by {p} in the sale
we chose {t} and paid at the desk
the bill for {t} is on the kitchen table
{p} spent a week's wages on {t}
yesterday {p} bought {t} in the new store
{t} has been purchased by {p}
look what i got at the sales, {t}
{p} put {t} on the credit card
i could not resist and bought {t}
{p} has just purchased {t} from a dealer
we paid cash for {t}
the seller wanted ninety for {t}, i paid seventy
{t} was on offer, so {p} acquired it
""",
    "lost": """
i have lost {t} again
{t} is missing since monday
{p} cannot find {t} anywhere
has anyone seen {t}? it was here this morning
{p} left {t} on the bus and it never came back
{t} has disappeared from the hall
somewhere between home and work {p} lost {t}
we have looked everywhere, but {t} is gone
{p} mislaid {t} during the holidays
{t} must have fallen out of the bag on the way
i had {t} in the morning, and now it is nowhere
{p} is still searching for {t}
where on earth did {p} put {t}?
a reward for whoever brings back {t}
{p} lost {t} on the train
{t} went missing last week
nobody knows where {t} is
{p} can no longer find {t}
{t} was mislaid by {p}
i am desperate, {t} has vanished
{p} forgot {t} in a taxi and will not see it again
we searched the whole house for {t}, without success
{t} is gone, and {p} is in tears
if you see {t}, please call {p}
""",
    "found": """
{p} found {t} under the bed
{t} has turned up at last
i discovered {t} behind the cupboard
good news, {t} is back
the cleaner came across {t} in the corridor
whose is {t}? it was lying in the street
{p} was digging in the garden and there was {t}
somebody handed in {t} at the office
we stumbled over {t} in the attic
there it was, {t}, in the coat that {p} never wears
{t} was found by {p} near the river
after two days of searching {p} finally saw {t} on the shelf
you can stop looking, {p} has {t}
{t}, lost for a year, is here again
{p} has found {t} in the park
{t} was discovered in a drawer
guess what was behind the sofa, {t}
{p} picked up {t} from the pavement
the search is over, {t} turned up
{t} has been found, thanks to {p}
while tidying {p} came upon {t}
i noticed {t} lying on a bench and took it to the police
{p} discovered {t} in the cellar
we thought {t} was lost for ever, but here it is
""",
    "broken": """
{p} broke {t} this morning
{t} does not work any more
{t} fell on the floor and is in pieces
someone has damaged {t}
{t} is out of order again
{p} sat on {t}, and now it is bent
there is a large crack in {t}
{t} was smashed by {p}
it rained all night and {t} is ruined
{p} dropped {t} down the stairs
{t} stopped working while {p} was using it
the dog has chewed {t} to bits
a part of {t} came off in my hand
{t} makes a terrible noise and then nothing happens
{t} is broken, and nobody admits it
{p} has smashed {t}
i am afraid that i damaged {t}
{t} no longer works since the storm
{p} tore {t} in two
the handle of {t} came off
{t} was broken by {p} at a party
a car drove over {t}
{t} gave up after a week
{p} stepped on {t} and crushed it
""",
    "repaired": """
{p} repaired {t} in an hour
{t} works again
i fixed {t} with a bit of wire
{p} has mended {t} for me
with a new battery {t} is running like before
{t} came back from the workshop as good as new
{p} glued {t} together, you cannot see a thing
it took all day, but now {t} is working again
{t} was repaired by {p} for nothing
{p} knows about such things and put {t} in order
the mechanic changed one screw and {t} was fine
{p} sewed {t} up so that it can be used
we did not need a new one, {p} could fix {t}
the crack in {t} has been filled and painted over
{t} has been mended
{p} got {t} working again
{p} fixed {t} on sunday
the workshop replaced a part, and {t} is in order
{t} is as good as new, thanks to {p}
i had {t} repaired by {p}
a drop of oil was enough to bring {t} back to life
{p} patched {t}
it was only a loose cable, {t} runs again
{p} restored {t} in the garage
""",
    "given": """
{p} gave {t} to {q}
{q} got {t} from {p}
for the birthday party {p} offered {q} {t}
{t} was a present from {p}
{p} did not need {t} any more, so {q} has it now
i want you to have {t}
{q} unwrapped {t} and hugged {p}
{p} made {q} a present of {t}
{t} goes to {q}, as grandfather wished
{p} handed {t} over to {q} with a smile
{q} received {t} from {p} at christmas
we passed {t} on to {q}
as a farewell gift {q} was given {t}
{p} donated {t} to the school
{p} has given {q} {t}
{q} received {t} as a gift
{t} was offered to {q} by {p}
what a kind surprise, {p} brought {q} {t} for the wedding
keep {t}, it is yours now
{p} left {t} to {q} in the will
{q} thanked {p} for {t}
under the tree lay {t} for {q}
{p} gave away {t}
instead of selling {t}, {p} presented it to {q}
""",
}

# half of them unknown to the translators
_THINGS = (
    "bicycle umbrella watch phone guitar camera suitcase lamp scarf ring book clock "
    "violin helmet tent laptop kite drill necklace blanket vase teapot sledge telescope"
).split()
_OWNERS = ("my", "my", "the", "our", "this", "the old", "my new", "her", "his", "that")
_PEOPLE = (
    "my brother", "my aunt", "the neighbour", "the teacher", "anna", "paul", "the boy",
    "my grandmother", "my cousin", "the nurse", "a colleague", "the caretaker", "sophie",
    "my flatmate", "the gardener", "the plumber",
)  # fmt: skip

# Words that alone tell an answer, as far as a list of words can
_CUES = {
    "bought": r"b(ought|uy)|purchased?|paid|cost",
    "lost": r"lost|lose|mislaid|mislay|missing|disappeared|gone|(cannot|can no longer) find",
    "found": r"(?<!cannot )(?<!no longer )(found|find)|discover(ed)?|turned up|is back",
    "broken": r"br(oke|oken|eak)|damaged?|smash(ed)?|no longer works|does not work|out of order",
    "repaired": r"repair(ed)?|mend(ed)?|fix(ed)?|(works|working) again|as good as new",
    "given": r"g(ave|ive|iven)|offer(ed)?|received?|present|gift",
}


@dataclass(frozen=True)
class Message:
    """A sentence, the number of its answer in `LABELS`, and which wording of that answer it is."""

    text: str
    label: int
    wording: int


def messages(split: str, per_label: int, *, seed: int = 0) -> list[Message]:
    """Equally many sentences of each answer, in random order.

    Each draws its wording anew, so that a few sentences show few wordings. Fewer sentences of one
    seed are the first of more.

    Args:
        split: "train" (14 wordings of an answer), "validation" or "test" (the 14 and 5 others).
        per_label: how many sentences for each answer.
        seed: another seed gives other sentences of the same wordings.

    Raises:
        ValueError: an unknown split, or fewer than one sentence.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} must be one of {', '.join(SPLITS)}")
    if per_label < 1:
        raise ValueError(f"per_label={per_label} must be at least 1")
    chance = random.Random(f"{split} {seed}")
    found = []
    for _ in range(per_label):
        block = [
            _write(label, chance.choice(wording_numbers(name, split)), chance)
            for label, name in enumerate(LABELS)
        ]
        chance.shuffle(block)
        found += block
    return found


def wording_numbers(label: str, split: str) -> list[int]:
    """The numbers of the wordings of an answer that a split may use."""
    numbers = list(range(len(_wordings(label))))
    random.Random(label).shuffle(numbers)  # the last ones written are not always the oddest
    taught, others = numbers[:TAUGHT], numbers[TAUGHT:]
    return {
        "train": taught,
        "validation": taught + others[:ONLY_ONE_SPLIT],
        "test": taught + others[ONLY_ONE_SPLIT:],
    }[split]


def told(text: str) -> set[str]:
    """The answers whose telltale words a sentence has. Rough: it reads words, not meanings."""
    return {label for label, cue in _CUES.items() if re.search(rf"\b(?:{cue})\b", text)}


def after_change(before: Sequence[Message], after: Sequence[str]) -> dict[str, int]:
    """What became of the telltale words when sentences were put in other words.

    Counted are sentences whose own answer is the only one that their words tell: "kept" if they
    still tell it, "another" if they tell another answer only, "silent" if they tell none.
    """
    counts = {"kept": 0, "another": 0, "silent": 0}
    for message, text in zip(before, after, strict=True):
        own = LABELS[message.label]
        if told(message.text) == {own}:
            now = told(text)
            counts["kept" if own in now else "another" if now else "silent"] += 1
    return counts


def _wordings(label: str) -> list[str]:
    return _WORDINGS[label].strip().splitlines()


def _write(label: int, wording: int, chance: random.Random) -> Message:
    thing = f"{chance.choice(_OWNERS)} {chance.choice(_THINGS)}"
    giver, taker = chance.sample(_PEOPLE, 2)
    text = _wordings(LABELS[label])[wording].format(t=thing, p=giver, q=taker)
    return Message(text, label, wording)
