// Ask box: a text goes to Python, its answer comes back as a text, bars and passages.

function render({ model, el }) {
  const examples = model.get("_examples");
  const ask = asker(model, { onBusy: (on) => form.busy(on) });
  const question = (text) => ask({ kind: "question", text });
  const form = textForm({
    label: model.get("_label"), submit: model.get("_button"), value: model.get("question"), ask,
    blank: "Type a text first.", send: question,
  });
  const chips = examples.map((example) => h("button", {
    type: "button", class: "ab-chip", onClick: () => {
      if (ask.busy) return;
      form.input.value = example;
      question(example);
    },
  }, example));
  const asked = h("div", { class: "zoo-heading" });
  const text = h("p", { class: "ab-text" });
  const head = h("div", { class: "ab-head", "aria-hidden": "true" }, h("span"), h("span"), h("span", {}, model.get("_values")));
  const rows = h("ol", { class: "ab-rows" });
  const live = liveRegion();
  const root = mount(el, form,
    chips.length > 0 && h("div", { class: "ab-examples", role: "group", "aria-label": "Examples" },
      h("span", { class: "ab-examples-title" }, "Try"), chips),
    h("div", { class: "ab-answer" }, asked, text, head, rows), live);

  function draw() {
    const shown = model.get("_payload");
    asked.textContent = shown.question;
    const [before, marked, after] = shown.text;
    text.hidden = !(before || marked || after);
    text.replaceChildren(before, ...(marked ? [h("mark", {}, marked)] : []), after);
    head.hidden = rows.hidden = shown.rows.length === 0;
    rows.replaceChildren(...shown.rows.map((row) => {
      const fill = h("span", { class: "ab-fill" });
      fill.style.width = `${100 * row.share}%`;
      return h("li", { class: "ab-row" },
        h("span", { class: "ab-label" }, row.label),
        h("span", { class: "ab-track" }, fill),
        h("span", { class: "ab-value" }, row.value),
        row.detail && h("span", { class: "ab-detail" }, row.detail));
    }));
    const first = shown.rows[0];
    const parts = [marked && `Answer: “${marked}”.`, first && `First of ${shown.rows.length}: ${first.label}, ${first.value}.`];
    live.say(parts.filter(Boolean).join(" ") || `Answered: “${shown.question}”.`);
  }

  const stops = [
    listen(model, {
      "change:_payload": draw,
      "change:question": () => form.set(model.get("question")),
      "msg:custom": ask.hear,
    }),
    ask.dispose,
  ];
  draw();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render };
