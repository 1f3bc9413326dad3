// Masked image explorer: all masks and reconstructions arrive once; here they are only shown.

/** Loss statistics of one mask. `loss` is the mean over hidden patches, NaN if none is hidden. */
function miMean(losses, mask) {
  let sum = 0, hidden = 0;
  for (let i = 0; i < mask.length; i++) if (mask[i]) { sum += losses[i]; hidden += 1; }
  return { hidden, loss: sum / hidden };
}

/** The 0.98 quantile, interpolated as numpy does. */
function miQuantile(values) {
  const sorted = Float64Array.from(values).sort(), place = 0.98 * (sorted.length - 1);
  const low = Math.floor(place), high = Math.ceil(place);
  return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
}

function render({ model, el }) {
  const data = model.get("_payload");
  const { height, width: wide, channels, rows, columns, draws, ratios } = data;
  const patches = rows * columns, size = height * wide * channels;
  const images = bytes(data.images), painted = bytes(data.reconstructions);
  const packed = bytes(data.masks), losses = floats(data.losses);
  const sync = saver(model);
  const names = ["image", "ratio", "draw", "paste", "patch"];
  const state = {};
  let colors, width = 0, cell = 10, shown, pointed = false;
  const percent = (share) => `${Number((100 * share).toFixed(1))} %`;

  // Where one (image, ratio, draw) lies in all arrays.
  const index = (image, ratio, draw) => (image * ratios.length + ratio) * draws + draw;
  const maskAt = (i) => {
    const stride = Math.ceil(patches / 8); // each mask begins with a byte of its own
    return Uint8Array.from({ length: patches }, (_, p) => (packed[i * stride + (p >> 3)] >> (7 - (p & 7))) & 1);
  };
  const lossesAt = (i) => losses.subarray(i * patches, (i + 1) * patches);

  // ------------------------------------------------------------ elements
  const imageSelect = select({
    label: "Image", options: data.names.map((name, i) => [String(i), name]), value: "0",
    onChange: (i) => set("image", Number(i)),
  });
  const ratioSlider = slider({
    label: "Hidden", min: 0, max: ratios.length - 1, value: 0, format: (i) => percent(ratios[i]),
    onInput: (i) => set("ratio", i),
  });
  ratioSlider.input.disabled = ratios.length < 2;
  const another = button({ label: "Another mask", onClick: () => set("draw", (state.draw + 1) % draws) });
  const drawText = h("span", { class: "mi-draw" });
  const pasteBox = checkbox({ label: "Paste the visible patches", onChange: (on) => set("paste", on) });
  const panel = (heading, surface, ...below) =>
    h("div", { class: "zoo-panel" }, h("div", { class: "zoo-heading" }, heading), surface, ...below);
  const original = still(10, 10, "Original image");
  const seen = still(10, 10, "Visible patches");
  const result = still(10, 10, "Reconstruction");
  const heat = canvas2d(10, 10, "Loss of each hidden patch. Arrow keys pick a patch.");
  heat.element.classList.add("zoo-cursor");
  const scale = h("span", { class: "zoo-scale" }), scaleEnd = h("span");
  const emptySwatch = h("span", { class: "zoo-swatch" });
  const chart = lineChart({ heading: "Mean loss of hidden patches, all masks of this image", height: 200 });
  const live = liveRegion();
  const root = mount(el,
    h("div", { class: "zoo-controls" }, imageSelect, ratioSlider,
      h("div", { class: "zoo-group" }, another, drawText), pasteBox),
    h("div", { class: "zoo-panels" },
      panel("Original", original), panel("Visible patches", seen), panel("Reconstruction", result),
      panel("Loss per patch", heat, h("div", { class: "zoo-legend" },
        h("span", {}, "0", scale, scaleEnd), h("span", {}, emptySwatch, "visible"))),
      chart),
    h("p", { class: "zoo-note" },
      `${data.names.length} ${data.names.length === 1 ? "image" : "images"}, ${ratios.length} ratios, ${draws} masks each: ` +
      `${(data.size / 1e6).toFixed(1)} MB, sent once.`), live);
  imageSelect.element.hidden = data.names.length < 2;
  another.element.disabled = draws < 2;

  // ------------------------------------------------------------ drawing
  /** Everything about what is on show, and about all masks of its image. */
  function load() {
    const i = index(state.image, state.ratio, state.draw);
    const mask = maskAt(i);
    const all = ratios.map((_, ratio) => Array.from({ length: draws }, (_, draw) => {
      const j = index(state.image, ratio, draw);
      return { mask: maskAt(j), losses: lossesAt(j) };
    }));
    const hidden = all.flat().flatMap((one) => Array.from(one.losses).filter((_, p) => one.mask[p]));
    shown = {
      mask, losses: lossesAt(i), ...miMean(lossesAt(i), mask),
      most: hidden.length ? miQuantile(hidden) || 1 : 1,
      means: all.map((list) => list.map((one) => miMean(one.losses, one.mask).loss)),
      image: imageCanvas(images.subarray(state.image * size, (state.image + 1) * size), wide, height, channels),
      painted: imageCanvas(painted.subarray(i * size, (i + 1) * size), wide, height, channels),
    };
  }

  function layout() {
    const across = width >= 860 ? 4 : width >= 270 ? 2 : 1;
    const room = Math.min(300, Math.floor((width - 24 * (across - 1)) / across) - 1);
    cell = Math.min(room / columns, 300 / rows);
    for (const surface of [original, seen, result, heat]) {
      surface.resize(Math.round(columns * cell), Math.round(rows * cell));
      surface.element.parentElement.style.width = `${Math.max(surface.width, Math.min(room, 180))}px`;
    }
  }

  /** Stripes for what is hidden: a plain grey could be part of a grey image. */
  function hatched(context) {
    const tile = h("canvas", { width: 8, height: 8 }), on = tile.getContext("2d");
    on.fillStyle = "#808080";
    on.fillRect(0, 0, 8, 8);
    for (const x of [-8, 0, 8]) stroke(on, [[x - 1, 9], [x + 9, -1]], { color: "#a4a4a4", width: 2 });
    return context.createPattern(tile, "repeat");
  }

  const corner = (p) => [(p % columns) * cell, Math.floor(p / columns) * cell];

  function paintImage({ context, width: w, height: hgt }, canvas) {
    context.imageSmoothingEnabled = w < wide;
    context.drawImage(canvas, 0, 0, w, hgt);
  }

  function drawMarks() {
    const { mask } = shown;
    paintImage(original, shown.image);
    paintImage(seen, shown.image);
    paintImage(result, shown.painted);
    const { context } = heat;
    context.clearRect(0, 0, heat.width, heat.height);
    context.imageSmoothingEnabled = false;
    context.drawImage(heatCanvas(shown.losses, columns, rows, shown.most, colormap("cividis")), 0, 0, heat.width, heat.height);
    for (let p = 0; p < patches; p++) {
      const [x, y] = corner(p);
      if (mask[p]) {
        seen.context.fillStyle = hatched(seen.context);
        seen.context.fillRect(x, y, cell, cell);
        continue;
      }
      context.fillStyle = colors.panel;
      context.fillRect(x, y, cell, cell);
      stroke(context, [[x, y + cell], [x + cell, y]], { color: colors.border, width: 1 });
      if (state.paste) {
        const w = wide / columns, hgt = height / rows;
        result.context.drawImage(shown.image, (p % columns) * w, Math.floor(p / columns) * hgt, w, hgt, x, y, cell, cell);
      }
    }
    for (const surface of [seen, heat]) gridLines(surface.context, { rows, columns, cellWidth: cell, alpha: 0.35 });
    if (pointed) {
      for (const { context: on } of [original, seen, result, heat]) markRect(on, ...corner(state.patch), cell, cell);
    }
    announce();
  }

  function announce() {
    const { hidden, loss, mask } = shown, p = state.patch;
    const mean = hidden ? `mean loss of the hidden ${loss.toFixed(4)}` : "nothing hidden, so no loss";
    const where = pointed ? ` Patch ${p} (row ${Math.floor(p / columns)}, column ${p % columns}): ` +
      (mask[p] ? `hidden, loss ${shown.losses[p].toFixed(4)}.` : "visible, left out of the loss.") : "";
    live.say(`${data.names[state.image]}, mask ${state.draw + 1} of ${draws}: ${hidden} of ${patches} patches hidden, ${mean}.${where}`);
  }

  function drawChart() {
    const { means } = shown, mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
    const kept = ratios.map((_, i) => i).filter((i) => means[i].every(Number.isFinite));
    chart.element.hidden = kept.length < 2;
    if (kept.length < 2) return;
    const xs = kept.map((i) => ratios[i]), ys = kept.map((i) => mean(means[i]));
    const most = Math.max(...kept.flatMap((i) => means[i]));
    const low = xs[0], high = xs[xs.length - 1];
    chart.draw({
      colors, xRange: [low, high], yRange: [0, 1.1 * most], xTicks: niceTicks(low, high, chart.surface.width / 60), xFormat: (x) => `${Number((100 * x).toFixed(0))}`,
      yFormat: (y) => String(Number(y.toPrecision(3))), xLabel: "hidden patches (%)", yLabel: "mean loss",
      lines: [{ xs, ys, color: colors.series[0] }],
      dots: [
        ...kept.flatMap((i) => means[i].map((y) => ({ x: ratios[i], y, color: colors.muted }))),
        ...(shown.hidden ? [{ x: ratios[state.ratio], y: shown.loss, color: colors.series[1] }] : []),
      ],
      label: `Mean loss by ratio of hidden patches: ${kept.map((i) => `${percent(ratios[i])} ${mean(means[i]).toFixed(4)}`).join(", ")}`,
    });
  }

  function drawAll() {
    if (!width) return;
    colors = themeColors(root);
    imageSelect.set(String(state.image));
    ratioSlider.set(state.ratio);
    pasteBox.set(state.paste);
    drawText.textContent = `${state.draw + 1} of ${draws}`;
    load();
    layout();
    scale.style.background = colormap("cividis").gradient;
    scaleEnd.textContent = `≥ ${shown.most.toPrecision(2)}`;
    emptySwatch.style.background = colors.panel;
    const name = data.names[state.image];
    original.element.setAttribute("aria-label", `Original: ${name}`);
    seen.element.setAttribute("aria-label", `${name} with ${shown.hidden} of ${patches} patches hidden`);
    result.element.setAttribute("aria-label", `Reconstruction of ${name}${state.paste ? ", visible patches pasted" : ""}`);
    drawMarks();
    drawChart();
    ready(root);
  }

  // ------------------------------------------------------------ pointer, keys, Python
  const paint = redraw(drawAll), marks = redraw(drawMarks);
  function set(name, value) {
    state[name] = value;
    sync(name, value);
    paint();
  }
  function point(p) {
    if (pointed && p === state.patch) return;
    pointed = true;
    state.patch = p;
    sync("patch", p);
    marks();
  }
  for (const surface of [original, seen, result, heat]) {
    const at = (event) => {
      const [x, y] = surface.at(event);
      point(clamp(Math.floor(y / cell), 0, rows - 1) * columns + clamp(Math.floor(x / cell), 0, columns - 1));
    };
    surface.element.addEventListener("pointermove", at);
    surface.element.addEventListener("pointerdown", at);
    surface.element.addEventListener("pointerleave", () => {
      if (document.activeElement !== heat.element) { pointed = false; marks(); }
    });
  }
  arrowKeys(heat.element, (down, across) => {
    const row = Math.floor(state.patch / columns), column = state.patch % columns;
    if (!pointed) point(state.patch); // the first press shows where the cursor is
    else point(clamp(row + down, 0, rows - 1) * columns + clamp(column + across, 0, columns - 1));
  });
  heat.element.addEventListener("blur", () => { pointed = false; marks(); });
  const follow = () => {
    const changed = names.filter((name) => state[name] !== model.get(name));
    for (const name of changed) state[name] = model.get(name);
    if (changed.includes("patch") && width) pointed = true;
    if (changed.length) paint.now();
  };
  follow();
  const stops = [
    listen(model, Object.fromEntries(names.map((name) => [`change:${name}`, follow]))),
    onThemeChange(drawAll), onRoom(root, (room) => { width = room; drawAll(); }),
    chart.dispose, paint.cancel, marks.cancel, sync.flush,
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render, miQuantile };
