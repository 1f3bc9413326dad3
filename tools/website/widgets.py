"""The course's widgets as plain scripts that a static page can load, also from a folder.

A browser refuses to load modules and data files from a folder (file://). So each widget's script,
and the recorded data of each lesson's widgets, become classic scripts that call `zooSite`.
"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

from zoo_lessons.lab.widgets.base import AskingWidget, ZooWidget

_EXPORT = re.compile(r"^export default (\{ render\b[^}]*\});\s*\Z", re.M)


def widget_class(full_name: str) -> type[ZooWidget]:
    """The class that a state names: "zoo_lessons.lab.widgets.zoo_map.ZooMap".

    Raises:
        TypeError: the name is that of something else.
    """
    module, _, name = full_name.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, ZooWidget)):
        raise TypeError(f"{full_name} is no widget of the course")
    return found


def script_name(cls: type[ZooWidget]) -> str:
    """Name of the widget's script on the site, such as "zoo_map"."""
    return cls.__module__.rpartition(".")[2]


def widget_script(cls: type[ZooWidget]) -> str:
    """A classic script that registers the widget.

    Raises:
        ValueError: the widget's module does more than export `render` at its end.
    """
    body, found = _EXPORT.subn(r"return \1;", cls._esm)
    if found != 1 or re.search(r"^(import|export)\b", body, re.M):
        raise ValueError(
            f"{cls.__name__}'s script must import nothing, and end with the export of its render"
        )
    render = f'(() => {{\n"use strict";\n{body}\n}})().render'
    return f"zooSite.widget({_js(script_name(cls))}, {render}, {_js(cls._css)});\n"


def states_script(lesson: str, widgets: list[dict[str, Any]]) -> str:
    """A classic script that registers the traits of a lesson's widgets, in their order."""
    traits = [_with_pages(entry["traits"]) for entry in widgets]
    return f"zooSite.states({_js(lesson)}, {_js(traits)});\n"


def note(entry: dict[str, Any]) -> str:
    """What a reader must know about this widget on a page without Python; often nothing."""
    cls = widget_class(entry["widget"])
    if cls.__name__ == "ServiceDashboard":
        return "The service runs only in the notebook. These are the readings of one run."
    asks = issubclass(cls, AskingWidget) and entry["traits"].get("_has_text_box", True)
    if asks:
        return "Your own questions run in the notebook, where Python answers; the rest works here."
    return ""


def write_scripts(folder: Path, states: dict[str, list[dict[str, Any]]]) -> None:
    """Write all scripts that pages with these widgets load, below `folder`/widgets.

    Args:
        folder: the site's folder of static files.
        states: the widgets of each page, by the name under which the page asks for them.
    """
    used = {widget_class(entry["widget"]) for widgets in states.values() for entry in widgets}
    target = folder / "widgets" / "states"
    target.mkdir(parents=True)
    for cls in used:
        (target.parent / f"{script_name(cls)}.js").write_text(widget_script(cls), "utf8")
    for name, widgets in states.items():
        (target / f"{name}.js").write_text(states_script(name, widgets), "utf8")


def _with_pages(value: Any) -> Any:
    """Links from widgets to notebooks lead to pages."""
    if isinstance(value, str):
        return re.sub(r"^([\w./-]+)\.ipynb(?=$|#)", r"\1.html", value)
    if isinstance(value, dict):
        return {key: _with_pages(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_pages(item) for item in value]
    return value


def _js(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
