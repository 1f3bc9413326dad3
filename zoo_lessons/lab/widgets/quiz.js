// The quiz at the end of a lesson: native radio buttons, check boxes and number fields, one form
// per question, with an explanation for every answer.

let quizzes = 0;

function render({ model, el }) {
  const group = `zoo-quiz-${quizzes++}`;
  const questions = model.get("questions");
  const right = new Set();
  const score = liveRegion();
  const tell = () => score.say(`${right.size} of ${questions.length} answered right.`);
  const forms = questions.map((question, index) =>
    questionForm(question, index, `${group}-${index}`, (isRight) => {
      if (isRight) right.add(index);
      else right.delete(index);
      tell();
    }));
  const root = mount(el, ...forms, score);
  tell();
  ready(root);
}

function questionForm(question, index, name, onAnswer) {
  const field = { choose: choices, many: choices, numeric: number }[question.kind](question, name);
  const feedback = h("div", { class: "zoo-quiz-feedback", role: "status" });
  const form = h("form", { class: "zoo-quiz-question", novalidate: true, onSubmit: (event) => {
    event.preventDefault();
    const verdict = field.verdict();
    feedback.replaceChildren(...verdict.lines.map(feedbackLine));
    onAnswer(verdict.isRight);
  } },
  h("fieldset", {}, h("legend", {}, `${index + 1}. `, ...withCode(question.question)), field),
  h("button", { type: "submit" }, "Check"), feedback);
  return form;
}

/** Radio buttons, or check boxes where several answers are right. */
function choices(question, name) {
  const many = question.kind === "many";
  const type = many ? "checkbox" : "radio";
  const inputs = question.answers.map((answer, index) => h("input", { type, name, value: index }));
  const element = h("div", {},
    many && h("p", { class: "zoo-note" }, "Choose all that are right."),
    ...question.answers.map((answer, index) =>
      h("label", { class: "zoo-quiz-answer" }, inputs[index], h("span", {}, ...withCode(answer.text)))));
  const verdict = () => {
    const chosen = question.answers.filter((answer, index) => inputs[index].checked);
    if (!chosen.length) return { isRight: false, lines: [{ icon: "○", text: "Choose an answer first." }] };
    const lines = chosen.map((answer) => ({ ...mark(answer), name: many && answer.text, text: answer.feedback }));
    const wanted = question.answers.filter((answer) => answer.correct).length;
    const found = chosen.filter((answer) => answer.correct).length;
    const isRight = found === wanted && found === chosen.length;
    if (many) lines.push({ icon: isRight ? "✓" : "○", text: `${found} of ${wanted} right answers chosen.` });
    return { isRight, lines };
  };
  return { element, verdict };
}

function number(question, name) {
  const input = h("input", { type: "number", step: "any", name });
  const element = h("label", { class: "zoo-field" }, h("span", {}, "Your number"), input);
  const verdict = () => {
    if (input.value === "") return { isRight: false, lines: [{ icon: "○", text: "Enter a number first." }] };
    const value = Number(input.value);
    const answer = question.answers.find((one) => Math.abs(value - one.value) <= one.tolerance) ||
      { correct: false, feedback: question.otherwise };
    return { isRight: answer.correct, lines: [{ ...mark(answer), text: answer.feedback }] };
  };
  return { element, verdict };
}

const mark = (answer) => answer.correct
  ? { icon: "✓", meaning: "Right answer:", kind: "right" }
  : { icon: "✗", meaning: "Wrong answer:", kind: "wrong" };

function feedbackLine({ icon, meaning, kind, name, text }) {
  const attributes = meaning ? { role: "img", "aria-label": meaning } : { "aria-hidden": "true" };
  return h("p", { class: kind },
    h("span", { class: "zoo-quiz-mark", ...attributes }, icon),
    h("span", {}, name && h("em", {}, ...withCode(name), ": "), ...withCode(text)));
}

/** Text with `code` between back-ticks as a list of nodes. */
function withCode(text) {
  return text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

export default { render };
