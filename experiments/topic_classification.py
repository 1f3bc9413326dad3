"""Which topic is a passage about: MiniLM frozen, MiniLM fine-tuned, and two baselines.

The task is `datasets.topics`: six topics, passages of docstrings cut to 32 tokens, and no module in
two splits. All choices (C of the logistic regressions, learning rate) are made on training passages
by cross-validation, or on validation passages; the figures are accuracies on 240 test passages. A
seed draws other training passages and another start of the head.

- "TF-IDF": words and pairs of words, with logistic regression: what a careful person tries first.
- "frozen": MiniLM's vector of the passage, with logistic regression. The vector is that of [CLS],
  or the mean of all tokens, which is what MiniLM was trained with.
- "fine-tuned": the two upper layers and a new linear head are trained by AdamW at the rate that is
  best on validation; the embeddings and four lower layers stay as they are, to save time.
- "random": a BERT of the same size that was never pretrained, as a control: frozen, and trained in
  all its layers at its own best of two rates.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.datasets.topics import TOPICS, TopicPassage, passages_by_topic
from zoo_lessons.layers import padding_mask
from zoo_lessons.models.bert import BertModel
from zoo_lessons.records import experiment
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.weights import load_pretrained, load_tokenizer

TOKENS = 32
LOWER = 4  # layers that stay frozen when MiniLM is fine-tuned
PER_TOPIC = {4: 30, 16: 40, 64: 72}  # training passages of each topic -> training steps
EVALUATED = 40  # of each topic
SEEDS = range(3)
RATES = (3e-5, 1e-4, 3e-4, 1e-3)
SWEPT = 16  # the number per topic for which learning rates are compared
BATCH = 16


class Encoded:
    """Passages as tensors, with what the frozen lower layers make of them."""

    def __init__(self, bert: BertModel, passages: list[TopicPassage]):
        tokenizer = load_tokenizer("minilm")
        tokenizer.enable_truncation(TOKENS)
        tokenizer.enable_padding(length=TOKENS)
        found = tokenizer.encode_batch([passage.text for passage in passages])
        self.ids = torch.tensor([one.ids for one in found])  # (passages, tokens)
        self.mask = torch.tensor([one.attention_mask for one in found])
        self.labels = torch.tensor([passage.label for passage in passages])
        self.lower, self.upper = [], []
        with torch.no_grad():
            for ids, mask in zip(self.ids.split(64), self.mask.split(64), strict=True):
                x = bert.embeddings(ids)
                for layer in bert.layers[:LOWER]:
                    x = layer(x, padding_mask(mask))
                self.lower.append(x)
                for layer in bert.layers[LOWER:]:
                    x = layer(x, padding_mask(mask))
                self.upper.append(x)
        self.lower, self.upper = torch.cat(self.lower), torch.cat(self.upper)

    def pooled(self, pooling: str) -> Tensor:
        """The frozen model's vector of each passage (passages, d_model)."""
        return pooled(self.upper, self.mask, pooling)


def pooled(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """(batch, tokens, d_model) -> (batch, d_model)."""
    if pooling == "[CLS]":
        return hidden[:, 0]
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


class Upper(nn.Module):
    """The layers of an encoder from number `first` on, and a linear head on the pooled result."""

    def __init__(self, bert: BertModel, first: int, pooling: str):
        super().__init__()
        self.layers, self.pooling = bert.layers[first:], pooling
        self.head = nn.Linear(bert.config.d_model, len(TOPICS))
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, padding_mask(mask))
        return self.head(pooled(x, mask, self.pooling))


def fine_tune(
    train: Encoded, tests: list[Encoded], *, rate: float, steps: int, seed: int, pooling: str
) -> list[float]:
    """Train the upper layers of MiniLM on `train`; accuracies on each of `tests`."""
    seed_everything(seed)
    model = Upper(load_pretrained("minilm"), LOWER, pooling)
    return _trained(model, train.lower, train, [each.lower for each in tests], tests, rate, steps)


def train_from_scratch(
    train: Encoded, tests: list[Encoded], *, rate: float, steps: int, seed: int
) -> list[float]:
    """The same from random weights, all layers trained; the embeddings keep their random values."""
    seed_everything(seed)
    bert = random_bert()
    model = Upper(bert, 0, "mean")
    with torch.no_grad():
        start, *others = [bert.embeddings.eval()(each.ids) for each in (train, *tests)]
    return _trained(model, start, train, others, tests, rate, steps)


def _trained(model, start, train, others, tests, rate, steps) -> list[float]:
    order = torch.Generator().manual_seed(0)

    def batch(step: int):
        rows = torch.randint(len(start), (BATCH,), generator=order)
        return start[rows], train.mask[rows], train.labels[rows]

    fit(
        model,
        batch,
        lambda model, batch: F.cross_entropy(model(*batch[:2]), batch[2]),
        steps=steps,
        lr=rate,
        schedule="warmup_linear",
        device="cpu",
        progress=False,
    )
    model.eval()
    with torch.no_grad():
        return [
            accuracy(model(hidden, test.mask).argmax(-1), test.labels)
            for hidden, test in zip(others, tests, strict=True)
        ]


def random_bert() -> BertModel:
    """A BERT of MiniLM's size with random weights."""
    return BertModel(load_pretrained("minilm").config).eval()


def accuracy(found: Tensor, labels: Tensor) -> float:
    return round((found == labels).float().mean().item(), 4)


def regression(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Logistic regression on vectors, C chosen by cross-validation."""
    mean, scale = train.mean(dim=0), train.std()
    model = _regression()
    model.fit(((train - mean) / scale).numpy(), labels.numpy())
    found = torch.from_numpy(model.predict(((test - mean) / scale).numpy()))
    return accuracy(found, test_labels)


def _regression() -> LogisticRegressionCV:
    return LogisticRegressionCV(
        Cs=[0.01, 0.1, 1, 10, 100],
        cv=4,
        max_iter=1000,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
        scoring="accuracy",
    )


def tf_idf(train: list[TopicPassage], test: list[TopicPassage]) -> float:
    """TF-IDF over words and pairs of words, then logistic regression with C by cross-validation."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = make_pipeline(vectorizer, _regression())
    model.fit([each.text for each in train], [each.label for each in train])
    found = torch.from_numpy(model.predict([each.text for each in test]))
    return accuracy(found, torch.tensor([each.label for each in test]))


@experiment(
    "topic_classification",
    lesson="08",
    uses=[
        "zoo_lessons.datasets.topics",
        "zoo_lessons.layers.attention",
        "zoo_lessons.models.bert",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.random_state",
    ],
)
def topic_classification() -> dict[str, Any]:
    return {"figures": measure()}


def measure(seeds: range = SEEDS, per_topic: dict[int, int] = PER_TOPIC) -> dict[str, Any]:
    bert, blank = load_pretrained("minilm"), _seeded_blank()
    held_out = {name: passages_by_topic(name, EVALUATED) for name in ("validation", "test")}
    validation, test = (Encoded(bert, passages) for passages in held_out.values())
    test_blank = Encoded(blank, held_out["test"])
    drawn = {
        (number, seed): passages_by_topic("train", number, seed=seed)
        for number in per_topic
        for seed in seeds
    }
    encoded = {key: Encoded(bert, passages) for key, passages in drawn.items()}

    # the learning rate: validation accuracy [rate][seed]
    sweep = {}
    for rate in RATES:
        options = {"rate": rate, "steps": per_topic[SWEPT], "pooling": "mean"}
        sweep[rate] = [
            fine_tune(encoded[SWEPT, seed], [validation, test], seed=seed, **options)
            for seed in seeds
        ]
    best = max(RATES, key=lambda rate: sum(row[0] for row in sweep[rate]))

    methods: dict[str, list[list[float]]] = {}  # accuracy on test [seed][number per topic]

    def note(name: str, row: int, figure: float) -> None:
        rows = methods.setdefault(name, [[] for _ in seeds])
        rows[row].append(figure)

    for row, seed in enumerate(seeds):
        for number, steps in per_topic.items():
            train = encoded[number, seed]
            note("TF-IDF", row, tf_idf(drawn[number, seed], held_out["test"]))
            for pooling in ("[CLS]", "mean"):
                vectors = train.pooled(pooling), train.labels, test.pooled(pooling), test.labels
                note(f"frozen, {pooling}", row, regression(*vectors))
            tuned = (
                sweep[best][row]
                if number == SWEPT
                else fine_tune(
                    train, [validation, test], rate=best, steps=steps, seed=seed, pooling="mean"
                )
            )
            note("fine-tuned, mean", row, tuned[1])
            frozen = Encoded(blank, drawn[number, seed])
            vectors = frozen.pooled("mean"), frozen.labels, test_blank.pooled("mean"), test.labels
            note("random, frozen", row, regression(*vectors))
    most = max(per_topic)
    cls = [
        fine_tune(
            encoded[SWEPT, seed], [test], rate=best, steps=per_topic[SWEPT], seed=seed,
            pooling="[CLS]",
        )[0]
        for seed in seeds
    ]  # fmt: skip
    scratch = {
        rate: [
            train_from_scratch(
                encoded[most, seed], [validation, test], rate=rate, steps=per_topic[most], seed=seed
            )
            for seed in seeds
        ]
        for rate in (1e-4, 5e-4)
    }
    best_scratch = max(scratch, key=lambda rate: sum(row[0] for row in scratch[rate]))
    return {
        "topics": list(TOPICS),
        "per_topic": list(per_topic),
        "steps": list(per_topic.values()),
        "seeds": len(seeds),
        "test_passages": len(test.labels),
        "rates": list(RATES),
        "sweep_per_topic": SWEPT,
        "sweep": [[row[0] for row in sweep[rate]] for rate in RATES],
        "best_rate": best,
        "accuracy": methods,
        "fine_tuned_cls": cls,
        "random_trained": [row[1] for row in scratch[best_scratch]],
    }


def _seeded_blank() -> BertModel:
    seed_everything(0)
    return random_bert()
