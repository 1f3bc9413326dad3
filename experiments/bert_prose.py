"""A small BERT, pre-trained on the prose of the Python documentation: lesson 07's checkpoint.

BERT's architecture and both of its tasks: 15 % of the tokens masked by the 80/10/10 rule, and
next-sentence prediction. The text is `datasets.prose`, all of it, in a WordPiece vocabulary trained
on the same text. The checkpoint is saved in half precision, loaded again, and judged on held-out
documents, which share no ten consecutive words with the training text.

**Masked tokens.** Fixed holes in the true pairs of the held-out documents: 15 % of the tokens, all
replaced by [MASK]. Perplexity and accuracy stand beside those of three counts from the training
text, at the same holes: the unigram, the bigram (left neighbour) and the two-sided bigram (both
neighbours). Neighbours that are holes themselves are hidden from the counts too.

**Next sentence.** Accuracy on held-out pairs, half of them with a B from another document. The
baseline counts the distinct words that A and B share, each weighted by its rarity, and calls B the
next sentence above a threshold chosen on the training pairs.

**Parts of the input.** The held-out loss again, with positions or segments taken away from the
trained model: every row of the table replaced by the mean of its rows.

One choice is not the paper's: the output bias starts at the logarithm of each token's frequency, so
that no training time goes into learning it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.checkpoints import load_trained, save_trained
from zoo_lessons.datasets.masking import (
    IGNORED,
    IS_NEXT,
    MaskedTokens,
    SentencePairs,
    mask_tokens,
    sentence_pairs,
)
from zoo_lessons.datasets.ngrams import TwoSidedBigram
from zoo_lessons.datasets.prose import documents, sentences
from zoo_lessons.datasets.subwords import CLS_ID, MASK_ID, PAD_ID, SEP_ID, train_wordpiece
from zoo_lessons.models.bert import BertConfig, BertForPreTraining
from zoo_lessons.records import experiment
from zoo_lessons.training import History, fit, seed_everything
from zoo_lessons.training.schedules import warmup_linear

NAME = "bert_prose"
VOCABULARY, LENGTH = 2000, 64
BATCH, STEPS, WARMUP, RATE = 32, 9000, 300, 3e-3
SPECIAL_IDS = (PAD_ID, CLS_ID, SEP_ID, MASK_ID)
EVALUATED = 600  # held-out pairs, for each task

Documents = Sequence[Sequence[Sequence[int]]]  # documents of sentences of token ids


class Batch(NamedTuple):
    """One step's input. All int64; the first four (batch, length), the last (batch,)."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    labels: Tensor
    next_sentence_label: Tensor


def config(vocab_size: int = VOCABULARY, **sizes: int) -> BertConfig:
    """BERT in small. Its dropout is 0: the run is too short to overfit."""
    return BertConfig(
        vocab_size=vocab_size,
        max_length=LENGTH,
        dropout=0.0,
        **{"d_model": 64, "num_layers": 2, "num_heads": 4, "d_ff": 256, **sizes},
    )


def tokenised(tokenizer: Tokenizer, split: str) -> list[list[list[int]]]:
    """The documents of a split, as sentences of token ids."""
    result = []
    for document in documents("all", split):
        texts = [text for paragraph in document.paragraphs for text in sentences(paragraph)]
        encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
        result.append([encoding.ids for encoding in encoded])
    return result


def make_pairs(
    texts: Documents, seed: int, *, length: int = LENGTH, random_share: float = 0.5
) -> SentencePairs:
    """One epoch of pairs."""
    return sentence_pairs(
        texts,
        length=length,
        cls_token_id=CLS_ID,
        sep_token_id=SEP_ID,
        pad_token_id=PAD_ID,
        random_share=random_share,
        generator=torch.Generator().manual_seed(seed),
    )


def hide(
    input_ids: Tensor,
    vocab_size: int,
    generator: torch.Generator,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> MaskedTokens:
    """`mask_tokens` at BERT's rate, with the special tokens of this vocabulary."""
    return mask_tokens(
        input_ids,
        vocab_size=vocab_size,
        mask_token_id=MASK_ID,
        special_ids=SPECIAL_IDS,
        shares=shares,
        generator=generator,
    )


def batches(
    texts: Documents,
    vocab_size: int,
    *,
    seed: int = 0,
    batch_size: int = BATCH,
    length: int = LENGTH,
    random_share: float = 0.5,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> Callable[[int], Batch]:
    """A function from the step to its batch, to be called with 0, 1, 2 ...

    Each epoch has new pairs, and each step new holes.
    """
    generator = torch.Generator().manual_seed(seed)
    epoch = iter(())

    def one_epoch(number: int):
        pairs = make_pairs(texts, 1000 * seed + number, length=length, random_share=random_share)
        for rows in torch.arange(len(pairs.input_ids)).split(batch_size)[:-1]:
            yield pairs.rows(rows)

    count = 0

    def batch(step: int) -> Batch:
        nonlocal epoch, count
        pairs = next(epoch, None)
        if pairs is None:
            epoch, count = one_epoch(count), count + 1
            pairs = next(epoch)
        input_ids, labels = hide(pairs.input_ids, vocab_size, generator, shares)
        return Batch(
            input_ids, pairs.attention_mask, pairs.token_type_ids, labels, pairs.next_sentence_label
        )

    return batch


def loss(model: BertForPreTraining, batch: Batch, *, next_sentence: bool = True) -> Tensor:
    """Mean loss of the masked tokens, plus that of the next sentence (appendix A.2).

    The word scores are computed where they are needed only: at one token in seven.
    """
    encoded = model.bert(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    chosen = batch.labels != IGNORED
    scores = model.predictions(encoded.last_hidden_state[chosen])  # (chosen, vocab_size)
    masked = F.cross_entropy(scores, batch.labels[chosen])
    if not next_sentence:
        return masked
    relation = model.seq_relationship(encoded.pooler_output)  # (batch, 2)
    return masked + F.cross_entropy(relation, batch.next_sentence_label)


def log_frequencies(texts: Documents, vocab_size: int) -> Tensor:
    """The logarithm of each token's share of the text, one added to each count: (vocab_size,)."""
    ids = torch.tensor([token for text in texts for sentence in text for token in sentence])
    counts = torch.bincount(ids, minlength=vocab_size) + 1.0
    return (counts / counts.sum()).log()


def start(config: BertConfig, bias: Tensor, seed: int = 0) -> BertForPreTraining:
    """An untrained model that knows how often each token occurs, and nothing else."""
    seed_everything(seed)
    model = BertForPreTraining(config)
    with torch.no_grad():
        model.predictions.decoder.bias.copy_(bias)
    return model


def pretrain(
    model: BertForPreTraining,
    batch: Callable[[int], Batch],
    *,
    steps: int = STEPS,
    next_sentence: bool = True,
    progress: bool = False,
) -> History:
    """Train in place, with a linear warm-up and decay as in the paper (appendix A.2)."""
    return fit(
        model,
        batch,
        partial(loss, next_sentence=next_sentence),
        steps=steps,
        lr=RATE,
        schedule=partial(
            warmup_linear, warmup_steps=max(1, WARMUP * steps // STEPS), total_steps=steps
        ),
        device="cpu",
        progress=progress,
    )


# --- judging -------------------------------------------------------------------------------------


class HeldOut(NamedTuple):
    """True pairs with fixed holes. int64 and Boolean (pairs, length)."""

    input_ids: Tensor  # [MASK] at every hole
    attention_mask: Tensor
    token_type_ids: Tensor
    holes: Tensor  # Boolean
    answers: Tensor  # (holes,)


def held_out(texts: Documents, vocab_size: int, *, length: int = LENGTH) -> HeldOut:
    """At most `EVALUATED` pairs of the held-out documents."""
    pairs = make_pairs(texts, 7, length=length, random_share=0.0).rows(slice(EVALUATED))
    generator = torch.Generator().manual_seed(7)
    masked = hide(pairs.input_ids, vocab_size, generator, shares=(1.0, 0.0, 0.0))
    holes = masked.labels != IGNORED
    return HeldOut(
        masked.input_ids,
        pairs.attention_mask,
        pairs.token_type_ids,
        holes,
        pairs.input_ids[holes],
    )


def judge(log_probabilities: Tensor, answers: Tensor) -> dict[str, float]:
    """Perplexity and accuracy of predictions (holes, vocab_size) for the true tokens (holes,)."""
    own = log_probabilities.gather(1, answers[:, None]).double()
    return {
        "perplexity": round((-own.mean()).exp().item(), 3),
        "accuracy": round((log_probabilities.argmax(1) == answers).double().mean().item(), 4),
    }


@torch.no_grad()
def predictions(model: BertForPreTraining, data: HeldOut) -> Tensor:
    """Log-probabilities (holes, vocab_size) of the words at the holes."""
    rows = []
    for part in torch.arange(len(data.input_ids)).split(100):
        hidden = model.bert(
            data.input_ids[part], data.attention_mask[part], data.token_type_ids[part]
        ).last_hidden_state
        rows.append(model.predictions(hidden[data.holes[part]]).log_softmax(-1))
    return torch.cat(rows)


def counts(train: Documents, validation: Documents, data: HeldOut) -> dict[str, dict[str, float]]:
    """The three baselines at the same holes."""
    rows = {}
    for name, texts in {"train": train, "validation": validation}.items():
        pairs = make_pairs(texts, 0, random_share=0.0)
        lengths = pairs.attention_mask.sum(1).tolist()
        rows[name] = [r[:n] for r, n in zip(pairs.input_ids.tolist(), lengths, strict=True)]
    model = TwoSidedBigram(VOCABULARY).fit(rows["train"], rows["validation"])
    unigram = model.log_probabilities(None, None).float().expand(len(data.answers), -1)
    left = []
    for row, place in data.holes.nonzero().tolist():
        neighbour = data.input_ids[row, place - 1].item()  # [CLS] stands before the first
        left.append(model.log_probabilities(None if neighbour == MASK_ID else neighbour, None))
    return {
        "unigram": judge(unigram, data.answers),
        "bigram": judge(torch.stack(left).float(), data.answers),
        "two-sided bigram": judge(
            model.masked_log_probabilities(data.input_ids, data.holes), data.answers
        ),
    }


@torch.no_grad()
def next_sentence_accuracy(model: BertForPreTraining, pairs: SentencePairs) -> float:
    """Share of the pairs that the model labels rightly."""
    right = []
    for part in torch.arange(len(pairs.input_ids)).split(100):
        batch = pairs.rows(part)
        encoded = model.bert(batch.input_ids, batch.attention_mask, batch.token_type_ids)
        logits = model.seq_relationship(encoded.pooler_output)
        right.append(logits.argmax(1) == batch.next_sentence_label)
    return round(torch.cat(right).double().mean().item(), 4)


def overlap(pairs: SentencePairs, rarity: Tensor) -> Tensor:
    """Summed rarity of the distinct tokens that A and B share: (pairs,)."""
    found = []
    special = set(SPECIAL_IDS)
    for ids, segments, visible in zip(
        pairs.input_ids.tolist(),
        pairs.token_type_ids.tolist(),
        pairs.attention_mask.sum(1).tolist(),
        strict=True,
    ):
        middle = segments.index(1)
        shared = (set(ids[:middle]) & set(ids[middle:visible])) - special
        found.append(sum(rarity[token].item() for token in shared))
    return torch.tensor(found)


def overlap_accuracy(train: SentencePairs, test: SentencePairs, rarity: Tensor) -> float:
    """Accuracy of "B follows A if they share enough", with the best threshold for `train`."""
    scores, is_next = overlap(train, rarity), train.next_sentence_label == IS_NEXT
    thresholds = scores.unique()
    right = ((scores[:, None] >= thresholds) == is_next[:, None]).double().mean(0)
    chosen = thresholds[right.argmax()]
    answers = (overlap(test, rarity) >= chosen) == (test.next_sentence_label == IS_NEXT)
    return round(answers.double().mean().item(), 4)


def without(model: BertForPreTraining, part: str) -> BertForPreTraining:
    """A copy whose table of `positions` or of `segment`s has the same row everywhere."""
    changed = copy.deepcopy(model)
    table = dict(changed.bert.embeddings.named_parameters())[f"{part}.weight"]
    with torch.no_grad():
        table.copy_(table.mean(0).expand_as(table))
    return changed


@experiment(
    NAME,
    lesson="07",
    uses=[
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.cleaning",
        "zoo_lessons.datasets.masking",
        "zoo_lessons.datasets.ngrams",
        "zoo_lessons.datasets.prose",
        "zoo_lessons.datasets.subwords",
        "zoo_lessons.models.bert",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.history",
        "zoo_lessons.training.random_state",
        "zoo_lessons.training.schedules",
    ],
)
def bert_prose() -> dict[str, Any]:
    words = [paragraph for each in documents("all", "train") for paragraph in each.paragraphs]
    tokenizer = train_wordpiece(words, VOCABULARY)
    texts = {split: tokenised(tokenizer, split) for split in ("train", "validation", "test")}
    frequencies = log_frequencies(texts["train"], VOCABULARY)
    untrained = start(config(), frequencies)
    trained = copy.deepcopy(untrained)
    history = pretrain(trained, batches(texts["train"], VOCABULARY))

    saved = save_trained(NAME, trained, tokenizer)
    model = load_trained(NAME)
    data = held_out(texts["test"], VOCABULARY)
    pairs = {name: make_pairs(texts[name], 8).rows(slice(2 * EVALUATED)) for name in texts}
    every = STEPS // 100
    curve = torch.tensor(history.loss).view(-1, every).mean(1)
    figures = {
        "checkpoint": saved,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": VOCABULARY,
        "length": LENGTH,
        "batch": BATCH,
        "steps": STEPS,
        "words": sum(len(paragraph.split()) for paragraph in words),
        "tokens": sum(len(sentence) for text in texts["train"] for sentence in text),
        "holes": len(data.answers),
        "curve": {
            "step": list(range(every, STEPS + 1, every)),
            "loss": [round(value, 4) for value in curve.tolist()],
        },
        "masked": {
            **counts(texts["train"], texts["validation"], data),
            "untrained BERT": judge(predictions(untrained, data), data.answers),
            "BERT": judge(predictions(model, data), data.answers),
        },
        "without": {
            part: judge(predictions(without(model, part), data), data.answers)
            for part in ("positions", "segment")
        },
        "next_sentence": {
            "chance": 0.5,
            "shared words": overlap_accuracy(pairs["train"], pairs["test"], -frequencies),
            "BERT": next_sentence_accuracy(model, pairs["test"]),
        },
    }
    return {"figures": figures}
