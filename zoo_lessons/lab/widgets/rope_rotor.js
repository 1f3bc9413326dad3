// RoPE rotor: rotate a query and a key by their positions, and see that only the distance counts.

/** The angle that pair `pair` turns by from one position to the next. */
function turnPerPosition(pair, head_dim, base) {
  return base ** ((-2 * pair) / head_dim);
}

/** Product of one pair of unit vectors: the query turned m times, the key n times. */
function pairProduct(qAngle, kAngle, theta, m, n) {
  return Math.cos(qAngle + m * theta - (kAngle + n * theta));
}

/** q·k over all pairs of the head. */
function score(angles, head_dim, base, m, n) {
  let sum = 0;
  for (let i = 0; i < head_dim / 2; i++) {
    sum += pairProduct(angles.q[i], angles.k[i], turnPerPosition(i, head_dim, base), m, n);
  }
  return sum;
}

const SIZE = 420; // of the circle's canvas
const RADIUS = 176;

function render({ model, el }) {
  const random = model.get("angles"); // { q: [...], k: [...] }
  const bases = model.get("bases");
  const farthest = model.get("farthest");
  const zeros = random.q.map(() => Math.PI / 6); // q = k; a little off the axis, to be seen
  const names = ["vectors", "m", "n", "shift", "pair", "head_dim", "base"];
  const sync = saver(model);
  const state = {};
  const read = () => names.forEach((name) => { state[name] = model.get(name); });
  read();

  const control = (name, options) => slider({ ...options, value: state[name], onInput: (v) => set(name, v) });
  const controls = {
    m: control("m", { label: "query's position m", min: 0, max: farthest }),
    n: control("n", { label: "key's position n", min: 0, max: farthest }),
    shift: control("shift", { label: "shift both by", min: 0, max: 1000 }),
    pair: control("pair", { label: "pair i", min: 0, max: state.head_dim / 2 - 1 }),
    head_dim: control("head_dim", { label: "head_dim", min: 8, max: 128, step: 8 }),
    base: slider({
      label: "base", min: 0, max: bases.length - 1, value: bases.indexOf(state.base),
      format: (i) => String(bases[i]), onInput: (i) => set("base", bases[i]),
    }),
    vectors: select({
      label: "vectors", options: [["same", "q = k in every pair"], ["random", "random directions"]],
      value: state.vectors, onChange: (v) => set("vectors", v),
    }),
  };
  const circle = canvas2d(SIZE, SIZE, "Rotated query and key");
  circle.element.setAttribute("role", "img");
  circle.element.removeAttribute("tabindex");
  const circleHeading = h("p", { class: "zoo-heading" });
  const pairChart = lineChart({ heading: "Product of this pair against distance", height: 190 });
  const scoreChart = lineChart({ heading: "Product of the whole vectors against distance", height: 210 });
  const live = liveRegion();
  const root = mount(el, h("div", { class: "zoo-controls" }, ...Object.values(controls)),
    h("div", { class: "zoo-panels" },
      h("div", { class: "zoo-panel" }, circleHeading, circle),
      h("div", { class: "zoo-panel zoo-chart" }, pairChart, scoreChart)), live);

  function arrow(context, angle, { color, text, faint, length = RADIUS }) {
    const middle = SIZE / 2;
    const tip = [middle + length * Math.cos(angle), middle - length * Math.sin(angle)];
    stroke(context, [[middle, middle], tip], { color, width: faint ? 1.75 : 3.5, dash: faint ? [4, 4] : [] });
    if (!faint) {
      context.save();
      context.translate(...tip);
      context.rotate(-angle);
      context.fillStyle = color;
      context.beginPath();
      context.moveTo(2, 0);
      context.lineTo(-13, 6.5);
      context.lineTo(-13, -6.5);
      context.fill();
      context.restore();
    }
    context.font = faint ? "12px system-ui, sans-serif" : "600 14px system-ui, sans-serif";
    context.fillStyle = color;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const away = length + (faint ? 12 : 20);
    context.fillText(text, middle + away * Math.cos(angle), middle - away * Math.sin(angle));
  }

  /** An arc from one direction to another, the short way, with the angle written beside it. */
  function between(context, from, to, colors) {
    const middle = SIZE / 2;
    let turn = (to - from) % (2 * Math.PI);
    if (turn > Math.PI) turn -= 2 * Math.PI;
    if (turn < -Math.PI) turn += 2 * Math.PI;
    context.beginPath();
    context.arc(middle, middle, 44, -from, -(from + turn), turn > 0);
    context.lineWidth = 2;
    context.strokeStyle = colors.fg;
    context.stroke();
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = colors.fg;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const half = from + turn / 2;
    context.fillText(`${Math.abs((turn * 180) / Math.PI).toFixed(0)}°`, middle + 64 * Math.cos(half), middle - 64 * Math.sin(half));
  }

  function drawCircle(q, k, theta, colors) {
    const { context } = circle;
    const middle = SIZE / 2;
    const at = { q: q + (state.m + state.shift) * theta, k: k + (state.n + state.shift) * theta };
    context.clearRect(0, 0, SIZE, SIZE);
    stroke(context, [[middle - RADIUS - 14, middle], [middle + RADIUS + 14, middle]], { color: colors.grid, width: 1 });
    stroke(context, [[middle, middle - RADIUS - 14], [middle, middle + RADIUS + 14]], { color: colors.grid, width: 1 });
    context.beginPath();
    context.arc(middle, middle, RADIUS, 0, 2 * Math.PI);
    context.lineWidth = 1.25;
    context.strokeStyle = colors.border;
    context.stroke();
    if (q === k) arrow(context, q, { color: colors.muted, text: "q = k", faint: true, length: RADIUS - 30 });
    else {
      arrow(context, q, { color: colors.series[0], text: "q", faint: true, length: RADIUS - 30 });
      arrow(context, k, { color: colors.series[1], text: "k", faint: true, length: RADIUS - 30 });
    }
    arrow(context, at.k, { color: colors.series[1], text: "k′" });
    arrow(context, at.q, { color: colors.series[0], text: "q′" });
    between(context, at.k, at.q, colors);
    const degrees = (x) => `${((x * 180) / Math.PI).toFixed(0)}°`;
    circle.element.setAttribute("aria-label",
      `Pair ${state.pair} on the unit circle. The query is turned by ${degrees((state.m + state.shift) * theta)}, ` +
      `the key by ${degrees((state.n + state.shift) * theta)}.`);
    circleHeading.textContent = `Pair ${state.pair}: dashed before, solid after the rotation`;
  }

  function draw() {
    const colors = themeColors(root);
    const { m, n, shift, pair, head_dim, base } = state;
    const angles = state.vectors === "same" ? { q: zeros, k: zeros } : random;
    const theta = turnPerPosition(pair, head_dim, base);
    const [q, k] = [angles.q[pair], angles.k[pair]];
    drawCircle(q, k, theta, colors);
    const distances = Array.from({ length: 2 * farthest + 1 }, (_, i) => i - farthest);
    const one = pairProduct(q, k, theta, m + shift, n + shift);
    const all = score(angles, head_dim, base, m + shift, n + shift);
    const here = m - n;
    const chart = (target, ys, top, value, color, label) => target.draw({
      colors, xRange: [-farthest, farthest], yRange: [-1.1 * top, 1.1 * top], xLabel: "distance m − n", yLabel: "product",
      lines: [{ xs: distances, ys, color }], rules: [{ x: here }, { y: 0 }], dots: [{ x: here, y: value, color }],
      label: `${label} At distance ${here}: ${value.toFixed(3)}.`,
    });
    // Both dots come from the shifted positions, the curves from the distance: they always meet.
    chart(pairChart, distances.map((d) => pairProduct(q, k, theta, d, 0)), 1, one, colors.series[2], "Product of this pair against distance.");
    chart(scoreChart, distances.map((d) => score(angles, head_dim, base, d, 0)), head_dim / 2, all, colors.series[3], "Product of all pairs against distance.");
    const turned = (position) => `${(position * theta).toFixed(3)} rad`;
    const same = shift
      ? `Without the shift they are ${pairProduct(q, k, theta, m, n).toFixed(3)} and ` +
        `${score(angles, head_dim, base, m, n).toFixed(3)}: only m − n = ${here} counts.`
      : `m − n = ${here}. Shift both positions: the arrows turn, the products stay.`;
    live.say(`θ = ${theta.toPrecision(4)} rad per position: q at ${m + shift} turns by ${turned(m + shift)}, ` +
      `k at ${n + shift} by ${turned(n + shift)}. Product of this pair ${one.toFixed(3)}, ` +
      `of all ${head_dim / 2} pairs ${all.toFixed(3)}. ${same}`);
  }

  function settle() {
    const last = state.head_dim / 2 - 1;
    controls.pair.setRange(0, last);
    if (state.pair > last) {
      state.pair = last;
      sync("pair", last);
    }
    controls.pair.set(state.pair);
  }

  const request = redraw(draw);
  function set(name, value) {
    state[name] = value;
    sync(name, value);
    settle();
    request();
  }
  const follow = () => {
    read();
    for (const name of ["vectors", "m", "n", "shift", "head_dim"]) controls[name].set(state[name]);
    controls.base.set(bases.indexOf(state.base));
    settle();
    request();
  };
  const stops = [
    listen(model, Object.fromEntries(names.map((name) => [`change:${name}`, follow]))),
    onThemeChange(request), pairChart.dispose, scoreChart.dispose, request.cancel, sync.flush,
  ];
  settle();
  request.now();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render };
