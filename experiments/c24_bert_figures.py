"""C24: four figures about BERT and what makes it smaller, collected from other records.

- Parameters: BERT-Base has 110 M (`model_table`, our model with its pre-training heads).
- DistilBERT has 40 % fewer (`efficiency_model_table`, against the bare BERT-Base).
- INT8 is 3 to 4 times as fast on a CPU: the fastest INT8 way of `int8_latency`, BERT-Base, one text
  of 128 tokens, against the faster PyTorch fp32.
- PABEE's early exit saves work without harm (`c08_distillation`, `early_exit`: MiniLM, six layers,
  mean over seeds): with some patience, fewer layers at an accuracy that is no worse than the full
  model's. In the paper it is 1.6 times as fast on average (Zhou et al. 2020, abstract, ALBERT).

A figure holds if: the parameters are within 1 % of 110 M; DistilBERT's reduction is within two
points of 40 %; INT8's factor is at least 3; and some patience uses at least 10 % fewer layers at
an accuracy at most one point below that of all layers.

**Reproduced** if all four hold, **partly** if two or three do, otherwise the article is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zoo_lessons.records import Verdict, experiment, load_record

WITHIN, REDUCTION, POINTS, FACTOR = 0.01, 0.40, 0.02, 3.0
FEWER_LAYERS, LOSS = 0.10, 0.01
BERT, DISTILBERT = "BERT, pre-training", "DistilBERT"


def parameters(record: str, model: str) -> int:
    """Of our model, as a table has counted them."""
    rows = load_record(record)["figures"]["rows"]
    return next(row["parameters"]["ours"] for row in rows if row["model"] == model)


def fastest_int8(cases: Sequence[Mapping[str, Any]]) -> tuple[str, float]:
    """The fastest way with INT8 in its name, and its factor, one text of 128 tokens."""
    ways = next(
        case["ways"]
        for case in cases
        if (case["model"], case["batch"], case["tokens"]) == ("BERT-Base", 1, 128)
    )
    found = {way: each["speedup"] for way, each in ways.items() if "INT8" in way}
    best = max(found, key=lambda way: found[way])
    return best, found[best]


def early_exit(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The patience that uses fewest layers at a loss of at most `LOSS`; means over the seeds."""
    layers = len(seeds[0]["layer_accuracy"])
    full = sum(seed["layer_accuracy"][-1] for seed in seeds) / len(seeds)
    rows = []
    for each in zip(*(seed["patience"] for seed in seeds), strict=True):
        accuracy = sum(row["accuracy"] for row in each) / len(each)
        used = sum(row["layers"] for row in each) / len(each)
        rows.append(
            {
                "patience": each[0]["patience"],
                "fewer_layers": round(1 - used / layers, 4),
                "loss": round(full - accuracy, 4),
            }
        )
    harmless = [row for row in rows if row["loss"] <= LOSS]
    # The greatest patience never leaves early and loses nothing, so there is one.
    return max(harmless, key=lambda row: row["fewer_layers"])


def judge(
    bert: int, reduction: float, way: str, factor: float, exits: Mapping[str, Any]
) -> tuple[Verdict, dict[str, bool]]:
    """By the thresholds of this file's first lines."""
    holds = {
        "parameters": abs(bert / 110e6 - 1) <= WITHIN,
        "DistilBERT": abs(reduction - REDUCTION) <= POINTS,
        "INT8": factor >= FACTOR,
        "early exit": exits["fewer_layers"] >= FEWER_LAYERS,
    }
    count = sum(holds.values())
    missing = ", ".join(name for name, held in holds.items() if not held)
    return (
        Verdict(
            "reproduced"
            if count == len(holds)
            else "partly"
            if count >= 2
            else "the article is wrong",
            ours=f"{bert / 1e6:.1f} M parameters; DistilBERT {reduction:.1%} fewer; INT8 "
            f"{factor:.1f} times as fast ({way}); patience {exits['patience']}: "
            f"{exits['fewer_layers']:.0%} fewer layers, {100 * exits['loss']:+.1f} points lost",
            explanation=(
                "Counted on our models of the published sizes; INT8 on BERT-Base, one text of 128 "
                "tokens, against a tuned float32; early exit on MiniLM, whose six layers leave "
                "little to save. "
                + (f"What does not hold: {missing}." if missing else "All four hold.")
            ),
            cell="19#BERT's-figures",
        ),
        holds,
    )


@experiment("c24_bert_figures", claims=["C24"], lesson="19")
def c24_bert_figures() -> dict[str, Any]:
    bert = parameters("model_table", BERT)
    base = parameters("model_table", "BERT-Base")
    reduction = 1 - parameters("efficiency_model_table", DISTILBERT) / base
    way, factor = fastest_int8(load_record("int8_latency")["figures"]["cases"])
    exits = early_exit(load_record("c08_distillation")["figures"]["early_exit"])
    verdict, holds = judge(bert, reduction, way, factor, exits)
    figures = {
        "parameters": bert,
        "distilbert_fewer": round(reduction, 4),
        "int8": {"way": way, "speedup": factor},
        "early_exit": exits,
        "holds": holds,
    }
    return {"figures": figures, "verdicts": {"C24": verdict}}
