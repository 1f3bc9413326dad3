"""The models of efficiency beside those of `transformers`; see `beside_transformers`.

The reference computes parts of Mamba and Longformer in float32, whatever the model's dtype: there
the difference in float64 is float32's rounding. The parity tests lift that; this table does not.
"""

from __future__ import annotations

from typing import Any

import transformers

from experiments.beside_transformers import LENGTH, SHARED, Entry, table
from experiments.model_table import text
from zoo_lessons import models
from zoo_lessons.records import experiment

MAMBA_SMALL = {
    "vocab_size": 83,
    "hidden_size": 24,
    "state_size": 5,
    "num_hidden_layers": 3,
    "layer_norm_epsilon": 1e-4,
    "expand": 3,
    "conv_kernel": 3,
    "use_bias": True,
    "use_conv_bias": False,
    "hidden_act": "gelu",
    "time_step_rank": 7,
    "use_cache": False,
}


def mamba(model: str, class_name: str, field: str) -> Entry:
    """Their classes share our one: its output layer is the embedding, which both have."""
    return Entry(
        model,
        ours=models.Mamba,
        config=models.MambaConfig.mamba_130m(),
        theirs=getattr(transformers, class_name),
        small=transformers.MambaConfig(**MAMBA_SMALL),
        published=transformers.MambaConfig(num_hidden_layers=24, use_cache=False),
        inputs=text,
        fields=(field,),
        count="130 M",
        source="Gu and Dao (2023), table 12",
    )


ENTRIES = [
    mamba("Mamba-130M", "MambaForCausalLM", "logits"),
    mamba("Mamba-130M, hidden states", "MambaModel", "last_hidden_state"),
]


@experiment(
    "efficiency_model_table",
    lesson="17",
    uses=[
        *SHARED,
        "experiments.model_table",
        "zoo_lessons.layers.ssm",
        "zoo_lessons.models.mamba",
    ],
)
def efficiency_model_table() -> dict[str, Any]:
    return {"figures": {**table(ENTRIES), "length": LENGTH}}
