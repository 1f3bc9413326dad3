"""Short generated sounds of eight kinds, and their spectrograms as images.

A spectrogram has time across and pitch upwards. To a Vision Transformer it is an image like any
other: the same patches, the same encoder.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import signal
from torch import Tensor

KINDS = (
    "steady tone",
    "rising tone",
    "falling tone",
    "two tones",
    "wavering tone",
    "beeps",
    "clicks",
    "noise burst",
)
SPLITS = ("train", "validation", "test")

RATE = 8_000  # samples per second
SECONDS = 0.5
FREQUENCIES, FRAMES = 64, 64  # of a spectrogram


class Sounds(NamedTuple):
    """Sounds, as they are heard and as they are seen.

    waveforms: float32 (n, 4000), half a second at 8,000 samples per second, from -1 to 1.
    spectrograms: float32 (n, 1, 64, 64): loudness from 0 (60 dB below the loudest place, or less)
        to 1; row 0 is the highest pitch (3,937.5 Hz), the last row 0 Hz; time runs to the right.
    labels: int64 (n,), indices into `KINDS`.
    """

    waveforms: Tensor
    spectrograms: Tensor
    labels: Tensor


def sounds(split: str, size: int, *, noise: float = 0.3, seed: int = 0) -> Sounds:
    """Sounds with random pitch, onset, length and loudness, in noise.

    Args:
        split: "train", "validation" or "test": each draws its own sounds.
        size: how many; the kinds take turns, so they are balanced.
        noise: standard deviation of the background noise, against a sound of amplitude 0.3 to 1.
        seed: another seed, other sounds.

    Raises:
        ValueError: an unknown split, a size below 1, or negative noise.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} must be one of {', '.join(map(repr, SPLITS))}")
    if size < 1 or noise < 0:
        raise ValueError(f"size={size} must be at least 1, and noise={noise} at least 0")
    rng = np.random.default_rng([SPLITS.index(split), seed])
    labels = np.arange(size) % len(KINDS)
    waves = np.stack([_sound(KINDS[label], rng) for label in labels])
    waves += noise * rng.standard_normal(waves.shape)
    waves /= np.abs(waves).max(axis=1, keepdims=True)
    waves = waves.astype(np.float32)
    return Sounds(torch.from_numpy(waves), spectrogram(waves), torch.from_numpy(labels))


def spectrogram(waveforms: np.ndarray) -> Tensor:
    """Loudness over pitch and time: (n, samples) -> (n, 1, 64, 64), as in `Sounds`.

    Short-time Fourier transform with a Hann window of 128 samples (16 ms), in decibels, from 60 dB
    below each sound's loudest place up to it.
    """
    step = (waveforms.shape[-1] - 2 * FREQUENCIES) // (FRAMES - 1)
    transform = signal.ShortTimeFFT(
        signal.windows.hann(2 * FREQUENCIES), hop=step, fs=RATE, scale_to="magnitude"
    )
    power = np.abs(transform.stft(waveforms, p0=1, p1=1 + FRAMES)) ** 2  # (n, 65, frames)
    power = power[:, FREQUENCIES - 1 :: -1]  # without the last frequency, highest first
    decibels = 10 * np.log10(power + 1e-12)
    loudest = decibels.max(axis=(1, 2), keepdims=True)
    image = np.clip((decibels - loudest) / 60 + 1, 0, 1)
    return torch.from_numpy(image.astype(np.float32))[:, None]


def _sound(kind: str, rng: np.random.Generator) -> np.ndarray:
    """One sound without background, (samples,)."""
    time = np.arange(int(RATE * SECONDS)) / RATE
    length = rng.uniform(0.2, 0.4)  # seconds
    onset = rng.uniform(0, SECONDS - length)
    inside = (time >= onset) & (time < onset + length)
    low, high = rng.uniform(300, 1500), rng.uniform(2000, 3600)  # Hz
    pitch = rng.uniform(400, 3400)
    place = np.clip((time - onset) / length, 0, 1)  # 0 at the beginning, 1 at the end

    def tone(hertz: np.ndarray | float) -> np.ndarray:
        hertz = np.broadcast_to(hertz, time.shape)
        return np.sin(2 * np.pi * np.cumsum(hertz) / RATE + rng.uniform(0, 2 * np.pi))

    if kind == "steady tone":
        wave = tone(pitch)
    elif kind == "rising tone":
        wave = tone(low + (high - low) * place)
    elif kind == "falling tone":
        wave = tone(high + (low - high) * place)
    elif kind == "two tones":
        wave = (tone(low) + tone(high)) / 2
    elif kind == "wavering tone":
        swings = rng.uniform(8, 14)  # per second
        wave = tone(np.clip(pitch, 800, 3000) + 350 * np.sin(2 * np.pi * swings * time))
    elif kind == "beeps":
        wave = tone(pitch) * (np.sin(2 * np.pi * rng.uniform(12, 20) * (time - onset)) > 0)
    elif kind == "clicks":
        every = int(RATE / rng.uniform(15, 30))
        wave = np.zeros_like(time)
        wave[int(rng.integers(every)) :: every] = 1.0
        wave = 4 * np.convolve(wave, np.exp(-np.arange(24) / 6), mode="same")
    else:  # noise burst
        wave = rng.standard_normal(len(time))
    return rng.uniform(0.3, 1.0) * wave * inside
