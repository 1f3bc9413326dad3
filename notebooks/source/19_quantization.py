# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 19 · Quantization
#
# *How few bits does a model need?*
#
# After this lesson you can
#
# - quantize by hand: scale, zero point, per tensor and per channel
# - choose between dynamic, static and weight-only quantization
# - export a model, and run it in INT8 with ONNX Runtime
# - measure latency, size and quality together, against a tuned baseline
#
# **Time:** 60 minutes · **You need first:** [08 Fine-tuning BERT](08_fine_tuning_bert.ipynb) · [15 Sparse, hierarchical and linear attention](15_efficient_attention.ipynb)
#
# **On the zoo map:** part IV, Deployment · **Models:** MiniLM, BERT, ViT, Longformer
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/19_quantization.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F19_quantization.ipynb) · [Solutions](solutions/19_quantization.ipynb)

# %% tags=["setup"]
import importlib.util
import os
import subprocess
import sys

if "google.colab" in sys.modules and not importlib.util.find_spec("zoo_lessons"):
    repository = "https://github.com/transformer-zoo-lessons/transformer-zoo-lessons"
    clone = f"git clone --quiet --depth 1 {repository} course"
    for command in (clone, "pip install --quiet --editable course"):
        subprocess.run(command.split(), check=True)
    os.chdir("course/notebooks")
    sys.path.append(os.path.abspath(".."))

from zoo_lessons import lab

lab.begin("19")

# %% [markdown]
# ## The question
#
# MiniLM, the encoder of lesson 08, reads *The cat sat on the mat* with 22.7 million numbers. Each of
# them is a float32: 32 bits.

# %%
import torch

from zoo_lessons.weights import load_pretrained, load_tokenizer

encoder, tokenizer = load_pretrained("minilm").eval(), load_tokenizer("minilm")
count = sum(p.numel() for p in encoder.parameters())
for bits in (32, 16, 8, 4):
    print(f"{count:,} numbers of {bits:2} bits: {count * bits / 8 / 1e6:5.1f} MB")

# %% [markdown]
# A float32 tells about 8 million values apart between 1 and 2. Does a model need that? Try it: replace
# each weight of the linear layers by the nearest of $2^b$ values, evenly spaced between the smallest
# and the largest of its matrix, and compare sentences as in lesson 08.
#
# **Predict.** *A kitten rests on a rug* means nearly the same as *The cat sat on the mat*, and *The stock
# market fell today* does not. From how few bits on does the model confuse them?

# %% tags=["nbval-ignore-output"]
from zoo_lessons.deploy.quantize import quantize_matrix
from zoo_lessons.deploy.quantized_layers import replace_linears
from zoo_lessons.retrieval import sentence_embeddings

sentences = ["The cat sat on the mat", "A kitten rests on a rug", "The stock market fell today"]


def rounded_copy(model, bits):
    """A copy of the model whose linear weights hold at most 2^bits different values each."""

    def make(name, layer):
        rounded = quantize_matrix(layer.weight.data, bits, "tensor", symmetric=False)
        layer.weight.data = rounded.dequantize()
        return layer

    return replace_linears(model, make)


for bits in (32, 8, 6, 4, 2):
    model = encoder if bits == 32 else rounded_copy(encoder, bits)
    cat, kitten, market = sentence_embeddings(model, tokenizer, sentences)
    print(f"{bits:2} bits: cat and kitten {cat @ kitten:5.2f}, cat and market {cat @ market:5.2f}")

# %% [markdown]
# Eight bits change almost nothing, and they are a quarter of the size. With four bits, the stock market comes
# much closer to the cat; with two, all sentences look alike. In between it matters *how* the values are chosen. And storing fewer bits is half of the matter: a
# processor also multiplies small integers faster than floats, if we let it.
#
# **How few bits does a model need?** Sections 1 to 8 are the core. Sections 9 (four bits) and 10
# (training with rounding) go further.

# %% [markdown]
# ## 1 · Numbers on a grid
#
# An **int8** is an integer from -128 to 127. To store real numbers from `low` to `high` in it, lay a
# grid of 256 points over them. Its step is the **scale** $s$. The integer that stands for 0 is the
# **zero point** $z$:
#
# $$ s = \frac{\mathrm{high} - \mathrm{low}}{255} \qquad z = -128 - \mathrm{round}\!\left(\frac{\mathrm{low}}{s}\right) $$
#
# To **quantize** is to take the nearest point; numbers beyond the ends are cut off there. To
# **dequantize** is to go back:
#
# $$ q = \mathrm{clamp}\!\left(\mathrm{round}\!\left(\frac{x}{s}\right) + z,\ -128,\ 127\right) \qquad \hat x = s \, (q - z) $$
#
# ([Jacob et al. 2018](https://arxiv.org/abs/1712.05877), section 2.1.) First number by number. Ours
# come from behind a GELU, so none lies far below 0.

# %%
from torch.nn import functional as F

x = F.gelu(torch.tensor([-2.0, -0.7, -0.1, 0.0, 0.3, 1.1, 2.4, 4.0]))
low, high = -0.17, 3.0
scale = (high - low) / 255
zero_point = -128 - round(low / scale)
for number in x.tolist():
    q = min(127, max(-128, round(number / scale) + zero_point))
    back = scale * (q - zero_point)
    print(f"{number:7.4f} -> {q:4} -> {back:7.4f}, error {abs(back - number):.4f}")
print(f"scale {scale:.4f}, zero point {zero_point}")

# %% [markdown]
# Inside the range, the error is at most half a step. The last number lies beyond `high` and is cut off,
# which costs much more. And 0 comes back as exactly 0: the zero point is an integer for that reason.
# Padding, and the zeros behind a ReLU, must not turn into something.
#
# All at once, and beside PyTorch:

# %%
from zoo_lessons.deploy.quantize import dequantize, quantize, scale_and_zero_point

grid = scale_and_zero_point(torch.tensor(low), torch.tensor(high))
back = dequantize(quantize(x, *grid), *grid)
assert torch.allclose(back, torch.fake_quantize_per_tensor_affine(x, *grid, -128, 127))
assert (back - x)[x <= high].abs().max() <= 0.5001 * grid[0]
assert back[x == 0] == 0
print("equal to PyTorch's, error at most half a step inside the range, and 0 stays 0:", True)

# %%
import matplotlib.pyplot as plt

line = torch.linspace(-1, 4, 1001)
coarse = scale_and_zero_point(torch.tensor(low), torch.tensor(high), bits=3)
stairs = dequantize(quantize(line, *coarse, bits=3), *coarse)
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4))
axes[0].plot(line, line, ":", color="grey", label="x itself")
axes[0].plot(line, stairs, label="dequantized")
axes[0].legend()
axes[1].plot(line, stairs - line)
axes[1].axvspan(low, high, color="grey", alpha=0.15, label="the grid's range")
axes[1].legend()
for ax, title, y in zip(axes, ("3 bits: 8 points", "Error"), ("x̂", "x̂ - x"), strict=True):
    ax.set(title=title, xlabel="x", ylabel=y)
lab.show_figure(
    fig,
    "A grid of 3 bits, so that its steps can be seen. Inside the range the error swings between plus "
    "and minus half a step; beyond the ends it grows without bound. The grid has a point at 0, so its "
    "ends are not exactly those of the range.",
    "Left: a staircase of eight steps along the diagonal, level below 0 and above 3. Right: a sawtooth "
    "of errors within the shaded range, and straight lines away from zero on both sides of it.",
)


# %% [markdown]
# Two kinds of error, then: **rounding** everywhere, and **clipping** beyond the ends. A wide range makes
# the first large, a narrow one the second. All choices of this lesson weigh one against the other.
#
# ### Exercise 1 · An asymmetric grid (★☆☆, 8 min)

# %% tags=["exercise"]
def quantize_asymmetric(x, low, high):
    """Quantize to 8 bits with a grid from low (at most 0) to high (at least 0).

    x: tensor of any shape. Returns (q, scale, zero_point): q is int8 of the shape of x, scale a
    float, zero_point a Python integer.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("19.asymmetric", quantize_asymmetric)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The three formulas above, one line each. `tensor.round()`, `tensor.clamp(low, high)` and Python's
# `round()` are all you need.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Clamp first, then `.to(torch.int8)`. The conversion of 130 to int8 gives -126.
#
# </details>

# %% [markdown]
# ## 2 · One grid for how many numbers?
#
# Weights lie around 0, as many below as above. For them a **symmetric** grid is enough: its zero point
# is 0, and it has one number less to carry around. Its range is set by the largest *size*:
#
# $$ s = \frac{\max |w|}{127} \qquad q = \mathrm{round}\!\left(\frac{w}{s}\right) \in \{-127, \dots, 127\} $$
#
# -128 stays unused, so that $-w$ is on the grid wherever $w$ is. But the largest of *which* numbers? Look
# at the rows of one real weight matrix. Row $i$ makes output channel $i$ of the layer.

# %%
weight = encoder.layers[0].feed_forward.down.weight.detach()  # (d_out, d_in)
sizes = weight.abs().amax(dim=1)  # the largest of each row: (d_out,)
print(f"weight {tuple(weight.shape)}, standard deviation {weight.std():.3f}")
print(f"largest size of a row: median {sizes.median():.2f}, at most {sizes.max():.2f}")
print(f"one grid for all: step {sizes.max() / 127:.3f}")
print(f"the median row's own grid: step {sizes.median() / 127:.4f}")

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
axes[0].hist(sizes.log10(), bins=40)
axes[0].set(title="Largest size of each row", xlabel="log10 of max |w|", ylabel="rows")
row = sizes.argsort()[len(sizes) // 2]
for name, step in {"one grid for all": sizes.max() / 127, "its own grid": sizes[row] / 127}.items():
    values, counts = (weight[row] / step).round().unique(return_counts=True)
    axes[1].vlines(values * step, 0.5, counts, label=f"{name}: {len(values)} values",
                   color="C1" if "all" in name else "C0")  # fmt: skip
axes[1].set(
    title="The median row, rounded", xlabel="w", ylabel="numbers at each value", yscale="log"
)
axes[1].set_ylim(0.5, 3000)
axes[1].legend()
lab.show_figure(
    fig,
    "Left: one row has a number forty times as large as the median row's largest. Right: on a grid made "
    "for it, the weights of an ordinary row fall on a few points; on the row's own grid they use many.",
    "Left: histogram of the logarithm of the rows' maxima, most near -0.7, one at 0.9. Right: vertical "
    "lines, a few tall orange ones and a dense comb of short blue ones.",
)

# %% [markdown]
# One large number spoils the grid for all that share it. So share less:
#
# - **per tensor**: one scale for the matrix;
# - **per channel**: one for each row;
# - **per group**: one for each 32 (or 64, 128) numbers of a row.
#
# Each scale is a float32 that must be stored, too: groups of 32 cost one more bit per number.

# %%
for bits in (8, 4):
    for granularity in ("tensor", "channel", "group"):
        stored = quantize_matrix(weight, bits, granularity, group_size=32)
        error = (stored.dequantize() - weight).norm() / weight.norm()
        scales = tuple(stored.scale.shape)
        print(f"{bits} bits per {granularity:7}: {stored.stored_bits:.2f} bits per number, "
              f"scales {scales!s:9}, error {error:.1%}")  # fmt: skip


# %% [markdown]
# ### Exercise 2 · One scale for each output channel (★☆☆, 6 min)

# %% tags=["exercise"]
def quantize_channels(weight):
    """Symmetric int8 with one scale for each output channel.

    weight: (d_out, d_in). Returns (q, scale): q is int8 (d_out, d_in), scale is (d_out, 1), and
    q * scale is close to the weight. No row is all zeros.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("19.channels", quantize_channels)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `tensor.amax(dim=..., keepdim=True)` keeps the axis, so that the division stretches it. Which axis
# does a row's maximum run over?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# What is the largest *size* in the row [-1.0, 0.5]? And what does `.to(torch.int8)` do to 2.7?
#
# </details>

# %% [markdown]
# ## 3 · A product in integers
#
# A linear layer computes sums $y_{ti} = \sum_c x_{tc} \, w_{ic}$, for token $t$ and output $i$. Put
# $\hat x = s_x (q_x - z)$ and $\hat w = s_w \, q_w$ into it. What is the same for all terms of the sum can
# be taken out:
#
# $$ y_{ti} = s_x \, s_w \sum_c (q_{x,tc} - z) \, q_{w,ic} = s_x \, s_w \Big( \sum_c q_{x,tc} \, q_{w,ic} \; - \; z \sum_c q_{w,ic} \Big) $$
#
# The first sum has integers only. The second does not depend on the input and is computed once, when
# the model is quantized (Jacob et al. 2018, equation 7).
#
# This also says which scales are possible. $s_x$ may differ from token to token and $s_w$ from output to
# output: neither changes *within* the sum over $c$. A scale for each *input* channel $c$ would change
# within it, and could not be taken out. Section 4 needs this sentence.
#
# **Predict.** 127 times 127 is 16,129. What does PyTorch return for the product of two int8 matrices
# with 384 such terms?

# %%
a = torch.full((1, 384), 127, dtype=torch.int8)
print("int8 @ int8:  ", (a @ a.T).item(), (a @ a.T).dtype)
print("int32 @ int32:", (a.int() @ a.int().T).item())


# %% [markdown]
# The int8 sum wrapped around, without a word. Products of 8-bit numbers need 16 bits, and sums of
# hundreds of them more. So int8 hardware multiplies 8 × 8 bits and adds up in **32 bits**.
#
# ### Exercise 3 · A linear layer in integers (★★☆, 10 min)

# %% tags=["exercise"]
def integer_linear(q_x, x_scale, x_zero_point, q_weight, weight_scale):
    """The output of a linear layer (without bias) from quantized inputs and weights.

    q_x: int8 (tokens, d_in), with one scale (a float) and one zero point (an integer) for all.
    q_weight: int8 (d_out, d_in), symmetric. weight_scale: (d_out,). Returns float (tokens, d_out).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("19.integer_linear", integer_linear)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Convert to `torch.int32` before you subtract or multiply anything.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The outputs are the last axis of the result, and `weight_scale` has one number for each of them.
#
# </details>
#
# The library does the same with `torch._int_mm`, which takes int8 and returns int32. On a CPU that is a
# call of oneDNN, which uses the processor's instructions for int8 where it has them (lesson 20 looks
# at these). We check that its sums are exact, and that the layer gives what dequantized numbers give:

# %%
from torch import nn

from zoo_lessons.deploy.quantized_layers import DynamicLinear, integer_matmul

torch.manual_seed(0)
linear, x = nn.Linear(384, 64), torch.randn(10, 384)
integers = torch.randint(-128, 128, (2, 10, 384), dtype=torch.int8)
exact = integers[0].long() @ integers[1].long().T
assert torch.equal(integer_matmul(integers[0], integers[1].T).long(), exact)

with torch.no_grad():
    y = DynamicLinear(linear)(x)
    q_x = quantize_matrix(x, 8, "channel", symmetric=False)  # one grid for each token
    q_w = quantize_matrix(linear.weight, 8, "channel")
    assert torch.allclose(y, q_x.dequantize() @ q_w.dequantize().T + linear.bias, atol=1e-5)
    error = (y - linear(x)).norm() / linear(x).norm()
print("integer sums exact, layer equal to dequantized numbers:", True)
print("far from float32 by less than 2 %:", error.item() < 0.02)

# %% [markdown]
# And does it save time? One layer of BERT-Base's size, 128 tokens. The integer layer must find its
# input's range, quantize, multiply, and scale back.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.bench import compare

layer, x = nn.Linear(768, 3072), torch.randn(128, 768)
whole = DynamicLinear(layer)
q = quantize_matrix(x, 8, "channel").values
with torch.inference_mode():
    times = compare(
        {
            "float32 layer": lambda: layer(x),
            "int8 layer, quantizing and all": lambda: whole(x),
            "int8 product alone": lambda: integer_matmul(q, whole.values.T),
        },
        rounds=7,
        target_seconds=0.01,
    )
print(times)

# %% [markdown]
# Compare the two int8 lines. What lies between them is all that surrounds the product: find the range,
# quantize, scale back, each a pass over memory of its own. Real engines fuse these steps into the product
# (section 7; lesson 20 says why that helps).

# %% [markdown]
# ## 4 · Outliers
#
# A large weight harms its own row at most, once each row has its grid. Inputs are harder. Here are those of
# one linear layer of MiniLM, while it reads our sentence:

# %%
from zoo_lessons.deploy.quantize import RangeObserver


@torch.no_grad()
def layer_inputs(name, ids, mask=None):
    """What the linear layer `name` of MiniLM gets to see: (batch, tokens, d_in)."""
    seen = []
    layer = encoder.get_submodule(name)
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(ids, mask)
    handle.remove()
    return seen[0]


encoded = tokenizer.encode(sentences[0])
x = layer_inputs("layers.0.feed_forward.up", torch.tensor([encoded.ids]))[0]  # (tokens, d_in)
token, channel = divmod(x.abs().argmax().item(), x.shape[1])
print(f"inputs {tuple(x.shape)}, standard deviation {x.std():.2f}")
print(f"largest: {x[token, channel]:.1f}, token {encoded.tokens[token]}, channel {channel}")
print(f"largest of the other tokens: {x[1:].abs().max():.1f}")

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), width_ratios=(1.4, 1))
axes[0].bar(range(x.shape[1]), x.abs().amax(dim=0), width=2)
axes[0].set(title="Largest size of each channel", xlabel="channel", ylabel="max |x|")
axes[1].bar(range(len(x)), x.abs().amax(dim=1))
axes[1].set(title="Largest size of each token", ylabel="max |x|")
axes[1].set_xticks(range(len(x)), encoded.tokens, rotation=45)
lab.show_figure(
    fig,
    "One channel of one token towers over all others: channel 99 of [CLS].",
    "Left: bars for 384 channels, nearly all below 4, a few at 5 to 8, one at 28. Right: bars for eight "
    "tokens: [CLS] 28, the others between 3 and 8.",
)

# %% [markdown]
# [Dettmers et al. 2022](https://arxiv.org/abs/2208.07339) (LLM.int8(), section 4) found such **outliers**
# in large language models: a handful of channels, in all layers, 20 times as large as the rest. Ours is
# a small encoder, and it has one, too. Is it a curiosity that could be cut off? Test it: limit this
# channel to ±6 before the same linear layer of every block, then do the same to other channels, and see how far
# the sentences' vectors move.

# %%
texts = ["The cat sat on the mat", "Plots are drawn on a figure", "Sort the list of numbers"]
reference = sentence_embeddings(encoder, tokenizer, texts)


def moved(channel):
    """1 - cosine of the sentences' vectors, if `channel` is cut off at 6 before each `up` layer."""

    def cut(_, inputs):
        x = inputs[0].clone()
        x[..., channel] = x[..., channel].clamp(-6, 6)
        return x

    handles = [b.feed_forward.up.register_forward_pre_hook(cut) for b in encoder.layers]
    found = sentence_embeddings(encoder, tokenizer, texts)
    for handle in handles:
        handle.remove()
    return 1 - (found * reference).sum(dim=-1).mean().item()


print(f"channel {channel} cut off: {moved(channel):.3f}")
others = max(moved(other) for other in (0, 57, 111, 200, 333))
print("five other channels, each below 0.001:", others < 1e-3)

# %% [markdown]
# The outlier carries something that the model uses: cutting off this one channel moves the vector further
# than rounding all weights and inputs to 8 bits will do in section 6. It must be kept, and a grid that keeps
# it has large steps for everyone else:

# %% tags=["nbval-ignore-output"]
layer = encoder.layers[0].feed_forward.up
ways = {
    "one grid for all": DynamicLinear(layer, per="tensor"),
    "one grid for each token": DynamicLinear(layer, per="token"),
    "for all, outliers in float": DynamicLinear(layer, per="tensor", threshold=6.0),
}
with torch.no_grad():
    expected = layer(x)
    for name, quantized in ways.items():
        error = (quantized(x) - expected).norm(dim=-1) / expected.norm(dim=-1)  # (tokens,)
        print(
            f"{name:27} error of [CLS] {error[0]:.1%}, of the other tokens {error[1:].mean():.1%}"
        )

# %% [markdown]
# Three ways out:
#
# - **A grid for each token.** The other tokens are rid of the outlier of [CLS]. [CLS] itself is not.
# - **The outlier's channel in float** (LLM.int8(), section 3.2): columns with numbers beyond 6 leave the
#   integer product and are multiplied in float; they are few. This also helps [CLS].
# - **Move the difficulty into the weight** (SmoothQuant, [Xiao et al. 2023](https://arxiv.org/abs/2211.10438)):
#   divide the channel by a number beforehand, multiply the weight's column by it. That is the scale per
#   input channel that section 3 forbade, smuggled into the weight.
#
# ### See it for the whole model
#
# We rounded all linear layers of MiniLM in 72 ways: their weights or their inputs, with 2 to 8 bits, three
# granularities, symmetric and not. Each time we asked lesson 08's question: which topic is this passage
# about? The widget shows the errors of *one* matrix (computed as you move the slider) beside the quality
# of the *whole* model (recorded by `make record`).
#
# **Try this.**
#
# 1. Weights, one grid for all: go down from 8 bits. Where does quality break? Then per row, then per
#    group.
# 2. Inputs, one grid for all. At how many bits does it break now? Switch *symmetric* off and on at
#    6 bits.
# 3. Inputs, 4 bits: compare the share of numbers that become 0 per tensor and per row.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.lab.widgets import QuantizationExplorer
from zoo_lessons.records import load_claim, load_record

record = load_record("quantization_quality")
figures = record["figures"]
float32 = sum(figures["ways"]["float32"]["accuracy"]) / figures["seeds"]
QuantizationExplorer(
    {"weights": encoder.layers[0].feed_forward.up.weight.detach()[:128], "inputs": x},
    figures["grid"],
    reference=float32,
    guessing=1 / len(figures["topics"]),
    group_size=figures["group_size"],
)


# %%
def fewest_bits(of, granularity, field, at_least):
    """The fewest bits with which a figure, the mean over seeds, is still high enough."""
    bits = [
        row["bits"]
        for row in figures["grid"]
        if (row["of"], row["granularity"], row["symmetric"]) == (of, granularity, True)
        and sum(row[field]) / figures["seeds"] >= at_least
    ]
    return min(bits, default="more than 8")


print("fewest bits, symmetric grids, that keep 95 % of the accuracy / 90 % of the answers")
for of in ("weights", "inputs"):
    for granularity in ("tensor", "channel", "group"):
        accuracy = fewest_bits(of, granularity, "accuracy", 0.95 * float32)
        print(f"{of:7} per {granularity:7}: {accuracy} / "
              f"{fewest_bits(of, granularity, 'agreement', 0.9)}")  # fmt: skip

# %% [markdown]
# (*Per channel* is per row: an output channel of the weights, a token of the inputs. *Answers* are the
# passages that get the same topic as from the float32 model.) One grid for all needs its eight bits, for
# weights as for inputs. A grid for each row saves several of them, and groups save more, though each group
# brings a scale of 32 bits with it. So *how* the grids are laid counts for as much as a few bits.
#
# At 6 bits, asymmetric grids do better for inputs, in the record and in the widget: the outlier lies on one
# side, and behind a GELU nearly all numbers do. A symmetric grid spends half of its points on a side where
# nothing is.

# %% [markdown]
# ## 5 · Calibration
#
# A weight's range is known. An input's range is known only when the input is there. There are two
# answers: measure it at each call (**dynamic**), or measure it beforehand on examples (**static**). The
# second is **calibration**, and its examples must look like what comes later.
#
# How wide should the range be? As wide as all that was seen (*min-max*), or narrower: without the
# outermost numbers (*percentile*), or where the mean squared error on the examples is smallest (*MSE*).

# %%
from zoo_lessons.datasets.topics import passages_by_topic

tokenizer.enable_truncation(32)
tokenizer.enable_padding(length=32)
found = tokenizer.encode_batch([p.text for p in passages_by_topic("train", 8, seed=100)])
tokenizer.no_truncation()
tokenizer.no_padding()
batch = {
    "input_ids": torch.tensor([one.ids for one in found]),  # (passages, tokens)
    "attention_mask": torch.tensor([one.attention_mask for one in found]),
}
name = "layers.2.feed_forward.down"
x = layer_inputs(name, *batch.values())[batch["attention_mask"].bool()]  # (tokens, d_in)

ranges = {}
for method in ("minmax", "percentile", "mse"):
    observer = RangeObserver(method)
    observer.observe(x)
    ranges[method] = observer.range()
    low, high = ranges[method]
    print(f"{method:10} {low:6.2f} to {high:5.2f}, step {(high - low) / 255:.4f}")

# %%
fig, ax = plt.subplots(figsize=(8, 3.2))
ax.hist(x.flatten().numpy(), bins=200, log=True, color="lightgrey")
for place, (method, (low, high)) in enumerate(ranges.items()):
    ax.hlines(10 ** (4.6 - 0.5 * place), low, high, label=method, color=f"C{place}", linewidth=3)
ax.set(title=f"Inputs of {name} and three ranges", xlabel="x", ylabel="numbers")
ax.legend(loc=(0.5, 0.2))
lab.show_figure(
    fig,
    "Behind a GELU: nothing below -0.17, most numbers near 0, and a long thin tail. The bars show which "
    "range each method covers. MSE keeps the whole tail here: one number of 17 cut off at 3 errs by 14, and "
    "its square outweighs very many small rounding errors.",
    "Histogram with a logarithmic axis: a tall peak at 0 and a tail to the right that thins out up to 17. "
    "Above it three horizontal bars: min-max and MSE span all of it, percentile ends at 3.",
)


# %% [markdown]
# Note two details of the code above. Padding was left out (`[mask.bool()]`): its numbers mean nothing, and
# they would count. And the passages come from the *training* split.
#
# ### Exercise 4 · Find the bug: a scale that knows too much (★★☆, 8 min)
#
# A colleague calibrates a symmetric static grid. In the report the quantized model does as well as the
# float one, in use it does worse. There is more than one thing wrong. Run the cell below the function, then
# repair the function. It should return the scale of a grid that covers *all* calibration batches.

# %% tags=["exercise"]
def static_scale(calibration, test):
    """The scale of a symmetric int8 grid for a layer's input.

    calibration, test: lists of tensors, batches of inputs. Returns a float.
    """
    scale = 0.0
    for batch in calibration + test:
        scale = batch.max().item() / 127
    return scale


# %%
wide, narrow = torch.tensor([-8.0, 2.0]), torch.tensor([-1.0, 1.0])
print("127 steps reach to", round(127 * static_scale([wide, narrow], [narrow]), 2), "expected 8.0")

# %% tags=["check"]
lab.check("19.calibration_bug", static_scale)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Swap the order of the batches. Should the result change? Does it?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Three things: which batches may count, what becomes of the scale of the batch before, and what a batch of
# negative numbers only would do.
#
# </details>

# %% [markdown]
# ## 6 · Dynamic, static, weight-only
#
# Now the whole model. Three kinds of layers:
#
# | | weights | inputs | product | needs | good where |
# |---|---|---|---|---|---|
# | weight-only | integers | float | float | nothing | memory is short, one token at a time |
# | dynamic | integers | integers, range found at each call | int32 | nothing | inputs vary |
# | static | integers | integers, range fixed | int32 | calibration data | each pass over memory counts |
#
# They differ in one method. This is what the library's layers do:

# %%
from zoo_lessons.deploy.quantized_layers import (
    IntegerLinear,
    calibrate,
    quantize_dynamic,
    quantize_static,
    quantize_weights,
    stored_bytes,
)

lab.show_source(IntegerLinear.product)

# %%
lab.show_source(DynamicLinear.forward)

# %% [markdown]
# The tables of embeddings go into int8 as well, with one scale for each word. Sizes, and the three sentences:

# %% tags=["nbval-ignore-output"]
models = {
    "float32": encoder,
    "weight-only, 8 bits": quantize_weights(encoder),
    "dynamic": quantize_dynamic(encoder),
    "static": quantize_static(encoder, calibrate(encoder, [batch])),
    "weight-only, 4 bits": quantize_weights(encoder, 4, "group"),
}
share = encoder.embeddings.word.weight.numel() / count
print(f"the table of words holds {share:.0%} of the numbers")
for name, model in models.items():
    cat, kitten, market = sentence_embeddings(model, tokenizer, sentences)
    print(f"{name:20} {stored_bytes(model) / 1e6:5.1f} MB, cat and kitten {cat @ kitten:5.2f}, "
          f"cat and market {cat @ market:5.2f}")  # fmt: skip

# %% [markdown]
# Three sentences prove nothing. The record has 240 passages, and the question of lesson 08: which of six
# topics? A classifier was fitted on the vectors of the float32 encoder and never again. *Agreement* is the
# share of passages that get the answer that float32 gave: it shows changes that accuracy averages away.

# %%
print(f"{'':39}{'MB':>6}{'accuracy':>10}{'agreement':>11}{'1 - cosine':>12}")
for name, way in figures["ways"].items():
    accuracy, agreement = (sum(way[k]) / figures["seeds"] for k in ("accuracy", "agreement"))
    print(
        f"{name:39}{way['bytes'] / 1e6:6.1f}{accuracy:10.1%}{agreement:11.1%}{way['error']:12.4f}"
    )

# %% [markdown]
# All 8-bit ways are a quarter of the size, and their accuracies differ from float32's by what a few passages
# more or less make. Agreement tells them apart. Rounding only the weights changes least. When inputs are
# rounded too, a grid for each token changes less than one for the whole tensor, and taking the outliers out
# lies between the two. Four bits change one answer in eight, or one in thirteen with groups; the accuracy
# does not suffer, since about as many answers turned right as turned wrong.
#
# How much calibration data does the static way need?

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4))
panels = {"agreement": "Same answer as float32", "error": "Distance of the vectors"}
for ax, (field, title) in zip(axes, panels.items(), strict=True):
    series = {
        method: [sum(r[field]) / len(r[field]) if field == "agreement" else r[field] for r in rows]
        for method, rows in figures["calibration"].items()
    }
    passages = [row["passages"] for row in figures["calibration"]["minmax"]]
    lab.lines(series, passages, title=title, x_axis="calibration passages",
              y_axis="share of passages" if field == "agreement" else "1 - cosine", log="x", ax=ax)  # fmt: skip
lab.show_figure(
    fig,
    "Static quantization after calibration on 1 to 96 passages. A single passage is enough for min-max and "
    "MSE, but not for the percentile.",
    "Two line charts against 1, 6, 24 and 96 calibration passages. Agreement: min-max and MSE are level near "
    "0.96; percentile starts at 0.81 and joins them from 6 passages on. 1 - cosine: percentile starts at "
    "0.11, all others lie below 0.01.",
)

# %% [markdown]
# Why does the percentile fail on one passage? It leaves out the outermost ten-thousandth of the numbers, half
# of it at each end. One passage has one [CLS], so one outlier among some twelve thousand numbers: is that the
# one which is left out?

# %%
for passages in (1, 8):
    few = {name: tensor[:passages] for name, tensor in batch.items()}
    for method in ("percentile", "minmax"):
        _, high = calibrate(encoder, [few], method)["layers.0.feed_forward.up"]
        print(f"passages: {passages}, {method:10}: up to {high:.0f}")

# %% [markdown]
# It is. At the upper end one number in twenty thousand may go. Of one passage's twelve thousand that is,
# rounded, one: the outlier. Each further passage brings an outlier of its own, so some of them stay, and the
# grid keeps room for them. A rule that is blind to *which* numbers it cuts off needs enough data to be harmless.

# %% [markdown]
# ## 7 · The real tools
#
# Our layers show what happens. They are not fast: each step is an operation of its own. Three tools are.
#
# - **bfloat16** is no quantization. It keeps float32's eight bits of exponent and cuts the fraction from 23
#   bits to 7, so nothing needs a scale. One call: `model.to(torch.bfloat16)`.
# - **torchao** is PyTorch's own library. It replaces the weights by tensors that know their scales, and
#   the products by integer ones.
# - **ONNX Runtime** runs a file. `export_onnx` follows our model once with PyTorch's exporter and writes its
#   operators; the runtime fuses what it can and needs none of our code.

# %%
import copy
import tempfile
from pathlib import Path

from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

from zoo_lessons.deploy.export import (
    OnnxModel,
    export_onnx,
    largest_difference,
    operators,
    quantize_dynamic_int8,
)

models = {"dynamic": models["dynamic"]}  # the others are no longer needed
folder = Path(tempfile.mkdtemp())
example = {name: tensor[:2] for name, tensor in batch.items()}
path = export_onnx(encoder, example, folder / "minilm.onnx")
other_sizes = {name: tensor[:5, :17] for name, tensor in batch.items()}
difference = largest_difference(encoder, OnnxModel(path), other_sizes)["last_hidden_state"]
print("another batch and length than in the example, equal to 4 decimals:", difference < 1e-4)

# %% [markdown]
# The exported model is the same function, for any batch and length. Now quantize it: the weights get one
# scale for each output channel, the inputs a range at each call.

# %%
small = quantize_dynamic_int8(path, folder / "minilm.int8.onnx", embeddings=True)
before, after = operators(path), operators(small)
for name in ("MatMul", "Gemm", "MatMulInteger", "DynamicQuantizeLinear"):
    print(f"{name:22} before {before.get(name, 0):3}, after {after.get(name, 0):3}")
share = small.stat().st_size / path.stat().st_size
print(f"the file has shrunk to less than 27 %: {share < 0.27}")

# %% [markdown]
# `MatMulInteger` is our `integer_matmul`. The `MatMul` that are left are attention's own products,
# $QK^\top$ and $AV$: neither factor is a weight. (The runtime fuses more when it loads the file.)
#
# Live: all of these on 90 test passages, with a classifier on the float32 vectors.

# %% tags=["nbval-ignore-output"]
from types import SimpleNamespace

from sklearn.linear_model import LogisticRegression


def runs(exported):
    """An ONNX model with the manners of an encoder."""
    return lambda ids, mask: SimpleNamespace(**exported(input_ids=ids, attention_mask=mask))


torchao_model = copy.deepcopy(encoder)
quantize_(torchao_model, Int8DynamicActivationInt8WeightConfig())
candidates = {
    "PyTorch float32": encoder,
    "PyTorch bfloat16": copy.deepcopy(encoder).to(torch.bfloat16),
    "torchao INT8": torchao_model,
    "ours, dynamic INT8": models["dynamic"],
    "ONNX Runtime float32": runs(OnnxModel(path)),
    "ONNX Runtime INT8": runs(OnnxModel(small)),
}

# %% tags=["nbval-ignore-output"]
train, test = passages_by_topic("train", 32), passages_by_topic("test", 15)


def vectors(model, passages):
    texts = [passage.text for passage in passages]
    return sentence_embeddings(model, tokenizer, texts, max_length=32, batch_size=64).float()


classifier = LogisticRegression(C=100, max_iter=2000)
classifier.fit(vectors(encoder, train), [passage.label for passage in train])
right = torch.tensor([passage.label for passage in test])
answers = {}
for name, model in candidates.items():
    answers[name] = torch.from_numpy(classifier.predict(vectors(model, test)))
    agreement = (answers[name] == answers["PyTorch float32"]).double().mean()
    print(f"{name:21} {(answers[name] == right).double().mean():.1%} right, agrees {agreement:.1%}")

# %%
kept = {
    name: (found == answers["PyTorch float32"]).double().mean() for name, found in answers.items()
}
print("all agree with float32 on at least 90 % of the passages:", min(kept.values()).item() >= 0.9)

# %% [markdown]
# **Predict.** One text of 128 tokens. In which order do the six finish?

# %% tags=["nbval-ignore-output"]
ids = torch.randint(1000, 20_000, (1, 128))
mask = torch.ones_like(ids)
with torch.inference_mode():
    times = compare(
        {name: lambda model=model: model(ids, mask) for name, model in candidates.items()},
        rounds=5,
        target_seconds=0.02,
    )
print(times)

# %% [markdown]
# A ratio below 1 is faster than PyTorch's float32; the interval tells how sure that is. Which way wins
# depends on the processor: int8 and bfloat16 need instructions that not all have. So measure where the model
# will run. The next section does it with care, for larger models.
#
# | | this lesson | torchao | ONNX Runtime |
# |---|---|---|---|
# | weights | int8, symmetric, per output channel | the same | the same |
# | inputs, dynamic | int8, asymmetric, per token | int8, symmetric, per token | uint8, asymmetric, per tensor |
# | lowest integer of a symmetric grid | -127 | -128 | -127 |
# | bias, LayerNorm, softmax | float32 | float32 | float32 |
# | embeddings | int8, per word | float32 | int8, per table, on request |

# %% [markdown]
# ## 8 · What it costs
#
# Memory is arithmetic. With $b$ bits, groups of $g$ numbers and scales of 32 bits, a weight takes
# $b + 32 / g$ bits. Time must be measured.

# %%
from zoo_lessons.models import BertConfig, BertModel

with torch.device("meta"):  # shapes without numbers
    bert_base = sum(p.numel() for p in BertModel(BertConfig.base()).parameters())
for name, numbers in {"MiniLM": count, "BERT-Base": bert_base, "7 billion": 7 * 10**9}.items():
    sizes = {
        "float32": 32,
        "bfloat16": 16,
        "int8, rows of 768": 8 + 32 / 768,
        "int4, groups of 32": 5,
    }
    row = "; ".join(f"{way}: {numbers * bits / 8 / 1e9:.3f}" for way, bits in sizes.items())
    print(f"{name}, GB. {row}")

# %% [markdown]
# ### ONNX Runtime on BERT-Base
#
# An article that this course grew from reports 120 ms in PyTorch and 35 ms with ONNX Runtime's INT8 for
# BERT-Base: 3.4 times as fast. The record has BERT-Base and ViT-Base, all ways in one interleaved run. The
# baseline is the faster of two float32 models in PyTorch, one with its weights laid out beforehand for the
# processor's kernels: an untuned baseline would flatter INT8.

# %% tags=["nbval-ignore-output"]
record = load_record("int8_latency")
figures = record["figures"]
print(f"{record['machine']['device']}, {record['machine']['threads']} threads, {record['date']}")
print("times as fast as the faster float32 model in PyTorch (batch x tokens)")
cases = {f"{c['model']} {c['batch']}x{c['tokens']}": c["ways"] for c in figures["cases"]}
print(" " * 32 + "".join(f"{case.replace('-Base', ''):>12}" for case in cases))
for way in figures["cases"][0]["ways"]:
    found = [ways[way]["speedup"] if way in ways else None for ways in cases.values()]
    print(f"{way:32}" + "".join(f"{'-':>12}" if x is None else f"{x:12.2f}" for x in found))

# %% tags=["nbval-ignore-output"]
ways = cases["BERT-Base 1x128"]
fig, ax = plt.subplots(figsize=(8, 3.6))
bars = ax.barh(list(ways), [way["milliseconds"] for way in ways.values()])
ax.bar_label(bars, [f"{way['milliseconds']:.0f} ms" for way in ways.values()], padding=3)
ax.invert_yaxis()
ax.set(title="BERT-Base, one text of 128 tokens", xlabel="milliseconds")
ax.margins(x=0.15)
lab.show_figure(
    fig,
    "Median time of each way, in one interleaved run.",
    "Horizontal bars of milliseconds, one for each way to run BERT-Base; the numbers stand beside them.",
)
for way, size in figures["sizes"]["BERT-Base"].items():
    print(f"{way:27} {size / 1e6:6.1f} MB, error {ways[way]['error']:.1%} of the output's norm")
for way, size in figures["memory"]["BERT-Base"].items():
    print(f"{way:27} takes {'unknown' if size is None else f'{size / 1e6:.0f} MB'} of memory")
product = figures["product"]
print(f"one product {product['shape']} in INT8: {product['speedup']:.1f} times as fast as float32")

# %% [markdown]
# Read the table by columns. Why can INT8 hardly be more than four times as fast? One instruction of 512 bits
# multiplies and adds 64 pairs of 8-bit numbers (VNNI), or 16 pairs of float32 numbers. A product can gain a
# factor of four; LayerNorm, softmax, GELU and attention's own products gain nothing. The last line shows
# what one product gains on the device that made the record.
#
# Two rows try to save on the rest. *oneDNN, static* fixes the ranges
# beforehand (section 5), so the first product of a feed-forward layer can apply the GELU and round its output to
# the grid of the second before it stores anything. And *norms apart* forbids ONNX Runtime to join a sum and the
# LayerNorm after it into one operator. Joining should help; compare the two rows to see whether it did here.
#
# We aimed for four times. Was that possible? Count what must be multiplied, and divide by the fastest that
# this processor multiplies at all: one large product, weights laid out and inputs rounded before the clock starts.

# %% tags=["nbval-ignore-output"]
floor = figures["floor"]
tuned = min(ways[way]["milliseconds"] for way in ways if "PyTorch fp32" in way)
for name, count_of, kind in (
    ("linear layers", "linear", "int8"),
    ("attention's own products", "attention", "fp32"),
):
    rate = floor["peak"][kind]
    print(f"{name:25}{floor[count_of] / 1e9:6.2f} billion multiply-adds, {kind} at "
          f"{rate / 2e9:.0f} billion a second: {2e3 * floor[count_of] / rate:.1f} ms")  # fmt: skip
fastest = min((way for way in ways if "INT8" in way), key=lambda way: ways[way]["milliseconds"])
print(f"floor {floor['milliseconds']:.1f} ms, a quarter of the tuned baseline {tuned / 4:.1f} ms; "
      f"fastest INT8 {ways[fastest]['milliseconds']:.1f} ms ({fastest})")  # fmt: skip
print(f"the floor is {tuned / floor['milliseconds']:.1f} times as fast as the tuned baseline")

# %% [markdown]
# The floor leaves out LayerNorm, GELU, softmax, rounding and every pass over memory. Whatever engine one takes,
# it must stay above it. Compare the floor with a quarter of the baseline: what lies between them is all the time
# that everything else may take, if four times is to be reached.
#
# The errors say how far the outputs are from float32's. These weights are random, since time does not depend
# on them; what INT8 does to quality is measured on trained models, in section 6 and below.
#
# A trap for whoever compares engines: after a run, ONNX Runtime's threads go on *spinning*, waiting for the
# next one, and take the cores from whoever computes then. Timed in turns, PyTorch looked much slower than it
# is, and INT8 the better for it. Our control, the baseline timed twice, gave it away: the two differed.
# `OnnxModel` therefore sets `session.force_spinning_stop`.

# %% tags=["nbval-ignore-output"]
lab.show_claim(load_claim("C26"))

# %% [markdown]
# ### The headline: hierarchical attention and INT8
#
# The articles' headline: hierarchical attention (lesson 15) and quantization together save 60 % of the latency
# and keep 95 % of the quality. We train one classifier for texts of 4,096 tokens, in which each question
# must find its entry: *near*, at most 64 tokens away, which is one layer's window; *far*, more than 384, which
# six such windows, one on top of the other, do not bridge; or in between. It comes in four variants, and in a
# control with windows in all layers, which cannot see far. INT8 is the real thing: each linear layer multiplies
# integers (oneDNN, inside PyTorch), with ranges calibrated on training texts, and quality is measured on the
# INT8 models themselves.

# %% tags=["nbval-ignore-output"]
record, timed = load_record("int8_headline"), load_record("int8_headline_time")
quality, speed = record["figures"], timed["figures"]
judged = next(case for case in speed["cases"] if case["tokens"] == speed["tokens"])
print(f"{timed['machine']['device']}, {timed['date']}; {quality['seeds']} seeds, "
      f"guessing {quality['guessing']:.1%}")  # fmt: skip
print(
    f"{'':20}{'near':>7}{'far':>7}{'all':>7}  95 % interval of all   time at {judged['tokens']:,}"
)
for name, found in quality["variants"].items():
    mean, low, high = found["all"]
    ratio = f"{judged['ratio'][name]:.2f}" if name in judged["ratio"] else "-"
    print(f"{name:20}{found['near'][0]:7.1%}{found['far'][0]:7.1%}{mean:7.1%}  "
          f"{max(low, 0):.1%} to {min(high, 1):.1%}{ratio:>14}")  # fmt: skip

# %% [markdown]
# How much is saved depends on the length. Full attention's time grows with its square, all else in proportion.
# So the length had to be fixed beforehand: the claim is judged at 4,096 tokens, and the picture shows what comes
# before and after.
#
# **Predict.** With one full layer of six, how much can the hierarchy save at most, on texts without end?

# %% tags=["nbval-ignore-output"]
lengths = [case["tokens"] for case in speed["cases"]]
shown = {"hierarchical": "hierarchical, fp32", "hierarchical and INT8": speed["both"]}
series = {
    label: [1 - case["ratio"][name] for case in speed["cases"]] for label, name in shown.items()
}
fig = lab.lines(series, lengths, title="Saved against full attention in float32",
                x_axis="tokens", y_axis="share of the latency", log="x")  # fmt: skip
ax = fig.axes[0]
for level, name in ((speed["article"]["less"], "article"), (speed["aim"]["less"], "our aim")):
    ax.axhline(level, color="grey", linestyle=":")
    ax.annotate(name, (lengths[0], level), xytext=(0, 3), textcoords="offset points", color="grey")
ax.axhline(0, color="grey", linewidth=0.8)
lab.show_figure(
    fig,
    "Share of the baseline's time that is saved. Below 0 a variant is slower. The dotted lines are the "
    "article's 60 % and our own aim of 75 %.",
    "Line chart with a logarithmic axis from 512 to 16,384 tokens: two lines, with and without INT8, "
    "rise with the length; dotted lines at 0.6 and 0.75.",
)

# %% tags=["nbval-ignore-output"]
print(f"{'tokens':>7}{'saved':>8}{'kept, all':>11}{'far':>8}  questions asked of each seed")
kept = {str(speed["tokens"]): speed["kept"], **speed["kept_longer"]}
asked = {str(quality["length"]): quality["variants"]}
asked |= {str(each["tokens"]): each["variants"] for each in quality["longer"]}
for tokens, share in kept.items():
    case = next(case for case in speed["cases"] if str(case["tokens"]) == tokens)
    count_of = asked[tokens][speed["both"]]["runs"][0]["asked"]["all"]
    print(f"{int(tokens):7,}{1 - case['ratio'][speed['both']]:8.0%}{share['all']:11.1%}"
          f"{share['far']:8.1%}  {count_of}")  # fmt: skip

# %% tags=["nbval-ignore-output"]
lab.show_claim(load_claim("C15"))

# %% [markdown]
# With texts without end, only the one full layer counts: five sixths can be saved. Training never saw more than
# 1,024 tokens, so the table also asks whether quality holds at lengths where time is saved most. *Kept* is the
# share of what full attention in float32 answers right; above 100 %, full attention errs more often. Mind the
# last column: so few questions do not tell which of the two is better.
#
# The two savings are of different kinds: one shortens attention, the other acts on linear layers. What does
# the second add to the first?

# %% tags=["nbval-ignore-output"]
for case in speed["cases"]:
    took = case["milliseconds"]
    pairs = {
        name: name.replace("INT8", "fp32").split(", ranges")[0] for name in took if "INT8" in name
    }
    shares = [f"{name} {took[name] / took[base]:.2f}" for name, base in pairs.items()]
    print(f"{case['tokens']:6,} tokens, of float32's time: {'; '.join(shares)}")

# %% [markdown]
# It depends on where the rounding happens. This classifier is 128 wide, BERT-Base 768, and products that small
# leave little time to save. With *ranges at each call*, INT8 reads the input once for its range and again to round
# it, and a feed-forward layer stores four times the width in float32 in between. With fixed ranges, the product
# before does the rounding, on numbers that it holds in registers anyway: the same eight bits, the same
# instruction, fewer passes over memory. Lesson 20 makes a rule of that.
#
# The hierarchy, in turn, saves only what attention costs: on short texts that is little. And windows in
# *all* layers are no way out: compare the far questions in the last two rows of the first table.
#
# ### Distilled or not, INT8 or not
#
# Lesson 17 made a student of three layers from a teacher of six. INT8 made models smaller and faster in
# another way. Four combinations, the same test passages, and limits stated beforehand: at most 40 % of the
# teacher's time, at least 95 % of its accuracy.

# %% tags=["nbval-ignore-output"]
quality = load_record("distil_times_int8")["figures"]["variants"]
record = load_record("c31_distil_int8")
figures = record["figures"]
print(f"{record['machine']['device']}, {record['date']}")
print(f"{'':16}{'accuracy':>9}{'MB':>7}   time, one by one and in batches, of the teacher's")
for name, found in quality.items():
    ratios = [f"{times['ratio'][name]:.2f}" for times in figures["times"].values()]
    print(f"{name:16}{found['mean']:9.1%}{found['bytes'] / 1e6:7.1f}   {', '.join(ratios)}")
print("within the limits:", ", ".join(figures["within"]) or "none", "| chosen:", figures["chosen"])

# %% tags=["nbval-ignore-output"]
ratio, limits = figures["times"]["one by one"]["ratio"], figures["limits"]
best = figures["accuracy"][figures["baseline"]]
fig, ax = plt.subplots(figsize=(7, 3.6))
for name, right in figures["accuracy"].items():
    on_front = name in figures["front"]
    ax.plot(ratio[name], right, "o" if on_front else "x", color="C0" if on_front else "grey")
    ax.annotate(name, (ratio[name], right), xytext=(7, 4), textcoords="offset points")
ax.axvline(limits["time"], color="grey", linestyle=":")
ax.axhline(limits["accuracy"] * best, color="grey", linestyle=":")
ax.set(title="Accuracy against time", xlabel="share of the teacher's time", ylabel="accuracy")
ax.margins(0.2)
lab.show_figure(
    fig,
    "Dots are on the Pareto front: no other model is both faster and better. The dotted lines are the "
    "limits; what lies to the upper left of them is within both.",
    "Scatter chart of four models: share of the teacher's time against accuracy, with a dotted vertical "
    "line at 0.4 and a dotted horizontal one.",
)

# %% tags=["nbval-ignore-output"]
lab.show_claim(load_claim("C31"))

# %% [markdown]
# ### BERT's figures
#
# Four figures that are often quoted, from four lessons' records: 110 million parameters, DistilBERT with 40 %
# fewer, INT8 three to four times as fast, and an early exit (PABEE, lesson 17) that saves layers.

# %% tags=["nbval-ignore-output"]
lab.show_claim(load_claim("C24"))

# %% [markdown]
# ### On a GPU
#
# A GPU has units for small matrices of int8 and of 16-bit floats (tensor cores). There, 16 bits are the first
# step, and INT8 pays where batches are large enough to keep these units busy. Lesson 20 runs the benchmark
# (`python -m zoo_lessons.bench gpu`) and judges the claims; this is its excerpt for half precision and INT8.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.gpu_bench import line, load_gpu_records

results = load_gpu_records()
if not results:
    print("No recorded result yet: nobody has run the benchmark on a GPU and committed its file.")
for result in results.values():
    print(f"{result['machine']['gpu']}, {result['date']}, torch {result['software']['torch']}")
    for batch, rows in result["results"]["BERT-Base"].items():
        for way, row in rows.items():
            if way in ("fp32", "fp16", "INT8", "INT8, compiled"):
                print(line("BERT-Base", int(batch), way, row))

# %% [markdown]
# ## 9 · Four bits (further)
#
# Weights of large language models are often stored in four bits. Memory has no address for half a byte,
# so two numbers share one: the first in the lower half, the second in the upper. Negative numbers are
# stored in **two's complement**: the highest of the four bits counts -8.

# %%
from zoo_lessons.deploy.quantize import pack_int4

pair = torch.tensor([[3, -2]], dtype=torch.int8)
packed = pack_int4(pair)
print(
    f"{pair.tolist()[0]} -> one byte {packed.item():08b}: lower half 0011 is 3, upper half 1110 is -2"
)


# %% [markdown]
# ### Exercise 5 · Two numbers in a byte (★★☆, 7 min)

# %% tags=["exercise"]
def unpack(packed):
    """uint8 (..., n) -> int8 (..., 2n), values from -8 to 7; the lower half of a byte comes first."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("19.unpack", unpack)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `packed & 15` is the lower half, `packed >> 4` the upper. Both run from 0 to 15.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Which of 0 ... 15 stand for negative numbers, and what must be subtracted from them? Convert to a signed
# type first.
#
# </details>
#
# How much do groups help with 4 bits? Look at the two lines of section 6's table, and at the widget. What
# the widget cannot show: better ways to *choose* the integers. GPTQ
# ([Frantar et al. 2023](https://arxiv.org/abs/2210.17323), section 3) rounds one column after the other and
# lets the columns not yet rounded make up for the error; AWQ ([Lin et al.
# 2024](https://arxiv.org/abs/2306.00978), section 3) scales up the channels that meet large inputs before it
# rounds. Both need calibration data, and neither trains.

# %% [markdown]
# ## 10 · Training with rounding (further)
#
# All so far was **post-training**: the model never knew. With 2 or 3 bits it must. **Quantization-aware
# training** rounds the weights in each forward pass, and lets the loss react. One thing is in the way: a
# rounding is a staircase, its slope is 0 nearly everywhere, so no gradient passes.
#
# The **straight-through estimator** ([Bengio et al. 2013](https://arxiv.org/abs/1308.3432), section 4) takes
# the staircase on the way forward and, on the way back, acts as if it had been the straight line. Where a
# number was cut off, the gradient is 0:
#
# $$ \hat w = s \cdot \mathrm{clamp}\!\left(\mathrm{round}\!\left(\frac{w}{s}\right)\right) \qquad \frac{\partial \mathcal L}{\partial w} := \frac{\partial \mathcal L}{\partial \hat w} \cdot [\,w \text{ inside the range}\,] $$

# %%
from zoo_lessons.deploy.quantized_layers import fake_quantize

w = torch.tensor([-0.9, -0.26, 0.1, 0.31], requires_grad=True)
plain = 0.2 * (w / 0.2).round().clamp(-3, 3)
plain.sum().backward()
print("through the staircase:", w.grad.tolist())
w.grad = None
through = fake_quantize(w, torch.tensor(0.2), torch.tensor(0), bits=3, symmetric=True)
assert torch.allclose(through, plain)
through.sum().backward()
print("straight through:     ", w.grad.tolist())


# %% [markdown]
# ### Exercise 6 · A gradient through a rounding (★★★, 12 min)
#
# A linear layer $y = x \hat w^\top$ on a grid of 4 bits, $\{-7, \dots, 7\} \cdot s$, and a mean squared error.
# Return the gradient that the straight-through estimator gives the float weight. A weight is inside the range
# while it rounds to -7 ... 7, that is up to $7.5 \, s$.

# %% tags=["exercise"]
def weight_gradient(weight, x, target, scale):
    """weight (d_out, d_in), x (tokens, d_in), target (tokens, d_out), scale a float.

    The loss is ((x @ rounded.T - target) ** 2).mean(). Returns the gradient (d_out, d_in).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("19.straight_through", weight_gradient)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `a + (b - a).detach()` has the value of $b$ and the gradient of $a$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Take for $a$ the weight, clamped to the range: `clamp` itself passes no gradient beyond its ends. Or do
# it by hand: the gradient with respect to the rounded weight is $\frac{2}{N} (x \hat w^\top - t)^\top x$ for
# $N$ numbers in the target; multiply by the mask.
#
# </details>
#
# ### Two bits, before and after
#
# A small ViT learns the handwritten digits. Then all its linear weights go to 2 bits: each is -1, 0 or 1
# times the scale of its row. One copy is rounded as it is. A second is trained for some more steps with
# rounding. A third gets the same number of steps *without* rounding, then is rounded: so that we do not
# mistake more training for better training.

# %%
from zoo_lessons.datasets.digits import digits
from zoo_lessons.deploy.quantized_layers import FakeQuantLinear
from zoo_lessons.models import ViT, ViTConfig
from zoo_lessons.training import fit

train, test = digits("train"), digits("test")
config = ViTConfig(image_size=8, patch_size=2, num_channels=1, d_model=32, num_layers=2,
                   num_heads=4, d_ff=64, num_labels=10)  # fmt: skip


def train_on_digits(model, steps, lr):
    draw = torch.Generator().manual_seed(0)

    def batch(step):
        rows = torch.randint(len(train.images), (64,), generator=draw)
        return train.images[rows], train.labels[rows]

    fit(model, batch, lambda m, b: F.cross_entropy(m(b[0]).logits, b[1]), steps=steps, lr=lr,
        schedule="warmup_cosine", progress=False)  # fmt: skip
    return model


@torch.no_grad()
def score(model):
    return (model.eval()(test.images).logits.argmax(-1) == test.labels).double().mean().item()


# %% tags=["nbval-ignore-output"]
def with_rounding(model, bits=2):
    return replace_linears(model, lambda name, layer: FakeQuantLinear(layer, bits))


torch.manual_seed(0)
vit = train_on_digits(ViT(config), steps=400, lr=3e-3)
longer = train_on_digits(copy.deepcopy(vit), steps=200, lr=1e-3)
aware = train_on_digits(with_rounding(vit), steps=200, lr=1e-3)
scores = {
    "float32": score(vit),
    "rounded to 2 bits": score(with_rounding(vit)),
    "200 more steps, then rounded": score(with_rounding(longer)),
    "200 more steps with rounding": score(aware),
}
for name, share in scores.items():
    print(f"{name:29} {share:.1%} of new writers' digits right")

# %%
float_score, rounded, longer_rounded, trained = scores.values()
print("training with rounding gains more than 20 points:", trained > longer_rounded + 0.2)
print("it loses less than 5 points to float32:", trained > float_score - 0.05)

# %% [markdown]
# Rounding a finished model to three values per weight ruins it, and more training *before* the rounding does
# little about that. Training that feels the rounding finds weights that are good where the grid has points.
# It costs a training run, with data and labels; the ways of sections 4 to 6 cost minutes. So first see
# whether you need it.

# %% [markdown]
# ## Quiz

# %%
lab.quiz("19")

# %% [markdown]
# ## Summary
#
# - A number on a grid is $s (q - z)$. Rounding errs by half a step, clipping without bound; a range weighs
#   one against the other, and 0 must lie on the grid.
# - Share a scale among few: a row, a token, a group. A scale that stays the same within a sum can be taken
#   out of it; then int8 products are summed in int32.
# - Weights are easy, row by row. Inputs have outliers, which the model uses; give each token its own grid,
#   or leave the outliers in float.
# - Weight-only saves memory; dynamic needs nothing; static needs calibration on data like the real ones, and
#   never on test data. Measure latency, size and quality together, where the model will run.
# - **Next:** [20 Fusion and hardware](20_fusion.ipynb) asks why memory traffic decides. **Read:** Jacob et al.
#   2018, [Quantization and Training of Neural Networks](https://arxiv.org/abs/1712.05877), sections 2 and 3;
#   Dettmers et al. 2022, [LLM.int8()](https://arxiv.org/abs/2208.07339), sections 3 and 4; Nagel et al. 2021,
#   [A White Paper on Neural Network Quantization](https://arxiv.org/abs/2106.08295), sections 2 to 4.
