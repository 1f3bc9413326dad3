"""Every model of the zoo beside `transformers`: same numbers, how much code, how large, how fast.

- Difference: both models get the same random weights, in a small size that is not the default
  anywhere; the largest difference over all outputs, relative to the largest output. The tests hold
  a bound on it; here it is reported.
- Lines of code: blank lines, comments and docstrings do not count. Our files share their layers
  with each other, `transformers`' modelling files share none: the layers are counted beside.
- Parameters: of the published size, ours and theirs, next to the count that was published.
- Time: one forward pass of the published size, random weights, side by side. Theirs runs with its
  default attention, PyTorch's fused one, and keeps no cache, as ours.

A new model is one more `Entry` in `ENTRIES`.
"""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import io
import tokenize
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from zoo_lessons import models
from zoo_lessons.bench import CONTROL, compare
from zoo_lessons.parity import randomise, relative_difference
from zoo_lessons.records import experiment
from zoo_lessons.training import seed_everything
from zoo_lessons.weights import from_transformers

BATCH, LENGTH = 2, 32
ROUNDS = 11
Inputs = Callable[[Any, int, int], dict[str, Tensor]]


@dataclass(frozen=True)
class Entry:
    """One row of the table.

    Attributes:
        model: what the row is called.
        ours: our class.
        config: our config of the published size.
        theirs: the class of `transformers`.
        small: its config of a small size, not the default in any field.
        published: its config of the published size.
        inputs: makes the inputs for one of these configs, a batch size and a length.
        fields: the outputs that are compared.
        count: the number of parameters as published.
        source: where it was published.
    """

    model: str
    ours: type[nn.Module]
    config: Any
    theirs: type[transformers.PreTrainedModel]
    small: transformers.PreTrainedConfig
    published: transformers.PreTrainedConfig
    inputs: Inputs
    fields: tuple[str, ...]
    count: str
    source: str


# --- inputs ------------------------------------------------------------------------------------


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


# --- the models --------------------------------------------------------------------------------

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


# --- the columns -------------------------------------------------------------------------------


def difference(entry: Entry, dtype: torch.dtype) -> float:
    """The largest relative difference of any output, where the input is not padding."""
    theirs = randomised(entry).to(dtype)
    ours = from_transformers(theirs)
    inputs = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in entry.inputs(entry.small, 3, 11).items()
    }
    real = inputs["attention_mask"].bool() if "attention_mask" in inputs else None
    with torch.no_grad():
        outputs = ours(**inputs), theirs(**inputs)
    found = []
    for field in entry.fields:
        a, b = (getattr(output, field) for output in outputs)
        if real is not None and a.shape[:2] == real.shape:
            a, b = a[real], b[real]
        found.append(relative_difference(a, b))
    return max(found)


def randomised(entry: Entry) -> nn.Module:
    """Their small model with random weights. What is never trained (sinusoids) stays."""
    model = entry.theirs(copy.deepcopy(entry.small))
    fixed = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    randomise(model)
    with torch.no_grad():
        for name, value in fixed.items():
            model.get_parameter(name).copy_(value)
    return model


def parameters(entry: Entry) -> dict[str, int]:
    """Trainable parameters at the published size, counted without memory for them."""
    with torch.device("meta"):
        built = {"ours": entry.ours(entry.config), "theirs": entry.theirs(entry.published)}
    return {
        side: sum(p.numel() for p in model.parameters() if p.requires_grad)
        for side, model in built.items()
    }


def timing(entry: Entry) -> dict[str, Any]:
    """Seconds of one forward pass, ours over theirs."""
    theirs = entry.theirs(copy.deepcopy(entry.published)).eval()
    ours = from_transformers(theirs)
    inputs = entry.inputs(entry.published, BATCH, LENGTH)

    def forward(model: nn.Module) -> Callable[[], None]:
        @torch.no_grad()
        def run() -> None:
            model(**inputs)

        return run

    times = compare({"theirs": forward(theirs), "ours": forward(ours)}, rounds=ROUNDS)
    return {
        "ratio": times.ratio("ours"),
        "interval": list(times.interval("ours")),
        "control_interval": list(times.interval(CONTROL)),
        "verdict": times.verdict("ours"),
        "milliseconds": 1e3 * times.median("ours"),
    }


def lines(entry: Entry) -> dict[str, Any]:
    """Lines of code of our file, of the layers that it imports, and of their file."""
    ours, theirs = (inspect.getsourcefile(cls) for cls in (entry.ours, entry.theirs))
    return {
        "file": Path(ours).name,
        "ours": code_lines(Path(ours)),
        "layers": sum(code_lines(path) for path in imported_layers(Path(ours))),
        "theirs": code_lines(Path(theirs)),
    }


def code_lines(path: Path) -> int:
    """Lines that hold code: not blank, no comment, no docstring."""
    source = path.read_text(encoding="utf-8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        node.body[0].value.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
    }
    silent = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        first, last = token.start[0], token.end[0]
        if token.type in silent or (token.type == tokenize.STRING and first in docstrings):
            continue
        found.update(range(first, last + 1))
    return len(found)


def imported_layers(path: Path) -> set[Path]:
    """The files of `zoo_lessons.layers` that a file imports, and that those import."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop().read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("zoo_lessons.layers."):
                layer = Path(importlib.import_module(node.module).__file__)
                if layer not in found:
                    found.add(layer)
                    waiting.append(layer)
    return found


def row(entry: Entry) -> Mapping[str, Any]:
    """Everything that the table says about one model."""
    seed_everything(0)
    return {
        "model": entry.model,
        "ours": entry.ours.__name__,
        "theirs": entry.theirs.__name__,
        "difference": {
            "float64": difference(entry, torch.float64),
            "float32": difference(entry, torch.float32),
        },
        "lines": lines(entry),
        "parameters": {**parameters(entry), "published": entry.count, "source": entry.source},
        "time": timing(entry),
    }


@experiment(
    "model_table",
    lesson="06",
    uses=[
        "zoo_lessons.bench",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.layers.cache",
        "zoo_lessons.layers.checks",
        "zoo_lessons.layers.positions",
        "zoo_lessons.models.bert",
        "zoo_lessons.models.gpt",
        "zoo_lessons.models.transformer",
        "zoo_lessons.parity",
        "zoo_lessons.weights",
    ],
)
def model_table() -> dict[str, Any]:
    figures = {
        "transformers": transformers.__version__,
        "batch": BATCH,
        "length": LENGTH,
        "rows": [row(entry) for entry in ENTRIES],
    }
    return {"figures": figures}
