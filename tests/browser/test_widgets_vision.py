"""The widgets of the vision lessons in a browser: numbers, pictures, pointer, keys, speed."""

from __future__ import annotations

import re
from typing import Any

import nbformat
import numpy as np
import pytest

from tests.browser.widget_page import (
    WidgetPage,
    assert_well_behaved,
    open_widget,
    settle,
    slider_latency,
)
from zoo_lessons.lab.widgets import (
    AttentionExplorer,
    MaskedImageExplorer,
    PatchExplorer,
    WindowExplorer,
)

CIVIDIS_TOP = [254, 232, 56]


def photo(height: int = 64, width: int = 96) -> np.ndarray:
    """A picture whose pixels all differ, so that a wrong place shows."""
    down, across = np.mgrid[0:height, 0:width]
    return np.stack([down / height, across / width, (down + across) % 2 * 0.5], axis=-1)


def patches() -> PatchExplorer:
    return PatchExplorer(photo(70, 100), (4, 8, 16, 32), d_model=64)


def weights(*shape: int) -> np.ndarray:
    exp = np.exp(np.random.default_rng(0).normal(size=shape, scale=2))
    return (exp / exp.sum(-1, keepdims=True)).astype(np.float32)


def attention(**options: Any) -> AttentionExplorer:
    """4 × 6 patches of 16 × 16 pixels, and a class token."""
    maps = weights(4, 25, 25).reshape(2, 2, 25, 25)
    return AttentionExplorer(maps, image=photo(), rollout=weights(25, 25)[::-1], **options)


def windows(**options: Any) -> WindowExplorer:
    return WindowExplorer(8, 12, 4, **options)


def masked(**options: Any) -> MaskedImageExplorer:
    """Two images of 4 × 4 patches, three ratios, two masks each; painted in plain red."""
    rng = np.random.default_rng(0)
    images = np.stack([photo(32, 32), photo(32, 32)[::-1]])
    ratios, masks = [0.0, 0.25, 0.75], np.zeros((2, 3, 2, 16))
    for place in np.ndindex(2, 3, 2):
        masks[place][rng.permutation(16)[: int(16 * ratios[place[1]])]] = 1
    painted = np.broadcast_to([1.0, 0.0, 0.0], (2, 3, 2, 32, 32, 3))
    return MaskedImageExplorer(images, painted, masks, ratios, names=["one", "two"], **options)


def canvas(shown: WidgetPage, label: str) -> Any:
    return shown.root.locator(f"canvas[aria-label^='{label}']")


def slider(shown: WidgetPage, name: str) -> Any:
    return shown.page.get_by_role("slider", name=name, exact=True)


def pixel(shown: WidgetPage, label: str, x: float, y: float) -> list[int]:
    return shown.pixel(f"canvas[aria-label^='{label}']", x, y)[:3]


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 360)])
@pytest.mark.parametrize("make", [patches, attention, windows, masked])
def test_accessible_quiet_and_fit_for_a_narrow_window(browser, make, theme, width):
    with open_widget(browser, make(), theme=theme, width=width) as shown:
        assert_well_behaved(shown)


# ------------------------------------------------------------------ patch explorer


def test_patch_costs_are_pythons(browser):
    with open_widget(browser, patches()) as shown:
        explorer = shown.widget
        slider(shown, "Patch size").press("Home")
        for size in explorer.patch_sizes:
            settle(shown)
            assert explorer.patch_size == size
            costs, (rows, columns) = explorer.costs(), explorer.grid
            facts = shown.root.locator("dd").all_inner_texts()
            parts = [costs[name] for name in ("attention", "projections", "feed-forward")]
            assert facts == [
                f"{rows} × {columns}",
                f"{3 * size**2:,}",
                f"{costs['tokens']:,}",
                f"{costs['scores']:,}",
                f"{sum(parts):,}" if sum(parts) < 1e8 else f"{sum(parts) / 1e9:.3g} · 10⁹",
            ]
            shares = re.findall(r"([\d.]+) %", shown.root.locator(".zoo-legend").inner_text())
            assert shares == [f"{100 * part / sum(parts):.1f}" for part in parts]
            slider(shown, "Patch size").press("ArrowRight")
        assert "cropped from 70 × 100" in shown.root.inner_text()


def test_pointer_and_keys_pick_a_patch(browser):
    with open_widget(browser, patches()) as shown:
        explorer = shown.widget  # 4 × 6 patches of 16
        image = canvas(shown, "Image in patches")
        box = image.bounding_box()
        image.hover(position={"x": box["width"] * 4.5 / 6, "y": box["height"] * 1.5 / 4})
        settle(shown)
        assert explorer.patch == 10
        assert "Patch 10 of 24: row 1, column 4, pixels 16 to 31 down" in shown.readout()
        shown.page.mouse.move(0, 0)
        for key, expected in (
            ("ArrowDown", 16),
            ("ArrowRight", 17),
            ("ArrowRight", 17),
            ("End", 23),
            ("Home", 0),
            ("ArrowUp", 0),
        ):
            image.press(key)
            settle(shown)
            assert explorer.patch == expected
        shown.set(patch=13)
        colour = pixel(shown, "Patch 13, enlarged", 0.01, 0.01)
        corner = np.frombuffer(explorer._payload["pixels"], np.uint8).reshape(64, 96, 3)[32, 16]
        assert colour == corner.tolist()
        assert "token 14 of the sequence" in shown.readout()
        slider(shown, "Patch size").press("ArrowLeft")  # half the side: the pick stays in place
        settle(shown)
        assert (explorer.patch_size, divmod(explorer.patch, 12)) == (8, (5, 3))
        shown.set(patch_size=32)
        assert "of 6:" in shown.readout()


# ------------------------------------------------------------------ attention over an image


def test_the_query_is_chosen_on_the_image(browser):
    with open_widget(browser, attention(head=1)) as shown:
        explorer = shown.widget
        image = canvas(shown, "Image. Arrow")
        token = shown.page.get_by_role("button", name="Class token")
        assert token.get_attribute("aria-pressed") == "true"
        assert "from the class token" in shown.readout()
        box = image.bounding_box()
        image.click(position={"x": box["width"] * 5.5 / 6, "y": box["height"] * 0.5 / 4})
        settle(shown)
        assert explorer.query == 6  # patch 5, after the class token
        assert token.get_attribute("aria-pressed") == "false"
        image.press("ArrowDown")
        image.press("ArrowLeft")
        settle(shown)
        assert explorer.query == 11
        expected = explorer.weights[0, 1, 11]
        highest = int(expected[1:].argmax())
        where = f"patch {highest} (row {highest // 6}, column {highest % 6})"
        assert f"Highest: {where} {expected[highest + 1]:.3f}" in shown.readout()
        assert f"On the class token: {expected[0]:.3f}" in shown.readout()
        token.click()
        settle(shown)
        assert explorer.query == 0
        image.press("ArrowUp")  # from the class token to the middle
        settle(shown)
        assert explorer.query == 1 + 2 * 6 + 3


def test_weights_are_read_by_keys_and_pointer(browser):
    with open_widget(browser, attention(query=3)) as shown:
        explorer = shown.widget
        looks = canvas(shown, "Weights over")

        def assert_read(patch: int) -> None:
            settle(shown)
            reading = re.search(r"→ patch (\d+) \(.*?\) = (\d\.\d+)", shown.readout())
            assert int(reading[1]) == patch
            assert float(reading[2]) == pytest.approx(explorer.shown()[patch + 1], abs=1e-4)

        for key, patch in (("ArrowLeft", 2), ("ArrowLeft", 1), ("ArrowDown", 7)):
            looks.press(key)
            assert_read(patch)
        slider(shown, "Head").press("Home")  # the mean; leaving ends the reading
        settle(shown)
        assert explorer.head == -1
        assert "Layer 0, mean of heads: from patch 2" in shown.readout()
        box = looks.bounding_box()
        looks.hover(position={"x": box["width"] * 1.5 / 6, "y": box["height"] * 3.5 / 4})
        assert_read(19)
        slider(shown, "Layer").press("End")
        assert_read(19)
        assert shown.readout().startswith("Rollout: from patch 2")
        assert slider(shown, "Head").is_disabled()
        looks.press("Enter")
        settle(shown)
        assert explorer.query == 20
        assert "(row 3, column 1)" in shown.root.inner_text()


def test_colours_lie_over_the_grey_image(browser):
    with open_widget(browser, attention(query=8, opacity=1.0)) as shown:
        explorer = shown.widget
        row, column = divmod(int(explorer.shown()[1:].argmax()), 6)
        at = ((column + 0.4) / 6, (row + 0.4) / 4)
        assert pixel(shown, "Weights over", *at) == CIVIDIS_TOP
        shown.page.get_by_label("Scale to the maximum").uncheck()
        settle(shown)
        assert pixel(shown, "Weights over", *at) != CIVIDIS_TOP
        slider(shown, "Opacity").press("Home")
        settle(shown)
        assert explorer.opacity == 0
        red, green, blue = pixel(shown, "Weights over", *at)
        assert red == green == blue


def test_the_overview_opens_heads_and_rollout(browser):
    with open_widget(browser, attention()) as shown:
        explorer = shown.widget
        overview = canvas(shown, "All heads")
        for keys, expected in (
            (["ArrowDown", "ArrowRight"], (1, 1)),
            (["ArrowLeft", "ArrowLeft", "ArrowLeft"], (1, -1)),
            (["ArrowDown", "ArrowDown"], (2, -1)),
            (["ArrowUp"], (1, -1)),
        ):
            for key in keys:
                overview.press(key)
            settle(shown)
            assert (explorer.layer, explorer.head) == expected
        box = overview.bounding_box()
        overview.click(position={"x": box["width"] - 10, "y": 30})
        settle(shown)
        assert (explorer.layer, explorer.head) == (0, 1)
        shown.set(layer=2)
        assert "Rollout" in shown.readout()
        explorer.update(weights(1, 1, 25, 25), image=photo()[::-1])
        shown.push()
        assert "Layer 0, head 0" in shown.readout()
        assert slider(shown, "Layer").is_disabled()
        assert shown.problems == []


# ------------------------------------------------------------------ window explorer


def test_the_script_follows_windows_as_python_does(browser):
    """Python's side is compared with the library's Swin in tests/lab/widgets."""
    cases, expected = [], []
    for rows, columns, size in ((8, 8, 4), (6, 9, 3), (4, 12, 4), (12, 8, 2)):
        shown = WindowExplorer(rows, columns, size)
        for shown.shifted in (True, False):
            for shown.layers in (1, 2, 3, 6):
                for shown.query in (0, columns - 1, rows * columns // 2 + 1, rows * columns - 1):
                    grid = {"rows": rows, "columns": columns}
                    names = ("window_size", "shifted", "layers", "query")
                    cases.append([grid, {name: getattr(shown, name) for name in names}])
                    reach, rolled = shown.reach().ravel(), shown.rolled().ravel()
                    expected.append((reach.tolist(), rolled.tolist(), shown.mask().tolist()))
    page = browser.new_page()
    try:
        drawn = page.evaluate(
            """async ([esm, cases]) => {
                const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
                const we = (await import(url)).default;
                return cases.map(([grid, state]) => {
                    const { rolled, tokens, allows } = we.weWindow(grid, state);
                    const mask = tokens.map((_, i) => tokens.map((_, j) => allows(i, j)));
                    return [[...we.weReach(grid, state)], [...rolled], mask];
                });
            }""",
            [shown._esm, cases],
        )
    finally:
        page.close()
    for case, ours, theirs in zip(cases, expected, drawn, strict=True):
        assert tuple(theirs) == ours, case


def test_controls_change_the_reach(browser):
    with open_widget(browser, windows(query=41)) as shown:
        explorer = shown.widget  # 8 × 12 tokens, windows of 4

        def assert_shown() -> None:
            settle(shown)
            count, all_tokens = int((explorer.reach() >= 0).sum()), 96
            layers = f"{explorer.layers} layer{'s' * (explorer.layers > 1)}"
            heading = f"After {layers}: {count} of {all_tokens} tokens"
            assert heading in shown.root.inner_text()
            share = f"{100 * count / all_tokens:.0f} %"
            assert f"{count} of {all_tokens} tokens ({share})" in shown.readout()

        assert_shown()
        grid = canvas(shown, "Token grid")
        for key, query in (("ArrowUp", 29), ("ArrowRight", 30), ("ArrowLeft", 29)):
            grid.press(key)
            assert_shown()
            assert explorer.query == query
        box = grid.bounding_box()
        grid.click(position={"x": box["width"] * 11.5 / 12, "y": box["height"] * 7.5 / 8})
        assert_shown()
        assert explorer.query == 95
        kept = int(explorer.mask()[explorer.rolled()[4:, 8:].ravel().tolist().index(95)].sum())
        assert f"may attend to {kept} of the 16 tokens" in shown.readout()
        for name, key in (("Layers", "ArrowRight"), ("Layers", "Home"), ("Window", "Home")):
            slider(shown, name).press(key)
            assert_shown()
        assert (explorer.layers, explorer.window_size) == (1, 2)
        assert "no shift, no roll" in shown.root.inner_text()
        shown.page.get_by_label("Shift every second layer").uncheck()
        shown.set(layers=6)
        assert_shown()
        assert "Without shifts it never gets more" in shown.readout()


# ------------------------------------------------------------------ masked image explorer


def test_masks_and_losses_are_pythons(browser):
    with open_widget(browser, masked()) as shown:
        explorer = shown.widget

        def assert_shown() -> None:
            settle(shown)
            hidden = int(explorer.mask.sum())
            assert f"mask {explorer.draw + 1} of 2: {hidden} of 16" in shown.readout()
            loss = f"{explorer.loss:.4f}" if hidden else "no loss"
            assert loss in shown.readout()
            if hidden:
                row, column = np.argwhere(explorer.mask)[0]
                at = ((column + 0.5) / 4, (row + 0.5) / 4)
                assert pixel(shown, "Reconstruction", *at) == [255, 0, 0]

        assert_shown()
        another = shown.page.get_by_role("button", name="Another mask")
        for draw in (1, 0):
            another.click()
            assert_shown()
            assert explorer.draw == draw
        shown.page.get_by_role("combobox", name="Image", exact=True).select_option(label="two")
        assert_shown()
        assert shown.readout().startswith("two,")
        for key, ratio in (("ArrowLeft", 1), ("ArrowLeft", 0), ("End", 2)):
            slider(shown, "Hidden").press(key)
            assert_shown()
            assert explorer.ratio == ratio
        shown.set(image=0, ratio=1, draw=1)
        assert_shown()
        assert f"{explorer.bytes_sent / 1e6:.1f} MB, sent once" in shown.root.inner_text()


def test_visible_patches_are_pasted_or_painted(browser):
    with open_widget(browser, masked()) as shown:
        row, column = np.argwhere(~shown.widget.mask)[0]
        at = ((column + 0.5) / 4, (row + 0.5) / 4)
        original = pixel(shown, "Original", *at)
        assert pixel(shown, "Reconstruction", *at) == original != [255, 0, 0]
        shown.page.get_by_label("Paste the visible patches").uncheck()
        settle(shown)
        assert pixel(shown, "Reconstruction", *at) == [255, 0, 0]
        assert shown.widget.paste is False


def test_the_loss_of_each_patch_can_be_read(browser):
    with open_widget(browser, masked()) as shown:
        explorer = shown.widget
        heat = canvas(shown, "Loss of each")
        for key, patch in (("ArrowRight", 0), ("ArrowRight", 1), ("ArrowDown", 5)):
            heat.press(key)
            settle(shown)
            assert explorer.patch == patch
        places = {True: np.argwhere(explorer.mask)[0], False: np.argwhere(~explorer.mask)[0]}
        for hidden, (row, column) in places.items():
            box = heat.bounding_box()
            cell = box["width"] / 4
            heat.hover(position={"x": (column + 0.5) * cell, "y": (row + 0.5) * cell})
            settle(shown)
            loss = f"loss {explorer.patch_losses[row, column]:.4f}"
            expected = f"hidden, {loss}" if hidden else "visible, left out of the loss"
            assert f"(row {row}, column {column}): {expected}" in shown.readout()


# ------------------------------------------------------------------ speed, and in JupyterLab

# The aim is 50 ms. Other work on this machine can stretch it; ten times that is a regression.
SLOWEST_MS = 500


def vit_sized() -> AttentionExplorer:
    """A ViT-Small's worth of tokens: 196 patches and a class token, 6 layers of 6 heads."""
    return AttentionExplorer(weights(6, 6, 197, 197), image=photo(224, 224))


@pytest.mark.parametrize(("make", "label"), [(vit_sized, "Layer"), (windows, "Layers")])
def test_a_slider_answers_within_a_frame_or_two(browser, make, label, record_property):
    with open_widget(browser, make()) as shown:
        latency = slider_latency(shown.page, label, moves=20)
    record_property(f"slider_to_frame_ms_{make.__name__}", latency)
    print(f"slider to frame, {make.__name__}: {latency}")
    assert latency["p95"] < SLOWEST_MS, latency


LAB_CELLS = [
    """
import numpy as np
from zoo_lessons.lab.widgets import AttentionExplorer, MaskedImageExplorer
from zoo_lessons.lab.widgets import PatchExplorer, WindowExplorer

image = np.random.default_rng(0).random((32, 48, 3))
patches = PatchExplorer(image, (4, 8, 16))
patches
""",
    """
explorer = AttentionExplorer(np.full((2, 3, 25, 25), 1 / 25), image=image, rollout=np.eye(25))
explorer
""",
    "WindowExplorer()",
    """
masks = (np.arange(24) < 12).astype(float)[None, None, None]
MaskedImageExplorer(image[None], image[None, None, None] * 0.5, masks, [0.5])
""",
    "patches.patch_size, explorer.query, explorer.layer",
]


def test_in_jupyterlab(lab):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in LAB_CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab.root / "notebooks" / "95_vision.ipynb")
    with lab.open("notebooks/95_vision.ipynb") as opened:
        opened.run_all()
        page = opened.page
        patch_widget, attention_widget = page.locator(".zoo-widget").all()[:2]
        patch_widget.get_by_role("slider", name="Patch size").press("End")
        attention_widget.locator("canvas").first.press("ArrowDown")
        attention_widget.get_by_role("slider", name="Layer").press("End")
        assert page.locator(".jp-Notebook .jp-Cell").count() == len(LAB_CELLS)
        for theme in ("light", "dark"):
            opened.set_theme(theme)
            assert opened.axe(".zoo-widget") == []
        assert opened.problems() == []
        page.locator(".jp-Notebook .jp-Cell").last.click()
        opened.execute("notebook:run-cell")
        page.locator(".jp-OutputArea-output", has_text="(16, 16, 2)").wait_for()
