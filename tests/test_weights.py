"""Loading weights: what is supported works, and what is not says what would."""

import copy
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


def old_name(key):
    """LayerNorm's parameters as they were called in 2018."""
    return key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"
    )


def test_local_folder(folder):
    theirs = transformers.BertModel.from_pretrained(folder)
    ours, ids = load_pretrained(folder), torch.tensor([[3, 7, 9]])
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).last_hidden_state, theirs(ids).last_hidden_state)
    assert not ours.training


def test_names_of_the_oldest_files(folder):
    file = folder / "model.safetensors"
    state = safetensors.torch.load_file(file)
    old = {"bert." + old_name(key): value for key, value in state.items()}
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
    set_architecture(folder, "BertLMHeadModel")
    with pytest.raises(ValueError, match="BertLMHeadModel is not supported"):
        load_pretrained(folder)


# --- files of BERT with heads, as they are published ----------------------------------------------

SMALL = transformers.BertConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=24, max_position_embeddings=12,
)  # fmt: skip
IDS = torch.tensor([[3, 7, 9]])


def set_architecture(folder, name):
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = [name]
    (folder / "config.json").write_text(json.dumps(config))


def write(model, folder, state=None):
    """Save a model; `state` replaces the tensors of its file."""
    model.save_pretrained(folder)
    if state is not None:
        state = {key: value.clone() for key, value in state.items()}
        safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})


def assert_loads_as_transformers_does(folder, name, field="logits"):
    theirs = getattr(transformers, name).from_pretrained(folder)
    ours = load_pretrained(folder)
    assert type(ours).__name__ == name
    with torch.no_grad():
        torch.testing.assert_close(getattr(ours(IDS), field), getattr(theirs(IDS), field))


def test_file_of_bert_base_uncased(tmp_path):
    """Its config says BertForMaskedLM; it holds the other head, the pooler and the old names."""
    model = randomise(transformers.BertForPreTraining(copy.deepcopy(SMALL)))
    state = {
        old_name(key): value
        for key, value in model.state_dict().items()
        if not key.startswith("cls.predictions.decoder")
    }
    for key in ("bert.pooler.dense.weight", "cls.seq_relationship.bias", "cls.predictions.bias"):
        assert key in state
    assert "cls.predictions.transform.LayerNorm.gamma" in state
    write(model, tmp_path, state)
    set_architecture(tmp_path, "BertForMaskedLM")
    assert_loads_as_transformers_does(tmp_path, "BertForMaskedLM")
    set_architecture(tmp_path, "BertForPreTraining")
    assert_loads_as_transformers_does(tmp_path, "BertForPreTraining", "seq_relationship_logits")
    set_architecture(tmp_path, "BertModel")
    assert_loads_as_transformers_does(tmp_path, "BertModel", "pooler_output")


@pytest.mark.parametrize("name", ["BertForTokenClassification", "BertForQuestionAnswering"])
def test_pooler_in_a_file_whose_model_needs_none(tmp_path, name):
    model = randomise(getattr(transformers, name)(copy.deepcopy(SMALL)))
    pooler = {f"bert.pooler.dense.{kind}": torch.ones(16) for kind in ("weight", "bias")}
    write(model, tmp_path, {**model.state_dict(), **pooler})
    field = "logits" if "Token" in name else "end_logits"
    assert_loads_as_transformers_does(tmp_path, name, field)


def test_encoder_without_a_pooler(tmp_path):
    theirs = randomise(transformers.BertModel(copy.deepcopy(SMALL), add_pooling_layer=False))
    assert from_transformers(theirs).pooler is None
    write(theirs, tmp_path)
    ours = load_pretrained(tmp_path)
    assert ours(IDS).pooler_output is None
    with torch.no_grad():
        expected = theirs(IDS).last_hidden_state
        torch.testing.assert_close(ours(IDS).last_hidden_state, expected)


def test_classifier_without_its_pooler_is_an_error(tmp_path):
    """transformers would fill it with random numbers and warn."""
    model = transformers.BertForSequenceClassification(copy.deepcopy(SMALL))
    state = {key: value for key, value in model.state_dict().items() if "pooler" not in key}
    write(model, tmp_path, state)
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*bert.pooler.weight"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["decoder.weight", "decoder.bias"])
def test_untied_decoder_is_refused(tmp_path, name):
    model = randomise(transformers.BertForMaskedLM(copy.deepcopy(SMALL)))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    write(model, tmp_path, state)
    assert_loads_as_transformers_does(tmp_path, "BertForMaskedLM")  # both names, equal values
    state[f"cls.predictions.{name}"] += 1
    write(model, tmp_path, state)
    with pytest.raises(ValueError, match="differ, but our model has one weight for both"):
        load_pretrained(tmp_path)
    config = copy.deepcopy(SMALL)
    config.tie_word_embeddings = False
    with pytest.raises(ValueError, match="differ, but our model has one weight"):
        from_transformers(randomise(transformers.BertForMaskedLM(config)))


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
