import pytest
import torch

from zoo_lessons.models import BertConfig, BertForQuestionAnswering
from zoo_lessons.question_answering import (
    answer_questions,
    best_spans,
    best_threshold,
    encode_questions,
    exact_match,
    f1_score,
    lexical_answer,
    normalise_answer,
    span_loss,
    span_positions,
)
from zoo_lessons.weights import load_tokenizer

PASSAGES = ["Ada sold the brass lamp to Nora.", "The clock is in the old mill now."]
QUESTIONS = ["Who sold the brass lamp?", "Where is it?"]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("minilm")


def tiny_model():
    torch.manual_seed(0)
    config = BertConfig(d_model=16, num_layers=1, num_heads=2, d_ff=32, max_length=40)
    return BertForQuestionAnswering(config).eval()


def test_a_batch_marks_its_passages(tokenizer):
    batch = encode_questions(tokenizer, QUESTIONS, PASSAGES)
    for row, passage in enumerate(PASSAGES):
        inside = batch.in_passage[row]
        words = tokenizer.decode(batch.input_ids[row][inside].tolist())
        assert words == passage.lower()
        assert (batch.token_type_ids[row][inside] == 1).all()
    assert tokenizer.padding is None  # left as it was


@pytest.mark.parametrize(
    ("row", "answer"), [(0, "Ada"), (0, "brass lamp"), (1, "old mill"), (1, "")]
)
def test_positions_of_an_answer(tokenizer, row, answer):
    batch = encode_questions(tokenizer, [QUESTIONS[row]], [PASSAGES[row]])
    at = PASSAGES[row].index(answer) if answer else -1
    start, end = span_positions(batch, [at], [answer])
    ids = batch.input_ids[0, start : end + 1].tolist()
    assert tokenizer.decode(ids) == answer.lower()
    if not answer:
        assert (int(start), int(end)) == (0, 0)


def test_an_answer_outside_its_passage(tokenizer):
    batch = encode_questions(tokenizer, QUESTIONS[:1], PASSAGES[:1])
    with pytest.raises(ValueError, match="covers no token"):
        span_positions(batch, [500], ["Ada"])
    with pytest.raises(ValueError, match="1 questions and 2 passages"):
        encode_questions(tokenizer, QUESTIONS[:1], PASSAGES)


def test_loss_is_the_mean_of_two_cross_entropies_over_real_tokens():
    torch.manual_seed(0)
    start_logits, end_logits = torch.randn(2, 3, 7)
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2, [1] * 4 + [0] * 3])
    start, end = torch.tensor([2, 0, 1]), torch.tensor([3, 0, 3])
    loss = span_loss(start_logits, end_logits, start, end, mask)
    rows = []
    for row, length in enumerate([7, 5, 4]):
        for logits, place in ((start_logits, start), (end_logits, end)):
            rows.append(-logits[row, :length].log_softmax(dim=0)[place[row]])
    torch.testing.assert_close(loss, torch.stack(rows).mean())


def test_best_spans_equal_a_search_over_all_pairs():
    torch.manual_seed(0)
    start_logits, end_logits = torch.randn(2, 20, 12)
    inside = torch.zeros(20, 12, dtype=torch.bool)
    inside[:, 4:11] = True
    inside[3, 4:] = False
    inside[3, 6] = True  # a passage of one token
    spans = best_spans(start_logits, end_logits, inside, max_tokens=3)
    for row in range(20):
        legal = {
            (i, j): float(start_logits[row, i] + end_logits[row, j])
            for i in range(12)
            for j in range(i, min(i + 3, 12))
            if inside[row, i] and inside[row, j]
        }
        best = max(legal, key=legal.get)
        assert (int(spans.start[row]), int(spans.end[row])) == best
        assert float(spans.score[row]) == pytest.approx(legal[best])
    null = start_logits[:, 0] + end_logits[:, 0]
    torch.testing.assert_close(spans.margin, spans.score - null)


def test_spans_refused():
    logits = torch.zeros(1, 4)
    with pytest.raises(ValueError, match="max_tokens=0"):
        best_spans(logits, logits, torch.ones(1, 4, dtype=torch.bool), max_tokens=0)
    with pytest.raises(ValueError, match="row without any True"):
        best_spans(logits, logits, torch.zeros(1, 4, dtype=torch.bool))


def test_answers_do_not_depend_on_their_company(tokenizer):
    model = tiny_model()
    alone = answer_questions(model, tokenizer, QUESTIONS[:1], PASSAGES[:1], threshold=-100)
    together = answer_questions(model, tokenizer, QUESTIONS, PASSAGES, threshold=-100)
    assert (alone[0].first, alone[0].last) == (together[0].first, together[0].last)
    assert alone[0].margin == pytest.approx(together[0].margin, abs=1e-5)
    assert alone[0].text == PASSAGES[0][alone[0].first : alone[0].last] != ""
    refused = answer_questions(model, tokenizer, QUESTIONS, PASSAGES, threshold=100)
    assert [answer.text for answer in refused] == ["", ""]
    with pytest.raises(ValueError, match="training mode"):
        answer_questions(model.train(), tokenizer, QUESTIONS, PASSAGES)


@pytest.mark.parametrize(
    ("text", "normal"),
    [("The old  Mill!", "old mill"), ("an apple, a day", "apple day"), ("then", "then"), ("", "")],
)
def test_normalise(text, normal):
    assert normalise_answer(text) == normal


@pytest.mark.parametrize(
    ("predicted", "right", "em", "f1"),
    [
        ("the old mill", "Old mill.", 1, 1),
        ("in the old mill", "old mill", 0, 0.8),
        ("mill", "old mill", 0, 2 / 3),
        ("a b b", "b c", 0, 2 * (1 / 2) * (1 / 2) / 1),
        ("", "", 1, 1),
        ("Ada", "", 0, 0),
        ("", "Ada", 0, 0),
        ("Tom", "Ada", 0, 0),
    ],
)
def test_scores(predicted, right, em, f1):
    assert exact_match(predicted, right) == em
    assert f1_score(predicted, right) == pytest.approx(f1)


def test_lexical_answers():
    passage = "Ada sold the red lamp to Nora. Tom lent the big key to Ada."
    people = [(0, "Ada"), (25, "Nora"), (31, "Tom"), (55, "Ada")]
    lend = "Who lent the big key?"
    assert lexical_answer(lend, passage, people, rule="first").text == "Tom"
    assert lexical_answer(lend, passage, people, rule="last").text == "Ada"
    asked = "Who did Ada sell the red lamp to?"
    assert lexical_answer(asked, passage, people).text == "Nora"  # Ada is in the question
    assert lexical_answer("Who is it?", passage, people, threshold=0.5).text == ""
    with pytest.raises(ValueError, match="rule 'middle'"):
        lexical_answer(asked, passage, people, rule="middle")


def test_the_best_threshold():
    margins, scores, none = [1.0, 2.0, 3.0, -1.0], [0, 1, 1, 0], [1, 0, 0, 1]
    assert 1.0 < best_threshold(margins, scores, none) < 2.0
    assert best_threshold([1.0, 2.0], [1, 1], [0, 0]) < 1.0
    assert best_threshold([1.0, 2.0], [0, 0], [1, 1]) > 2.0
    with pytest.raises(ValueError, match="2, 1 and 1"):
        best_threshold([1.0, 2.0], [1], [1])
