"""Generated sounds: what is drawn is what is heard."""

import numpy as np
import pytest
import torch

from zoo_lessons.datasets.sounds import FRAMES, FREQUENCIES, KINDS, RATE, sounds, spectrogram


def test_shapes_and_ranges():
    waveforms, images, labels = sounds("train", 20)
    assert waveforms.shape == (20, 4000) and waveforms.dtype == torch.float32
    assert waveforms.abs().amax(dim=1).tolist() == pytest.approx([1.0] * 20)
    assert images.shape == (20, 1, FREQUENCIES, FRAMES)
    assert images.amin() >= 0 and images.amax(dim=(1, 2, 3)).tolist() == pytest.approx([1.0] * 20)
    assert labels.tolist() == [i % len(KINDS) for i in range(20)]


def test_the_same_every_time_and_different_between_splits():
    first, again = sounds("test", 8), sounds("test", 8)
    assert torch.equal(first.spectrograms, again.spectrograms)
    for other in (sounds("validation", 8), sounds("test", 8, seed=1)):
        assert (first.waveforms - other.waveforms).abs().amax(dim=1).min() > 0.1


@pytest.mark.parametrize("hertz", [500, 1000, 3000])
def test_pitch_is_where_the_image_shows_it(hertz):
    time = np.arange(4000) / RATE
    image = spectrogram(np.sin(2 * np.pi * hertz * time)[None].astype(np.float32))[0, 0]
    loudest = image.mean(dim=1).argmax().item()
    row_hertz = (FREQUENCIES - 1 - loudest) * RATE / (2 * FREQUENCIES)
    assert abs(row_hertz - hertz) <= RATE / (4 * FREQUENCIES)


def test_time_runs_to_the_right():
    wave = np.zeros((1, 4000), dtype=np.float32)
    wave[0, 3000] = 1.0
    image = spectrogram(wave)[0, 0]
    assert image.mean(dim=0).argmax().item() == pytest.approx(3000 / 4000 * FRAMES, abs=2)


def test_rising_tones_rise_and_falling_tones_fall():
    _, images, labels = sounds("train", 80, noise=0.0)

    def slope(kind):
        chosen = images[labels == KINDS.index(kind), 0]
        change = []
        for image in chosen:
            columns = (image.amax(dim=0) > 0.9).nonzero()[:, 0]
            pitch = -image.argmax(dim=0)[columns].float()
            change.append((pitch[-5:].mean() - pitch[:5].mean()).item())
        return change

    assert min(slope("rising tone")) > 3 and max(slope("falling tone")) < -3


def test_what_is_refused():
    with pytest.raises(ValueError, match="split='dev' must be one of"):
        sounds("dev", 8)
    with pytest.raises(ValueError, match="size=0 must be at least 1"):
        sounds("train", 0)
