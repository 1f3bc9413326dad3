// All heads -> one head -> one number. Weights arrive once per sentence; everything after that
// (sliders, hiding tokens, renormalising, locking a row) happens here.

const AE_GAP = 2;
const AE_SPECIAL = /^(\[(CLS|SEP|PAD|BOS|EOS)\]|<\/?s>|<(pad|bos|eos)>|<\|(startoftext|endoftext)\|>)$/i;

/** Weights as float32: their codes are 16-bit square roots. */
function aeWeights(value) {
  const codes = new Uint16Array(bytes(value).slice().buffer);
  const weights = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) {
    const root = codes[i] / 65535;
    weights[i] = root * root;
  }
  return weights;
}

const aeDecode = (payload) => ({ ...payload, weights: aeWeights(payload.weights) });

function aeLargest(weights) {
  let most = 0;
  for (let i = 0; i < weights.length; i++) if (weights[i] > most) most = weights[i];
  return most;
}

/** Which queries and keys stay in the picture. When nothing would be left, all stay. */
function aeVisible(data, special) {
  const hidden = (tokens, index) =>
    special === "hide specials" ? AE_SPECIAL.test(tokens[index]) : special === "hide first" && index === 0;
  const keep = (tokens, count) => [...Array(count).keys()].filter((i) => !hidden(tokens, i));
  const all = (count) => [...Array(count).keys()];
  const keys = keep(data.tokens, data.keys);
  // Cross-attention: queries are other tokens, and a sink among the keys says nothing about them.
  const queries = data.same ? keep(data.query_tokens, data.queries) : all(data.queries);
  if (!keys.length || !queries.length) return { queries: all(data.queries), keys: all(data.keys), empty: true };
  return { queries, keys, empty: false };
}

/** One head's visible weights, (queries, keys), each row renormalised if asked. */
function aeHeadWeights(data, visible, layer, head, renormalise, out) {
  const { queries, keys } = visible;
  const start = (layer * data.heads + head) * data.queries * data.keys;
  const weights = out || new Float32Array(queries.length * keys.length);
  const partial = renormalise && keys.length < data.keys;
  for (let i = 0, at = 0; i < queries.length; i++) {
    const row = start + queries[i] * data.keys;
    let sum = 0;
    for (let j = 0; j < keys.length; j++) sum += weights[at + j] = data.weights[row + keys[j]];
    if (partial && sum > 0) for (let j = 0; j < keys.length; j++) weights[at + j] /= sum;
    at += keys.length;
  }
  return weights;
}

function render(props) {
  return props.model.get("_payload").image ? aeOnImage(props) : aeOnText(props);
}

function aeOnText({ model, el }) {
  const sync = saver(model);
  let data, visible, shown, colors, palette, width = 0;
  let cursor = { query: -1, key: -1 }; // positions in `visible`
  const state = {};
  for (const name of ["layer", "head", "locked", "special_tokens", "renormalise", "scale_to_maximum", "color_map"]) {
    state[name] = model.get(name);
  }

  // ------------------------------------------------------------ elements
  const layerSlider = slider({ label: "Layer", min: 0, max: 1, value: 0, onInput: (v) => open(v, state.head) });
  const headSlider = slider({ label: "Head", min: 0, max: 1, value: 0, onInput: (v) => open(state.layer, v) });
  const specialSelect = select({
    label: "Special tokens",
    options: [["as is", "as they are"], ["hide specials", "hide"], ["hide first", "hide the first token"]],
    value: state.special_tokens,
    onChange: (v) => choose("special_tokens", v),
  });
  const renormaliseBox = checkbox({
    label: "Renormalise the rest", value: state.renormalise, onChange: (v) => choose("renormalise", v),
  });
  const scaleBox = checkbox({
    label: "Scale each head to its maximum", value: state.scale_to_maximum,
    onChange: (v) => choose("scale_to_maximum", v),
  });
  const colorSelect = select({
    label: "Colours", options: ["cividis", "viridis", "greys"], value: state.color_map,
    onChange: (v) => choose("color_map", v),
  });
  const group = (...fields) => h("div", { class: "zoo-group" }, ...fields);
  const controls = h("div", { class: "zoo-controls" },
    group(layerSlider, headSlider), group(specialSelect, renormaliseBox), group(colorSelect, scaleBox));

  const overview = canvas2d(10, 10, "All heads. Arrow keys choose a layer and a head.");
  const overviewBase = h("canvas");
  const overviewPanel = h("div", { class: "zoo-panel" },
    h("div", { class: "zoo-heading" }, "All heads: one row per layer"), overview);

  const headTitle = h("div", { class: "zoo-heading" });
  const heat = canvas2d(10, 10,
    "Open head: rows are queries, columns are keys. Arrow keys move, Enter locks or frees a row.");
  const heatBase = h("canvas");
  const legendBar = h("span", { class: "ae-legend-bar" });
  const legendHigh = h("span");
  const headPanel = h("div", { class: "zoo-panel" }, headTitle, heat,
    h("div", { class: "ae-legend" }, h("span", {}, "0"), legendBar, legendHigh));

  const barsTitle = h("div", { class: "zoo-heading" });
  const barsNote = h("p", { class: "zoo-note" });
  const bars = h("ol", { class: "ae-bars" });
  const barsBox = h("div", { class: "ae-bars-box", tabindex: 0, role: "group", "aria-label": "Weights by key" }, bars);
  const barsPanel = h("div", { class: "zoo-panel" }, barsTitle, barsBox, barsNote);
  let barRows = [];

  const live = liveRegion();
  const ask = asker(model, { onBusy: (on) => sentence.busy(on) });
  const sentence = model.get("_has_text_box") ? textForm({
    label: "Your sentence", submit: "Show its attention", value: model.get("text"), ask,
    blank: "Type a sentence first.", send: (text) => ask({ kind: "sentence", text }),
  }) : null;
  const root = mount(el, sentence && sentence.element, controls,
    h("div", { class: "zoo-panels" }, overviewPanel, headPanel, barsPanel), live);

  // ------------------------------------------------------------ state
  const layerName = (l) => (data.names.length ? data.names[l] : `Layer ${l}`);
  const quoted = (token) => `“${token}”`;

  function load() {
    data = aeDecode(model.get("_payload"));
    cursor = { query: -1, key: -1 };
    for (const name of ["layer", "head", "locked"]) state[name] = model.get(name);
    layerSlider.setRange(0, data.layers - 1);
    headSlider.setRange(0, data.heads - 1);
    layerSlider.input.disabled = data.layers < 2;
    headSlider.input.disabled = data.heads < 2;
    overviewPanel.hidden = data.layers * data.heads < 2;
    const specials = [...new Set(data.tokens.filter((token) => AE_SPECIAL.test(token)))];
    const option = specialSelect.input.options[1];
    option.textContent = specials.length ? `hide ${specials.join(", ")}` : "hide special tokens (none here)";
    option.disabled = !specials.length;
    filter();
  }

  function filter() {
    visible = aeVisible(data, state.special_tokens);
    renormaliseBox.input.disabled = visible.keys.length === data.keys;
    barRows = visible.keys.map((key) => {
      const fill = h("span", { class: "ae-fill" });
      const tick = h("span", { class: "ae-tick", hidden: true });
      const number = h("span", { class: "ae-number" });
      const row = h("li", {}, h("span", { class: "ae-token", title: data.tokens[key] }, data.tokens[key]),
        h("span", { class: "ae-track" }, fill, tick), number);
      return { row, fill, tick, number };
    });
    bars.replaceChildren(...barRows.map((bar) => bar.row));
  }

  function choose(name, value) {
    state[name] = value;
    sync(name, value);
    if (name === "special_tokens") { cursor = { query: -1, key: -1 }; filter(); }
    drawEverything();
  }

  function open(layer, head, tell = true) {
    state.layer = clamp(layer, 0, data.layers - 1);
    state.head = clamp(head, 0, data.heads - 1);
    if (tell) { sync("layer", state.layer); sync("head", state.head); }
    layerSlider.set(state.layer);
    headSlider.set(state.head);
    drawHead();
  }

  function toggleLock(position) {
    const query = visible.queries[position];
    state.locked = state.locked === query ? -1 : query;
    sync("locked", state.locked);
    drawMarks();
  }

  // ------------------------------------------------------------ layout
  let place = {}; // what each picture's geometry is, in CSS pixels

  function measure(context, tokens, font, most) {
    context.font = font;
    return Math.ceil(Math.min(most, Math.max(...tokens.map((token) => context.measureText(token).width))));
  }

  function layout() {
    const long = visible.keys.length > 24;
    const gap = 24, wide = width >= 880, medium = width >= 560 && !long;
    const { layers, heads } = data;
    const names = data.names.length ? data.names : [...Array(layers).keys()].map(String);
    const nameWidth = measure(overview.context, names, "11px system-ui, sans-serif", 120) + 8;
    const share = wide ? (long ? 0.29 : 0.36) : medium ? 0.46 : 1;
    const budget = Math.min(440, width * share) - nameWidth;
    const tile = clamp(Math.floor(Math.min(budget / heads, 460 / layers)) - AE_GAP, 10, 72);
    const top = 18;
    place.overview = { left: nameWidth, top, tile, names };
    overview.resize(nameWidth + heads * (tile + AE_GAP) + 2, top + layers * (tile + AE_GAP) + 2);

    const used = overviewPanel.hidden ? 0 : overview.width + gap;
    const room = wide ? width - used - 240 - gap - 4 : medium ? width - used - 4 : width;
    const font = "bold 12px system-ui, sans-serif"; // the widest a label gets
    const left = measure(heat.context, visible.queries.map((i) => data.query_tokens[i]), font, 96) + 10;
    const head = measure(heat.context, visible.keys.map((i) => data.tokens[i]), font, 96) + 10;
    let cell = Math.min(44, (room - left - 4) / visible.keys.length, 620 / visible.queries.length);
    cell = cell >= 4 ? Math.floor(cell) : Math.max(2, cell);
    place.heat = { left, top: head, cell };
    heat.resize(
      Math.ceil(left + visible.keys.length * cell + 4), Math.ceil(head + visible.queries.length * cell + 4));
    const headWidth = Math.max(heat.width, Math.min(room, 230)); // room for the heading
    headPanel.style.width = `${headWidth}px`;
    barsPanel.style.width = `${wide ? clamp(width - used - headWidth - gap - 4, 240, 400) : width}px`;
    barsBox.style.maxHeight = wide ? `${Math.max(320, heat.height)}px` : "420px";
    root.classList.toggle("ae-stacked", !wide);
    bars.classList.toggle("ae-columns", !wide && width >= 480 && visible.keys.length > 6);
  }

  // ------------------------------------------------------------ drawing
  /** A detached canvas like `surface`, to hold what marks are drawn over. */
  function baseContext(base, surface) {
    base.width = surface.element.width;
    base.height = surface.element.height;
    const context = base.getContext("2d");
    context.setTransform(surface.element.width / surface.width, 0, 0, surface.element.height / surface.height, 0, 0);
    return context;
  }

  function blit(surface, base) {
    surface.context.clearRect(0, 0, surface.width, surface.height);
    surface.context.drawImage(base, 0, 0, surface.width, surface.height);
  }

  function drawOverviewBase() {
    const { left, top, tile, names } = place.overview;
    const context = baseContext(overviewBase, overview);
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colors.muted;
    context.textBaseline = "middle";
    context.textAlign = "right";
    names.forEach((name, l) => context.fillText(name, left - 6, top + l * (tile + AE_GAP) + tile / 2, left - 8));
    context.textAlign = "center";
    const every = Math.ceil(18 / (tile + AE_GAP));
    for (let x = 0; x < data.heads; x += every) context.fillText(String(x), left + x * (tile + AE_GAP) + tile / 2, 8);

    // Reduce by maximum: smooth scaling would wash out one-pixel diagonals and stripes.
    const nq = visible.queries.length, nk = visible.keys.length;
    const rows = Math.min(nq, tile), columns = Math.min(nk, tile);
    const rowOf = Uint16Array.from({ length: nq }, (_, i) => Math.floor((i * rows) / nq));
    const columnOf = Uint16Array.from({ length: nk }, (_, j) => Math.floor((j * columns) / nk));
    const pool = new Float32Array(rows * columns);
    const thumb = h("canvas", { width: columns, height: rows });
    const thumbContext = thumb.getContext("2d");
    const image = thumbContext.createImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const weights = new Float32Array(nq * nk);
    context.imageSmoothingEnabled = false;
    context.strokeStyle = colors.grid;
    for (let l = 0; l < data.layers; l++) {
      for (let x = 0; x < data.heads; x++) {
        aeHeadWeights(data, visible, l, x, state.renormalise, weights);
        pool.fill(0);
        for (let i = 0; i < nq; i++) {
          const to = rowOf[i] * columns, from = i * nk;
          for (let j = 0; j < nk; j++) {
            const at = to + columnOf[j];
            if (weights[from + j] > pool[at]) pool[at] = weights[from + j];
          }
        }
        const scale = 255 / (state.scale_to_maximum ? aeLargest(pool) || 1 : 1);
        for (let i = 0; i < pool.length; i++) pixels[i] = palette.abgr[Math.min(255, Math.round(pool[i] * scale))];
        thumbContext.putImageData(image, 0, 0);
        const tileX = left + x * (tile + AE_GAP), tileY = top + l * (tile + AE_GAP);
        context.drawImage(thumb, tileX, tileY, tile, tile);
        context.strokeRect(tileX + 0.5, tileY + 0.5, tile - 1, tile - 1);
      }
    }
  }

  const cut = (context, token, most) => {
    if (context.measureText(token).width <= most) return token;
    let end = token.length;
    while (end > 1 && context.measureText(`${token.slice(0, end)}…`).width > most) end--;
    return `${token.slice(0, end)}…`;
  };

  /** Token labels; the marked rows and columns bold, and nothing close enough to touch them. */
  function drawLabels(context, markedQueries, markedKeys) {
    const { left, top, cell } = place.heat;
    const step = Math.ceil(11 / cell);
    const size = clamp(Math.round(cell * step * 0.8), 9, 12);
    const shownAt = (i, marked) => marked.includes(i) ||
      (i % step === 0 && marked.every((m) => Math.abs(m - i) * cell > size + 1));
    const write = (i, marked, text, x, y, most) => {
      context.font = `${marked.includes(i) ? "bold " : ""}${size}px system-ui, sans-serif`;
      context.fillStyle = marked.includes(i) ? MARK : colors.fg;
      context.fillText(cut(context, text, most), x, y);
    };
    context.textBaseline = "middle";
    context.textAlign = "right";
    visible.queries.forEach((query, i) => {
      if (!shownAt(i, markedQueries)) return;
      write(i, markedQueries, data.query_tokens[query], left - 6, top + (i + 0.5) * cell, left - 8);
    });
    context.save();
    context.rotate(-Math.PI / 2);
    context.textAlign = "left";
    visible.keys.forEach((key, j) => {
      if (!shownAt(j, markedKeys)) return;
      write(j, markedKeys, data.tokens[key], 6 - top, left + (j + 0.5) * cell, top - 8);
    });
    context.restore();
  }

  function drawHead() {
    shown = aeHeadWeights(data, visible, state.layer, state.head, state.renormalise);
    const nq = visible.queries.length, nk = visible.keys.length;
    const most = state.scale_to_maximum ? aeLargest(shown) || 1 : 1;
    const { left, top, cell } = place.heat;
    const context = baseContext(heatBase, heat);
    context.imageSmoothingEnabled = false;
    context.drawImage(heatCanvas(shown, nk, nq, most, palette), left, top, nk * cell, nq * cell);
    context.strokeStyle = colors.border;
    context.strokeRect(left - 0.5, top - 0.5, nk * cell + 1, nq * cell + 1);
    headTitle.textContent = `${layerName(state.layer)}, head ${state.head}: rows look at columns`;
    legendHigh.textContent = most.toFixed(most === 1 ? 0 : 3);
    drawMarks();
  }

  function drawMarks() {
    blit(overview, overviewBase);
    const { left, top, tile } = place.overview;
    markRect(overview.context, left + state.head * (tile + AE_GAP), top + state.layer * (tile + AE_GAP), tile, tile);

    blit(heat, heatBase);
    const { cell } = place.heat, x0 = place.heat.left, y0 = place.heat.top;
    const nk = visible.keys.length;
    const lockedAt = visible.queries.indexOf(state.locked);
    const { query, key } = cursor;
    drawLabels(heat.context, [lockedAt, query].filter((i) => i >= 0), [key].filter((j) => j >= 0));
    if (lockedAt >= 0) markRect(heat.context, x0, y0 + lockedAt * cell, nk * cell, cell);
    if (query >= 0 && key >= 0) markRect(heat.context, x0 + key * cell, y0 + query * cell, cell, cell);
    drawBars(lockedAt);
    announce(lockedAt);
  }

  const rowOf = (query) => shown.subarray(query * visible.keys.length, (query + 1) * visible.keys.length);

  function columnMeans() {
    const nq = visible.queries.length, nk = visible.keys.length;
    const means = new Float32Array(nk);
    for (let i = 0; i < shown.length; i++) means[i % nk] += shown[i] / nq;
    return means;
  }

  function drawBars(lockedAt) {
    const main = lockedAt >= 0 ? lockedAt : cursor.query;
    const other = lockedAt >= 0 && cursor.query >= 0 && cursor.query !== lockedAt ? cursor.query : -1;
    const values = main >= 0 ? rowOf(main) : columnMeans();
    const ghost = other >= 0 ? rowOf(other) : null;
    barRows.forEach(({ row, fill, tick, number }, j) => {
      fill.style.transform = `scaleX(${values[j]})`;
      number.textContent = values[j].toFixed(3);
      tick.hidden = !ghost;
      if (ghost) tick.style.left = `${100 * ghost[j]}%`;
      row.classList.toggle("ae-current", j === cursor.key);
    });
    const token = (position) => quoted(data.query_tokens[visible.queries[position]]);
    barsTitle.textContent = main < 0 ? "All queries, on average, look at"
      : `${token(main)} ${lockedAt >= 0 ? "(locked) " : ""}looks at`;
    barsNote.textContent = lockedAt < 0 ? "Click a row of the head to lock it."
      : other >= 0 ? `Orange lines: ${token(other)}, for comparison.`
      : "Click the row again to free it. Point at another row to compare.";
  }

  function announce(lockedAt) {
    const where = `${layerName(state.layer)}, head ${state.head}`;
    const note = visible.empty ? " Nothing would be left without the special tokens, so all are shown."
      : visible.keys.length < data.keys
        ? state.renormalise ? " Weights renormalised over the tokens shown." : " Hidden tokens keep their share."
        : "";
    const row = cursor.query >= 0 ? cursor.query : lockedAt;
    if (row < 0) {
      live.say(`${where}. Point at a cell, or use the arrow keys, to read a weight.${note}`);
      return;
    }
    const weights = rowOf(row);
    const named = (j) => `${quoted(data.tokens[visible.keys[j]])} ${weights[j].toFixed(3)}`;
    const query = `${quoted(data.query_tokens[visible.queries[row]])} (query ${visible.queries[row]})`;
    const top = [...weights.keys()].sort((a, b) => weights[b] - weights[a]).slice(0, 3).map(named).join(", ");
    const cell = cursor.query >= 0 && cursor.key >= 0
      ? ` → ${quoted(data.tokens[visible.keys[cursor.key]])} (key ${visible.keys[cursor.key]}) = ${weights[cursor.key].toFixed(4)}.`
      : ".";
    live.say(`${where}: ${query}${cell} Highest: ${top}.${note}`);
  }

  function drawEverything() {
    if (!width) return;
    colors = themeColors(root);
    palette = colormap(state.color_map);
    legendBar.style.background = palette.gradient;
    layout();
    drawOverviewBase();
    layerSlider.set(state.layer);
    headSlider.set(state.head);
    drawHead();
    ready(root);
  }

  // ------------------------------------------------------------ pointer and keys
  const marks = redraw(drawMarks);

  const headAt = (event) => {
    const [x, y] = overview.at(event);
    const { left, top, tile } = place.overview;
    const column = Math.floor((x - left) / (tile + AE_GAP)), row = Math.floor((y - top) / (tile + AE_GAP));
    return row >= 0 && row < data.layers && column >= 0 && column < data.heads ? [row, column] : null;
  };
  overview.element.addEventListener("click", (event) => {
    const at = headAt(event);
    if (at) open(...at);
  });
  overview.element.addEventListener("pointermove", (event) => {
    const at = headAt(event);
    overview.element.style.cursor = at ? "pointer" : "default";
    if (at) live.say(`${layerName(at[0])}, head ${at[1]}: click to open it.`);
  });
  overview.element.addEventListener("pointerleave", () => marks());
  arrowKeys(overview.element, (rows, columns) => open(state.layer + rows, state.head + columns));

  const cellAt = (event) => {
    const [x, y] = heat.at(event);
    const { left, top, cell } = place.heat;
    const query = Math.floor((y - top) / cell), key = Math.floor((x - left) / cell);
    if (query < 0 || query >= visible.queries.length || key >= visible.keys.length) return { query: -1, key: -1 };
    return { query, key: Math.max(-1, key) }; // on the row's label there is no key
  };
  heat.element.addEventListener("pointermove", (event) => {
    const at = cellAt(event);
    heat.element.style.cursor = at.query >= 0 ? "pointer" : "default";
    if (at.query !== cursor.query || at.key !== cursor.key) { cursor = at; marks(); }
  });
  heat.element.addEventListener("pointerleave", () => { cursor = { query: -1, key: -1 }; marks(); });
  heat.element.addEventListener("click", (event) => {
    cursor = cellAt(event);
    if (cursor.query >= 0) toggleLock(cursor.query);
  });
  arrowKeys(heat.element, (rows, columns) => {
    const lockedAt = visible.queries.indexOf(state.locked);
    cursor = cursor.query < 0 ? { query: Math.max(0, lockedAt), key: 0 } : {
      query: clamp(cursor.query + rows, 0, visible.queries.length - 1),
      key: clamp(cursor.key + columns, 0, visible.keys.length - 1),
    };
    marks();
  }, (event) => {
    if (event.shiftKey || (event.key !== "Enter" && event.key !== " ") || cursor.query < 0) return false;
    toggleLock(cursor.query);
    return true;
  });

  // ------------------------------------------------------------ the notebook's side
  const fromKernel = (name) => () => {
    if (model.get(name) === state[name]) return; // our own change, already drawn
    state[name] = model.get(name);
    open(state.layer, state.head, false);
  };
  const option = (name, control) => () => {
    if (model.get(name) === state[name]) return; // our own change, already drawn
    state[name] = model.get(name);
    control.set(state[name]);
    filter();
    drawEverything();
  };
  const stopListening = listen(model, {
    "change:_payload": () => { load(); drawEverything(); },
    "change:layer": fromKernel("layer"),
    "change:head": fromKernel("head"),
    "change:locked": fromKernel("locked"),
    "change:special_tokens": option("special_tokens", specialSelect),
    "change:renormalise": option("renormalise", renormaliseBox),
    "change:scale_to_maximum": option("scale_to_maximum", scaleBox),
    "change:color_map": option("color_map", colorSelect),
    "change:text": () => sentence && sentence.set(model.get("text")),
    "msg:custom": ask.hear,
  });
  load();
  const stopTheme = onThemeChange(drawEverything);
  const stopResize = onRoom(root, (room) => { width = room; drawEverything(); });
  return () => {
    marks.cancel();
    sync.flush();
    stopListening();
    stopTheme();
    stopResize();
    ask.dispose();
  };
}

export default { render };
