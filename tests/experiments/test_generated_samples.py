"""The experiments on drawn digits: what they compare, and that both models draw."""

import pytest
import torch

from experiments import digits_generators, generated_samples
from experiments.digits_generators import (
    DIT,
    GAN,
    drawn,
    flops,
    moved,
    nearest,
    spread,
    train_diffusion,
    train_digits_gan,
)
from experiments.digits_labels import labelled
from experiments.generated_samples import effects, training_sets, with_samples
from zoo_lessons.datasets.digits import Digits, digits
from zoo_lessons.models.diffusion_transformer import DiT
from zoo_lessons.models.gan import Generator


@pytest.fixture(scope="module")
def some():
    return labelled(digits("train"), 40, 0)


def test_both_models_draw_digits_of_the_right_kind_again_for_a_seed(some):
    labels = torch.tensor([3, 1, 4])
    gan, scores = train_digits_gan(some, steps=2, seed=0)
    dit, loss = train_diffusion(some, steps=2, seed=0)
    assert gan.config == GAN and dit.config == DIT
    assert len(loss) == len(scores["real"]) == len(scores["drawn"]) == 2
    for model in (gan, dit):
        images = drawn(model, labels, seed=5)
        assert images.shape == (3, 1, 8, 8)
        assert images.min() >= 0 and images.max() <= 1
        assert torch.equal(images, drawn(model, labels, seed=5))
        assert not torch.equal(images, drawn(model, labels, seed=6))


def test_paper_comes_in_when_a_digit_is_moved():
    paper = -torch.ones(20, 1, 8, 8)
    assert torch.allclose(moved(paper, torch.Generator().manual_seed(0)), paper)


def test_nearest_leaves_an_image_itself_out_where_asked():
    images = torch.tensor([0.0, 1.0, 3.0]).view(3, 1, 1, 1)
    assert nearest(images, images).tolist() == [0, 0, 0]
    assert nearest(images, images, itself=False).tolist() == [1, 1, 2]
    assert nearest(torch.full((1, 1, 1, 1), 2.6), images).tolist() == pytest.approx([0.4])
    assert spread(torch.arange(101.0)) == {"median": 50.0, "5 %": 5.0}


def test_a_drawn_digit_costs_one_pass_of_the_gan_and_two_for_each_visited_step():
    labels = torch.arange(2)
    torch.manual_seed(0)
    gan, dit = Generator(GAN).eval(), DiT(DIT).eval()
    assert flops(lambda: drawn(gan, labels, 0)) == flops(lambda: gan.draw(labels))
    once = flops(lambda: dit(torch.zeros(2, 1, 8, 8), labels, labels))
    passes = 2 * digits_generators.VISITED  # with and without the label
    assert flops(lambda: drawn(dit, labels, 0)) == passes * once


def test_half_of_the_digits_are_real(some):
    samples = Digits(torch.zeros(90, 1, 8, 8), torch.zeros(90, dtype=torch.long))
    both = with_samples(some, samples)
    assert len(both.labels) == len(both.images) == 2 * 40 + 90
    assert torch.equal(both.images[40:80], some.images)
    assert torch.equal(both.images[80:], samples.images)
    few = Digits(samples.images[:13], samples.labels[:13])
    assert len(with_samples(some, few).labels) == 40 + 3 * 13
    sets = training_sets(some, {"GAN": samples, "diffusion": samples})
    assert [len(data.labels) for data in sets.values()] == [40, 170, 90, 170, 90]


def test_generators_know_only_the_labelled_digits(monkeypatch, some):
    known = []
    monkeypatch.setattr(
        generated_samples, "train_digits_gan", lambda train, **_: known.append(train) or ["gan"]
    )
    monkeypatch.setattr(
        generated_samples, "train_diffusion", lambda train, **_: known.append(train) or ["dit"]
    )
    assert generated_samples.generators(some, 3) == {"GAN": "gan", "diffusion": "dit"}
    assert known == [some, some]


def test_effects_pair_the_seeds_and_name_what_they_are_against():
    runs = {
        "shifts": [[0.6, 0.7], [0.7, 0.8]],
        "GAN samples": [[0.7, 0.7], [0.8, 0.8]],
        "GAN samples only": [[0.1, 0.1], [0.1, 0.1]],
        "diffusion samples": [[0.5, 0.7], [0.9, 0.8]],
        "diffusion samples only": [[0.1, 0.1], [0.1, 0.1]],
    }
    rows = effects({"accuracy": runs, "robust": runs}, (200, 1157))
    assert len(rows) == 2 * 2 * 4
    wanted = {"method": "GAN samples", "labels": 200, "kind": "accuracy"}
    (row,) = (each for each in rows if wanted.items() <= each.items())
    assert row["gain_points"] == pytest.approx(10)
    assert row["seeds"] == 2 and row["against"] == "shifts"


def test_the_records_name_what_they_use():
    assert digits_generators.digits_generators.lesson == "18"
    assert not generated_samples.generated_samples.claims
    assert "experiments.digits_generators" in generated_samples.generated_samples.modules
