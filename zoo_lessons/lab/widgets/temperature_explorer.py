"""Temperature explorer: what a teacher tells its student at each temperature, and how loudly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets as t
from matplotlib.figure import Figure

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png, plot_text

LOWEST, HIGHEST = 0.5, 20.0


def softened(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of logits / temperature over the last axis."""
    z = logits / temperature
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def soft_statistics(
    student: np.ndarray, teacher: np.ndarray, temperature: float
) -> tuple[float, float]:
    """KL(teacher ‖ student) of one example at a temperature, in nats, and its gradient's length.

    The gradient is with respect to the student's logits: (student's p - teacher's p) / T.
    """
    p, q = softened(student, temperature), softened(teacher, temperature)
    log_p = np.log(np.maximum(p, 1e-300))
    log_q = np.log(np.maximum(q, 1e-300))
    return float((q * (log_q - log_p)).sum()), float(np.linalg.norm((p - q) / temperature))


class TemperatureExplorer(ZooWidget):
    """A teacher's and a student's probabilities for one example, softened by a temperature.

    The bars show both; the curves show the gradient that reaches the student's logits, as it is and
    times T².

    Args:
        classes: names of the classes.
        teacher_logits, student_logits: (examples, classes).
        names: what to call the examples, such as their text; "example 1" by default.
        truth: number of the right class of each example, if known.
        temperature: to start with, 0.5 to 20.
        example: number of the example to start with.

    Raises:
        ValueError: shapes that do not fit, or logits that are not finite.
        traitlets.TraitError: a temperature outside its range.
    """

    _script = "temperature_explorer.js"
    _style = "temperature_explorer.css"

    temperature = t.Float(1.0, min=LOWEST, max=HIGHEST).tag(sync=True)
    example = t.Int(0, min=0).tag(sync=True)
    classes = t.List(t.Unicode()).tag(sync=True)
    names = t.List(t.Unicode()).tag(sync=True)
    truth = t.List(t.Int()).tag(sync=True)  # empty where unknown
    teacher = t.List(t.List(t.Float())).tag(sync=True)
    student = t.List(t.List(t.Float())).tag(sync=True)

    def __init__(
        self,
        classes: Sequence[str],
        teacher_logits: Any,
        student_logits: Any,
        *,
        names: Sequence[str] | None = None,
        truth: Sequence[int] | None = None,
        temperature: float = 1.0,
        example: int = 0,
    ) -> None:
        teacher, student = _matrix(teacher_logits), _matrix(student_logits)
        if teacher.shape != student.shape or teacher.shape[1] != len(classes):
            raise ValueError(
                f"teacher_logits {teacher.shape} and student_logits {student.shape} must both be "
                f"(examples, {len(classes)})"
            )
        count = len(teacher)
        names = [f"example {i + 1}" for i in range(count)] if names is None else list(names)
        truth = [] if truth is None else [int(label) for label in truth]
        if len(names) != count or len(truth) not in (0, count):
            raise ValueError(
                f"{len(names)} names and {len(truth)} labels for {count} examples, expected as many"
            )
        if not 0 <= example < count:
            raise ValueError(f"example={example}, expected 0 to {count - 1}")
        super().__init__(
            temperature=temperature,
            example=example,
            classes=list(classes),
            names=names,
            truth=truth,
            teacher=teacher.tolist(),
            student=student.tolist(),
        )

    def static_text(self) -> str:
        student, teacher = self._pair()
        divergence, gradient = soft_statistics(student, teacher, self.temperature)
        p, q = softened(student, self.temperature), softened(teacher, self.temperature)
        best = int(q.argmax())
        return (
            f"TemperatureExplorer, temperature {self.temperature:g}, example {self.example + 1} of "
            f"{len(self.names)}: the teacher gives {self.classes[best]} {q[best]:.2f}, the student "
            f"{p[best]:.2f}; KL {divergence:.3f} nats, gradient {gradient:.3f}, times T² "
            f"{gradient * self.temperature**2:.3f}"
        )

    def static_png(self) -> bytes:
        student, teacher = self._pair()
        p, q = softened(student, self.temperature), softened(teacher, self.temperature)
        fig = Figure(figsize=(9.6, 3.4), layout="constrained")
        bars, curve = fig.subplots(1, 2, width_ratios=(1.2, 1))
        places = np.arange(len(self.classes))
        bars.barh(places - 0.2, q, 0.4, color="#0072b2", label="teacher")
        bars.barh(places + 0.2, p, 0.4, color="#e69f00", label="student")
        bars.set_yticks(places, [plot_text(name) for name in self.classes])
        bars.invert_yaxis()
        bars.set(
            title=f"Probabilities at temperature {self.temperature:g}",
            xlabel="probability",
            xlim=(0, 1),
        )
        bars.legend(frameon=False, fontsize=8)
        ts = np.geomspace(LOWEST, HIGHEST, 80)
        slopes = np.array([soft_statistics(student, teacher, x)[1] for x in ts])
        curve.plot(ts, slopes, "--", color="#b34700", label="gradient of KL")
        curve.plot(ts, ts**2 * slopes, color="#0072b2", label="gradient of T² · KL")
        curve.axvline(self.temperature, color="#767676", linewidth=1, linestyle=":")
        curve.set(xscale="log", title="What reaches the student", xlabel="temperature T",
                  ylabel="length of the gradient")  # fmt: skip
        curve.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
        curve.minorticks_off()
        curve.legend(frameon=False, fontsize=8)
        return figure_png(fig)

    def _pair(self) -> tuple[np.ndarray, np.ndarray]:
        row = min(self.example, len(self.names) - 1)
        return np.array(self.student[row]), np.array(self.teacher[row])


def _matrix(logits: Any) -> np.ndarray:
    if hasattr(logits, "detach"):
        logits = logits.detach().double().cpu().numpy()
    array = np.asarray(logits, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"logits have shape {array.shape}, expected (examples, classes)")
    if not np.isfinite(array).all():
        raise ValueError("logits hold NaN or infinity, expected finite numbers")
    return array
