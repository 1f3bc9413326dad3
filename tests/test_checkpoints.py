"""Checkpoints that the course ships: written, read back, and the ones their records describe."""

import json

import pytest
import torch
from torch import nn

from zoo_lessons.checkpoints import load_trained, save_change, save_trained, trained_tokenizer
from zoo_lessons.datasets.words import word_tokenizer
from zoo_lessons.models import BertForQuestionAnswering, Transformer, TransformerConfig
from zoo_lessons.paths import data_dir
from zoo_lessons.weights import load_pretrained, sha256

LARGEST = 5_000_000  # bytes of one checkpoint: the repository is cloned in class rooms


@pytest.fixture
def course(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("ZOO_LESSONS_ROOT", str(tmp_path))
    return tmp_path / "data" / "checkpoints"


def small_model():
    torch.manual_seed(0)
    return Transformer(
        TransformerConfig(
            vocab_size=11, d_model=8, num_heads=2, num_layers=1, d_ff=16, max_length=9
        )
    )


def test_saved_and_loaded(course):
    model = small_model()
    saved = save_trained("tiny", model, word_tokenizer(["a red circle"]))
    assert saved["sha256"] == sha256(course / "tiny" / "model.safetensors")
    assert saved["bytes"] == sum(file.stat().st_size for file in (course / "tiny").iterdir())
    loaded = load_trained("tiny")
    assert not loaded.training
    assert loaded.config == model.config
    for (name, ours), theirs in zip(
        model.state_dict().items(), loaded.state_dict().values(), strict=True
    ):
        assert theirs.dtype == ours.dtype, name
        torch.testing.assert_close(theirs, ours.half().to(ours.dtype), rtol=0, atol=0)
    assert next(model.parameters()).dtype == torch.float32  # saving left it alone
    assert trained_tokenizer("tiny").token_to_id("circle") is not None


def test_saving_twice_gives_the_same_file(course):
    first = save_trained("tiny", small_model())
    assert save_trained("tiny", small_model()) == first


def test_the_change_of_a_fine_tuned_encoder(course):
    torch.manual_seed(0)
    encoder = load_pretrained("minilm")
    model = BertForQuestionAnswering.from_encoder(encoder)
    matrix = model.bert.layers[3].feed_forward.up.weight
    with torch.no_grad():
        matrix += 0.1 * torch.randn(1536, 3) @ torch.randn(3, 384)  # a change of rank 3
        model.bert.layers[0].attention.out.bias += 0.1
    saved = save_change("fine_tuned", model, encoder="minilm", rank=4)
    assert saved["bytes"] < 50_000
    loaded = load_trained("fine_tuned").state_dict()
    for name, ours in model.state_dict().items():
        torch.testing.assert_close(loaded[name], ours, rtol=2e-3, atol=2e-3, msg=name)
    untouched = "bert.layers.2.attention.qkv.weight"
    assert torch.equal(loaded[untouched], model.state_dict()[untouched])
    changed = "bert.layers.3.feed_forward.up.weight"
    assert not torch.allclose(loaded[changed], encoder.state_dict()[changed[5:]], atol=0.01)


def test_a_rank_too_low_loses_part_of_the_change(course):
    torch.manual_seed(0)
    model = BertForQuestionAnswering.from_encoder(load_pretrained("minilm"))
    matrix = model.bert.layers[0].attention.out.weight
    with torch.no_grad():
        matrix += torch.randn(384, 3) @ torch.randn(3, 384)
    save_change("fine_tuned", model, encoder="minilm", rank=2)
    loaded = load_trained("fine_tuned").bert.layers[0].attention.out.weight
    assert (loaded - matrix).norm() > 1
    with pytest.raises(ValueError, match="rank=0"):
        save_change("fine_tuned", model, encoder="minilm", rank=0)


def test_what_is_not_there(course):
    save_trained("tiny", small_model())
    with pytest.raises(FileNotFoundError, match="no checkpoint 'big'.*there are: tiny"):
        load_trained("big")
    with pytest.raises(FileNotFoundError, match="no tokenizer.json"):
        trained_tokenizer("tiny")


def test_refused(course):
    with pytest.raises(ValueError, match="lower case"):
        save_trained("../tiny", small_model())
    with pytest.raises(ValueError, match="is not a model of zoo_lessons.models"):
        save_trained("linear", nn.Linear(2, 2))
    save_trained("tiny", small_model())
    file = course / "tiny" / "config.json"
    about = json.loads(file.read_text())
    file.write_text(json.dumps({**about, "module": "os"}))
    with pytest.raises(ValueError, match="expected zoo_lessons.models"):
        load_trained("tiny")


def saved_in(figures):
    """What `save_trained` returned, wherever a record keeps it."""
    if isinstance(figures, dict) and {"name", "sha256", "bytes"} <= set(figures):
        return [figures]
    inner = figures.values() if isinstance(figures, dict) else figures
    inner = inner if isinstance(figures, dict | list) else []
    return [entry for value in inner for entry in saved_in(value)]


def test_shipped_checkpoints_are_the_recorded_ones():
    recorded = {}
    for path in (data_dir() / "records").glob("*.json"):
        figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
        for entry in saved_in(figures):
            recorded[entry["name"]] = (entry["sha256"], f"make record ARGS={path.stem}")
    shipped = {path.parent.name: path for path in data_dir().glob("checkpoints/*/config.json")}
    assert set(shipped) == set(recorded)
    for name, path in shipped.items():
        digest, command = recorded[name]
        assert sha256(path.with_name("model.safetensors")) == digest, f"run `{command}`"
        assert sum(file.stat().st_size for file in path.parent.iterdir()) <= LARGEST, name
        load_trained(name)
