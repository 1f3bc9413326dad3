"""Loading weights: what is supported works, and what is not says what would."""

import json

import pytest
import safetensors.torch
import torch
import transformers

from tests.parity.honest import randomise
from zoo_lessons import weights
from zoo_lessons.weights import (
    from_transformers,
    load_pretrained,
    load_tokenizer,
)


@pytest.fixture
def folder(tmp_path):
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=12,
    )  # fmt: skip
    randomise(transformers.BertModel(config)).save_pretrained(tmp_path)
    return tmp_path


def test_local_folder(folder):
    theirs = transformers.BertModel.from_pretrained(folder)
    ours, ids = load_pretrained(folder), torch.tensor([[3, 7, 9]])
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).last_hidden_state, theirs(ids).last_hidden_state)
    assert not ours.training


def test_names_of_the_oldest_files(folder):
    file = folder / "model.safetensors"
    state = safetensors.torch.load_file(file)
    old = {
        "bert."
        + k.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): v
        for k, v in state.items()
    }
    assert set(old) != set(state)
    expected = load_pretrained(folder).state_dict()
    safetensors.torch.save_file(old, file)
    for key, value in load_pretrained(folder).state_dict().items():
        assert torch.equal(value, expected[key])


def test_missing_weight_is_an_error(folder):
    file = folder / "model.safetensors"
    state = safetensors.torch.load_file(file)
    del state["encoder.layer.1.output.dense.weight"]
    safetensors.torch.save_file(state, file)
    with pytest.raises(RuntimeError, match="layers.1.feed_forward.down.weight"):
        load_pretrained(folder)


def test_pickle_is_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="only safetensors is read"):
        load_pretrained(folder)


def test_unsupported_class(folder):
    model = transformers.T5Model(
        transformers.T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    )
    with pytest.raises(ValueError, match="T5Model is not supported; supported: BertModel"):
        from_transformers(model)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForMaskedLM"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="BertForMaskedLM is not supported"):
        load_pretrained(folder)


def test_from_transformers_copies():
    theirs = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=8,
        )
    )  # fmt: skip
    ours = from_transformers(theirs)
    before = theirs.embeddings.word_embeddings.weight.clone()
    with torch.no_grad():
        ours.embeddings.word.weight.zero_()
    assert torch.equal(theirs.embeddings.word_embeddings.weight, before)


def test_hub_without_network(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"load_pretrained\('minilm'\) or a folder"):
        load_pretrained("no-such-owner/no-such-model")
    with pytest.raises(FileNotFoundError, match="no folder /no/such/folder"):
        load_pretrained("/no/such/folder")


def test_damaged_minilm(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    monkeypatch.setattr(weights, "_minilm_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match="model.safetensors has sha256 .* reinstall"):
        load_pretrained("minilm")


def test_tokenizer_neither_pads_nor_truncates():
    tokenizer = load_tokenizer("minilm")
    assert len(tokenizer.encode("word " * 300).ids) == 302
    assert len({len(e.ids) for e in tokenizer.encode_batch(["one", "one two"])}) == 2
