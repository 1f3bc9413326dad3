"""The zoo: one architecture, one file, read from top to bottom."""

from zoo_lessons.models.bert import BertConfig, BertModel
from zoo_lessons.models.tagger import Tagger, TaggerConfig
from zoo_lessons.models.transformer import Transformer, TransformerConfig

__all__ = [
    "BertConfig",
    "BertModel",
    "Tagger",
    "TaggerConfig",
    "Transformer",
    "TransformerConfig",
]
