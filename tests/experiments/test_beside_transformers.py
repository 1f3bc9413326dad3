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
from zoo_lessons.models.flamingo import GatedCrossAttention, PerceiverResampler
from zoo_lessons.paths import repository_root
from zoo_lessons.weights import SUPPORTED

ENTRIES = [
    *model_table.ENTRIES,
    *vision_model_table.ENTRIES,
    *multimodal_model_table.ENTRIES,
    *efficiency_model_table.ENTRIES,
]
PARTS = [entry for entry in ENTRIES if issubclass(entry.ours, table.Part)]
MODELS = [entry for entry in ENTRIES if entry not in PARTS]
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
    multimodal_model_table.TheirGatedBlock,
}


def entry_of(model):
    return next(entry for entry in ENTRIES if entry.model == model)


def test_rows_are_supported_models_and_no_two_are_the_same():
    assert len({entry.model for entry in ENTRIES}) == len(ENTRIES)
    for entry in MODELS:
        assert entry.theirs is None or SUPPORTED[entry.theirs.__name__][1] == entry.ours.__name__


def test_every_supported_model_has_a_row():
    assert set(SUPPORTED) == {entry.theirs.__name__ for entry in MODELS if entry.theirs}


def test_both_of_flamingos_new_layers_have_a_row():
    found = {entry.ours.classes[0]: entry.theirs.classes[0].__name__ for entry in PARTS}
    assert found == {
        PerceiverResampler: "IdeficsPerceiverResampler",
        GatedCrossAttention: "IdeficsGatedCrossAttentionLayer",
    }


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


def test_a_difference_is_seen():
    """Break our model: the column must say so."""
    entry = entry_of("BERT-Base")

    def broken(theirs):
        ours = entry.convert(theirs)
        ours.layers[1].residual1.norm.eps = 0.1
        return ours

    broken_entry = dataclasses.replace(entry, convert=broken)
    assert table.difference(broken_entry, torch.float64) > 1e-4


@pytest.mark.parametrize("entry", PARTS, ids=lambda entry: entry.model)
def test_every_input_of_a_part_matters(entry):
    """What words see, too: the gated block's first words see no image."""
    torch.manual_seed(0)
    both = table.randomised(entry), entry.convert(table.randomised(entry))
    inputs = entry.inputs(entry.small, 2, 9)
    changed = {name: {name: value.flip(-1)} for name, value in inputs.items()}
    if "mask" in inputs:  # ours reads the first, theirs the others
        changed["mask"] = {name: inputs[name].flip(-1) for name in ("mask", "scores")}
        changed["seen"] = {"mask": inputs["mask"] & False, "seen": 0 * inputs["seen"]}
        del changed["scores"]
    with torch.no_grad():
        for model in both:
            before = model(**inputs).output
            for name, values in changed.items():
                after = model(**{**inputs, **values}).output
                assert (after - before).abs().max() > 1e-3, name


def test_smaller_inputs_are_named():
    """A row that is not timed at its published size says so."""
    for entry in ENTRIES:
        assert entry.timed is None or entry.timed_with
        assert entry.timed is None or "image_size" in str(entry.timed)


def flat(config):
    """The fields of a config, and those of the configs in it."""
    fields = {}
    for name, value in dataclasses.asdict(config).items():
        inner = value.items() if isinstance(value, dict) else {"": value}.items()
        fields |= {f"{name}.{key}".strip("."): each for key, each in inner}
    return fields


@pytest.mark.parametrize("entry", [e for e in MODELS if e.theirs], ids=lambda entry: entry.model)
def test_small_models_are_not_the_default(entry):
    """A default that both sides share would hide an option that ours ignores."""
    small = flat(type(entry.config).from_hf(entry.small))
    default = flat(type(entry.config)())
    same = {field for field, value in small.items() if value == default[field]}
    assert same <= {"dropout"} | FIXED.get(entry.theirs, set()), same


def test_lines_of_code():
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
    # import, def, text (3), return g( x, text, ) (4), class, b
    assert table.code_lines(textwrap.dedent(source)) == 11


def test_layers_are_found_through_other_layers():
    folder = repository_root() / "zoo_lessons"
    found = {path.name for path in table.imported_layers(folder / "models" / "bert.py")}
    assert {"attention.py", "blocks.py", "checks.py", "positions.py"} <= found
    assert "crf.py" not in found


def test_lines_of_a_part_are_those_of_its_classes():
    for entry in PARTS:
        whole = table.lines(dataclasses.replace(entry, ours=entry.ours.classes[0]))["ours"]
        assert 30 < table.lines(entry)["ours"] < whole
        assert table.lines(entry)["file"] == "flamingo.py"


def test_a_whole_row():
    entry = entry_of("BERT, question answering")
    tiny = transformers.BertConfig(
        **{**model_table.BERT_SMALL, "max_position_embeddings": table.LENGTH}
    )
    row = table.row(dataclasses.replace(entry, published=tiny, inputs=model_table.text, rounds=3))
    assert row["theirs"] == "BertForQuestionAnswering" and row["lines"]["file"] == "bert.py"
    assert row["time"]["interval"][0] <= row["time"]["ratio"] <= row["time"]["interval"][1]
    assert row["time"]["milliseconds"] > 0
    assert row["memory"]["ours"] > 0 and row["memory"]["theirs"] > 0


def test_a_row_without_a_counterpart():
    entry = entry_of("T2T-ViT-14")
    tiny = dataclasses.replace(entry.config, image_size=32, d_model=48, num_layers=2)
    row = table.row(dataclasses.replace(entry, config=tiny, published=tiny, rounds=3))
    assert row["theirs"] is None and row["difference"] == {"float64": None, "float32": None}
    assert row["parameters"]["ours"] > 0 and row["parameters"]["theirs"] is None
    assert set(row["time"]) == {"with", "rounds", "milliseconds"}
    assert row["time"]["milliseconds"] > 0
    assert row["memory"]["theirs"] is None and row["memory"]["ours"] > 0
