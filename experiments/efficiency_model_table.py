"""The models of efficiency beside those of `transformers`; see `beside_transformers`.

The reference computes parts of Mamba and Longformer in float32, whatever the model's dtype: there
the difference in float64 is float32's rounding. The parity tests lift that; this table does not.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

from experiments.beside_transformers import FEW_ROUNDS, LENGTH, SHARED, Entry, table
from experiments.model_table import text, two_segments
from zoo_lessons import models
from zoo_lessons.records import experiment


def document(config: Any, batch: int, length: int) -> dict[str, Tensor]:
    """Two windows of text, so that windows are what is timed; the first token is global."""
    window = config.attention_window
    found = text(config, batch, 2 * (window if isinstance(window, int) else max(window)))
    chosen = torch.zeros_like(found["input_ids"])
    chosen[:, 0] = 1
    return {**found, "global_attention_mask": chosen}


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
        source="Gu and Dao (2023), section 4.2",
        rounds=FEW_ROUNDS,
    )


def distilbert(model: str, class_name: str, field: str) -> Entry:
    return Entry(
        model,
        ours=getattr(models, class_name),
        config=models.DistilBertConfig.base(),
        theirs=getattr(transformers, class_name),
        small=transformers.DistilBertConfig(
            vocab_size=83,
            max_position_embeddings=31,
            n_layers=3,
            n_heads=4,
            dim=48,
            hidden_dim=80,
            activation="relu",
            pad_token_id=2,
            num_labels=5,
        ),
        published=transformers.DistilBertConfig(),
        inputs=text,
        fields=(field,),
        count="66 M",
        source="Sanh et al. (2019), table 3",
    )


ENTRIES = [
    mamba("Mamba-130M", "MambaForCausalLM", "logits"),
    mamba("Mamba-130M, hidden states", "MambaModel", "last_hidden_state"),
    Entry(
        "Longformer (base)",
        ours=models.LongformerModel,
        config=models.LongformerConfig.base(),
        theirs=transformers.LongformerModel,
        small=transformers.LongformerConfig(
            vocab_size=83,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=80,
            attention_window=[4, 8, 4],
            max_position_embeddings=60,
            type_vocab_size=3,
            hidden_act="gelu_new",
            layer_norm_eps=1e-4,
            pad_token_id=2,
        ),
        published=transformers.LongformerConfig(  # longformer-base-4096
            vocab_size=50265, max_position_embeddings=4098, type_vocab_size=1, layer_norm_eps=1e-5
        ),
        inputs=document,
        fields=("last_hidden_state", "pooler_output"),
        count="",
        source="Beltagy et al. (2020) give no count",
        timed_with="texts of 1,024 tokens",
        rounds=FEW_ROUNDS,
    ),
    distilbert("DistilBERT", "DistilBertModel", "last_hidden_state"),
    distilbert("DistilBERT, classification", "DistilBertForSequenceClassification", "logits"),
    Entry(
        "ALBERT (base)",
        ours=models.AlbertModel,
        config=models.AlbertConfig.base(),
        theirs=transformers.AlbertModel,
        small=transformers.AlbertConfig(
            vocab_size=83,
            embedding_size=20,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=80,
            hidden_act="relu",
            max_position_embeddings=31,
            type_vocab_size=3,
            layer_norm_eps=1e-4,
            pad_token_id=4,
        ),
        published=transformers.AlbertConfig(
            hidden_size=768, num_attention_heads=12, intermediate_size=3072
        ),
        inputs=two_segments,
        fields=("last_hidden_state", "pooler_output"),
        count="12 M",
        source="Lan et al. (2019), table 1",
    ),
]


@experiment(
    "efficiency_model_table",
    lesson="17",
    uses=[
        *SHARED,
        "experiments.model_table",
        "zoo_lessons.layers.sparse_attention",
        "zoo_lessons.layers.ssm",
        "zoo_lessons.models.albert",
        "zoo_lessons.models.bert",
        "zoo_lessons.models.distilbert",
        "zoo_lessons.models.longformer",
        "zoo_lessons.models.mamba",
    ],
)
def efficiency_model_table() -> dict[str, Any]:
    return {"figures": table(ENTRIES, f"texts of {LENGTH} tokens")}
