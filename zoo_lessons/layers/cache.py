"""The key-value cache: what attention has computed for earlier tokens, kept for the later ones.

A causal model never looks ahead, so a token's key and value stay the same when more tokens follow.
Generation keeps them and feeds only the new token through the model.
"""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """The keys and values that one attention layer has made so far, or None before the first."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None  # (batch, heads, length, head_dim)
        self.values: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of tokens stored."""
        return 0 if self.keys is None else self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        """Memory of the keys and values, in bytes."""
        return 0 if self.keys is None else self.keys.nbytes + self.values.nbytes

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' keys and values, each (batch, heads, new, head_dim).

        Returns:
            All keys and values so far, each (batch, heads, length, head_dim).

        Raises:
            ValueError: k and v do not belong together, or not to what is stored.
        """
        if k.ndim != 4 or k.shape[:3] != v.shape[:3]:
            raise ValueError(
                f"k has shape {tuple(k.shape)} and v {tuple(v.shape)}, expected "
                "(batch, heads, new, head_dim) with the same batch, heads and new"
            )
        if self.keys is not None:
            for name, new, old in (("k", k, self.keys), ("v", v, self.values)):
                if (*new.shape[:2], new.shape[3]) != (*old.shape[:2], old.shape[3]):
                    raise ValueError(
                        f"{name} has shape {tuple(new.shape)} and the cache holds "
                        f"{tuple(old.shape)}, expected the same batch, heads and head_dim: "
                        "start a new cache for a new batch"
                    )
            k = torch.cat([self.keys, k], dim=2)
            v = torch.cat([self.values, v], dim=2)
        self.keys, self.values = k, v
        return k, v

    def reorder(self, indices: Tensor) -> None:
        """Make row i of the batch what row indices[i] was. Rows may repeat or be left out."""
        if self.keys is not None:
            self.keys, self.values = self.keys[indices], self.values[indices]


class KeyValueCache:
    """One `LayerCache` for each attention layer of a model; `cache[i]` is layer i's.

    Raises:
        ValueError: num_layers is below 1.
    """

    def __init__(self, num_layers: int):
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers}, expected at least 1")
        self._layers = [LayerCache() for _ in range(num_layers)]

    def __getitem__(self, layer: int) -> LayerCache:
        return self._layers[layer]

    def __len__(self) -> int:
        return len(self._layers)

    @property
    def length(self) -> int:
        """Number of tokens stored, the same in every layer."""
        return self._layers[0].length

    @property
    def nbytes(self) -> int:
        """Memory in bytes: 2 · layers · batch · heads · length · head_dim · bytes per number."""
        return sum(layer.nbytes for layer in self._layers)

    def reorder(self, indices: Tensor) -> None:
        """Choose rows of the batch anew, as beam search does: row i becomes row indices[i]."""
        for layer in self._layers:
            layer.reorder(indices)
