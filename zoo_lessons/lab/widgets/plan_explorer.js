// Plan explorer: four limits, a chart of accuracy against p99, and who misses what.

const FIGURES = {
  accuracy: { label: "accuracy ≥", head: "accuracy", least: true, write: (v) => `${(100 * v).toFixed(1)} %` },
  p99: { label: "p99 ≤", head: "p99", least: false, write: (v) => v.toFixed(2) },
  throughput: { label: "throughput ≥", head: "throughput", least: true, write: (v) => `${v.toFixed(0)}×` },
  kilobytes: { label: "file ≤", head: "file", least: false, write: (v) => `${v.toFixed(0)} KB` },
};

/** The figures in which a plan misses its limit; as plan_explorer.py. */
function misses(plan, limits) {
  return Object.keys(FIGURES).filter((name) =>
    (FIGURES[name].least ? plan[name] < limits[name] : plan[name] > limits[name]));
}

function render({ model, el }) {
  const plans = model.get("plans"), ranges = model.get("ranges");
  const sync = saver(model);
  let limits = { ...model.get("limits") };

  const sliders = Object.fromEntries(Object.entries(FIGURES).map(([name, { label, write }]) => {
    const [min, max, step] = ranges[name];
    return [name, slider({ label, min, max, step, value: limits[name], format: write, onInput: (v) => set(name, v) })];
  }));
  const surface = still(560, 300, "Accuracy against p99");
  surface.element.style.width = "100%";
  const panel = h("div", { class: "zoo-panel zoo-chart" },
    h("p", { class: "zoo-heading" }, "Accuracy on strangers against p99; the larger the disc, the larger the file"),
    surface.element);
  const body = h("tbody");
  const live = liveRegion();
  const root = mount(el,
    h("div", { class: "zoo-controls" }, ...Object.values(sliders)),
    h("div", { class: "zoo-panels" }, panel,
      h("div", { class: "zoo-panel px-side" }, h("table", { class: "px-table" },
        h("caption", { class: "zoo-hidden" }, "Plans and their figures; a cross marks a missed limit"),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "plan"),
          ...Object.values(FIGURES).map(({ head }) => h("th", { scope: "col" }, head)))),
        body))),
    h("p", { class: "zoo-note" }, "Filled discs and bold rows keep all four limits. ✗ marks a missed one. " +
      "Upright lines are 95 % intervals over the left-out people. p99 and throughput are in units of the reference's."),
    live);

  function paint(width) {
    if (width) { surface.resize(width, 300); surface.element.style.width = "100%"; }
    const { context } = surface;
    const colors = themeColors(root);
    context.clearRect(0, 0, surface.width, surface.height);
    const logs = [...plans.map((plan) => Math.log10(plan.p99)), Math.log10(limits.p99)];
    const xRange = [Math.min(...logs) - 0.15, Math.max(...logs, 0) + 0.15];
    const yRange = [Math.min(...plans.map((plan) => plan.low), limits.accuracy) - 0.01,
      Math.min(1.005, Math.max(...plans.map((plan) => plan.high), limits.accuracy) + 0.01)];
    const ticks = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10].map(Math.log10)
      .filter((tick) => tick >= xRange[0] && tick <= xRange[1]);
    const frame = chartFrame(context, {
      width: surface.width, height: surface.height, xRange, yRange, colors, xTicks: ticks,
      xLabel: "p99 / the reference's p99 (logarithmic)", yLabel: "accuracy (%)",
      xFormat: (x) => String(Number((10 ** x).toPrecision(2))), yFormat: (y) => String(Math.round(1000 * y) / 10),
    });
    const rule = { color: colors.muted, width: 1.25, dash: [4, 3] };
    const x = frame.x(Math.log10(limits.p99)), y = frame.y(limits.accuracy);
    stroke(context, [[x, frame.top], [x, frame.bottom]], rule);
    stroke(context, [[frame.left, y], [frame.right, y]], rule);
    const largest = Math.max(...plans.map((plan) => plan.kilobytes));
    const order = plans.map((plan, i) => [plan, i]).sort((a, b) => b[0].kilobytes - a[0].kilobytes);
    for (const [plan, i] of order) {
      const px = frame.x(Math.log10(plan.p99)), py = frame.y(plan.accuracy);
      stroke(context, [[px, frame.y(plan.low)], [px, frame.y(plan.high)]], { color: colors.muted, width: 1, alpha: 0.6 });
      const kept = misses(plan, limits).length === 0;
      context.beginPath();
      context.arc(px, py, 7 + 13 * Math.sqrt(plan.kilobytes / largest), 0, 2 * Math.PI);
      context.fillStyle = kept ? colors.series[0] : colors.bg;
      context.globalAlpha = kept ? 1 : 0.6;
      context.fill();
      context.globalAlpha = 1;
      context.lineWidth = 2;
      context.strokeStyle = colors.series[0];
      context.stroke();
    }
    // Numbers come last, left and right of their discs in turn, so that no disc hides one.
    context.font = "600 11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillStyle = colors.fg;
    for (const [plan, i] of order) {
      const px = frame.x(Math.log10(plan.p99)), py = frame.y(plan.accuracy);
      const away = 7 + 13 * Math.sqrt(plan.kilobytes / largest) + 3;
      context.textAlign = i % 2 ? "left" : "right";
      context.fillText(String(i + 1), px + (i % 2 ? away : -away), py);
    }
  }

  function draw() {
    paint();
    body.replaceChildren(...plans.map((plan, i) => {
      const missed = misses(plan, limits);
      return h("tr", { class: missed.length ? "" : "px-kept" },
        h("th", { scope: "row" }, `${i + 1} ${plan.name}`),
        ...Object.entries(FIGURES).map(([name, { write }]) => h("td", {},
          `${missed.includes(name) ? "✗ " : ""}${write(plan[name])}`)));
    }));
    const kept = plans.filter((plan) => misses(plan, limits).length === 0);
    const names = kept.map((plan) => plan.name).join("; ");
    surface.element.setAttribute("aria-label", `Accuracy against p99 of ${plans.length} plans. ` +
      (kept.length ? `Within all limits: ${names}.` : "None is within all limits."));
    live.say(kept.length ? `${kept.length} of ${plans.length} plans keep all limits: ${names}.`
      : `None of the ${plans.length} plans keeps all limits.`);
  }

  const request = redraw(draw);
  function set(name, value) {
    limits = { ...limits, [name]: value };
    sync("limits", limits);
    request();
  }
  function follow() {
    limits = { ...model.get("limits") };
    for (const name of Object.keys(FIGURES)) sliders[name].set(limits[name]);
    request();
  }
  const stops = [
    listen(model, { "change:limits": follow }), onThemeChange(request), onResize(panel, paint),
    request.cancel, sync.flush,
  ];
  request.now();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render, misses };
