// Similarity explorer: cosines of images and texts, divided by a temperature that slides.
// The numbers are those of contrastive_numbers in similarity_explorer.py; a test compares the two.

/** The loss, both of its halves, the softmaxes and the gradients. `right[k]` says whether pair k
 *  counts as a match. All matrices are flat, row by row. */
function seNumbers(cosines, count, temperature, right) {
  const size = count * count;
  const logits = Float64Array.from(cosines, (c) => c / temperature);
  const half = (cell) => { // one softmax for each i over the cells cell(i, j)
    const p = new Float64Array(size), q = new Float64Array(size);
    let loss = 0;
    for (let i = 0; i < count; i++) {
      let top = -Infinity, total = 0, matches = 0;
      for (let j = 0; j < count; j++) top = Math.max(top, logits[cell(i, j)]);
      for (let j = 0; j < count; j++) {
        total += Math.exp(logits[cell(i, j)] - top);
        matches += right[cell(i, j)] ? 1 : 0;
      }
      for (let j = 0; j < count; j++) {
        const k = cell(i, j), log = logits[k] - top - Math.log(total);
        p[k] = Math.exp(log);
        q[k] = right[k] ? 1 / matches : 0;
        loss -= q[k] * log;
      }
    }
    return { p, q, loss: loss / count };
  };
  const rows = half((i, j) => i * count + j), columns = half((i, j) => j * count + i);
  const gradient = new Float64Array(size);
  let byTemperature = 0;
  for (let k = 0; k < size; k++) {
    const byLogit = (rows.p[k] - rows.q[k] + columns.p[k] - columns.q[k]) / (2 * count);
    gradient[k] = byLogit / temperature;
    byTemperature -= byLogit * logits[k];
  }
  return {
    rows: rows.p, columns: columns.p, gradient, byTemperature,
    findText: rows.loss, findImage: columns.loss, loss: (rows.loss + columns.loss) / 2,
  };
}

function render({ model, el }) {
  const payload = model.get("_payload");
  const { captions, views, range, height, width: pixels } = payload;
  const count = captions.length, size = count * count;
  const cosines = floats(payload.cosines), same = bytes(payload.same), data = bytes(payload.images);
  const alone = Uint8Array.from({ length: size }, (_, k) => (k % (count + 1) === 0 ? 1 : 0));
  const pictures = height ? captions.map((_, i) =>
    imageCanvas(data.subarray(i * height * pixels * 3, (i + 1) * height * pixels * 3), pixels, height)) : [];
  const twins = same.some((value, k) => value !== alone[k]);
  const grid = Array.from({ length: 101 }, (_, i) => range[0] * (range[1] / range[0]) ** (i / 100));
  const titles = Object.fromEntries(views);
  const names = ["temperature", "view", "share", "cell"];
  const sync = saver(model);
  const state = {};
  let colors, numbers, curve = [], curveOf = null, width = 0, side = 20, left = 0;

  // ------------------------------------------------------------ elements
  const logs = range.map(Math.log10);
  const written = (temperature) => temperature.toPrecision(temperature < 0.1 ? 2 : 3);
  // The slider moves in steps; a temperature that Python set may lie between two of them.
  const exact = (v) => (Math.abs(100 * Math.log10(state.temperature) - v) <= 0.5 ? state.temperature : 10 ** (v / 100));
  const heat = slider({
    label: "Temperature", min: Math.round(100 * logs[0]), max: Math.round(100 * logs[1]), value: 0,
    format: (v) => written(exact(v)), onInput: (v) => set("temperature", 10 ** (v / 100)),
  });
  const viewSelect = select({ label: "Show", options: views, value: "cosine", onChange: (v) => set("view", v) });
  const shareBox = checkbox({ label: "Equal captions share the target", onChange: (on) => set("share", on) });
  shareBox.input.disabled = !twins;
  const title = h("p", { class: "zoo-heading" });
  const matrix = canvas2d(10, 10, "Similarity matrix. Arrow keys choose a pair.");
  matrix.element.classList.add("zoo-cursor");
  const items = captions.map((caption) => h("li", {}, caption));
  const list = h("ol", { class: "se-captions" }, ...items);
  const facts = ["image finds text", "text finds image", "loss, their mean", "guessing", "gradient by log temperature"]
    .map((name) => [name, h("dd", {})]);
  const chart = lineChart({ heading: "Loss against temperature", height: 220 });
  const live = liveRegion();
  const matrixPanel = h("div", { class: "zoo-panel" }, title, matrix, list);
  const root = mount(el, h("div", { class: "zoo-controls" }, heat, viewSelect, twins && shareBox),
    h("div", { class: "zoo-panels" }, matrixPanel,
      h("div", { class: "se-side" },
        h("dl", { class: "zoo-facts" }, ...facts.flatMap(([name, dd]) => [h("dt", {}, name), dd])), chart)),
    live);

  // ------------------------------------------------------------ drawing
  const right = () => (state.share ? same : alone);
  const shown = () => ({ cosine: cosines, rows: numbers.rows, columns: numbers.columns, gradient: numbers.gradient })[state.view];

  function limits(values) {
    if (state.view === "cosine") return [Math.min(0, ...values), 1];
    if (state.view !== "gradient") return [0, 1];
    const most = values.reduce((top, value) => Math.max(top, Math.abs(value)), 0) || 1;
    return [-most, most];
  }

  function drawMatrix() {
    const { context } = matrix, values = shown(), [low, high] = limits(values);
    const palette = colormap(state.view === "gradient" ? "coolwarm" : "cividis");
    const top = 20;
    context.clearRect(0, 0, matrix.width, matrix.height);
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.imageSmoothingEnabled = false;
    for (let i = 0; i < count; i++) {
      context.fillStyle = colors.muted;
      context.fillText(String(i + 1), left + (i + 0.5) * side, 10);
      if (pictures.length) context.drawImage(pictures[i], 1, top + i * side + 1, left - 5, side - 2);
      else context.fillText(String(i + 1), left / 2, top + (i + 0.5) * side);
      for (let j = 0; j < count; j++) {
        const share = (values[i * count + j] - low) / (high - low);
        context.fillStyle = palette.css(share);
        context.fillRect(left + j * side, top + i * side, side, side);
        if (side < 34) continue;
        const at = 3 * clamp(Math.round(255 * share), 0, 255), [r, g, b] = palette.rgb.subarray(at, at + 3);
        context.fillStyle = 0.299 * r + 0.587 * g + 0.114 * b > 128 ? "#000000" : "#ffffff";
        context.fillText(values[i * count + j].toFixed(2).replace(/^-0\.00$/, "0.00"), left + (j + 0.5) * side, top + (i + 0.5) * side);
      }
    }
    gridLines(context, { left, top, rows: count, columns: count, cellWidth: side, alpha: 0.25 });
    const i = Math.floor(state.cell / count), j = state.cell % count;
    markRect(context, left + j * side + 2, top + i * side + 2, side - 4, side - 4);
    items.forEach((item, k) => item.classList.toggle("se-here", k === j));
  }

  function drawAll() {
    if (!width) return;
    colors = themeColors(root);
    const room = width >= 760 ? width * 0.56 : width;
    const frame = (room - 8) / (count + (pictures.length ? 1.1 : 0.6));
    side = Math.max(12, Math.floor(Math.min(54, frame)));
    left = pictures.length ? side + 4 : 22;
    matrix.resize(left + count * side + 2, 20 + count * side + 2);
    matrixPanel.style.width = `${Math.min(width, Math.max(matrix.width, 250))}px`;
    heat.set(Math.round(100 * Math.log10(state.temperature)));
    viewSelect.set(state.view);
    shareBox.set(state.share);
    numbers = seNumbers(cosines, count, state.temperature, right());
    if (curveOf !== state.share) {
      curve = grid.map((each) => seNumbers(cosines, count, each, right()).loss);
      curveOf = state.share;
    }
    title.textContent = `Images (rows) against texts (columns): ${titles[state.view]}`;
    const guess = Math.log(count);
    const lines = [numbers.findText, numbers.findImage, numbers.loss, guess];
    facts.forEach(([, dd], k) => { dd.textContent = k < 4 ? lines[k].toFixed(3) : numbers.byTemperature.toFixed(3); });
    const most = Math.min(1.15 * Math.max(...curve, guess), 3 * guess);
    chart.draw({
      colors, xRange: logs, yRange: [0, most], xTicks: [-2, -1.5, -1, -0.5, 0].filter((v) => v >= logs[0] && v <= logs[1]),
      xFormat: (v) => (10 ** v).toPrecision(2), yLabel: "loss (nats)", xLabel: "temperature (logarithmic)",
      lines: [{ xs: grid.map(Math.log10), ys: curve, color: colors.series[0] }],
      rules: [{ y: guess, text: `guessing: log ${count}` }, { x: Math.log10(state.temperature) }],
      dots: [{ x: Math.log10(state.temperature), y: Math.min(numbers.loss, most), color: colors.series[1] }],
      label: `Loss against temperature. Here ${numbers.loss.toFixed(3)} at ${written(state.temperature)}.`,
    });
    drawMatrix();
    live.say(describe());
    ready(root);
  }

  function describe() {
    const i = Math.floor(state.cell / count), j = state.cell % count, k = state.cell;
    const pull = Math.abs(numbers.gradient[k]) < 0.0005 ? "left alone"
      : numbers.gradient[k] < 0 ? "pulled together" : "pushed apart";
    return `Temperature ${written(state.temperature)}, loss ${numbers.loss.toFixed(3)}. Image ${i + 1} with text ` +
      `${j + 1}, "${captions[j]}"${right()[k] ? " (a match)" : ""}: cosine ${cosines[k].toFixed(3)}, ` +
      `row softmax ${numbers.rows[k].toFixed(3)}, column softmax ${numbers.columns[k].toFixed(3)}, ` +
      `gradient ${numbers.gradient[k].toFixed(3)}: ${pull}.`;
  }

  // ------------------------------------------------------------ pointer, keys, Python
  const paint = redraw(drawAll);
  function set(name, value) {
    state[name] = value;
    sync(name, value);
    paint();
  }
  matrix.element.addEventListener("pointerdown", (event) => {
    const [x, y] = matrix.at(event);
    if (x < left || y < 20) return;
    const i = clamp(Math.floor((y - 20) / side), 0, count - 1), j = clamp(Math.floor((x - left) / side), 0, count - 1);
    set("cell", i * count + j);
  });
  arrowKeys(matrix.element, (down, across) => {
    const i = Math.floor(state.cell / count), j = state.cell % count;
    set("cell", clamp(i + down, 0, count - 1) * count + clamp(j + across, 0, count - 1));
  });
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

export default { render };
