// Sampling explorer: the next token's distribution, filtered while sliders move, drawn from a seed.

const SE_SHOWN = 15; // tokens with a bar of their own; the rest share one
const SE_TOP_K = [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100, 200, 500, 1000];

/** Token ids from the likeliest on. Ties stay in the order of ids. */
function seRanked(logits) {
  const order = Uint32Array.from(logits, (_, i) => i);
  return order.sort((a, b) => logits[b] - logits[a] || a - b);
}

/** Probabilities by rank: the model's own, and after temperature, top-k and top-p, in this order.
 *  The rules are those of zoo_lessons.generation (a test compares the two): tokens that tie with the
 *  k-th stay, and so does the token that crosses p. `byTopK` is how many survive top-k alone. */
function seDistribution(logits, order, { temperature, top_k, top_p }) {
  const sorted = Float64Array.from(order, (id) => logits[id]);
  const model = seSoftmax(sorted, sorted.length);
  const possible = sorted.findLastIndex((x) => x > -Infinity) + 1;
  if (temperature === 0) {
    const kept = new Float64Array(sorted.length);
    kept[0] = 1;
    return { model, kept, count: 1, byTopK: 1, possible };
  }
  const scaled = sorted.map((x) => x / temperature);
  let byTopK = possible;
  if (top_k !== null && top_k < possible) {
    byTopK = top_k;
    while (byTopK < possible && scaled[byTopK] === scaled[top_k - 1]) byTopK += 1;
  }
  let kept = seSoftmax(scaled, byTopK), count = byTopK;
  if (top_p !== null && top_p < 1) {
    let sum = 0;
    for (count = 0; count < byTopK; count++) {
      sum += kept[count];
      if (sum - kept[count] >= top_p) break;
    }
    kept = seSoftmax(scaled, count);
  }
  return { model, kept, count, byTopK, possible };
}

/** Softmax over the first `count` of sorted scores; zero for the rest. */
function seSoftmax(sorted, count) {
  const p = new Float64Array(sorted.length);
  let sum = 0;
  for (let i = 0; i < count; i++) sum += p[i] = Math.exp(sorted[i] - sorted[0]);
  for (let i = 0; i < count; i++) p[i] /= sum;
  return p;
}

/** Entropy in bits. */
const seEntropy = (p) => p.reduce((sum, x) => (x > 0 ? sum - x * Math.log2(x) : sum), 0);

/** The rank that a uniform number draws: the first whose cumulative probability exceeds it. */
function seDraw(kept, count, uniform) {
  let sum = 0;
  for (let rank = 0; rank < count; rank++) {
    sum += kept[rank];
    if (uniform < sum) return rank;
  }
  return count - 1; // rounding left the sum a little below 1
}

function sePercent(p) {
  if (p === 0) return "0 %";
  if (p < 0.0001) return "< 0.01 %";
  return `${(100 * p).toFixed(p < 0.0995 ? 2 : 1)} %`;
}

function render({ model, el }) {
  const labels = model.get("_labels");
  const size = labels.length;
  const sync = saver(model);
  const names = ["temperature", "top_k", "top_p", "seed"];
  const state = {};
  let data, order, shares, last = "", running = false, focused = 0;
  const count = (n) => n.toLocaleString("en-GB");

  // ------------------------------------------------------------ elements
  const ask = asker(model, { onBusy: (on) => form.busy(on) });
  const form = textForm({
    label: "Your prompt", submit: "Start", value: model.get("prompt"), ask,
    blank: "Type a prompt first.", send: (text) => { last = ""; return ask({ kind: "prompt", text }); },
  });
  const steps = [...new Set([...SE_TOP_K, model.get("top_k") || 1])].filter((k) => k < size).sort((a, b) => a - b);
  const sliders = {
    temperature: slider({
      label: "temperature", min: 0, max: 2, step: 0.05, value: 1,
      format: (v) => (v === 0 ? "0, greedy" : v.toFixed(2)), onInput: (v) => set("temperature", v),
    }),
    top_k: slider({
      label: "top-k", min: 0, max: steps.length, value: steps.length,
      format: (i) => (i < steps.length ? String(steps[i]) : "off"), onInput: (i) => set("top_k", steps[i] ?? null),
    }),
    top_p: slider({
      label: "top-p", min: 0.01, max: 1, step: 0.01, value: 1,
      format: (v) => (v < 1 ? v.toFixed(2) : "off"), onInput: (v) => set("top_p", v < 1 ? v : null),
    }),
  };
  const facts = {};
  const fact = (name, label) => {
    facts[name] = h("dd");
    return [h("dt", {}, label), facts[name]];
  };
  const actions = {
    sample: button({ label: "Sample one", onClick: () => run(sample) }),
    ten: button({ label: "Ten more", onClick: () => run(async () => { for (let i = 0; i < 10 && (await sample()); i++); }) }),
    likeliest: button({ label: "Take the likeliest", onClick: () => run(() => append(0)) }),
    undo: button({ label: "Undo", onClick: () => run(undo) }),
  };
  const text = h("div", { class: "se-text", role: "group", "aria-label": "The text so far", tabindex: 0 });
  const summary = h("p", { class: "zoo-note se-summary" });
  const axis = [0, 0.5, 1].map(() => h("span"));
  const bars = h("ol", { class: "se-bars" });
  const rows = Array.from({ length: Math.min(SE_SHOWN, size) }, (_, rank) => barRow(rank));
  const others = size > rows.length ? barRow(-1) : null;
  bars.append(...rows.map((row) => row.item), ...(others ? [others.item] : []));
  const live = liveRegion();
  const root = mount(el, form, h("div", { class: "zoo-panels" },
    h("div", { class: "zoo-panel se-left" },
      h("div", { class: "se-sliders" }, ...Object.values(sliders)),
      h("dl", { class: "se-facts" }, fact("kept", "tokens kept"), fact("mass", "of the model's probability"),
        fact("entropy", "entropy"), fact("own", "the model's own entropy")),
      h("div", { class: "zoo-group se-actions" }, ...Object.values(actions)),
      text, summary),
    h("div", { class: "zoo-panel se-right" },
      h("div", { class: "zoo-heading" }, "The next token: click a bar to append it"),
      h("div", { class: "se-row se-axis", "aria-hidden": "true" }, h("span"), h("span", { class: "se-scale" }, ...axis),
        h("span", {}, "model"), h("span", {}, "after")),
      bars,
      h("div", { class: "se-legend zoo-note" },
        h("span", {}, h("span", { class: "se-swatch se-outline" }), "the model's probability"),
        h("span", {}, h("span", { class: "se-swatch se-filled" }), "after temperature, top-k and top-p"),
        h("span", {}, h("span", { class: "se-swatch se-outline se-dashed" }), "cut")),
      h("p", { class: "zoo-note" }, "Arrow keys move between the bars, Enter appends. ␣ is a space, " +
        "\\n a new line, \\xe2 a byte that is no letter by itself."))),
  live);

  function barRow(rank) {
    const label = h("span", { class: "se-label" });
    const fill = h("span", { class: "se-fill" }), outline = h("span", { class: "se-bar" });
    const own = h("span", { class: "se-number" }), after = h("span", { class: "se-number" });
    const parts = [label, h("span", { class: "se-track" }, fill, outline), own, after];
    // All other tokens share a row that is no button: there is no one token to append.
    const row = rank < 0
      ? h("div", { class: "se-row" }, ...parts)
      : h("button", { type: "button", class: "se-row", onClick: () => run(() => append(rank)), onFocus: () => rove(rank) }, ...parts);
    return { item: h("li", {}, row), row, label, fill, outline, own, after };
  }

  /** One bar is in the tab order; arrow keys go to the others. */
  function rove(rank, move = false) {
    focused = clamp(rank, 0, rows.length - 1);
    rows.forEach(({ row }, i) => row.setAttribute("tabindex", i === focused ? "0" : "-1"));
    if (move) rows[focused].row.focus();
  }
  arrowKeys(bars, (by) => rove(focused + by, true), (event) => {
    const ends = { Home: 0, End: rows.length - 1 };
    if (event.key in ends) rove(ends[event.key], true);
    return event.key in ends;
  });

  // ------------------------------------------------------------ the text grows
  /** One action at a time: Python must have answered before the next token. */
  async function run(action) {
    if (running || ask.busy) return;
    running = true;
    await action();
    running = false;
  }

  async function append(rank, draws = data.draws) {
    const token = order[rank];
    const length = data.tokens.length;
    sync.flush(); // Python computes the token's probability with these settings
    last = `Appended ${labels[token]}, probability ${sePercent(shares.kept[rank])} ` +
      `(the model's own ${sePercent(shares.model[rank])}). `;
    const done = await ask({ kind: "append", token, draws });
    if (!done) last = "";
    return done && data.tokens.length === length + 1;
  }

  const sample = () => append(seDraw(shares.kept, shares.count, uniforms(state.seed, data.draws)()), data.draws + 1);

  async function undo() {
    if (!data.tokens.length) return;
    last = `Took back ${data.tokens[data.tokens.length - 1].label}. `;
    await ask({ kind: "undo" });
  }

  // ------------------------------------------------------------ drawing
  function load() {
    data = { ...model.get("_payload") };
    data.logits = floats(data.logits);
    order = seRanked(data.logits);
    drawText();
    draw();
  }

  function drawText() {
    const pieces = data.tokens.map((token) => {
      const piece = h("span", {
        class: "se-token",
        title: `${token.label}: probability ${sePercent(token.kept)}, the model's own ${sePercent(token.model)}`,
      }, token.text, h("span", { class: "zoo-hidden" }, ` (${sePercent(token.kept)}) `));
      piece.style.setProperty("--se-share", `${Math.round(6 + 44 * token.kept)}%`);
      return piece;
    });
    text.replaceChildren(model.get("prompt"), ...pieces);
    text.scrollTop = text.scrollHeight;
    const bits = data.tokens.reduce((sum, token) => sum - Math.log2(token.model), 0);
    const n = data.tokens.length;
    summary.textContent = n === 0
      ? "Appended tokens are shaded, the stronger the likelier they were. Point at one to read it."
      : `${n} ${n === 1 ? "token" : "tokens"} appended, ${(bits / n).toFixed(2)} bits each by the model's own ` +
        `probabilities: perplexity ${(2 ** (bits / n)).toFixed(1)}.`;
    actions.undo.element.setAttribute("aria-disabled", String(n === 0));
  }

  function reasonOf(rank) {
    if (rank >= shares.possible) return "forbidden";
    if (state.temperature === 0) return "cut: greedy";
    return rank >= shares.byTopK ? "cut: top-k" : "cut: top-p";
  }

  function draw() {
    shares = seDistribution(data.logits, order, state);
    const { model: own, kept } = shares;
    const rest = (p) => Math.max(0, 1 - rows.reduce((sum, _, rank) => sum + p[rank], 0));
    const tail = others ? [rest(own), shares.count > rows.length ? rest(kept) : 0] : [0, 0];
    const most = Math.max(own[0], kept[0], ...tail);
    const scale = [0.05, 0.1, 0.2, 0.5, 1].find((s) => s >= most) || 1;
    axis.forEach((tick, i) => { tick.textContent = i ? `${Math.round(500 * i * scale) / 10} %` : "0"; });
    const show = (row, name, p, q, cut) => {
      row.label.textContent = name;
      row.outline.style.width = `${(100 * p) / scale}%`;
      row.fill.style.width = `${(100 * q) / scale}%`;
      row.own.textContent = sePercent(p);
      row.after.textContent = cut || sePercent(q);
      row.row.classList.toggle("se-cut", Boolean(cut));
    };
    rows.forEach((row, rank) => {
      const name = labels[order[rank]];
      const cut = rank >= shares.count ? reasonOf(rank) : "";
      show(row, name, own[rank], kept[rank], cut);
      row.row.title = name;
      row.row.setAttribute("aria-label",
        `${name}: model ${sePercent(own[rank])}, after filtering ${cut || sePercent(kept[rank])}. Append it.`);
    });
    if (others) {
      const cut = shares.count > rows.length ? "" : reasonOf(rows.length);
      show(others, `${count(size - rows.length)} others`, ...tail, cut);
    }
    const bits = seEntropy(kept), ownBits = seEntropy(own);
    const mass = own.reduce((sum, p, rank) => (rank < shares.count ? sum + p : sum), 0);
    facts.kept.textContent = `${count(shares.count)} of ${count(size)}`;
    facts.mass.textContent = sePercent(Math.min(1, mass));
    facts.entropy.textContent = `${bits.toFixed(2)} bits`;
    facts.own.textContent = `${ownBits.toFixed(2)} bits`;
    live.say(`${last}Kept ${count(shares.count)} of ${count(size)} tokens, entropy ${bits.toFixed(2)} bits ` +
      `(the model's own ${ownBits.toFixed(2)}). Likeliest next: ${labels[order[0]]}, ${sePercent(kept[0])}.`);
  }

  const request = redraw(draw);
  function set(name, value) {
    last = "";
    state[name] = value;
    sync(name, value);
    request();
  }
  function follow() {
    for (const name of names) state[name] = model.get(name);
    sliders.temperature.set(state.temperature);
    const step = state.top_k === null ? steps.length : steps.findIndex((k) => k >= state.top_k);
    sliders.top_k.set(step < 0 ? steps.length : step);
    sliders.top_p.set(state.top_p ?? 1);
    request();
  }
  const stops = [
    listen(model, {
      ...Object.fromEntries(names.map((name) => [`change:${name}`, follow])),
      "change:_payload": load,
      "change:prompt": () => form.set(model.get("prompt")),
      "msg:custom": ask.hear,
    }),
    request.cancel, sync.flush, ask.dispose,
  ];
  follow();
  rove(0);
  load();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render, seRanked, seDistribution, seDraw, seEntropy };
