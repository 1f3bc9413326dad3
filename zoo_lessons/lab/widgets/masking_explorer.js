// Masking explorer: BERT's masked tokens, drawn on any sentence, and counted over many draws.

const MK_LONGEST = 64; // tokens of a sentence; masking_explorer.py has the same number
const MK_FATES = {
  masked: { symbol: "■", says: "replaced by the mask token" },
  random: { symbol: "⇄", says: "replaced by a random token" },
  unchanged: { symbol: "=", says: "stays as it is, and is predicted all the same" },
};

/** The fate of each token in one draw: { name, other }, name as in masking_explorer.py. `other` is
 *  where in the vocabulary's ordinary tokens a random replacement lies, in [0, 1). */
function mkFates(special, { draw, rate, always_mask }) {
  // Each draw and token has numbers of its own, so the rate adds tokens and moves no others.
  const next = uniforms(0, 3 * MK_LONGEST * (draw - 1));
  return special.map((isSpecial) => {
    const chosen = next(), fate = next(), other = next();
    if (isSpecial) return { name: "special", other };
    if (chosen >= rate) return { name: "", other };
    return { name: always_mask || fate < 0.8 ? "masked" : fate < 0.9 ? "random" : "unchanged", other };
  });
}

function render({ model, el }) {
  const vocabulary = model.get("_vocabulary");
  const specials = new Set(model.get("_special"));
  const maskToken = model.get("_mask_token");
  const ordinary = vocabulary.filter((token) => !specials.has(token));
  const ids = new Map(vocabulary.map((token, id) => [token, id]));
  const sync = saver(model);
  const names = ["draw", "rate", "always_mask"];
  const state = {};
  let tokens, special, tally;
  const number = (n) => n.toLocaleString("en-GB");
  const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

  // ------------------------------------------------------------ elements
  const ask = asker(model, { onBusy: (on) => form.busy(on) });
  const form = textForm({
    label: "Your sentence", submit: "Mask it", value: model.get("text"), ask,
    blank: "Type a sentence first.", send: (text) => ask({ kind: "sentence", text }),
  });
  const rate = slider({
    label: "rate", min: 0, max: 1, step: 0.01, value: 0, format: (v) => percent(v, 0), onInput: (v) => set("rate", v),
  });
  const always = checkbox({
    label: `always ${maskToken}, without 80/10/10`, onChange: (on) => set("always_mask", on),
  });
  const again = button({ label: "Draw again", onClick: () => set("draw", state.draw + 1) });
  const many = button({ label: "100 more draws", onClick: () => set("draw", state.draw + 100) });
  const title = h("div", { class: "zoo-heading" });
  const cards = h("ol", { class: "mk-cards" });
  const legend = Object.entries(MK_FATES).map(([name, { symbol, says }]) =>
    h("span", { class: `mk-${name}` }, h("span", { class: "mk-fate" }, `${symbol} ${name}`), ` ${says}`));
  const countTitle = h("div", { class: "zoo-heading" });
  const counts = Object.fromEntries(["chosen", ...Object.keys(MK_FATES)].map((name) => {
    const fill = h("span", { class: "mk-fill" }), tick = h("span", { class: "mk-tick" });
    const seen = h("span", { class: "mk-seen" }), expected = h("span", { class: "mk-expected" });
    const row = h("li", { class: `mk-count mk-${name}` },
      h("span", { class: "mk-fate" }, name === "chosen" ? "chosen" : `${MK_FATES[name].symbol} ${name}`),
      h("span", { class: "mk-track" }, fill, tick), seen, expected);
    return [name, { row, fill, tick, seen, expected }];
  }));
  const live = liveRegion();
  const root = mount(el, form,
    h("div", { class: "zoo-controls" }, rate, always, h("div", { class: "zoo-group mk-actions" }, again, many)),
    title,
    h("div", { class: "mk-box" }, h("div", { class: "mk-table" },
      h("div", { class: "mk-captions", "aria-hidden": "true" },
        ...["text", "model reads", "fate", "label"].map((text) => h("span", {}, text))),
      cards)),
    h("div", { class: "mk-legend zoo-note" }, ...legend),
    h("p", { class: "zoo-note" }, "A card has, from the top, the text, what the model reads, its fate, and the label: " +
      "the id of the true token, or -100, which the loss leaves out."),
    h("div", { class: "mk-counts" }, countTitle, h("ol", {}, ...Object.values(counts).map((c) => c.row)),
      h("p", { class: "zoo-note" }, "The bar is what was drawn, the mark what is expected: a share of the ordinary " +
        "tokens for the chosen, and of the chosen for each fate.")),
    live);

  // ------------------------------------------------------------ drawing
  function load() {
    tokens = model.get("tokens");
    special = tokens.map((token) => specials.has(token));
    restart();
  }

  /** Counts begin anew with the draw on show. */
  function restart() {
    tally = { from: state.draw, to: state.draw - 1, chosen: 0, masked: 0, random: 0, unchanged: 0 };
  }

  function count() {
    for (let draw = tally.to + 1; draw <= state.draw; draw++) {
      for (const { name } of mkFates(special, { ...state, draw })) {
        if (!(name in MK_FATES)) continue;
        tally.chosen += 1;
        tally[name] += 1;
      }
    }
    tally.to = state.draw;
  }

  function card(token, { name, other }) {
    const chosen = name in MK_FATES;
    const read = name === "masked" ? maskToken : name === "random" ? ordinary[Math.floor(other * ordinary.length)] : token;
    const id = ids.get(token);
    return h("li", { class: `mk-card ${name ? `mk-${name}` : ""}` },
      h("span", { class: "mk-text" }, token),
      h("span", { class: "mk-read" }, h("span", { class: "zoo-hidden" }, "reads "), read),
      h("span", { class: "mk-fate" }, chosen ? `${MK_FATES[name].symbol} ${name}` : name || "·"),
      h("span", { class: "mk-label" }, h("span", { class: "zoo-hidden" }, "label "), chosen ? String(id) : "-100"));
  }

  function draw() {
    root.classList.toggle("mk-dark", themeColors(root).dark);
    const fates = mkFates(special, state);
    cards.replaceChildren(...tokens.map((token, i) => card(token, fates[i])));
    count();
    const plain = special.filter((isSpecial) => !isSpecial).length;
    const draws = tally.to - tally.from + 1;
    const now = (name) => fates.filter((fate) => fate.name === name).length;
    const chosen = now("masked") + now("random") + now("unchanged");
    title.textContent = `Draw ${number(state.draw)}: ${chosen} of ${plain} ordinary tokens chosen`;
    countTitle.textContent = draws === 1 ? "Counts of this draw" : `Counts of ${number(draws)} draws`;
    const shares = state.always_mask ? [1, 0, 0] : [0.8, 0.1, 0.1];
    const rows = [["chosen", draws * plain, state.rate, "tokens"],
      ...Object.keys(MK_FATES).map((name, i) => [name, tally.chosen, shares[i], "chosen"])];
    for (const [name, of, expected, what] of rows) {
      const seen = of ? tally[name] / of : 0;
      counts[name].fill.style.width = `${100 * seen}%`;
      counts[name].tick.style.left = `${100 * expected}%`;
      counts[name].seen.textContent = `${number(tally[name])} of ${number(of)} ${what}`;
      counts[name].expected.textContent = of ? `${percent(seen)}, expected ${percent(expected, 0)}` : `expected ${percent(expected, 0)}`;
    }
    const list = Object.keys(MK_FATES).map((name) => `${now(name)} ${name}`).join(", ");
    const nothing = chosen === 0 ? " Nothing to predict: this draw teaches nothing." : "";
    live.say(`Draw ${number(state.draw)}: ${chosen} of ${plain} ordinary tokens chosen (${list}). ` +
      `Expected: ${(state.rate * plain).toFixed(1)}.${nothing}`);
  }

  const request = redraw(draw);
  function set(name, value) {
    state[name] = value;
    if (name !== "draw") restart();
    sync(name, value);
    request();
  }
  function follow() {
    const changed = names.filter((name) => state[name] !== model.get(name));
    for (const name of changed) state[name] = model.get(name);
    if (changed.length) restart();
    rate.set(state.rate);
    always.set(state.always_mask);
    request();
  }
  const stops = [
    listen(model, {
      ...Object.fromEntries(names.map((name) => [`change:${name}`, follow])),
      "change:tokens": () => { load(); request(); },
      "change:text": () => form.set(model.get("text")),
      "msg:custom": ask.hear,
    }),
    onThemeChange(request), request.cancel, sync.flush, ask.dispose,
  ];
  follow();
  load();
  request.now();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render, mkFates };
