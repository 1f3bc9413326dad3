"""Block diagrams: every box and label is drawn, and a wrong kind is refused."""

import matplotlib.pyplot as plt
import pytest

from zoo_lessons.lab.diagrams import stack_diagram


def test_everything_is_drawn():
    fig = stack_diagram(
        {"Encoder": [("words", "input"), ("mix", "attention")], "Decoder": [("look", "cross")]},
        repeated={"Encoder": (1, 1, "N ×")},
        arrows=[(("Encoder", 1), ("Decoder", 0), "memory")],
    )
    texts = {text.get_text() for text in fig.axes[0].texts}
    assert {"Encoder", "Decoder", "words", "mix", "look", "N ×", "memory"} <= texts
    plt.close(fig)


def test_unknown_kind():
    with pytest.raises(ValueError, match=r"unknown kinds \['magic'\]"):
        stack_diagram({"Encoder": [("words", "magic")]})
