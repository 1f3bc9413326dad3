"""The Transformer's own behaviour: masks, greedy decoding, clear errors."""

import pytest
import torch

from zoo_lessons.models import Transformer, TransformerConfig

CONFIG = TransformerConfig(
    vocab_size=20, target_vocab_size=15, d_model=16, num_layers=2, num_heads=2, d_ff=32
)
SOURCE = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
REAL = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
TARGET = torch.tensor([[1, 4, 5, 6, 7], [1, 8, 9, 10, 11]])


@pytest.fixture(params=["post", "pre"])
def model(request):
    torch.manual_seed(0)
    config = TransformerConfig(**{**CONFIG.__dict__, "norm": request.param})
    return Transformer(config).eval()


def test_shapes(model):
    output = model(SOURCE, REAL, TARGET)
    assert output.logits.shape == (2, 5, 15)
    assert output.last_hidden_state.shape == (2, 5, 16)
    assert output.encoder_last_hidden_state.shape == (2, 4, 16)


def test_the_future_stays_hidden(model):
    changed = TARGET.clone()
    changed[:, 3:] = 12
    a, b = model(SOURCE, REAL, TARGET).logits, model(SOURCE, REAL, changed).logits
    torch.testing.assert_close(a[:, :3], b[:, :3])
    assert not torch.allclose(a[:, 3:], b[:, 3:])


def test_padding_stays_hidden(model):
    other = SOURCE.masked_fill(REAL == 0, 13)
    a, b = model(SOURCE, REAL, TARGET).logits, model(other, REAL, TARGET).logits
    torch.testing.assert_close(a, b)
    short = model(SOURCE[1:, :2], None, TARGET[1:]).logits
    torch.testing.assert_close(a[1:], short)


def test_target_padding_stays_hidden(model):
    real = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    a = model(SOURCE, REAL, TARGET, real).logits
    torch.testing.assert_close(a[:1, :3], model(SOURCE[:1], REAL[:1], TARGET[:1, :3]).logits)


def test_greedy_decoding_takes_the_likeliest_token(model):
    output = model.generate(SOURCE, REAL, max_new_tokens=6)
    assert (output[:, 0] == CONFIG.bos_token_id).all() and output.shape[1] <= 7
    for row, source, real in zip(output, SOURCE, REAL, strict=True):
        for t in range(1, len(row)):
            if CONFIG.eos_token_id in row[1:t]:
                assert row[t] == CONFIG.pad_token_id
            else:
                logits = model(source[None], real[None], row[None, :t]).logits
                assert row[t] == logits[0, -1].argmax()


def test_shared_embedding():
    config = TransformerConfig(**{**CONFIG.__dict__, "target_vocab_size": None})
    model = Transformer(config)
    assert model.target_embedding is model.embedding
    assert model(SOURCE, REAL, TARGET).logits.shape == (2, 5, 20)


def test_one_seed_gives_one_model():
    models = []
    for _ in range(6):
        torch.manual_seed(0)
        models.append(Transformer(CONFIG))
    first = models[0].state_dict()
    for other in models[1:]:
        assert all(torch.equal(first[name], value) for name, value in other.state_dict().items())


def test_errors(model):
    with pytest.raises(ValueError, match="decoder_input_ids is missing"):
        model(SOURCE)
    with pytest.raises(TypeError, match="input_ids has dtype torch.float32"):
        model(SOURCE.float(), REAL, TARGET)
    with pytest.raises(
        ValueError, match=r"decoder_input_ids holds ids from 1 to 19, expected 0 to 14"
    ):
        model(SOURCE, REAL, TARGET + 8 * (TARGET > 10))
    with pytest.raises(ValueError, match=r"input_ids has shape \(4,\)"):
        model(SOURCE[0], None, TARGET)
    with pytest.raises(ValueError, match="max_new_tokens=0"):
        model.generate(SOURCE, max_new_tokens=0)
