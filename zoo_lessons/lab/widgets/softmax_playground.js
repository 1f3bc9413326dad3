// Softmax playground: slide d_k, watch the softmax saturate and its gradient die.

/** Standard normal numbers from a seed, by Box and Muller's transform, in pairs.
 *  softmax_playground.py does the same, so the static picture shows the same numbers. */
function standardNormals(seed, count) {
  const uniform = uniforms(seed);
  const out = new Float64Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform())); // 1 - u is never 0
    const angle = 2 * Math.PI * uniform();
    out[i] = radius * Math.cos(angle);
    if (i + 1 < count) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

/** q·k_j for each of the keys at each width of `widths` (ascending): scores[width][key].
 *  A width uses the first entries of the same vectors, so a wider q only adds products. */
function scoresByWidth(normals, start, keys, widths) {
  const widest = widths[widths.length - 1];
  const scores = widths.map(() => new Float64Array(keys));
  for (let j = 0; j < keys; j++) {
    const key = start + (1 + j) * widest;
    let sum = 0, done = 0;
    widths.forEach((width, w) => {
      for (; done < width; done++) sum += normals[start + done] * normals[key + done];
      scores[w][j] = sum;
    });
  }
  return scores;
}

function softmax(scores) {
  const top = Math.max(...scores);
  const exps = scores.map((s) => Math.exp(s - top));
  const total = exps.reduce((a, b) => a + b, 0);
  return exps.map((e) => e / total);
}

/** Entropy in nats. */
function entropy(p) {
  return -p.reduce((sum, x) => sum + (x > 0 ? x * Math.log(x) : 0), 0);
}

/** Frobenius norm of the softmax's Jacobian diag(p) - p pᵀ: how far a score can move the weights.
 *  Expanded: sum p² (1 - 2p) + (sum p²)². */
function gradientSize(p) {
  const squares = p.reduce((sum, x) => sum + x * x, 0);
  const cubes = p.reduce((sum, x) => sum + x * x * x, 0);
  return Math.sqrt(Math.max(0, squares - 2 * cubes + squares * squares));
}

/** Mean entropy and gradient over many draws: { plain, scaled }, each { entropy, gradient } by width. */
function averageOverDraws(draws, keys, widths) {
  const perDraw = (1 + keys) * widths[widths.length - 1];
  const normals = standardNormals(0, draws * perDraw);
  const empty = () => ({ entropy: widths.map(() => 0), gradient: widths.map(() => 0) });
  const means = { plain: empty(), scaled: empty() };
  for (let d = 0; d < draws; d++) {
    scoresByWidth(normals, d * perDraw, keys, widths).forEach((scores, w) => {
      for (const [name, divisor] of [["plain", 1], ["scaled", Math.sqrt(widths[w])]]) {
        const p = softmax(scores.map((s) => s / divisor));
        means[name].entropy[w] += entropy(p) / draws;
        means[name].gradient[w] += gradientSize(p) / draws;
      }
    });
  }
  return means;
}

/** A table of the keys: score and weight as numbers and bars, then entropy and gradient. */
function keyTable(title, keys, maxEntropy) {
  const rows = Array.from({ length: keys }, (_, j) => {
    const score = h("span", { class: "sp-number" }), weight = h("span", { class: "sp-number" });
    const scoreBar = h("span", { class: "sp-bar" }), weightBar = h("span", { class: "sp-bar" });
    const row = h("tr", {},
      h("th", { scope: "row" }, `key ${j + 1}`),
      h("td", { class: "sp-score" }, score, h("span", { class: "sp-track sp-signed" }, scoreBar)),
      h("td", { class: "sp-weight" }, weight, h("span", { class: "sp-track" }, weightBar)));
    return { row, score, weight, scoreBar, weightBar };
  });
  const meter = (name, range) => {
    const number = h("strong", {}), bar = h("span", { class: "sp-bar" });
    const element = h("div", { class: "sp-meter" },
      h("span", {}, name, " ", number, h("span", { class: "sp-range" }, ` ${range}`)),
      h("span", { class: "sp-track" }, bar));
    return { element, number, bar };
  };
  const spread = meter("entropy", `of ${maxEntropy.toFixed(2)} nats`);
  const slope = meter("gradient", "of 0.50");
  const element = h("div", { class: "sp-table" },
    h("table", {}, h("caption", {}, title),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "key"),
        h("th", { scope: "col" }, "score"), h("th", { scope: "col" }, "weight"))),
      h("tbody", {}, ...rows.map((r) => r.row))),
    spread.element, slope.element);
  return {
    element,
    show({ scores, p, widest, chosen }) {
      rows.forEach((r, j) => {
        r.score.textContent = scores[j].toFixed(2);
        r.weight.textContent = p[j].toFixed(3);
        const share = Math.min(1, Math.abs(scores[j]) / widest) * 50;
        r.scoreBar.style.left = `${scores[j] < 0 ? 50 - share : 50}%`;
        r.scoreBar.style.width = `${share}%`;
        r.weightBar.style.width = `${100 * p[j]}%`;
      });
      const nats = entropy(p), size = gradientSize(p);
      spread.number.textContent = nats.toFixed(3);
      spread.bar.style.width = `${(100 * nats) / maxEntropy}%`;
      slope.number.textContent = size.toFixed(4);
      slope.bar.style.width = `${200 * size}%`;
      element.classList.toggle("sp-chosen", chosen);
    },
  };
}

function render({ model, el }) {
  const widths = model.get("d_k_values");
  const keys = model.get("num_keys");
  const draws = model.get("draws");
  const maxEntropy = Math.log(keys);
  const averages = averageOverDraws(draws, keys, widths);
  const sync = saver(model);
  const state = {};
  const read = () => ["d_k", "seed", "scaled"].forEach((name) => { state[name] = model.get(name); });
  read();

  const widthSlider = slider({
    label: "width d_k", min: 0, max: widths.length - 1, value: widths.indexOf(state.d_k),
    format: (i) => String(widths[i]), onInput: (i) => set("d_k", widths[i]),
  });
  const seedSlider = slider({
    label: "random draw", min: 1, max: 20, value: state.seed, onInput: (v) => set("seed", v),
  });
  const scaledBox = checkbox({
    label: "divide by √d_k", value: state.scaled, onChange: (on) => set("scaled", on),
  });
  const tables = {
    plain: keyTable("not divided: s = q·k", keys, maxEntropy),
    scaled: keyTable("divided: s = q·k / √d_k", keys, maxEntropy),
  };
  const charts = {
    entropy: lineChart({ heading: `Entropy of the weights, mean of ${draws} draws`, height: 220 }),
    gradient: lineChart({ heading: `Size of the softmax's gradient, mean of ${draws} draws`, height: 220 }),
  };
  const live = liveRegion();
  const root = mount(el,
    h("div", { class: "zoo-controls" }, widthSlider, scaledBox, seedSlider),
    h("div", { class: "zoo-panels" },
      h("div", { class: "sp-tables" }, tables.plain, tables.scaled), charts.entropy, charts.gradient),
    live);

  function drawChart(name, yRange, yLabel, top, here, colors) {
    const logs = widths.map(Math.log2);
    const at = Math.log2(state.d_k);
    const index = widths.indexOf(state.d_k);
    const line = (key, color, text) => ({
      xs: logs, ys: averages[key][name], color, name: text,
      width: (key === "scaled") === state.scaled ? 3 : 1.75, dash: key === "plain" ? [7, 4] : [],
    });
    const kind = (key) => averages[key][name][index].toFixed(3);
    charts[name].draw({
      colors, yRange, yLabel, xRange: [0, logs[logs.length - 1]], xLabel: "width d_k (logarithmic)",
      xTicks: logs.filter((v) => Number.isInteger(v)), xFormat: (v) => String(2 ** v),
      lines: [line("plain", colors.series[1], "not divided"), line("scaled", colors.series[0], "divided by √d_k")],
      rules: [{ x: at }, ...top],
      dots: [{ x: at, y: averages.plain[name][index], color: colors.series[1] },
        { x: at, y: averages.scaled[name][index], color: colors.series[0] }],
      label: `${name} against d_k. At d_k = ${state.d_k}: not divided ${kind("plain")}, ` +
        `divided ${kind("scaled")}.`,
    });
  }

  function draw() {
    const colors = themeColors(root);
    root.style.setProperty("--sp-plain", colors.series[1]);
    root.style.setProperty("--sp-scaled", colors.series[0]);
    const normals = standardNormals(state.seed, (1 + keys) * widths[widths.length - 1]);
    const plain = Array.from(scoresByWidth(normals, 0, keys, widths)[widths.indexOf(state.d_k)]);
    const scaled = plain.map((s) => s / Math.sqrt(state.d_k));
    const widest = Math.max(...plain.map(Math.abs));
    tables.plain.show({ scores: plain, p: softmax(plain), widest, chosen: !state.scaled });
    tables.scaled.show({ scores: scaled, p: softmax(scaled), widest, chosen: state.scaled });
    drawChart("entropy", [0, 1.08 * maxEntropy], "entropy (nats)",
      [{ y: maxEntropy, text: `log ${keys}: all weights equal` }], state, colors);
    drawChart("gradient", [0, 0.5], "Jacobian norm", [], state, colors);
    live.say(describe(state.scaled ? scaled : plain, state));
  }

  function describe(scores, { d_k, scaled: divided }) {
    const p = softmax(scores);
    const best = p.indexOf(Math.max(...p));
    const size = gradientSize(p);
    const verdict = size < 0.1
      ? "The softmax is saturated: one key takes almost everything, and moving a score hardly changes that."
      : p[best] > 0.5
        ? "One key takes more than half. Moving a score still changes the weights."
        : "Several keys share the weight, and each score matters.";
    return `d_k = ${d_k}, ${divided ? "divided by √d_k" : "not divided"}: key ${best + 1} has weight ` +
      `${p[best].toFixed(3)}, entropy ${entropy(p).toFixed(3)} of ${maxEntropy.toFixed(3)} nats, ` +
      `gradient ${size.toFixed(4)}. ${verdict}`;
  }

  const request = redraw(draw);
  function set(name, value) {
    state[name] = value;
    sync(name, value);
    request();
  }
  const follow = () => {
    read();
    widthSlider.set(widths.indexOf(state.d_k));
    seedSlider.set(state.seed);
    scaledBox.set(state.scaled);
    request();
  };
  const stops = [
    listen(model, { "change:d_k": follow, "change:seed": follow, "change:scaled": follow }),
    onThemeChange(request), charts.entropy.dispose, charts.gradient.dispose, request.cancel, sync.flush,
  ];
  request.now();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render };
