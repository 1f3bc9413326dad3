"""A BLIP of the shapes world: lesson 13's checkpoint.

Images of 48×48 pixels with one or two shapes, and their canonical captions, which say everything
that a scene says; no two captions of a batch are equal. The published BLIP starts from a trained
ViT and a trained BERT. This one starts from nothing, in two stages:

1. ITC and LM. ITM waits: it learns from pairs that ITC finds hard, and ITC finds none at first.
2. All three losses.

Then a copy of the model learns to answer questions. The models are saved in half precision, loaded
again, and judged on scenes that training did not show, of the same kind (test) and with colours on
shapes that no training image puts together (composition):

- captions: exact match, that is, the written sentence is one of the scene's own captions, in any
  wording (greedy; every colour, shape, size, place and relation must be right). Also which kinds of
  words are right, and how often;
- retrieval: recall@1 among as many captions as images, by cosine (ITC), and after the best
  `READ` candidates were read closely (ITM). Two scenes that share a caption count as one;
- questions: exact match of the answer, for each level of difficulty, beside the most frequent
  answer to questions of the same kind.

What made it learn, tried on validation scenes:

- the start of the weights. BERT's normal distribution with a standard deviation of 0.02 suits a
  width of 768. At a width of 64, cross-attention then adds next to nothing to a token, and learns
  slowly: 600 steps of LM got 31 % of the colours right in scenes of two shapes. From Xavier's
  distribution, as the zoo's ViT, it was 99 %;
- what comes last are the shapes. Wider tokens of 8×8 pixels paid more than finer ones of 4×4, for
  the same time.

The stem is convolutional, as in lesson 12.

Nothing here is timed: the figures are the same on every run of one machine. It takes about ten
minutes of one core.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from zoo_lessons.checkpoints import load_trained, save_trained, trained_tokenizer
from zoo_lessons.datasets.shapes import (
    COLORS,
    SHAPES,
    SIZES,
    Question,
    Scene,
    ShapesDataset,
    canonical_caption,
    captions,
    distinct_caption_batches,
    pixel_values,
    questions,
)
from zoo_lessons.datasets.shapes.questions import LEVELS
from zoo_lessons.datasets.words import BOS_ID, EOS_ID, PAD_ID, Encoded, encode_batch, word_tokenizer
from zoo_lessons.image_text_losses import (
    LOSSES,
    MomentumModel,
    caption_labels,
    pretraining_losses,
)
from zoo_lessons.models.blip import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForPreTraining,
    BlipForQuestionAnswering,
)
from zoo_lessons.models.vit import ViTConfig, initialise
from zoo_lessons.records import experiment
from zoo_lessons.retrieval import first_ranks
from zoo_lessons.training import History, fit, seed_everything

NAME = "blip_shapes"
IMAGE, OBJECTS = 48, (1, 2)
TRAINED, JUDGED, SEARCHED, ASKED = 20_000, 400, 200, 1000
BATCH, DECAY = 48, 0.05
STAGES = (
    {"losses": ("itc", "lm"), "steps": 1600, "rate": 2e-3},
    {"losses": LOSSES, "steps": 1000, "rate": 1e-3},
)
ANSWERING = {"steps": 1000, "batch": 64, "rate": 1e-3, "questions": 40_000}
READ = 16  # candidates of a search that ITM reads closely
LONGEST = 24  # tokens of a caption, at most


def tokenizer_for_shapes() -> Tokenizer:
    """Every word of captions, questions and answers: the same whatever is trained on."""
    texts: list[str] = []
    for scene in ShapesDataset("train", 2000, image_size=24, num_objects=(1, 2, 3)).scenes:
        texts += [caption.english for caption in captions(scene)]
        texts += [f"{question.text} {question.answer}" for question in questions(scene)]
    return word_tokenizer(texts)


def config(tokenizer: Tokenizer) -> BlipConfig:
    """About 0.6 million parameters. [CLS] and [ENC] follow the tokenizer's own ids."""
    words = tokenizer.get_vocab_size()
    return BlipConfig(
        vision=ViTConfig(
            image_size=IMAGE,
            patch_size=8,
            d_model=96,
            num_layers=3,
            num_heads=4,
            d_ff=192,
            num_labels=0,
            eps=1e-5,
        ),
        stem="convolutions",
        vocab_size=words + 2,
        d_model=96,
        num_layers=2,
        num_heads=4,
        d_ff=192,
        max_length=32,
        embed_dim=64,
        label_smoothing=0.0,
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        sep_token_id=EOS_ID,
        cls_token_id=words,
        enc_token_id=words + 1,
    )


def new_model(tokenizer: Tokenizer) -> BlipForPreTraining:
    """A model whose start suits its width: see the description above."""
    model = BlipForPreTraining(config(tokenizer))
    for part in (model.text_encoder, model.text_decoder):
        part.apply(initialise)
    nn.init.normal_(model.vision_model.embeddings.positions, std=model.config.d_model**-0.5)
    return model


class Pictures:
    """Images of one split, as bytes, with their scenes and canonical captions."""

    def __init__(
        self, split: str, size: int, *, num_objects: tuple[int, ...] = OBJECTS, seed: int = 0
    ) -> None:
        data = ShapesDataset(split, size, image_size=IMAGE, num_objects=num_objects, seed=seed)
        self.images = np.stack([data.image(index) for index in range(size)])
        self.scenes, self.captions = data.scenes, data.captions
        self.texts = [caption.english for caption in data.captions]

    def pixel_values(self, rows: Sequence[int] | None = None) -> Tensor:
        """float32 (images, 3, IMAGE, IMAGE) in [-1, 1]."""
        return pixel_values(self.images if rows is None else self.images[list(rows)])


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Encoded:
    """`[BOS] words [EOS]`, padded."""
    return encode_batch(tokenizer, list(texts), add_bos=True, add_eos=True)


Batch = tuple[Tensor, Tensor, Tensor]  # pixel_values, input_ids, attention_mask


def batches(
    pictures: Pictures, texts: Sequence[str], tokenizer: Tokenizer, *, seed: int, batch: int = BATCH
) -> Iterator[Batch]:
    """Random pairs of an image and its text, no two texts of a batch equal, for ever."""
    encoded, epoch = encode(tokenizer, texts), 0
    while True:
        for rows in distinct_caption_batches(texts, batch, seed=1000 * seed + epoch):
            longest = int(encoded.attention_mask[rows].sum(dim=1).max())
            yield (
                pictures.pixel_values(rows),
                encoded.input_ids[rows, :longest],
                encoded.attention_mask[rows, :longest],
            )
        epoch += 1


def pretrain(
    pictures: Pictures,
    texts: Sequence[str],
    tokenizer: Tokenizer,
    *,
    losses: Sequence[str] = LOSSES,
    steps: int,
    batch: int = BATCH,
    rate: float = 2e-3,
    seed: int = 0,
    momentum: float | None = None,
    alpha: float = 0.4,
    start: BlipForPreTraining | None = None,
) -> tuple[BlipForPreTraining, History]:
    """A model trained with the given losses, on images and the texts that stand beside them.

    Args:
        momentum: of the teacher of ITC's soft targets; None trains on hard targets.
        alpha: the teacher's share in them.
        start: goes on from a copy of this model.
    """
    seed_everything(seed)
    model = new_model(tokenizer) if start is None else copy.deepcopy(start)
    teacher = None if momentum is None else MomentumModel(model, momentum)
    draw = torch.Generator().manual_seed(seed)

    def loss(model: BlipForPreTraining, batch: Batch) -> Tensor:
        return pretraining_losses(
            model, *batch, losses=losses, momentum=teacher, alpha=alpha, generator=draw
        ).total

    history = fit(
        model,
        batches(pictures, texts, tokenizer, seed=seed, batch=batch),
        loss,
        steps=steps,
        lr=rate,
        weight_decay=DECAY,
        schedule="warmup_cosine",
        on_step=None if teacher is None else lambda _record: teacher.update(model),
        device="cpu",
        progress=False,
    )
    return model.eval(), history


# --- captions ---


def words_of(tokenizer: Tokenizer, ids: Tensor) -> list[str]:
    """Texts of ids (batch, length), without what is no word."""
    words = tokenizer.get_vocab_size()
    return tokenizer.decode_batch([[i for i in row if i < words] for row in ids.tolist()])


def write_captions(
    model: BlipForPreTraining | BlipForConditionalGeneration,
    tokenizer: Tokenizer,
    images: Tensor,
    *,
    at_once: int = 100,
    **options: Any,
) -> list[str]:
    """A caption for each image (images, 3, IMAGE, IMAGE), greedily or as `options` say."""
    if isinstance(model, BlipForPreTraining):
        model = BlipForConditionalGeneration.from_pretraining(model)
    model.eval()
    texts = []
    for some in images.split(at_once):
        texts += words_of(tokenizer, model.generate(some, max_new_tokens=LONGEST, **options))
    return texts


def exact(texts: Sequence[str], scenes: Sequence[Scene]) -> list[bool]:
    """Whether each text is one of its scene's captions, in any wording."""
    return [
        text in {caption.english for caption in captions(scene)}
        for text, scene in zip(texts, scenes, strict=True)
    ]


def words_right(texts: Sequence[str], scenes: Sequence[Scene]) -> dict[str, float]:
    """How often a text has all colours, shapes and sizes of the canonical caption, in its order;
    and all its other words: the place or the relation."""
    kinds = {"colour": COLORS, "shape": SHAPES, "size": SIZES}
    named = {word: kind for kind, words in kinds.items() for word in words}
    right: dict[str, list[bool]] = {kind: [] for kind in (*kinds, "place or relation")}
    for text, scene in zip(texts, scenes, strict=True):
        truth = canonical_caption(scene).english
        for kind, found in right.items():
            mine, true = (
                [word for word in each.split() if named.get(word, "place or relation") == kind]
                for each in (text, truth)
            )
            found.append(_articles(mine) == _articles(true))
    return {kind: share(found) for kind, found in right.items()}


def _articles(words: list[str]) -> list[str]:
    """Without "a" and "an", which follow from the next word."""
    return [word for word in words if word not in ("a", "an")]


def share(right: Sequence[bool] | Tensor | np.ndarray) -> float:
    return round(float(np.mean(np.asarray(right, dtype=float))), 4)


# --- retrieval ---


@torch.no_grad()
def cosines(model: BlipForPreTraining, images: Tensor, encoded: Encoded) -> Tensor:
    """(images, texts)."""
    seen = model.image_features(model.encode_image(images))
    return seen @ model.text_features(encoded.input_ids, encoded.attention_mask).T


@torch.no_grad()
def match_scores(model: BlipForPreTraining, images: Tensor, encoded: Encoded) -> Tensor:
    """Log-odds that text i matches image i, (pairs,)."""
    scores = []
    for some, ids, mask in zip(
        images.split(200),
        encoded.input_ids.split(200),
        encoded.attention_mask.split(200),
        strict=True,
    ):
        logits = model.match(ids, mask, model.encode_image(some))
        scores.append(logits[:, 1] - logits[:, 0])
    return torch.cat(scores)


@torch.no_grad()
def reranked(
    model: BlipForPreTraining, images: Tensor, encoded: Encoded, scores: Tensor, k: int = READ
) -> Tensor:
    """Scores (images, texts) in whose order the k best texts of each image stand by their match."""
    found = scores.clone()
    for row, image in enumerate(model.encode_image(images)):
        best = scores[row].topk(min(k, scores.shape[1])).indices
        logits = model.match(
            encoded.input_ids[best],
            encoded.attention_mask[best],
            image.expand(len(best), -1, -1),
        )
        # Cosines are at most 1: what was read closely stays in front of what was not.
        found[row, best] = 2 + (logits[:, 1] - logits[:, 0]).sigmoid()
    return found


def retrieval(
    model: BlipForPreTraining, tokenizer: Tokenizer, pictures: Pictures
) -> dict[str, float]:
    """Recall@1 of the caption for each image: by ITC alone, and with ITM's second look."""
    encoded, images = encode(tokenizer, pictures.texts), pictures.pixel_values()
    by_cosine = cosines(model, images, encoded)
    right = [
        [j for j, other in enumerate(pictures.texts) if other == text] for text in pictures.texts
    ]
    found = {}
    for name, scores in (
        ("ITC", by_cosine),
        ("ITC, then ITM", reranked(model, images, encoded, by_cosine)),
    ):
        ranks = torch.tensor(first_ranks(scores, right))
        found[name] = share(ranks <= 1)
        if name == "ITC":
            found["among the best"] = share(ranks <= READ)
    return found


# --- questions ---


Asked = list[tuple[int, Question]]  # row of the image, and what is asked about it


def ask(scenes: Sequence[Scene], count: int, *, seed: int = 0) -> Asked:
    """Random questions, each kind as often as it can be: (row of the scene, question)."""
    rng = np.random.default_rng(seed)
    by_kind: dict[str, Asked] = {kind: [] for kind in LEVELS}
    for row in rng.permutation(len(scenes)):
        for question in questions(scenes[row]):
            by_kind[question.kind].append((int(row), question))
    found: Asked = []
    for kind in LEVELS:
        pool = by_kind[kind]
        wanted = min(len(pool), -(-count // len(LEVELS)))
        found += [pool[index] for index in rng.permutation(len(pool))[:wanted]]
    return [found[index] for index in rng.permutation(len(found))[:count]]


def teach_answers(
    model: BlipForPreTraining,
    pictures: Pictures,
    asked: Asked,
    tokenizer: Tokenizer,
    *,
    steps: int = ANSWERING["steps"],
    batch: int = ANSWERING["batch"],
    seed: int = 0,
) -> BlipForQuestionAnswering:
    """A copy of the model that answers questions."""
    seed_everything(seed)
    answerer = BlipForQuestionAnswering.from_pretraining(model)
    rows = torch.tensor([row for row, _ in asked])
    question = encode(tokenizer, [each.text for _, each in asked])
    answer = encode(tokenizer, [each.answer for _, each in asked])
    ids = _with_first(question.input_ids, model.config.enc_token_id)
    draw = torch.Generator().manual_seed(seed)

    def some(_step: int) -> dict[str, Tensor]:
        chosen = torch.randint(len(rows), (batch,), generator=draw)
        return {
            "pixel_values": pictures.pixel_values(rows[chosen].tolist()),
            "input_ids": ids[chosen],
            "attention_mask": question.attention_mask[chosen],
            "decoder_input_ids": answer.input_ids[chosen],
            "decoder_attention_mask": answer.attention_mask[chosen],
            "labels": caption_labels(answer.input_ids[chosen], answer.attention_mask[chosen]),
        }

    fit(
        answerer,
        some,
        lambda model, batch: model(**batch).loss,
        steps=steps,
        lr=ANSWERING["rate"],
        weight_decay=DECAY,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    return answerer.eval()


def answers(
    model: BlipForQuestionAnswering, pictures: Pictures, asked: Asked, tokenizer: Tokenizer
) -> list[str]:
    """What the model answers to each question."""
    found = []
    for start in range(0, len(asked), 200):
        some = asked[start : start + 200]
        question = encode(tokenizer, [each.text for _, each in some])
        ids = model.generate(
            _with_first(question.input_ids, model.config.enc_token_id),
            pictures.pixel_values([row for row, _ in some]),
            question.attention_mask,
            max_new_tokens=4,
        )
        found += words_of(tokenizer, ids)
    return found


def answered(asked: Asked, given: Sequence[str], trained: Asked) -> dict[str, dict[str, float]]:
    """{level: {"right", "most frequent answer", "questions"}}."""
    common = {
        kind: Counter(each.answer for _, each in trained if each.kind == kind).most_common(1)
        for kind in LEVELS
    }
    found = {}
    for level in dict.fromkeys(LEVELS.values()):
        rows = [i for i, (_, each) in enumerate(asked) if each.level == level]
        if rows:
            found[level] = {
                "right": share([given[i] == asked[i][1].answer for i in rows]),
                "most frequent answer": share(
                    [
                        [asked[i][1].answer] == [text for text, _ in common[asked[i][1].kind]]
                        for i in rows
                    ]
                ),
                "questions": len(rows),
            }
    return found


def smoothed(loss: Sequence[float], every: int = 100) -> list[float]:
    """The mean of each hundred steps."""
    return [round(value, 4) for value in torch.tensor(loss).view(-1, every).mean(dim=1).tolist()]


def _with_first(input_ids: Tensor, token: int) -> Tensor:
    return torch.cat([torch.full_like(input_ids[:, :1], token), input_ids[:, 1:]], dim=1)


@experiment(
    NAME,
    lesson="13",
    uses=[
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.shapes.captions",
        "zoo_lessons.datasets.shapes.dataset",
        "zoo_lessons.datasets.shapes.drawing",
        "zoo_lessons.datasets.shapes.questions",
        "zoo_lessons.datasets.shapes.scenes",
        "zoo_lessons.datasets.shapes.splits",
        "zoo_lessons.datasets.words",
        "zoo_lessons.image_text_losses",
        "zoo_lessons.models.blip",
        "zoo_lessons.models.vit",
        "zoo_lessons.retrieval",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.history",
        "zoo_lessons.training.random_state",
    ],
)
def blip_shapes() -> dict[str, Any]:
    trained = Pictures("train", TRAINED)
    judged = {split: Pictures(split, JUDGED) for split in ("test", "composition")}
    tokenizer = tokenizer_for_shapes()
    model, curves = None, {}
    for seed, stage in enumerate(STAGES):
        model, history = pretrain(
            trained, trained.texts, tokenizer, seed=seed, start=model, **stage
        )
        curves[" + ".join(stage["losses"])] = smoothed(history.loss)
    saved = save_trained(NAME, model, tokenizer)
    model, tokenizer = load_trained(NAME), trained_tokenizer(NAME)

    taught = ask(trained.scenes, ANSWERING["questions"])
    answerer = teach_answers(model, trained, taught, tokenizer)
    answer_sheet = save_trained(f"{NAME}_answers", answerer)
    answerer = load_trained(f"{NAME}_answers")

    figures: dict[str, Any] = {
        "checkpoint": saved,
        "checkpoint_answers": answer_sheet,
        "parameters": sum(p.numel() for p in model.parameters()),
        "images": TRAINED,
        "stages": list(STAGES),
        "batch": BATCH,
        "answering": ANSWERING,
        "read": READ,
        "judged": JUDGED,
        "searched": SEARCHED,
        "curve": curves,
        "temperature": round(float((-model.logit_scale).exp()), 4),
    }
    for split, pictures in judged.items():
        texts = write_captions(model, tokenizer, pictures.pixel_values())
        asked = ask(pictures.scenes, ASKED)
        given = answers(answerer, pictures, asked, tokenizer)
        told = exact(texts, pictures.scenes)
        alone = [len(scene.objects) == 1 for scene in pictures.scenes]
        figures[split] = {
            "captions": share(told),
            "captions of one shape": share(np.array(told)[alone]),
            "captions of two shapes": share(np.array(told)[np.logical_not(alone)]),
            "words": words_right(texts, pictures.scenes),
            "retrieval": retrieval(model, tokenizer, Pictures(split, SEARCHED, seed=1)),
            "answers": answered(asked, given, taught),
        }
    return {"figures": figures}
