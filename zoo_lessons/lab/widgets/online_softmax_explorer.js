// Online-softmax explorer: one query reads its keys block by block.
// The same numbers as in online_softmax_explorer.py; a test compares the two.

/** Scores and values of the 16 keys. */
function scoresAndValues({ kind, seed }, count) {
  const uniform = uniforms(seed);
  const noise = Array.from({ length: count }, () => 2 * uniform() - 1);
  const values = Array.from({ length: count }, () => 2 * uniform() - 1);
  const score = {
    random: (i) => 3 * noise[i],
    rising: (i) => (8 * i) / (count - 1) - 4 + noise[i],
    falling: (i) => 4 - (8 * i) / (count - 1) + noise[i],
    "one large": (i) => noise[i] + 5 * (i === 10),
  }[kind];
  return { scores: noise.map((_, i) => score(i)), values };
}

/** Before any block, and after each: { maximum, total, weighted, factor, output }. */
function statesOf({ scores, values }, block, rescale) {
  const states = [{ maximum: -Infinity, total: 0, weighted: 0, factor: 1, output: 0 }];
  for (let start = 0; start < scores.length; start += block) {
    const past = states[states.length - 1];
    const part = scores.slice(start, start + block);
    const maximum = Math.max(past.maximum, ...part);
    const factor = rescale ? Math.exp(past.maximum - maximum) : 1;
    const exps = part.map((s) => Math.exp(s - maximum));
    const total = factor * past.total + exps.reduce((a, b) => a + b, 0);
    const weighted = factor * past.weighted + exps.reduce((sum, e, i) => sum + e * values[start + i], 0);
    states.push({ maximum, total, weighted, factor, output: weighted / total });
  }
  return states;
}

const BAR_HEIGHT = 250;

function render({ model, el }) {
  const count = model.get("num_keys");
  const names = ["kind", "seed", "block", "step", "rescale"];
  const sync = saver(model);
  const state = {};
  const read = () => names.forEach((name) => { state[name] = model.get(name); });
  read();
  const blocks = () => Math.ceil(count / state.block);
  const done = () => Math.min(state.step, blocks());

  const controls = {
    step: slider({ label: "blocks read", min: 0, max: blocks(), value: done(), onInput: (v) => set("step", v) }),
    block: slider({ label: "keys in a block", min: 1, max: count, value: state.block, onInput: (v) => set("block", v) }),
    kind: select({
      label: "scores", options: ["random", "rising", "falling", "one large"], value: state.kind,
      onChange: (v) => set("kind", v),
    }),
    seed: slider({ label: "random draw", min: 1, max: 20, value: state.seed, onInput: (v) => set("seed", v) }),
    rescale: checkbox({ label: "rescale", value: state.rescale, onChange: (v) => set("rescale", v) }),
  };
  const bars = still(420, BAR_HEIGHT, "Scores");
  const barPanel = h("div", { class: "zoo-panel os-bars" },
    h("p", { class: "zoo-heading" }, "Scores of one query; the dashed line is the running maximum"), bars);
  const chart = lineChart({ heading: "Output after each block; the dotted line is exact", height: BAR_HEIGHT });
  const fact = (name) => [h("dt", {}, name), h("dd", {})];
  const facts = Object.fromEntries(Object.entries({
    maximum: "running maximum m", factor: "factor e^(m_old − m)", total: "running sum ℓ",
    weighted: "running weighted sum", output: "output = weighted sum / ℓ", exact: "exact, over all keys",
  }).map(([key, name]) => [key, fact(name)]));
  const live = liveRegion();
  const root = mount(el, h("div", { class: "zoo-controls" }, ...Object.values(controls)),
    h("div", { class: "os-panels" }, barPanel, chart,
      h("div", { class: "zoo-panel" }, h("p", { class: "zoo-heading" }, "What the query remembers"),
        h("dl", { class: "zoo-facts" }, ...Object.values(facts).flat()))),
    live);
  const announce = chartCursor(chart, {
    label: "Blocks that were read", value: done(), page: () => 2, range: () => [0, blocks()],
    onMove: (v) => set("step", v),
  });

  function drawBars(scores, states, colors) {
    const { context, width } = bars;
    const low = Math.min(0, ...scores), high = Math.max(0, ...scores), room = 0.08 * (high - low);
    context.clearRect(0, 0, width, BAR_HEIGHT);
    const xTicks = Array.from({ length: count }, (_, i) => i).filter((i) => i % 3 === 0);
    const frame = chartFrame(context, {
      width, height: BAR_HEIGHT, xRange: [-0.6, count - 0.4], yRange: [low - room, high + room], xTicks,
      xLabel: "key", yLabel: "score", colors,
    });
    const start = (done() - 1) * state.block, stop = done() * state.block;
    const half = 0.36 * (frame.x(1) - frame.x(0));
    scores.forEach((score, i) => {
      const now = i >= start && i < stop;
      context.globalAlpha = i < stop ? 1 : 0.3;
      context.fillStyle = i >= stop ? colors.muted : now ? colors.series[1] : colors.series[0];
      context.fillRect(frame.x(i) - half, Math.min(frame.y(0), frame.y(score)), 2 * half, Math.abs(frame.y(score) - frame.y(0)));
    });
    context.globalAlpha = 1;
    for (let edge = state.block; edge < count; edge += state.block) {
      stroke(context, [[frame.x(edge - 0.5), frame.top], [frame.x(edge - 0.5), frame.bottom]],
        { color: colors.muted, width: 1, dash: [2, 3] });
    }
    if (done()) {
      const y = frame.y(states[done()].maximum);
      stroke(context, [[frame.left, y], [frame.right, y]], { color: colors.fg, width: 1.5, dash: [6, 4] });
    }
    bars.element.setAttribute("aria-label", `Scores of ${count} keys; ${Math.min(stop, count)} of them were read.`);
  }

  function draw() {
    const colors = themeColors(root);
    const data = scoresAndValues(state, count);
    const kept = statesOf(data, state.block, true), lost = statesOf(data, state.block, false);
    const states = state.rescale ? kept : lost;
    const exact = kept[kept.length - 1].output;
    controls.step.setRange(0, blocks());
    controls.step.set(done());
    drawBars(data.scores, states, colors);
    const line = (list, color, name, dash, rescale) => ({
      xs: list.slice(1).map((_, i) => i + 1), ys: list.slice(1).map((s) => s.output), color, name, dash,
      width: rescale === state.rescale ? 3 : 1.5,
    });
    const all = [...kept.slice(1), ...lost.slice(1)].map((s) => s.output);
    const low = Math.min(0, ...all), high = Math.max(0, ...all), room = 0.1 * (high - low) || 1;
    const now = states[done()];
    chart.draw({
      colors, xRange: [0, blocks()], yRange: [low - room, high + room], xLabel: "blocks read", yLabel: "output",
      xTicks: Array.from({ length: blocks() + 1 }, (_, i) => i).filter((i) => blocks() <= 8 || i % 4 === 0),
      yFormat: (v) => String(Number(v.toPrecision(3))),
      lines: [line(kept, colors.series[0], "with rescaling", [], true), line(lost, colors.series[1], "without", [6, 4], false)],
      rules: [{ y: exact, color: colors.muted }, { x: done(), color: colors.fg }],
      dots: done() ? [{ x: done(), y: now.output, color: colors.series[state.rescale ? 0 : 1] }] : [],
    });
    const shown = { ...now, exact };
    for (const [key, [, value]] of Object.entries(facts)) {
      const number = shown[key];
      value.textContent = number === -Infinity ? "−∞" : number.toFixed(4).replace("-", "−");
    }
    const text = describe(now, exact);
    live.say(text);
    announce(done(), text);
  }

  function describe(now, exact) {
    if (!done()) return "No block was read: the maximum is −∞, both sums are 0.";
    const start = `After ${done()} of ${blocks()} blocks: maximum ${now.maximum.toFixed(3)}, sum ${now.total.toFixed(3)}, ` +
      `output ${now.output.toFixed(4)}.`;
    const wrong = Math.abs(now.output - exact) > 1e-9;
    if (done() === blocks()) {
      return start + (wrong ? ` It should be ${exact.toFixed(4)}: blocks were added that are measured from different maxima.`
        : " This is exact.");
    }
    if (!state.rescale) return start + " What was summed before keeps its old reference.";
    return start + (now.factor < 1 ? ` The maximum rose, so what was summed before counts ${now.factor.toFixed(3)} of what it did.`
      : " The maximum stayed, so nothing is rescaled.");
  }

  const request = redraw(draw);
  function set(name, value) {
    if (state[name] === value) return;
    state[name] = value;
    sync(name, value);
    request();
  }
  const follow = () => {
    read();
    for (const name of ["block", "kind", "seed", "rescale"]) controls[name].set(state[name]);
    request();
  };
  const stops = [
    listen(model, Object.fromEntries(names.map((name) => [`change:${name}`, follow]))),
    onResize(barPanel, (width) => { bars.resize(width, BAR_HEIGHT); bars.element.style.width = "100%"; request(); }),
    onThemeChange(request), chart.dispose, request.cancel, sync.flush,
  ];
  request.now();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render, scoresAndValues, statesOf };
