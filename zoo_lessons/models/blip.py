"""BLIP: Li et al., "BLIP: Bootstrapping Language-Image Pre-training" (2022).

A ViT reads the image. One text model, a BERT with cross-attention added to each block, then serves
three ways (section 3.1): as an encoder of text alone, as an encoder of text that looks at an image,
and as a decoder that writes about the image. The first token says which: [CLS], [ENC] or [DEC].

| | paper | this file | `transformers` |
|---|---|---|---|
| image encoder | ViT | the zoo's ViT, or one with a convolutional stem | ViT |
| the image encoder's LayerNorm epsilon | not given | 1e-5 | 1e-5 |
| text model | BERT (in its code without segments) | without segments | the same |
| the text model's LayerNorm epsilon | not given | 1e-12 | 1e-12 |
| heads of the text model | 12 | 12 | 8 by default, 12 in the published files |
| pre-training model | all three, sharing | `BlipForPreTraining` | none |
| what encoder and decoder share | all but self-attention | the same | nothing |
| momentum model, queue of features | both | `MomentumModel`; no queue | neither |
| first token when matching | [ENC] | [ENC] in `BlipForPreTraining` | what the caller gives |
| matching logits | not spelled out | [does not match, matches] | the same |
| label smoothing of the LM loss | 0.1 | 0.1 | 0 by default, in `text_config` |
| prompt of `generate` | starts with [DEC] | the same, or error | first token set, last dropped |
| padding of a question, for the decoder | not spelled out | hidden | seen: the mask gets lost |
| dropout | not spelled out | one rate | separate rates for image, text, attention |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.generation import beam_search, generate
from zoo_lessons.image_text_losses import caption_loss
from zoo_lessons.layers.attention import causal_mask, padding_mask
from zoo_lessons.layers.blocks import DecoderBlock
from zoo_lessons.layers.cache import KeyValueCache, LayerCache
from zoo_lessons.layers.checks import require_ids
from zoo_lessons.layers.positions import LearnedPositions
from zoo_lessons.models.bert import MaskedTokenHead
from zoo_lessons.models.clip import ConvolutionalStem
from zoo_lessons.models.vit import ViT, ViTConfig


def _image_encoder() -> ViTConfig:
    return ViTConfig(image_size=384, num_labels=0, eps=1e-5)


@dataclass(frozen=True)
class BlipConfig:
    """Sizes and choices. The defaults are BLIP with ViT-B/16, for captions and questions.

    Sizes without a prefix are the text model's; `vision` holds the image encoder's. `stem` is how
    patches become tokens: "patches" (one linear map, as in ViT) or "convolutions", which learn
    shapes sooner in small models (see `ConvolutionalStem`).
    """

    vision: ViTConfig = field(default_factory=_image_encoder)
    stem: str = "patches"
    vocab_size: int = 30524  # BERT's, [DEC] and [ENC]
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    d_ff: int = 3072
    max_length: int = 512
    embed_dim: int = 256  # width of the space that image and text are compared in
    activation: str = "gelu"
    dropout: float = 0.0
    eps: float = 1e-12
    label_smoothing: float = 0.1
    pad_token_id: int = 0
    cls_token_id: int = 101
    sep_token_id: int = 102  # ends a text
    bos_token_id: int = 30522  # the paper's [DEC]
    enc_token_id: int = 30523

    def __post_init__(self) -> None:
        if isinstance(self.vision, dict):  # as a checkpoint's config.json holds it
            object.__setattr__(self, "vision", ViTConfig(**self.vision))
        if self.vision.num_labels:
            raise ValueError(
                f"vision.num_labels={self.vision.num_labels}, expected 0: the image encoder has "
                "no classifier"
            )
        if self.stem not in ("patches", "convolutions"):
            raise ValueError(f"stem={self.stem!r}, expected 'patches' or 'convolutions'")

    @classmethod
    def base(cls) -> BlipConfig:
        """BLIP with ViT-B/16, the size of blip-image-captioning-base and blip-vqa-base."""
        return cls()

    @classmethod
    def from_hf(cls, config: Any) -> BlipConfig:
        """Read a `transformers.BlipConfig`.

        Raises:
            ValueError: a text model without cross-attention or with an output layer of its own, or
                images or patches that are not square.
        """
        text, vision = config.text_config, config.vision_config
        for name, part, option in (
            ("text_config.", text, "is_decoder"),  # its cross-attention hangs on it
            ("text_config.", text, "tie_word_embeddings"),
            ("", config, "tie_word_embeddings"),
        ):
            if not getattr(part, option):
                raise ValueError(f"unsupported BLIP config: {name}{option}=False, expected True")
        for name in ("image_size", "patch_size"):
            if not isinstance(getattr(vision, name), int):
                raise ValueError(
                    f"unsupported BLIP config: {name}={getattr(vision, name)}, expected one number"
                )
        return cls(
            vision=ViTConfig(
                image_size=vision.image_size,
                patch_size=vision.patch_size,
                d_model=vision.hidden_size,
                num_layers=vision.num_hidden_layers,
                num_heads=vision.num_attention_heads,
                d_ff=vision.intermediate_size,
                num_labels=0,
                activation=vision.hidden_act,
                dropout=vision.attention_dropout,
                eps=vision.layer_norm_eps,
            ),
            vocab_size=text.vocab_size,
            d_model=text.hidden_size,
            num_layers=text.num_hidden_layers,
            num_heads=text.num_attention_heads,
            d_ff=text.intermediate_size,
            max_length=text.max_position_embeddings,
            embed_dim=config.image_text_hidden_size,
            activation=text.hidden_act,
            dropout=text.hidden_dropout_prob,
            eps=text.layer_norm_eps,
            label_smoothing=text.label_smoothing,
            pad_token_id=text.pad_token_id,
            sep_token_id=text.sep_token_id,
            bos_token_id=text.bos_token_id,
            enc_token_id=text.vocab_size - 1,
        )


class BlipTextEmbeddings(nn.Module):
    """Word + position, then LayerNorm: BERT's without segments."""

    def __init__(self, c: BlipConfig):
        super().__init__()
        self.word = nn.Embedding(c.vocab_size, c.d_model, padding_idx=c.pad_token_id)
        self.positions = LearnedPositions(c.max_length, c.d_model)
        self.norm = nn.LayerNorm(c.d_model, c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """Two id tensors (batch, length) -> (batch, length, d_model)."""
        return self.dropout(self.norm(self.positions(self.word(input_ids), position_ids)))


class BlipTextBlock(DecoderBlock):
    """A decoder block that steps over its cross-attention when there is nothing to look at."""

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        *,
        cache: LayerCache | None = None,
        memory_cache: LayerCache | None = None,
    ) -> Tensor:
        """x (batch, length, d_model) -> the same shape. The rest is as in `DecoderBlock`."""
        if memory is not None:
            return super().forward(
                x, memory, mask, memory_mask, cache=cache, memory_cache=memory_cache
            )
        x = self.residual1(x, lambda y: self.self_attention(y, mask=mask, cache=cache))
        return self.residual3(x, self.feed_forward)


class BlipTextModel(nn.Module):
    """The text model: with or without an image to look at, in both directions or causal.

    Args:
        config: sizes.
        d_memory: width of what cross-attention looks at, the image encoder's by default.
    """

    def __init__(self, config: BlipConfig, *, d_memory: int | None = None):
        super().__init__()
        self.config = c = config
        self.embeddings = BlipTextEmbeddings(c)
        self.layers = nn.ModuleList(
            BlipTextBlock(
                c.d_model,
                c.num_heads,
                c.d_ff,
                d_memory=d_memory or c.vision.d_model,
                norm="post",
                activation=c.activation,
                dropout=c.dropout,
                eps=c.eps,
            )
            for _ in range(c.num_layers)
        )
        self.apply(_initialise)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        memory: Tensor | None = None,
        memory_attention_mask: Tensor | None = None,
        *,
        causal: bool = False,
        position_ids: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Hidden states of the text, (batch, length, d_model).

        Args:
            input_ids: (batch, length); with a cache, only the tokens that it does not hold yet.
            attention_mask: 0/1 (batch, cached + length), 0 hides padding.
            memory: what to look at, (batch, keys, d_memory); None for text alone.
            memory_attention_mask: 0/1 (batch, keys).
            causal: each token sees itself and earlier ones, as a decoder must.
            position_ids: (batch or 1, length). By default they count on from the cache.
            cache: of `2 * num_layers` layers: self-attention of each block, then cross-attention
                of each. Only with `causal`.

        Raises:
            ValueError: more positions than `max_length`, ids outside the vocabulary, or a cache
                that does not fit or has no use.
        """
        c, new = self.config, input_ids.shape[-1]
        require_ids("input_ids", input_ids, c.vocab_size)
        if cache is not None and (not causal or len(cache) != 2 * c.num_layers):
            raise ValueError(
                f"cache has {len(cache)} layers and causal={causal}, expected "
                f"2 · num_layers={2 * c.num_layers} and causal=True"
            )
        past = 0 if cache is None else cache.length
        if position_ids is None:
            position_ids = torch.arange(past, past + new, device=input_ids.device)[None]
        mask = causal_mask(new, past + new, device=input_ids.device) if causal else None
        if attention_mask is not None:
            padding = padding_mask(attention_mask)  # (batch, 1, 1, past + new)
            mask = padding if mask is None else mask & padding
        memory_mask = None if memory_attention_mask is None else padding_mask(memory_attention_mask)
        x = self.embeddings(input_ids, position_ids)
        for i, layer in enumerate(self.layers):
            caches = {}
            if cache is not None:
                caches = {"cache": cache[i], "memory_cache": cache[c.num_layers + i]}
            x = layer(x, memory, mask, memory_mask, **caches)
        return x


class BlipTextDecoder(nn.Module):
    """The text model, causal, and a head that scores the vocabulary for the next token."""

    def __init__(self, config: BlipConfig, *, d_memory: int | None = None):
        super().__init__()
        self.config = config
        self.text = BlipTextModel(config, d_memory=d_memory)
        self.predictions = MaskedTokenHead(config, self.text.embeddings.word)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        memory: Tensor | None = None,
        memory_attention_mask: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Arguments as in `BlipTextModel` -> logits (batch, length, vocab_size)."""
        hidden = self.text(
            input_ids,
            attention_mask,
            memory,
            memory_attention_mask,
            causal=True,
            position_ids=position_ids,
            cache=cache,
        )
        return self.predictions(hidden)

    @torch.no_grad()
    def write(
        self,
        prompts: Tensor,
        attention_mask: Tensor | None,
        memory: Tensor,
        memory_attention_mask: Tensor | None = None,
        *,
        num_beams: int = 1,
        **options: Any,
    ) -> Tensor:
        """Continue each prompt about its own row of `memory`.

        Args:
            prompts, attention_mask: (batch, length), padded on the left if at all.
            memory, memory_attention_mask: as in `forward`.
            num_beams: 1 takes the likeliest token each time; more is beam search.
            options: those of `zoo_lessons.generation.generate`, or of its `beam_search`.

        Returns:
            (batch, length + new): the prompts, then new tokens up to sep_token_id, then padding.
        """
        c = self.config
        options["eos_token_id"] = c.sep_token_id
        if num_beams == 1:
            looking = _Looking(self, memory, memory_attention_mask)
            new = generate(looking, prompts, attention_mask=attention_mask, **options)
            new = new[:, prompts.shape[1] :]
        else:
            rows = []
            for i, prompt in enumerate(prompts):
                mask = None if memory_attention_mask is None else memory_attention_mask[i : i + 1]
                looking = _Looking(self, memory[i : i + 1], mask)
                if attention_mask is not None:
                    prompt = prompt[attention_mask[i].bool()]
                best = beam_search(looking, prompt[None], num_beams=num_beams, **options)[0]
                rows.append(best.ids[len(prompt) :])
            new = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=c.sep_token_id)
        ends = new == c.sep_token_id
        new = new.masked_fill((ends.cumsum(dim=1) - ends.long()) > 0, c.pad_token_id)
        return torch.cat([prompts, new], dim=1)


class _Looking:
    """A decoder with something to look at, as `zoo_lessons.generation` wants a language model.

    Its cache has two layers for each block: cross-attention reads the memory at the first step
    only, and beams keep what they read.
    """

    def __init__(self, decoder: BlipTextDecoder, memory: Tensor, attention_mask: Tensor | None):
        self.decoder, self.memory, self.attention_mask = decoder, memory, attention_mask
        self.config = SimpleNamespace(num_layers=2 * decoder.config.num_layers)

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any
    ) -> SimpleNamespace:
        memory, memory_mask = self.memory, self.attention_mask
        if len(memory) == 1:  # the beams of one image
            memory = memory.expand(len(input_ids), -1, -1)
        logits = self.decoder(input_ids, attention_mask, memory, memory_mask, **options)
        return SimpleNamespace(logits=logits)


_TEXT_RULES = [
    (r"embeddings\.word_embeddings", "embeddings.word"),
    (r"embeddings\.position_embeddings", "embeddings.positions"),
    (r"embeddings\.LayerNorm", "embeddings.norm"),
    (r"\.encoder\.layer\.", ".layers."),
    (r"\.attention\.self\.(q|k|v)(?:uery|ey|alue)", r".self_attention.\1"),
    (r"\.attention\.output\.dense", ".self_attention.out"),
    (r"\.attention\.output\.LayerNorm", ".residual1.norm"),
    (r"\.crossattention\.self\.(q|k|v)(?:uery|ey|alue)", r".cross_attention.\1"),
    (r"\.crossattention\.output\.dense", ".cross_attention.out"),
    (r"\.crossattention\.output\.LayerNorm", ".residual2.norm"),
    (r"\.intermediate\.dense", ".feed_forward.up"),
    (r"\.output\.dense", ".feed_forward.down"),
    (r"\.output\.LayerNorm", ".residual3.norm"),
    (r"\.cls\.predictions\.transform\.LayerNorm", ".predictions.norm"),
    (r"\.cls\.predictions\.transform\.dense", ".predictions.dense"),
    (r"\.cls\.predictions\.bias", ".predictions.decoder.bias"),  # a second name of the same bias
    (r"\.cls\.", "."),
    (r"^text_decoder\.bert\.", "text_decoder.text."),
]
_VISION_RULES = [
    (r"embeddings\.class_embedding", "embeddings.class_token"),
    (r"embeddings\.patch_embedding\.", "embeddings.patches.projection."),
    (r"embeddings\.position_embedding$", "embeddings.positions"),
    (r"^vision_model\.encoder\.", "vision_model."),
    (r"self_attn\.qkv", "attention.qkv"),
    (r"self_attn\.projection", "attention.out"),
    (r"mlp\.fc1", "feed_forward.up"),
    (r"mlp\.fc2", "feed_forward.down"),
    (r"layer_norm(\d)", r"residual\1.norm"),
    (r"post_layernorm", "norm"),
]


class _BlipForOneTask(nn.Module):
    """What the three models for one task share: names of files, and a start from pre-training."""

    hf_rules = [*_VISION_RULES, *_TEXT_RULES]
    hf_skip = [r"position_ids$"]  # older files store them

    def __init__(self, config: BlipConfig):
        super().__init__()
        self.config = config
        self.vision_model = _image_model(config)

    @classmethod
    def from_pretraining(cls, model: BlipForPreTraining) -> Self:
        """A model for this task with copies of what pre-training learned.

        Raises:
            TypeError: `model` is not a `BlipForPreTraining`.
            RuntimeError: the sizes do not fit: question answering looks from the decoder at the
                text encoder, whose width must be the image encoder's.
        """
        if not isinstance(model, BlipForPreTraining):
            raise TypeError(f"model is a {type(model).__name__}, expected a BlipForPreTraining")
        task = cls(model.config).to(model.itm_head.weight)
        learned = model.state_dict()
        task.load_state_dict({name: learned[name] for name in task.state_dict()})
        return task.train(model.training)


@dataclass
class BlipCaptionOutput:
    """What a captioner returns."""

    loss: Tensor | None  # (), with labels only
    logits: Tensor  # (batch, length, vocab_size)
    image_embeds: Tensor  # (batch, 1 + patches, vision.d_model)


class BlipForConditionalGeneration(_BlipForOneTask):
    """Writes a caption: image encoder, and a decoder that looks at what it made."""

    def __init__(self, config: BlipConfig):
        super().__init__(config)
        self.text_decoder = BlipTextDecoder(config)

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        interpolate_pos_encoding: bool = False,
    ) -> BlipCaptionOutput:
        """Logits for the token after each one in `input_ids`.

        Args:
            pixel_values: (batch, channels, height, width).
            input_ids: (batch, length), starting with bos_token_id.
            attention_mask: 0/1 (batch, length).
            labels: (batch, length), most often `input_ids` with -100 in place of padding. They are
                shifted here: position t is scored on labels[:, t + 1].
            interpolate_pos_encoding: accept another image size.
        """
        image = self.vision_model(pixel_values, interpolate_pos_encoding).last_hidden_state
        logits = self.text_decoder(input_ids, attention_mask, image)
        loss = None
        if labels is not None:
            loss = caption_loss(logits, labels, label_smoothing=self.config.label_smoothing)
        return BlipCaptionOutput(loss, logits, image)

    @torch.no_grad()
    def generate(
        self,
        pixel_values: Tensor,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        max_new_tokens: int = 20,
        num_beams: int = 1,
        interpolate_pos_encoding: bool = False,
        **options: Any,
    ) -> Tensor:
        """Write captions. Call `eval()` first.

        Args:
            pixel_values: (batch, channels, height, width).
            input_ids: the captions' beginnings (batch, length), each starting with bos_token_id
                and without sep_token_id at its end; by default bos_token_id alone.
            attention_mask: 0/1 (batch, length) for prompts that are padded on the left.
            max_new_tokens: the most tokens to add.
            num_beams: 1 is greedy; more is beam search, one image after another.
            options: more of `zoo_lessons.generation.generate` or `beam_search`.

        Returns:
            (batch, length + new): bos, the caption, sep_token_id, padding.

        Raises:
            ValueError: prompts that do not start with bos_token_id or that end in sep_token_id.
        """
        image = self.vision_model(pixel_values, interpolate_pos_encoding).last_hidden_state
        if input_ids is None:
            input_ids = _first_tokens(len(image), self.config, image.device)
        _require_prompts(input_ids, attention_mask, self.config)
        return self.text_decoder.write(
            input_ids,
            attention_mask,
            image,
            num_beams=num_beams,
            max_new_tokens=max_new_tokens,
            **options,
        )


@dataclass
class BlipMatchOutput:
    """What image-text retrieval returns."""

    itm_score: Tensor  # (batch, 2): [does not match, matches]; or cosines (images, texts)
    question_embeds: Tensor  # the text's hidden states (batch, length, d_model)
    last_hidden_state: Tensor  # the image's (batch, 1 + patches, vision.d_model)


class BlipForImageTextRetrieval(_BlipForOneTask):
    """Says whether a text fits an image: by a quick comparison (ITC) or a close look (ITM)."""

    def __init__(self, config: BlipConfig):
        super().__init__(config)
        self.text_encoder = BlipTextModel(config)
        _add_matching(self, config)

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        use_itm_head: bool = True,
        attention_mask: Tensor | None = None,
        *,
        interpolate_pos_encoding: bool = False,
    ) -> BlipMatchOutput:
        """Compare texts (batch, length) with images (batch, channels, height, width).

        With `use_itm_head`, text i looks at image i and gets two logits. Without, every image is
        compared with every text, by the cosine of their vectors; the numbers may then differ.
        """
        image = self.vision_model(pixel_values, interpolate_pos_encoding).last_hidden_state
        if use_itm_head:
            text = self.text_encoder(input_ids, attention_mask, image)
            score = self.itm_head(text[:, 0])
        else:
            text = self.text_encoder(input_ids, attention_mask)
            image_feature = F.normalize(self.vision_proj(image[:, 0]), dim=-1)
            score = image_feature @ F.normalize(self.text_proj(text[:, 0]), dim=-1).T
        return BlipMatchOutput(score, text, image)


@dataclass
class BlipAnswerOutput:
    """What question answering returns."""

    loss: Tensor | None  # (), with labels only
    logits: Tensor  # (batch, answer length, vocab_size)
    image_embeds: Tensor  # (batch, 1 + patches, vision.d_model)


class BlipForQuestionAnswering(_BlipForOneTask):
    """The encoder reads the question and looks at the image; the decoder looks at the encoder's
    output and writes the answer (section 5.3, figure 5)."""

    def __init__(self, config: BlipConfig):
        super().__init__(config)
        self.text_encoder = BlipTextModel(config)
        self.text_decoder = BlipTextDecoder(config, d_memory=config.d_model)

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        interpolate_pos_encoding: bool = False,
    ) -> BlipAnswerOutput:
        """Logits for the token after each one of the answer.

        Args:
            input_ids, attention_mask: the question (batch, length).
            pixel_values: (batch, channels, height, width).
            decoder_input_ids, decoder_attention_mask: the answer (batch, answer length), starting
                with bos_token_id; by default `labels`.
            labels: (batch, answer length), shifted here; -100 is left out of the loss.

        Raises:
            ValueError: neither decoder_input_ids nor labels.
        """
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError(
                    "decoder_input_ids and labels are both missing, expected one of them (use "
                    "generate when there is no answer)"
                )
            decoder_input_ids = labels
        image = self.vision_model(pixel_values, interpolate_pos_encoding).last_hidden_state
        question = self.text_encoder(input_ids, attention_mask, image)
        logits = self.text_decoder(
            decoder_input_ids, decoder_attention_mask, question, attention_mask
        )
        loss = None
        if labels is not None:
            loss = caption_loss(logits, labels, label_smoothing=self.config.label_smoothing)
        return BlipAnswerOutput(loss, logits, image)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        attention_mask: Tensor | None = None,
        *,
        max_new_tokens: int = 20,
        num_beams: int = 1,
        interpolate_pos_encoding: bool = False,
        **options: Any,
    ) -> Tensor:
        """Answer questions (batch, length): bos_token_id, the answer, sep_token_id, padding."""
        image = self.vision_model(pixel_values, interpolate_pos_encoding).last_hidden_state
        question = self.text_encoder(input_ids, attention_mask, image)
        return self.text_decoder.write(
            _first_tokens(len(image), self.config, image.device),
            None,
            question,
            attention_mask,
            num_beams=num_beams,
            max_new_tokens=max_new_tokens,
            **options,
        )


class BlipForPreTraining(nn.Module):
    """All of BLIP at once (figure 2): what the three losses train.

    The text encoder and the text decoder share everything but self-attention and the norm after
    it: what tells reading from writing is who may look at whom (section 3.2). Texts are
    `[any token] words sep_token_id`: each method puts its own first token in place.
    """

    def __init__(self, config: BlipConfig):
        super().__init__()
        self.config = c = config
        self.vision_model = _image_model(c)
        self.text_encoder = BlipTextModel(c)
        self.text_decoder = BlipTextDecoder(c)
        encoder, decoder = self.text_encoder, self.text_decoder
        decoder.text.embeddings = encoder.embeddings
        decoder.predictions.decoder.weight = encoder.embeddings.word.weight
        for mine, shared in zip(decoder.text.layers, encoder.layers, strict=True):
            for part in ("cross_attention", "residual2", "feed_forward", "residual3"):
                setattr(mine, part, getattr(shared, part))
        _add_matching(self, c)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())  # log(1 / temperature)

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, 1 + patches, vision.d_model)."""
        return self.vision_model(pixel_values).last_hidden_state

    def image_features(self, image: Tensor) -> Tensor:
        """What `encode_image` made -> vectors of length 1, (batch, embed_dim)."""
        return F.normalize(self.vision_proj(image[:, 0]), dim=-1)

    def text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Texts alone, after [CLS] -> vectors of length 1, (batch, embed_dim)."""
        hidden = self.text_encoder(_begin(input_ids, self.config.cls_token_id), attention_mask)
        return F.normalize(self.text_proj(hidden[:, 0]), dim=-1)

    def match(self, input_ids: Tensor, attention_mask: Tensor | None, image: Tensor) -> Tensor:
        """Text i beside image i, after [ENC] -> (batch, 2): [does not match, matches]."""
        ids = _begin(input_ids, self.config.enc_token_id)
        return self.itm_head(self.text_encoder(ids, attention_mask, image)[:, 0])

    def caption_logits(
        self, input_ids: Tensor, attention_mask: Tensor | None, image: Tensor
    ) -> Tensor:
        """Caption i about image i, after [DEC] -> next-token logits (batch, length, vocab_size)."""
        ids = _begin(input_ids, self.config.bos_token_id)
        return self.text_decoder(ids, attention_mask, image)


def _image_model(c: BlipConfig) -> ViT:
    """The image encoder, with the stem that the config asks for."""
    model = ViT(c.vision)
    if c.stem == "convolutions":
        v = c.vision
        model.embeddings.patches = ConvolutionalStem(v.patch_size, v.d_model, v.num_channels)
    return model


def _add_matching(model: nn.Module, c: BlipConfig) -> None:
    """The layers that compare and match: ITC's two projections and ITM's two logits."""
    model.vision_proj = nn.Linear(c.vision.d_model, c.embed_dim)
    model.text_proj = nn.Linear(c.d_model, c.embed_dim)
    model.itm_head = nn.Linear(c.d_model, 2)
    for layer in (model.vision_proj, model.text_proj, model.itm_head):
        _initialise(layer)


def _begin(input_ids: Tensor, token: int) -> Tensor:
    """The same texts with another first token: [CLS], [ENC] or [DEC]."""
    return torch.cat([torch.full_like(input_ids[:, :1], token), input_ids[:, 1:]], dim=1)


def _first_tokens(batch: int, c: BlipConfig, device: torch.device) -> Tensor:
    return torch.full((batch, 1), c.bos_token_id, device=device)


def _require_prompts(input_ids: Tensor, attention_mask: Tensor | None, c: BlipConfig) -> None:
    require_ids("input_ids", input_ids, c.vocab_size)
    if input_ids.shape[1] == 0:
        raise ValueError("prompts are empty, expected bos_token_id at least")
    start = torch.zeros(len(input_ids), dtype=torch.long, device=input_ids.device)
    if attention_mask is not None:
        start = attention_mask.long().argmax(dim=1)
    first = input_ids.gather(1, start[:, None]).flatten()
    if (first != c.bos_token_id).any() or (input_ids[:, -1] == c.sep_token_id).any():
        raise ValueError(
            f"prompts start with tokens {first.tolist()} and end in {input_ids[:, -1].tolist()}, "
            f"expected bos_token_id={c.bos_token_id} first and no sep_token_id={c.sep_token_id} "
            "last: a tokenizer's [CLS] and [SEP] do not belong here"
        )


def _initialise(module: nn.Module) -> None:
    """Normal with standard deviation 0.02, as BERT; biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
