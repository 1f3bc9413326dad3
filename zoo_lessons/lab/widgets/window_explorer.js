// Window explorer: windowed attention layer by layer, followed back from one token.
// The rules are those of zoo_lessons/models/swin.py; a test compares the two.

/** By how many tokens the windows of a layer, counted from 1, are shifted. */
function weShift({ rows, columns }, { window_size, shifted }, layer) {
  if (!shifted || layer % 2 === 1 || window_size === Math.min(rows, columns)) return 0;
  return Math.floor(window_size / 2);
}

/** A number per token: those with the same one may attend to each other in that layer. The roll puts
 *  pieces of opposite edges into one window, and the mask keeps them apart: so does floor() here. */
function weGroups(grid, state, layer) {
  const { rows, columns } = grid, shift = weShift(grid, state, layer), size = state.window_size;
  const groups = new Int32Array(rows * columns);
  for (let i = 0; i < groups.length; i++) {
    const row = Math.floor(i / columns), column = i % columns;
    groups[i] = (Math.floor((row - shift) / size) + 1) * (columns + 2) + Math.floor((column - shift) / size) + 1;
  }
  return groups;
}

/** How many layers back from the last it takes to reach each token from the query; -1 for never. */
function weReach(grid, state, layers = state.layers) {
  const reached = new Int32Array(grid.rows * grid.columns).fill(-1);
  reached[state.query] = 0;
  for (let step = 1; step <= layers; step++) {
    const groups = weGroups(grid, state, layers - step + 1);
    const met = new Set(groups.filter((_, i) => reached[i] >= 0));
    for (let i = 0; i < reached.length; i++) if (reached[i] < 0 && met.has(groups[i])) reached[i] = step;
  }
  return reached;
}

const weCount = (reached) => reached.reduce((count, step) => count + (step >= 0 ? 1 : 0), 0);

/** The token at each place after the roll of the last layer. */
function weRolled(grid, state) {
  const { rows, columns } = grid, shift = weShift(grid, state, state.layers);
  return Int32Array.from({ length: rows * columns }, (_, i) =>
    ((Math.floor(i / columns) + shift) % rows) * columns + ((i % columns) + shift) % columns);
}

/** The query's window in the last layer: where it starts after the roll, its tokens, and its mask. */
function weWindow(grid, state) {
  const rolled = weRolled(grid, state), size = state.window_size, at = rolled.indexOf(state.query);
  const top = Math.floor(Math.floor(at / grid.columns) / size) * size;
  const left = Math.floor((at % grid.columns) / size) * size;
  const tokens = Array.from({ length: size * size }, (_, i) =>
    rolled[(top + Math.floor(i / size)) * grid.columns + left + (i % size)]);
  const groups = weGroups(grid, state, state.layers);
  const allows = (i, j) => groups[tokens[i]] === groups[tokens[j]];
  return { rolled, top, left, tokens, allows };
}

function render({ model, el }) {
  const grid = model.get("_grid");
  const { rows, columns, window_sizes: sizes } = grid;
  const sync = saver(model);
  const names = ["window_size", "shifted", "layers", "query"];
  const state = {};
  let colors, reached, view, width = 0, cell = 10, small = 10, pair = 4;

  // ------------------------------------------------------------ elements
  const sizeSlider = slider({
    label: "Window", min: 0, max: sizes.length - 1, value: 0,
    format: (i) => `${sizes[i]} × ${sizes[i]}`, onInput: (i) => set("window_size", sizes[i]),
  });
  sizeSlider.input.disabled = sizes.length < 2;
  const layerSlider = slider({
    label: "Layers", min: 1, max: grid.most_layers, value: 1, onInput: (v) => set("layers", v),
  });
  const shiftBox = checkbox({ label: "Shift every second layer", onChange: (on) => set("shifted", on) });
  const title = h("div", { class: "zoo-heading" });
  const tokens = canvas2d(10, 10, "Token grid. Arrow keys choose the query.");
  tokens.element.classList.add("zoo-cursor");
  const legend = h("div", { class: "zoo-legend" });
  const rolledTitle = h("div", { class: "zoo-heading" });
  const rolled = still(10, 10, "");
  const movedSwatch = h("span", { class: "zoo-swatch" });
  const windowSwatch = h("span", { class: "zoo-swatch we-window" });
  const rolledNote = h("div", { class: "zoo-legend" },
    h("span", {}, movedSwatch, "moved to the other side"), h("span", {}, windowSwatch, "the query's window"));
  const maskTitle = h("div", { class: "zoo-heading" });
  const mask = still(10, 10, "");
  const yesSwatch = h("span", { class: "zoo-swatch" }), noSwatch = h("span", { class: "zoo-swatch" });
  const maskNote = h("div", { class: "zoo-legend" },
    h("span", {}, yesSwatch, "may attend"), h("span", {}, noSwatch, "masked"),
    h("span", {}, h("span", { class: "zoo-swatch we-mark" }), "the query's row"));
  const chart = lineChart({ heading: "Tokens that can have influenced the query", height: 220 });
  const live = liveRegion();
  const tokensPanel = h("div", { class: "zoo-panel" }, title, tokens, legend);
  const rolledPanel = h("div", { class: "zoo-panel" }, rolledTitle, rolled, rolledNote);
  const maskPanel = h("div", { class: "zoo-panel" }, maskTitle, mask, maskNote);
  const root = mount(el, h("div", { class: "zoo-controls" }, sizeSlider, layerSlider, shiftBox),
    h("div", { class: "zoo-panels" }, tokensPanel, rolledPanel, maskPanel, chart), live);

  // ------------------------------------------------------------ drawing
  const shade = (step) => 1 - (0.85 * step) / state.layers;
  const stepColor = (step) => colormap("cividis").css(shade(step));
  const inkOn = (step) => (shade(step) > 0.45 ? "#000000" : "#ffffff");

  function layout() {
    const wide = width >= 880;
    const room = wide ? width * 0.38 : width;
    cell = Math.max(6, Math.floor(Math.min(44, (room - 6) / columns, 420 / rows)));
    tokens.resize(columns * cell + 6, rows * cell + 6);
    const side = wide ? (width - tokens.width - 48) / 2 : Math.min(width, 360);
    small = Math.max(6, Math.floor(Math.min(30, (side - 6) / columns, 300 / rows)));
    rolled.resize(columns * small + 6, rows * small + 6);
    const pairs = state.window_size ** 2;
    pair = Math.min(22, Math.min(side - 6, 300) / pairs);
    if (pair >= 4) pair = Math.floor(pair);
    mask.resize(Math.ceil(pairs * pair + 6), Math.ceil(pairs * pair + 6));
    for (const [panel, surface] of [[tokensPanel, tokens], [rolledPanel, rolled], [maskPanel, mask]]) {
      panel.style.width = `${Math.max(surface.width, Math.min(width, 250))}px`;
    }
  }

  function write(context, text, x, y, ink, size) {
    context.fillStyle = ink;
    context.font = `${size}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(text, x, y + 0.5);
  }

  function rule(context, x0, y0, x1, y1) {
    for (const [style, line] of [["#ffffff", 4], ["#000000", 2]]) {
      context.strokeStyle = style;
      context.lineWidth = line;
      context.beginPath();
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
      context.stroke();
    }
  }

  /** Window borders that begin `shift` tokens from the top left, and the grid's own. */
  function borders(context, side, shift) {
    const size = state.window_size;
    const high = 3 + rows * side, far = 3 + columns * side;
    for (let i = shift; i < rows; i += size) if (i) rule(context, 3, 3 + i * side, far, 3 + i * side);
    for (let j = shift; j < columns; j += size) if (j) rule(context, 3 + j * side, 3, 3 + j * side, high);
    context.strokeStyle = colors.fg;
    context.lineWidth = 2;
    context.strokeRect(3, 3, columns * side, rows * side);
  }

  function drawTokens() {
    const { context } = tokens;
    context.clearRect(0, 0, tokens.width, tokens.height);
    reached.forEach((step, i) => {
      const x = 3 + (i % columns) * cell, y = 3 + Math.floor(i / columns) * cell;
      context.fillStyle = step < 0 ? colors.panel : stepColor(step);
      context.fillRect(x, y, cell, cell);
      context.strokeStyle = step < 0 ? colors.grid : "rgba(255, 255, 255, 0.35)";
      context.lineWidth = 1;
      context.strokeRect(x + 0.5, y + 0.5, cell - 1, cell - 1);
      if (step >= 0 && cell >= 13) write(context, String(step), x + cell / 2, y + cell / 2, inkOn(step), Math.min(13, cell * 0.6));
    });
    borders(context, cell, weShift(grid, state, state.layers));
    markRect(context, 3 + (state.query % columns) * cell + 2, 3 + Math.floor(state.query / columns) * cell + 2, cell - 4, cell - 4);
    const steps = Math.max(...reached);
    legend.replaceChildren(...Array.from({ length: steps + 1 }, (_, step) => {
      const swatch = h("span", { class: "zoo-swatch" });
      swatch.style.background = stepColor(step);
      const words = step === 0 ? "0: the query" : step === 1 ? `1: in layer ${state.layers}` : `${step}: since layer ${state.layers - step + 1}`;
      return h("span", {}, swatch, words);
    }));
  }

  function drawRolled(shift) {
    const { context } = rolled, size = state.window_size;
    const moved = (token) => Math.floor(token / columns) < shift || token % columns < shift;
    context.clearRect(0, 0, rolled.width, rolled.height);
    const tint = colors.series[1];
    movedSwatch.style.background = tint;
    view.rolled.forEach((token, i) => {
      const x = 3 + (i % columns) * small, y = 3 + Math.floor(i / columns) * small;
      context.fillStyle = moved(token) ? tint : colors.panel;
      context.fillRect(x, y, small, small);
      context.strokeStyle = colors.grid;
      context.lineWidth = 1;
      context.strokeRect(x + 0.5, y + 0.5, small - 1, small - 1);
      const ink = moved(token) ? (colors.dark ? "#000000" : "#ffffff") : colors.fg;
      if (small >= 17) write(context, String(token), x + small / 2, y + small / 2, ink, Math.min(11, small * 0.45));
    });
    borders(context, small, 0);
    context.strokeStyle = colors.accent;
    context.lineWidth = 4;
    context.strokeRect(3 + view.left * small, 3 + view.top * small, size * small, size * small);
    const at = view.rolled.indexOf(state.query);
    markRect(context, 3 + (at % columns) * small + 3, 3 + Math.floor(at / columns) * small + 3, small - 6, small - 6);
    rolledTitle.textContent = shift ? `Layer ${state.layers}: after the roll by ${shift}` : `Layer ${state.layers}: no shift, no roll`;
    rolled.element.setAttribute("aria-label", shift
      ? `Tokens after the roll by ${shift}: the first ${shift} rows and columns have moved to the other side`
      : "Tokens in their own order");
    movedSwatch.parentElement.hidden = !shift;
  }

  function drawMask(shift) {
    const { context } = mask, count = view.tokens.length;
    const row = view.tokens.indexOf(state.query);
    context.clearRect(0, 0, mask.width, mask.height);
    yesSwatch.style.background = colors.series[0];
    noSwatch.style.background = colors.grid;
    const gap = pair > 6 ? 1 : 0;
    let allowed = 0;
    for (let i = 0; i < count; i++) {
      for (let j = 0; j < count; j++) {
        const yes = view.allows(i, j);
        if (i === row && yes) allowed += 1;
        context.fillStyle = yes ? colors.series[0] : colors.grid;
        context.fillRect(3 + j * pair, 3 + i * pair, pair - gap, pair - gap);
      }
    }
    markRect(context, 3, 3 + row * pair, count * pair - gap, pair - gap);
    maskTitle.textContent = `Mask of that window: ${count} × ${count} pairs`;
    const says = allowed === count ? `the query may attend to all ${count} tokens of its window`
      : `the query may attend to ${allowed} of the ${count} tokens of its window`;
    mask.element.setAttribute("aria-label", `Attention mask of the query's window after the roll: ${says}`);
    return says;
  }

  function drawChart() {
    const counts = (shifted) => Array.from({ length: grid.most_layers + 1 }, (_, k) =>
      weCount(weReach(grid, { ...state, shifted }, k)));
    const xs = Array.from({ length: grid.most_layers + 1 }, (_, k) => k);
    const [plain, shifting] = [counts(false), counts(true)];
    const now = weCount(reached);
    chart.draw({
      colors, xRange: [0, grid.most_layers], yRange: [0, rows * columns * 1.05],
      xLabel: "layers", yLabel: "tokens", xTicks: xs,
      lines: [
        { xs, ys: shifting, color: colors.series[0], name: "shifted", width: state.shifted ? 3 : 1.5 },
        { xs, ys: plain, color: colors.series[1], name: "never shifted", dash: [5, 3], width: state.shifted ? 1.5 : 3 },
      ],
      rules: [{ y: rows * columns, text: `all ${rows * columns}` }],
      dots: [{ x: state.layers, y: now, color: colors.series[state.shifted ? 0 : 1] }],
      label: `Tokens that can have influenced the query, by layers from 0: shifted ${shifting.join(", ")}; ` +
        `never shifted ${plain.join(", ")}`,
    });
    return shifting.indexOf(rows * columns);
  }

  function drawAll() {
    if (!width) return;
    colors = themeColors(root);
    sizeSlider.set(sizes.indexOf(state.window_size));
    layerSlider.set(state.layers);
    shiftBox.set(state.shifted);
    reached = weReach(grid, state);
    view = weWindow(grid, state);
    layout();
    const shift = weShift(grid, state, state.layers), count = weCount(reached), all = rows * columns;
    drawTokens();
    drawRolled(shift);
    const seen = drawMask(shift);
    const full = drawChart();
    const layers = `${state.layers} ${state.layers === 1 ? "layer" : "layers"}`;
    title.textContent = `After ${layers}: ${count} of ${all} tokens`;
    const whole = state.window_size === Math.min(rows, columns) ? " A window as long as a side is not shifted."
      : !state.shifted ? " Without shifts it never gets more."
      : full > 0 && state.layers < full ? ` All after ${full} layers.` : "";
    live.say(`Query ${state.query} (row ${Math.floor(state.query / columns)}, column ${state.query % columns}): after ${layers}, ` +
      `${count} of ${all} tokens (${((100 * count) / all).toFixed(0)} %) can have influenced it. In layer ${state.layers} ${seen}.${whole}`);
    ready(root);
  }

  // ------------------------------------------------------------ pointer, keys, Python
  const paint = redraw(drawAll);
  function set(name, value) {
    if (state[name] === value) return;
    state[name] = value;
    sync(name, value);
    paint();
  }
  const choose = (row, column) =>
    set("query", clamp(row, 0, rows - 1) * columns + clamp(column, 0, columns - 1));
  tokens.element.addEventListener("click", (event) => {
    const [x, y] = tokens.at(event);
    choose(Math.floor((y - 3) / cell), Math.floor((x - 3) / cell));
  });
  arrowKeys(tokens.element, (down, across) =>
    choose(Math.floor(state.query / columns) + down, (state.query % columns) + across));
  const follow = () => {
    const changed = names.filter((name) => state[name] !== model.get(name));
    for (const name of changed) state[name] = model.get(name);
    if (changed.length) paint.now();
  };
  follow();
  const stops = [
    listen(model, Object.fromEntries(names.map((name) => [`change:${name}`, follow]))),
    onThemeChange(drawAll), onRoom(root, (room) => { width = room; drawAll(); }),
    chart.dispose, paint.cancel, sync.flush,
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render, weReach, weWindow };
