"""C23: does BERT classify from [CLS], tag with a CRF, and answer with two-stream attention?

The figures are those of three other records, which this experiment reads: `topic_classification`,
`tagging` and `reading`. A part of the claim works if it does so in every seed:

- *[CLS]*: MiniLM fine-tuned from [CLS] is right on at least 0.15 more of the test passages than the
  same classifier on a BERT with random weights that stays frozen, at the same number of labels.
- *CRF*: on all references, the CRF over MiniLM and an LSTM has an F1 at least 0.15 above the better
  of the two baselines without a network.
- *start and end*: on questions about other people, things and places, in wordings known from
  training, exact match is at least 0.1 above the lexical baseline. (On new wordings it is not, as
  `reading` records. That limits what this model has learned, and not how its heads work, which is
  what the claim is about.)

The third part is then contradicted, for the model has no second stream: each of its layers has one
attention, and the vector of a token depends on the token's own word, which a query stream never
sees. Both are checked on the model that answers.

**Partly** if all three work: the first two parts are right and the third describes another model.
**The article is wrong** if start and end work but one of the others does not. **Not measurable
here** if start and end do not work, for then nothing is shown about how BERT answers.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

from typing import Any

import torch

from experiments.intervals import mean_interval
from zoo_lessons.checkpoints import load_trained
from zoo_lessons.layers import MultiHeadAttention
from zoo_lessons.models.bert import BertForQuestionAnswering
from zoo_lessons.records import Verdict, experiment, load_record


def parts_of_claim(
    topics: dict[str, Any], tagging: dict[str, Any], reading: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """{part: {"ours": [seed], "than": [seed], "margin": required, "works": bool}}."""
    column = topics["per_topic"].index(topics["sweep_per_topic"])
    control = [row[column] for row in topics["accuracy"]["random, frozen"]]
    by_size = tagging["f1"]["MiniLM + LSTM"]
    tagged = by_size[max(by_size, key=int)]["CRF"]["test"]
    rule = max(baseline["test"] for baseline in tagging["baselines"].values())
    readers, (lexical,) = reading["methods"]["fine-tuned"], reading["methods"]["lexical"]

    def against_lexical(split: str) -> tuple[list[float], list[float], float]:
        read = [run[split]["exact_match"] for run in readers]
        return read, [lexical[split]["exact_match"]] * len(read), 0.1

    found = {
        "[CLS]": (topics["fine_tuned_cls"], control, 0.15),
        "CRF": (tagged, [rule] * len(tagged), 0.15),
        "start and end": against_lexical("validation"),
        "start and end, new wordings": against_lexical("test"),  # reported, not judged
    }
    return {
        name: {
            "ours": ours,
            "than": than,
            "margin": margin,
            "works": all(a - b >= margin for a, b in zip(ours, than, strict=True)),
        }
        for name, (ours, than, margin) in found.items()
    }


def streams(model: BertForQuestionAnswering) -> dict[str, Any]:
    """How many attentions a layer has, and whether a token's vector depends on its own word."""
    attentions = sum(isinstance(part, MultiHeadAttention) for part in model.modules())
    ids = torch.tensor([[101, 2040, 2853, 1996, 10437, 102]])
    words = model.bert.embeddings.word(ids).detach().requires_grad_(True)
    x = model.bert.embeddings.norm(model.bert.embeddings.positions(words))
    for layer in model.bert.layers:
        x = layer(x)
    # one number of the vector, not the sum of all, which LayerNorm keeps constant
    (gradient,) = torch.autograd.grad(x[0, 2, 0], words)
    return {
        "attentions_per_layer": attentions / model.config.num_layers,
        "sees_its_own_word": bool(gradient[0, 2].abs().max() > 0),
    }


def judge(parts: dict[str, dict[str, Any]], model: dict[str, Any]) -> Verdict:
    """The verdict by the rules above."""
    one_stream = model["attentions_per_layer"] == 1 and model["sees_its_own_word"]
    if not (parts["start and end"]["works"] and one_stream):
        verdict = "not measurable here"
    elif parts["[CLS]"]["works"] and parts["CRF"]["works"]:
        verdict = "partly"
    else:
        verdict = "the article is wrong"

    def text(name: str, what: str) -> str:
        mean, low, high = mean_interval(parts[name]["ours"])
        than = sum(parts[name]["than"]) / len(parts[name]["than"])
        return f"{what} {mean:.2f} ({max(low, 0):.2f} to {min(high, 1):.2f}) against {than:.2f}"

    return Verdict(
        verdict,
        ours=(
            text("[CLS]", "accuracy from [CLS]")
            + " with random weights; "
            + text("CRF", "F1 of the CRF")
            + " without a network; "
            + text("start and end", "exact match of start and end")
            + " by lexical match, both on known wordings (mean of the seeds and its 95 % interval)"
        ),
        explanation=(
            "BERT classifies from [CLS], and a CRF can stand on its vectors. But its answers come "
            "from a start and an end head on one stream of vectors; two-stream attention is "
            "XLNet's, and serves pre-training. On questions in new wordings our model reaches an "
            + text("start and end, new wordings", "exact match of")
            + " by lexical match: it has learned its wordings, not English."
        ),
        cell="08#Claim-C23,-measured",
    )


@experiment(
    "c23_fine_tuning",
    claims=["C23"],
    lesson="08",
    uses=[
        "experiments.intervals",
        "zoo_lessons.checkpoints",
        "zoo_lessons.layers.attention",
        "zoo_lessons.models.bert",
    ],
)
def c23_fine_tuning() -> dict[str, Any]:
    names = ("topic_classification", "tagging", "reading")
    parts = parts_of_claim(*(load_record(name)["figures"] for name in names))
    model = streams(load_trained("minilm_reading"))
    return {"figures": {"parts": parts, **model}, "verdicts": {"C23": judge(parts, model)}}
