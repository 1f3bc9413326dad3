// Shared by all course widgets: base.py puts this file in front of each widget's own script.
// No imports, no network, no export: the widget's script ends with `export default { render }`.

// ---------------------------------------------------------------- elements and controls

/** Make an element. Functions named on... become listeners; children may be nodes, text, or
 *  controls (objects with an `element`). null, undefined and false are skipped. */
function h(tag, attrs = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attrs || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") node.addEventListener(name.slice(2).toLowerCase(), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child.element || child);
  }
  return node;
}

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

/** The widget's root: appended to `el`, with keys guarded. Call `ready(root)` after the first draw. */
function mount(el, ...children) {
  const root = h("div", { class: "zoo-widget", "data-lm-suppress-shortcuts": "true" }, ...children);
  guardKeys(root);
  el.append(root);
  return root;
}

function ready(root) {
  root.dataset.ready = "1";
}

/** A labelled range input. Returns { element, input, value, set(value), setRange(min, max) };
 *  `onInput(value)` runs on every move, not on `set`. */
function slider({ label, min, max, step = 1, value, format = String, onInput = () => {} }) {
  const input = h("input", { type: "range", min, max, step });
  // Hidden from assistive technology: the input already announces it as its value text.
  const shown = h("output", { "aria-hidden": "true" });
  const element = h("label", { class: "zoo-field" }, h("span", {}, label), input, shown);
  const show = () => {
    shown.textContent = format(Number(input.value));
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  const control = {
    element,
    input,
    get value() { return Number(input.value); },
    set(next) { input.value = next; show(); },
    setRange(low, high) { input.min = low; input.max = high; show(); },
  };
  input.addEventListener("input", () => { show(); onInput(Number(input.value)); });
  control.set(value);
  return control;
}

/** A labelled drop-down. `options` is a list of strings or [value, text] pairs.
 *  Returns { element, input, value, set(value) }. */
function select({ label, options, value, onChange = () => {} }) {
  const input = h("select", {}, ...options.map((option) => {
    const [key, text] = Array.isArray(option) ? option : [option, option];
    return h("option", { value: key }, text);
  }));
  input.value = value;
  input.addEventListener("change", () => onChange(input.value));
  return {
    element: h("label", { class: "zoo-field" }, h("span", {}, label), input),
    input,
    get value() { return input.value; },
    set(next) { input.value = next; },
  };
}

/** A labelled checkbox. Returns { element, input, value, set(value) }. */
function checkbox({ label, value = false, onChange = () => {} }) {
  const input = h("input", { type: "checkbox" });
  input.checked = value;
  input.addEventListener("change", () => onChange(input.checked));
  return {
    element: h("label", { class: "zoo-field" }, input, h("span", {}, label)),
    input,
    get value() { return input.checked; },
    set(next) { input.checked = next; },
  };
}

/** A push button. `pressed` (true or false) makes it a toggle; the caller updates it with `press`. */
function button({ label, pressed, onClick = () => {} }) {
  const element = h("button", { type: "button", onClick }, label);
  const press = (on) => element.setAttribute("aria-pressed", String(Boolean(on)));
  if (pressed !== undefined) press(pressed);
  return { element, input: element, press };
}

/** The readout: one line that screen readers announce. `say(text)` replaces it. */
function liveRegion() {
  const element = h("div", { class: "zoo-live", role: "status", "aria-live": "polite" });
  return {
    element,
    say(text) { if (element.textContent !== text) element.textContent = text; },
  };
}

// ---------------------------------------------------------------- colours

// Anchors of matplotlib's maps. cividis and viridis read the same with colour-blind eyes;
// coolwarm is for signed values, with zero in the middle.
const COLORMAPS = {
  cividis: [
    "#00224e", "#002d68", "#163770", "#2e416d", "#3f4c6c", "#4e566c", "#5c616e", "#696b71", "#767676",
    "#838179", "#928c78", "#a09875", "#afa471", "#bfb06b", "#cfbd62", "#dfca57", "#f0d846", "#fee838",
  ],
  viridis: [
    "#440154", "#481769", "#472a7a", "#433d84", "#3d4e8a", "#355e8d", "#2e6d8e", "#297b8e", "#23898e",
    "#1f978b", "#21a585", "#2eb37c", "#46c06f", "#65cb5e", "#89d548", "#b0dd2f", "#d8e219", "#fde725",
  ],
  greys: [
    "#ffffff", "#f8f8f8", "#f1f1f1", "#e7e7e7", "#dcdcdc", "#cfcfcf", "#c2c2c2", "#b2b2b2", "#9f9f9f",
    "#8e8e8e", "#7d7d7d", "#6d6d6d", "#5e5e5e", "#4d4d4d", "#383838", "#232323", "#111111", "#000000",
  ],
  coolwarm: [
    "#3b4cc0", "#4c66d6", "#5f7fe8", "#7396f5", "#88abfd", "#9dbdff", "#b1cbfc", "#c4d5f3", "#d5dbe5",
    "#e4d9d2", "#f0cdbb", "#f6bea4", "#f7aa8c", "#f39475", "#e97a5f", "#dc5d4a", "#ca3b37", "#b40426",
  ],
};

const colormapCache = {};

/** A colour map as { rgb: Uint8Array(768), abgr: Uint32Array(256), css(t), gradient }, t in [0, 1].
 *  `abgr` entries go straight into an ImageData's buffer; `gradient` is a CSS background. */
function colormap(name) {
  if (!(name in COLORMAPS)) throw new Error(`no colour map "${name}"`);
  if (colormapCache[name]) return colormapCache[name];
  const anchors = COLORMAPS[name].map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const rgb = new Uint8Array(768);
  const abgr = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (anchors.length - 1);
    const low = Math.min(anchors.length - 2, Math.floor(place));
    for (let c = 0; c < 3; c++) {
      rgb[3 * i + c] = Math.round(anchors[low][c] + (anchors[low + 1][c] - anchors[low][c]) * (place - low));
    }
    abgr[i] = (0xff000000 | (rgb[3 * i + 2] << 16) | (rgb[3 * i + 1] << 8) | rgb[3 * i]) >>> 0;
  }
  const css = (t) => {
    const i = 3 * clamp(Math.round(t * 255), 0, 255);
    return `rgb(${rgb[i]}, ${rgb[i + 1]}, ${rgb[i + 2]})`;
  };
  const gradient = `linear-gradient(to right, ${COLORMAPS[name].join(", ")})`;
  return (colormapCache[name] = { rgb, abgr, css, gradient });
}

/** The theme's colours, ready for a canvas: fg, bg, muted, panel, grid, border, accent, error,
 *  dark (boolean) and `series`, six line colours that colour-blind readers can tell apart. */
function themeColors(el) {
  const probe = h("span", { hidden: true });
  // JupyterLab may draw a widget before it is in the page, where no style applies to it yet.
  const stand = el.isConnected ? null : h("div", { class: "zoo-widget", hidden: true });
  if (stand) document.body.append(stand);
  (stand || el.closest(".zoo-widget") || el).append(probe);
  const colors = {};
  for (const name of ["fg", "bg", "muted", "panel", "grid", "border", "accent", "error"]) {
    probe.style.color = `var(--zoo-${name})`;
    colors[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  if (stand) stand.remove();
  const [r, g, b] = pixelOf(colors.bg);
  colors.dark = 0.299 * r + 0.587 * g + 0.114 * b < 128;
  colors.series = colors.dark
    ? ["#56b4e9", "#e69f00", "#2fc99a", "#e08bbd", "#f0e442", "#ff8a5c"]
    : ["#0072b2", "#b34700", "#00795a", "#a64d84", "#6b5b00", "#444444"];
  return colors;
}

/** [r, g, b] of any CSS colour, by painting one pixel. */
function pixelOf(color) {
  const canvas = h("canvas", { width: 1, height: 1 });
  const context = canvas.getContext("2d");
  context.fillStyle = color;
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data;
}

/** Run `fn` when the page's theme changes. Canvas pixels do not follow CSS variables.
 *  Returns a function that stops watching. */
function onThemeChange(fn) {
  const observer = new MutationObserver(() => fn());
  const attributeFilter = ["data-jp-theme-light", "data-jp-theme-name", "data-vscode-theme-kind", "theme"];
  observer.observe(document.body, { attributes: true, attributeFilter });
  observer.observe(document.documentElement, { attributes: true, attributeFilter });
  return () => observer.disconnect();
}

// ---------------------------------------------------------------- canvas

/** A sharp, focusable canvas of `width` x `height` CSS pixels, read as `label`.
 *  Returns { element, context, width, height, resize(width, height), at(event) -> [x, y] }. */
function canvas2d(width, height, label) {
  // "application" lets arrow keys through while a screen reader is on.
  const element = h("canvas", { tabindex: 0, role: "application", "aria-label": label });
  const context = element.getContext("2d");
  const surface = {
    element,
    context,
    width,
    height,
    resize(nextWidth, nextHeight) {
      const ratio = Math.min(3, window.devicePixelRatio || 1);
      surface.width = nextWidth;
      surface.height = nextHeight;
      element.width = Math.round(nextWidth * ratio);
      element.height = Math.round(nextHeight * ratio);
      element.style.width = `${nextWidth}px`;
      element.style.aspectRatio = `${nextWidth} / ${nextHeight}`;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
    },
    at(event) {
      const box = element.getBoundingClientRect();
      return [
        ((event.clientX - box.left) * surface.width) / box.width,
        ((event.clientY - box.top) * surface.height) / box.height,
      ];
    },
  };
  surface.resize(width, height);
  return surface;
}

/** A canvas that is only looked at: no focus, no keys. The caller keeps its aria-label true. */
function still(width, height, label) {
  const surface = canvas2d(width, height, label);
  surface.element.setAttribute("role", "img");
  surface.element.removeAttribute("tabindex");
  return surface;
}

const MARK = "#e8501e"; // selection: stands out on every colour map and photograph, with a white casing

/** Frame a rectangle from outside, so that small cells stay visible. */
function markRect(context, x, y, width, height) {
  context.save();
  context.lineJoin = "round";
  for (const [style, line] of [["#ffffff", 4], [MARK, 2]]) {
    context.strokeStyle = style;
    context.lineWidth = line;
    context.strokeRect(x - 1, y - 1, width + 2, height + 2);
  }
  context.restore();
}

// ---------------------------------------------------------------- images

/** A detached canvas with one canvas pixel per pixel, for drawImage to enlarge. `paint(pixels)` fills
 *  a Uint32Array of (height, width) ABGR numbers, row by row. */
function pixelCanvas(width, height, paint) {
  const canvas = h("canvas", { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  paint(new Uint32Array(image.data.buffer));
  context.putImageData(image, 0, 0);
  return canvas;
}

/** An image from Python, bytes (height, width, channels) with 1 or 3 channels, as a detached canvas. */
function imageCanvas(data, width, height, channels = 3) {
  return pixelCanvas(width, height, (pixels) => {
    for (let i = 0; i < pixels.length; i++) {
      const at = i * channels, green = channels === 3 ? 1 : 0, blue = channels === 3 ? 2 : 0;
      pixels[i] = (0xff000000 | (data[at + blue] << 16) | (data[at + green] << 8) | data[at]) >>> 0;
    }
  });
}

/** Numbers (rows, columns) through a colour map, `most` and above as its last colour. */
function heatCanvas(values, columns, rows, most, palette) {
  return pixelCanvas(columns, rows, (pixels) => {
    for (let i = 0; i < pixels.length; i++) {
      pixels[i] = palette.abgr[clamp(Math.round((255 * values[i]) / most), 0, 255)];
    }
  });
}

/** Thin lines between the cells of a grid, readable on light and dark pictures. */
function gridLines(context, { left = 0, top = 0, rows, columns, cellWidth, cellHeight = cellWidth, alpha = 0.7 }) {
  context.save();
  context.globalAlpha = alpha;
  context.lineWidth = 1;
  for (const [style, shift] of [["#000000", 0], ["#ffffff", 1]]) {
    // Side by side they need room; small cells get one of the two.
    if (shift && Math.min(cellWidth, cellHeight) < 8) break;
    context.strokeStyle = style;
    context.beginPath();
    for (let i = 1; i < rows; i++) {
      const y = Math.round(top + i * cellHeight) + 0.5 - shift;
      context.moveTo(left, y);
      context.lineTo(left + columns * cellWidth, y);
    }
    for (let j = 1; j < columns; j++) {
      const x = Math.round(left + j * cellWidth) + 0.5 - shift;
      context.moveTo(x, top);
      context.lineTo(x, top + rows * cellHeight);
    }
    context.stroke();
  }
  context.restore();
}

/** Coalesce many requests into one draw per frame. Call the result to ask for a draw;
 *  `.now()` draws at once, `.cancel()` drops a waiting draw. */
function redraw(draw) {
  let frame = 0;
  const request = () => {
    if (!frame) frame = requestAnimationFrame(() => { frame = 0; draw(); });
  };
  request.cancel = () => { cancelAnimationFrame(frame); frame = 0; };
  request.now = () => { request.cancel(); draw(); };
  return request;
}

/** Run `fn(width)` now and whenever the element's width changes. Returns a function that stops. */
function onResize(el, fn) {
  let last = 0;
  const observer = new ResizeObserver(() => {
    const width = Math.floor(el.clientWidth);
    if (width > 0 && width !== last) { last = width; fn(width); }
  });
  observer.observe(el);
  return () => observer.disconnect();
}

/** Run `fn(width)` now and whenever the room inside the widget's padding changes its width. */
function onRoom(root, fn) {
  return onResize(root, () => {
    const style = getComputedStyle(root);
    fn(root.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight));
  });
}

/** About `count` round numbers between `low` and `high`. */
function niceTicks(low, high, count = 5) {
  const raw = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((s) => s * power >= raw * 0.999) * power;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/** Draw the frame of a line chart (grid, ticks, axis titles) inside a canvas of `width` x `height`
 *  and return { x(value), y(value), left, top, right, bottom } for the lines.
 *  Ranges are [low, high]; `xFormat`/`yFormat` write tick labels. */
function chartFrame(context, { width, height, xRange, yRange, xLabel, yLabel, colors,
  xTicks, yTicks, xFormat = String, yFormat = String,
  margin = { left: 54, right: 14, top: 10, bottom: 42 } }) {
  const left = margin.left, top = margin.top;
  const right = width - margin.right, bottom = height - margin.bottom;
  const x = (value) => left + ((value - xRange[0]) / (xRange[1] - xRange[0])) * (right - left);
  const y = (value) => bottom - ((value - yRange[0]) / (yRange[1] - yRange[0])) * (bottom - top);
  context.save();
  context.font = "11px system-ui, sans-serif";
  context.lineWidth = 1;
  context.strokeStyle = colors.grid;
  context.fillStyle = colors.muted;
  context.textAlign = "center";
  context.textBaseline = "top";
  for (const tick of xTicks || niceTicks(...xRange, Math.max(2, Math.round((right - left) / 80)))) {
    const px = Math.round(x(tick)) + 0.5;
    context.beginPath(); context.moveTo(px, top); context.lineTo(px, bottom); context.stroke();
    context.fillText(xFormat(tick), px, bottom + 5);
  }
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const tick of yTicks || niceTicks(...yRange, Math.max(2, Math.round((bottom - top) / 45)))) {
    const py = Math.round(y(tick)) + 0.5;
    context.beginPath(); context.moveTo(left, py); context.lineTo(right, py); context.stroke();
    context.fillText(yFormat(tick), left - 6, py);
  }
  context.strokeStyle = colors.border;
  context.strokeRect(left + 0.5, top + 0.5, right - left, bottom - top);
  context.fillStyle = colors.fg;
  context.font = "12px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "bottom";
  if (xLabel) context.fillText(xLabel, (left + right) / 2, height - 4);
  if (yLabel) {
    context.translate(4, (top + bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.textBaseline = "top";
    context.fillText(yLabel, 0, 0);
  }
  context.restore();
  return { x, y, left, top, right, bottom };
}

// ---------------------------------------------------------------- talking to the notebook

/** Keep the widget's keys out of the notebook: in JupyterLab an unguarded `x` cuts the cell.
 *  Ctrl, Cmd and Alt combinations, Shift+Enter and Esc still reach it. */
function guardKeys(root) {
  root.addEventListener("keydown", (event) => {
    const passes = event.ctrlKey || event.metaKey || event.altKey || event.key === "Escape" ||
      (event.shiftKey && event.key === "Enter");
    if (!passes) event.stopPropagation();
  });
}

/** Arrow keys on an element: `onMove(rows, columns)`; other keys go to `onKey(event)`, which
 *  returns true when it used the key. */
function arrowKeys(element, onMove, onKey = () => false) {
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const move = moves[event.key];
    if (move) onMove(...move);
    if (move || onKey(event)) event.preventDefault();
  });
}

/** Bytes of a binary trait: a DataView in Jupyter, an ArrayBuffer or typed array elsewhere. */
function bytes(value) {
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

/** Little-endian float32 numbers of a binary trait. Copies, because the bytes may be unaligned. */
function floats(value) {
  return new Float32Array(bytes(value).slice().buffer);
}

/** Set traits now, tell the kernel at most every `delay` ms. `sync(name, value)`; `sync.flush()`
 *  when the widget goes away. */
function saver(model, delay = 100) {
  let timer = 0;
  const flush = () => {
    if (!timer) return;
    clearTimeout(timer);
    timer = 0;
    model.save_changes();
  };
  const sync = (name, value) => {
    model.set(name, value);
    if (!timer) timer = setTimeout(flush, delay);
  };
  sync.flush = flush;
  return sync;
}

/** Listen to model events and return one function that removes them all.
 *  `listen(model, { "change:layer": fn, "msg:custom": fn })`. */
function listen(model, handlers) {
  for (const [event, fn] of Object.entries(handlers)) model.on(event, fn);
  return () => { for (const [event, fn] of Object.entries(handlers)) model.off(event, fn); };
}

/** Questions to Python, one at a time; its side is AskingWidget in base.py.
 *
 *  `ask(content)` resolves to true when Python has done it (what changed is then in the traits, which
 *  Jupyter delivers first), to false when it could not: the reason stands in `ask.error`.
 *  `ask.status` and `ask.error` are elements for the page; `onBusy(busy)` hears when work begins and
 *  ends. `ask.hear(content)` takes messages, `ask.fail(text)` shows an error of the script's own. */
function asker(model, { onBusy = () => {} } = {}) {
  const status = h("span", { class: "zoo-status", role: "status" });
  const error = h("div", { class: "zoo-error", role: "alert" });
  let request = null, settle = null, timers = [];
  const say = (delay, text, then = () => {}) =>
    timers.push(setTimeout(() => { status.textContent = text; then(); }, delay));
  const release = (done) => {
    const resolve = settle;
    settle = null;
    onBusy(false);
    if (resolve) resolve(done);
  };
  const quiet = () => {
    timers.forEach(clearTimeout);
    timers = [];
    status.textContent = "";
  };
  const ask = (content) => {
    if (settle) return Promise.resolve(false);
    quiet();
    request = Math.random().toString(36).slice(2);
    error.textContent = "";
    onBusy(true);
    say(250, "Working…");
    // Then the reader may ask again: a stopped kernel must not lock the widget.
    say(10000, "No answer yet: the kernel may be busy with another cell, or stopped.", () => release(false));
    return new Promise((resolve) => {
      settle = resolve;
      model.send({ ...content, request });
    });
  };
  Object.defineProperty(ask, "busy", { get: () => settle !== null });
  return Object.assign(ask, {
    status,
    error,
    hear(content) {
      if (content.kind !== "answer" || content.request !== request) return;
      request = null;
      quiet();
      error.textContent = content.error;
      release(content.error === "");
    },
    fail(message) { if (!settle) error.textContent = message; },
    dispose: quiet,
  });
}

/** A labelled text field with a button. Enter or the button runs `send(text)`, unless the field is
 *  blank: then `blank` is said. `ask` is the widget's asker. Returns { element, input, set(text), busy(on) }. */
function textForm({ label, submit, value = "", blank, ask, send }) {
  const input = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  input.value = value;
  const go = h("button", { type: "submit" }, submit);
  const form = h("form", {
    class: "zoo-form",
    onSubmit: (event) => {
      event.preventDefault();
      if (ask.busy) return;
      if (input.value.trim()) send(input.value);
      else ask.fail(blank);
    },
  }, h("label", { class: "zoo-field" }, h("span", {}, label), input), go, ask.status);
  return {
    element: h("div", { class: "zoo-question" }, form, ask.error),
    input,
    set(text) { if (document.activeElement !== input) input.value = text; },
    busy(on) {
      go.disabled = on;
      if (on) form.setAttribute("aria-busy", "true");
      else form.removeAttribute("aria-busy");
    },
  };
}

// ---------------------------------------------------------------- random numbers

/** Uniform numbers in [0, 1) from a seed, from the number with index `start` on: mulberry32, a 32-bit
 *  counter that is hashed. JavaScript has no seeded generator; seeded.py gives the same numbers. */
function uniforms(seed, start = 0) {
  let state = (seed + Math.imul(start, 0x6d2b79f5)) | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// ---------------------------------------------------------------- line charts

/** A line chart that fills its panel's width. `draw(spec)` paints and remembers the spec, so that
 *  the chart can repaint itself when the width changes; `setHeight(height)` takes effect at the next
 *  draw. Call `dispose()` when the widget goes away.
 *
 *  spec: what chartFrame takes, and
 *    lines: [{ xs, ys, color, name, width, dash, alpha }]   a name puts the line in the legend
 *    rules: [{ x or y, color, text }]                       a dashed line across the plot
 *    dots:  [{ x, y, color }]
 *    label: what a screen reader says about the picture */
function lineChart({ heading, height = 230, width = 420 }) {
  const surface = still(width, height, heading);
  surface.element.style.width = "100%";
  const element = h("div", { class: "zoo-panel zoo-chart" },
    heading && h("p", { class: "zoo-heading" }, heading), surface.element);
  const chart = { element, surface, frame: null, spec: null };

  function paint() {
    const { context } = surface;
    const { spec } = chart;
    const { colors } = spec;
    context.clearRect(0, 0, surface.width, surface.height);
    context.font = "12px system-ui, sans-serif";
    const entries = legendRows(context, spec.lines, surface.width);
    const rows = entries.length ? entries[entries.length - 1].row + 1 : 0;
    const margin = { left: 58, right: 16, top: 10 + 18 * rows, bottom: 42 };
    const frame = chartFrame(context, { ...spec, width: surface.width, height: surface.height, margin });
    chart.frame = frame;
    for (const entry of entries) {
      const y = 10 + 18 * entry.row;
      stroke(context, [[entry.x, y], [entry.x + 20, y]], entry.line);
      context.fillStyle = colors.fg;
      context.textAlign = "left";
      context.textBaseline = "middle";
      context.fillText(entry.line.name, entry.x + 26, y);
    }
    context.save();
    context.beginPath();
    context.rect(frame.left, frame.top, frame.right - frame.left, frame.bottom - frame.top);
    context.clip();
    for (const rule of spec.rules || []) {
      const points = rule.x === undefined
        ? [[frame.left, frame.y(rule.y)], [frame.right, frame.y(rule.y)]]
        : [[frame.x(rule.x), frame.top], [frame.x(rule.x), frame.bottom]];
      stroke(context, points, { color: rule.color || colors.muted, width: 1.25, dash: [4, 3] });
      if (rule.text) labelRule(context, frame, rule, colors);
    }
    // Thick lines go on top; the legend keeps the given order.
    for (const line of [...spec.lines].sort((a, b) => (a.width || 2) - (b.width || 2))) {
      stroke(context, Array.from(line.xs, (x, i) => [frame.x(x), frame.y(line.ys[i])]), line);
    }
    context.restore();
    for (const dot of spec.dots || []) {
      context.beginPath();
      context.arc(frame.x(dot.x), frame.y(dot.y), 4.5, 0, 2 * Math.PI);
      context.fillStyle = dot.color;
      context.fill();
      context.lineWidth = 1.5;
      context.strokeStyle = colors.bg;
      context.stroke();
    }
  }

  chart.setHeight = (next) => {
    if (next === height) return;
    height = next;
    surface.resize(surface.width, height);
    surface.element.style.width = "100%";
  };
  chart.draw = (spec) => {
    chart.spec = spec;
    if (spec.label) surface.element.setAttribute("aria-label", spec.label);
    paint();
  };
  chart.dispose = onResize(element, (nextWidth) => {
    surface.resize(nextWidth, height);
    surface.element.style.width = "100%";
    if (chart.spec) paint();
  });
  return chart;
}

function stroke(context, points, { color, width = 2, dash = [], alpha = 1 }) {
  context.save();
  context.globalAlpha = alpha;
  context.strokeStyle = color;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
  context.restore();
}

function labelRule(context, frame, rule, colors) {
  context.font = "11px system-ui, sans-serif";
  context.fillStyle = colors.fg;
  const width = context.measureText(rule.text).width;
  if (rule.x === undefined) {
    const below = frame.y(rule.y) - 16 < frame.top;
    context.textAlign = "right";
    context.textBaseline = below ? "top" : "bottom";
    context.fillText(rule.text, frame.right - 5, frame.y(rule.y) + (below ? 3 : -2));
  } else {
    const flip = frame.x(rule.x) + width + 8 > frame.right;
    context.textAlign = flip ? "right" : "left";
    context.textBaseline = "top";
    context.fillText(rule.text, frame.x(rule.x) + (flip ? -5 : 5), frame.top + 4);
  }
}

/** Where each named line's legend entry goes: [{ line, x, row }], wrapped to the width. */
function legendRows(context, lines, width, left = 58) {
  let x = left, row = 0;
  return lines.filter((line) => line.name).map((line) => {
    const needed = 26 + context.measureText(line.name).width + 18;
    if (x > left && x + needed > width) { x = left; row += 1; }
    const entry = { line, x, row };
    x += needed;
    return entry;
  });
}

/** Make a chart answer to pointer and keys like a slider along its x axis (whole numbers).
 *  `range()` gives [low, high], `onMove(value)` hears a new value, `page()` is the stride of
 *  Page Up and Down, `hover` follows the pointer without a pressed button. Returns `update(value, text)` for the assistive technology. */
function chartCursor(chart, { label, range, value, page = () => 10, hover = false, onMove }) {
  const canvas = chart.surface.element;
  let now = value;
  canvas.setAttribute("role", "slider");
  canvas.setAttribute("tabindex", "0");
  canvas.setAttribute("aria-label", label);
  canvas.classList.add("zoo-cursor");
  const go = (next) => onMove(clamp(Math.round(next), ...range()));
  const point = (event) => {
    const { frame, spec } = chart;
    const [low, high] = spec.xRange;
    const share = (chart.surface.at(event)[0] - frame.left) / (frame.right - frame.left);
    go(low + share * (high - low));
  };
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("pointermove", (event) => { if (hover || event.buttons === 1) point(event); });
  arrowKeys(canvas, (rows, columns) => go(now + columns - rows), (event) => {
    const jumps = { PageUp: now + page(), PageDown: now - page(), Home: range()[0], End: range()[1] };
    if (!(event.key in jumps)) return false;
    go(jumps[event.key]);
    return true;
  });
  return function update(next, text) {
    now = next;
    const [low, high] = range();
    canvas.setAttribute("aria-valuemin", low);
    canvas.setAttribute("aria-valuemax", high);
    canvas.setAttribute("aria-valuenow", next);
    canvas.setAttribute("aria-valuetext", text);
  };
}
