"""The loop: what it computes, how it stops, what it refuses."""

from __future__ import annotations

import os
import signal
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from zoo_lessons.layers import MultiHeadAttention
from zoo_lessons.layers.checks import NaNError
from zoo_lessons.training import History, fit, warmup_cosine

INPUTS = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS @ torch.arange(1.0, 6.0)[:, None]
DATA = [(INPUTS[i : i + 16], TARGETS[i : i + 16]) for i in range(0, 64, 16)]


def batch_at(step):
    """A fresh batch whose inputs come from the global generator, as augmentation would."""
    x = torch.randn(16, 5)
    return x, x @ torch.arange(1.0, 6.0)[:, None]


def squared_error(model, batch):
    x, y = batch
    return F.mse_loss(model(x), y)


def linear_model():
    torch.manual_seed(1)
    return nn.Linear(5, 1)


def network():
    """Dropout draws random numbers; batch norm keeps buffers."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)
    )


fit_quietly = partial(fit, progress=False, device="cpu")


def test_it_is_the_loop_one_would_write():
    ours, plain = linear_model(), linear_model()
    history = fit_quietly(ours, DATA, squared_error, steps=10, lr=0.05, clip_norm=0.7)

    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.05, weight_decay=0.01)
    losses = []
    for step in range(10):
        loss = squared_error(plain, DATA[step % 4])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.7)
        optimizer.step()
        losses.append(loss.item())
    assert history.loss.tolist() == losses
    assert torch.equal(ours.weight, plain.weight)
    assert history.step.tolist() == list(range(10))


def test_it_learns():
    model = linear_model()
    history = fit_quietly(model, DATA, squared_error, steps=400, lr=0.1, schedule="warmup_cosine")
    assert history.loss[0] > 10
    assert history.loss[-1] < 1e-3


def test_schedule_sets_the_rate_and_the_optimizer_gets_its_peak_back():
    model = linear_model()
    optimizer = torch.optim.SGD(
        [{"params": [model.weight], "lr": 0.2}, {"params": [model.bias], "lr": 0.4}]
    )
    schedule = partial(warmup_cosine, warmup_steps=3, total_steps=10)
    seen = []
    history = fit_quietly(
        model,
        DATA,
        squared_error,
        steps=10,
        optimizer=optimizer,
        schedule=schedule,
        on_step=lambda record: seen.append([g["lr"] for g in optimizer.param_groups]),
    )
    assert history.lr == pytest.approx([0.2 * schedule(s) for s in range(10)])
    assert [second for _, second in seen] == pytest.approx([0.4 * schedule(s) for s in range(10)])
    assert [g["lr"] for g in optimizer.param_groups] == [0.2, 0.4]


def test_rate_zero_changes_nothing():
    model = linear_model()
    before = model.weight.clone()
    history = fit_quietly(
        model, DATA, squared_error, steps=3, schedule=lambda step: 0.0, track_updates=True
    )
    assert torch.equal(model.weight, before)
    assert history.update_ratio.tolist() == [0, 0, 0]


def test_clipping_bounds_the_update_and_reports_the_norm_before():
    model = linear_model()
    before = torch.cat([model.weight.detach().flatten(), model.bias.detach()])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    history = fit_quietly(
        model,
        DATA,
        squared_error,
        steps=1,
        optimizer=optimizer,
        clip_norm=0.01,
        track_updates=True,
    )
    after = torch.cat([model.weight.detach().flatten(), model.bias.detach()])
    moved = (after - before).norm().item()
    assert moved == pytest.approx(0.01, rel=1e-3)
    assert history.update_ratio[0] == pytest.approx(moved / before.norm().item(), rel=1e-4)

    reference = linear_model()
    squared_error(reference, DATA[0]).backward()
    norm = torch.cat([reference.weight.grad.flatten(), reference.bias.grad]).norm().item()
    assert norm > 0.01
    assert history.grad_norm[0] == pytest.approx(norm)


def test_clip_norm_none_leaves_gradients_alone():
    clipped, free = linear_model(), linear_model()
    options = {"steps": 1, "track_updates": True}
    for model, norm in ((clipped, 0.1), (free, None)):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        fit_quietly(model, DATA, squared_error, optimizer=optimizer, clip_norm=norm, **options)
    reference = linear_model()
    squared_error(reference, DATA[0]).backward()
    expected = reference.weight - 0.01 * reference.weight.grad
    torch.testing.assert_close(free.weight, expected)
    assert not torch.allclose(clipped.weight, expected)


def test_iterables_are_restarted_and_callables_get_the_step():
    seen = []

    def loss_fn(model, batch):
        seen.append(batch[2])
        return squared_error(model, batch[:2])

    tagged = [(*batch, number) for number, batch in enumerate(DATA[:3])]
    fit_quietly(linear_model(), tagged, loss_fn, steps=7)
    fit_quietly(linear_model(), lambda step: (*DATA[0], step), loss_fn, steps=4)
    assert seen == [0, 1, 2, 0, 1, 2, 0] + [0, 1, 2, 3]


def test_dict_batches_and_the_mode_that_comes_back():
    model = network().eval()
    modes = []

    def loss_fn(model, batch):
        modes.append(model.training)
        return F.mse_loss(model(batch["x"]), batch["y"])

    fit_quietly(model, [{"x": INPUTS, "y": TARGETS, "name": "all"}], loss_fn, steps=2)
    assert modes == [True, True]
    assert not model.training


def test_seed_repeats_a_run():
    runs = [fit_quietly(network(), batch_at, squared_error, steps=5, seed=3) for _ in range(2)]
    other = fit_quietly(network(), batch_at, squared_error, steps=5, seed=4)
    assert runs[0].loss.tolist() == runs[1].loss.tolist() != other.loss.tolist()


# --- precision ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.half)])
def test_mixed_precision_computes_low_and_keeps_weights_high(precision, dtype):
    model = linear_model()
    dtypes = set()
    model.register_forward_hook(lambda module, args, output: dtypes.add(output.dtype))
    history = fit_quietly(model, DATA, squared_error, steps=300, lr=0.1, precision=precision)
    assert dtypes == {dtype}
    assert model.weight.dtype == torch.float32
    assert history.loss[-1] < 0.1 < history.loss[0]
    assert not history.diverged


def test_fp16_overflow_skips_the_update_and_training_goes_on():
    model = linear_model()
    weights = []

    def loss_fn(model, batch):
        weights.append(model.weight.detach().clone())
        return 100 * squared_error(model, batch)  # times the scale 65536: beyond fp16's 65504

    history = fit_quietly(model, DATA, loss_fn, steps=40, precision="fp16", track_updates=True)
    assert len(history.skipped) > 0
    for step in history.skipped:
        assert torch.equal(weights[step], weights[step + 1])
        assert history.update_ratio[step] == 0
    assert history.skipped.max() < 39, "the scale must have come down to where updates work"
    assert "skipped (fp16 overflow)" in repr(history)


# --- how a run ends ----------------------------------------------------------------------------


def explode_at(bad_step):
    def loss_fn(model, batch):
        x, y, step = batch
        return squared_error(model, (x, y)) * (float("nan") if step == bad_step else 1.0)

    return loss_fn


def numbered(step):
    return (*DATA[step % 4], step)


def test_divergence_stops_before_the_update_and_says_so(capsys):
    model, healthy = linear_model(), linear_model()
    history = fit_quietly(model, numbered, explode_at(5), steps=20)
    fit_quietly(healthy, numbered, explode_at(-1), steps=5)
    assert history.diverged and history.diverged_at == 5 and len(history) == 6
    assert torch.equal(model.weight, healthy.weight)
    assert "loss is nan at step 5" in capsys.readouterr().out
    assert "diverged at step 5" in repr(history)


def test_divergence_may_go_on():
    model = linear_model()
    history = fit_quietly(model, numbered, explode_at(5), steps=9, on_divergence="continue")
    assert len(history) == 9 and history.diverged_at == 5
    assert model.weight.isnan().all()


def test_a_first_loss_that_is_not_finite_is_an_error():
    with pytest.raises(FloatingPointError, match="loss is nan at step 0"):
        fit_quietly(linear_model(), numbered, explode_at(0), steps=9)


def test_a_rate_that_is_far_too_high_really_diverges():
    optimizer_of = partial(torch.optim.SGD, lr=10.0)
    model = linear_model()
    history = fit_quietly(
        model,
        DATA,
        squared_error,
        steps=200,
        optimizer=optimizer_of(model.parameters()),
        clip_norm=None,
    )
    assert history.diverged and 0 < history.diverged_at < 199


@pytest.mark.parametrize("on_divergence", ["stop", "continue"])
def test_a_layer_that_refuses_nan_ends_the_run_with_its_history(on_divergence):
    torch.manual_seed(0)
    model = MultiHeadAttention(8, 2)
    x = torch.randn(2, 5, 8)

    def loss_fn(model, batch):
        return model(model(batch)).square().mean()

    optimizer = torch.optim.SGD(model.parameters(), lr=1e9)
    history = fit_quietly(
        model,
        [x],
        loss_fn,
        steps=50,
        optimizer=optimizer,
        clip_norm=None,
        on_divergence=on_divergence,
    )
    assert history.diverged and 0 < history.diverged_at < 49
    assert np.isfinite(history.loss[: history.diverged_at]).all()


def test_nan_in_the_first_batch_says_where_it_was_met():
    def loss_fn(model, batch):
        return model(batch).square().mean()

    with pytest.raises(NaNError, match="x holds 80 NaN values"):
        fit_quietly(MultiHeadAttention(8, 2), [torch.full((2, 5, 8), torch.nan)], loss_fn, steps=3)


@pytest.mark.parametrize("place", ["on_step", "batches"])
def test_keyboard_interrupt_ends_the_run_cleanly(place):
    def interrupt(at):
        if at == 4:
            raise KeyboardInterrupt

    def batches(step):
        if place == "batches":
            interrupt(step)
        return DATA[step % 4]

    def on_step(record):
        if place == "on_step":
            interrupt(record.step)

    model, same = linear_model().eval(), linear_model()
    history = fit_quietly(model, batches, squared_error, steps=20, on_step=on_step)
    steps = 5 if place == "on_step" else 4
    fit_quietly(same, DATA, squared_error, steps=steps)
    assert history.interrupted and len(history) == steps
    assert torch.equal(model.weight, same.weight)
    assert not model.training
    assert repr(history).endswith("interrupted")


def test_a_signal_in_mid_step_waits_for_the_end_of_the_step():
    def loss_fn(model, batch):
        if batch[2] == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return squared_error(model, batch[:2])

    handler = signal.getsignal(signal.SIGINT)
    history = fit_quietly(linear_model(), numbered, loss_fn, steps=20)
    assert history.interrupted and len(history) == 4
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_signal_stops_at_once():
    def loss_fn(model, batch):
        if batch[2] == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return squared_error(model, batch[:2])

    with pytest.raises(KeyboardInterrupt):
        fit_quietly(linear_model(), numbered, loss_fn, steps=20)


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps=0 must be at least 1"),
        ({"precision": "fp8"}, ValueError, "unknown precision 'fp8'.*fp32, bf16, fp16"),
        ({"schedule": "cosine"}, ValueError, "unknown schedule 'cosine'"),
        ({"clip_norm": 0}, ValueError, "clip_norm=0 must be positive"),
        ({"on_divergence": "ignore"}, ValueError, "on_divergence='ignore'"),
        ({"resume": True}, ValueError, "need a checkpoint folder"),
        ({"batches": []}, ValueError, "batches is empty"),
        ({"batches": (batch for batch in DATA)}, ValueError, "batches ended after 4"),
        ({"batches": DATA[0][0]}, TypeError, "looks like a single batch"),
        ({"batches": {"x": 1}}, TypeError, "looks like a single batch"),
        ({"batches": 3}, TypeError, "iterable or a function of the step, got int"),
        ({"loss_fn": lambda m, b: 1.0}, TypeError, "scalar tensor, got float"),
        (
            {"loss_fn": lambda m, b: (m(b[0]) - b[1]) ** 2},
            ValueError,
            r"scalar tensor, got shape \(16, 1\)",
        ),
        (
            {"loss_fn": lambda m, b: squared_error(m, b).detach()},
            ValueError,
            "does not depend on the model's parameters",
        ),
        (
            {"loss_fn": lambda m, b: torch.ones((), requires_grad=True) * 2},
            ValueError,
            "no gradient has reached",
        ),
        ({"model": nn.Identity()}, ValueError, "Identity has no parameter"),
    ],
)
def test_errors_say_what_came(changes, error, message):
    arguments = {
        "model": linear_model(),
        "batches": DATA,
        "loss_fn": squared_error,
        "steps": 9,
    } | changes
    with pytest.raises(error, match=message):
        fit_quietly(**arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU here")
def test_a_missing_gpu_is_named():
    with pytest.raises(ValueError, match="no CUDA GPU"):
        fit(linear_model(), DATA, squared_error, steps=1, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_is_found_and_learns(precision):
    model = linear_model()
    history = fit(
        model, DATA, squared_error, steps=200, lr=0.1, precision=precision, progress=False
    )
    assert model.weight.is_cuda
    assert history.loss[-1] < 0.1


def test_history_of_no_steps():
    assert repr(History()) == "History: no steps"


# --- checkpoint and resume ---------------------------------------------------------------------


def shuffled_loader():
    return DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=16, shuffle=True)


SOURCES = {"callable": lambda: batch_at, "list": lambda: DATA, "loader": shuffled_loader}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("stop", ["interrupt", "signal", "batches", "steps"])
def test_resumed_equals_uninterrupted(tmp_path, source, precision, stop):
    options = {
        "lr": 0.02,
        "schedule": partial(warmup_cosine, warmup_steps=4, total_steps=20),
        "precision": precision,
        "seed": 7,
        "track_updates": True,
    }
    whole_model = network()
    whole = fit_quietly(whole_model, SOURCES[source](), squared_error, steps=20, **options)

    def on_step(record):
        if record.step == 10 and stop == "interrupt":
            raise KeyboardInterrupt
        if record.step == 10 and stop == "signal":
            os.kill(os.getpid(), signal.SIGINT)

    def interrupted_loss(model, batch):
        interrupted_loss.calls += 1
        if interrupted_loss.calls == 12 and stop == "batches":
            torch.rand(3)  # random numbers drawn for a step that is never finished
            raise KeyboardInterrupt
        return squared_error(model, batch)

    interrupted_loss.calls = 0
    first = fit_quietly(
        network(),
        SOURCES[source](),
        interrupted_loss,
        steps=11 if stop == "steps" else 20,
        on_step=on_step,
        checkpoint=tmp_path / "run",
        **options,
    )
    assert len(first) == 11
    torch.manual_seed(99)  # a new process would have other random states
    np.random.seed(99)
    model = network()
    torch.nn.init.zeros_(model[0].weight)
    resumed = fit_quietly(
        model,
        SOURCES[source](),
        squared_error,
        steps=20,
        checkpoint=tmp_path / "run",
        resume=True,
        **options,
    )
    for name, value in whole_model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    for name in ("step", "loss", "lr", "grad_norm", "update_ratio", "skipped"):
        assert np.array_equal(getattr(resumed, name), getattr(whole, name), equal_nan=True), name
    assert not resumed.interrupted
    assert (np.diff(resumed.seconds) > 0).all()


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Adagrad"])
def test_other_optimizers_resume_too(tmp_path, name):
    def optimizer_of(model):
        options = {"momentum": 0.9} if name == "SGD" else {}
        return getattr(torch.optim, name)(model.parameters(), lr=0.01, **options)

    def run(model, steps, **options):
        return fit_quietly(
            model, DATA, squared_error, steps=steps, optimizer=optimizer_of(model), **options
        )

    whole, first, second = linear_model(), linear_model(), linear_model()
    run(whole, 9)
    run(first, 5, checkpoint=tmp_path)
    run(second, 9, checkpoint=tmp_path, resume=True)
    assert torch.equal(whole.weight, second.weight)


def test_checkpoint_every_survives_a_crash(tmp_path):
    def crash(record):
        if record.step == 7:
            raise RuntimeError("power cut")

    whole, second = linear_model(), linear_model()
    fit_quietly(whole, DATA, squared_error, steps=12)
    with pytest.raises(RuntimeError, match="power cut"):
        fit_quietly(
            linear_model(),
            DATA,
            squared_error,
            steps=12,
            on_step=crash,
            checkpoint=tmp_path,
            checkpoint_every=3,
        )
    steps = []
    fit_quietly(
        second,
        DATA,
        squared_error,
        steps=12,
        checkpoint=tmp_path,
        resume=True,
        on_step=lambda record: steps.append(record.step),
    )
    assert steps == [6, 7, 8, 9, 10, 11]
    assert torch.equal(whole.weight, second.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["training.safetensors"]


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    fit_quietly(linear_model(), DATA, squared_error, steps=2, checkpoint=tmp_path)
    before = (tmp_path / "training.safetensors").read_bytes()

    def full_disk(tensors, path, metadata):
        path.write_bytes(b"half a file")
        raise OSError("no space left on device")

    monkeypatch.setattr("zoo_lessons.training.checkpoints.save_file", full_disk)
    with pytest.raises(OSError, match="no space left"):
        fit_quietly(linear_model(), DATA, squared_error, steps=4, checkpoint=tmp_path)
    assert (tmp_path / "training.safetensors").read_bytes() == before


def test_resume_without_a_checkpoint_starts_and_a_finished_run_stays(tmp_path):
    options = {"steps": 3, "checkpoint": tmp_path / "new", "resume": True}
    model, again = linear_model(), linear_model()
    assert len(fit_quietly(model, DATA, squared_error, **options)) == 3
    assert len(fit_quietly(again, DATA, squared_error, **options)) == 3
    assert torch.equal(model.weight, again.weight)
    with pytest.raises(ValueError, match="has made 3 steps already, got steps=2"):
        fit_quietly(model, DATA, squared_error, **(options | {"steps": 2}))


def test_divergence_keeps_the_last_good_checkpoint(tmp_path):
    fit_quietly(
        linear_model(),
        numbered,
        explode_at(5),
        steps=20,
        checkpoint=tmp_path,
        checkpoint_every=2,
    )
    model, healthy = linear_model(), linear_model()
    fit_quietly(model, numbered, explode_at(-1), steps=4, checkpoint=tmp_path, resume=True)
    fit_quietly(healthy, numbered, explode_at(-1), steps=4)
    assert torch.equal(model.weight, healthy.weight)


def test_tied_weights_can_be_saved(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(5, 5, bias=False)
            self.two = nn.Linear(5, 5, bias=False)
            self.two.weight = self.one.weight

        def forward(self, x):
            return self.two(self.one(x)).sum(-1, keepdim=True)

    model = Tied()
    fit_quietly(model, DATA, squared_error, steps=3, checkpoint=tmp_path)
    again = Tied()
    fit_quietly(again, DATA, squared_error, steps=3, checkpoint=tmp_path, resume=True)
    assert torch.equal(model.one.weight, again.two.weight)
