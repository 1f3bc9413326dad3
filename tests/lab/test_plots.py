"""Figures: style, labels, and what a notebook stores of them."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace

import matplotlib

matplotlib.use("agg")

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from zoo_lessons.lab.plots import (
    COLORS,
    heatmap,
    heatmaps,
    lines,
    show_figure,
    training_curves,
    use_style,
)


@pytest.fixture(autouse=True)
def course_style():
    with matplotlib.rc_context():
        use_style()
        yield
    plt.close("all")


def figure():
    return lines({"a": [1, 2, 3]}, title="Title", x_axis="x", y_axis="y")


def show(*args):
    """The outputs of show_figure, as a notebook would store them."""
    InteractiveShell.instance()  # without a shell, display() prints
    with capture_output() as captured:
        show_figure(*args)
    assert len(captured.outputs) == 2
    return captured.outputs


def test_a_figure_is_stored_as_png_with_alt_text_and_a_caption():
    picture, caption = show(figure(), "It <rises>.", "A rising line.")
    assert picture.metadata["image/png"] == {"alt": "A rising line."}
    assert picture.data["text/plain"] == "A rising line."
    assert "It &lt;rises&gt;." in caption.data["text/html"]
    assert "A rising line." in caption.data["text/html"], "screen readers in Lab need it here"
    assert caption.data["text/plain"] == "Figure. It <rises>."


def test_nothing_but_the_png_depends_on_the_processor():
    """nbval compares every kind of data except image/png."""
    first, second = show(figure(), "c", "a"), show(heatmap(np.eye(3), title="t"), "c", "a")
    for one, other in zip(first, second, strict=True):
        assert {**one.data, "image/png": ""} == {**other.data, "image/png": ""}


def test_the_same_figure_gives_the_same_bytes_without_metadata():
    (first, _), (second, _) = show(figure(), "c", "a"), show(figure(), "c", "a")
    assert first.data["image/png"] == second.data["image/png"]
    png = base64.b64decode(first.data["image/png"])
    assert b"tEXt" not in png and b"matplotlib" not in png.lower()


def test_a_figure_is_at_most_900_pixels_wide_on_white_and_closed():
    fig = heatmaps({str(n): np.eye(30) for n in range(7)}, title="Many")
    (picture, _) = show(fig, "c", "a")
    pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(picture.data["image/png"])))
    assert pixels.shape[1] <= 900
    np.testing.assert_array_equal(pixels[0, 0], [1, 1, 1, 1])
    assert not plt.get_fignums()


@pytest.mark.parametrize("caption, alt, missing", [(" ", "a", "caption"), ("c", "", "alt")])
def test_texts_must_be_there(caption, alt, missing):
    with pytest.raises(ValueError, match=f"needs a {missing}"):
        show_figure(figure(), caption, alt)


def test_a_figure_too_wide_for_a_page_is_refused():
    with pytest.raises(ValueError, match="20 inches wide, at most 9"):
        show_figure(plt.figure(figsize=(20, 3)), "c", "a")


def test_heatmap_has_labels_numbers_and_readable_contrast():
    fig = heatmap(
        [[0.0, 1.0], [0.25, 0.75]],
        ["cat", "sat"],
        ["the", "mat"],
        title="Weights",
        row_axis="query",
        column_axis="key",
        value="weight",
        numbers=True,
        limits=(0, 1),
    )
    ax = fig.axes[0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["the", "mat"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["cat", "sat"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("key", "query", "Weights")
    written = {text.get_text(): text.get_color() for text in ax.texts}
    assert written == {"0.00": "white", "1.00": "black", "0.25": "white", "0.75": "black"}


def test_panels_share_one_colour_scale():
    fig = heatmaps({"a": np.zeros((2, 2)), "b": np.full((2, 2), 5.0)}, title="Both")
    limits = [ax.images[0].get_clim() for ax in fig.axes[:2]]
    assert limits == [(0.0, 5.0), (0.0, 5.0)]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: heatmap(np.zeros(3), title="t"), "one shape"),
        (lambda: heatmap(np.eye(2), ["a"], title="t"), "1 row labels for 2 rows"),
        (lambda: heatmaps({"a": np.eye(2), "b": np.eye(3)}), "one shape"),
        (
            lambda: lines({"a": [1, 2]}, [1, 2, 3], title="", x_axis="", y_axis=""),
            "expected .* 3 points",
        ),
        (lambda: lines({"a": [1]}, title="", x_axis="", y_axis="", log="z"), "log must be"),
        (
            lambda: training_curves(
                {"a": SimpleNamespace(step=[1, 2], loss=[1, 2])}, title="", smooth=3
            ),
            "between 1 and the 2 steps",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_seeds_become_a_mean_and_a_band():
    runs = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])
    fig = lines({"runs": runs, "one": [0, 0, 0]}, title="t", x_axis="x", y_axis="y")
    ax = fig.axes[0]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [2, 3, 4])
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 1 and band[:, 1].max() == 5
    assert ax.get_legend().get_title().get_text() == "mean and range\nof 2 seeds"


def test_lines_differ_in_more_than_colour():
    fig = lines({str(n): [n] * 30 for n in range(4)}, title="t", x_axis="x", y_axis="y", log="y")
    drawn = fig.axes[0].lines
    assert len({line.get_linestyle() for line in drawn}) == 4
    assert [line.get_color() for line in drawn] == list(COLORS[:4])
    assert fig.axes[0].get_yscale() == "log"


def test_training_curves_are_running_means():
    history = SimpleNamespace(step=np.arange(1, 7), loss=np.array([6.0, 5, 4, 3, 2, 1]))
    fig = training_curves({"run": history}, title="Loss", smooth=3)
    raw, mean = fig.axes[0].lines
    np.testing.assert_allclose(raw.get_ydata(), history.loss)
    np.testing.assert_allclose(mean.get_ydata(), [5, 4, 3, 2])
    np.testing.assert_allclose(mean.get_xdata(), [3, 4, 5, 6])
    assert fig.axes[0].get_ylabel() == "loss (running mean of 3 steps)"
