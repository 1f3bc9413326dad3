import torch

from experiments.topic_classification import TOKENS, Encoded, pooled, regression, tf_idf
from zoo_lessons.datasets.topics import passages_by_topic
from zoo_lessons.weights import load_pretrained


def test_padding_does_not_count():
    hidden = torch.randn(2, 5, 4)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    other = hidden.clone()
    other[0, 3:] = 100
    assert torch.equal(pooled(hidden, mask, "mean"), pooled(other, mask, "mean"))
    assert torch.equal(pooled(hidden, mask, "[CLS]"), hidden[:, 0])


def test_the_lower_layers_lead_to_the_upper_ones():
    bert = load_pretrained("minilm")
    passages = passages_by_topic("train", 2)
    encoded = Encoded(bert, passages)
    assert encoded.ids.shape == (12, TOKENS)
    with torch.no_grad():
        whole = bert(encoded.ids, encoded.mask).last_hidden_state
    torch.testing.assert_close(encoded.upper, whole, rtol=1e-4, atol=1e-4)


def test_baselines_learn_what_is_plain():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 4
    vectors = torch.eye(4)[labels] + 0.1 * torch.randn(40, 4, generator=generator)
    assert regression(vectors[:24], labels[:24], vectors[24:], labels[24:]) == 1.0
    train = passages_by_topic("train", 8)
    assert tf_idf(train, train) > 0.9
