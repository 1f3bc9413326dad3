"""One long-input classifier, four ways: full or hierarchical attention, float32 or INT8. Quality.

Texts of 4,096 tokens hold 30 entries and 30 questions among words that mean nothing
(`datasets.long_look_up`). For each question the model says which of 8 values its entry had. The
entry may stand next to the question, or thousands of tokens before it: near is up to 64 tokens
away (one layer's window), far is beyond what six windows reach together.

The model has six encoder blocks of width 128 and no positions. Kinds of attention: full in all six;
hierarchical, windows of 64 to each side in the lower five and full attention in the top one; and,
as a control, windows in all six. Training begins on texts of 64 tokens, where windows reach 8 to
each side, for as many rounds of steps as it takes to answer well on validation texts. Windows must
be shorter than the texts from the beginning: a model that may learn to look far in its low layers
does so there, and has to learn anew when they become local. Then texts grow, and windows have their
size; texts of 4,096 tokens come up in no training, since without positions a model can go on to
longer ones. Full attention begins with a model of its own, the other two with one that they share.
Rates and later steps are the same for all.

INT8 is `deploy.onednn.static_int8_linears`, applied to the trained model: every linear layer
multiplies uint8 by int8, and attention's own two products stay in float32. The ranges of the inputs
are fixed beforehand, from texts as long as the last ones of training; so the rounding after the
GELU happens inside the product before it. With ranges taken at each call (`int8_linears`) every
rounding is a pass over memory of its own, which at this width costs what the products save. Windows
are overlapping views, which ONNX Runtime has no fused kernel for; here both kinds keep the
kernels that they had in float32.

Accuracy is measured on the INT8 model itself, on texts that no model was trained or calibrated on:
for all variants at 4,096 tokens, and for the slowest and the fastest of the four at 8,192 and
16,384 as well, on fewer texts. Nothing here is timed; `int8_headline_time` is.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.intervals import mean_interval
from zoo_lessons.datasets.long_look_up import long_look_up_batch
from zoo_lessons.datasets.look_up import NO_ANSWER, LookUpBatch
from zoo_lessons.deploy.onednn import static_int8_linears
from zoo_lessons.deploy.quantized_layers import Range, calibrate
from zoo_lessons.layers.attention import DotProductAttention
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.sparse_attention import replace_attention
from zoo_lessons.layers.window_attention import WindowAttention
from zoo_lessons.records import experiment
from zoo_lessons.training import fit, seed_everything

LENGTH = 4096
PAIRS, NUM_KEYS, NUM_VALUES, NUM_FILLERS = 30, 48, 8, 100
D_MODEL, NUM_HEADS, D_FF, NUM_LAYERS, RADIUS = 128, 4, 512, 6, 64
NEAR, FAR = RADIUS, NUM_LAYERS * RADIUS + 1
FULL, HIERARCHICAL, WINDOW = "full", "hierarchical", "window"
LOCAL_LAYERS = {FULL: 0, HIERARCHICAL: NUM_LAYERS - 1, WINDOW: NUM_LAYERS}  # counted from below
BEGINS_AS = {FULL: FULL, HIERARCHICAL: HIERARCHICAL, WINDOW: HIERARCHICAL}
KINDS = tuple(LOCAL_LAYERS)
PRECISIONS = ("fp32", "INT8")
START, START_RADIUS = (64, 32, 60), 8  # length of texts, how many at once, steps of a round
MOST_ROUNDS, ENOUGH = 6, 0.98  # accuracy on validation texts
LONGER = ((256, 8, 20), (1024, 2, 10))
RATE, LATER_RATE, SEEDS = 2e-3, 3e-4, range(3)
JUDGED, VALIDATED, CALIBRATED = 6, 20, 4  # texts, of 30 questions each
LONGEST = {8192: 4, 16384: 2}  # tokens: texts
ENDS = (f"{FULL}, fp32", f"{HIERARCHICAL}, INT8")


class LongClassifier(nn.Module):
    """Two embeddings, encoder blocks, a layer that scores the values for each token."""

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Embedding(NUM_KEYS + NUM_FILLERS, D_MODEL)
        self.value = nn.Embedding(NUM_VALUES + 1, D_MODEL)
        self.layers = nn.ModuleList(
            EncoderBlock(D_MODEL, NUM_HEADS, D_FF, norm="pre", activation="gelu")
            for _ in range(NUM_LAYERS)
        )
        self.norm = nn.LayerNorm(D_MODEL)
        self.head = nn.Linear(D_MODEL, NUM_VALUES)

    def forward(self, keys: Tensor, values: Tensor) -> Tensor:
        """Two id tensors (batch, length) -> logits (batch, length, num_values)."""
        x = self.key(keys) + self.value(values)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def with_attention(model: LongClassifier, kind: str, radius: int = RADIUS) -> LongClassifier:
    """A copy with windows in its low layers; see `LOCAL_LAYERS`."""
    local = LOCAL_LAYERS[kind]
    layers = [WindowAttention(radius)] * local + [DotProductAttention()] * (NUM_LAYERS - local)
    return replace_attention(copy.deepcopy(model), layers).train(model.training)


def texts(count: int, length: int, generator: torch.Generator) -> LookUpBatch:
    return long_look_up_batch(
        count,
        length,
        PAIRS,
        generator,
        num_keys=NUM_KEYS,
        num_values=NUM_VALUES,
        num_fillers=NUM_FILLERS,
    )


def loss(model: nn.Module, batch: LookUpBatch) -> Tensor:
    """Cross-entropy at the questions."""
    logits = model(batch.keys, batch.values)
    return F.cross_entropy(logits.flatten(0, 1), batch.answers.flatten(), ignore_index=NO_ANSWER)


def train(
    model: LongClassifier,
    stage: tuple[int, int, int],
    chance: torch.Generator,
    optimizer: torch.optim.Optimizer,
) -> LongClassifier:
    """Train in place on texts of one length: (tokens, texts at once, steps)."""
    length, count, steps = stage
    fit(
        model.train(),
        lambda step: texts(count, length, chance),
        loss,
        steps=steps,
        optimizer=optimizer,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    return model.eval()


def train_start(kind: str, seed: int) -> tuple[LongClassifier, int]:
    """A model that answers questions about short texts, and how many rounds that took."""
    seed_everything(seed)
    model = with_attention(LongClassifier(), kind, START_RADIUS)
    chance = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    rounds = 0
    while rounds < MOST_ROUNDS:
        train(model, START, chance, optimizer)
        rounds += 1
        if judge(model, 300 + seed, count=VALIDATED, length=START[0])["all"] >= ENOUGH:
            break
    return model, rounds


def ranges_of(model: LongClassifier, length: int, chance: torch.Generator) -> dict[str, Range]:
    """Of each linear layer's input, on fresh texts."""
    batches = [texts(1, length, chance) for _ in range(CALIBRATED)]
    return calibrate(model, [{"keys": each.keys, "values": each.values} for each in batches])


def share(right: Tensor) -> float | None:
    """None where nothing was asked."""
    return round(right.mean().item(), 4) if len(right) else None


@torch.no_grad()
def judge(model: nn.Module, seed: int, *, count: int = JUDGED, length: int = LENGTH) -> dict:
    """Accuracy near, far, and over all questions."""
    chance = torch.Generator().manual_seed(seed)
    right, distances = [], []
    for _ in range(count):  # one at a time: full attention over a long text takes memory
        batch = texts(1, length, chance)
        asked = batch.answers != NO_ANSWER
        guesses = model(batch.keys, batch.values).argmax(dim=-1)
        right.append((guesses == batch.answers)[asked])
        distances.append(batch.distances[asked])
    right, apart = torch.cat(right).double(), torch.cat(distances)
    parts = {"near": apart <= NEAR, "far": apart >= FAR, "all": apart > 0}
    return {
        **{name: share(right[inside]) for name, inside in parts.items()},
        "asked": {name: int(inside.sum()) for name, inside in parts.items()},
    }


def runs_of(seed: int) -> dict[str, Any]:
    """Train all kinds; accuracy of each in both precisions, and of two on longer texts."""
    starts = {kind: train_start(kind, seed) for kind in dict.fromkeys(BEGINS_AS.values())}
    found: dict[str, Any] = {"rounds": {kind: rounds for kind, (_, rounds) in starts.items()}}
    found["longer"] = {length: {} for length in LONGEST}
    for kind in KINDS:
        start, _ = starts[BEGINS_AS[kind]]
        model, chance = with_attention(start, kind), torch.Generator().manual_seed(100 + seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=LATER_RATE)
        for stage in LONGER:
            train(model, stage, chance, optimizer)
        ranges = ranges_of(model, LONGER[-1][0], chance)
        ready = {"fp32": model, "INT8": static_int8_linears(model, ranges, LENGTH)}
        for precision in PRECISIONS:
            name = f"{kind}, {precision}"
            found[name] = judge(ready[precision], 200 + seed)
            if name in ENDS:
                for length, count in LONGEST.items():
                    found["longer"][length][name] = judge(
                        ready[precision], 500 + seed, count=count, length=length
                    )
    return found


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The seeds' accuracies, and their means with intervals."""
    means = {
        where: [round(x, 4) for x in mean_interval([run[where] for run in runs])]
        for where in ("near", "far", "all")
    }
    return {"runs": runs, **means}


@experiment(
    "int8_headline",
    lesson="19",
    uses=[
        "experiments.intervals",
        "zoo_lessons.datasets.long_look_up",
        "zoo_lessons.datasets.look_up",
        "zoo_lessons.deploy.onednn",
        "zoo_lessons.deploy.quantize",
        "zoo_lessons.deploy.quantized_layers",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.layers.sparse_attention",
        "zoo_lessons.layers.window_attention",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.loop",
        "zoo_lessons.training.random_state",
    ],
)
def int8_headline() -> dict[str, Any]:
    runs = [runs_of(seed) for seed in SEEDS]
    rounds = [run.pop("rounds") for run in runs]
    longer = [run.pop("longer") for run in runs]
    figures = {
        "length": LENGTH,
        "layers": NUM_LAYERS,
        "d_model": D_MODEL,
        "radius": RADIUS,
        "near_up_to": NEAR,
        "far_from": FAR,
        "guessing": 1 / NUM_VALUES,
        "seeds": len(SEEDS),
        "texts": JUDGED,
        "start_rounds": rounds,  # of each seed
        "parameters": sum(p.numel() for p in LongClassifier().parameters()),
        "variants": {name: summary([run[name] for run in runs]) for name in runs[0]},
        "longer": [
            {
                "tokens": length,
                "texts": count,
                "variants": {name: summary([run[length][name] for run in longer]) for name in ENDS},
            }
            for length, count in LONGEST.items()
        ],
    }
    return {"figures": figures}
