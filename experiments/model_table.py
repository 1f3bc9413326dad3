"""The models of language beside those of `transformers`; see `beside_transformers`."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

from experiments.beside_transformers import LENGTH, SHARED, Entry, table
from zoo_lessons import models
from zoo_lessons.records import experiment


def text(config: Any, batch: int, length: int) -> dict[str, Tensor]:
    """Random ids and a mask that hides the end of the last row."""
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[-1, length // 2 :] = 0
    return {"input_ids": torch.randint(config.vocab_size, (batch, length)), "attention_mask": mask}


def two_segments(config: Any, batch: int, length: int) -> dict[str, Tensor]:
    segments = torch.randint(config.type_vocab_size, (batch, length))
    return {**text(config, batch, length), "token_type_ids": segments}


def translation(config: Any, batch: int, length: int) -> dict[str, Tensor]:
    """A target of another length than the source."""
    target = torch.randint(config.vocab_size, (batch, length // 2))
    return {**text(config, batch, length), "decoder_input_ids": target}


MARIAN_SMALL = transformers.MarianConfig(
    vocab_size=61,
    d_model=40,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=5,
    decoder_attention_heads=5,
    encoder_ffn_dim=56,
    decoder_ffn_dim=56,
    activation_function="swish",
    scale_embedding=True,
    max_position_embeddings=37,
    pad_token_id=60,
    eos_token_id=3,
    decoder_start_token_id=60,
    use_cache=False,
)
MARIAN_BASE = transformers.MarianConfig(  # table 3 of Vaswani et al.
    vocab_size=37000,
    d_model=512,
    encoder_layers=6,
    decoder_layers=6,
    encoder_attention_heads=8,
    decoder_attention_heads=8,
    encoder_ffn_dim=2048,
    decoder_ffn_dim=2048,
    activation_function="relu",
    scale_embedding=True,
    max_position_embeddings=512,
    pad_token_id=0,
    eos_token_id=2,
    decoder_start_token_id=1,
    use_cache=False,
)
GPT2_SMALL = transformers.GPT2Config(
    vocab_size=83,
    n_positions=31,
    n_embd=48,
    n_layer=3,
    n_head=4,
    n_inner=80,
    activation_function="silu",
    layer_norm_epsilon=1e-4,
    bos_token_id=3,
    eos_token_id=4,
    use_cache=False,
)
BERT_SMALL = {
    "vocab_size": 83,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 31,
    "type_vocab_size": 3,
    "hidden_act": "gelu_new",
    "layer_norm_eps": 1e-4,
    "pad_token_id": 2,
}


def bert(model: str, class_name: str, fields: tuple[str, ...], num_labels: int = 5) -> Entry:
    """BERT-Base with one of its heads; their classes have our names."""
    return Entry(
        model,
        ours=getattr(models, class_name),
        config=models.BertConfig.base(),
        theirs=getattr(transformers, class_name),
        small=transformers.BertConfig(**BERT_SMALL, num_labels=num_labels),
        published=transformers.BertConfig(),
        inputs=two_segments,
        fields=fields,
        count="110 M",
        source="Devlin et al. (2018), section 3, for BERT-Base",
    )


ENTRIES = [
    Entry(
        "Transformer (base)",
        ours=models.Transformer,
        config=models.TransformerConfig.base(),
        theirs=transformers.MarianMTModel,
        small=MARIAN_SMALL,
        published=MARIAN_BASE,
        inputs=translation,
        fields=("logits", "encoder_last_hidden_state"),
        count="65 M",
        source="Vaswani et al. (2017), table 3",
    ),
    Entry(
        "GPT-2 (small)",
        ours=models.GPT,
        config=models.GPTConfig.small(),
        theirs=transformers.GPT2LMHeadModel,
        small=GPT2_SMALL,
        published=transformers.GPT2Config(use_cache=False),
        inputs=text,
        fields=("logits",),
        count="117 M",
        source="Radford et al. (2019), table 2; corrected to 124 M in github.com/openai/gpt-2",
    ),
    bert("BERT-Base", "BertModel", ("last_hidden_state", "pooler_output")),
    bert(
        "BERT, pre-training",
        "BertForPreTraining",
        ("prediction_logits", "seq_relationship_logits"),
    ),
    bert("BERT, masked words", "BertForMaskedLM", ("logits",)),
    bert("BERT, classification", "BertForSequenceClassification", ("logits",)),
    bert("BERT, tagging", "BertForTokenClassification", ("logits",)),
    bert(
        "BERT, question answering",
        "BertForQuestionAnswering",
        ("start_logits", "end_logits"),
        num_labels=2,
    ),
]


@experiment(
    "model_table",
    lesson="06",
    uses=[
        *SHARED,
        "zoo_lessons.models.bert",
        "zoo_lessons.models.gpt",
        "zoo_lessons.models.transformer",
    ],
)
def model_table() -> dict[str, Any]:
    return {"figures": table(ENTRIES, f"texts of {LENGTH} tokens")}
