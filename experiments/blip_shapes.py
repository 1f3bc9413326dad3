"""A BLIP of the shapes world: lesson 13's checkpoint.

Images of 48×48 pixels with one or two shapes, and their canonical captions, which say everything
that a scene says; no two captions of a batch are equal. The three losses train one model. Then a
copy of it learns to answer questions. The model is saved in half precision, loaded again, and
judged on scenes that training did not show, of the same kind (test) and with colours on shapes that
no training image puts together (composition):

- captions: exact match, that is, the written sentence is one of the scene's own captions, in any
  wording (greedy; every colour, shape, size, place and relation must be right);
- retrieval: recall@1 among as many captions as images, by cosine (ITC), and after the best
  `READ` candidates were read closely (ITM). Two scenes that share a caption count as one;
- questions: exact match of the answer, for each level of difficulty, beside the most frequent
  answer to questions of the same kind.

The stem is convolutional, as in lesson 12.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from zoo_lessons.checkpoints import load_trained, save_trained, trained_tokenizer
from zoo_lessons.datasets.shapes import (
    Question,
    Scene,
    ShapesDataset,
    captions,
    distinct_caption_batches,
    pixel_values,
    questions,
)
from zoo_lessons.datasets.shapes.questions import LEVELS
from zoo_lessons.datasets.words import BOS_ID, EOS_ID, PAD_ID, Encoded, encode_batch, word_tokenizer
from zoo_lessons.image_text_losses import (
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
from zoo_lessons.models.vit import ViTConfig
from zoo_lessons.records import experiment
from zoo_lessons.retrieval import first_ranks
from zoo_lessons.training import History, fit, seed_everything

NAME = "blip_shapes"
LOSSES = ("itc", "itm", "lm")
IMAGE, OBJECTS = 48, (1, 2)
TRAINED, JUDGED, SEARCHED, ASKED = 8000, 400, 200, 1000
STEPS, BATCH, RATE, DECAY = 2400, 48, 2e-3, 0.05
ANSWERING = {"steps": 1000, "batch": 64, "rate": 1e-3, "questions": 20_000}
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
    """About 0.3 million parameters. [CLS] and [ENC] follow the tokenizer's own ids."""
    words = tokenizer.get_vocab_size()
    return BlipConfig(
        vision=ViTConfig(
            image_size=IMAGE,
            patch_size=8,
            d_model=64,
            num_layers=3,
            num_heads=4,
            d_ff=128,
            num_labels=0,
            eps=1e-5,
        ),
        stem="convolutions",
        vocab_size=words + 2,
        d_model=64,
        num_layers=2,
        num_heads=4,
        d_ff=128,
        max_length=32,
        embed_dim=64,
        label_smoothing=0.0,
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        sep_token_id=EOS_ID,
        cls_token_id=words,
        enc_token_id=words + 1,
    )


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
    steps: int = STEPS,
    batch: int = BATCH,
    rate: float = RATE,
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
    model = BlipForPreTraining(config(tokenizer)) if start is None else copy.deepcopy(start)
    teacher = None if momentum is None else MomentumModel(model, momentum)
    draw = torch.Generator().manual_seed(seed)

    def loss(model: BlipForPreTraining, batch: Batch) -> Tensor:
        found = pretraining_losses(model, *batch, momentum=teacher, alpha=alpha, generator=draw)
        return sum(getattr(found, name) for name in losses)

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


def share(right: Sequence[bool] | Tensor) -> float:
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


def _with_first(input_ids: Tensor, token: int) -> Tensor:
    return torch.cat([torch.full_like(input_ids[:, :1], token), input_ids[:, 1:]], dim=1)


@experiment(
    NAME,
    lesson="13",
    uses=[
        "zoo_lessons.datasets.shapes.captions",
        "zoo_lessons.datasets.shapes.drawing",
        "zoo_lessons.datasets.shapes.questions",
        "zoo_lessons.datasets.shapes.splits",
        "zoo_lessons.image_text_losses",
        "zoo_lessons.models.blip",
    ],
)
def blip_shapes() -> dict[str, Any]:
    trained = Pictures("train", TRAINED)
    judged = {split: Pictures(split, JUDGED) for split in ("test", "composition")}
    tokenizer = tokenizer_for_shapes()
    model, history = pretrain(trained, trained.texts, tokenizer)
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
        "steps": STEPS,
        "batch": BATCH,
        "answering": ANSWERING,
        "read": READ,
        "judged": JUDGED,
        "curve": [
            round(value, 4)
            for value in torch.tensor(history.loss).view(-1, 100).mean(dim=1).tolist()
        ],
        "temperature": round(float((-model.logit_scale).exp()), 4),
    }
    for split, pictures in judged.items():
        texts = write_captions(model, tokenizer, pictures.pixel_values())
        asked = ask(pictures.scenes, ASKED)
        given = answers(answerer, pictures, asked, tokenizer)
        figures[split] = {
            "captions": share(exact(texts, pictures.scenes)),
            "retrieval": retrieval(model, tokenizer, Pictures(split, SEARCHED, seed=1)),
            "answers": answered(asked, given, taught),
        }
    return {"figures": figures}
