"""The widgets that need no model, in Chromium: their numbers against numpy and the library."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from tests.browser.harness import Lab
from tests.browser.widget_page import WidgetPage, open_widget
from zoo_lessons.lab import curriculum
from zoo_lessons.lab.widgets import (
    PositionExplorer,
    RoPERotor,
    ScheduleExplorer,
    SoftmaxPlayground,
    ZooMap,
)
from zoo_lessons.lab.widgets.position_explorer import BASES
from zoo_lessons.lab.widgets.softmax_playground import D_K_VALUES, softmax_statistics
from zoo_lessons.layers.positions import RelativePositionBias, Rotary, sinusoidal_positions
from zoo_lessons.training.schedules import SCHEDULES

cividis = colormaps["cividis"]
START = "notebooks/00_start_here.ipynb"


def table(rows: int = 24, columns: int = 12) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)


def bias(heads: int = 3, length: int = 20) -> torch.Tensor:
    torch.manual_seed(0)
    module = RelativePositionBias(heads)
    torch.nn.init.normal_(module.weight)
    return module(length).detach()


STATES = {
    "softmax": lambda: SoftmaxPlayground(),
    "softmax divided": lambda: SoftmaxPlayground(scaled=True, d_k=512),
    "waves": lambda: PositionExplorer(),
    "products": lambda: PositionExplorer(view="products"),
    "learned": lambda: PositionExplorer({"learned": table()}, source="learned"),
    "bias": lambda: PositionExplorer(biases={"T5": bias()}, source="T5"),
    "rope": lambda: RoPERotor(),
    "rope random": lambda: RoPERotor(vectors="random", shift=70),
    "schedule": lambda: ScheduleExplorer(),
    "map": lambda: ZooMap(),
    "map with route": lambda: ZooMap(selected="patch_embedding", route="one_day"),
}


class Driver:
    """Reads and moves a mounted widget's controls by their labels."""

    def __init__(self, opened: WidgetPage) -> None:
        self.opened, self.page, self.widget = opened, opened.page, opened.widget

    def control(self, label: str) -> Any:
        field = self.page.locator("label.zoo-field").filter(
            has=self.page.get_by_text(label, exact=True)
        )
        return field.locator("input, select")

    def press(self, label: str, *keys: str) -> None:
        control = self.control(label)
        control.focus()
        for key in keys:
            control.press(key)
        self.settle()

    def drag(self, label: str, share: float) -> None:
        """Put a slider's thumb at a share of its way, with the mouse."""
        box = self.control(label).bounding_box()
        y = box["y"] + box["height"] / 2
        self.page.mouse.move(box["x"] + box["width"] / 2, y)
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + share * box["width"], y, steps=4)
        self.page.mouse.up()
        self.settle()

    def choose(self, label: str, value: str) -> None:
        self.control(label).select_option(value)
        self.settle()

    def settle(self) -> None:
        self.opened.frame()
        self.opened.wait_until_saved()

    def readout(self) -> str:
        return self.opened.readout()

    def number(self, pattern: str) -> float:
        """The number after `pattern` in the readout."""
        found = re.search(pattern + r"\s*(-?[\d.]+(?:e[+-]?\d+)?)", self.readout())
        assert found, f"no {pattern!r} in {self.readout()!r}"
        return float(found[1].rstrip("."))


@contextmanager
def drive(chromium: Any, widget: Any, **options: Any) -> Iterator[Driver]:
    with open_widget(chromium, widget, **options) as opened:
        yield Driver(opened)
        assert opened.problems == []
        assert opened.requests == []


# ------------------------------------------------------------------ what holds for all of them


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_accessible_in_both_themes(browser, state, theme):
    with drive(browser, STATES[state](), theme=theme) as driver:
        assert driver.opened.accessibility_violations() == []


@pytest.mark.parametrize("state", STATES)
def test_narrow_window_needs_no_sideways_scrolling(browser, state):
    with drive(browser, STATES[state](), width=700) as driver:
        driver.opened.frame()
        widths = driver.opened.root.evaluate("e => [e.scrollWidth, e.clientWidth]")
        assert widths[0] <= widths[1]
        assert driver.page.evaluate("document.documentElement.scrollWidth") <= 700


@pytest.mark.parametrize("state", ["softmax", "waves", "rope", "schedule", "map"])
def test_keys_stay_inside_and_listeners_go_away(browser, state):
    with drive(browser, STATES[state]()) as driver:
        controls = ":is(input, select, button, [tabindex]):not([tabindex='-1'])"
        for stop in driver.page.locator(f".zoo-widget {controls}").all():
            if stop.is_visible():
                stop.focus()
                stop.press("x")
                stop.press("ArrowRight")
        assert driver.page.evaluate("keysThatEscape") == []
        driver.page.keyboard.press("Escape")
        assert driver.page.evaluate("keysThatEscape") == ["Escape"]
        driver.page.evaluate("disposeWidget()")
        assert driver.page.evaluate("model.listeners()") == 0


@pytest.mark.parametrize("state", ["softmax", "waves", "rope", "schedule"])
def test_canvases_follow_a_theme_switch(browser, state):
    with drive(browser, STATES[state]()) as driver:
        picture = "document.querySelector('.zoo-widget canvas').toDataURL()"
        light = driver.page.evaluate(picture)
        driver.opened.theme("dark")
        driver.opened.frame()
        assert driver.page.evaluate(picture) != light


# ------------------------------------------------------------------ softmax playground


def assert_softmax(driver: Driver) -> None:
    widget = driver.widget
    scores = widget.scores() / (np.sqrt(widget.d_k) if widget.scaled else 1)
    p, entropy, gradient = softmax_statistics(scores)
    assert driver.number("d_k =") == widget.d_k
    assert driver.number("key") == p.argmax() + 1
    assert driver.number("has weight") == pytest.approx(p.max(), abs=6e-4)
    assert driver.number("entropy") == pytest.approx(entropy, abs=6e-4)
    assert driver.number("gradient") == pytest.approx(gradient, abs=6e-5)
    assert ("saturated" in driver.readout()) == (gradient < 0.1)


def test_softmax_sliders_and_toggle(browser):
    with drive(browser, SoftmaxPlayground()) as driver:
        assert_softmax(driver)
        driver.press("width d_k", "ArrowRight", "ArrowRight")
        assert driver.widget.d_k == 128
        assert_softmax(driver)
        driver.drag("width d_k", 1.0)
        assert driver.widget.d_k == 512
        assert_softmax(driver)
        driver.press("random draw", "End", "ArrowLeft")
        assert driver.widget.seed == 19
        assert_softmax(driver)
        driver.press("divide by √d_k", "Space")
        assert driver.widget.scaled is True
        assert_softmax(driver)
        driver.drag("width d_k", 0.0)
        assert driver.widget.d_k == 1
        assert_softmax(driver)


def test_softmax_tables_show_both(browser):
    with drive(browser, SoftmaxPlayground(d_k=64, seed=2)) as driver:
        for index, divisor in enumerate((1, 8)):
            rows = driver.page.locator("table").nth(index).locator("tbody tr")
            shown = [
                [float(t) for t in row.locator(".sp-number").all_inner_texts()]
                for row in rows.all()
            ]
            scores = driver.widget.scores() / divisor
            expected = np.stack([scores, softmax_statistics(scores)[0]], axis=1)
            np.testing.assert_allclose(shown, expected, atol=6e-3)


def test_softmax_curves_are_pythons(browser):
    with drive(browser, SoftmaxPlayground()) as driver:
        entropy, gradient = driver.widget.averages()
        for d_k in (1, 24, 512):
            driver.opened.set(d_k=d_k)
            driver.opened.frame()
            at = D_K_VALUES.index(d_k)
            labels = [c.get_attribute("aria-label") for c in driver.page.locator("canvas").all()]
            for label, values in zip(labels, (entropy, gradient), strict=True):
                assert f"not divided {values[0, at]:.3f}, divided {values[1, at]:.3f}" in label


# ------------------------------------------------------------------ position explorer


def assert_wave(driver: Driver) -> None:
    widget = driver.widget
    values = sinusoidal_positions(widget.length, widget.d_model, widget.base).numpy()
    turn = 2 * np.pi * widget.base ** (2 * widget.pair / widget.d_model)
    assert driver.number("Pair") == widget.pair
    assert driver.number("wavelength") == pytest.approx(turn, abs=6e-3, rel=1e-6)
    assert driver.number("positions,") == pytest.approx(widget.length / turn, abs=6e-3)
    first, second = re.search(r"they are (\S+) and (\S+)\.$", driver.readout()).groups()
    expected = values[widget.position, 2 * widget.pair : 2 * widget.pair + 2]
    np.testing.assert_allclose([float(first), float(second)], expected, atol=1e-3)


def test_position_sliders_in_the_wave_view(browser):
    with drive(browser, PositionExplorer()) as driver:
        assert_wave(driver)
        driver.press("pair i", "End")
        assert driver.widget.pair == 31
        assert_wave(driver)
        driver.press("d_model", "Home", "ArrowRight")
        assert (driver.widget.d_model, driver.widget.pair) == (16, 3)  # d_model 8 has 4 pairs
        assert_wave(driver)
        driver.press("base", "ArrowLeft")
        assert driver.widget.base == BASES[BASES.index(10000) - 1]
        assert_wave(driver)
        driver.drag("position p", 1.0)
        assert driver.widget.position == 63
        driver.drag("length", 0.0)
        assert (driver.widget.length, driver.widget.position) == (16, 15)
        assert_wave(driver)
        driver.drag("pair i", 0.5)
        assert_wave(driver)


def test_position_map_takes_keys_and_mouse(browser):
    with drive(browser, PositionExplorer(pair=4, position=20)) as driver:
        canvas = driver.page.locator("canvas").first
        canvas.focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowUp"):
            canvas.press(key)
        driver.settle()
        assert (driver.widget.position, driver.widget.pair) == (21, 5)
        assert_wave(driver)
        box = canvas.bounding_box()
        left, right, top, bottom = 58, 70, 8, 42  # the map's margins
        x = left + (box["width"] - left - right) * 10.5 / 64
        y = top + (box["height"] - top - bottom) * 40.5 / 64
        canvas.click(position={"x": x, "y": y})
        driver.settle()
        assert (driver.widget.position, driver.widget.pair) == (40, 5)
        canvas.click(position={"x": 5, "y": 5})  # the margin selects nothing
        driver.settle()
        assert (driver.widget.position, driver.widget.pair) == (40, 5)


def test_position_map_shows_the_values(browser):
    with drive(browser, PositionExplorer(pair=31, position=63), width=1000) as driver:
        values = sinusoidal_positions(64, 64).numpy()
        url = driver.page.evaluate("document.querySelector('.zoo-widget canvas').toDataURL()")
        picture = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB")
        width, height = picture.width - 58 - 70, picture.height - 8 - 42  # the map's margins
        for row, column in ((0, 0), (5, 1), (50, 3), (33, 12), (62, 40)):
            place = 58 + width * (column + 0.5) / 64, 8 + height * (row + 0.5) / 64
            shown = picture.getpixel(tuple(int(v) for v in place))
            expected = 255 * np.array(cividis((values[row, column] + 1) / 2)[:3])
            np.testing.assert_allclose(shown, expected, atol=8)


def assert_products(driver: Driver, square: np.ndarray) -> None:
    position = driver.widget.position
    row = square[position]
    assert driver.number("distance 0 it is") == pytest.approx(row[position], abs=2e-3)
    near = 1 if position + 1 < len(row) else -1
    shown = driver.number(f"distance {near} it is")
    assert shown == pytest.approx(row[position + near], abs=2e-3)
    means = [np.diagonal(square, k - position).mean() for k in range(len(row))]
    worst = np.abs(row - means).max()
    if worst < 1e-3 * np.ptp(square):
        assert "only the distance counts" in driver.readout()
    else:
        assert driver.number("mean by up to") == pytest.approx(worst, abs=2e-3)


def test_dot_products_against_distance(browser):
    learned = table()
    with drive(browser, PositionExplorer({"learned": learned})) as driver:
        driver.choose("show", "products")
        values = sinusoidal_positions(64, 64).numpy()
        assert_products(driver, values @ values.T)
        assert "only the distance counts" in driver.readout()
        driver.press("position p", "End")
        assert_products(driver, values @ values.T)
        driver.choose("encoding", "learned")
        assert driver.widget.position == 23  # moved inside the shorter table
        assert_products(driver, learned @ learned.T)
        assert "depends on the place" in driver.readout()
        assert not driver.control("base").is_visible()
        driver.choose("show", "waves")
        shown = re.search(r"they are (\S+) and (\S+)\. A", driver.readout()).groups()
        pair = driver.widget.pair
        np.testing.assert_allclose(
            [float(v) for v in shown], learned[23, 2 * pair : 2 * pair + 2], atol=1e-3
        )
        assert "no fixed wavelength" in driver.readout()


def test_relative_bias_by_head(browser):
    values = bias()
    with drive(browser, PositionExplorer(biases={"T5": values}, source="T5", position=7)) as driver:
        assert not driver.control("pair i").is_visible()
        assert not driver.control("show").is_visible()
        assert_products(driver, values[0, 0].numpy())
        driver.press("head", "End")
        assert driver.widget.head == 2
        assert_products(driver, values[0, 2].numpy())
        driver.drag("query", 1.0)
        assert driver.widget.position == 19
        assert_products(driver, values[0, 2].numpy())


# ------------------------------------------------------------------ RoPE rotor


def assert_rope(driver: Driver) -> None:
    widget = driver.widget
    m, n = widget.m + widget.shift, widget.n + widget.shift
    pairs = widget.head_dim // 2
    rotary = Rotary(widget.head_dim, widget.base, interleaved=True)
    turned = []
    for name, position in (("q", m), ("k", n)):
        angles = widget.angles[name][:pairs] if widget.vectors == "random" else [0.5] * pairs
        angle = torch.tensor(angles, dtype=torch.float64)
        vector = torch.stack([angle.cos(), angle.sin()], -1).flatten()[None]
        turned.append(rotary.rotate(vector, position))
    products = (turned[0] * turned[1]).unflatten(-1, (pairs, 2)).sum(-1)[0]
    theta = widget.base ** (-2 * widget.pair / widget.head_dim)
    assert driver.number("θ =") == pytest.approx(theta, rel=1e-3)
    assert driver.number(rf"q at {m} turns by") == pytest.approx(m * theta, abs=6e-4)
    assert driver.number(rf"k at {n} by") == pytest.approx(n * theta, abs=6e-4)
    shown = driver.number("Product of this pair")
    assert shown == pytest.approx(products[widget.pair].item(), abs=6e-4)
    assert driver.number("pairs") == pytest.approx(products.sum().item(), abs=6e-4)
    assert f"m − n = {m - n}" in driver.readout()


def test_rope_sliders(browser):
    with drive(browser, RoPERotor()) as driver:
        assert_rope(driver)
        driver.press("query's position m", "ArrowRight", "PageUp")
        assert driver.widget.m > 13
        assert_rope(driver)
        driver.drag("key's position n", 0.7)
        assert driver.widget.n > 60
        assert_rope(driver)
        driver.choose("vectors", "random")
        assert_rope(driver)
        driver.press("head_dim", "Home")
        assert (driver.widget.head_dim, driver.widget.pair) == (8, 3)
        assert_rope(driver)
        driver.press("pair i", "Home")
        driver.press("base", "Home")
        assert (driver.widget.pair, driver.widget.base) == (0, 10)
        assert_rope(driver)


def test_shifting_both_positions_keeps_the_products(browser):
    with drive(browser, RoPERotor(vectors="random", m=30, n=9)) as driver:
        before = driver.number("Product of this pair"), driver.number("pairs")
        picture = "document.querySelector('.zoo-widget canvas').toDataURL()"
        circle = driver.page.evaluate(picture)
        driver.drag("shift both by", 0.6)
        assert driver.widget.shift > 400
        assert_rope(driver)
        assert (driver.number("Product of this pair"), driver.number("pairs")) == before
        assert driver.number("Without the shift they are") == before[0]
        assert driver.page.evaluate(picture) != circle  # the arrows did turn


# ------------------------------------------------------------------ schedule explorer


def test_schedules_are_pythons_on_a_grid(browser):
    cases = [
        {"warmup_steps": warmup, "total_steps": total, "final_fraction": final}
        for warmup in (1, 7, 40)
        for total in (50, 1000)
        for final in (0.0, 0.1, 1.0)
    ]
    steps = [0, 1, 5, 6, 7, 8, 39, 40, 41, 49, 50, 500, 999, 1000, 5000]
    with drive(browser, ScheduleExplorer()) as driver:
        rates = driver.page.evaluate(
            """async ([esm, cases, steps]) => {
                const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
                const { SCHEDULES } = (await import(url)).default;
                return Object.fromEntries(Object.entries(SCHEDULES).map(([name, fn]) =>
                    [name, cases.map((options) => steps.map((step) => fn(step, options)))]));
            }""",
            [driver.widget._esm, cases, steps],
        )
    assert set(rates) == set(SCHEDULES)
    for name, function in SCHEDULES.items():
        used = {"constant": 1, "warmup_inverse_sqrt": 1}.get(name, 3)
        for case, row in zip(cases, rates[name], strict=True):
            options = dict(list(case.items())[:used])
            expected = [function(step, **options) for step in steps]
            np.testing.assert_allclose(row, expected, rtol=1e-12, atol=1e-15)


def assert_schedule(driver: Driver) -> None:
    widget = driver.widget
    rate = widget.rate()
    assert driver.number("Update") == widget.step
    assert driver.number("learning rate") == pytest.approx(rate, rel=6e-3, abs=1e-12)
    share = re.search(r"([\d.]+) % of the peak", driver.readout())[1]
    assert float(share) == pytest.approx(100 * rate / widget.peak_rate, abs=0.06)
    canvas = driver.page.locator("canvas")
    assert canvas.get_attribute("aria-valuenow") == str(widget.step)
    assert canvas.get_attribute("aria-valuetext") == driver.readout()


def test_schedule_controls(browser):
    with drive(browser, ScheduleExplorer()) as driver:
        for name in SCHEDULES:
            driver.choose("schedule", name)
            assert driver.widget.schedule == name
            assert_schedule(driver)
            has_floor = name in ("warmup_cosine", "warmup_linear")
            assert driver.control("final fraction").is_enabled() == has_floor
        driver.press("final fraction", "ArrowRight", "ArrowRight")
        assert driver.widget.final_fraction == pytest.approx(0.1)
        assert_schedule(driver)
        driver.press("peak rate", "ArrowRight")
        assert driver.widget.peak_rate == 2e-3
        assert_schedule(driver)
        driver.drag("warm-up steps", 0.9)
        assert driver.widget.warmup_steps > 700
        assert_schedule(driver)
        driver.press("total steps", "Home")
        assert (driver.widget.total_steps, driver.widget.warmup_steps) == (50, 49)
        assert driver.widget.step == 49
        assert_schedule(driver)


def test_schedule_cursor(browser):
    with drive(browser, ScheduleExplorer(step=300)) as driver:
        canvas = driver.page.locator("canvas")
        moves = {"ArrowRight": 301, "ArrowDown": 300, "PageUp": 350, "PageDown": 300}
        canvas.focus()
        for key, expected in {**moves, "End": 999, "Home": 0, "ArrowLeft": 0}.items():
            canvas.press(key)
            driver.settle()
            assert driver.widget.step == expected
            assert_schedule(driver)
        box = canvas.bounding_box()
        canvas.hover(position={"x": 58 + (box["width"] - 58 - 16) * 0.75, "y": 150})
        driver.settle()
        assert driver.widget.step == pytest.approx(750, abs=2)
        assert_schedule(driver)


# ------------------------------------------------------------------ zoo map


def write_notebook(path: Path, source: str = "") -> None:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(source)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout in which only lessons 00 and 01 are written."""
    (tmp_path / "data").mkdir()
    (tmp_path / "notebooks").mkdir()
    for slug in ("00_start_here", "01_attention"):
        write_notebook(tmp_path / "notebooks" / f"{slug}.ipynb")
    monkeypatch.setenv("ZOO_LESSONS_ROOT", str(tmp_path))
    return tmp_path


def related(driver: Driver) -> set[str]:
    nodes = driver.page.locator(".zm-related").all()
    return {node.get_attribute("data-id") for node in nodes}


def part(driver: Driver, id: str) -> Any:
    return driver.page.locator(f'[data-id="{id}"]').last


def test_pointing_at_a_part_highlights_its_models_and_back(browser):
    with drive(browser, ZooMap()) as driver:
        part(driver, "cross_attention").hover()
        driver.opened.frame()
        users = {x.id for x in curriculum.MODELS if "cross_attention" in x.components}
        assert related(driver) == {*users, "04"}
        assert driver.readout().startswith("Cross-attention is used in: ")
        part(driver, "mamba").hover()
        driver.opened.frame()
        assert set(curriculum.model("mamba").components) < related(driver)
        driver.page.mouse.move(1, 1)
        driver.opened.frame()
        assert set(curriculum.model("transformer").components) < related(driver)


def test_every_highlight_is_the_curriculums(browser):
    with drive(browser, ZooMap()) as driver:
        for entry in curriculum.COMPONENTS:
            driver.opened.set(selected=entry.id)
            driver.opened.frame()
            users = {user.id for user in curriculum.MODELS if entry.id in user.components}
            assert related(driver) == {*users, entry.lesson}
            assert all(curriculum.model(user).name in driver.readout() for user in users)


def test_a_click_shows_a_sentence_and_the_lesson(browser, checkout):
    with drive(browser, ZooMap()) as driver:
        part(driver, "causal_mask").click()
        driver.settle()
        assert driver.widget.selected == "causal_mask"
        assert part(driver, "causal_mask").get_attribute("aria-pressed") == "true"
        detail = driver.page.locator(".zm-detail")
        assert curriculum.component("causal_mask").description in detail.inner_text()
        link = detail.locator("a")
        assert link.get_attribute("href") == "01_attention.ipynb"
        assert f"Attention ({curriculum.lesson('01').minutes} min)" in link.inner_text()
        part(driver, "clip").click()
        driver.settle()
        assert detail.locator("a").count() == 0
        assert "Lesson 12, CLIP: planned" in detail.inner_text()
        planned = driver.page.locator(".zm-planned")
        assert planned.count() == len(curriculum.LESSONS) - 2
        assert "dashed: planned" in driver.page.locator(".zoo-widget").inner_text()


def test_a_map_of_a_whole_course_says_nothing_of_plans(browser):
    with drive(browser, ZooMap()) as driver:
        for entry in ("causal_mask", "clip", "24"):
            part(driver, entry).click()
            driver.settle()
            text = driver.page.locator(".zoo-widget").inner_text()
            assert "planned" not in text
            assert "undefined" not in text


def test_map_by_keyboard(browser):
    with drive(browser, ZooMap()) as driver:
        stops = driver.page.locator('.zm-node[tabindex="0"]')
        assert stops.count() == 4  # one tab stop per band
        stops.nth(1).focus()
        for key in ("ArrowDown", "ArrowRight", "Enter"):
            driver.page.keyboard.press(key)
        driver.settle()
        assert driver.widget.selected == "causal_mask"
        assert driver.readout().startswith("Causal mask is used in: Transformer")
        driver.page.keyboard.press("End")
        driver.page.keyboard.press("Space")
        driver.settle()
        assert driver.widget.selected == "online_softmax"
        assert "FlashAttention (outside the course)" in driver.readout()
        assert stops.count() == 4


def test_routes_mark_their_lessons(browser):
    with drive(browser, ZooMap()) as driver:
        for route in curriculum.ROUTES:
            driver.choose("highlight a route", route.id)
            assert driver.widget.route == route.id
            stops = driver.page.locator(".zm-number.zm-stop").all_inner_texts()
            assert stops == sorted(stop.lesson for stop in route.stops)
            note = driver.page.locator(".zm-route").inner_text()
            hours = f"{route.minutes // 60} h {route.minutes % 60} min"
            assert note == f"{len(stops)} lessons, {hours}. {route.purpose}"
        driver.choose("highlight a route", "")
        assert driver.page.locator(".zm-stop").count() == 0


def test_link_opens_the_lesson_as_a_tab_in_jupyterlab(browser, checkout):
    source = "from zoo_lessons.lab.widgets import ZooMap\nZooMap(selected='causal_mask')"
    write_notebook(checkout / START, source)
    with Lab(browser, checkout / "notebooks") as lab, lab.open(START) as opened:
        opened.run_all()
        page = opened.page
        page.evaluate("window.marker = 1")
        page.locator(".zm-detail a").click()
        page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget?.context?.path === "
            "'notebooks/01_attention.ipynb'"
        )
        assert page.evaluate("window.marker") == 1  # a tab, not another page
        assert opened.problems() == []
