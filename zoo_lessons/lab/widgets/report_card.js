// Report card: claims, filtered by part, verdict and word; each opens to its figure and its reason.

/** Whether a claim is shown; as `fits_claim` in zoo_lessons/lab/tables.py. */
function fitsClaim(claim, { part, verdict, word }) {
  const text = [claim.says, claim.ours, claim.explanation].join(" ").toLowerCase();
  return (!part || claim.part === part) && (!verdict || claim.verdict === verdict)
    && text.includes(word.toLowerCase());
}

/** Text whose parts between backticks are code. */
function withCode(text) {
  return text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));
}

function render({ model, el }) {
  const claims = model.get("_claims"), parts = model.get("_parts"), signs = model.get("_signs");
  const sync = saver(model);
  const state = {};
  const read = () => ["part", "verdict", "word"].forEach((name) => { state[name] = model.get(name); });
  read();

  const part = select({
    label: "part of the course", value: state.part, onChange: (v) => set("part", v),
    options: [["", "all"], ...Object.entries(parts).map(([key, name]) => [key, `${key}, ${name}`])],
  });
  const verdict = select({
    label: "verdict", value: state.verdict, onChange: (v) => set("verdict", v),
    options: [["", "all"], ...Object.entries(signs).map(([name, sign]) => [name, `${sign} ${name}`])],
  });
  const word = h("input", { type: "text", size: 16, onInput: () => set("word", word.value) });
  word.value = state.word;
  const list = h("ul", { class: "rc-list", "aria-label": "Claims" });
  const live = liveRegion();
  const root = mount(el,
    h("div", { class: "zoo-controls" }, part, verdict,
      h("label", { class: "zoo-field" }, h("span", {}, "word"), word)),
    list, live);

  const rows = claims.map((claim) => h("li", {}, h("details", {},
    h("summary", {},
      h("span", { class: "rc-sign", "aria-hidden": "true" }, signs[claim.verdict]),
      h("strong", {}, ` ${claim.claim} `), claim.says,
      h("span", { class: "rc-verdict" }, ` ${claim.verdict}`)),
    h("p", {}, h("strong", {}, "Our figure: "), claim.ours),
    h("p", {}, ...withCode(claim.explanation)),
    h("p", { class: "zoo-note" },
      `Shown in lesson ${claim.lesson}: ${claim.cell.split("#")[1].replaceAll("-", " ")}`))));

  function draw() {
    const shown = claims.map((claim) => fitsClaim(claim, state));
    rows.forEach((row, i) => { row.hidden = !shown[i]; });
    list.replaceChildren(...rows);
    const found = claims.filter((_, i) => shown[i]);
    const counts = Object.keys(signs)
      .map((name) => [found.filter((claim) => claim.verdict === name).length, name])
      .filter(([count]) => count).map(([count, name]) => `${count} ${name}`);
    live.say(`${found.length} of ${claims.length} claims` + (found.length ? `: ${counts.join(", ")}.` : "."));
  }

  const request = redraw(draw);
  function set(name, value) {
    state[name] = value;
    sync(name, value);
    request();
  }
  function follow() {
    read();
    part.set(state.part);
    verdict.set(state.verdict);
    if (word.value !== state.word) word.value = state.word;
    request();
  }
  const stops = [
    listen(model, { "change:part": follow, "change:verdict": follow, "change:word": follow }),
    request.cancel, sync.flush,
  ];
  request.now();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render, fitsClaim };
