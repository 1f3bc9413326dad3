"""The attention widgets in a browser: pointer, keys, themes, accessibility, speed."""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import pytest

from tests.browser.harness import Lab
from tests.browser.widget_page import WidgetPage, open_widget, slider_latency
from zoo_lessons.lab.widgets import (
    AttentionExplorer,
    MaskExplorer,
    base,
    head_view,
    mask_explorer,
    model_view,
)

TOKENS = ["[CLS]", "the", "cat", "sat", "on", "the", "mat", "[SEP]"]
HEAT = "canvas[aria-label^='Open head']"
OVERVIEW = "canvas[aria-label^='All heads']"
CIVIDIS_TOP = [254, 232, 56, 255]


def weights(*shape: int) -> np.ndarray:
    exp = np.exp(np.random.default_rng(0).normal(size=shape, scale=2))
    return (exp / exp.sum(-1, keepdims=True)).astype(np.float32)


def identity(layers: int, heads: int, size: int) -> np.ndarray:
    return np.broadcast_to(np.eye(size, dtype=np.float32), (layers, heads, size, size))


@pytest.fixture
def explorer() -> AttentionExplorer:
    return AttentionExplorer(weights(4, 6, 8, 8), TOKENS, layer=1, head=2)


def go_to(shown: WidgetPage, query: int, key: int) -> None:
    """Move the open head's cursor with the keyboard, starting from no cursor."""
    shown.page.locator(HEAT).focus()
    for name in ["ArrowDown"] * (query + 1) + ["ArrowRight"] * key:  # the first press shows it
        shown.page.keyboard.press(name)
    shown.frame()


def bars(shown: WidgetPage) -> list[float]:
    return [float(text) for text in shown.root.locator(".ae-number").all_inner_texts()]


def picture(shown: WidgetPage, selector: str) -> str:
    return shown.page.evaluate("(s) => document.querySelector(s).toDataURL()", selector)


WINDOWS = [("light", 1200), ("dark", 1200), ("light", 700), ("dark", 420)]


@pytest.mark.parametrize(("theme", "width"), WINDOWS)
@pytest.mark.parametrize(
    "make",
    [
        lambda: AttentionExplorer(
            weights(4, 6, 8, 8), TOKENS, on_text=lambda text: None, text="The cat sat"
        ),
        lambda: AttentionExplorer(weights(2, 2, 50, 50), [f"token{i}" for i in range(50)]),
        lambda: AttentionExplorer(
            weights(1, 1, 3, 8), TOKENS, ["le", "chat", "."], names=["decoder.0.cross_attention"]
        ),
        lambda: MaskExplorer(tokens=TOKENS, pattern="padding"),
        lambda: MaskExplorer(64, masks={"mine": np.zeros((3, 5), bool)}),
        lambda: MaskExplorer(48, pattern="window + global + random", sparse=True, layers=2),
    ],
    ids=["sentence", "long", "cross", "mask", "own mask", "sparse mask"],
)
def test_widgets_are_accessible_quiet_and_fit_the_window(browser, make, theme, width):
    with open_widget(browser, make(), theme=theme, width=width) as shown:
        assert shown.accessibility_violations() == []
        fits = "document.documentElement.scrollWidth <= innerWidth"
        assert shown.page.evaluate(fits), "the page scrolls sideways"
        inside = "(() => { const w = document.querySelector('.zoo-widget');"
        assert shown.page.evaluate(inside + " return w.scrollWidth <= w.clientWidth; })()")
        assert shown.problems == []
        assert shown.requests == []


# ---------------------------------------------------------------- attention explorer


def test_clicking_the_overview_opens_a_head_and_tells_python(browser, explorer):
    with open_widget(browser, explorer) as shown:
        overview = shown.page.locator(OVERVIEW)
        box = overview.bounding_box()
        overview.click(position={"x": box["width"] - 8, "y": box["height"] - 8})
        shown.wait_until_saved()
        assert (explorer.layer, explorer.head) == (3, 5)
        assert "Layer 3, head 5" in shown.root.inner_text()


def test_arrow_keys_and_sliders_choose_a_head(browser, explorer):
    with open_widget(browser, explorer) as shown:
        shown.page.locator(OVERVIEW).focus()
        for name in ("ArrowDown", "ArrowLeft", "ArrowLeft", "ArrowLeft"):  # stops at the edge
            shown.page.keyboard.press(name)
        shown.wait_until_saved()
        assert (explorer.layer, explorer.head) == (2, 0)
        shown.page.get_by_role("slider", name="Head", exact=True).focus()
        shown.page.keyboard.press("End")
        shown.wait_until_saved()
        assert (explorer.layer, explorer.head) == (2, 5)
        assert "Layer 2, head 5" in shown.readout()


def test_python_can_open_a_head_and_lock_a_row(browser, explorer):
    with open_widget(browser, explorer) as shown:
        shown.set(layer=3, head=4, locked=6)
        assert "Layer 3, head 4: “mat” (query 6)" in shown.readout()
        np.testing.assert_allclose(bars(shown), explorer.weights[3, 4, 6], atol=6e-4)


def test_the_readout_gives_the_weight_to_four_decimals(browser, explorer):
    with open_widget(browser, explorer) as shown:
        go_to(shown, query=2, key=3)
        value = explorer.weights[1, 2, 2, 3]
        assert f"“cat” (query 2) → “sat” (key 3) = {value:.4f}" in shown.readout()
        top = int(explorer.weights[1, 2, 2].argmax())
        assert f"Highest: “{TOKENS[top]}”" in shown.readout()


def test_a_locked_row_stays_while_pointer_and_head_move(browser, explorer):
    with open_widget(browser, explorer) as shown:
        heat = shown.page.locator(HEAT)
        size = heat.bounding_box()
        bottom_row = {"x": size["width"] - 10, "y": size["height"] - 10}
        heat.click(position=bottom_row)
        shown.wait_until_saved()
        assert explorer.locked == 7
        np.testing.assert_allclose(bars(shown), explorer.weights[1, 2, 7], atol=6e-4)

        heat.hover(position={"x": size["width"] - 10, "y": size["height"] * 0.45})
        shown.frame()
        np.testing.assert_allclose(bars(shown), explorer.weights[1, 2, 7], atol=6e-4)
        assert shown.root.locator(".ae-tick:visible").count() == 8

        shown.set(head=0)
        np.testing.assert_allclose(bars(shown), explorer.weights[1, 0, 7], atol=6e-4)

        heat.click(position=bottom_row)
        shown.wait_until_saved()
        assert explorer.locked == -1
        shown.page.mouse.move(0, 0)
        shown.frame()
        assert "on average" in shown.root.inner_text()
        np.testing.assert_allclose(bars(shown), explorer.weights[1, 0].mean(0), atol=6e-4)


def test_keys_lock_rows_and_stay_inside_the_widget(browser, explorer):
    with open_widget(browser, explorer) as shown:
        go_to(shown, query=3, key=1)
        shown.page.keyboard.press("Enter")
        shown.wait_until_saved()
        assert explorer.locked == 3
        for name in ("x", "d", "a", "Enter"):
            shown.page.keyboard.press(name)
        assert shown.page.evaluate("keysThatEscape") == []
        for name in ("Escape", "Shift+Enter", "Control+s"):
            shown.page.keyboard.press(name)
        assert {"Escape", "Enter", "s"} <= set(shown.page.evaluate("keysThatEscape"))


def test_special_tokens_can_be_hidden_and_the_rest_renormalised(browser, explorer):
    with open_widget(browser, explorer) as shown:
        shown.page.get_by_role("combobox", name="Special tokens", exact=True).select_option(
            "hide specials"
        )
        go_to(shown, query=1, key=2)  # the visible tokens start at "the"
        row = explorer.weights[1, 2, 2, 1:7]
        value = row[2] / row.sum()
        assert f"“cat” (query 2) → “sat” (key 3) = {value:.4f}" in shown.readout()
        assert "renormalised" in shown.readout()
        np.testing.assert_allclose(sum(bars(shown)), 1, atol=0.004)

        shown.page.get_by_label("Renormalise the rest").uncheck()
        go_to(shown, query=0, key=0)
        assert "Hidden tokens keep their share" in shown.readout()
        assert sum(bars(shown)) < 0.999
        assert explorer.special_tokens == "hide specials"

        shown.page.get_by_role("combobox", name="Special tokens", exact=True).select_option(
            "hide first"
        )
        assert shown.root.locator(".ae-token").all_inner_texts() == TOKENS[1:]


def test_hiding_everything_shows_everything_and_says_so(browser):
    explorer = AttentionExplorer(weights(1, 2, 2, 2), ["[CLS]", "[SEP]"])
    with open_widget(browser, explorer) as shown:
        shown.page.get_by_role("combobox", name="Special tokens", exact=True).select_option(
            "hide specials"
        )
        assert "Nothing would be left" in shown.readout()
        assert len(bars(shown)) == 2


def test_without_special_tokens_the_choice_is_off(browser):
    with open_widget(browser, AttentionExplorer(weights(1, 2, 2, 2), ["a", "b"])) as shown:
        choice = shown.root.locator("option[value='hide specials']")
        assert choice.is_disabled()


def test_colours_show_weights_and_scaling_uses_the_whole_range(browser):
    dim = np.full((1, 1, 2, 4), 0.25, np.float32)
    explorer = AttentionExplorer(dim, list("abcd"), ["q", "r"])
    with open_widget(browser, explorer) as shown:
        corner = (0.9, 0.95)  # in the last cell
        assert shown.pixel(HEAT, *corner) != CIVIDIS_TOP
        shown.page.get_by_label("Scale each head to its maximum").check()
        assert shown.pixel(HEAT, *corner) == CIVIDIS_TOP
        assert "0.250" in shown.root.locator(".ae-legend").inner_text()
        shown.page.get_by_role("combobox", name="Colours", exact=True).select_option("greys")
        assert shown.pixel(HEAT, *corner) == [0, 0, 0, 255]


def test_the_theme_repaints_the_canvas(browser, explorer):
    with open_widget(browser, explorer, theme="light") as shown:
        before = picture(shown, HEAT)
        shown.theme("dark")
        dark = picture(shown, HEAT)
        assert dark != before
        shown.theme("light")
        assert picture(shown, HEAT) == before


def test_cross_attention_is_rectangular(browser):
    explorer = AttentionExplorer(weights(2, 2, 3, 8), TOKENS, ["le", "chat", "dort"])
    with open_widget(browser, explorer) as shown:
        go_to(shown, query=2, key=7)
        value = explorer.weights[0, 0, 2, 7]
        assert f"“dort” (query 2) → “[SEP]” (key 7) = {value:.4f}" in shown.readout()
        shown.page.get_by_role("combobox", name="Special tokens", exact=True).select_option(
            "hide specials"
        )
        assert len(bars(shown)) == 6


def attend(sentence: str):
    words = sentence.split()
    if len(words) > 4:
        raise ValueError(f"The sentence has {len(words)} words; this model reads at most 4.")
    return identity(2, 3, len(words)), words


def test_the_readers_own_sentence_goes_through_python(browser):
    explorer = AttentionExplorer(*attend("one two"), on_text=attend, text="one two", head=2)
    with open_widget(browser, explorer) as shown:
        box = shown.page.get_by_label("Your sentence")
        assert box.input_value() == "one two"
        box.fill("three more words")
        shown.page.keyboard.press("Enter")
        shown.page.wait_for_function("model.get('_payload').keys === 3")
        assert shown.root.locator(".ae-token").all_inner_texts() == ["three", "more", "words"]
        assert explorer.tokens == ["three", "more", "words"]
        assert "head 2" in shown.readout()
        shown.page.wait_for_function("!document.querySelector('[aria-busy]')")

        box.fill("this is one word too many")
        shown.page.get_by_role("button", name="Show its attention").click()
        alert = shown.page.get_by_role("alert")
        alert.get_by_text("The sentence has 6 words; this model reads at most 4.").wait_for()
        assert len(bars(shown)) == 3
        assert shown.accessibility_violations() == []

        box.fill("   ")
        shown.page.keyboard.press("Enter")
        assert alert.inner_text() == "Type a sentence first."
        box.fill("fine now")
        shown.page.keyboard.press("Enter")
        shown.page.wait_for_function("model.get('_payload').keys === 2")
        assert alert.inner_text() == ""
        assert shown.problems == []


def test_waiting_for_python_shows(browser):
    explorer = AttentionExplorer(*attend("one two"), on_text=attend, text="one two")
    with open_widget(browser, explorer) as shown:
        shown.page.evaluate("model.send = (content) => { window.sent = content; }")
        submit = shown.page.get_by_role("button", name="Show its attention")
        submit.click()
        assert submit.is_disabled()
        shown.root.get_by_text("Working").wait_for()
        shown.page.evaluate("model.emit('msg:custom', {kind: 'answer', request: 'other'}, [])")
        assert submit.is_disabled()
        shown.page.evaluate(
            "model.emit('msg:custom', {kind: 'answer', request: sent.request, error: ''}, [])"
        )
        assert submit.is_enabled()
        assert "Working" not in shown.root.inner_text()


def test_a_removed_widget_leaves_nothing_behind(browser, explorer):
    with open_widget(browser, explorer) as shown:
        shown.page.evaluate("disposeWidget()")
        assert shown.page.evaluate("model.listeners()") == 0
        before = picture(shown, HEAT)
        shown.theme("dark")
        assert picture(shown, HEAT) == before
        assert shown.problems == []


LAB_CELL = """
import numpy as np
import torch
from zoo_lessons.lab.widgets import AttentionExplorer, head_view
from zoo_lessons.layers import record_attention
from zoo_lessons.weights import load_pretrained, load_tokenizer

model, tokenizer = load_pretrained("minilm").eval(), load_tokenizer("minilm")

def attend(sentence):
    encoded = tokenizer.encode(sentence)
    with torch.no_grad(), record_attention(model) as maps:
        model(torch.tensor([encoded.ids]))
    return maps, encoded.tokens

first = "The cat sat on the mat"
explorer = AttentionExplorer(*attend(first), on_text=attend, text=first)
explorer
"""
LAB_LARGE = """
scores = np.random.default_rng(0).normal(size=(12, 12, 64, 64), scale=2)
large = torch.softmax(torch.tensor(scores), -1)
AttentionExplorer(large, [f"token{i}" for i in range(64)])
"""
# The aim is 50 ms. Other work on this machine can stretch it; ten times that is a regression.
SLOWEST_MS = 500


def test_a_slider_answers_within_a_frame_or_two(browser, record_property):
    explorer = AttentionExplorer(weights(12, 12, 64, 64), [f"token{i}" for i in range(64)])
    with open_widget(browser, explorer) as shown:
        latency = slider_latency(shown.page, "Head", moves=60)
    record_property("slider_to_frame_ms", latency)
    print(f"slider to frame, 12 x 12 heads x 64 tokens: {latency}")
    assert latency["p95"] < SLOWEST_MS, latency


def test_real_heads_and_an_own_sentence_in_jupyterlab(browser, tmp_path, record_property):
    cells = [LAB_CELL, "head_view(*attend(first))", LAB_LARGE, "(explorer.layer, explorer.head)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    # Without a kernelspec, JupyterLab opens a dialog that asks for one.
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    path = tmp_path / "notebooks" / "explorer.ipynb"
    path.parent.mkdir()
    nbformat.write(notebook, path)
    with Lab(browser, path.parent) as lab, lab.open("notebooks/explorer.ipynb") as opened:
        opened.run_all()
        page = opened.page
        first, large = page.locator(".zoo-widget").all()
        assert first.locator(".ae-token").all_inner_texts() == TOKENS

        overview = first.locator(OVERVIEW)
        overview.focus()
        for name in ("ArrowDown", "ArrowRight", "ArrowRight", "x"):  # unguarded, x cuts the cell
            page.keyboard.press(name)
        assert page.locator(".jp-Notebook .jp-Cell").count() == len(cells)
        first.get_by_label("Your sentence").fill("A dog ran")
        page.keyboard.press("Enter")
        first.get_by_text("dog", exact=True).wait_for()
        expected = ["[CLS]", "a", "dog", "ran", "[SEP]"]
        assert first.locator(".ae-token").all_inner_texts() == expected

        page.frame_locator("iframe[title^='BertViz']").locator("svg line").first.wait_for(
            state="attached"
        )
        large.evaluate("(widget) => { widget.dataset.measured = ''; }")
        latency = slider_latency(page, "Head", moves=60, root="[data-measured]")
        record_property("slider_to_frame_ms_in_jupyterlab", latency)
        print(f"slider to frame in JupyterLab, 12 x 12 heads x 64 tokens: {latency}")
        assert latency["p95"] < SLOWEST_MS, latency
        for theme in ("light", "dark"):
            opened.set_theme(theme)
            assert opened.axe(".zoo-widget") == []
        assert opened.problems() == []
        page.locator(".jp-Notebook .jp-Cell").last.click()
        opened.execute("notebook:run-cell")
        page.locator(".jp-OutputArea-output", has_text="(1, 2)").wait_for()


# ---------------------------------------------------------------- mask explorer

GRID = "canvas[aria-label^='Attention mask']"


def test_the_scripts_patterns_are_pythons(browser):
    source = (Path(base.__file__).parent / "mask_explorer.js").read_text(encoding="utf-8")
    common = (Path(base.__file__).parent / "common.js").read_text(encoding="utf-8")
    rules = common + source.split("function render(")[0]
    states = [
        {"length": 1, "padding": 0, "window": 0},
        {"length": 6, "padding": 2, "window": 1, "global_tokens": 2},
        {"length": 9, "padding": 9, "window": 4, "random_blocks": 2, "block": 2},
        {"length": 12, "padding": 0, "window": 20, "random_blocks": 0, "block": 5},
        {"length": 31, "padding": 3, "window": 1, "random_blocks": 3, "block": 3},
    ]
    defaults = {"global_tokens": 1, "random_blocks": 1, "block": 4}
    expected_patterns = {**mask_explorer.PATTERNS, **mask_explorer.SPARSE_PATTERNS}
    page = browser.new_page()
    try:
        for state in states:
            drawn = page.evaluate(
                """([rules, state]) => {
                    const patterns = new Function(rules + "; return ME_PATTERNS;")();
                    const index = [...Array(state.length).keys()];
                    return Object.fromEntries(Object.entries(patterns).map(([name, rule]) =>
                        [name, index.map((i) => index.map((j) => rule.allows(i, j, state)))]));
                }""",
                [rules, {**defaults, **state}],
            )
            assert list(drawn) == list(expected_patterns)
            for name, allowed in drawn.items():
                expected = MaskExplorer(pattern=name, sparse=True, **state).mask()
                np.testing.assert_array_equal(np.array(allowed), expected, err_msg=name)
    finally:
        page.close()


def test_cells_are_read_by_pointer_and_keys(browser):
    with open_widget(browser, MaskExplorer(6, pattern="causal")) as shown:
        grid = shown.page.locator(GRID)
        grid.focus()
        for name in ["ArrowRight", "ArrowDown", "ArrowDown", "ArrowRight"]:
            shown.page.keyboard.press(name)
        shown.frame()
        assert shown.readout() == "Query 2 may attend to key 1. It sees 3 of 6 keys."
        for _ in range(9):  # stops at the edge
            shown.page.keyboard.press("ArrowRight")
        shown.frame()
        assert shown.readout() == "Query 2 may not attend to key 5. It sees 3 of 6 keys."
        size = grid.bounding_box()
        grid.click(position={"x": 35, "y": size["height"] - 10})
        assert shown.readout() == "Query 5 may attend to key 0. It sees 6 of 6 keys."
        assert shown.page.evaluate("keysThatEscape") == []


def test_mask_sliders_recount_and_reach_python(browser):
    explorer = MaskExplorer(10, pattern="causal + padding", padding=3)
    with open_widget(browser, explorer) as shown:
        assert f"{explorer.mask().sum()} of 100" in shown.root.inner_text()
        shown.page.get_by_role("slider", name="Padded tokens", exact=True).focus()
        shown.page.keyboard.press("ArrowRight")
        shown.wait_until_saved()
        assert explorer.padding == 4
        pairs = int(explorer.mask().sum())
        text = shown.root.inner_text()
        assert f"{pairs} of 100" in text
        assert f"{2 * pairs * 64:,}" in text
        shown.page.get_by_role("slider", name="Tokens", exact=True).focus()
        shown.page.keyboard.press("Home")  # one token: the padding shrinks with it
        shown.wait_until_saved()
        assert (explorer.length, explorer.padding) == (1, 1)
        assert "1 query sees no key at all" in shown.root.inner_text()


def test_own_masks_are_shown_as_they_are(browser):
    mine = np.array([[True, False, True], [False, False, False]])
    with open_widget(browser, MaskExplorer(masks={"mine": mine})) as shown:
        text = shown.root.inner_text()
        assert "2 of 6" in text and "1 query sees no key at all" in text
        shown.page.locator(GRID).focus()
        for name in ("ArrowRight", "ArrowRight"):
            shown.page.keyboard.press(name)
        shown.frame()
        assert shown.readout() == "Query 0 may not attend to key 1. It sees 2 of 3 keys."
        shown.page.get_by_role("combobox", name="Mask", exact=True).select_option("full")
        assert "144 of 144" in shown.root.inner_text()


def test_layers_connect_what_one_layer_does_not(browser):
    explorer = MaskExplorer(20, pattern="sliding window", window=2, sparse=True)
    with open_widget(browser, explorer) as shown:
        assert "connected by several layers" not in shown.root.inner_text()
        shown.page.get_by_role("slider", name="Layers", exact=True).focus()
        for _ in range(2):
            shown.page.keyboard.press("ArrowRight")
        shown.wait_until_saved()
        assert explorer.layers == 3
        reach, text = explorer.reach().sum(axis=1), shown.root.inner_text()
        assert (reach.min(), reach.max()) == (7, 13)
        assert "Reach after 3 layers" in text and "7 to 13" in text
        assert f"{4 * int(explorer.mask().sum()) * 64 * 3:,}" in text
        assert f"{4 * 400 * 64 * 3:,}" in text
        grid = shown.page.locator(GRID)
        grid.focus()
        for name in ["ArrowRight"] * 6:
            shown.page.keyboard.press(name)
        shown.frame()
        assert shown.readout() == (
            "Query 0 may not attend to key 5, but hears of it after 3 layers. It sees 3 of 20 keys."
        )
        assert shown.page.evaluate("keysThatEscape") == []


def test_sparse_patterns_have_their_sliders(browser):
    explorer = MaskExplorer(24, pattern="window + global", sparse=True, global_tokens=1)
    with open_widget(browser, explorer) as shown:
        blocks = shown.page.get_by_role("slider", name="Tokens in a block", exact=True)
        assert not blocks.is_visible()
        shown.page.get_by_role("slider", name="Global tokens", exact=True).focus()
        shown.page.keyboard.press("ArrowRight")
        shown.wait_until_saved()
        assert explorer.global_tokens == 2
        assert f"{explorer.mask().sum()} of 576" in shown.root.inner_text()
        patterns = shown.page.get_by_role("combobox", name="Mask", exact=True)
        patterns.select_option("window + global + random")
        shown.wait_until_saved()
        assert blocks.is_visible()
        assert f"{explorer.mask().sum()} of 576" in shown.root.inner_text()


# ---------------------------------------------------------------- BertViz


@pytest.mark.parametrize("draw", [head_view, model_view])
def test_bertviz_draws_without_network(browser, draw):
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    problems, requests = [], []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    try:
        page.set_content(draw(weights(3, 4, 8, 8), TOKENS).html)
        frame = page.frame_locator("iframe")
        frame.locator("svg line").first.wait_for(state="attached", timeout=20_000)
        one_layer = 4 * 8 * 8
        assert frame.locator("svg line").count() == one_layer * (3 if draw is model_view else 1)
        assert page.frames[1].evaluate("document.documentElement.scrollHeight <= innerHeight"), (
            "the frame cuts the picture"
        )
        page.set_viewport_size({"width": 600, "height": 800})
        assert page.frames[1].evaluate("document.documentElement.scrollWidth <= innerWidth")
        if draw is head_view:
            frame.get_by_label("Layer").select_option("2")
            assert frame.locator("svg line").count() == one_layer
        assert problems == []
        assert [url for url in requests if url.startswith(("http", "ws"))] == []
    finally:
        page.close()
