"""The table of models: rows that compare what they say, and lines counted by one rule."""

from __future__ import annotations

import dataclasses
import textwrap

import pytest
import torch
import transformers

from experiments import model_table as table
from zoo_lessons.paths import repository_root
from zoo_lessons.weights import SUPPORTED

by_name = pytest.mark.parametrize("entry", table.ENTRIES, ids=lambda entry: entry.model)


def test_rows_are_supported_models_and_no_two_are_the_same():
    assert len({entry.model for entry in table.ENTRIES}) == len(table.ENTRIES)
    for entry in table.ENTRIES:
        assert SUPPORTED[entry.theirs.__name__][1] == entry.ours.__name__


@by_name
def test_both_sides_agree(entry):
    """The bounds of the parity tests hold for the table's own small models."""
    torch.manual_seed(0)
    assert 0 <= table.difference(entry, torch.float64) <= 1e-9
    assert 0 <= table.difference(entry, torch.float32) <= 1e-5


@by_name
def test_published_sizes(entry):
    count = table.parameters(entry)
    assert count["ours"] == count["theirs"]
    published = float(entry.count.removesuffix(" M"))
    # GPT-2's paper is wrong by 6 %; a head or a pooler more or less is within 1 %.
    assert count["ours"] / 1e6 == pytest.approx(published, rel=0.07)


def test_a_difference_is_seen(monkeypatch):
    """Break our model: the column must say so."""
    entry = next(entry for entry in table.ENTRIES if entry.model == "BERT-Base")

    def broken(theirs):
        ours = table_from_transformers(theirs)
        ours.layers[1].residual1.norm.eps = 0.1
        return ours

    table_from_transformers = table.from_transformers
    monkeypatch.setattr(table, "from_transformers", broken)
    assert table.difference(entry, torch.float64) > 1e-4


@by_name
def test_small_models_are_not_the_default(entry):
    """A default that both sides share would hide an option that ours ignores."""
    small = dataclasses.asdict(type(entry.config).from_hf(entry.small))
    default = dataclasses.asdict(type(entry.config)())
    same = {field for field, value in small.items() if value == default[field]}
    fixed = {"dropout"}  # no effect in evaluation mode
    if entry.theirs is transformers.MarianMTModel:
        fixed |= {"norm", "eps", "target_vocab_size"}  # Marian has one choice only
    if entry.theirs is transformers.BertForQuestionAnswering:
        fixed |= {"num_labels"}
    assert same <= fixed, same


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
    entry = table.ENTRIES[-1]
    tiny = transformers.BertConfig(**{**table.BERT_SMALL, "max_position_embeddings": table.LENGTH})
    row = table.row(dataclasses.replace(entry, published=tiny, inputs=table.text))
    assert row["theirs"] == "BertForQuestionAnswering" and row["lines"]["file"] == "bert.py"
    assert row["time"]["interval"][0] <= row["time"]["ratio"] <= row["time"]["interval"][1]
    assert row["time"]["milliseconds"] > 0
