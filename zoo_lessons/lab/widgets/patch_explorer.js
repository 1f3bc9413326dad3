// Patch explorer: an image cut into patches, their sequence, and what its length costs.

/** What a patch size costs in one layer; costs() in patch_explorer.py says what each number is. */
function peCosts({ height, width, class_token, d_model, d_ff }, size) {
  const rows = height / size, columns = width / size, patches = rows * columns;
  const tokens = patches + (class_token ? 1 : 0);
  const parts = {
    attention: 2 * tokens ** 2 * d_model,
    projections: 4 * tokens * d_model ** 2,
    "feed-forward": 2 * tokens * d_model * d_ff,
  };
  const all = Object.values(parts).reduce((a, b) => a + b, 0);
  return { rows, columns, patches, tokens, scores: tokens ** 2, parts, all };
}

function render({ model, el }) {
  const data = model.get("_payload");
  const image = imageCanvas(bytes(data.pixels), data.width, data.height, data.channels);
  const sizes = data.patch_sizes;
  const sync = saver(model);
  const state = {};
  let colors, costs, width = 0, scale = 1;
  const number = (n) => n.toLocaleString("en-GB");
  const percent = (share) => `${(100 * share).toFixed(1)} %`;

  // ------------------------------------------------------------ elements
  const sizeSlider = slider({
    label: "Patch size", min: 0, max: sizes.length - 1, value: 0,
    format: (i) => `${sizes[i]} × ${sizes[i]}`, onInput: (i) => setSize(sizes[i]),
  });
  sizeSlider.input.disabled = sizes.length < 2;
  const title = h("div", { class: "zoo-heading" });
  const picture = canvas2d(10, 10, "Image in patches. Arrow keys pick a patch.");
  picture.element.classList.add("zoo-cursor");
  const patchTitle = h("div", { class: "zoo-heading" });
  const enlarged = still(150, 150, "The picked patch, enlarged");
  const strip = still(10, 10, "Its neighbours in the sequence");
  const facts = {};
  const fact = (name, label) => {
    facts[name] = h("dd");
    return [h("dt", {}, label), facts[name]];
  };
  const list = h("dl", { class: "zoo-facts" },
    fact("grid", "Rows × columns"), fact("numbers", "Numbers in a patch"), fact("tokens", "Sequence length n"),
    fact("scores", "Scores of one head, n²"), fact("all", "Multiply-adds of a layer"));
  const shares = Object.keys(peCosts(data, sizes[0]).parts).map((name) => {
    const part = h("span", { class: "pe-part" });
    const swatch = h("span", { class: "zoo-swatch" }), text = h("span");
    return { name, part, swatch, text, entry: h("span", {}, swatch, text) };
  });
  const note = h("p", { class: "zoo-note" });
  const live = liveRegion();
  const side = h("div", { class: "zoo-panel pe-side" },
    patchTitle, h("div", { class: "pe-patch" }, enlarged, list),
    h("div", { class: "zoo-heading pe-gap" }, "Its place in the sequence"), strip,
    h("div", { class: "zoo-heading pe-gap" }, `Where the multiply-adds of a layer go (d_model = ${data.d_model})`),
    h("div", { class: "pe-bar", "aria-hidden": "true" }, ...shares.map((s) => s.part)),
    h("div", { class: "zoo-legend" }, ...shares.map((s) => s.entry)), note);
  const root = mount(el, h("div", { class: "zoo-controls" }, sizeSlider),
    h("div", { class: "zoo-panels" }, h("div", { class: "zoo-panel" }, title, picture), side), live);

  // ------------------------------------------------------------ drawing
  const place = () => [Math.floor(state.patch / costs.columns), state.patch % costs.columns];

  function layout() {
    const wide = width >= 760;
    const room = wide ? width - 380 : width;
    scale = Math.min(room / data.width, 480 / data.height, Math.max(1, 360 / data.width));
    picture.resize(Math.round(data.width * scale), Math.round(data.height * scale));
    side.style.width = `${wide ? Math.min(420, width - picture.width - 24) : width}px`;
    strip.resize(wide ? Math.min(420, width - picture.width - 24) : Math.min(width, 420), 62);
  }

  function drawPicture() {
    const { context } = picture, cell = state.patch_size * scale;
    context.imageSmoothingEnabled = scale < 1;
    context.drawImage(image, 0, 0, picture.width, picture.height);
    gridLines(context, {
      rows: costs.rows, columns: costs.columns, cellWidth: cell, alpha: cell < 8 ? 0.35 : 0.7,
    });
    const [row, column] = place();
    markRect(context, column * cell, row * cell, cell, cell);
  }

  function drawPatch(context, index, x, y, side) {
    const size = state.patch_size;
    const row = Math.floor(index / costs.columns), column = index % costs.columns;
    context.imageSmoothingEnabled = false;
    context.drawImage(image, column * size, row * size, size, size, x, y, side, side);
  }

  function drawStrip() {
    const { context } = strip, before = data.class_token ? 1 : 0;
    const cell = 40, step = 46, shown = Math.min(costs.tokens, Math.floor((strip.width - 4) / step));
    const token = state.patch + before;
    const first = clamp(token - Math.floor(shown / 2), 0, costs.tokens - shown);
    context.clearRect(0, 0, strip.width, strip.height);
    context.textAlign = "center";
    context.textBaseline = "top";
    for (let i = 0; i < shown; i++) {
      const x = 3 + i * step, now = first + i;
      if (now < before) {
        context.fillStyle = colors.panel;
        context.fillRect(x, 3, cell, cell);
        context.strokeStyle = colors.border;
        context.strokeRect(x + 0.5, 3.5, cell - 1, cell - 1);
        context.fillStyle = colors.fg;
        context.font = "11px system-ui, sans-serif";
        context.fillText("class", x + cell / 2, 17);
      } else {
        drawPatch(context, now - before, x, 3, cell);
      }
      if (now === token) markRect(context, x + 1, 4, cell - 2, cell - 2);
      context.font = `${now === token ? "bold " : ""}11px system-ui, sans-serif`;
      context.fillStyle = now === token ? colors.fg : colors.muted;
      context.fillText(number(now), x + cell / 2, 49);
    }
    strip.element.setAttribute("aria-label",
      `Tokens ${first} to ${first + shown - 1} of the sequence; the picked patch is token ${token}`);
  }

  function drawPicked() {
    const [row, column] = place(), size = state.patch_size;
    drawPicture();
    drawPatch(enlarged.context, state.patch, 0, 0, 150);
    enlarged.element.setAttribute("aria-label", `Patch ${state.patch}, enlarged`);
    drawStrip();
    patchTitle.textContent = `Patch ${number(state.patch)}: row ${row}, column ${column}`;
    live.say(`Patch ${state.patch} of ${number(costs.patches)}: row ${row}, column ${column}, pixels ` +
      `${row * size} to ${(row + 1) * size - 1} down and ${column * size} to ${(column + 1) * size - 1} across; ` +
      `token ${state.patch + (data.class_token ? 1 : 0)} of the sequence. All count from 0.`);
  }

  function drawAll() {
    if (!width) return;
    colors = themeColors(root);
    const size = state.patch_size;
    costs = peCosts(data, size);
    sizeSlider.set(sizes.indexOf(size));
    layout();
    title.textContent =
      `${data.height} × ${data.width} pixels, ${number(costs.patches)} patches of ${size} × ${size}`;
    facts.grid.textContent = `${costs.rows} × ${costs.columns}`;
    facts.numbers.textContent = number(data.channels * size ** 2);
    facts.tokens.textContent = number(costs.tokens);
    facts.scores.textContent = number(costs.scores);
    facts.all.textContent = `${Number((costs.all / 1e9).toPrecision(3)).toLocaleString("en-GB")} · 10⁹`;
    if (costs.all < 1e8) facts.all.textContent = number(costs.all);
    shares.forEach(({ name, part, swatch, text }, i) => {
      const share = costs.parts[name] / costs.all;
      part.style.width = `${100 * share}%`;
      part.style.background = swatch.style.background = colors.series[i];
      text.textContent = `${name} ${percent(share)}`;
    });
    note.textContent = `${data.class_token ? "The class token counts as one. " : ""}Half the patch side gives four ` +
      "times the patches and about sixteen times the scores." +
      (data.given[0] === data.height && data.given[1] === data.width ? ""
        : ` The image was cropped from ${data.given[0]} × ${data.given[1]}, so that all patch sizes divide it.`);
    drawPicked();
    ready(root);
  }

  // ------------------------------------------------------------ pointer, keys, Python
  const paint = redraw(drawPicked);
  function pick(row, column) {
    const next = clamp(row, 0, costs.rows - 1) * costs.columns + clamp(column, 0, costs.columns - 1);
    if (next === state.patch) return;
    state.patch = next;
    sync("patch", next);
    paint();
  }
  function setSize(size) {
    // The pick stays where it is in the image.
    const [row, column] = place().map((i) => Math.floor(((i + 0.5) * state.patch_size) / size));
    const next = { patch_size: size, patch: row * (data.width / size) + column };
    for (const [name, value] of Object.entries(next)) {
      state[name] = value; // one at a time: each sync has listeners that compare state and model
      sync(name, value);
    }
    drawAll();
  }
  const point = (event) => {
    const [x, y] = picture.at(event), cell = state.patch_size * scale;
    pick(Math.floor(y / cell), Math.floor(x / cell));
  };
  picture.element.addEventListener("pointermove", point);
  picture.element.addEventListener("pointerdown", point);
  arrowKeys(picture.element, (rows, columns) => {
    const [row, column] = place();
    pick(row + rows, column + columns);
  }, (event) => {
    if (event.key !== "Home" && event.key !== "End") return false;
    if (event.key === "Home") pick(0, 0);
    else pick(costs.rows - 1, costs.columns - 1);
    return true;
  });
  const follow = () => {
    const names = ["patch_size", "patch"].filter((name) => state[name] !== model.get(name));
    for (const name of names) state[name] = model.get(name);
    // Python may send the two one after the other.
    state.patch = Math.min(state.patch, peCosts(data, state.patch_size).patches - 1);
    if (names.length) drawAll();
  };
  follow();
  const stops = [
    listen(model, { "change:patch_size": follow, "change:patch": follow }),
    onThemeChange(drawAll),
    onRoom(root, (room) => { width = room; drawAll(); }),
    paint.cancel, sync.flush,
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render, peCosts };
