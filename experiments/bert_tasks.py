"""What each of BERT's tasks is good for: 80/10/10, and next-sentence prediction.

Prose takes a million holes before a small model finds its feet (`experiments.bert_prose`), which is
too long for many runs. So the comparison is made where learning takes half a minute: on captions of
the shapes world. A document is all captions of one picture, in random order, so B follows A if both
tell of the same picture. Three ways of pre-training, the same model, steps and seeds:

- "BERT": 80/10/10, and next-sentence prediction on pairs of which half are wrong;
- "always [MASK]": every chosen token becomes [MASK];
- "no next sentence": true pairs only, and no next-sentence loss.

All are judged on held-out pictures:

- `accuracy`: share of the holes filled rightly, all holes [MASK], in true pairs.
- `visible`: share of visible, unhidden words at which the model's first guess is the word itself.
- `slips`: in each pair one word is replaced by another; how often the model gives the true word a
  higher score than the wrong one that it reads.
- `probe`: from the frozen vector of a visible shape word ("circle"), a logistic regression reads
  the shape's colour. Trained on half of the held-out pairs, tested on the other.
- `next_sentence`: accuracy on held-out pairs (without the task, the untrained head guesses).

Nothing here is timed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from experiments.bert_prose import Batch, HeldOut, judge, loss, next_sentence_accuracy, predictions
from zoo_lessons.datasets.masking import IGNORED, SentencePairs, mask_tokens, sentence_pairs
from zoo_lessons.datasets.shapes import COLORS, SHAPES, captions, sample_scene
from zoo_lessons.datasets.words import BOS_ID, EOS_ID, PAD_ID, UNK_ID, word_tokenizer
from zoo_lessons.models.bert import BertConfig, BertForPreTraining
from zoo_lessons.records import experiment
from zoo_lessons.training import fit, seed_everything

BOTH, MASK_ONLY = (0.8, 0.1, 0.1), (1.0, 0.0, 0.0)
# name -> (what becomes of chosen tokens, share of wrong Bs, next-sentence loss)
ARMS = {
    "BERT": (BOTH, 0.5, True),
    "always [MASK]": (MASK_ONLY, 0.5, True),
    "no next sentence": (BOTH, 0.0, False),
}
SEEDS = range(3)
STEPS, BATCH, RATE, LENGTH = 800, 32, 3e-3, 45
PICTURES = {"train": 1500, "test": 300}


class World(NamedTuple):
    """Captions as token ids."""

    words: dict[str, int]
    documents: dict[str, list[list[list[int]]]]
    mask_id: int  # the largest id

    @property
    def vocab_size(self) -> int:
        return self.mask_id + 1

    @property
    def special_ids(self) -> tuple[int, ...]:
        return PAD_ID, BOS_ID, EOS_ID, self.mask_id


def world(pictures: dict[str, int] = PICTURES) -> World:
    """The captions of so many pictures of two shapes; [BOS] and [EOS] serve as [CLS] and [SEP]."""
    texts: dict[str, list[list[str]]] = {}
    for split, count in pictures.items():
        texts[split] = []
        rng = np.random.default_rng(len(texts))
        for _ in range(count):
            scene = sample_scene(rng, split, num_objects=(2,))
            lines = [caption.english for caption in captions(scene)]
            order = rng.permutation(len(lines))
            texts[split].append([lines[i] for i in order])
    tokenizer = word_tokenizer(line for lines in texts["train"] for line in lines)
    documents = {
        split: [[tokenizer.encode(line).ids for line in lines] for lines in every]
        for split, every in texts.items()
    }
    return World(tokenizer.get_vocab(), documents, tokenizer.get_vocab_size())


def pairs_of(data: World, split: str, seed: int, random_share: float) -> SentencePairs:
    return sentence_pairs(
        data.documents[split],
        length=LENGTH,
        cls_token_id=BOS_ID,
        sep_token_id=EOS_ID,
        pad_token_id=PAD_ID,
        random_share=random_share,
        generator=torch.Generator().manual_seed(seed),
    )


def hide(data: World, input_ids: Tensor, generator: torch.Generator, shares: tuple) -> Any:
    return mask_tokens(
        input_ids,
        vocab_size=data.vocab_size,
        mask_token_id=data.mask_id,
        special_ids=data.special_ids,
        shares=shares,
        generator=generator,
    )


def train(data: World, arm: str, seed: int, *, steps: int = STEPS) -> BertForPreTraining:
    """A model pre-trained in one of the three ways."""
    shares, random_share, next_sentence = ARMS[arm]
    seed_everything(seed)
    model = BertForPreTraining(
        BertConfig(
            vocab_size=data.vocab_size,
            d_model=64,
            num_layers=2,
            num_heads=4,
            d_ff=256,
            max_length=LENGTH,
            dropout=0.0,
        )
    )
    pairs = pairs_of(data, "train", seed, random_share)
    generator = torch.Generator().manual_seed(seed)

    def batch(step: int) -> Batch:
        rows = pairs.rows(torch.randint(len(pairs.input_ids), (BATCH,), generator=generator))
        masked = hide(data, rows.input_ids, generator, shares)
        return Batch(
            masked.input_ids,
            rows.attention_mask,
            rows.token_type_ids,
            masked.labels,
            rows.next_sentence_label,
        )

    fit(
        model,
        batch,
        lambda model, batch: loss(model, batch, next_sentence=next_sentence),
        steps=steps,
        lr=RATE,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    return model.eval()


# --- judging -------------------------------------------------------------------------------------


@torch.no_grad()
def scores(model: BertForPreTraining, pairs: SentencePairs) -> tuple[Tensor, Tensor]:
    """Word scores (pairs, length, vocab_size) and vectors (pairs, length, d_model)."""
    vectors = model.bert(
        pairs.input_ids, pairs.attention_mask, pairs.token_type_ids
    ).last_hidden_state
    return model.predictions(vectors), vectors


def measure(data: World, model: BertForPreTraining) -> dict[str, float]:
    """The five figures of the docstring."""
    pairs = pairs_of(data, "test", 7, 0.0).rows(slice(600))
    ids = pairs.input_ids
    generator = torch.Generator().manual_seed(7)
    masked = hide(data, ids, generator, MASK_ONLY)
    holes = masked.labels != IGNORED
    test = HeldOut(masked.input_ids, pairs.attention_mask, pairs.token_type_ids, holes, ids[holes])
    guesses, vectors = scores(model, pairs)
    ordinary = ~torch.isin(ids, torch.tensor(data.special_ids))
    figures = {
        "accuracy": judge(predictions(model, test), test.answers)["accuracy"],
        "visible": _share((guesses.argmax(-1) == ids)[ordinary]),
        "slips": _slips(data, model, pairs, ordinary, generator),
        "probe": _probe(data, ids, vectors),
        "next_sentence": next_sentence_accuracy(model, pairs_of(data, "test", 8, 0.5)),
    }
    return {name: round(value, 4) for name, value in figures.items()}


def _share(right: Tensor) -> float:
    return right.double().mean().item()


def _slips(
    data: World,
    model: BertForPreTraining,
    pairs: SentencePairs,
    ordinary: Tensor,
    generator: torch.Generator,
) -> float:
    rows = torch.arange(len(pairs.input_ids))
    places = torch.multinomial(ordinary.float(), 1, generator=generator)[:, 0]
    true = pairs.input_ids[rows, places]
    # A step of 1 to n - 1 in the circle of the n ordinary words never comes back to the same word.
    first, count = UNK_ID + 1, data.mask_id - UNK_ID - 1
    steps = torch.randint(1, count, (len(rows),), generator=generator)
    wrong = (true - first + steps) % count + first
    read = pairs.input_ids.clone()
    read[rows, places] = wrong
    guesses, _ = scores(model, pairs._replace(input_ids=read))
    return _share(guesses[rows, places, true] > guesses[rows, places, wrong])


def _probe(data: World, ids: Tensor, vectors: Tensor) -> float:
    """Accuracy of reading a shape's colour, the word before it, from the shape word's vector."""
    shapes = torch.tensor([data.words[name] for name in SHAPES if name in data.words])
    colours = torch.tensor([data.words[name] for name in COLORS if name in data.words])
    before = ids.roll(1, dims=1)
    found = torch.isin(ids, shapes) & torch.isin(before, colours)
    half = len(ids) // 2
    x, y = vectors.numpy(), before.numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe.fit(x[:half][found[:half]], y[:half][found[:half]])
    return float(probe.score(x[half:][found[half:]], y[half:][found[half:]]))


@experiment(
    "bert_tasks",
    lesson="07",
    uses=[
        "experiments.bert_prose",
        "zoo_lessons.datasets.masking",
        "zoo_lessons.datasets.shapes.captions",
        "zoo_lessons.datasets.shapes.scenes",
        "zoo_lessons.datasets.shapes.splits",
        "zoo_lessons.datasets.words",
        "zoo_lessons.models.bert",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.random_state",
    ],
)
def bert_tasks() -> dict[str, Any]:
    data = world()
    figures = {arm: [measure(data, train(data, arm, seed)) for seed in SEEDS] for arm in ARMS}
    about = {
        "seeds": len(SEEDS),
        "steps": STEPS,
        "vocabulary": data.vocab_size,
        "pictures": PICTURES,
        "chance": {"probe": 1 / len(COLORS), "next_sentence": 0.5},
    }
    return {"figures": {**about, "arms": figures}}
