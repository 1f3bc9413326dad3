"""BertViz offline: no network, stable bytes, clear limits."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import pytest

from zoo_lessons.lab.widgets import head_view, model_view
from zoo_lessons.lab.widgets.bertviz import _without_loader

TOKENS = ["[CLS]", "the", "cat", "sat", "</script>"]


def weights(*shape: int) -> np.ndarray:
    exp = np.exp(np.random.default_rng(0).normal(size=shape, scale=2))
    return exp / exp.sum(-1, keepdims=True)


def page(view) -> str:
    return html.unescape(re.search(r'srcdoc="([^"]*)"', view.html)[1])


def parameters(view) -> dict:
    return json.loads(re.search(r"const params = (\{.*\});", page(view))[1])


@pytest.mark.parametrize("draw", [head_view, model_view])
def test_views_are_stable_and_load_nothing(draw):
    view = draw(weights(2, 3, 5, 5), TOKENS)
    assert view.html == draw(weights(2, 3, 5, 5), TOKENS).html
    assert "cdnjs" not in view.html
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page(view))
    assert not re.search(r"bertviz-[0-9a-f]{8}", view.html)
    assert view.html.count("<iframe") == 1 and 'sandbox="allow-scripts"' in view.html
    assert re.search(r'<iframe title="BertViz (head|model) view: 2 layers x 3 heads', view.html)


@pytest.mark.parametrize("draw", [head_view, model_view])
def test_weights_arrive_rounded_and_once(draw):
    array = weights(2, 3, 5, 5)
    view = draw(array, TOKENS)
    sent = np.array(parameters(view)["attention"][0]["attn"])
    np.testing.assert_array_equal(sent, array.astype(np.float32).astype(float).round(3))
    assert page(view).count('"attn"') == 1
    assert max(len(number) for number in re.findall(r"0\.\d+", json.dumps(sent.tolist()))) == 5


def test_a_token_cannot_end_the_script():
    assert page(head_view(weights(1, 1, 5, 5), TOKENS)).count("</script>") == 4
    assert parameters(head_view(weights(1, 1, 5, 5), TOKENS))["attention"][0]["right_text"][4] == (
        "</script>"
    )


def test_cross_attention_has_queries_on_the_left():
    view = head_view(weights(2, 3, 2, 5), TOKENS, ["le", "chat"])
    data = parameters(view)["attention"][0]
    assert data["left_text"] == ["le", "chat"]
    assert len(data["right_text"]) == 5


def test_repr_is_address_free():
    assert repr(model_view(weights(2, 3, 5, 5), TOKENS)) == (
        "BertViz model view: 2 layers x 3 heads, 5 queries x 5 keys, weights rounded to 3 decimals"
    )


def test_chosen_layers_and_heads_reach_the_page():
    shown = parameters(model_view(weights(4, 3, 5, 5), TOKENS, layers=[1, 3], heads=[2]))
    assert (shown["include_layers"], shown["include_heads"]) == ([1, 3], [2])
    shown = parameters(head_view(weights(4, 3, 5, 5), TOKENS, layer=2, heads=[0]))
    assert (shown["layer"], shown["heads"]) == (2, [0])


@pytest.mark.parametrize(
    ("draw", "options", "message"),
    [
        (head_view, {"layer": 2}, r"layer 2 is outside 0\.\.1"),
        (head_view, {"heads": [3]}, r"head 3 is outside 0\.\.2"),
        (model_view, {"layers": [2]}, r"layer 2 is outside 0\.\.1"),
        (model_view, {"tokens": TOKENS[:2]}, "5 keys but tokens has 2"),
        (model_view, {"query_tokens": TOKENS[:2]}, "5 queries but query_tokens has 2"),
        (head_view, {"max_tokens": 4}, "5 tokens are too many for BertViz.*at most 4"),
    ],
)
def test_wrong_arguments_are_refused_with_a_reason(draw, options, message):
    with pytest.raises(ValueError, match=message):
        draw(weights(2, 3, 5, 5), **{"tokens": TOKENS, **options})


def test_an_unknown_bertviz_page_is_refused():
    with pytest.raises(RuntimeError, match="bertviz 1.4"):
        _without_loader("<script>another loader</script>")
