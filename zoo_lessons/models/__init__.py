"""The zoo: one architecture, one file, read from top to bottom."""

from zoo_lessons.models.albert import AlbertConfig, AlbertModel
from zoo_lessons.models.bert import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)
from zoo_lessons.models.blip import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForPreTraining,
    BlipForQuestionAnswering,
)
from zoo_lessons.models.clip import CLIP, CLIPConfig, CLIPTextConfig, CLIPVisionConfig
from zoo_lessons.models.cnn import CNN, CNNConfig, Committee, CommitteeConfig
from zoo_lessons.models.cvt import CvT, CvTConfig
from zoo_lessons.models.diffusion_transformer import DiT, DiTConfig
from zoo_lessons.models.distilbert import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertModel,
    distil_from,
)
from zoo_lessons.models.flamingo import Flamingo, FlamingoConfig
from zoo_lessons.models.gan import Discriminator, GanConfig, Generator
from zoo_lessons.models.gpt import GPT, GPTConfig
from zoo_lessons.models.longformer import LongformerConfig, LongformerModel
from zoo_lessons.models.mae import MAE, MAEConfig
from zoo_lessons.models.mamba import Mamba, MambaCache, MambaConfig
from zoo_lessons.models.mobilevit import MobileViT, MobileViTConfig
from zoo_lessons.models.swin import Swin, SwinConfig
from zoo_lessons.models.t2t_vit import T2TViT, T2TViTConfig
from zoo_lessons.models.tagger import Tagger, TaggerConfig
from zoo_lessons.models.transformer import Transformer, TransformerConfig
from zoo_lessons.models.vit import ViT, ViTConfig

__all__ = [
    "AlbertConfig",
    "AlbertModel",
    "BertConfig",
    "BertForMaskedLM",
    "BertForPreTraining",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertModel",
    "BlipConfig",
    "BlipForConditionalGeneration",
    "BlipForImageTextRetrieval",
    "BlipForPreTraining",
    "BlipForQuestionAnswering",
    "CLIP",
    "CLIPConfig",
    "CLIPTextConfig",
    "CLIPVisionConfig",
    "CNN",
    "CNNConfig",
    "Committee",
    "CommitteeConfig",
    "CvT",
    "CvTConfig",
    "DiT",
    "DiTConfig",
    "Discriminator",
    "DistilBertConfig",
    "DistilBertForSequenceClassification",
    "DistilBertModel",
    "Flamingo",
    "FlamingoConfig",
    "GPT",
    "GPTConfig",
    "GanConfig",
    "Generator",
    "LongformerConfig",
    "LongformerModel",
    "MAE",
    "MAEConfig",
    "Mamba",
    "MambaCache",
    "MambaConfig",
    "MobileViT",
    "MobileViTConfig",
    "Swin",
    "SwinConfig",
    "T2TViT",
    "T2TViTConfig",
    "Tagger",
    "TaggerConfig",
    "Transformer",
    "TransformerConfig",
    "ViT",
    "ViTConfig",
    "distil_from",
]
