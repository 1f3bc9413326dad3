"""The tables of models: rows that compare what they say, and lines counted by one rule."""

from __future__ import annotations

import dataclasses
import textwrap

import pytest
import torch
import transformers

from experiments import beside_transformers as table
from experiments import (
    efficiency_model_table,
    model_table,
    multimodal_model_table,
    vision_model_table,
)
from zoo_lessons.paths import repository_root
from zoo_lessons.weights import SUPPORTED

ENTRIES = [
    *model_table.ENTRIES,
    *vision_model_table.ENTRIES,
    *multimodal_model_table.ENTRIES,
    *efficiency_model_table.ENTRIES,
]
by_name = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.model)
compared = pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if entry.theirs], ids=lambda entry: entry.model
)
MAMBA_ONLY_OURS = {"selective", "attention_layers", "num_heads", "d_ff"}
BLIP_ONLY_OURS = {"stem", "cls_token_id"} | {
    f"vision.{name}" for name in ("dropout", "num_channels", "num_labels", "pooling")
}
# What has one choice only, or no effect in evaluation mode.
FIXED = {
    **{entry.theirs: BLIP_ONLY_OURS for entry in ENTRIES if entry.model.startswith("BLIP")},
    transformers.AlbertModel: {"sharing"},
    transformers.CLIPModel: {"text.pooling", "vision.stem"},
    transformers.DistilBertModel: {"eps"},
    transformers.DistilBertForSequenceClassification: {"eps"},
    transformers.MambaForCausalLM: MAMBA_ONLY_OURS,
    transformers.MambaModel: MAMBA_ONLY_OURS,
    transformers.MarianMTModel: {"norm", "eps", "target_vocab_size"},
    transformers.BertForQuestionAnswering: {"num_labels"},
    transformers.MobileViTForImageClassification: {"num_layers", "strides"},
    transformers.ViTForImageClassification: {"pooling"},
}


# Their code computes parts in float32, whatever the dtype; the parity tests lift that.
FLOAT32_INSIDE = {
    transformers.LongformerModel,
    transformers.MambaForCausalLM,
    transformers.MambaModel,
}


def entry_of(model):
    return next(entry for entry in ENTRIES if entry.model == model)


def test_rows_are_supported_models_and_no_two_are_the_same():
    assert len({entry.model for entry in ENTRIES}) == len(ENTRIES)
    for entry in ENTRIES:
        assert entry.theirs is None or SUPPORTED[entry.theirs.__name__][1] == entry.ours.__name__


def test_every_supported_model_has_a_row():
    assert set(SUPPORTED) == {entry.theirs.__name__ for entry in ENTRIES if entry.theirs}


@compared
def test_both_sides_agree(entry):
    """The bounds of the parity tests hold for the table's own small models."""
    torch.manual_seed(0)
    bound = 1e-6 if entry.theirs in FLOAT32_INSIDE else 1e-9
    assert 0 <= table.difference(entry, torch.float64) <= bound
    assert 0 <= table.difference(entry, torch.float32) <= 1e-5


@by_name
def test_published_sizes(entry):
    count = table.parameters(entry)
    assert count["theirs"] == (count["ours"] if entry.theirs else None)
    if entry.count:
        published = float(entry.count.removesuffix(" M"))
        # GPT-2's paper is wrong by 6 %; a head or a pooler more or less is within 1 %.
        assert count["ours"] / 1e6 == pytest.approx(published, rel=0.07)


def test_a_difference_is_seen(monkeypatch):
    """Break our model: the column must say so."""
    entry = entry_of("BERT-Base")

    def broken(theirs):
        ours = table_from_transformers(theirs)
        ours.layers[1].residual1.norm.eps = 0.1
        return ours

    table_from_transformers = table.from_transformers
    monkeypatch.setattr(table, "from_transformers", broken)
    assert table.difference(entry, torch.float64) > 1e-4


def flat(config):
    """The fields of a config, and those of the configs in it."""
    fields = {}
    for name, value in dataclasses.asdict(config).items():
        inner = value.items() if isinstance(value, dict) else {"": value}.items()
        fields |= {f"{name}.{key}".strip("."): each for key, each in inner}
    return fields


@compared
def test_small_models_are_not_the_default(entry):
    """A default that both sides share would hide an option that ours ignores."""
    small = flat(type(entry.config).from_hf(entry.small))
    default = flat(type(entry.config)())
    same = {field for field, value in small.items() if value == default[field]}
    assert same <= {"dropout"} | FIXED.get(entry.theirs, set()), same


def test_lines_of_code(tmp_path):
    source = '''
        """A docstring
        of two lines."""

        # a comment
        import os  # and one behind code


        def f(x):
            """One line."""
            text = """no docstring,

            so three lines"""
            return g(
                x,
                text,  # a comment in a call

            )


        class A:
            r"""
            Raw.
            """

            b = 1
    '''
    file = tmp_path / "module.py"
    file.write_text(textwrap.dedent(source), encoding="utf-8")
    # import, def, text (3), return g( x, text, ) (4), class, b
    assert table.code_lines(file) == 11


def test_layers_are_found_through_other_layers():
    folder = repository_root() / "zoo_lessons"
    found = {path.name for path in table.imported_layers(folder / "models" / "bert.py")}
    assert {"attention.py", "blocks.py", "checks.py", "positions.py"} <= found
    assert "crf.py" not in found


def test_a_whole_row(monkeypatch):
    monkeypatch.setattr(table, "ROUNDS", 3)
    entry = entry_of("BERT, question answering")
    tiny = transformers.BertConfig(
        **{**model_table.BERT_SMALL, "max_position_embeddings": table.LENGTH}
    )
    row = table.row(dataclasses.replace(entry, published=tiny, inputs=model_table.text))
    assert row["theirs"] == "BertForQuestionAnswering" and row["lines"]["file"] == "bert.py"
    assert row["time"]["interval"][0] <= row["time"]["ratio"] <= row["time"]["interval"][1]
    assert row["time"]["milliseconds"] > 0
    assert row["memory"]["ours"] > 0 and row["memory"]["theirs"] > 0


def test_a_row_without_a_counterpart(monkeypatch):
    monkeypatch.setattr(table, "ROUNDS", 3)
    entry = entry_of("T2T-ViT-14")
    tiny = dataclasses.replace(entry.config, image_size=32, d_model=48, num_layers=2)
    row = table.row(dataclasses.replace(entry, config=tiny, published=tiny))
    assert row["theirs"] is None and row["difference"] == {"float64": None, "float32": None}
    assert row["parameters"]["ours"] > 0 and row["parameters"]["theirs"] is None
    assert set(row["time"]) == {"milliseconds"} and row["time"]["milliseconds"] > 0
    assert row["memory"]["theirs"] is None and row["memory"]["ours"] > 0
