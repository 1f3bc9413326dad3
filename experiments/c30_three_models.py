"""C30: MobileViT suits phones, MAE learns without labels, Flamingo handles 80 modalities.

Three statements about three lessons, each with its own test:

- **MobileViT** (lesson 10, record `c19_relatives`): it holds if at equal parameters MobileViT is
  more accurate than ViT, with the whole 95 % interval of the difference over the seeds above 0. A
  phone has little memory, so accuracy per parameter is what counts; nothing is timed here.
- **MAE** (lesson 11, record `c18_after_mae`): it holds if, with the fewest labels, a ViT that a
  masked autoencoder trained before, without labels, is more accurate than the same ViT untrained,
  likewise.
- **Flamingo** (lesson 14): it holds if Flamingo takes 80 modalities. Counted are those that our
  model, built after the paper's section 2, takes: it is run on each. The 80 of
  "Flamingo-80B" is the number of its parameters in billions; `PUBLISHED` has the paper's table.

**Reproduced** if all three hold, **partly** if some do, otherwise the article is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from experiments.intervals import mean_interval
from zoo_lessons.models.flamingo import Flamingo, FlamingoConfig
from zoo_lessons.models.gpt import GPTConfig
from zoo_lessons.models.vit import ViTConfig
from zoo_lessons.records import Verdict, experiment, load_record

CLAIMED = 80
# Alayrac et al. (2022), the appendix's table of parameter counts, in billions: the frozen language
# model, and all of Flamingo.
PUBLISHED = {
    "Flamingo-3B": {"language": 1.4, "all": 3.2},
    "Flamingo-9B": {"language": 7.1, "all": 9.3},
    "Flamingo-80B": {"language": 70.0, "all": 80.0},
}


def modalities() -> list[str]:
    """What a Flamingo takes, found by running a small one: each input gives finite logits."""
    torch.manual_seed(0)
    config = FlamingoConfig(
        vision=ViTConfig(
            image_size=8, patch_size=4, d_model=8, num_layers=1, num_heads=2, d_ff=8, num_labels=0
        ),
        language=GPTConfig(
            vocab_size=10, d_model=8, num_layers=1, num_heads=2, d_ff=8, max_length=8, dropout=0.0
        ),
        image_token_id=3,
        num_latents=2,
        resampler_layers=1,
        resampler_heads=2,
        cross_heads=2,
    )
    model = Flamingo(config).eval()
    words, with_image = torch.tensor([[4, 5, 6]]), torch.tensor([[3, 5, 6]])
    inputs = {
        "text": (words, None),
        "images": (with_image, torch.rand(1, 1, 3, 8, 8)),
        "video": (with_image, torch.rand(1, 1, 5, 3, 8, 8)),  # five frames
    }
    with torch.no_grad():
        return [name for name, given in inputs.items() if model(*given).logits.isfinite().all()]


def gain_of_mobilevit(relatives: Mapping[str, Any]) -> dict[str, float]:
    """MobileViT's accuracy minus ViT's, seed by seed, at the most training images."""
    pairs = (relatives["accuracy"][name][-1] for name in ("MobileViT", "ViT"))
    return _interval(list(zip(*pairs, strict=True)))


def gain_of_pretraining(after_mae: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy after MAE minus without it, seed by seed, with the fewest labels."""
    pairs = ([row[0] for row in after_mae["accuracy"][n]] for n in ("after MAE", "untrained MAE"))
    return _interval(list(zip(*pairs, strict=True)))


def _interval(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    mean, low, high = mean_interval([better - worse for better, worse in pairs])
    return {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}


def judge(figures: Mapping[str, Any]) -> Verdict:
    """The verdict by the rule above."""
    holds = {
        "MobileViT": figures["mobilevit_gain"]["low"] > 0,
        "MAE": figures["mae_gain"]["low"] > 0,
        "Flamingo": len(figures["modalities"]) == CLAIMED,
    }
    verdict = "reproduced" if all(holds.values()) else "partly" if any(holds.values()) else None

    def points(gain: Mapping[str, float]) -> str:
        mean, low, high = (100 * gain[end] for end in ("mean", "low", "high"))
        return f"{mean:+.1f} points ({low:+.1f} to {high:+.1f})"

    kinds = figures["modalities"]
    return Verdict(
        verdict or "the article is wrong",
        ours=(
            f"MobileViT against ViT at equal size {points(figures['mobilevit_gain'])}; MAE with "
            f"{figures['labels']} labels {points(figures['mae_gain'])}; Flamingo takes "
            f"{len(kinds)} modalities: {', '.join(kinds)}"
        ),
        explanation=(
            f"Of the three statements, these hold: {_listed(holds, True)}; these do not: "
            f"{_listed(holds, False)}. The 80 is the size of Flamingo-80B in billions of "
            "parameters, 70 of them in its frozen language model."
        ),
        cell="14#8-·-Eighty-of-what?",
    )


def _listed(holds: Mapping[str, bool], wanted: bool) -> str:
    return ", ".join(name for name, held in holds.items() if held == wanted) or "none"


@experiment(
    "c30_three_models",
    claims=["C30"],
    lesson="14",
    uses=[
        "experiments.intervals",
        "zoo_lessons.models.flamingo",
        "zoo_lessons.models.gpt",
        "zoo_lessons.models.vit",
    ],
)
def c30_three_models() -> dict[str, Any]:
    relatives = load_record("c19_relatives")["figures"]
    after_mae = load_record("c18_after_mae")["figures"]
    figures = {
        "published": PUBLISHED,
        "modalities": modalities(),
        "claimed": CLAIMED,
        "mobilevit_gain": gain_of_mobilevit(relatives),
        "mobilevit_parameters": {
            name: relatives["parameters"][name] for name in ("MobileViT", "ViT")
        },
        "labels": after_mae["labels"][0],
        "mae_gain": gain_of_pretraining(after_mae),
    }
    return {"figures": figures, "verdicts": {"C30": judge(figures)}}
