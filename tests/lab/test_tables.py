"""The measured table of models and the verdict on a claim, from plain data."""

import copy

import pytest

from zoo_lessons.claims import Topic
from zoo_lessons.lab.tables import VERDICT_SIGNS, model_table, report_card, show_claim, topics
from zoo_lessons.records import VERDICTS

ROW = {
    "model": "GPT-2 (small)",
    "ours": "GPT",
    "theirs": "GPT2LMHeadModel",
    "difference": {"float64": 7.7e-16, "float32": 0.0},
    "lines": {"file": "gpt.py", "ours": 141, "layers": 567, "theirs": 757},
    "parameters": {"ours": 124439808, "theirs": 124439808, "published": "117 M", "source": "paper"},
    "time": {"with": "", "ratio": 0.951, "interval": [0.91, 1.0], "verdict": "no clear difference"},
    "memory": {"ours": 12.34, "theirs": 20.0},
}
OTHER = {**copy.deepcopy(ROW), "model": "BERT-Base"}
OTHER["parameters"]["theirs"] = 5
RECORD = {
    "date": "2026-01-02",
    "machine": {"device": "a processor", "threads": 2, "torch": "2.0"},
    "figures": {"transformers": "5.0", "batch": 2, "examples": "texts", "rows": [ROW, OTHER]},
}


def test_a_row_says_what_was_measured():
    head, rule, gpt, bert, empty, note = model_table(RECORD).data.splitlines()
    assert len(head.split("|")) == len(rule.split("|")) == len(gpt.split("|")) == 10
    assert gpt == (
        "| **GPT-2 (small)** | `GPT2LMHeadModel` | 8e-16 | 0 | 141 + 567 / 757 | "
        "124,439,808 (117 M) | 0.95 (0.91 to 1.00) | 12 / 20 |"
    )
    assert "124,439,808; theirs 5 (117 M)" in bert
    assert empty == "" and "over 2 texts at" in note and "2026-01-02" in note


def test_a_row_says_with_what_it_was_timed():
    record = copy.deepcopy(RECORD)
    record["figures"]["rows"][1]["time"]["with"] = "images of 224×224"
    _, _, gpt, bert, *_ = model_table(record).data.splitlines()
    assert "0.95 (0.91 to 1.00) |" in gpt
    assert "0.95 (0.91 to 1.00), images of 224×224 |" in bert


def test_rows_are_chosen_by_the_beginning_of_their_name():
    assert "GPT-2" not in model_table(RECORD, ["BERT"]).data
    assert len(model_table(RECORD, ["BERT", "GPT-2"]).data.splitlines()) == 6
    with pytest.raises(ValueError, match=r"no model begins with 'ViT'; there are: GPT-2 \(small"):
        model_table(RECORD, ["ViT"])


def test_a_model_without_a_counterpart():
    row = copy.deepcopy(ROW)
    row |= {"model": "T2T-ViT-14", "theirs": None, "time": {"with": "", "milliseconds": 81.3}}
    row["difference"] = {"float64": None, "float32": None}
    row["lines"]["theirs"] = row["parameters"]["theirs"] = row["memory"]["theirs"] = None
    row["parameters"]["published"] = ""
    record = copy.deepcopy(RECORD)
    record["figures"] = {"transformers": "5.0", "batch": 2, "examples": "images", "rows": [row]}
    lines = model_table(record).data.splitlines()
    assert lines[2] == (
        "| **T2T-ViT-14** | has none | – | – | 141 + 567 | "
        "124,439,808 (no count) | ours 81 ms | 12 |"
    )
    assert "over 2 images at" in lines[-1]


CLAIM = {
    "claim": "C06",
    "says": "Windows save compute.",
    "verdict": "partly",
    "ours": "27 % of the pairs",
    "explanation": "In three layers\n of four.",
    "command": 'make record ARGS="c06"',
    "date": "2026-01-02",
    "machine": {"device": "a processor", "threads": 2, "gpu": None, "torch": "2.0"},
}


def test_a_claim_comes_with_its_verdict_and_its_origin():
    lines = show_claim(CLAIM).data.splitlines()
    assert all(line.startswith(">") for line in lines)
    assert lines[::2] == [
        "> **Claim C06.** Windows save compute.",
        "> **Verdict: partly.** 27 % of the pairs.",
        "> In three layers of four.",
        '> <small>Recorded by `make record ARGS="c06"` on 2026-01-02: a processor, 2 threads, '
        "torch 2.0.</small>",
    ]


def test_a_claim_measured_on_a_gpu_names_it():
    machine = {**CLAIM["machine"], "gpu": "a GPU"}
    text = show_claim({**CLAIM, "machine": machine, "explanation": ""}).data
    assert "2026-01-02: a GPU, torch 2.0" in text and "processor" not in text
    assert len(text.splitlines()) == 5


CARD = [
    {**CLAIM, "cell": "15#Hierarchical-attention:-what-it-saves"},
    {
        **CLAIM,
        "claim": "C26",
        "says": "INT8 is fast.",
        "verdict": "reproduced",
        "cell": "19#No-such-heading",
        "machine": {**CLAIM["machine"], "threads": 1},
    },
]


def test_the_report_card_gives_figure_verdict_device_and_link():
    _, _, windows, int8 = report_card(CARD).data.splitlines()
    assert windows == (
        "| **C06** Windows save compute. | ◐\N{NO-BREAK SPACE}partly | 27 % of the pairs. | "
        "a processor, 2 threads, 2026‑01‑02 | [15, Hierarchical attention: what it saves]"
        "(15_efficient_attention.ipynb#Hierarchical-attention:-what-it-saves) |"
    )
    assert "●\N{NO-BREAK SPACE}reproduced" in int8 and "a processor, 1 thread," in int8
    assert "[19, No such heading](19_quantization.ipynb#No-such-heading)" in int8


def test_the_report_card_is_chosen_from():
    def ids(**choice):
        return [id for id in ("C06", "C26") if id in report_card(CARD, **choice).data]

    assert ids(part="III") == ["C06"] and ids(part="IV") == ["C26"]
    assert ids(verdict="reproduced") == ["C26"]
    assert ids(word="int8") == ["C26"] and ids(word="three LAYERS") == ["C06", "C26"]
    assert report_card(CARD, word="unicorn").data == "No claim fits."
    with pytest.raises(ValueError, match="part 'V' must be one of I, II, III, IV"):
        report_card(CARD, part="V")
    with pytest.raises(ValueError, match="verdict 'good' must be one of reproduced, partly"):
        report_card(CARD, verdict="good")


def test_a_symbol_at_the_beginning_stays_as_it_is():
    claim = {**CARD[0], "ours": "d_k = 1024: less", "explanation": "n^2 grows."}
    assert "| d_k = 1024: less. |" in report_card([claim]).data
    shown = show_claim(claim).data
    assert "**Verdict: partly.** d_k = 1024" in shown and "> n^2 grows." in shown
    assert "> In three layers" in show_claim(CLAIM).data


def test_signs_are_those_of_the_verdicts():
    assert set(VERDICT_SIGNS) == set(VERDICTS)
    assert len(set(VERDICT_SIGNS.values())) == len(VERDICTS)


def test_topics_lead_to_cells_and_lessons():
    rows = topics([Topic("Windows", ("C06",))], {"C06": CARD[0]}).data.splitlines()
    assert rows[2] == (
        "| Windows | [C06](15_efficient_attention.ipynb#Hierarchical-attention:-what-it-saves)"
        "\N{NO-BREAK SPACE}◐ | "
        "[15](15_efficient_attention.ipynb) Sparse, hierarchical and linear attention |"
    )
