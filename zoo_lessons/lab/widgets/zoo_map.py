"""Zoo map: which part is used in which model, and the lesson that teaches each."""

from __future__ import annotations

from typing import Any

import traitlets
from matplotlib.figure import Figure

from zoo_lessons.lab import curriculum
from zoo_lessons.lab.progress import lesson_counts
from zoo_lessons.lab.widgets.base import ZooWidget, figure_png
from zoo_lessons.paths import repository_root

# Columns of the picture; each holds groups of components by the lessons that introduce them.
_COLUMNS = (
    (("Attention", ("01", "02")), ("Positions", ("03",))),
    (("Blocks", ("04", "18")), ("Images and text", ("12", "13", "14"))),
    (("Language", ("06", "07", "08")),),
    (("Vision", ("09", "10", "11")),),
    (("Efficiency", ("15", "16", "17", "20")),),
)
# Families of models, by the lesson that opens each up.
_FAMILIES = (
    ("Text", ("02", "04", "06", "07")),
    ("Images", ("09", "10", "11", "18")),
    ("Images and text", ("12", "13", "14")),
    ("Longer and smaller", ("15", "16", "17")),
)


class ZooMap(ZooWidget):
    """The picture of the course: parts, the models made of them, the lessons on both.

    Hovering or focusing a part highlights the models that use it, and the other way round. A click
    shows one sentence and a link to the lesson. A lesson that does not exist yet is marked as
    planned. Once a learner has begun, each lesson shows how many of its exercises are solved.

    That is asked for by the script when it draws, and told in a message: no trait holds it, so that
    no saved notebook does.

    Args:
        selected: id of a component or model of `zoo_lessons.lab.curriculum`, or a lesson's number.
        route: id of a route to highlight, or "".

    Raises:
        ValueError: there is no such entry or route.
    """

    _script = "zoo_map.js"
    _style = "zoo_map.css"

    selected = traitlets.Unicode("transformer").tag(sync=True)
    route = traitlets.Unicode("").tag(sync=True)
    _map = traitlets.Dict().tag(sync=True)

    def __init__(self, **kwargs: Any):
        super().__init__(_map=map_data(), **kwargs)
        self.on_msg(self._tell_progress)

    def _tell_progress(self, _widget: Any, content: dict, _buffers: Any) -> None:
        if content.get("kind") == "progress":
            self.send({"kind": "progress", "lessons": lesson_counts()})

    @traitlets.validate("selected")
    def _known_entry(self, proposal: dict) -> str:
        known = [entry.number for entry in curriculum.LESSONS]
        known += [entry.id for entry in (*curriculum.COMPONENTS, *curriculum.MODELS)]
        if proposal["value"] not in known:
            raise ValueError(f"selected={proposal['value']!r} must be one of: {', '.join(known)}")
        return proposal["value"]

    @traitlets.validate("route")
    def _known_route(self, proposal: dict) -> str:
        known = [route.id for route in curriculum.ROUTES]
        if proposal["value"] not in ("", *known):
            raise ValueError(
                f"route={proposal['value']!r} must be '' or one of: {', '.join(known)}"
            )
        return proposal["value"]

    def static_text(self) -> str:
        """The map as a list: a line per lesson, then a line per model."""
        rows = ["Lessons and the parts they teach:"]
        for lesson in curriculum.LESSONS:
            parts = ", ".join(curriculum.component(id).name for id in lesson.uses)
            planned = "" if is_written(lesson) else " (planned)"
            rows.append(f"  {lesson.number} {lesson.title}{planned}{': ' if parts else ''}{parts}")
        rows.append("Models and the parts they are made of:")
        for model in curriculum.MODELS:
            parts = ", ".join(curriculum.component(id).name for id in model.components)
            rows.append(f"  {model.name} ({model.year}, lesson {model.lesson}): {parts}")
        return "\n".join(rows)

    def static_png(self) -> bytes:
        """The same facts as a table: a row per part, a column per model."""
        groups = [group for column in self._map["columns"] for group in column]
        components = [entry for group in groups for entry in group["components"]]
        models = [entry for family in self._map["models"] for entry in family["models"]]
        fig = Figure(figsize=(9, 10.4), layout="constrained")
        axes = fig.subplots()
        for row, component in enumerate(components):
            columns = [i for i, m in enumerate(models) if component["id"] in m["components"]]
            axes.plot(columns, [row] * len(columns), "o", color="#0072b2", markersize=6)
        line = -0.5
        for group in groups[:-1]:
            line += len(group["components"])
            axes.axhline(line, color="#767676", linewidth=0.8)
        names = [f"{entry['name']}  {entry['lesson']}" for entry in components]
        axes.set_yticks(range(len(components)), names, fontsize=8)
        titles = [f"{entry['name']}  {entry['lesson']}" for entry in models]
        axes.set_xticks(range(len(models)), titles, fontsize=8, rotation=55, ha="left")
        axes.xaxis.tick_top()
        axes.set(xlim=(-0.6, len(models) - 0.4), ylim=(len(components) - 0.4, -0.6))
        axes.grid(color="#e4e4e4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        fig.suptitle("Which part is used in which model (numbers: the lesson on each)", fontsize=11)
        return figure_png(fig)


def is_written(lesson: curriculum.Lesson) -> bool:
    """Whether this checkout has the lesson: its notebook, or the source that it is built from.

    The source counts so that the map in a notebook does not depend on which lessons were built
    before it.
    """
    notebooks = repository_root() / "notebooks"
    files = (notebooks / f"{lesson.slug}.ipynb", notebooks / "source" / f"{lesson.slug}.py")
    return any(path.is_file() for path in files)


def shipping_lessons() -> list[str]:
    """Numbers of the lessons that take models of earlier lessons further, in parts III and IV."""
    return [
        lesson.number
        for lesson in curriculum.LESSONS
        if lesson.part in ("III", "IV")
        and any(curriculum.model(id).lesson < lesson.number for id in lesson.models)
    ]


def map_data() -> dict[str, Any]:
    """Everything the map draws, as plain lists and dictionaries."""
    lessons = [
        {
            "number": lesson.number,
            "title": lesson.title,
            "part": lesson.part,
            "minutes": lesson.minutes,
            "question": lesson.question,
            "models": list(lesson.models),
            "file": f"{lesson.slug}.ipynb",
            "planned": not is_written(lesson),
        }
        for lesson in curriculum.LESSONS
    ]
    columns = [
        [
            {
                "name": name,
                "components": [
                    {
                        key: getattr(entry, key)
                        for key in ("id", "name", "description", "lesson", "elsewhere")
                    }
                    for entry in curriculum.COMPONENTS
                    if entry.lesson in numbers
                ],
            }
            for name, numbers in column
        ]
        for column in _COLUMNS
    ]
    fields = ("id", "name", "year", "paper", "description", "lesson")
    families = [
        {
            "name": name,
            "models": [
                {**{key: getattr(entry, key) for key in fields}, "components": [*entry.components]}
                for entry in sorted(curriculum.MODELS, key=lambda entry: (entry.year, entry.lesson))
                if entry.lesson in numbers
            ],
        }
        for name, numbers in _FAMILIES
    ]
    routes = [
        {
            "id": route.id,
            "name": route.name,
            "purpose": route.purpose,
            "minutes": route.minutes,
            "stops": [{"lesson": s.lesson, "minutes": s.minutes} for s in route.stops],
        }
        for route in curriculum.ROUTES
    ]
    return {
        "parts": [{"id": id, "name": name} for id, name in curriculum.PARTS.items()],
        "lessons": lessons,
        "columns": columns,
        "models": families,
        "shipping": shipping_lessons(),
        "routes": routes,
    }
