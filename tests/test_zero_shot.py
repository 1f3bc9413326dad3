import pytest
import torch
from torch.nn import functional as F

from zoo_lessons.datasets.words import EOS_ID, encode_batch, word_tokenizer
from zoo_lessons.models.clip import CLIP, CLIPConfig, CLIPTextConfig, CLIPVisionConfig
from zoo_lessons.zero_shot import accuracy, class_vectors, image_embeddings, text_embeddings

TEXTS = ["a red circle", "a blue moon on the left", "a moon", "red"]
TOKENIZER = word_tokenizer(TEXTS)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        image_size=16, patch_size=8, d_model=8, num_layers=1, num_heads=2, d_ff=8
    )
    text = CLIPTextConfig(
        vocab_size=TOKENIZER.get_vocab_size(),
        d_model=8,
        num_layers=1,
        num_heads=2,
        d_ff=8,
        max_length=12,
        eos_token_id=EOS_ID,
    )
    return CLIP(CLIPConfig(vision, text, projection_dim=6)).eval()


def test_embeddings_do_not_depend_on_the_batch(model):
    whole = text_embeddings(model, TOKENIZER, TEXTS)
    assert whole.shape == (4, 6)
    torch.testing.assert_close(text_embeddings(model, TOKENIZER, TEXTS, batch_size=3), whole)
    one = encode_batch(TOKENIZER, TEXTS[2:3], add_bos=True, add_eos=True).input_ids
    torch.testing.assert_close(model.embed_texts(one), whole[2:3])
    images = torch.randn(5, 3, 16, 16)
    torch.testing.assert_close(image_embeddings(model, images, 2), model.embed_images(images))


def test_class_vectors_are_normalised_means(model):
    embeds = text_embeddings(model, TOKENIZER, TEXTS)
    found = class_vectors(model, TOKENIZER, [TEXTS[:2], TEXTS[2:]])
    expected = F.normalize(torch.stack([embeds[:2].mean(0), embeds[2:].mean(0)]), dim=-1)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="same number of prompts"):
        class_vectors(model, TOKENIZER, [TEXTS[:2], TEXTS[2:3]])
    with pytest.raises(ValueError, match="at least 1"):
        class_vectors(model, TOKENIZER, [])


def test_accuracy():
    classes = torch.eye(3)
    images = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.1, 0.9], [0.5, 0.6, 0.1], [0.1, 0.1, 0.9]])
    assert accuracy(images, classes, torch.tensor([0, 2, 0, 2])) == 0.75
