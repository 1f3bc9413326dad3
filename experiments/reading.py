"""Questions about generated passages (`datasets.reading`): can a start and an end head read?

MiniLM is fine-tuned in all its layers (the word embeddings stay), with one vector for the start and
one for the end of the answer. Training questions are never repeated. They begin with passages of
one sentence and go on with two and three, the easy ones first. Every method is asked the same
questions about passages of three sentences:

- "validation": other people, things and places; the wordings are those of training. Thresholds for
  "no answer", and the baseline's rule, are chosen here, on questions that are then not counted.
- "test": the wordings of passages and questions are new as well.

Methods, all with [CLS] or too little overlap for "no answer":

- "lexical": the sentence with the most words of the question, then a candidate of it; it is told
  which pieces of the passage are of the right kind.
- "frozen": only the start and the end vector are trained, on MiniLM's vectors as they are.
- "fine-tuned": as above.

Seeds draw other training questions and another start of the heads. Scores are exact match and F1 as
in SQuAD. What the fine-tuning of the first seed changed is kept as the checkpoint `minilm_reading`,
at a low rank; "checkpoint_scores" are those of the reloaded model.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from zoo_lessons.checkpoints import load_trained, save_change
from zoo_lessons.datasets.reading import Question, reading_questions
from zoo_lessons.models.bert import BertForQuestionAnswering, BertModel
from zoo_lessons.question_answering import (
    LEXICAL_RULES,
    Answer,
    QuestionBatch,
    answer_questions,
    best_threshold,
    encode_questions,
    exact_match,
    f1_score,
    lexical_answer,
    span_loss,
    span_positions,
)
from zoo_lessons.records import experiment
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.weights import load_pretrained, load_tokenizer

CHECKPOINT = "minilm_reading"
RANK = 32
PLAN = ((250, 1), (250, 2), (400, 3))  # (steps, sentences in a passage)
BATCH = 8
RATE = 1e-4
SEEDS = range(3)
TUNED_ON, EVALUATED = 200, 300  # questions for the thresholds, and for each score
FROZEN_QUESTIONS, FROZEN_STEPS, FROZEN_RATE = 600, 400, 1e-2
TUNING_SEED = 1  # of the validation questions that thresholds are chosen on


def undropped(encoder: BertModel) -> BertModel:
    """The same encoder without dropout: training questions never repeat, so none is memorised."""
    model = BertModel(replace(encoder.config, dropout=0.0))
    model.load_state_dict(encoder.state_dict())
    return model


def loss_on(model: BertForQuestionAnswering, questions: list[Question]) -> Tensor:
    batch = encode(questions)
    start, end = span_positions(
        batch, [each.start for each in questions], [each.answer for each in questions]
    )
    output = model(*batch.inputs())
    return span_loss(output.start_logits, output.end_logits, start, end, batch.attention_mask)


@cache
def tokenizer() -> Tokenizer:
    return load_tokenizer("minilm")


def encode(questions: list[Question]) -> QuestionBatch:
    return encode_questions(
        tokenizer(), [each.question for each in questions], [each.passage for each in questions]
    )


def fine_tune(
    seed: int, plan: tuple[tuple[int, int], ...] = PLAN
) -> tuple[BertForQuestionAnswering, list[float]]:
    """The fine-tuned model, and its training loss at each step."""
    seed_everything(seed)
    model = BertForQuestionAnswering.from_encoder(undropped(load_pretrained("minilm")))
    model.bert.embeddings.requires_grad_(False)
    batches = []
    for steps, sentences in plan:
        questions = reading_questions("train", steps * BATCH, sentences=sentences, seed=seed)
        batches += [questions[step * BATCH : (step + 1) * BATCH] for step in range(steps)]
    history = fit(
        model,
        lambda step: batches[step],
        loss_on,
        steps=len(batches),
        lr=RATE,
        schedule="warmup_linear",
        device="cpu",
    )
    return model.eval(), [round(float(loss), 4) for loss in history.loss]


def train_heads(seed: int) -> BertForQuestionAnswering:
    """MiniLM as it is, with a trained start and end vector."""
    seed_everything(seed)
    model = BertForQuestionAnswering.from_encoder(undropped(load_pretrained("minilm"))).eval()
    questions = reading_questions("train", FROZEN_QUESTIONS, seed=seed)
    batch = encode(questions)
    start, end = span_positions(
        batch, [each.start for each in questions], [each.answer for each in questions]
    )
    with torch.no_grad():
        parts = zip(*(part.split(50) for part in batch.inputs()), strict=True)
        hidden = torch.cat([model.bert(*part).last_hidden_state for part in parts])

    def loss(head: nn.Linear, rows: Tensor) -> Tensor:
        scores = head(hidden[rows])  # (batch, length, 2)
        mask = batch.attention_mask[rows]
        return span_loss(*scores.unbind(-1), start[rows], end[rows], mask)

    fit(
        model.qa_outputs,
        lambda step: torch.randint(len(questions), (32,)),
        loss,
        steps=FROZEN_STEPS,
        lr=FROZEN_RATE,
        schedule="warmup_linear",
        device="cpu",
        progress=False,
    )
    return model


def answers_of(model: BertForQuestionAnswering, questions: list[Question]) -> list[Answer]:
    """The best spans, given in any case: the threshold comes later."""
    return answer_questions(
        model,
        tokenizer(),
        [each.question for each in questions],
        [each.passage for each in questions],
        threshold=-torch.inf,
    )


def chosen_threshold(answers: list[Answer], questions: list[Question]) -> float:
    """The threshold with the best exact match."""
    return best_threshold(
        [answer.margin for answer in answers],
        [exact_match(a.text, q.answer) for a, q in zip(answers, questions, strict=True)],
        [float(not q.answer) for q in questions],
    )


def scores(answers: list[Answer], questions: list[Question], threshold: float) -> dict[str, float]:
    """Exact match and F1 over all questions, and exact match over the two kinds."""
    rows = []
    for answer, question in zip(answers, questions, strict=True):
        text = answer.text if answer.margin > threshold else ""
        em, f1 = exact_match(text, question.answer), f1_score(text, question.answer)
        rows.append((em, f1, question.answerable))

    def mean(values: list[float]) -> float:
        return round(sum(values) / len(values), 4)

    return {
        "exact_match": mean([em for em, _, _ in rows]),
        "f1": mean([f1 for _, f1, _ in rows]),
        "answerable": mean([em for em, _, answerable in rows if answerable]),
        "unanswerable": mean([em for em, _, answerable in rows if not answerable]),
    }


def evaluate(answer, tuning: list[Question], held_out: dict[str, list[Question]]) -> dict[str, Any]:
    """{"threshold": ..., split: scores}; `answer(questions)` gives the best spans."""
    threshold = chosen_threshold(answer(tuning), tuning)
    found = {name: scores(answer(asked), asked, threshold) for name, asked in held_out.items()}
    return {"threshold": round(threshold, 4), **found}


def lexical(rule: str):
    """The baseline as a function of questions."""

    def answer(questions: list[Question]) -> list[Answer]:
        return [
            lexical_answer(each.question, each.passage, each.candidates, rule=rule, threshold=-1)
            for each in questions
        ]

    return answer


def best_lexical(tuning: list[Question], held_out: dict[str, list[Question]]) -> dict[str, Any]:
    """The baseline with the rule that does best on the tuning questions."""

    def on_tuning(rule: str) -> float:
        answers = lexical(rule)(tuning)
        return scores(answers, tuning, chosen_threshold(answers, tuning))["exact_match"]

    rule = max(LEXICAL_RULES, key=on_tuning)
    return {"rule": rule, **evaluate(lexical(rule), tuning, held_out)}


def measure(seeds: range = SEEDS, plan: tuple[tuple[int, int], ...] = PLAN) -> dict[str, Any]:
    tuning = reading_questions("validation", TUNED_ON, seed=TUNING_SEED)
    held_out = {name: reading_questions(name, EVALUATED) for name in ("validation", "test")}
    curves, tuned, frozen, checkpoint = [], [], [], {}
    for seed in seeds:
        model, losses = fine_tune(seed, plan)
        curves.append(losses)
        tuned.append(evaluate(lambda asked, m=model: answers_of(m, asked), tuning, held_out))
        heads = train_heads(seed)
        frozen.append(evaluate(lambda asked, m=heads: answers_of(m, asked), tuning, held_out))
        if seed == seeds[0]:
            about = save_change(CHECKPOINT, model, encoder="minilm", rank=RANK)
            reloaded = load_trained(CHECKPOINT)
            kept = evaluate(lambda asked, m=reloaded: answers_of(m, asked), tuning, held_out)
            checkpoint = {"checkpoint": about, "checkpoint_scores": kept}
    return {
        "methods": {
            "lexical": [best_lexical(tuning, held_out)],
            "frozen": frozen,
            "fine-tuned": tuned,
        },
        "loss": curves,
        **checkpoint,
    }


@experiment(
    "reading",
    lesson="08",
    uses=[
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.reading",
        "zoo_lessons.models.bert",
        "zoo_lessons.question_answering",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.random_state",
    ],
)
def reading() -> dict[str, Any]:
    about = {
        "plan": [list(part) for part in PLAN],
        "batch": BATCH,
        "rate": RATE,
        "seeds": len(SEEDS),
        "questions": EVALUATED,
        "rank": RANK,
    }
    return {"figures": {**about, **measure()}}
