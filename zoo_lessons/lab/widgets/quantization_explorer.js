// Quantization explorer: a matrix on its grids, the errors that this makes, and a model's quality.
// The same rounding as in quantization_explorer.py; a test compares the two.

const GRANULARITIES = [
  ["tensor", "one for all"],
  ["channel", "one per row (channel, token)"],
  ["group", "one per group of a row"],
];
const SHORT = { tensor: "tensor", channel: "row", group: "group" };

/** Half to even, as numpy and PyTorch round. */
function roundEven(value) {
  const low = Math.floor(value), rest = value - low;
  if (rest !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

/** Numbers (rows, columns) onto the grids and back, as a Float64Array. */
function rounded(x, columns, { bits, granularity, symmetric, groupSize }) {
  const width = { tensor: x.length, channel: columns, group: groupSize }[granularity];
  const largest = 2 ** (bits - 1) - 1;
  const smallest = symmetric ? -largest : -largest - 1;
  const back = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += width) {
    let low = 0, high = 0;
    for (let i = start; i < start + width; i++) {
      if (x[i] < low) low = x[i];
      if (x[i] > high) high = x[i];
    }
    const scale = (symmetric ? Math.max(-low, high) / largest : (high - low) / (largest - smallest)) || 1;
    const zero = symmetric ? 0 : clamp(smallest - roundEven(low / scale), smallest, largest);
    for (let i = start; i < start + width; i++) {
      back[i] = (clamp(roundEven(x[i] / scale) + zero, smallest, largest) - zero) * scale;
    }
  }
  return back;
}

function deviation(x) {
  let sum = 0, squares = 0;
  for (const value of x) sum += value;
  const mean = sum / x.length;
  for (const value of x) squares += (value - mean) ** 2;
  return Math.sqrt(squares / x.length);
}

/** { error, zeros, shares }: rms error over the deviation, share of zeros, and the histogram. */
function measured(x, columns, setting, [count, lowest, highest], spread = deviation(x)) {
  const back = rounded(x, columns, setting);
  const shares = new Float64Array(count);
  let squares = 0, zeros = 0;
  for (let i = 0; i < x.length; i++) {
    const error = Math.abs(back[i] - x[i]);
    squares += error * error;
    if (back[i] === 0) zeros += 1;
    const place = ((Math.log10(Math.max(error / spread, 1e-30)) - lowest) / (highest - lowest)) * count;
    shares[clamp(Math.floor(place), 0, count - 1)] += 1 / x.length;
  }
  return { error: Math.sqrt(squares / x.length) / spread, zeros: zeros / x.length, shares };
}

function render({ model, el }) {
  const names = model.get("names"), shapes = model.get("shapes"), choices = model.get("choices");
  const quality = model.get("quality"), reference = model.get("reference"), guessing = model.get("guessing");
  const groupSize = model.get("group_size"), bins = model.get("bins");
  const all = floats(model.get("numbers"));
  const matrices = {};
  let start = 0;
  names.forEach((name, i) => {
    const [rows, columns] = shapes[i];
    const x = Float64Array.from(all.subarray(start, start + rows * columns));
    matrices[name] = { x, columns, spread: deviation(x) };
    start += rows * columns;
  });
  const sync = saver(model);
  const traits = ["of", "bits", "granularity", "symmetric"];
  const state = {};
  const read = () => traits.forEach((name) => { state[name] = model.get(name); });
  read();

  const controls = {
    of: select({ label: "round the", options: names, value: state.of, onChange: (v) => set("of", v) }),
    bits: slider({
      label: "bits", min: 0, max: choices.length - 1, value: choices.indexOf(state.bits),
      format: (i) => String(choices[i]), onInput: (i) => set("bits", choices[i]),
    }),
    granularity: select({
      label: "grids", options: GRANULARITIES, value: state.granularity, onChange: (v) => set("granularity", v),
    }),
    symmetric: checkbox({ label: "symmetric", value: state.symmetric, onChange: (v) => set("symmetric", v) }),
  };
  const errors = lineChart({ heading: "Errors of one matrix", height: 260 });
  const curve = lineChart({ heading: "Quality of the whole model, rounded in all its linear layers", height: 260 });
  const live = liveRegion();
  const root = mount(el,
    h("div", { class: "zoo-controls" }, ...Object.values(controls)),
    h("div", { class: "zoo-panels" }, errors, curve),
    h("p", { class: "zoo-note" }, "Left: how many numbers err by how much; a bit more halves the error and moves the hill to the left. " +
      `Errors below ${10 ** bins[1]} are in the leftmost bin. The thick line is the chosen grid. Groups have ${groupSize} numbers. ` +
      "Right: measured beforehand; the dashed lines are float32 and guessing."),
    live);

  const cache = {};
  const look = (granularity) => {
    const key = [state.of, state.bits, granularity, state.symmetric].join("|");
    const { x, columns, spread } = matrices[state.of];
    return (cache[key] ??= measured(x, columns, { ...state, granularity, groupSize }, bins, spread));
  };
  const accuracy = (granularity, bits) => quality[[state.of, granularity, Number(state.symmetric), bits].join("|")];

  function draw() {
    const colors = themeColors(root);
    const [count, lowest, highest] = bins;
    const edge = (i) => lowest + (i / count) * (highest - lowest);
    const now = look(state.granularity);
    const hills = GRANULARITIES.map(([kind], i) => {
      const { shares } = look(kind);
      const xs = [], ys = [];
      shares.forEach((share, bin) => { xs.push(edge(bin), edge(bin + 1)); ys.push(share, share); });
      const chosen = kind === state.granularity;
      return { xs, ys, color: colors.series[i], name: `per ${SHORT[kind]}`, width: chosen ? 3 : 1.25, alpha: chosen ? 1 : 0.75, dash: [[], [6, 3], [2, 2]][i] };
    });
    const top = Math.max(...hills.flatMap((hill) => hill.ys));
    const tall = Math.ceil(top * 20 + 0.1) / 20;
    const text = `${state.bits} bits, ${state.symmetric ? "symmetric" : "asymmetric"}, one grid per ${SHORT[state.granularity]}: ` +
      `the ${state.of} err by ${(100 * now.error).toPrecision(2)} % of their standard deviation, ` +
      `${(100 * now.zeros).toFixed(0)} % of them become 0. ` +
      `Accuracy of the model ${(100 * accuracy(state.granularity, state.bits)).toFixed(1)} %, in float32 ${(100 * reference).toFixed(1)} %.`;
    errors.draw({
      colors, xRange: [lowest, highest], yRange: [0, tall], lines: hills, label: `Histogram of errors. ${text}`,
      xLabel: "error / standard deviation of the numbers", yLabel: "share of the numbers",
      xTicks: Array.from({ length: highest - lowest + 1 }, (_, i) => lowest + i),
      xFormat: (v) => String(Number((10 ** v).toPrecision(1))),
      yFormat: (v) => v.toFixed(2),
    });
    const low = Math.max(0, Math.floor(10 * guessing - 0.5) / 10);
    curve.draw({
      colors, xRange: [choices[0] - 0.3, choices[choices.length - 1] + 0.3],
      yRange: [low, Math.min(1, Math.ceil(10 * reference + 0.6) / 10)],
      xTicks: choices, xLabel: "bits", yLabel: "accuracy", label: `Accuracy against bits. ${text}`,
      yFormat: (v) => v.toFixed(1),
      lines: GRANULARITIES.map(([kind], i) => ({
        xs: choices, ys: choices.map((bits) => accuracy(kind, bits)), color: colors.series[i], name: `per ${SHORT[kind]}`,
        width: kind === state.granularity ? 3 : 1.25, dash: [[], [6, 3], [2, 2]][i],
      })),
      rules: [{ y: reference, text: "float32" }, { y: guessing, text: "guessing" }],
      dots: [{ x: state.bits, y: accuracy(state.granularity, state.bits), color: colors.fg }],
    });
    live.say(text);
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
    controls.of.set(state.of);
    controls.bits.set(choices.indexOf(state.bits));
    controls.granularity.set(state.granularity);
    controls.symmetric.set(state.symmetric);
    request();
  };
  const stops = [
    listen(model, Object.fromEntries(traits.map((name) => [`change:${name}`, follow]))),
    onThemeChange(request), errors.dispose, curve.dispose, request.cancel, sync.flush,
  ];
  request.now();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render, measured };
