// State-space explorer: one state, its pole in the unit circle, and its response to an input.
// The same formulas as in state_space_explorer.py; a test compares the two.

/** Complex numbers are pairs [real, imaginary]. */
const times = ([a, b], [c, d]) => [a * c - b * d, a * d + b * c];
const over = ([a, b], [c, d]) => times([a, b], [c / (c * c + d * d), -d / (c * c + d * d)]);
const expOf = ([a, b]) => [Math.exp(a) * Math.cos(b), Math.exp(a) * Math.sin(b)];
const size = ([a, b]) => Math.hypot(a, b);
const scaled = (factor, [a, b]) => [factor * a, factor * b];
const minusOne = ([a, b]) => [a - 1, b];

const rateOf = ({ decay, frequency }) => [-decay, frequency];

/** Ā and B̄. */
function discrete(state) {
  const z = scaled(state.delta, rateOf(state));
  if (state.method === "euler") return [[1 + z[0], z[1]], [state.delta, 0]];
  const aBar = expOf(z);
  return [aBar, state.method === "zoh" ? over(minusOne(aBar), rateOf(state)) : [state.delta, 0]];
}

/** The output after 0, 1, ..., `steps` steps. */
function response(state, steps) {
  const [aBar, bBar] = discrete(state);
  let hidden = [0, 0];
  const outputs = [0];
  for (let step = 0; step < steps; step++) {
    const input = state.signal === "constant" || step === 0 ? 1 : 0;
    const faded = times(aBar, hidden);
    hidden = [faded[0] + bBar[0] * input, faded[1] + bBar[1] * input];
    outputs.push(hidden[0]);
  }
  return outputs;
}

/** The solution of the differential equation after `steps` steps, which may be a fraction. */
function exact(state, steps) {
  const rate = rateOf(state);
  const time = steps * state.delta;
  const fed = state.signal === "constant" ? time : Math.min(time, state.delta);
  const grown = over(minusOne(expOf(scaled(fed, rate))), rate);
  return times(expOf(scaled(time - fed, rate)), grown)[0];
}

const SIDE = 300; // of the plane's canvas
const UNIT = 112;

const METHOD_NAMES = {
  zoh: "zero-order hold",
  mamba: "as in Mamba's code",
  euler: "Euler's method",
};

const number = ([a, b]) =>
  Math.abs(b) < 5e-4 ? a.toFixed(3) : `${a.toFixed(3)} ${b < 0 ? "−" : "+"} ${Math.abs(b).toFixed(3)}i`;

const outcome = (value) => (Math.abs(value) < 1e4 ? value.toFixed(4) : value.toExponential(2));

function render({ model, el }) {
  const deltas = model.get("deltas");
  const decays = model.get("decays");
  const steps = model.get("steps");
  const names = ["delta", "decay", "frequency", "method", "signal", "step"];
  const sync = saver(model);
  const state = {};
  const read = () => names.forEach((name) => { state[name] = model.get(name); });
  read();

  const fromList = (label, name, list) => slider({
    label, min: 0, max: list.length - 1, value: list.indexOf(state[name]),
    format: (i) => String(list[i]), onInput: (i) => set(name, list[i]),
  });
  const controls = {
    delta: fromList("step length Δ", "delta", deltas),
    decay: fromList("decay −Re A", "decay", decays),
    frequency: slider({
      label: "frequency Im A", min: 0, max: 6, step: 0.25, value: state.frequency,
      format: (v) => v.toFixed(2), onInput: (v) => set("frequency", v),
    }),
    method: select({
      label: "discretisation", options: Object.entries(METHOD_NAMES), value: state.method,
      onChange: (v) => set("method", v),
    }),
    signal: select({
      label: "input", options: [["impulse", "an impulse"], ["constant", "constant"]],
      value: state.signal, onChange: (v) => set("signal", v),
    }),
  };
  const plane = still(SIDE, SIDE, "Ā in the unit circle");
  const chart = lineChart({ heading: "Response: the exact curve, and the output after each step", height: 300 });
  const live = liveRegion();
  const root = mount(el, h("div", { class: "zoo-controls" }, ...Object.values(controls)),
    h("div", { class: "zoo-panels" },
      h("div", { class: "zoo-panel" }, h("p", { class: "zoo-heading" }, "Ā in the unit circle"), plane), chart),
    h("p", { class: "zoo-note" }, "Inside the circle the state fades, outside it grows. The dotted path is exp(ΔA) while Δ grows from 0. " +
      "B is 1. Mamba's code takes Ā = exp(ΔA) and B̄ = Δ, Euler's method Ā = 1 + ΔA and B̄ = Δ. The impulse is 1 during the first step."),
    live);
  const announce = chartCursor(chart, {
    label: "Step after which the output is read", value: state.step, hover: true, page: () => 5,
    range: () => [0, steps], onMove: (v) => set("step", v),
  });

  function drawPlane(aBar, colors) {
    const { context } = plane;
    const middle = SIDE / 2;
    const at = ([a, b]) => [middle + UNIT * a, middle - UNIT * b];
    context.clearRect(0, 0, SIDE, SIDE);
    stroke(context, [[10, middle], [SIDE - 10, middle]], { color: colors.grid, width: 1 });
    stroke(context, [[middle, 10], [middle, SIDE - 10]], { color: colors.grid, width: 1 });
    context.beginPath();
    context.arc(middle, middle, UNIT, 0, 2 * Math.PI);
    context.lineWidth = 1.5;
    context.strokeStyle = colors.border;
    context.stroke();
    const path = Array.from({ length: 101 }, (_, i) => at(expOf(scaled((i / 100) * state.delta, rateOf(state)))));
    stroke(context, path, { color: colors.series[0], width: 2, dash: [2, 4] });
    // A pole far outside stays visible at the edge.
    const reach = Math.min(1, (middle - 12) / (UNIT * Math.max(1e-9, size(aBar))));
    const [x, y] = at(scaled(reach, aBar));
    stroke(context, [[x - 7, y - 7], [x + 7, y + 7]], { color: colors.series[1], width: 3.5 });
    stroke(context, [[x - 7, y + 7], [x + 7, y - 7]], { color: colors.series[1], width: 3.5 });
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = colors.muted;
    context.textAlign = "left";
    context.textBaseline = "top";
    context.fillText("1", middle + UNIT + 4, middle + 4);
    context.fillText("i", middle + 5, middle - UNIT - 16);
    context.font = "600 13px system-ui, sans-serif";
    context.fillStyle = colors.fg;
    context.textBaseline = "bottom";
    context.fillText(reach < 1 ? "Ā (beyond)" : "Ā", Math.min(x + 9, SIDE - 75 * (reach < 1) - 18), Math.max(y - 8, 16));
    plane.element.setAttribute("aria-label", `Ā is ${number(aBar)}, at distance ${size(aBar).toFixed(3)} from 0.`);
  }

  function draw() {
    const colors = themeColors(root);
    const [aBar, bBar] = discrete(state);
    drawPlane(aBar, colors);
    const fine = Array.from({ length: 20 * steps + 1 }, (_, i) => i / 20);
    const curve = fine.map((at) => exact(state, at));
    const outputs = response(state, steps);
    const low = Math.min(0, ...curve), high = Math.max(...curve), margin = 0.25 * (high - low);
    const inside = (y) => y >= low - margin && y <= high + margin;
    chart.draw({
      colors, xRange: [0, steps], yRange: [low - margin, high + margin], xLabel: "steps", yLabel: "output y",
      yFormat: (v) => String(Number(v.toPrecision(3))),
      lines: [
        { xs: fine, ys: curve, color: colors.series[0], name: "exact", width: 2.5 },
        { xs: outputs.map((_, n) => n), ys: outputs, color: colors.series[1], name: "in steps", width: 1, dash: [3, 3] },
      ],
      rules: [{ x: state.step, color: colors.fg }, { y: 0 }],
      dots: outputs.map((y, n) => ({ x: n, y, color: colors.series[1] })).filter((dot) => inside(dot.y)),
    });
    const kept = size(aBar);
    const fades = kept > 1 - 1e-9
      ? kept > 1 + 1e-9 ? "each step makes the state larger: it grows without bound" : "nothing ever fades"
      : kept < 1e-6 ? "a step forgets everything"
        : `each step keeps ${(100 * kept).toFixed(1)} %, half is gone after ${(Math.log(0.5) / Math.log(kept)).toFixed(1)} steps`;
    const text = `Ā = ${number(aBar)}, |Ā| = ${kept.toFixed(3)}: ${fades}. B̄ = ${number(bBar)}. ` +
      `After ${state.step} steps the output is ${outcome(outputs[state.step])}, exactly it would be ${outcome(exact(state, state.step))}.`;
    live.say(text);
    announce(state.step, text);
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
    controls.delta.set(deltas.indexOf(state.delta));
    controls.decay.set(decays.indexOf(state.decay));
    for (const name of ["frequency", "method", "signal"]) controls[name].set(state[name]);
    request();
  };
  const stops = [
    listen(model, Object.fromEntries(names.map((name) => [`change:${name}`, follow]))),
    onThemeChange(request), chart.dispose, request.cancel, sync.flush,
  ];
  request.now();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render, response, exact };
