// Schedule explorer: learning-rate schedules, and the rate of the update under the cursor.
// The formulas are those of zoo_lessons/training/schedules.py; a test compares the two.

const warmup = (step, warmup_steps) => (step + 1 >= warmup_steps ? 1 : (step + 1) / warmup_steps);

/** How far the fall has come: 0 at the end of the warm-up, 1 at total_steps and beyond. */
const decayProgress = (step, { warmup_steps, total_steps }) =>
  Math.min(1, Math.max(0, step - warmup_steps) / (total_steps - warmup_steps));

/** Share of the peak rate at `step` (0 for the first update). */
const SCHEDULES = {
  constant: (step, { warmup_steps }) => warmup(step, warmup_steps),
  warmup_inverse_sqrt: (step, { warmup_steps }) =>
    Math.min(warmup(step, warmup_steps), Math.sqrt(warmup_steps / (step + 1))),
  warmup_cosine: (step, options) => Math.min(warmup(step, options.warmup_steps),
    options.final_fraction + ((1 - options.final_fraction) * (1 + Math.cos(Math.PI * decayProgress(step, options)))) / 2),
  warmup_linear: (step, options) => Math.min(warmup(step, options.warmup_steps),
    1 - (1 - options.final_fraction) * decayProgress(step, options)),
};

const TITLES = {
  constant: "constant",
  warmup_inverse_sqrt: "inverse square root",
  warmup_cosine: "cosine",
  warmup_linear: "linear",
};

/** A rate for people: 3.00e-4. */
const rate = (value) => (value === 0 ? "0" : value.toExponential(2));

function render({ model, el }) {
  const rates = model.get("rates");
  const totals = model.get("totals");
  const names = ["schedule", "warmup_steps", "total_steps", "peak_rate", "final_fraction", "step"];
  const sync = saver(model);
  const state = {};
  const read = () => names.forEach((name) => { state[name] = model.get(name); });
  read();

  const fromList = (label, name, list, format) => slider({
    label, min: 0, max: list.length - 1, value: list.indexOf(state[name]),
    format: (i) => format(list[i]), onInput: (i) => set(name, list[i]),
  });
  const controls = {
    schedule: select({ label: "schedule", options: Object.entries(TITLES), value: state.schedule, onChange: (v) => set("schedule", v) }),
    warmup_steps: slider({
      label: "warm-up steps", min: 1, max: state.total_steps - 1, value: state.warmup_steps, onInput: (v) => set("warmup_steps", v),
    }),
    total_steps: fromList("total steps", "total_steps", totals, String),
    peak_rate: fromList("peak rate", "peak_rate", rates, (v) => v.toExponential(0)),
    final_fraction: slider({
      label: "final fraction", min: 0, max: 1, step: 0.05, value: state.final_fraction,
      format: (v) => v.toFixed(2), onInput: (v) => set("final_fraction", v),
    }),
  };
  const chart = lineChart({ heading: "Learning rate of each update", height: 320 });
  const live = liveRegion();
  const root = mount(el, h("div", { class: "zoo-controls" }, ...Object.values(controls)),
    h("div", { class: "zoo-panels" }, chart),
    h("p", { class: "zoo-note" }, "Move the pointer over the curve, or focus it and use the arrow keys, Page Up, Page Down, Home and End."),
    live);
  const announce = chartCursor(chart, {
    label: "Update whose rate is read out", value: state.step, hover: true,
    page: () => Math.max(1, Math.round(state.total_steps / 20)),
    range: () => [0, state.total_steps - 1], onMove: (v) => set("step", v),
  });

  function draw() {
    const colors = themeColors(root);
    const { total_steps, peak_rate, step, schedule, warmup_steps } = state;
    const count = Math.min(total_steps, 1000);
    const steps = [...new Set([
      ...Array.from({ length: count }, (_, i) => Math.round((i * (total_steps - 1)) / (count - 1))),
      warmup_steps - 1, warmup_steps, // the corner must not fall between two samples
    ])].filter((s) => s < total_steps).sort((a, b) => a - b);
    const share = (name, at) => SCHEDULES[name](at, state);
    const lines = Object.keys(TITLES).map((name, i) => ({
      xs: steps, ys: steps.map((s) => peak_rate * share(name, s)), color: colors.series[i], name: TITLES[name],
      width: name === schedule ? 3.5 : 1.5, dash: name === schedule ? [] : [[2, 3], [7, 4], [4, 3], [10, 3, 2, 3]][i],
    }));
    const chosen = Object.keys(TITLES).indexOf(schedule);
    const now = share(schedule, step);
    chart.draw({
      colors, xRange: [0, total_steps], yRange: [0, 1.08 * peak_rate], xLabel: "update (0 is the first)", yLabel: "learning rate",
      yFormat: (v) => (v === 0 ? "0" : Number(v.toPrecision(3)).toExponential()),
      lines,
      rules: [{ x: warmup_steps - 1, text: "warm-up ends" }, { x: step, color: colors.fg }],
      dots: [{ x: step, y: peak_rate * now, color: colors.series[chosen] }],
    });
    controls.final_fraction.input.disabled = !["warmup_cosine", "warmup_linear"].includes(schedule);
    const phase = step + 1 < warmup_steps ? "still warming up" : step < warmup_steps || schedule === "constant" ? "at the peak" : "past the peak";
    const text = `Update ${step} of ${total_steps}: learning rate ${rate(peak_rate * now)}, ` +
      `${(100 * now).toFixed(1)} % of the peak ${rate(peak_rate)}; ${phase} (${TITLES[schedule]}).`;
    live.say(text);
    announce(step, text);
  }

  /** A shorter run pulls warm-up and cursor with it. */
  function settle() {
    controls.warmup_steps.setRange(1, state.total_steps - 1);
    for (const name of ["warmup_steps", "step"]) {
      if (state[name] >= state.total_steps) {
        state[name] = state.total_steps - 1;
        sync(name, state[name]);
      }
    }
    controls.warmup_steps.set(state.warmup_steps);
  }

  const request = redraw(draw);
  function set(name, value) {
    if (state[name] === value) return;
    state[name] = value;
    sync(name, value);
    settle();
    request();
  }
  const follow = () => {
    read();
    controls.schedule.set(state.schedule);
    controls.total_steps.set(totals.indexOf(state.total_steps));
    controls.peak_rate.set(rates.indexOf(state.peak_rate));
    controls.final_fraction.set(state.final_fraction);
    settle();
    request();
  };
  const stops = [
    listen(model, Object.fromEntries(names.map((name) => [`change:${name}`, follow]))),
    onThemeChange(request), chart.dispose, request.cancel, sync.flush,
  ];
  settle();
  request.now();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render, SCHEDULES };
