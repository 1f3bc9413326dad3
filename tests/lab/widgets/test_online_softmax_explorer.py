"""Online-softmax explorer: its states against the library, and its picture."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image

from zoo_lessons.lab.widgets import OnlineSoftmaxExplorer
from zoo_lessons.lab.widgets.online_softmax_explorer import KINDS
from zoo_lessons.layers.online_softmax import OnlineSoftmax


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [1, 5, 16])
def test_states_are_the_librarys(kind, block):
    widget = OnlineSoftmaxExplorer(kind=kind, block=block, seed=3)
    scores, values = (torch.from_numpy(x) for x in widget.scores_and_values())
    state = OnlineSoftmax.start(torch.zeros(1, 1, dtype=torch.float64), 1)
    found = widget.states()
    for start, ours in zip(range(0, 16, block), found[1:], strict=True):
        part = slice(start, start + block)
        state = state.update(scores[None, part], values[part, None])
        expected = [state.maximum.item(), state.total.item(), state.weighted.item()]
        assert list(ours) == pytest.approx(expected)
        assert ours.output == pytest.approx(state.output().item())
    assert found[-1].output == pytest.approx(widget.exact())


def test_without_rescaling_only_a_maximum_that_stays_is_right():
    rising, falling = (OnlineSoftmaxExplorer(kind=kind) for kind in ("rising", "falling"))
    assert abs(rising.states(rescale=False)[-1].output - rising.exact()) > 0.01
    assert falling.states(rescale=False)[-1].output == pytest.approx(falling.exact())


def test_kinds_run_as_they_say():
    scores = {kind: OnlineSoftmaxExplorer(kind=kind).scores_and_values()[0] for kind in KINDS}
    assert scores["rising"][:4].max() < scores["rising"][-4:].min()
    assert scores["falling"][:4].min() > scores["falling"][-4:].max()
    assert scores["one large"].argmax() == 10
    assert np.abs(scores["random"]).max() <= 3


def test_static_picture_and_text():
    first, second = (OnlineSoftmaxExplorer()._repr_mimebundle_()[0] for _ in range(2))
    assert first["image/png"] == second["image/png"]
    assert not re.search(r"0x[0-9a-f]{6}|object at", first["text/plain"])
    assert "after 2 of 4 blocks" in first["text/plain"]
    data = OnlineSoftmaxExplorer(kind="falling").static_png()
    assert data != OnlineSoftmaxExplorer().static_png()
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert len(data) < 120_000
    assert 700 <= picture.shape[1] <= 1000
    assert OnlineSoftmaxExplorer(step=0).static_png()


@pytest.mark.parametrize("bad", [{"kind": "flat"}, {"block": 0}, {"step": 17}, {"seed": 0}])
def test_other_values_are_refused(bad):
    with pytest.raises(traitlets.TraitError):
        OnlineSoftmaxExplorer(**bad)
