// Caption explorer: the words of a caption, each with the attention over the image that wrote it.

function render({ model, el }) {
  const data = model.get("_payload");
  const { rows, columns, layers, heads, keys, channels } = data;
  const first = data.class_token ? 1 : 0, patches = rows * columns;
  const names = ["picture", "word", "layer", "head", "opacity"];
  const sync = saver(model);
  const state = Object.fromEntries(names.map((name) => [name, model.get(name)]));
  const palette = colormap("cividis");
  const captions = data.captions.map((caption) => {
    const pixels = bytes(caption.pixels);
    const grey = channels === 1 ? pixels : Uint8Array.from({ length: data.width * data.height }, (_, i) =>
      Math.round(0.299 * pixels[3 * i] + 0.587 * pixels[3 * i + 1] + 0.114 * pixels[3 * i + 2]));
    return {
      ...caption,
      weights: floats(caption.weights),
      photo: imageCanvas(pixels, data.width, data.height, channels),
      // Under the weights the image is grey: its own colours would mix with theirs.
      grey: imageCanvas(grey, data.width, data.height, 1),
    };
  });
  let width = 0, look = null, most = 1;
  let reading = -1; // the patch under the pointer or the arrow keys

  // ------------------------------------------------------------ elements
  const pictureName = (i) => (data.names.length ? data.names[i] : `${i + 1} of ${captions.length}`);
  const pictureSlider = slider({
    label: "Image", min: 0, max: captions.length - 1, value: 0, format: pictureName,
    onInput: (v) => set({ picture: v, word: Math.min(state.word, captions[v].words.length - 1) }),
  });
  pictureSlider.element.hidden = captions.length < 2;
  const layerSlider = slider({ label: "Layer", min: 0, max: layers - 1, value: 0, onInput: (v) => set({ layer: v }) });
  layerSlider.input.disabled = layers < 2;
  const headSlider = slider({
    label: "Head", min: -1, max: heads - 1, value: 0, format: (x) => (x < 0 ? "mean" : String(x)), onInput: (v) => set({ head: v }),
  });
  const opacitySlider = slider({
    label: "Opacity", min: 0, max: 1, step: 0.05, value: 0, format: (v) => `${Math.round(100 * v)} %`,
    onInput: (v) => set({ opacity: v }),
  });
  const chips = h("div", { class: "ce-words", role: "group", "aria-label": "Words of the caption. Arrow keys choose one." });
  const photoTitle = h("div", { class: "zoo-heading" }, "The image");
  const photo = still(10, 10, "The image");
  const looksTitle = h("div", { class: "zoo-heading" });
  const looks = canvas2d(10, 10, "Weights over the image. Arrow keys read a patch.");
  looks.element.classList.add("zoo-cursor");
  const legendBar = h("span", { class: "zoo-scale" }), legendHigh = h("span");
  legendBar.style.background = palette.gradient;
  const classSwatch = h("span", { class: "zoo-swatch" }), classText = h("span");
  const classLegend = h("span", {}, classSwatch, classText);
  classLegend.hidden = !first;
  const looksPanel = h("div", { class: "zoo-panel" }, looksTitle, looks,
    h("div", { class: "zoo-legend" }, h("span", {}, "0", legendBar, legendHigh), classLegend));
  const photoPanel = h("div", { class: "zoo-panel" }, photoTitle, photo);
  const live = liveRegion();
  const root = mount(el,
    h("div", { class: "zoo-controls" }, pictureSlider, layerSlider, headSlider, opacitySlider),
    chips, h("div", { class: "zoo-panels" }, looksPanel, photoPanel), live);

  // ------------------------------------------------------------ state
  const caption = () => captions[state.picture];

  /** What the chosen head looks at when it writes a word, float32 (keys,). */
  function lookOf(word) {
    const { weights, words } = caption();
    const chosen = state.head < 0 ? [...Array(heads).keys()] : [state.head];
    const values = new Float32Array(keys);
    for (const head of chosen) {
      const row = ((state.layer * heads + head) * words.length + word) * keys;
      for (let j = 0; j < keys; j++) values[j] += weights[row + j] / chosen.length;
    }
    return values;
  }

  function set(values) {
    for (const [name, value] of Object.entries(values)) {
      state[name] = value;
      sync(name, value);
    }
    paint();
  }

  // ------------------------------------------------------------ words
  let buttons = [], shownPicture = -1;

  function buildChips() {
    shownPicture = state.picture;
    const { words, probabilities } = caption();
    buttons = words.map((word, i) => {
      const thumbnail = still(56, Math.round((56 * data.height) / data.width), "");
      thumbnail.element.removeAttribute("aria-label");
      thumbnail.element.setAttribute("role", "presentation");
      thumbnail.element.setAttribute("aria-hidden", "true");
      const chip = button({ label: thumbnail.element, pressed: false, onClick: () => set({ word: i }) });
      chip.element.classList.add("ce-word");
      chip.element.append(h("span", {}, word));
      if (probabilities) chip.element.append(h("span", { class: "ce-probability" }, `p ${probabilities[i].toFixed(2)}`));
      return { ...chip, thumbnail };
    });
    chips.replaceChildren(...buttons.map((chip) => chip.element));
  }

  function go(word) {
    const next = clamp(word, 0, buttons.length - 1);
    set({ word: next });
    buttons[next].element.setAttribute("tabindex", "0");
    buttons[next].element.focus();
  }
  arrowKeys(chips, (down, across) => go(state.word + down + across), (event) => {
    const jumps = { Home: 0, End: buttons.length - 1 };
    if (!(event.key in jumps)) return false;
    go(jumps[event.key]);
    return true;
  });

  // ------------------------------------------------------------ drawing
  function overlay({ context, width: w, height: hgt }, values) {
    const scale = Math.max(...values.subarray(first)) || 1;
    context.clearRect(0, 0, w, hgt);
    context.imageSmoothingEnabled = w < data.width;
    context.drawImage(caption().grey, 0, 0, w, hgt);
    context.save();
    context.globalAlpha = state.opacity;
    context.imageSmoothingEnabled = false;
    context.drawImage(heatCanvas(values.subarray(first), columns, rows, scale, palette), 0, 0, w, hgt);
    context.restore();
    return scale;
  }

  function layout() {
    const room = width >= 560 ? (width - 24) / 2 : width;
    const scale = Math.min(room / data.width, 340 / data.height, 340 / data.width);
    for (const surface of [looks, photo]) surface.resize(Math.floor(data.width * scale), Math.floor(data.height * scale));
    const side = `${Math.max(looks.width, Math.min(room, 260))}px`;
    looksPanel.style.width = photoPanel.style.width = side;
  }

  const brief = (patch) => `patch ${patch} (row ${Math.floor(patch / columns)}, column ${patch % columns})`;

  function drawLooks() {
    most = overlay(looks, look);
    if (reading >= 0) {
      const w = looks.width / columns, hgt = looks.height / rows;
      markRect(looks.context, (reading % columns) * w, Math.floor(reading / columns) * hgt, w, hgt);
    }
    const values = look.subarray(first), { words, probabilities } = caption();
    const top = [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, 3)
      .map((patch) => `${brief(patch)} ${values[patch].toFixed(3)}`).join(", ");
    const read = reading < 0 ? "" : ` ${brief(reading)} = ${values[reading].toFixed(4)}.`;
    const sure = probabilities ? `, written with p = ${probabilities[state.word].toFixed(3)}` : "";
    const itself = first ? ` On the class token: ${look[0].toFixed(3)}.` : "";
    live.say(`Word ${state.word + 1} of ${words.length}, “${words[state.word]}”${sure}.${read} Highest: ${top}.${itself}`);
  }

  function drawAll() {
    if (!width) return;
    if (shownPicture !== state.picture) buildChips();
    layout();
    pictureSlider.set(state.picture);
    layerSlider.set(state.layer);
    headSlider.set(state.head);
    opacitySlider.set(state.opacity);
    look = lookOf(state.word);
    buttons.forEach((chip, i) => {
      chip.press(i === state.word);
      chip.element.setAttribute("tabindex", i === state.word ? "0" : "-1");
      overlay(chip.thumbnail, lookOf(i));
    });
    const { context } = photo;
    context.imageSmoothingEnabled = photo.width < data.width;
    context.drawImage(caption().photo, 0, 0, photo.width, photo.height);
    gridLines(context, {
      rows, columns, cellWidth: photo.width / columns, cellHeight: photo.height / rows, alpha: 0.35,
    });
    photo.element.setAttribute("aria-label", `The image: ${caption().words.join(" ")}`);
    drawLooks();
    const head = state.head < 0 ? "mean of heads" : `head ${state.head}`;
    looksTitle.textContent = `“${caption().words[state.word]}”: layer ${state.layer}, ${head}`;
    legendHigh.textContent = most.toPrecision(3);
    classSwatch.style.background = palette.css(Math.min(1, look[0] / most));
    classText.textContent = `class token ${look[0].toFixed(3)}`;
    ready(root);
  }

  // ------------------------------------------------------------ pointer, keys, Python
  const paint = redraw(drawAll), reread = redraw(drawLooks);
  const read = (patch) => {
    if (patch === reading) return;
    reading = patch;
    reread();
  };
  looks.element.addEventListener("pointermove", (event) => {
    const [x, y] = looks.at(event);
    const row = clamp(Math.floor((y / looks.height) * rows), 0, rows - 1);
    read(row * columns + clamp(Math.floor((x / looks.width) * columns), 0, columns - 1));
  });
  looks.element.addEventListener("pointerleave", () => read(-1));
  looks.element.addEventListener("blur", () => read(-1));
  arrowKeys(looks.element, (down, across) => {
    // The first press goes to the patch that is looked at most.
    const values = look.subarray(first);
    if (reading < 0) return read(values.indexOf(Math.max(...values)));
    const row = clamp(Math.floor(reading / columns) + down, 0, rows - 1);
    return read(row * columns + clamp((reading % columns) + across, 0, columns - 1));
  });

  const follow = () => {
    const changed = names.filter((name) => state[name] !== model.get(name));
    for (const name of changed) state[name] = model.get(name);
    state.word = Math.min(state.word, caption().words.length - 1);
    if (changed.length) paint.now();
  };
  const stops = [
    listen(model, Object.fromEntries(names.map((name) => [`change:${name}`, follow]))),
    onThemeChange(drawAll), onRoom(root, (room) => { width = room; drawAll(); }),
    paint.cancel, reread.cancel, sync.flush,
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render };
