"""C03: do heads catch relations between words, such as cat-sat and on-mat?

All 72 heads of MiniLM read many sentences of the form "The cat sat on the mat", with other nouns,
verbs and places. For each relation and each head we record means over the sentences:

- `base`: the weight that the asking word ("sat", "on") puts on the word it belongs to ("cat",
  "mat") in sentences of that form;
- `moved_word`, `moved_place`: the same after words were put between the two ("The cat often sat",
  "on the old red mat"): the weight on the word, wherever it is now, and the weight on the place
  where it stood before. A head that reads the relation follows the word; a head that reads
  positions stays with the place;
- `others`: the weight that the other words of the base sentence put on the same word. A head in
  which every word looks there says something about that word, not about the relation;
- `effect`: what the head does. Exchange the word for another one ("cat" for "dog") and the asking
  word's final vector moves. `effect` is the share of this movement that disappears when the head is
  silenced, over base and moved sentences. A head that carries the word's identity to the asking
  word has a large effect.

A head *shows* the relation if `base` is at least 0.3. Then it is

- "everyone looks there" if `others` is at least half of `base`;
- "follows the word" if `moved_word` is at least half of `base`, and larger than `moved_place`;
- "keeps the place" if `moved_place` is at least half of `base`, or larger than `moved_word`;
- "neither" in the cases left.

All heads that show a relation are also silenced together, against random sets with as many other
heads from each layer. `distance` is, for each layer, the mean total variation distance between the
maps of two of its heads on the same sentence (0: equal, 1: they never look at the same word).

The claim is **reproduced** if, for both relations, some head follows the word and has a larger
effect than 95 % of all heads; **the article is wrong** if no head follows the word in either
relation; otherwise **partly**.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.intervals import mean_interval
from zoo_lessons.layers import ablate_heads, record_attention
from zoo_lessons.records import Verdict, experiment
from zoo_lessons.weights import load_pretrained, load_tokenizer

WORDS = {
    "noun": "cat dog horse bird child farmer king teacher sailor nurse".split(),
    "verb": "sat slept stood waited rested".split(),
    "place": "mat chair bed table floor roof bench stone carpet boat".split(),
    "adverb": "often quietly never always usually".split(),
    "adjective": "old red soft small wet".split(),
}
NUM_SENTENCES = 120
NUM_ABLATION_SENTENCES = 30
NUM_RANDOM_SETS = 20
SHOWS, HALF = 0.3, 0.5
KINDS = FOLLOWS, PLACE, EVERYONE, NEITHER = (
    "follows the word",
    "keeps the place",
    "everyone looks there",
    "neither",
)


@dataclass(frozen=True)
class Relation:
    """An asking word, the word it belongs to, and sentences with other distances between them.

    `{noun}` and the like stand for a word from `WORDS`; a digit makes a second word of a kind.
    """

    name: str
    asks: str
    belongs_to: str
    base: str
    moved: tuple[str, ...]


RELATIONS = (
    Relation(
        "cat-sat",
        "{verb}",
        "{noun}",
        "the {noun} {verb} on the {place}",
        (
            "the {noun} {adverb} {verb} on the {place}",
            "the {noun} very {adverb} {verb} on the {place}",
            "the {noun} near the {place2} {verb} on the {place}",
        ),
    ),
    Relation(
        "on-mat",
        "on",
        "{place}",
        "the {noun} {verb} on the {place}",
        (
            "the {noun} {verb} on the {adjective} {place}",
            "the {noun} {verb} on the very {adjective} {place}",
            "the {noun} {verb} on the {adjective} {adjective2} {place}",
        ),
    ),
)


def draw_words(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Fillings for the templates; the second word of a kind differs from the first."""
    generator = random.Random(seed)
    fillings = []
    for _ in range(count):
        words = {}
        for kind, choices in WORDS.items():
            words[kind], words[f"{kind}2"] = generator.sample(choices, 2)
        fillings.append(words)
    return fillings


class Reader:
    """MiniLM on sentences in which every word is one token."""

    def __init__(self) -> None:
        self.model, self.tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")
        self.num_layers = self.model.config.num_layers
        self.num_heads = self.model.config.num_heads

    def ids(self, template: str, fillings: Sequence[Mapping[str, str]]) -> Tensor:
        """Token ids (sentences, tokens); word i of the template is token i + 1.

        Raises:
            ValueError: a word that the tokenizer cuts into pieces.
        """
        rows = [self.tokenizer.encode(template.format(**words)).ids for words in fillings]
        expected = len(template.split()) + 2  # [CLS] and [SEP]
        if any(len(row) != expected for row in rows):
            raise ValueError(f"every word of {template!r} must be a single token")
        return torch.tensor(rows)

    @torch.no_grad()
    def maps(self, ids: Tensor) -> Tensor:
        """(layers, sentences, heads, queries, keys)."""
        with record_attention(self.model) as maps:
            self.model(ids)
        return maps.stack()

    @torch.no_grad()
    def vectors(self, ids: Tensor) -> Tensor:
        """Final vectors (sentences, tokens, d_model)."""
        return self.model(ids).last_hidden_state


def place_of(word: str, template: str) -> int:
    """Token position of a word of the template."""
    return template.split().index(word) + 1


def weights_of(
    reader: Reader, relation: Relation, fillings: Sequence[Mapping]
) -> dict[str, Tensor]:
    """`base`, `moved_word`, `moved_place` and `others`, each (sentences, layers, heads)."""

    def weight(maps: Tensor, query: int, key: int) -> Tensor:
        return maps[:, :, :, query, key].transpose(0, 1)  # (sentences, layers, heads)

    maps = reader.maps(reader.ids(relation.base, fillings))
    query, key = (place_of(word, relation.base) for word in (relation.asks, relation.belongs_to))
    words = range(1, maps.shape[-1] - 1)  # without [CLS] and [SEP]
    result = {
        "base": weight(maps, query, key),
        "others": torch.stack([weight(maps, w, key) for w in words if w not in (query, key)]).mean(
            0
        ),
    }
    moved_word, moved_place = [], []
    for template in relation.moved:
        maps = reader.maps(reader.ids(template, fillings))
        asks = place_of(relation.asks, template)
        moved_word.append(weight(maps, asks, place_of(relation.belongs_to, template)))
        moved_place.append(weight(maps, asks, asks + key - query))
    result["moved_word"] = torch.stack(moved_word).mean(0)
    result["moved_place"] = torch.stack(moved_place).mean(0)
    return result


class Movement:
    """How far the asking word's final vector moves when the other word is exchanged."""

    def __init__(self, reader: Reader, relation: Relation, fillings: Sequence[Mapping[str, str]]):
        kind = relation.belongs_to.strip("{}")
        exchanged = [{**words, kind: _next(words, kind)} for words in fillings]
        self.reader = reader
        self.pairs = []
        for template in (relation.base, *relation.moved):
            ids = torch.cat([reader.ids(template, one) for one in (fillings, exchanged)])
            self.pairs.append((ids, place_of(relation.asks, template)))
        self.intact = self._distances()

    def _distances(self) -> Tensor:
        """(templates * sentences,)."""
        distances = []
        for ids, asks in self.pairs:
            before, after = self.reader.vectors(ids)[:, asks].chunk(2)
            distances.append((before - after).norm(dim=-1))
        return torch.cat(distances)

    def effect(self, heads: Mapping[str, Sequence[int]]) -> float:
        """Share of the movement that disappears when the heads are silenced."""
        with ablate_heads(self.reader.model, heads):
            return (1 - self._distances() / self.intact).mean().item()


def _next(words: Mapping[str, str], kind: str) -> str:
    """Another word of the kind, which the sentence does not hold already."""
    choices = WORDS[kind]
    following = choices[(choices.index(words[kind]) + 1) % len(choices)]
    is_taken = following == words[f"{kind}2"]
    return choices[(choices.index(words[kind]) + 2) % len(choices)] if is_taken else following


def kind_of(base: float, moved_word: float, moved_place: float, others: float) -> str:
    """What a head that shows the relation is, by the rules in this module's docstring."""
    if others >= HALF * base:
        return EVERYONE
    if moved_word >= HALF * base and moved_word > moved_place:
        return FOLLOWS
    if moved_place >= HALF * base or moved_place > moved_word:
        return PLACE
    return NEITHER


def layer_name(layer: int) -> str:
    return f"layers.{layer}.attention"


def as_sets(heads: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
    """(layer, head) pairs as `ablate_heads` takes them."""
    sets: dict[str, list[int]] = {}
    for layer, head in heads:
        sets.setdefault(layer_name(layer), []).append(head)
    return sets


def measure_relation(reader: Reader, relation: Relation) -> dict[str, Any]:
    fillings = draw_words(NUM_SENTENCES)
    weights = weights_of(reader, relation, fillings)
    mean = {name: values.mean(0) for name, values in weights.items()}  # (layers, heads)
    movement = Movement(reader, relation, fillings[:NUM_ABLATION_SENTENCES])
    effect = [
        [movement.effect({layer_name(layer): [head]}) for head in range(reader.num_heads)]
        for layer in range(reader.num_layers)
    ]
    shown = [tuple(place) for place in (mean["base"] >= SHOWS).nonzero().tolist()]
    shown.sort(key=lambda place: -mean["base"][place].item())
    heads = []
    for layer, head in shown:
        at = {name: round(values[layer, head].item(), 3) for name, values in mean.items()}
        intervals = {
            name: [round(x, 3) for x in mean_interval(values[:, layer, head].tolist())[1:]]
            for name, values in weights.items()
        }
        kind = kind_of(at["base"], at["moved_word"], at["moved_place"], at["others"])
        heads.append(
            {"layer": layer, "head": head, "kind": kind, **at, "intervals": intervals}
            | {"effect": round(effect[layer][head], 4)}
        )
    return {
        "sentences": {"base": relation.base, "moved": list(relation.moved)},
        "heads": heads,
        "all": {name: _rounded(values.tolist()) for name, values in mean.items()},
        "effect": _rounded(effect),
        "together": {
            "shown": round(movement.effect(as_sets(shown)), 4),
            "random": sorted(
                round(movement.effect(each), 4) for each in random_sets(reader, shown)
            ),
        },
    }


def random_sets(reader: Reader, shown: Sequence[tuple[int, int]]) -> list[dict[str, list[int]]]:
    """Sets of other heads, as many from each layer as the shown ones."""
    generator = random.Random(0)
    sets = []
    for _ in range(NUM_RANDOM_SETS):
        drawn: list[tuple[int, int]] = []
        for layer in sorted({layer for layer, _ in shown}):
            free = [head for head in range(reader.num_heads) if (layer, head) not in shown]
            count = sum(other == layer for other, _ in shown)
            drawn += [(layer, head) for head in generator.sample(free, count)]
        sets.append(as_sets(drawn))
    return sets


def head_distances(reader: Reader) -> list[float]:
    """`distance` of each layer."""
    maps = reader.maps(reader.ids(RELATIONS[0].base, draw_words(NUM_SENTENCES)))
    distances = []
    for layer in maps:  # (sentences, heads, queries, keys)
        gap = (layer[:, :, None] - layer[:, None]).abs().sum(-1).mean((0, -1)) / 2  # (heads, heads)
        first, second = torch.triu_indices(*gap.shape, offset=1)
        distances.append(round(gap[first, second].mean().item(), 3))
    return distances


def _rounded(rows: list[list[float]]) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in rows]


def judge(relations: Mapping[str, Any]) -> Verdict:
    """The verdict by the rules in this module's docstring."""
    follows, strong, parts = [], [], []
    for name, found in relations.items():
        following = [head for head in found["heads"] if head["kind"] == FOLLOWS]
        follows.append(bool(following))
        strong.append(any(head["effect"] > high_effect(found) for head in following))
        kinds = [head["kind"] for head in found["heads"]]
        counts = ", ".join(f"{kind}: {kinds.count(kind)}" for kind in KINDS)
        parts.append(f"{len(kinds)} heads show {name} ({counts})")
    if all(strong):
        result = "reproduced"
    else:
        result = "partly" if any(follows) else "the article is wrong"
    cat, mat = relations["cat-sat"], relations["on-mat"]
    strongest = max(cat["heads"], key=lambda head: head["base"])
    following = ", ".join(
        f"({head['layer']}, {head['head']}) {100 * head['effect']:.0f} %"
        for head in mat["heads"]
        if head["kind"] == FOLLOWS
    )
    together, chance = mat["together"]["shown"], mat["together"]["random"]
    return Verdict(
        result,
        ours="; ".join(parts),
        explanation=(
            "With words between, the weight of the strongest cat-sat head on the subject goes from "
            f"{strongest['base']:.2f} to {strongest['moved_word']:.2f}. Effect of the on-mat heads "
            f"that follow the word: {following or 'there are none'}, where 95 % of all heads stay "
            f"below {100 * high_effect(mat):.0f} %. Silencing all heads that show on-mat removes "
            f"{100 * together:.0f} % of the noun's influence, random heads "
            f"{100 * sum(chance) / len(chance):.0f} % on average."
        ),
        cell="02#Claim-C03,-measured",
    )


def high_effect(found: Mapping[str, Any]) -> float:
    """The effect that 95 % of all heads stay below."""
    return torch.tensor(found["effect"]).flatten().quantile(0.95).item()


@experiment(
    "c03_heads",
    claims=["C03"],
    lesson="02",
    uses=["experiments.intervals", "zoo_lessons.layers.attention", "zoo_lessons.models.bert"],
)
def c03_heads() -> dict[str, Any]:
    reader = Reader()
    relations = {relation.name: measure_relation(reader, relation) for relation in RELATIONS}
    about = {"sentences": NUM_SENTENCES, "ablation_sentences": NUM_ABLATION_SENTENCES}
    figures = {**about, "relations": relations, "distance": head_distances(reader)}
    return {"figures": figures, "verdicts": {"C03": judge(relations)}}
