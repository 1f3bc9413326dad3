# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 21 · Serving
#
# *What stands between a model and its users?*
#
# After this lesson you can
#
# - run a service with a router, replicas, dynamic batching and a cache
# - read a latency-throughput curve, and choose a batching window from it
# - break the service on purpose, and measure how it recovers
# - detect drift, and roll a bad canary back
#
# **Time:** 60 minutes · **You need first:** [08 Fine-tuning BERT](08_fine_tuning_bert.ipynb) · [09 ViT: images as words](09_vit.ipynb)
#
# **On the zoo map:** part IV, Deployment · **Models:** MiniLM, ViT, BLIP
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/21_serving.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F21_serving.ipynb) · [Solutions](solutions/21_serving.ipynb)

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

lab.begin("21")

# %% [markdown]
# ## The question
#
# MiniLM turns *The cat sat on the mat* into a vector. In a notebook that is one line.

# %%
from zoo_lessons.deploy.serving.predictors import load_predictor

embed = load_predictor("embed")
(prediction,) = embed([{"text": "The cat sat on the mat"}])
print(len(prediction.output["embedding"]), "numbers, of length 1")

# %% [markdown]
# Now a hundred strangers want that vector, at times of their own choosing, over a network, and some
# of them send nonsense. The process may die. Next week a better model comes. The week after, the
# texts are different ones.
#
# **What stands between a model and its users?** This lesson starts a real service on your machine,
# loads it, and breaks it:

# %%
import matplotlib.pyplot as plt

fig, ax = plt.subplots(figsize=(9, 2.9))
boxes = {
    "users": (0, 0, "users"),
    "balancer": (2, 0, "load balancer\nRay Serve's proxy"),
    "router": (4, 0, "model router\nchecks, counts,\nchooses a version"),
    "cache": (4, -1.35, "cache\nRedis"),
    "v1": (6.3, 0.9, "replicas of v1\nbatches"),
    "v2": (6.3, -0.6, "canary v2\na few users"),
    "metrics": (2, -1.35, "metrics\nPrometheus"),
}
for x, y, text in boxes.values():
    style = {"boxstyle": "round,pad=0.45", "facecolor": "#eef3f7", "edgecolor": "#4c6b83"}
    ax.text(x, y, text, ha="center", va="center", fontsize=9, bbox=style)
arrows = "users balancer, balancer router, router v1, router v2, router cache, metrics router"
for pair in arrows.split(", "):
    (x0, y0, _), (x1, y1, _) = (boxes[name] for name in pair.split())
    gaps = {"shrinkA": 26, "shrinkB": 18} if x0 == x1 else {"shrinkA": 50, "shrinkB": 54}
    ways = {"arrowstyle": "->", "color": "#4c6b83", **gaps}
    ax.annotate("", (x1, y1), (x0, y0), arrowprops=ways)
ax.set(xlim=(-0.7, 7.4), ylim=(-1.9, 1.6))
ax.axis("off")
lab.show_figure(
    fig,
    "A request passes the load balancer and the router. The router looks into the cache; if the "
    "answer is not there, one replica of one version computes it.",
    "Boxes and arrows: users to load balancer to model router; from the router to replicas of "
    "version 1, to a canary version 2, and to the Redis cache; metrics are read from the router.",
)

# %% [markdown]
# Sections 1 to 6 are the *core*. Sections 7 and 8, on new versions and on drift, are *further*.
#
# ## 1 · Requests that share a batch
#
# A replica that computes one request at a time wastes its processor: much of the work (starting
# operations, reading weights) is the same for one input and for sixteen. Write the time of a batch
# of $b$ inputs as
#
# $$ s(b) = \alpha + \beta b $$
#
# $\alpha$ is paid once per batch, $\beta$ per input. A replica then answers $b / (\alpha + \beta
# b)$ requests per second: $1 / (\alpha + \beta)$ without batching, and at most $1 / \beta$ with it.
# How large is $\alpha$? It depends on the model. BLIP's decoder (lesson 13) writes word by word,
# with many small operations:

# %% tags=["nbval-ignore-output"]
import base64

import numpy as np

from zoo_lessons.bench import compare
from zoo_lessons.datasets.shapes import ShapesDataset

captioner = load_predictor("caption")
scenes = ShapesDataset("test", 16, image_size=48)
images = [{"image": base64.b64encode(scenes.image(i).tobytes()).decode()} for i in range(16)]
texts = [{"text": "The cat sat on the mat"}] * 16


def batch_cost(predict, inputs):
    """s(16) / s(1)"""
    ways = {"one": lambda: predict(inputs[:1]), "sixteen": lambda: predict(inputs)}
    return compare(ways, rounds=3, target_seconds=0.02).ratio("sixteen")


for name, predict, inputs in (("caption", captioner, images), ("embed", embed, texts)):
    ratio = batch_cost(predict, inputs)
    beta = (ratio - 1) / 15  # in units of s(1) = alpha + beta
    print(f"{name:8} s(16) = {ratio:.1f} s(1), so alpha is {1 - beta:.0%} of a single request")

# %% [markdown]
# The larger $\alpha$'s part, the more a batch is worth.
#
# ### The texts of a batch have unlike lengths
#
# Batching must not change an answer. Images of one size are easily stacked. Texts are not: the
# shorter ones are padded, and padding must not take part in a text's vector. **Predict.** The batch
# below holds a short text beside a long one. Does the short one's vector change?

# %%
alone = embed([{"text": "The cat sat on the mat"}])[0].output["embedding"]
crowd = [{"text": "The cat sat on the mat"}, {"text": "A much longer text, " * 20}]
together = embed(crowd)[0].output["embedding"]
assert np.allclose(alone, together, atol=2e-6)
print("the same, up to rounding:", True)


# %% [markdown]
# ### Exercise 1 · A batch of texts of unlike length (★☆☆, 5 min)
#
# MiniLM's vector of a text is the mean over its tokens' vectors
# ([lesson 08](08_fine_tuning_bert.ipynb), exercise 1; here with lengths instead of a mask).

# %% tags=["exercise"]
def text_vectors(hidden, lengths):
    """The mean over each text's own tokens.

    hidden: (batch, longest, d), with anything at all behind a text's end.
    lengths: the number of tokens of each text. Returns (batch, d).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("21.text_vectors", text_vectors)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Treat each text by itself first: which rows of `hidden[i]` are its tokens, and by how many do you
# divide?
#
# </details>
#
# ## 2 · How long to wait for others
#
# When a request arrives and the replica is idle, should it start at once, or wait for company? The
# **batching window** is the longest time that it waits; the batch goes off earlier if it is full.
# Requests come at random: with rate $\lambda$, the gaps between them are exponential with mean
# $1 / \lambda$. Arithmetic suffices to see what happens:

# %%
from zoo_lessons.deploy.serving.simulate import batches, latencies


def seconds(size):
    return 0.020 + 0.002 * size  # alpha = 20 ms, beta = 2 ms


arrivals = np.cumsum(np.random.default_rng(0).exponential(1 / 100, size=8))  # 100 per second
for size, start, end in batches(arrivals, window=0.010, max_batch=4, seconds=seconds):
    print(f"a batch of {size} from {1e3 * start:5.1f} ms to {1e3 * end:5.1f} ms")


# %% [markdown]
# ### Exercise 2 · Find the bug: the batch is full, and waits (★★☆, 8 min)
#
# This function says when the next batch starts, and how many requests are in it. Its users
# complain: under heavy load everything takes longer than the window explains.

# %%
def next_batch(arrivals, free, window, max_batch):
    """When the next batch starts, and how many requests it holds: (start, size).

    arrivals: times of the requests that are not done yet, ascending; some may lie in the future.
    free: when the replica has finished its last batch. The window opens when the replica is free
    and a request is there.
    """
    opened = max(free, arrivals[0])
    start = opened + window
    return start, sum(time <= start for time in arrivals[:max_batch])


# %%
start, size = next_batch([0.0, 0.1, 0.2, 0.3], free=0.0, window=10.0, max_batch=2)
print(f"two requests fit, two are there at 0.1 s, and the batch of {size} starts at {start} s")

# %% tags=["check"]
lab.check("21.next_batch", next_batch)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# When is the request there that fills the batch? What if the replica is busy at that moment?
#
# </details>
#
# ### What a window does to everybody's wait
#
# Two thousand requests at each rate, one replica:

# %%
rates = [10, 20, 40, 60, 80, 120, 200, 280]
ways = {"no batching": (0.0, 1), "window 0": (0.0, 16), "window 20 ms": (0.02, 16)}
ways["window 100 ms"] = (0.1, 16)
medians = {}
for name, (window, max_batch) in ways.items():
    medians[name] = []
    for rate in rates:
        gaps = np.random.default_rng(1).exponential(1 / rate, size=2000)
        waited = latencies(np.cumsum(gaps), window, max_batch, seconds)
        medians[name].append(1e3 * np.percentile(waited, 99))
fig = lab.lines(
    medians,
    rates,
    title="99 of 100 requests take at most ...",
    x_axis="requests per second",
    y_axis="milliseconds",
    log="y",
)
fig.axes[0].set_ylim(30, 3000)
lab.show_figure(
    fig,
    "p99 in the simulated queue, on a logarithmic axis. Without batching one replica is at its end "
    "before 50 requests per second: the queue grows for as long as the load lasts.",
    "Line chart of p99 latency against requests per second, for four ways. Without batching the "
    "line shoots up between 40 and 60 per second; with batches it stays low, and a window of "
    "100 milliseconds lies above a window of 0 at every rate.",
)


# %% [markdown]
# Read the line *window 0*. It waits for nobody, and yet it batches: while the replica computes, the
# next requests gather. A window adds its own length to the wait of a lonely request, and pays only
# where it makes batches so much larger that the queue gets shorter. In this model it did so at none
# of the rates: under load, the requests gather anyway while the replica computes. Real services hand
# requests on between processes, which has costs per batch that this model leaves out. So we will
# measure.
#
# ## 3 · Measure what users feel
#
# ### Latency, from when?
#
# A load test with one sender goes: send, wait for the answer, write down the time, send the next.
# Suppose the service stalls for 1.5 s once. The sender waits politely, and *one* slow request is
# written down. But users do not stop coming while the service stalls. This mistake has a name,
# **coordinated omission** (Gil Tene). The cure: decide beforehand when each request is due, and
# measure from *that* time.
#
# ### Exercise 3 · How long did the user wait? (★★☆, 8 min)
#
# One sender, which has one request under way at a time. Request $i$ is due at `intended[i]`; it is
# sent then, or as soon as the one before is answered.

# %% tags=["exercise"]
def waits(intended, seconds):
    """Seconds that each request's user waits for the answer.

    intended: when each request is due, ascending. seconds: how long the service takes for each,
    from the moment at which it is really sent. Both are lists; returns a list.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("21.waits", waits)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Keep one number: when the sender is free again. A request is sent at the later of two times.
#
# </details>
#
# The load of this lesson is an **open loop** in a process of its own: due times drawn from a seed,
# many requests under way at a time, latencies from the due time, and a bound on all of it.
#
# ### Percentiles
#
# The mean hides what a few users suffer. p99, the **99th percentile**, is the time within which 99
# of 100 requests were answered. It has a trap of its own. Each replica reports its p99; how do you
# get the service's?
#
# ### Exercise 4 · The 99th percentile of a service (★☆☆, 4 min)

# %% tags=["exercise"]
def p99(latencies):
    """The 99th percentile over all requests of a service, as np.percentile defines it.

    latencies: for each replica the list of its requests' latencies.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("21.p99", p99)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Try it with one replica that answered 500 requests and another that answered 20.
#
# </details>
#
# ### Latency against throughput
#
# Now for real: one replica of the captioner behind router and load balancer, at four rates, with
# five ways of batching. Recorded by `make record`, since it takes some minutes:

# %% tags=["nbval-ignore-output"]
from zoo_lessons.records import load_claim, load_record

load = load_record("serving_load")
curves = load["figures"]["curves"]
print(f"{load['machine']['device']}, {load['machine']['threads']} threads, {load['date']}")
print(f"{'':14}" + "".join(f"{row['offered']:>9.0f}/s" for row in curves["no batching"]))
for name, rows in curves.items():
    cells = "".join(f"{row['p50']:>5.0f}/{row['p99']:<5.0f}" for row in rows)
    last = rows[-1]
    print(f"{name:14} {cells}   mean batch {last['mean_batch']:.1f}, errors {last['errors']}")
print("p50/p99 in milliseconds, of the answers; batch and errors at the highest rate")

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(9, 4.2))
titles = {"p50": "Half of the answers within", "p99": "99 of 100 answers within"}
for ax, (field, title) in zip(axes, titles.items(), strict=True):
    for (name, rows), marker in zip(curves.items(), "osDv^", strict=True):
        reached = [row["rate"] for row in rows]
        ax.plot(reached, [row[field] for row in rows], marker=marker, label=name)
    ax.set(title=title, xlabel="answers per second", ylabel="milliseconds", yscale="log")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
lab.show_figure(
    fig,
    "Latency against throughput. Each line joins the offered rates. Good is right and below; "
    "a line that turns back to the left or goes straight up has reached its end.",
    "Two charts of latency in milliseconds on a logarithmic axis against answers per second, one "
    "for the median and one for the 99th percentile, a line for no batching and one per window.",
)

# %% [markdown]
# What to look for: where does each line leave the ground, and what does a window cost at the lowest
# rate, where nobody comes to share the batch? In section 2's model a window never paid. Whether one
# pays here, where each hand-over between processes costs something, the last columns of the table
# say.
#
# Mind the highest rate. Where more comes than the replica can answer, the service refuses the rest
# (section 6 says how). A refusal comes quickly, and would make the median look good. So the times
# are those of the answers alone, and the errors stand beside them: read both.

# %% tags=["nbval-ignore-output"]
lab.show_claim(load_claim("C12"))

# %% [markdown]
# ## 4 · The same question twice
#
# Many requests repeat. Requests are popular as words are: the one of rank $r$ is asked in
# proportion to $1 / r^{z}$ (Zipf's law). Suppose a cache keeps everything. Of $m$ requests drawn
# from a pool of $N$, the expected share that has been asked before is
#
# $$ h = 1 - \frac{1}{m} \sum_{r=1}^{N} \left( 1 - (1 - p_r)^m \right)
# \qquad p_r = \frac{r^{-z}}{\sum_{r'} r'^{-z}} $$
#
# Each request is missed once, if it is asked at all. $1 - (1 - p_r)^m$ is the chance of that.

# %% tags=["nbval-ignore-output"]
figures = load["figures"]
popularity = np.arange(1, figures["pictures"] + 1) ** -figures["zipf"]
popularity /= popularity.sum()
cached = figures["cache"]
m = cached["cold cache"]["requests"]
expected = 1 - (1 - (1 - popularity) ** m).sum() / m
print(f"expected hit rate of {m} requests, cold: {expected:.0%}")
for name, row in cached.items():
    print(
        f"{name:11} {row['cached'] / max(1, row['answered']):4.0%} hits, p50 {row['p50']:5.1f} ms, "
        f"p99 {row['p99']:6.1f} ms, {row['core_ms']:5.1f} ms of processor time per answer"
    )


# %% [markdown]
# A cold cache may find less than the formula expects. The formula takes a request for a hit as soon as
# an equal one was *asked* before. A cache can answer only when that one was *computed*, and a popular
# request comes again while the first is still under way.
#
# ### Exercise 5 · The key of a cached prediction (★☆☆, 6 min)
#
# What is a prediction stored under? Make `model:version:digest`, where the digest is the
# hexadecimal SHA-256 of the input as `json.dumps` writes it.

# %% tags=["exercise"]
def cache_key(model, version, value):
    """The same key for equal inputs, whatever the order of their fields, in every process.

    model, version: str. value: a dict that JSON can write. Returns str.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("21.cache_key", cache_key)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `hashlib.sha256(text.encode()).hexdigest()` gives the digest; `json.dumps` has an option that puts
# the fields in order.
#
# </details>
#
# The cache is Redis, a server of its own: a router that restarts finds it full, and several routers
# share it. And so it may fail by itself. Then the router must do without, quickly: each look-up has
# 100 ms, an error counts as *not found*, and after an error nobody asks for half a second.

# %%
import asyncio
from concurrent.futures import ThreadPoolExecutor

from zoo_lessons.deploy.serving.cache import PredictionCache


async def without_a_server():
    cache = PredictionCache.connect("redis://127.0.0.1:1/0")  # nobody listens there
    found = [await cache.get("zoo:digit:v1:abc") for _ in range(100)]
    return found == [None] * 100, cache.errors


try:
    with ThreadPoolExecutor() as threads:  # a notebook's own thread has an event loop already
        nothing, errors = threads.submit(asyncio.run, without_a_server()).result()
    print(f"100 look-ups without a server: nothing found: {nothing}; tried and failed: {errors}")
except ModuleNotFoundError as missing:  # the extra `serve` of section 5 is not installed
    print(f"{missing}. This cell is left out.")

# %% [markdown]
# ## 5 · The service
#
# One command starts everything: `python -m zoo_lessons.deploy.serving`. It needs the packages of
# the extra `serve` (`make serve` installs them). From a notebook we start the same command as a
# child process, with two replicas that read digits and one that embeds sentences. That takes some
# seconds. The notebook's own models have done their work; it gives their memory back first.

# %%
for name, predict in {"MiniLM": embed, "the digit reader": load_predictor("digit")}.items():
    weights = sum(parameter.numel() for parameter in predict.model.parameters())
    print(f"{name}: {weights:,} weights of 4 bytes, {4 * weights / 1e6:.1f} MB")
del embed, captioner, predict

# %% tags=["nbval-ignore-output"]
from zoo_lessons.deploy.serving.background import BackgroundService
from zoo_lessons.deploy.serving.settings import ServeExtraMissing

try:
    service = BackgroundService("--replicas", "digit=2,embed=1", "--judge-after", "20")
    print(service.http.get("/health").json())
except ServeExtraMissing as missing:
    service = None
    print(f"{missing}. The cells that need it are left out.")

# %% [markdown]
# A request is JSON, and its `type` chooses the model. The second time, the cache answers:

# %% tags=["nbval-ignore-output"]
from zoo_lessons.datasets.digits import digits

test_digits = digits("test", new_writers=False)
image = test_digits.images[0, 0].tolist()  # 8 rows of 8 numbers
if service:
    for request in ({"type": "digit", "image": image}, {"type": "digit", "image": image}):
        answer = service.http.post("/v1/predict", json=request).json()
        print({name: answer[name] for name in ("model", "version", "cached", "output")})
    vector = service.ask("embed", text="The cat sat on the mat").json()["output"]["embedding"]
    assert np.allclose(vector, alone, atol=1e-5)
    print("embedding: as computed above:", True)

# %% [markdown]
# Nonsense gets a clear answer, too: what came, and what was expected. It never reaches a model. And
# nothing that comes from outside is ever unpickled; a pickle can run code when it is opened.

# %% tags=["nbval-ignore-output"]
nonsense = {
    "not JSON": b"{type: digit}",
    "seven rows": b'{"type": "digit", "image": [[0], [0], [0], [0], [0], [0], [0]]}',
    "a song": b'{"type": "sing", "text": "la la"}',
    "too long": b" " * 100_000,
}
for name, body in nonsense.items() if service else ():
    headers = {"Content-Type": "application/json"}
    response = service.http.post("/v1/predict", content=body, headers=headers)
    print(f"{name}: {response.status_code}. {response.json()['error']['message'][:150]}")
    assert 400 <= response.status_code < 500

# %% [markdown]
# ### What a process costs
#
# One command has started many processes, and memory is what they cost. Where several share a page
# of memory, as with PyTorch's program code, each is charged its part: this is the *proportional set
# size*, and it may be added up.

# %% tags=["nbval-ignore-output"]
import psutil


def megabytes():
    """name -> MB, of this notebook and of all processes of the service"""
    memory = psutil.Process().memory_full_info()
    found = {"this notebook": getattr(memory, "pss", memory.uss) / 1e6}
    for i, one in enumerate(service.processes()):
        found[f"{i:2} {one['name']}"] = one["megabytes"]
    return found


if service:
    for name, size in sorted(megabytes().items(), key=lambda item: -item[1]):
        print(f"{size:6.0f} MB  {name}")
    print(f"{sum(megabytes().values()):6.0f} MB  all together")

# %% [markdown]
# | process | what it does | what fills it |
# |---|---|---|
# | `ServeReplica:embed-v1`, `...digit-v1` | one copy of one model | Python, Ray, PyTorch, and then the weights: MiniLM's are printed above, the digit reader's are next to nothing |
# | `ServeReplica:router` | our model router; it has no PyTorch | Python, Ray, the web framework |
# | `ProxyActor` | load balancer: takes HTTP, passes it on | the same |
# | `ServeController` | counts replicas, starts new ones for those that died | the same |
# | `service` | started all of this, obeys the notebook | the same |
# | `DashboardAgent`, `RuntimeEnvAgent` | report, prepare; Ray does not start without them | Python, Ray |
# | `gcs_server`, `raylet` | remember what runs where; start processes | C++, no Python |
# | `valkey-server` | the cache (Valkey speaks Redis' language) | C |
#
# So a replica of a *small* model costs what an empty one costs. Two things keep the sum down. A
# replica imports what its model needs and no more: `predictors.py` loads MiniLM without
# `transformers`. And `service.py` starts Ray without three helpers that it can spare.
#
# The sentence has its vector, and nobody asks for another one. A model that is not needed is
# **withdrawn**; then its process ends, and its memory is free:

# %% tags=["nbval-ignore-output"]
if service:
    before = sum(megabytes().values())
    service.command("withdraw", model="embed")
    response = service.ask("embed", text="The cat sat on the mat")
    print(f"{response.status_code}. {response.json()['error']['message']}")
    print(f"{before:.0f} MB before, {sum(megabytes().values()):.0f} MB after")
    assert sum(megabytes().values()) < before


# %% [markdown]
# ## 6 · Break it
#
# ### Exercise 6 · Ask again, but not for ever (★★☆, 8 min)
#
# A replica dies with requests in its hands. Nobody knows whether it had finished them. A prediction
# changes nothing, so asking another replica is harmless: it is **idempotent**. An order for a pair
# of shoes is not.

# %% tags=["exercise"]
def answer_or_retry(ask, retries, idempotent):
    """What `ask()` returns, asked again if its replica was lost.

    ask: takes nothing; raises ConnectionError if the replica was lost, or another error if the
    model fails. retries: further attempts after the first. idempotent: whether asking twice is
    harmless. If all attempts fail, the last error is raised.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("21.answer_or_retry", answer_or_retry)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Which error says that another replica might do better? How often do you call `ask` at most, and
# how often if asking twice does harm?
#
# </details>
#
# ### Kill a replica under load
#
# Now watch. A second process sends 25 digits per second for eight seconds, nearly all of them
# different ones, so that the cache is no help; what the model says of each is known. After three
# seconds we kill one of the two replicas, without a warning, as an operating system does when
# memory runs out. **Predict.** How many of the 200 requests fail? How many get a wrong answer?

# %% tags=["nbval-ignore-output"]
from zoo_lessons.lab.widgets import ServiceDashboard

dashboard = ServiceDashboard()
dashboard

# %% tags=["nbval-ignore-output"]
import time

from zoo_lessons.deploy.serving.background import watch
from zoo_lessons.deploy.serving.load import LoadProcess, Plan, summarise, timeline

every_digit = digits()
bodies = [{"type": "digit", "image": one[0].tolist()} for one in every_digit.images]
reader, inputs = load_predictor("digit"), [{"image": body["image"]} for body in bodies]
right = [answer for i in range(0, len(inputs), 64) for answer in reader(inputs[i : i + 64])]
pool = [
    {"body": body, "expect": answer.output, "label": label}
    for body, answer, label in zip(bodies, right, every_digit.labels.tolist(), strict=True)
]

if service:
    plan = Plan(rate=25, seconds=8)
    with watch(service, dashboard.add):
        load_process = LoadProcess(service.url, pool, plan)
        begun = load_process.wait_for_start()
        time.sleep(3)
        marks = [{"time": time.monotonic() - begun, "text": "replica killed"}]
        service.command("kill_replica", model="digit")
        dashboard.mark("replica killed")
        rows = load_process.rows()
    result = summarise(rows, plan.seconds)
    print(result)
    assert result.wrong == 0 and result.errors <= 0.1 * result.requests

# %% [markdown]
# What the dead replica had in its hands, the router asked of the other one (exercise 6). So few
# requests fail, if any, and no answer is wrong. Users notice by the wait: look at p99.
#
# The dashboard above followed `/metrics` while this ran. Here is the same as the users saw it, as a
# picture that stays:

# %% tags=["nbval-ignore-output"]
lasting = ServiceDashboard(timeline(rows), marks) if service else ServiceDashboard()
lasting

# %% [markdown]
# ### A service that takes a beating
#
# Three faults and a quiet run, recorded on a quiet machine: a replica is killed; Redis is stopped
# and started again; and 150 captions per second come to a replica that cannot write as many. The
# last one is met by **back-pressure**: the router takes a bounded number of requests at a time, and
# tells the others at once to come back later (HTTP 503 with `Retry-After`). A queue without a bound
# would make everybody wait, until all give up.
#
# The printed times are those of the answers. *Back* is the time from the kill until two replicas run
# again, and from Redis' new start until the cache answers for the first time.

# %% tags=["nbval-ignore-output"]
faults = load_record("serving_faults")
print(f"{faults['machine']['device']}, {faults['date']}")
for name, one in faults["figures"]["scenarios"].items():
    codes = ", ".join(f"{count} × {code}" for code, count in sorted(one["statuses"].items()))
    back = f"; back after {one['back']:.1f} s" if one["back"] is not None else ""
    waited = f"p50 {one['p50']:.0f}, p99 {one['p99']:.0f} ms"
    print(f"{name}: {codes}; {one['wrong']} wrong; {waited}{back}")

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(2, 2, figsize=(9, 5.2))
for ax, (name, one) in zip(axes.flat, faults["figures"]["scenarios"].items(), strict=True):
    times = [row["time"] for row in one["timeline"]]
    ax.plot(times, [row["rate"] for row in one["timeline"]], label="answers")
    ax.plot(times, [row["errors"] for row in one["timeline"]], "--", label="errors")
    for mark in one["marks"]:
        ax.axvline(mark["time"], color="grey", linestyle=":")
    ax.set(title=name, xlabel="seconds", ylabel="per second")
axes[0, 0].legend()
lab.show_figure(
    fig,
    "Answers and errors per second through each fault; dotted lines mark what was done.",
    "Four charts over time, one for each scenario, each with a line for answers and a dashed one "
    "for errors per second.",
)
lab.show_claim(load_claim("C28"))


# %% [markdown]
# ## 7 · A new version (further)
#
# A new version looked good in the laboratory. Give it to a few users first: a **canary**, named
# after the birds that miners took along. The same user must always meet the same version, or
# answers flicker. So a user's name is hashed to a place between 0 and 1, and the versions share
# that interval.
#
# ### Exercise 7 · A canary's share (★★☆, 8 min)

# %% tags=["exercise"]
def choose_version(weights, place):
    """The version whose piece of the interval from 0 to 1 holds `place`.

    weights: version -> weight, at least 0; they need not sum to 1. The pieces follow each other in
    the order of the versions' names; each begins where the one before ends, and does not hold its
    end. place: from 0 (included) to 1 (excluded), the user's own. Returns the version's name.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("21.choose_version", choose_version)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Go through the versions by name and add up their shares. The first sum that is larger than `place`
# decides.
#
# </details>
#
# ### A bad canary, live
#
# Someone retrained the digit reader on tilted digits only (section 8 says why). It reads those
# well, and has forgotten much of the rest. We give it 40 % of the users, and one replica. They
# report what the right answer would have been, and the router compares the versions' wrong answers
# with Fisher's exact test: how likely is a difference as large as this if both versions are equally
# good? Below 1 in 1,000, the canary goes, without anybody being asked. The judge waits for 20
# outcomes of the canary first (`--judge-after` in section 5). Failures of a version are compared in
# the same way. A 503 of an overloaded service is none: a crowd is not the canary's fault.

# %% tags=["nbval-ignore-output"]
import tempfile
from pathlib import Path

import torch

from zoo_lessons.checkpoints import load_trained
from zoo_lessons.datasets.digit_shifts import shifted
from zoo_lessons.deploy.serving.predictors import save_version
from zoo_lessons.deploy.serving.retrain import retrain

stable = load_trained("digits_vit")
train_images, train_labels = digits("train", new_writers=False)
tilted = (shifted(train_images[:200], "tilted"), train_labels[:200])
forgetful = retrain(stable, tilted, None, steps=100)
with torch.inference_mode():
    for name, model in {"v1": stable, "v2": forgetful}.items():
        read = model(2 * test_digits.images - 1).logits.argmax(dim=-1)
        print(
            f"{name}: {(read == test_digits.labels).double().mean():.0%} of the usual digits right"
        )

# %% tags=["nbval-ignore-output"]
if service:
    with tempfile.TemporaryDirectory() as folder:
        save_version(forgetful, Path(folder))
        service.command("deploy", model="digit", version="v2", folder=folder, share=0.4)
        print(f"{sum(megabytes().values()):.0f} MB, with three replicas and this notebook")
        plan = Plan(rate=30, seconds=8, users=200, feedback=True, seed=5)
        users = LoadProcess(service.url, pool, plan).rows()
    status = service.command("status")
    for event in status["events"]:
        print(f"{event['kind']}: {event['what']}")
    met = [row["version"] for row in users]
    print(f"v2 answered {met.count('v2')} of {len(met)} requests")
    print("weights now:", status["weights"]["digit"])
    assert status["weights"]["digit"] == {"v1": 1.0}
    service.stop()

# %% [markdown]
# (The service has done its work, and is stopped: none of its processes stays behind.)
#
# A single story proves little. How often is a canary sent home that is *as good* as the stable
# version? How soon is a bad one found? A hundred roll-outs each, by arithmetic:

# %%
canary = load_record("canary")["figures"]
good = canary["as_good"]
print(f"stable version: {canary['stable_error']:.1%} wrong; {canary['rollouts']} roll-outs each")
for which in ("alpha", "naive_alpha"):
    print(f"as good, judged at p < {canary[which]}: {good[which]['sent_home']:.0%} sent home")
for row in canary["bad"] + canary["shares"]:
    low, middle, high = row["requests"]
    print(
        f"{row['canary_error']:4.0%} wrong, {row['share']:3.0%} of the users: "
        f"{row['sent_home']:4.0%} sent home, after {middle:,} requests ({low:,} to {high:,}), "
        f"{row['wrong']:.0f} wrong answers"
    )


# %% [markdown]
# Three things to read here:
#
# - The judge looks after *every* outcome. At a threshold of 0.05, which is fine for one look, many
#   looks send a good canary home far too often. At 0.001 it did not happen in these roll-outs.
# - Here a canary is not judged before it has 30 outcomes. That is what one that is always wrong costs.
#   One that is a little worse (5 % instead of 2 %) is mostly not found in 3,000 requests: a canary
#   guards against accidents, not against small losses.
# - A smaller share of the users takes longer to find out. It spares hardly any wrong answers: the
#   judge needs about as many outcomes, whoever brings them.
#
# ## 8 · When the world changes (further)
#
# The users buy another scanner, and paper goes in at an angle. No label says so, no error is
# raised; the service answers as quickly as ever, and wrongly. But *inputs* can be compared with
# inputs. The detector keeps the model's vectors of digits from the time when all was well, and
# compares each window of 150 new ones with them, dimension by dimension, by the
# **Kolmogorov-Smirnov test**: the largest gap between two cumulative distributions, and how likely
# such a gap is by chance.
#
# ### Exercise 8 · 48 tests at once (★☆☆, 4 min)
#
# The vectors have 48 dimensions, which makes 48 p-values.

# %% tags=["exercise"]
def drift_decision(p_values, alpha):
    """Whether the window has drifted, and the threshold used: (bool, float).

    p_values: one for each dimension. alpha: how often a false alarm is acceptable, for all
    dimensions together (Bonferroni's correction).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("21.drift_decision", drift_decision)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# If each of $d$ tests cries wolf with probability $t$, at least one does with at most $d \cdot t$.
# What must $t$ be?
#
# </details>
#
# An alarm that rings every day is switched off. So first: how often does it ring when nothing has
# happened? Usual digits are split at random into a reference and a window, 300 times:

# %%
drift = load_record("drift")["figures"]
print(f"alpha = {drift['alpha']}, {drift['splits']} splits, windows of {drift['window']}")
for name, share in drift["false_alarms"].items():
    print(f"{name:16} {share:.1%} false alarms")

# %% [markdown]
# Without the correction, every fourth window is a false alarm. The other two stay near what alpha
# promises. **MMD**, the maximum mean discrepancy, looks at all dimensions together, and takes its
# p-value from shuffling the two samples.
#
# And when something *has* happened? Four kinds of change, at four strengths:

# %%
print(f"usual digits: {drift['clean_accuracy']:.1%} right")
print(f"{'':18}" + "".join(f"{s:>16}" for s in ("right", "KS catches", "MMD catches")))
for row in drift["catches"]:
    caught = row["caught"]
    print(
        f"{row['kind']:9} {row['strength']:4.0%}   {row['accuracy']:>16.1%}"
        f"{caught['KS, corrected']:>16.0%}{caught['MMD']:>16.0%}"
    )

# %% [markdown]
# Compare the rows *faint 50%* and *dirty 50%*. Both cost the model about as much. The first is
# caught in every window by KS, the second in few by KS and in none by MMD. A drift alarm does
# not measure damage. It is a reason to look.
#
# ### From the alarm to a new version
#
# The monitor wants two windows in a row before it rings. Then somebody labels 200 of the new
# digits, and the model goes on learning: from the new ones only, or from new and old ones in equal
# parts.

# %%
days = drift["days"]
delays = [one["delay"] for one in days]
early = sum(one["early"] for one in days)
print(f"{len(days)} days, with {early} early alarms; alarms on {len(delays)} of them,")
print(f"after {min(delays)} to {max(delays)} tilted digits")
print(f"{'':14}{'tilted':>10}{'usual':>10}")
print(f"{'before':14}{drift['before']['tilted']:>10.0%}{drift['before']['usual']:>10.0%}")
for name in ("new only", "new and old"):
    runs = [run[name] for run in drift["retrained"]]
    means = [sum(run[kind] for run in runs) / len(runs) for kind in ("tilted", "usual")]
    print(f"{name:14}{means[0]:>10.0%}{means[1]:>10.0%}   mean of {len(runs)} seeds")

# %% [markdown]
# Learning from the new digits alone is the forgetful canary of section 7. With old ones in each
# batch, most of what was lost on tilted digits comes back, and most of what was known stays. Most,
# not all: this version, too, would go out as a canary first.
#
# ## 9 · Read the real thing
#
# The heart of the router: one replica, or another one if it dies, and an end to it.

# %%
from zoo_lessons.deploy.serving.router import Router

lab.show_source(Router._ask)

# %% [markdown]
# And the loop that keeps users apart from the service's moods:

# %%
from zoo_lessons.deploy.serving.load import schedule

lab.show_source(schedule)

# %% [markdown]
# ## 10 · The bill
#
# ### What it costs
#
# A service is bought by the hour and sold by the answer. From the record of section 3: how many
# requests per second can each way of running it *sustain*, with p99 below half a second and at most
# 1 % errors, and how much processor time does an answer take, all processes together? The price of
# an hour of one core is an assumption; put in yours.

# %% tags=["nbval-ignore-output"]
price = 0.05  # per core and hour, in your currency: an assumption, not a quotation
limits = f"p99 < {figures['p99_limit_ms']:.0f} ms, errors ≤ {figures['error_limit']:.0%}"
print(f"{limits}; rates tried: {[row['offered'] for row in curves['no batching']]} per second")
print(f"{'':14}{'sustained':>11}{'core ms':>10}{'MB':>7}{'price of a million':>20}")
for name, rows in curves.items():
    best = figures["sustained"][name]
    row = next((r for r in rows if r["offered"] == best), rows[0])
    cost = price * row["core_ms"] / 3.6e6 * 1e6
    print(f"{name:14}{best:>9.0f}/s{row['core_ms']:>10.1f}{row['megabytes']:>7.0f}{cost:>20.2f}")
print("with and without a cache, at the rate that was offered, sustained or not")
for name, row in cached.items():
    cost = price * row["core_ms"] / 3.6e6 * 1e6
    used = f"{row['core_ms']:>10.1f}{row['megabytes']:>7.0f}"
    print(f"{name:14}{row['offered']:>9.0f}/s{used}{cost:>20.2f}")

# %% [markdown]
# A decision, by rule: among the ways that sustain the most, the one with the least processor time
# per answer. The cell below applies it to the record. Then it shows claim C29, which belongs to
# sections 7 and 8; its table of costs is the one above.

# %% tags=["nbval-ignore-output"]
most = max(figures["sustained"].values())
able = [name for name, rate in figures["sustained"].items() if rate == most]


def core_ms(name):
    return next(row["core_ms"] for row in curves[name] if row["offered"] == most)


chosen = min(able, key=core_ms) if most else None
print(f"able to sustain {most} per second: {', '.join(able) if most else 'none'}")
print(f"chosen: {chosen}")
lab.show_claim(load_claim("C29"))

# %% [markdown]
# The fixed price is memory: section 5 has shown what each process takes, whatever the model. For
# three small models on one machine, one process would do. What the rest buys is what this lesson
# broke: a replica may die, a version may be bad, a cache may be gone.
#
# ## Quiz

# %%
lab.quiz("21")

# %% [markdown]
# ## Summary
#
# - Batching divides what a batch costs once among its requests. Even a window of 0 batches, as soon
#   as there is a queue.
# - Measure with an open loop, from the time at which a request was due. Pool latencies, then take
#   percentiles.
# - A cache's key holds model, version and input. A cache, a replica, a router may die: give each a
#   time limit, a bounded retry, and a quick "come back later".
# - A canary protects against accidents; a drift alarm says that inputs have changed, not that
#   answers are wrong. Both need a measured rate of false alarms.
# - **Next:** [22 Parallelism](22_parallelism.ipynb) runs one model on several devices. **Read:**
#   Beyer et al. 2016, [Site Reliability
#   Engineering](https://sre.google/sre-book/table-of-contents/), chapters 4, 21 and 22; Crankshaw
#   et al. 2017, [Clipper](https://arxiv.org/abs/1612.03079), section 4; Dean & Barroso 2013, "The
#   Tail at Scale"; Rabanser et al. 2019, [Failing Loudly](https://arxiv.org/abs/1810.11953),
#   section 3.
