"""The claims that the course checks, in one table.

Two overview articles about Transformers make these claims. The lessons named beside a claim measure
it; `data/records/claims/` holds the results, and lesson 24 collects them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """Something that the articles say.

    Attributes:
        id: "C01" and so on.
        text: the claim, in our words.
        lessons: numbers of the lessons that measure it.
    """

    id: str
    text: str
    lessons: tuple[str, ...]


_TABLE = """
C01 | 01 | Attention is softmax(QKᵀ/√d_k)V, and the division by √d_k matters.
C02 | 01 04 | Attention escapes the vanishing gradient that an RNN has over long sequences.
C03 | 02 | Heads work in parallel, and 8, 12 or 16 of them catch different relations between words.
C04 | 03 | Positions can be encoded in four ways: sinusoidal, relative, rotary and learned.
C05 | 04 05 | Residual connections and layer normalisation, LN(x + f(x)), cure vanishing gradients.
C06 | 15 | Hierarchical attention, local windows below and global above, saves compute.
C07 | 17 | Sharing the query, key and value projections between layers saves parameters.
C08 | 17 | Distilling logits and features hands a large model's knowledge to a small one.
C09 | 15 | Full attention costs O(n²); sparse and linear attention cost O(n).
C10 | 12 13 14 | Modalities meet through their own encoders, a shared space, or cross-attention.
C11 | 05 | Clipping, warm-up and mixed precision make training stabler and faster.
C12 | 19 20 21 | INT8, fused operators and dynamic batching cut compute, memory and waiting.
C13 | 18 | Augmentation and generated samples make models better and more robust.
C14 | 16 17 20 | State-space models cost linear time; fitted kernels and adaptive depth help.
C15 | 19 | Hierarchical attention and quantization cut latency by 60 % and keep 95 % of the quality.
C16 | 09 | ViT cuts a 224×224 image into 196 patches of 16×16, each a token of 768 values.
C17 | 09 | The class token represents the whole image.
C18 | 09 11 | ViT needs large pre-training and falls behind a CNN when data is scarce.
C19 | 10 | CvT, Swin and T2T-ViT bring locality back into the ViT.
C20 | 12 | CLIP learns from 400 M pairs by a symmetric contrastive loss with temperature 0.07.
C21 | 13 | BLIP joins three losses, and filtering its own captions helps on noisy data.
C22 | 07 | BERT adds token, segment and position, masks 15 %, and predicts the next sentence.
C23 | 08 | BERT classifies from [CLS], tags with a CRF, and answers with two-stream attention.
C24 | 07 17 19 | BERT has 110 M parameters, DistilBERT 40 % fewer; INT8 runs 3 to 4 times faster.
C25 | 19 20 | FP16 raises the throughput of ViT-Base on a GPU 2.3 times.
C26 | 19 | ONNX Runtime with INT8 takes BERT-Base on a CPU from 120 ms to 35 ms.
C27 | 22 | Tensor and pipeline parallelism together make ViT-G/14 fit.
C28 | 21 | A service needs a load balancer, a model router, replicas and a cache.
C29 | 21 | Drift detection triggers retraining, and a canary release protects the users.
C30 | 10 11 14 | MobileViT suits phones, MAE learns without labels, Flamingo handles 80 modalities.
C31 | 17 19 23 | Distillation and quantization together balance accuracy and speed.
C32 | 09 | One architecture encodes text, images and sound.
C33 | 13 | BLIP's pseudo-labels help when samples are few.
C34 | 19 20 21 | Energy decides what can be deployed.
C35 | 04 06 | Parallel computation trains a Transformer faster than an RNN.
C36 | 02 | Heads attend in parallel subspaces, whose outputs are concatenated.
"""


def _read(table: str) -> dict[str, Claim]:
    claims = {}
    for line in table.strip().splitlines():
        claim_id, lessons, text = line.split(" | ")
        claims[claim_id] = Claim(claim_id, text, tuple(lessons.split()))
    return claims


CLAIMS: dict[str, Claim] = _read(_TABLE)


@dataclass(frozen=True)
class Topic:
    """What one stretch of the articles is about.

    Attributes:
        name: in our words; the articles have other headings.
        claims: ids of the claims made there, in order.
    """

    name: str
    claims: tuple[str, ...]

    @property
    def lessons(self) -> tuple[str, ...]:
        """Numbers of the lessons that measure these claims."""
        return tuple(sorted({number for id in self.claims for number in CLAIMS[id].lessons}))


TOPICS: tuple[Topic, ...] = (
    Topic("Attention, and why it replaced recurrence", ("C01", "C02", "C35")),
    Topic("Several heads", ("C03", "C36")),
    Topic("The order of the tokens", ("C04",)),
    Topic("Deep stacks, and how to train them", ("C05", "C11")),
    Topic("Long inputs: cheaper attention and its rivals", ("C06", "C09", "C14")),
    Topic("Smaller models: sharing and distilling", ("C07", "C08", "C31")),
    Topic("Text, images and sound in one model", ("C10", "C32")),
    Topic("Fast in production: the headline", ("C12", "C15")),
    Topic("Better data", ("C13",)),
    Topic("Vision Transformers and their relatives", ("C16", "C17", "C18", "C19")),
    Topic("CLIP, BLIP and other zoo animals", ("C20", "C21", "C33", "C30")),
    Topic("BERT and its uses", ("C22", "C23", "C24")),
    Topic("Low precision on real hardware", ("C25", "C26")),
    Topic("Many devices", ("C27",)),
    Topic("A service, its users and its bill", ("C28", "C29", "C34")),
)
"""The articles' subjects, in the order in which they come up first; each claim belongs to one."""
