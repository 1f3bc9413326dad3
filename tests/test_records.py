"""Recorded results: the committed ones are fresh, and the machinery notices when they are not."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sys
import textwrap
from dataclasses import replace

import pytest

from zoo_lessons import records
from zoo_lessons.claims import CLAIMS
from zoo_lessons.lab.curriculum import LESSONS
from zoo_lessons.paths import data_dir, repository_root

HELPER = '''
    """What is measured."""

    def answer():
        """Six times seven."""
        return 6 * 7  # counted twice

    if __name__ == "__main__":
        print(answer())
'''
EXPERIMENT = """
    from lesson_helper import answer
    from zoo_lessons.records import Verdict, experiment

    @experiment("answer", claims=["C16"], lesson="09", uses=["lesson_helper"])
    def measure():
        verdict = Verdict("reproduced", ours="42", explanation="It is 42.", cell="09#Patches")
        return {"figures": {"answer": answer()}, "verdicts": {"C16": verdict}}
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A repository of its own with one experiment; returns a function that writes its modules."""

    def write(name, source):
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")

    def forget():
        for name in [n for n in sys.modules if n.split(".")[0] in ("experiments", "lesson_helper")]:
            monkeypatch.delitem(sys.modules, name)

    (tmp_path / "data").mkdir()
    (tmp_path / "experiments").mkdir()
    write("experiments.__init__", "")
    write("experiments.answer", EXPERIMENT)
    write("lesson_helper", HELPER)
    monkeypatch.setenv("ZOO_LESSONS_ROOT", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    yield write
    forget()


# --- what the repository holds ------------------------------------------------------------------


def test_committed_records_are_what_their_code_makes():
    stale = [
        path.stem
        for path in sorted((data_dir() / "records").glob("*.json"))
        if records.is_stale(path.stem)
    ]
    command = f'make record ARGS="{" ".join(stale)}"'
    assert not stale, f"the code behind these records has changed: run `{command}`"


# What an experiment need not name: how records are kept, and two modules that grow with each model.
# `models` passes names on. `weights` loads what the parity tests compare with `transformers`.
UNWATCHED = {f"zoo_lessons.{name}" for name in ("claims", "models", "paths", "records", "weights")}


def imported(module):
    """The course's modules in which what this one imports is defined."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.module.split(".")[0] not in ("experiments", "zoo_lessons"):
            continue
        source = importlib.import_module(node.module)
        for alias in node.names:
            thing = getattr(source, alias.name, None)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                found.add(thing.__module__)
            elif inspect.ismodule(thing) or thing is None:
                found.add(f"{node.module}.{alias.name}")
            elif not hasattr(source, "__path__"):  # a package only passes constants on
                found.add(node.module)
    return {name for name in found if name.split(".")[0] in ("experiments", "zoo_lessons")}


@pytest.mark.parametrize("maker", records.experiments().values(), ids=lambda maker: maker.name)
def test_an_experiment_names_the_modules_that_it_imports(maker):
    needed = imported(sys.modules[maker.function.__module__]) - UNWATCHED
    missing = sorted(needed - set(maker.modules))
    assert not missing, f"add {missing} to `uses` of {maker.name}: a change there is not noticed"


def test_committed_claims_come_from_committed_records():
    for path in sorted((data_dir() / "records" / "claims").glob("*.json")):
        claim = records.load_claim(path.stem)
        record = records.load_record(claim["experiment"])
        problem = f"{path.name}: run `{record['command']}`"
        assert claim["claim"] == path.stem, problem
        assert claim["says"] == CLAIMS[path.stem].text, problem
        assert claim["code"] == record["code"], problem
        assert path.stem in records.experiments()[claim["experiment"]].claims, problem


def test_committed_claims_point_at_headings_that_exist():
    """JupyterLab makes a heading's anchor from its text, with hyphens for spaces."""
    slugs = {lesson.number: lesson.slug for lesson in LESSONS}
    for path in sorted((data_dir() / "records" / "claims").glob("*.json")):
        number, anchor = records.load_claim(path.stem)["cell"].split("#")
        source = repository_root() / "notebooks" / "source" / f"{slugs[number]}.py"
        headings = re.findall(r"^# #+ (.+?)\s*$", source.read_text(encoding="utf-8"), re.M)
        anchors = [heading.replace(" ", "-") for heading in headings]
        assert anchor in anchors, f"{path.name} points at {source.name}, which has {anchors}"


def test_every_experiment_belongs_to_a_lesson_that_measures_its_claims():
    found = records.experiments()
    assert found, "no experiment was found"
    for maker in found.values():
        assert maker.lesson in {lesson.number for lesson in LESSONS}
        for claim in maker.claims:
            assert maker.lesson in CLAIMS[claim].lessons, (maker.name, claim)
        records.code_hash(maker.modules)  # every module named can be found


def test_the_claims_are_c01_to_c36_and_name_lessons():
    assert list(CLAIMS) == [f"C{number:02}" for number in range(1, 37)]
    known = {lesson.number for lesson in LESSONS}
    for claim in CLAIMS.values():
        assert claim.lessons and set(claim.lessons) <= known, claim
        assert claim.text.endswith(".")


# --- recording and reading ----------------------------------------------------------------------


def test_record_writes_figures_and_claim(course, capsys):
    records.main(["answer"])
    assert capsys.readouterr().out.startswith("answer ... ")
    record = records.load_record("answer")
    assert record["figures"] == {"answer": 42}
    assert record["command"] == 'make record ARGS="answer"'
    assert record["modules"] == ["experiments.answer", "lesson_helper"]
    assert {"device", "torch", "threads"} <= set(record["machine"])
    assert len(record["date"]) == 10 and record["seconds"] >= 0
    claim = records.load_claim("C16")
    assert claim["says"] == CLAIMS["C16"].text
    assert (claim["verdict"], claim["ours"], claim["cell"]) == ("reproduced", "42", "09#Patches")
    assert claim["code"] == record["code"]


def test_missing_records_name_the_command(course):
    with pytest.raises(FileNotFoundError, match='run `make record ARGS="answer"`'):
        records.load_record("answer")
    with pytest.raises(FileNotFoundError, match='C16.*run `make record ARGS="answer"`'):
        records.load_claim("C16")
    with pytest.raises(FileNotFoundError, match="C17.*run `make record`"):
        records.load_claim("C17")
    with pytest.raises(ValueError, match="unknown claim 'C99'"):
        records.load_claim("C99")


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("6 * 7", "6*7", False),
        ("  # counted twice", "", False),
        ('"""Six times seven."""', '"""Seven times six."""', False),
        ('        """Six times seven."""\n', "", False),
        ("print(answer())", "raise SystemExit(answer())", False),
        ('if __name__ == "__main__":', "if True:", True),
        ("6 * 7", "7 * 6", True),
        ("def answer()", "def answer(n=1)", True),
    ],
)
def test_stale_means_that_the_code_changed_not_its_looks(course, old, new, stale):
    records.main(["answer"])
    assert not records.is_stale("answer")
    assert old in HELPER
    course("lesson_helper", HELPER.replace(old, new))
    assert records.is_stale("answer") == stale


def test_empty_parts_of_formatted_strings_do_not_count():
    """Python 3.12.1 puts them into format specifications, 3.11 and 3.13 do not."""
    plain = ast.parse("f'{number:>{width}}'")
    (part,) = plain.body[0].value.values
    before = list(records._meaning(plain))
    part.format_spec.values.append(ast.Constant(""))
    assert "number" in repr(before) and list(records._meaning(plain)) == before


def test_a_change_of_the_experiment_itself_counts(course):
    records.main(["answer"])
    course("experiments.answer", EXPERIMENT.replace("It is 42.", "It is 43."))
    assert records.is_stale("answer")


def test_a_change_during_the_run_counts(course):
    """A long run used the code that it began with, not what lies on the disk when it ends."""
    maker = records.experiments()["answer"]
    changed = HELPER.replace("6 * 7", "7 * 6")

    def measure():
        result = maker()
        course("lesson_helper", changed)
        return result

    records.record(replace(maker, function=measure))
    assert records.is_stale("answer")


def test_list_and_stale(course, capsys):
    records.main(["--list"])
    assert capsys.readouterr().out == "missing  lesson 09  answer  C16\n"
    records.main(["--stale"])
    assert "answer" in capsys.readouterr().out
    records.main(["--stale"])
    assert capsys.readouterr().out == ""
    course("lesson_helper", HELPER.replace("6 * 7", "7 * 6"))
    records.main(["--list"])
    assert capsys.readouterr().out.startswith("stale ")
    with pytest.raises(SystemExit):
        records.main(["nothing_like_it"])
    assert "unknown experiments ['nothing_like_it']; there are answer" in capsys.readouterr().err


def test_records_whose_experiment_is_gone_are_stale(course, tmp_path, monkeypatch):
    records.main(["answer"])
    course("experiments.answer", "")
    monkeypatch.delitem(sys.modules, "experiments.answer")
    assert records.is_stale("answer")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"figures": {"answer": answer()}, ', "", "must return a dict with 'figures'"),
        ('{"C16": verdict}', '{"C17": verdict}', r"verdicts on \['C17'\], but settles \['C16'\]"),
        ("answer()}", "float('nan')}", "not JSON compliant"),
        ('"reproduced"', '"yes"', "verdict 'yes' must be one of reproduced"),
        ("09#Patches", "lesson 9", "cell 'lesson 9' must be lesson#heading"),
        ('["C16"]', '["C77"]', r"unknown claims \['C77'\]"),
        ('"answer", claims', '"an answer", claims', "'an answer' must be lower case"),
    ],
)
def test_bad_experiments_are_refused_and_write_nothing(course, tmp_path, old, new, message):
    assert old in EXPERIMENT
    course("experiments.answer", EXPERIMENT.replace(old, new))
    with pytest.raises(ValueError, match=message):
        records.main([])
    assert not list(tmp_path.rglob("*.json"))


def test_two_experiments_may_not_settle_one_claim(course):
    course("experiments.twin", EXPERIMENT.replace('"answer", claims', '"twin", claims'))
    with pytest.raises(ValueError, match="'answer' and 'twin' both settle C16"):
        records.experiments()
    course("experiments.twin", EXPERIMENT)
    sys.modules.pop("experiments.twin")
    with pytest.raises(ValueError, match="two experiments are called 'answer'"):
        records.experiments()


def test_records_are_stable_text(course, tmp_path):
    records.main(["answer"])
    path = tmp_path / "data" / "records" / "answer.json"
    text = path.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert json.loads(text) == records.load_record("answer")
