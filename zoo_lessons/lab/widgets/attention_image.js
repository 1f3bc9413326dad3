// Attention over an image: pick a query patch, see every head from there, read one head's weights.

/** What the chosen query looks at, float32 (tokens,): one head, the mean (head -1), or the rollout. */
function aeLook(data, layer, head, query, out) {
  const { heads, keys, rollout } = data;
  const look = out || new Float32Array(keys);
  if (layer === data.layers) {
    look.set(rollout.subarray(query * keys, (query + 1) * keys));
    return look;
  }
  const chosen = head < 0 ? [...Array(heads).keys()] : [head];
  look.fill(0);
  for (const one of chosen) {
    const row = ((layer * heads + one) * keys + query) * keys;
    for (let j = 0; j < keys; j++) look[j] += data.weights[row + j] / chosen.length;
  }
  return look;
}

function aeOnImage({ model, el }) {
  const sync = saver(model);
  const names = ["layer", "head", "query", "opacity", "scale_to_maximum", "color_map"];
  const state = {};
  let data, first, patches, photo, greyPhoto, colors, palette, look, most, width = 0, place = {};
  let reading = -1; // the patch under the pointer or the arrow keys in the weights' picture

  // ------------------------------------------------------------ elements
  const layerSlider = slider({
    label: "Layer", min: 0, max: 1, value: 0, format: (l) => (data ? shortLayer(l) : ""), onInput: (v) => set({ layer: v }),
  });
  const headSlider = slider({
    label: "Head", min: -1, max: 1, value: 0, format: (x) => (x < 0 ? "mean" : String(x)), onInput: (v) => set({ head: v }),
  });
  const opacitySlider = slider({
    label: "Opacity", min: 0, max: 1, step: 0.05, value: 0, format: (v) => `${Math.round(100 * v)} %`,
    onInput: (v) => set({ opacity: v }),
  });
  const colorSelect = select({
    label: "Colours", options: ["cividis", "viridis", "greys"], value: "cividis", onChange: (v) => set({ color_map: v }),
  });
  const scaleBox = checkbox({ label: "Scale to the maximum", onChange: (on) => set({ scale_to_maximum: on }) });
  const group = (...fields) => h("div", { class: "zoo-group" }, ...fields);

  const queryTitle = h("div", { class: "zoo-heading" });
  const classButton = button({ label: "Class token", pressed: false, onClick: () => set({ query: 0 }) });
  const picture = canvas2d(10, 10, "Image. Arrow keys choose the query patch.");
  const queryPanel = h("div", { class: "zoo-panel" }, queryTitle, picture, h("div", { class: "ae-below" }, classButton));

  const overview = canvas2d(10, 10, "All heads from this query. Arrow keys choose a layer and a head.");
  const overviewPanel = h("div", { class: "zoo-panel" },
    h("div", { class: "zoo-heading" }, "All heads from there: one row per layer"), overview);

  const lookTitle = h("div", { class: "zoo-heading" });
  const looks = canvas2d(10, 10, "Weights over the image. Arrow keys read a patch, Enter makes it the query.");
  const legendBar = h("span", { class: "zoo-scale" }), legendHigh = h("span");
  const classSwatch = h("span", { class: "zoo-swatch" }), classText = h("span");
  const classLegend = h("span", {}, classSwatch, classText);
  const looksPanel = h("div", { class: "zoo-panel" }, lookTitle, looks,
    h("div", { class: "zoo-legend" }, h("span", {}, "0", legendBar, legendHigh), classLegend));
  for (const surface of [picture, looks]) surface.element.classList.add("zoo-cursor");
  overview.element.classList.add("ae-pointer");

  const live = liveRegion();
  const root = mount(el,
    h("div", { class: "zoo-controls" }, group(layerSlider, headSlider), group(opacitySlider, colorSelect, scaleBox)),
    h("div", { class: "zoo-panels" }, queryPanel, looksPanel, overviewPanel), live);

  // ------------------------------------------------------------ words
  const isRollout = (layer) => layer === data.layers;
  const shortLayer = (l) => (isRollout(l) ? "rollout" : data.names.length ? data.names[l] : String(l));
  const headName = (x) => (x < 0 ? "mean of heads" : `head ${x}`);
  const viewName = () => (isRollout(state.layer) ? "Rollout"
    : `${data.names.length ? data.names[state.layer] : `Layer ${state.layer}`}, ${headName(state.head)}`);

  // ------------------------------------------------------------ state
  function load() {
    const payload = model.get("_payload"), { image } = payload;
    data = aeDecode(payload);
    data.rollout = payload.rollout && aeWeights(payload.rollout);
    patches = image.rows * image.columns;
    first = image.class_token ? 1 : 0;
    const pixels = bytes(image.pixels);
    photo = imageCanvas(pixels, image.width, image.height, image.channels);
    // Under the weights the image is grey: its own colours would mix with theirs.
    const c = image.channels;
    greyPhoto = imageCanvas(c === 1 ? pixels : Uint8Array.from({ length: image.width * image.height }, (_, i) =>
      Math.round(0.299 * pixels[i * c] + 0.587 * pixels[i * c + 1] + 0.114 * pixels[i * c + 2])), image.width, image.height, 1);
    reading = -1;
    for (const name of names) state[name] = model.get(name);
    layerSlider.setRange(0, data.layers - (data.rollout ? 0 : 1));
    headSlider.setRange(-1, data.heads - 1);
    layerSlider.input.disabled = data.layers < 2 && !data.rollout;
    classButton.element.hidden = classLegend.hidden = !first;
  }

  function set(values) {
    for (const [name, value] of Object.entries(values)) {
      state[name] = value;
      sync(name, value);
    }
    paint();
  }

  // ------------------------------------------------------------ layout
  function layout() {
    const { image } = data;
    const layers = data.layers + (data.rollout ? 1 : 0), columns = data.heads + 1;
    const labels = [...Array(layers).keys()].map(shortLayer);
    overview.context.font = "11px system-ui, sans-serif";
    const left = Math.ceil(Math.min(90, Math.max(...labels.map((text) => overview.context.measureText(text).width)))) + 8;
    const wide = width >= 900, medium = width >= 560;
    const budget = (wide ? width * 0.36 : width) - left - 4;
    // A tile has the image's proportions.
    const tall = image.height / image.width;
    const tile = clamp(Math.min(budget / columns - AE_GAP, (380 / layers - AE_GAP) / tall), 8, 90);
    place = { left, top: 18, tile, high: tile * tall, labels };
    overview.resize(Math.ceil(left + columns * (tile + AE_GAP) + 4), Math.ceil(18 + layers * (place.high + AE_GAP) + 4));
    const room = wide ? (width - overview.width - 48) / 2 : medium ? (width - 24) / 2 : width;
    const scale = Math.min(room / image.width, 400 / image.height, 400 / image.width);
    for (const surface of [picture, looks]) surface.resize(Math.floor(image.width * scale), Math.floor(image.height * scale));
    place.cellWidth = picture.width / image.columns;
    place.cellHeight = picture.height / image.rows;
    const side = `${Math.max(picture.width, Math.min(room, 220))}px`;
    queryPanel.style.width = looksPanel.style.width = side;
  }

  // ------------------------------------------------------------ drawing
  const cellOf = (patch) => [(patch % data.image.columns) * place.cellWidth, Math.floor(patch / data.image.columns) * place.cellHeight];
  const mark = (surface, patch) => markRect(surface.context, ...cellOf(patch), place.cellWidth, place.cellHeight);
  const scaleOf = (values) => (state.scale_to_maximum ? aeLargest(values.subarray(first)) || 1 : 1);

  function drawPhoto({ context, width: w, height: hgt }, canvas) {
    context.clearRect(0, 0, w, hgt);
    context.imageSmoothingEnabled = w < data.image.width;
    context.drawImage(canvas, 0, 0, w, hgt);
  }

  function drawPicture() {
    drawPhoto(picture, photo);
    gridLines(picture.context, { ...data.image, cellWidth: place.cellWidth, cellHeight: place.cellHeight, alpha: 0.35 });
    if (state.query >= first) mark(picture, state.query - first);
    classButton.press(first && state.query === 0);
  }

  function drawOverview() {
    const { context } = overview, { left, top, tile, high, labels } = place;
    const { rows, columns } = data.image;
    const x = (head) => left + (head + 1) * (tile + AE_GAP), y = (layer) => top + layer * (high + AE_GAP);
    context.clearRect(0, 0, overview.width, overview.height);
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colors.muted;
    context.textBaseline = "middle";
    context.textAlign = "right";
    const every = Math.ceil(13 / (high + AE_GAP));
    labels.forEach((text, l) => {
      if (l % every === 0 || isRollout(l)) context.fillText(text, left - 6, y(l) + high / 2, left - 8);
    });
    context.textAlign = "center";
    const step = Math.ceil(20 / (tile + AE_GAP));
    for (let head = tile < 28 ? step - 1 : 0; head < data.heads; head += step) context.fillText(String(head), x(head) + tile / 2, 8);
    context.fillText("mean", x(-1) + tile / 2, 8, Math.max(tile, 24));
    context.imageSmoothingEnabled = false;
    context.strokeStyle = colors.grid;
    const values = new Float32Array(data.keys);
    const drawTile = (layer, head) => {
      aeLook(data, layer, head, state.query, values);
      context.drawImage(heatCanvas(values.subarray(first), columns, rows, scaleOf(values), palette), x(head), y(layer), tile, high);
      context.strokeRect(x(head) + 0.5, y(layer) + 0.5, tile - 1, high - 1);
    };
    for (let layer = 0; layer < data.layers; layer++) {
      for (let head = -1; head < data.heads; head++) drawTile(layer, head);
    }
    if (data.rollout) drawTile(data.layers, -1);
    markRect(context, x(isRollout(state.layer) ? -1 : state.head), y(state.layer), tile, high);
  }

  function drawLooks() {
    const { context } = looks, { rows, columns } = data.image;
    drawPhoto(looks, greyPhoto);
    context.save();
    context.globalAlpha = state.opacity;
    context.imageSmoothingEnabled = false;
    context.drawImage(heatCanvas(look.subarray(first), columns, rows, most, palette), 0, 0, looks.width, looks.height);
    context.restore();
    if (state.query >= first) mark(looks, state.query - first);
    if (reading >= 0) {
      const [x, y] = cellOf(reading);
      context.strokeStyle = "#ffffff";
      context.lineWidth = 3;
      context.strokeRect(x, y, place.cellWidth, place.cellHeight);
      context.strokeStyle = "#000000";
      context.lineWidth = 1;
      context.strokeRect(x, y, place.cellWidth, place.cellHeight);
    }
    announce();
  }

  function announce() {
    const values = look.subarray(first), { columns } = data.image;
    const brief = (patch) => `patch ${patch} (row ${Math.floor(patch / columns)}, column ${patch % columns})`;
    const top = [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, 3)
      .map((patch) => `${brief(patch)} ${values[patch].toFixed(3)}`).join(", ");
    const read = reading < 0 ? "." : ` → ${brief(reading)} = ${values[reading].toFixed(4)}.`;
    const itself = first ? ` On the class token: ${look[0].toFixed(3)}.` : "";
    live.say(`${viewName()}: from ${data.tokens[state.query]}${read} Highest: ${top}.${itself}`);
  }

  function drawAll() {
    if (!width) return;
    colors = themeColors(root);
    palette = colormap(state.color_map);
    look = aeLook(data, state.layer, state.head, state.query);
    most = scaleOf(look);
    layout();
    layerSlider.set(state.layer);
    headSlider.set(state.head);
    headSlider.input.disabled = isRollout(state.layer);
    opacitySlider.set(state.opacity);
    colorSelect.set(state.color_map);
    scaleBox.set(state.scale_to_maximum);
    queryTitle.textContent = `Query: ${data.tokens[state.query]}`;
    lookTitle.textContent = `${viewName()}: where it looks`;
    legendBar.style.background = palette.gradient;
    legendHigh.textContent = most === 1 ? "1" : most.toPrecision(3);
    classSwatch.style.background = palette.css(Math.min(1, look[0] / most));
    classText.textContent = `class token ${look[0].toFixed(3)}`;
    drawPicture();
    drawOverview();
    drawLooks();
    ready(root);
  }

  // ------------------------------------------------------------ pointer, keys, Python
  const paint = redraw(drawAll), reread = redraw(drawLooks);
  const patchAt = (surface, event) => {
    const [x, y] = surface.at(event), { rows, columns } = data.image;
    return clamp(Math.floor(y / place.cellHeight), 0, rows - 1) * columns + clamp(Math.floor(x / place.cellWidth), 0, columns - 1);
  };
  const moved = (patch, down, across) => {
    const { rows, columns } = data.image;
    return clamp(Math.floor(patch / columns) + down, 0, rows - 1) * columns + clamp((patch % columns) + across, 0, columns - 1);
  };
  for (const surface of [picture, looks]) {
    surface.element.addEventListener("click", (event) => set({ query: first + patchAt(surface, event) }));
  }
  // From the class token, the first press goes to the middle of the image.
  const middle = () => Math.floor(data.image.rows / 2) * data.image.columns + Math.floor(data.image.columns / 2);
  arrowKeys(picture.element, (down, across) =>
    set({ query: first + (state.query < first ? middle() : moved(state.query - first, down, across)) }));
  const read = (patch) => {
    if (patch === reading) return;
    reading = patch;
    reread();
  };
  looks.element.addEventListener("pointermove", (event) => read(patchAt(looks, event)));
  looks.element.addEventListener("pointerleave", () => read(-1));
  looks.element.addEventListener("blur", () => read(-1));
  arrowKeys(looks.element, (down, across) =>
    read(reading >= 0 ? moved(reading, down, across) : state.query < first ? middle() : state.query - first),
  (event) => {
    if (event.shiftKey || (event.key !== "Enter" && event.key !== " ") || reading < 0) return false;
    set({ query: first + reading });
    return true;
  });

  function open(layer, head) {
    const last = data.layers - (data.rollout ? 0 : 1);
    set({ layer: clamp(layer, 0, last), head: clamp(head, -1, data.heads - 1) });
  }
  overview.element.addEventListener("click", (event) => {
    const [x, y] = overview.at(event);
    const head = Math.floor((x - place.left) / (place.tile + AE_GAP)) - 1;
    const layer = Math.floor((y - place.top) / (place.high + AE_GAP));
    if (head >= -1 && layer >= 0) open(layer, isRollout(layer) ? state.head : head);
  });
  arrowKeys(overview.element, (down, across) =>
    open(state.layer + down, isRollout(state.layer) ? state.head : state.head + across));

  const follow = () => {
    const changed = names.filter((name) => state[name] !== model.get(name));
    for (const name of changed) state[name] = model.get(name);
    if (changed.length) paint.now();
  };
  load();
  const stops = [
    listen(model, {
      ...Object.fromEntries(names.map((name) => [`change:${name}`, follow])),
      "change:_payload": () => { load(); drawAll(); },
    }),
    onThemeChange(drawAll), onRoom(root, (room) => { width = room; drawAll(); }),
    paint.cancel, reread.cancel, sync.flush,
  ];
  return () => stops.forEach((stop) => stop());
}
