"""C16: a 224 × 224 image in patches of 16 × 16 is 196 patches of 768 values.

On a real photograph: its middle of 224 × 224 pixels is cut by `image_to_patches`, put together
again, and embedded with the weights of a convolution that has the same stride. Then the same count
for the other published sizes of ViT, which shows that 768 means two things.

**Reproduced** if the photograph gives 196 patches of 768 values from which the image can be put
together exactly, and the linear map of the patches equals the convolution; otherwise the article is
wrong. The width of a token and the sequence with its class token are in the explanation.

Nothing here is random but the weights of the map, and nothing is timed.
"""

from __future__ import annotations

from typing import Any

import torch

from zoo_lessons.datasets.digits import photographs
from zoo_lessons.layers.patches import PatchEmbedding, image_to_patches, patches_to_image
from zoo_lessons.records import Verdict, experiment

SIDE, PATCH = 224, 16
# name -> (patch size, width): Dosovitskiy et al. (2020), table 1; the number is the patch size
SIZES = {
    "ViT-B/16": (16, 768),
    "ViT-B/32": (32, 768),
    "ViT-L/16": (16, 1024),
    "ViT-H/14": (14, 1280),
}


def middle(image: torch.Tensor, side: int = SIDE) -> torch.Tensor:
    """The middle square of an image (channels, height, width) -> (1, channels, side, side)."""
    top, left = ((size - side) // 2 for size in image.shape[1:])
    return image[None, :, top : top + side, left : left + side]


def cut(image: torch.Tensor) -> dict[str, Any]:
    """What the photograph (1, 3, side, side) becomes."""
    patches = image_to_patches(image, PATCH)
    again = patches_to_image(patches, PATCH, *image.shape[-2:])
    torch.manual_seed(0)
    embedding = PatchEmbedding(PATCH, 768).double()
    weight, bias = embedding.projection.weight.flatten(1), embedding.projection.bias
    with torch.no_grad():
        by_hand = patches.double() @ weight.T + bias
        gap = (by_hand - embedding(image.double())).abs().max().item()
    return {
        "patches": patches.shape[1],
        "values": patches.shape[2],
        "tokens": 1 + patches.shape[1],
        "puts_together": torch.equal(again, image),
        "equals_convolution": gap < 1e-10,
    }


def judge(photograph: dict[str, Any], sizes: dict[str, dict[str, int]]) -> Verdict:
    """The verdict by the rule above."""
    as_said = photograph["patches"] == 196 and photograph["values"] == 768
    exact = photograph["puts_together"] and photograph["equals_convolution"]
    others = ", ".join(
        f"{name} {row['values']} and {row['width']}"
        for name, row in sizes.items()
        if row["values"] != row["width"]
    )
    return Verdict(
        "reproduced" if as_said and exact else "the article is wrong",
        ours=(
            f"{photograph['patches']} patches of {photograph['values']} values; the sequence has "
            f"{photograph['tokens']} tokens, one more for the class token"
        ),
        explanation=(
            "A patch holds 16·16·3 = 768 values, and a token of ViT-B is 768 wide: two numbers "
            f"that are equal by coincidence. Values of a patch and width elsewhere: {others}."
        ),
        cell="09#Claim-C16:-196-patches-of-768-values",
    )


@experiment(
    "c16_patches",
    claims=["C16"],
    lesson="09",
    uses=["zoo_lessons.datasets.digits", "zoo_lessons.layers.patches"],
)
def c16_patches() -> dict[str, Any]:
    photograph = cut(middle(photographs()["china"]))
    sizes = {
        name: {
            "patches": (SIDE // patch) ** 2,
            "tokens": 1 + (SIDE // patch) ** 2,
            "values": 3 * patch**2,
            "width": width,
        }
        for name, (patch, width) in SIZES.items()
    }
    return {
        "figures": {"photograph": photograph, "sizes": sizes},
        "verdicts": {"C16": judge(photograph, sizes)},
    }
