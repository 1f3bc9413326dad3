// Position explorer: what each dimension of a positional encoding does, and what products see of it.

/** The sinusoidal table (length, d_model), sines and cosines side by side, as in layers/positions.py. */
function sinusoidalPositions(length, d_model, base) {
  const table = new Float32Array(length * d_model);
  for (let i = 0; i < d_model / 2; i++) {
    const frequency = base ** ((-2 * i) / d_model);
    for (let p = 0; p < length; p++) {
      table[p * d_model + 2 * i] = Math.sin(p * frequency);
      table[p * d_model + 2 * i + 1] = Math.cos(p * frequency);
    }
  }
  return table;
}

/** Positions per full turn of a pair. */
function wavelength(pair, d_model, base) {
  return 2 * Math.PI * base ** ((2 * pair) / d_model);
}

/** All products of a table's rows: (length, length). */
function products(table, length, d_model) {
  const out = new Float32Array(length * length);
  for (let a = 0; a < length; a++) {
    for (let b = 0; b <= a; b++) {
      let sum = 0;
      for (let d = 0; d < d_model; d++) sum += table[a * d_model + d] * table[b * d_model + d];
      out[a * length + b] = out[b * length + a] = sum;
    }
  }
  return out;
}

/** Mean of a (rows, columns) matrix along each diagonal: distances column - row, ascending. */
function meanByDistance(matrix, rows, columns) {
  const sums = new Float64Array(rows + columns - 1), counts = new Float64Array(rows + columns - 1);
  for (let a = 0; a < rows; a++) {
    for (let b = 0; b < columns; b++) {
      sums[b - a + rows - 1] += matrix[a * columns + b];
      counts[b - a + rows - 1] += 1;
    }
  }
  return { distances: Array.from(sums, (_, i) => i - rows + 1), means: sums.map((s, i) => s / counts[i]) };
}

const SINUSOIDAL = "sinusoidal";
const MAP_HEIGHT = 430;
const MAP_MARGIN = { left: 58, top: 8, right: 70, bottom: 42 };

function render({ model, el }) {
  const values = floats(model.get("_values"));
  const arrays = model.get("_arrays"); // [{ name, kind, shape, start }]
  const bases = model.get("bases");
  const sync = saver(model);
  const names = ["source", "view", "length", "d_model", "base", "pair", "position", "head"];
  const state = {};
  const read = () => names.forEach((name) => { state[name] = model.get(name); });
  read();

  const control = (make, name, options) => make({ ...options, value: state[name], onInput: (v) => set(name, v), onChange: (v) => set(name, v) });
  const controls = {
    source: control(select, "source", { label: "encoding", options: [SINUSOIDAL, ...arrays.map((a) => a.name)] }),
    view: control(select, "view", {
      label: "show", options: [["waves", "frequency and wavelength"], ["products", "dot product against distance"]],
    }),
    length: control(slider, "length", { label: "length", min: 16, max: 256, step: 8 }),
    d_model: control(slider, "d_model", { label: "d_model", min: 8, max: 128, step: 8 }),
    base: slider({
      label: "base", min: 0, max: bases.length - 1, value: bases.indexOf(state.base),
      format: (i) => String(bases[i]), onInput: (i) => set("base", bases[i]),
    }),
    pair: control(slider, "pair", { label: "pair i", min: 0, max: state.d_model / 2 - 1 }),
    position: control(slider, "position", { label: "position p", min: 0, max: state.length - 1 }),
    head: control(slider, "head", { label: "head", min: 0, max: 0 }),
  };
  const map = canvas2d(420, MAP_HEIGHT, "Heat map");
  map.element.style.width = "100%";
  map.element.classList.add("zoo-cursor");
  const mapHeading = h("p", { class: "zoo-heading" });
  const mapPanel = h("div", { class: "zoo-panel zoo-chart" }, mapHeading, map);
  const first = lineChart({ heading: " ", height: 240 });
  const second = lineChart({ heading: " ", height: 190 });
  const charts = h("div", { class: "zoo-panel zoo-chart" }, first, second);
  const live = liveRegion();
  const root = mount(el, h("div", { class: "zoo-controls" }, ...Object.values(controls)),
    h("div", { class: "zoo-panels" }, mapPanel, charts), live);
  const show = (element, on) => { (element.element || element).style.display = on ? "" : "none"; };

  /** What is on show: { kind: "table" | "bias", rows, columns, values, sinusoidal }. */
  function current() {
    const array = arrays.find((a) => a.name === state.source);
    if (!array) {
      const { length, d_model, base } = state;
      return { kind: "table", rows: length, columns: d_model, sinusoidal: true,
        values: sinusoidalPositions(length, d_model, base) };
    }
    const [heads, rows, columns] = array.shape;
    const head = clamp(state.head, 0, heads - 1);
    const start = array.start + head * rows * columns;
    return { kind: array.kind, heads, rows, columns, values: values.subarray(start, start + rows * columns) };
  }

  let memo = {};
  function computed() {
    const key = names.filter((n) => !["pair", "position", "view"].includes(n)).map((n) => state[n]).join();
    if (memo.key === key) return memo;
    const data = current();
    const square = data.kind === "bias"
      ? { matrix: data.values, rows: data.rows, columns: data.columns }
      : { matrix: products(data.values, data.rows, data.columns), rows: data.rows, columns: data.rows };
    return (memo = { key, data, square, mean: meanByDistance(square.matrix, square.rows, square.columns) });
  }

  function drawMap(matrix, rows, columns, { xLabel, yLabel, row, boxes, low, high, label, colors }) {
    const { context } = map;
    const inner = { width: map.width - MAP_MARGIN.left - MAP_MARGIN.right,
      height: map.height - MAP_MARGIN.top - MAP_MARGIN.bottom };
    const palette = colormap("cividis");
    const image = new ImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const scale = high > low ? 255 / (high - low) : 0;
    for (let i = 0; i < rows * columns; i++) pixels[i] = palette.abgr[clamp(Math.round((matrix[i] - low) * scale), 0, 255)];
    const small = h("canvas", { width: columns, height: rows });
    small.getContext("2d").putImageData(image, 0, 0);
    context.clearRect(0, 0, map.width, map.height);
    context.imageSmoothingEnabled = false;
    const cell = [inner.width / columns, inner.height / rows];
    const ticks = (count) => niceTicks(0, count - 1, 6).filter(Number.isInteger);
    context.drawImage(small, MAP_MARGIN.left, MAP_MARGIN.top, inner.width, inner.height);
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colors.muted;
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const t of ticks(columns)) context.fillText(t, MAP_MARGIN.left + (t + 0.5) * cell[0], MAP_MARGIN.top + inner.height + 5);
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const t of ticks(rows)) context.fillText(t, MAP_MARGIN.left - 6, MAP_MARGIN.top + (t + 0.5) * cell[1]);
    context.fillStyle = colors.fg;
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "bottom";
    context.fillText(xLabel, MAP_MARGIN.left + inner.width / 2, map.height - 4);
    context.save();
    context.translate(4, MAP_MARGIN.top + inner.height / 2);
    context.rotate(-Math.PI / 2);
    context.textBaseline = "top";
    context.fillText(yLabel, 0, 0);
    context.restore();
    drawScale(context, palette, low, high, colors);
    const outline = (x, y, width, height) => {
      context.lineWidth = 3.5;
      context.strokeStyle = "#ffffff";
      context.strokeRect(x, y, width, height);
      context.lineWidth = 1.75;
      context.strokeStyle = "#c2185b";
      context.strokeRect(x, y, width, height);
    };
    outline(MAP_MARGIN.left, MAP_MARGIN.top + row * cell[1], inner.width, cell[1]);
    for (const [from, count] of boxes) outline(MAP_MARGIN.left + from * cell[0], MAP_MARGIN.top, count * cell[0], inner.height);
    map.element.setAttribute("aria-label", label);
  }

  /** The colour scale to the right of the map. */
  function drawScale(context, palette, low, high, colors) {
    const x = map.width - MAP_MARGIN.right + 14, top = MAP_MARGIN.top;
    const height = map.height - MAP_MARGIN.top - MAP_MARGIN.bottom;
    for (let i = 0; i < height; i++) {
      context.fillStyle = palette.css(1 - i / (height - 1));
      context.fillRect(x, top + i, 12, 1.5);
    }
    context.fillStyle = colors.muted;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "left";
    for (const [value, y, baseline] of [[high, top, "top"], [(low + high) / 2, top + height / 2, "middle"], [low, top + height, "bottom"]]) {
      context.textBaseline = baseline;
      context.fillText(short(value), x + 17, y);
    }
  }

  const short = (value) => String(Number(value.toPrecision(2)));
  function extent(matrix) {
    let low = Infinity, high = -Infinity;
    for (const value of matrix) { if (value < low) low = value; if (value > high) high = value; }
    return { low, high };
  }

  function drawWaves({ data }, colors) {
    const { rows, columns } = data;
    const { pair, position } = state;
    const axis = Array.from({ length: rows }, (_, p) => p);
    const column = (d) => axis.map((p) => data.values[p * columns + d]);
    const { low, high } = data.sinusoidal ? { low: -1, high: 1 } : extent(data.values);
    const pairValues = [column(2 * pair), column(2 * pair + 1)];
    drawMap(data.values, rows, columns, {
      xLabel: "dimension", yLabel: "position", row: position, boxes: [[2 * pair, 2]], low, high, colors,
      label: `The encoding: ${rows} positions by ${columns} dimensions. Up and down change the position, ` +
        "left and right the pair of dimensions.",
    });
    mapHeading.textContent = `The encoding: ${rows} positions × ${columns} dimensions`;
    const kind = data.sinusoidal ? ["sine, dimension", "cosine, dimension"] : ["dimension", "dimension"];
    const room = 0.08 * (high - low || 1);
    setHeading(first, `Pair ${pair}: dimensions ${2 * pair} and ${2 * pair + 1} along the positions`);
    first.draw({
      colors, xRange: [0, rows - 1], yRange: [low - room, high + room], xLabel: "position", yLabel: "value", yFormat: short,
      lines: [0, 1].map((i) => ({ xs: axis, ys: pairValues[i], color: colors.series[i], name: `${kind[i]} ${2 * pair + i}`, dash: i ? [6, 4] : [] })),
      rules: [{ x: position }],
      dots: [0, 1].map((i) => ({ x: position, y: pairValues[i][position], color: colors.series[i] })),
      label: `Dimensions ${2 * pair} and ${2 * pair + 1} at each of ${rows} positions.`,
    });
    const at = pairValues.map((v) => v[position].toFixed(3));
    const values = `At position ${position} they are ${at[0]} and ${at[1]}.`;
    if (!data.sinusoidal) {
      return `Pair ${pair} of “${state.source}”: dimensions ${2 * pair} and ${2 * pair + 1}. ${values} ` +
        "A trained table has no fixed wavelength.";
    }
    const pairs = Array.from({ length: columns / 2 }, (_, i) => i);
    const lengths = pairs.map((i) => wavelength(i, columns, state.base));
    const logs = lengths.map(Math.log10);
    const top = Math.ceil(logs[logs.length - 1]);
    setHeading(second, "Wavelength of every pair");
    second.draw({
      colors, xRange: [0, columns / 2 - 1], yRange: [0, top], xLabel: "pair i", yLabel: "positions a turn",
      yTicks: niceTicks(0, top, top), yFormat: (v) => (v < 3 ? String(10 ** v) : `${10 ** (v - 3)}k`),
      xTicks: niceTicks(0, columns / 2 - 1, 6).filter(Number.isInteger),
      lines: [{ xs: pairs, ys: logs, color: colors.series[2] }],
      rules: [{ y: Math.log10(rows), text: `length ${rows}` }, { x: pair }],
      dots: [{ x: pair, y: logs[pair], color: colors.series[2] }],
      label: `Wavelength of every pair, from ${lengths[0].toFixed(2)} to ${lengths[lengths.length - 1].toFixed(0)} positions.`,
    });
    const turn = lengths[pair];
    return `Pair ${pair} (dimensions ${2 * pair} and ${2 * pair + 1}): wavelength ${turn.toFixed(2)} positions, ` +
      `${(rows / turn).toFixed(2)} turns in ${rows} positions. ${values}`;
  }

  function drawProducts({ data, square, mean }, colors) {
    const { matrix, rows, columns } = square;
    const bias = data.kind === "bias";
    const { position } = state;
    const { low, high } = extent(matrix);
    drawMap(matrix, rows, columns, {
      xLabel: bias ? "key" : "other position", yLabel: bias ? "query" : "position", row: position, boxes: [], low, high, colors,
      label: bias
        ? `The bias for ${rows} queries by ${columns} keys. Up and down choose the query.`
        : `Dot products of all ${rows} positions. Up and down choose the position.`,
    });
    mapHeading.textContent = bias ? `Bias added to the scores, head ${state.head}` : "Dot product of every position with every other";
    const distances = Array.from({ length: columns }, (_, k) => k - position);
    const values = distances.map((_, k) => matrix[position * columns + k]);
    const worst = values.reduce((most, value, k) => Math.max(most, Math.abs(value - mean.means[k - position + rows - 1])), 0);
    const room = 0.06 * (high - low || 1);
    const what = bias ? "bias" : "dot product";
    setHeading(first, `${bias ? "Bias" : "Dot product"} against distance`);
    first.draw({
      colors, xRange: [1 - rows, columns - 1], yRange: [low - room, high + room],
      xLabel: bias ? "distance: key − query" : "distance: other position − p", yLabel: what, yFormat: short,
      lines: [
        { xs: mean.distances, ys: mean.means, color: colors.series[1], name: "mean over all positions", dash: [6, 4], width: 1.75 },
        { xs: distances, ys: values, color: colors.series[0], name: bias ? `query ${position}` : `p = ${position}`, width: 2.5 },
      ],
      rules: [{ x: 0 }],
      label: `${what} against distance for ${bias ? "query" : "position"} ${position}.`,
    });
    const at = (key) => matrix[position * columns + key];
    const near = position + 1 < columns ? 1 : -1;
    const read = [0, near].filter((d) => position + d < columns)
      .map((d) => `at distance ${d} it is ${at(position + d).toFixed(3)}`).join(", ");
    const verdict = worst <= 1e-3 * (high - low)
      ? "Each position has the same curve: only the distance counts."
      : `This curve differs from the mean by up to ${worst.toFixed(3)}: the ${what} depends on the place, not on the distance alone.`;
    return `${bias ? "Query" : "Position"} ${position}: ${what}: ${read}. ${verdict}`;
  }

  function setHeading(chart, text) {
    chart.element.querySelector(".zoo-heading").textContent = text;
  }

  function draw() {
    const colors = themeColors(root);
    const all = computed();
    const { data } = all;
    const view = data.kind === "bias" ? "products" : state.view;
    const waves = view === "waves";
    for (const name of ["length", "d_model", "base"]) show(controls[name], data.sinusoidal);
    show(controls.view, data.kind === "table");
    show(controls.pair, waves);
    show(controls.head, data.kind === "bias" && data.heads > 1);
    show(second, waves && data.sinusoidal);
    first.setHeight(waves && data.sinusoidal ? 240 : MAP_HEIGHT);
    controls.position.input.previousSibling.textContent = data.kind === "bias" ? "query" : "position p";
    live.say(waves ? drawWaves(all, colors) : drawProducts(all, colors));
  }

  /** Keep pair, position and head inside what is on show. */
  function settle() {
    const { kind, rows, columns, heads } = computed().data;
    const limits = { position: rows - 1, head: (heads || 1) - 1, pair: kind === "table" ? columns / 2 - 1 : state.pair };
    for (const [name, limit] of Object.entries(limits)) {
      controls[name].setRange(0, limit);
      if (state[name] > limit) {
        state[name] = limit;
        sync(name, limit);
      }
      controls[name].set(state[name]);
    }
  }

  const request = redraw(draw);
  function set(name, value) {
    if (state[name] === value) return;
    state[name] = value;
    sync(name, value);
    if (name in controls && name !== "base") controls[name].set(value);
    settle();
    request();
  }
  const onWaves = () => state.view === "waves" && computed().data.kind === "table";
  arrowKeys(map.element, (down, right) => {
    const { data } = computed();
    if (down) set("position", clamp(state.position + down, 0, data.rows - 1));
    if (right && onWaves()) set("pair", clamp(state.pair + right, 0, data.columns / 2 - 1));
  });
  const pick = (event) => {
    const { data, square } = computed();
    const [x, y] = map.at(event);
    const share = [(x - MAP_MARGIN.left) / (map.width - MAP_MARGIN.left - MAP_MARGIN.right),
      (y - MAP_MARGIN.top) / (map.height - MAP_MARGIN.top - MAP_MARGIN.bottom)];
    if (share.some((s) => s < 0 || s >= 1)) return;
    set("position", Math.floor(share[1] * square.rows));
    if (onWaves()) set("pair", Math.floor((share[0] * data.columns) / 2));
  };
  map.element.addEventListener("pointerdown", pick);
  map.element.addEventListener("pointermove", (event) => { if (event.buttons === 1) pick(event); });

  const follow = () => {
    read();
    for (const name of ["source", "view", "length", "d_model"]) controls[name].set(state[name]);
    controls.base.set(bases.indexOf(state.base));
    settle();
    request();
  };
  const stops = [
    listen(model, Object.fromEntries(names.map((name) => [`change:${name}`, follow]))),
    onThemeChange(request), first.dispose, second.dispose,
    onResize(mapPanel, (width) => {
      map.resize(width, MAP_HEIGHT);
      map.element.style.width = "100%";
      request();
    }),
    request.cancel, sync.flush,
  ];
  settle();
  request.now();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render, sinusoidalPositions, wavelength };
