"""The widgets of the language lessons in a browser: numbers, keys, errors, speed."""

from __future__ import annotations

import re
from typing import Any

import nbformat
import numpy as np
import pytest

from tests.browser.widget_page import WidgetPage, open_widget, settle, slider_latency
from zoo_lessons.lab.widgets import Answer, AskBox, MaskingExplorer, SamplingExplorer
from zoo_lessons.lab.widgets.seeded import uniforms

WORDS = "the cat sat on a mat and dog ran".split()
VOCABULARY = [f" {word}" for word in WORDS] + [".", "\n", b"\xe2\x80"]
VOCABULARY += [f" w{i}" for i in range(4096 - len(VOCABULARY))]
LONGEST = 8


def encode(text: str) -> list[int]:
    return [VOCABULARY.index(f" {word}") for word in text.split() if word in WORDS]


def next_logits(ids: list[int]) -> np.ndarray:
    if len(ids) > LONGEST:
        raise ValueError(f"The text has {len(ids)} tokens; this model reads at most {LONGEST}.")
    logits = np.random.default_rng(ids).normal(size=len(VOCABULARY))
    logits[:12] += 6
    return logits


def sampler(prompt: str = "the cat", **options: Any) -> SamplingExplorer:
    return SamplingExplorer(prompt, VOCABULARY, next_logits, encode, **options)


MASKED = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##ing"]


def masker(text: str = "the cat sat on a mat", **options: Any) -> MaskingExplorer:
    def tokenize(text: str) -> list[str]:
        return ["[CLS]", *text.split(), "[SEP]"]

    return MaskingExplorer(text, tokenize, MASKED, **options)


PASSAGE = "The encoder is a stack of six layers, each with two sub-layers. " * 3


def box(**options: Any) -> AskBox:
    def answer(text: str) -> Answer:
        if "😀" not in text:
            raise ValueError("Put a 😀 into your question.")
        start = text.index("cat")
        return Answer([("cat", 0.75, PASSAGE), ("dog", 0.25)], text, (start, start + 3))

    return AskBox(answer, examples=["😀 the cat", "a cat 😀"], button="Find", **options)


def button(shown: WidgetPage, name: str) -> Any:
    return shown.page.get_by_role("button", name=name, exact=True)


def slider(shown: WidgetPage, name: str) -> Any:
    return shown.page.get_by_role("slider", name=name, exact=True)


# ------------------------------------------------------------------ what holds for all of them


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 360)])
@pytest.mark.parametrize("make", [sampler, masker, box])
def test_accessible_quiet_and_fit_for_a_narrow_window(browser, make, theme, width):
    with open_widget(browser, make(), theme=theme, width=width) as shown:
        assert shown.accessibility_violations() == []
        assert shown.layout_problems() == []
        assert shown.keys_that_escape("x") == []
        assert shown.listeners_left() == 0
        assert (shown.problems, shown.requests) == ([], [])


# ------------------------------------------------------------------ sampling explorer


def test_the_scripts_filters_are_the_librarys(browser):
    rng = np.random.default_rng(0)
    plain = rng.normal(size=40, scale=3).astype(np.float32)
    tied = np.round(plain)  # many equal logits
    forbidden = np.where(np.arange(40) % 3 == 0, -np.inf, plain)
    settings = [
        {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        for temperature in (0.0, 0.05, 1.3)
        for top_k in (None, 1, 7, 26, 27, 40, 99)
        for top_p in (None, 0.01, 0.5, 0.93, 1.0)
    ]
    cases = []
    for logits in (plain, tied, forbidden):
        explorer = SamplingExplorer("x", ["x"] * 40, lambda ids, x=logits: x, lambda text: [0])
        cases.append((explorer.logits.tobytes(), explorer))
    page = browser.new_page()
    try:
        drawn = page.evaluate(
            """async ([esm, cases, settings]) => {
                const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
                const se = (await import(url)).default;
                return cases.map((bytes) => {
                    const logits = new Float32Array(Uint8Array.from(bytes).buffer);
                    const order = se.seRanked(logits);
                    return settings.map((setting) => {
                        const { model, kept, count } = se.seDistribution(logits, order, setting);
                        return { order: [...order], model: [...model], kept: [...kept], count,
                            bits: se.seEntropy(kept) };
                    });
                });
            }""",
            [explorer._esm, [list(data) for data, _ in cases], settings],
        )
    finally:
        page.close()
    for (_, explorer), results in zip(cases, drawn, strict=True):
        for setting, result in zip(settings, results, strict=True):
            for name, value in setting.items():
                setattr(explorer, name, value)
            model, kept = explorer.probabilities()
            # By rank, because nothing decides which of two equal tokens top-p cuts.
            ranked = np.sort(kept)[::-1]
            np.testing.assert_allclose(result["kept"], ranked, rtol=1e-9, err_msg=str(setting))
            np.testing.assert_allclose(result["model"], model[result["order"]], rtol=1e-9)
            assert result["count"] == np.count_nonzero(kept), setting
            positive = kept[kept > 0]
            expected = -(positive * np.log2(positive)).sum()
            assert result["bits"] == pytest.approx(expected, abs=1e-9)


def bars(shown: WidgetPage) -> list[tuple[str, str, str]]:
    """Each bar's label, the model's probability, and what is left of it."""
    rows = shown.root.locator("li .se-row").all()
    return [tuple(row.locator(".se-label, .se-number").all_inner_texts()) for row in rows]


def percent(text: str) -> float:
    return float(re.match(r"(?:< )?([\d.]+) %", text)[1]) / 100


def test_sliders_filter_the_bars(browser):
    explorer = sampler()
    with open_widget(browser, explorer) as shown:
        order = np.argsort(-explorer.logits)[:15]
        assert len(bars(shown)) == 16
        for name, keys in (
            ("temperature", ["ArrowLeft"] * 4),
            ("top-k", ["Home"] + ["ArrowRight"] * 6),
            ("top-p", ["PageDown", "PageDown"]),
        ):
            for key in keys:
                slider(shown, name).press(key)
            settle(shown)
            model, kept = explorer.probabilities()
            for (label, own, after), token in zip(bars(shown)[:15], order, strict=True):
                assert label == explorer._labels[token]
                assert percent(own) == pytest.approx(model[token], abs=6e-4)
                if kept[token]:
                    assert percent(after) == pytest.approx(kept[token], abs=6e-4)
                else:
                    assert after.startswith("cut: top-")
            number = np.count_nonzero(kept)
            assert f"Kept {number:,} of 4,096 tokens" in shown.readout()
            mass = shown.root.locator(".se-facts dd").nth(1).inner_text()
            assert percent(mass) == pytest.approx(model[kept > 0].sum(), abs=6e-4)
        cuts = [after for _, _, after in bars(shown) if "cut" in after]
        assert set(cuts[:-8]) == {"cut: top-p"}  # top-k left 8 of 16 rows
        assert set(cuts[-8:]) == {"cut: top-k"}
        assert (explorer.temperature, explorer.top_k) == (pytest.approx(0.8), 8)
        assert bars(shown)[15][0] == "4,081 others"
        slider(shown, "temperature").press("Home")
        settle(shown)
        assert bars(shown)[0][2] == "100.0 %"
        assert bars(shown)[1][2] == "cut: greedy"
        shown.set(temperature=2.0, top_k=None, top_p=None)  # from Python
        shown.frame()
        assert slider(shown, "top-k").get_attribute("aria-valuetext") == "off"
        assert "Kept 4,096 of 4,096" in shown.readout()


def test_draws_are_those_of_the_seed(browser):
    texts = []
    for seed in (3, 4):
        explorer = sampler(temperature=1.5, top_p=0.9, seed=seed)
        with open_widget(browser, explorer) as shown:
            expected = []
            for draw in uniforms(seed, 3):  # by hand, in Python
                _, kept = explorer.probabilities()
                order = np.argsort(-explorer.logits, kind="stable")
                rank = np.searchsorted(np.cumsum(kept[order]), draw, side="right")
                expected.append(int(order[rank]))
                button(shown, "Sample one").click()
                shown.page.wait_for_function(
                    f"model.get('_payload').tokens.length === {len(expected)} && !model.waiting"
                )
                assert explorer.ids[2:] == expected
            texts.append(explorer.text)
    assert texts[0] != texts[1]


def test_the_text_grows_by_bars_buttons_and_keys(browser):
    explorer = sampler()
    with open_widget(browser, explorer) as shown:

        def wait(tokens: int) -> None:
            shown.page.wait_for_function(
                f"model.get('_payload').tokens.length === {tokens} && !model.waiting"
            )

        best = int(explorer.logits.argmax())
        button(shown, "Take the likeliest").click()
        wait(1)
        assert explorer.ids[-1] == best
        third = np.argsort(-explorer.logits)[2]
        first = shown.root.locator("button.se-row").first
        first.focus()
        shown.page.keyboard.press("ArrowDown")
        shown.page.keyboard.press("ArrowDown")
        shown.page.keyboard.press("Enter")
        wait(2)
        assert explorer.ids[-1] == third
        assert f"Appended {explorer._labels[third]}" in shown.readout()
        token = shown.root.locator(".se-token").last
        assert token.get_attribute("title").startswith(f"{explorer._labels[third]}: probability")
        assert "%" in token.inner_text()  # for those who do not see the shade

        button(shown, "Ten more").click()  # four fit
        alert = shown.page.get_by_role("alert")
        alert.get_by_text("The text has 9 tokens; this model reads at most 8.").wait_for()
        assert len(explorer.ids) == LONGEST
        button(shown, "Undo").click()
        wait(5)
        assert alert.inner_text() == ""
        assert shown.root.locator(".se-token").count() == 5

        prompt = shown.page.get_by_label("Your prompt")
        prompt.fill("a dog")
        prompt.press("Enter")
        wait(0)
        assert explorer.text == "a dog"
        assert button(shown, "Undo").get_attribute("aria-disabled") == "true"
        prompt.fill("unknown")
        prompt.press("Enter")
        alert.get_by_text("The prompt has no tokens").wait_for()
        slider(shown, "temperature").press("Home")
        settle(shown)
        assert "Kept 1 of 4,096" in shown.readout()
        assert shown.problems == []


def test_without_a_kernel_sliders_work_and_buttons_recover(browser):
    with open_widget(browser, sampler()) as shown:
        shown.page.clock.install()
        shown.page.evaluate("model.sent = 0; model.send = () => { model.sent += 1; }; 0")
        button(shown, "Sample one").click()
        shown.page.clock.run_for(11_000)
        assert "No answer yet" in shown.root.inner_text()
        slider(shown, "temperature").press("Home")
        shown.page.clock.run_for(100)
        assert bars(shown)[1][2] == "cut: greedy"
        button(shown, "Sample one").click()
        assert shown.page.evaluate("model.sent") == 2


# The aim is 50 ms. Other work on this machine can stretch it; ten times that is a regression.
SLOWEST_MS = 500


def test_a_slider_answers_within_a_frame_or_two(browser, record_property):
    with open_widget(browser, sampler()) as shown:
        latency = {
            label: slider_latency(shown.page, label, moves=30)
            for label in ("temperature", "top-k", "top-p")
        }
    record_property("slider_to_frame_ms", latency)
    print(f"slider to frame, 4,096 tokens: {latency}")
    assert max(one["p95"] for one in latency.values()) < SLOWEST_MS, latency


# ------------------------------------------------------------------ masking explorer


def cards(shown: WidgetPage) -> list[list[str]]:
    """Of each token: text, what the model reads, fate, label."""
    script = """(cards) => cards.map((card) => [".mk-text", ".mk-read", ".mk-fate", ".mk-label"]
        .map((part) => card.querySelector(part).lastChild.textContent))"""
    return shown.root.locator(".mk-card").evaluate_all(script)


def assert_masks(shown: WidgetPage) -> None:
    explorer = shown.widget
    read, labels, fates = explorer.masked()
    drawn = cards(shown)
    assert [card[0] for card in drawn] == explorer.tokens
    assert [card[1] for card in drawn] == read
    assert [card[2].split()[-1].strip("·") for card in drawn] == fates
    assert [int(card[3]) for card in drawn] == labels
    chosen = sum(label >= 0 for label in labels)
    ordinary = len(fates) - fates.count("special")
    assert f"{chosen} of {ordinary} ordinary tokens chosen" in shown.readout()


def test_masks_are_pythons(browser):
    with open_widget(browser, masker(rate=0.5)) as shown:
        assert_masks(shown)
        for draw in (2, 3, 40, 1000):
            shown.set(draw=draw)
            shown.frame()
            assert_masks(shown)
        for key in ("Home", "End", "PageDown"):
            slider(shown, "rate").press(key)
            settle(shown)
            assert_masks(shown)
        shown.page.get_by_label("always [MASK]").check()
        settle(shown)
        assert shown.widget.always_mask
        assert_masks(shown)
        slider(shown, "rate").press("Home")
        settle(shown)
        assert "this draw teaches nothing" in shown.readout()


def test_counts_are_those_of_all_draws_shown(browser):
    explorer = masker(rate=0.4)
    with open_widget(browser, explorer) as shown:
        button(shown, "Draw again").click()
        button(shown, "100 more draws").click()
        settle(shown)
        assert explorer.draw == 102
        fates = []
        for draw in range(1, 103):
            explorer.draw = draw
            fates += explorer.masked()[2]
        counts = shown.root.locator(".mk-seen").all_inner_texts()
        names = ("masked", "random", "unchanged")
        chosen = sum(fates.count(name) for name in names)
        assert counts[0] == f"{chosen} of 612 tokens"
        assert counts[1:] == [f"{fates.count(name)} of {chosen} chosen" for name in names]
        assert "Counts of 102 draws" in shown.root.inner_text()
        slider(shown, "rate").press("ArrowRight")  # another rule, counted anew
        settle(shown)
        assert "Counts of this draw" in shown.root.inner_text()


def test_an_own_sentence_is_masked(browser):
    with open_widget(browser, masker()) as shown:
        sentence = shown.page.get_by_label("Your sentence")
        sentence.fill("the dog ran")
        sentence.press("Enter")
        shown.page.wait_for_function("model.get('tokens').length === 5 && !model.waiting")
        shown.frame()
        assert_masks(shown)
        sentence.fill("the zebra ran")
        button(shown, "Mask it").click()
        alert = shown.page.get_by_role("alert")
        alert.get_by_text("The token 'zebra' is not in the vocabulary.").wait_for()
        assert_masks(shown)


# ------------------------------------------------------------------ ask box


def test_questions_examples_and_errors(browser):
    asking = box()
    with open_widget(browser, asking) as shown:
        text = shown.page.get_by_label("Your question")
        assert text.input_value() == "😀 the cat"
        assert shown.root.locator("mark").inner_text() == "cat"
        assert shown.root.locator(".ab-value").all_inner_texts() == ["75.0%", "25.0%"]
        assert shown.root.locator(".ab-detail").all_inner_texts() == [PASSAGE.strip()]
        button(shown, "a cat 😀").click()
        shown.page.wait_for_function("model.get('question') === 'a cat 😀' && !model.waiting")
        assert text.input_value() == "a cat 😀"
        text.fill("two cats 😀 here")
        text.press("Enter")
        shown.page.wait_for_function("model.get('question').startsWith('two') && !model.waiting")
        assert shown.root.locator(".ab-text").inner_text() == "two cats 😀 here"
        assert shown.root.locator("mark").inner_text() == "cat"
        assert shown.readout() == "Answer: “cat”. First of 2: cat, 75.0%."
        text.fill("no face")
        button(shown, "Find").click()
        alert = shown.page.get_by_role("alert")
        alert.get_by_text("Put a 😀 into your question.").wait_for()
        assert asking.question == "two cats 😀 here"
        assert "two cats" in shown.root.inner_text()
        assert shown.problems == []


# ------------------------------------------------------------------ in JupyterLab

LAB_CELLS = [
    """
import numpy as np
from zoo_lessons.lab.widgets import base as widgets_base
from zoo_lessons.lab.widgets import Answer, AskBox, MaskingExplorer, SamplingExplorer

words = ["the", "cat", "sat", "on", "mat"]
sampler = SamplingExplorer(
    "the cat",
    [" " + word for word in words],
    lambda ids: np.random.default_rng(ids).normal(size=5, scale=2),
    lambda text: [words.index(word) for word in text.split()],
)
sampler
""",
    "MaskingExplorer('the cat sat', str.split, ['[MASK]', *words], rate=0.5)",
    "AskBox(lambda text: Answer([(text, len(text) / 10)]), 'cat')",
    "len(sampler.ids), sampler.text.startswith('the cat ')",
]


def test_a_real_kernel_answers_in_jupyterlab(lab):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in LAB_CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab.root / "notebooks" / "94_language.ipynb")
    with lab.open("notebooks/94_language.ipynb") as opened:
        opened.run_all()
        page = opened.page
        sampling, masking, asking = page.locator(".zoo-widget").all()
        sampling.get_by_role("button", name="Ten more").click()
        page.wait_for_function("document.querySelectorAll('.se-token').length === 10")
        masking.get_by_label("Your sentence").fill("the mat")
        page.keyboard.press("Enter")
        masking.locator(".mk-card").nth(2).wait_for(state="detached")
        asking.get_by_label("Your question").fill("dog x")
        page.keyboard.press("Enter")
        asking.get_by_text("50.0%", exact=True).wait_for()
        assert page.locator(".jp-Notebook .jp-Cell").count() == len(LAB_CELLS)
        assert opened.problems() == []
        page.locator(".jp-Notebook .jp-Cell").last.click()
        opened.execute("notebook:run-cell")
        page.locator(".jp-OutputArea-output", has_text="(12, True)").wait_for()
