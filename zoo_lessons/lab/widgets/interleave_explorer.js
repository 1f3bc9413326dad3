// Images and words in turns: which images a picked word may attend to, and the mask of all words.

const IE_IMAGE = "<image>";
const IE_SIDE = 54, IE_WORD = 28, IE_GAP = 5;

/** For each token, the number of images up to it: 0 before the first, then 1, 2, ... */
function ieCounts(tokens) {
  let count = 0;
  return tokens.map((token) => (token === IE_IMAGE ? ++count : count));
}

/** Whether a token with this count may attend to an image, both counted from 1. */
function ieSees(count, image, allPrevious) {
  return allPrevious ? image <= count : image === count;
}

function render({ model, el }) {
  const tokens = model.get("tokens");
  const latents = model.get("num_latents");
  const counts = ieCounts(tokens);
  const total = counts[counts.length - 1];
  const pictures = model.get("_images").map((image) =>
    imageCanvas(bytes(image.pixels), image.width, image.height, image.channels));
  const sync = saver(model);
  const names = ["query", "all_previous"];
  const state = Object.fromEntries(names.map((name) => [name, model.get(name)]));
  let width = 0, colors, boxes = [], cell = 18, left = 60, top = 20;

  // ------------------------------------------------------------ elements
  const everything = checkbox({
    label: "All previous images", value: state.all_previous, onChange: (on) => set("all_previous", on),
  });
  const text = canvas2d(10, 10, "Images and words in turns. Arrow keys pick a token.");
  const swatches = [0, 1, 2].map(() => h("span", { class: "zoo-swatch" }));
  const legend = h("div", { class: "zoo-legend" },
    h("span", {}, swatches[0], "picked"), h("span", {}, swatches[1], "seen by it"),
    h("span", {}, swatches[2], "not seen by it"));
  const mask = still(10, 10, "");
  const maskPanel = h("div", { class: "zoo-panel ie-mask" },
    h("div", { class: "zoo-heading" }, "The mask: a row for each token, a column for each image"), mask);
  const live = liveRegion();
  const root = mount(el,
    h("div", { class: "zoo-controls" }, everything),
    h("div", { class: "zoo-panels" },
      h("div", { class: "zoo-panel ie-text" },
        h("div", { class: "zoo-heading" }, "Click a word: which images may it attend to?"), text, legend),
      maskPanel),
    live);

  // ------------------------------------------------------------ drawing
  const imagesOf = (token) => {
    const seen = [];
    for (let image = 1; image <= total; image++) if (ieSees(counts[token], image, state.all_previous)) seen.push(image);
    return seen;
  };

  /** A box for each token, in lines that fill `room`. */
  function layout(room) {
    const { context } = text;
    context.font = "14px system-ui, sans-serif";
    boxes = [];
    let x = 3, line = 0;
    const sizes = tokens.map((token) => (token === IE_IMAGE ? IE_SIDE : Math.ceil(context.measureText(token).width) + 14));
    sizes.forEach((size, i) => {
      if (x > 3 && x + size + 3 > room) { x = 3; line += 1; }
      const image = tokens[i] === IE_IMAGE, high = image ? IE_SIDE : IE_WORD;
      boxes.push({ x, y: 4 + line * (IE_SIDE + 12) + (IE_SIDE - high) / 2, width: size, height: high, line, image });
      x += size + IE_GAP;
    });
    text.resize(room, (line + 1) * (IE_SIDE + 12));
  }

  function drawText(seen) {
    const { context } = text;
    context.clearRect(0, 0, text.width, text.height);
    context.textAlign = "center";
    context.textBaseline = "middle";
    boxes.forEach((box, i) => {
      const { x, y, width: wide, height: high } = box;
      if (box.image) {
        const number = counts[i], lit = seen.includes(number);
        context.globalAlpha = lit ? 1 : 0.35;
        context.imageSmoothingEnabled = false;
        context.fillStyle = colors.panel;
        context.fillRect(x, y, wide, high);
        if (pictures[number - 1]) context.drawImage(pictures[number - 1], x, y, wide, high);
        context.globalAlpha = 1;
        context.strokeStyle = lit ? colors.series[0] : colors.border;
        context.lineWidth = lit ? 4 : 1;
        context.strokeRect(x + 0.5, y + 0.5, wide - 1, high - 1);
        // The number on a plate of its own, readable on any picture.
        context.fillStyle = lit ? colors.series[0] : colors.bg;
        context.fillRect(x, y, 16, 16);
        context.font = "bold 11px system-ui, sans-serif";
        context.fillStyle = lit ? (colors.dark ? "#000000" : "#ffffff") : colors.fg;
        context.fillText(String(number), x + 8, y + 8.5);
      } else {
        context.fillStyle = colors.panel;
        context.fillRect(x, y, wide, high);
        context.font = `${i === state.query ? "bold " : ""}14px system-ui, sans-serif`;
        context.fillStyle = colors.fg;
        context.fillText(tokens[i], x + wide / 2, y + high / 2 + 0.5);
      }
      if (i === state.query) markRect(context, x + 1, y + 1, wide - 2, high - 2);
    });
  }

  function drawMask() {
    const { context } = mask;
    const wide = Math.max(cell, 26);
    context.font = "11px system-ui, sans-serif";
    const label = (i) => (tokens[i] === IE_IMAGE ? `image ${counts[i]}` : tokens[i]);
    left = Math.min(110, Math.ceil(Math.max(...tokens.map((_, i) => context.measureText(label(i)).width)))) + 14;
    top = 20;
    cell = clamp(Math.floor(420 / tokens.length), 11, 20);
    mask.resize(left + Math.max(total, 1) * wide + 6, top + tokens.length * cell + 4);
    context.clearRect(0, 0, mask.width, mask.height);
    context.textBaseline = "middle";
    context.font = `${Math.min(11, cell)}px system-ui, sans-serif`;
    for (let i = 0; i < tokens.length; i++) {
      context.textAlign = "right";
      context.font = `${i === state.query ? "bold " : ""}${Math.min(11, cell)}px system-ui, sans-serif`;
      context.fillStyle = i === state.query ? colors.fg : colors.muted;
      context.fillText(label(i), left - 7, top + (i + 0.5) * cell, left - 9);
      for (let image = 1; image <= total; image++) {
        context.fillStyle = ieSees(counts[i], image, state.all_previous) ? colors.series[0] : colors.grid;
        context.fillRect(left + (image - 1) * wide, top + i * cell, wide - 1, cell - 1);
      }
    }
    context.textAlign = "center";
    context.fillStyle = colors.muted;
    context.font = "11px system-ui, sans-serif";
    for (let image = 1; image <= total; image++) context.fillText(String(image), left + (image - 0.5) * wide, 10);
    markRect(context, left, top + state.query * cell, Math.max(total, 1) * wide - 1, cell - 1);
    const allowed = counts.reduce((sum, count) => sum + (state.all_previous ? count : count > 0 ? 1 : 0), 0);
    mask.element.setAttribute("aria-label",
      `Mask of ${tokens.length} tokens and ${total} images: ${allowed} of ${tokens.length * total} pairs allowed`);
  }

  function sayWhat(seen) {
    const name = tokens[state.query] === IE_IMAGE
      ? `Token ${state.query}, the place of image ${counts[state.query]},` : `Token ${state.query}, “${tokens[state.query]}”,`;
    if (!seen.length) return `${name} stands before the first image: it sees none, and cross-attention adds zero.`;
    const many = seen.length > 1;
    const which = many ? `images ${seen.slice(0, -1).join(", ")} and ${seen[seen.length - 1]}` : `image ${seen[0]}`;
    const sum = latents * seen.length;
    return `${name} attends to ${which}: ${sum} of ${latents * total} latents.` +
      (!many && seen[0] > 1 ? " Of earlier images it learns through the text between." : "");
  }

  function drawAll() {
    if (!width) return;
    colors = themeColors(root);
    everything.set(state.all_previous);
    swatches[0].style.background = MARK;
    swatches[1].style.background = colors.series[0];
    swatches[2].style.background = colors.panel;
    const seen = imagesOf(state.query);
    drawMask();
    const side = Math.max(mask.width, 240);
    maskPanel.style.width = `${side}px`;
    const beside = width - side - 30;
    layout(beside >= 340 ? Math.min(beside, 760) : width);
    drawText(seen);
    live.say(sayWhat(seen));
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
  const pick = (i) => set("query", clamp(i, 0, tokens.length - 1));
  /** The token of the next line up or down whose middle is closest. */
  function across(step) {
    const { x, width: wide, line } = boxes[state.query], middle = x + wide / 2;
    const far = (i) => Math.abs(boxes[i].x + boxes[i].width / 2 - middle);
    const near = tokens.map((_, i) => i).filter((i) => boxes[i].line === line + step);
    if (near.length) pick(near.reduce((best, i) => (far(i) < far(best) ? i : best)));
  }
  text.element.addEventListener("click", (event) => {
    const [x, y] = text.at(event);
    const hit = boxes.findIndex((box) =>
      x >= box.x && x <= box.x + box.width && y >= box.y - 3 && y <= box.y + box.height + 3);
    if (hit >= 0) pick(hit);
  });
  mask.element.addEventListener("click", (event) => {
    const row = Math.floor((mask.at(event)[1] - top) / cell);
    if (row >= 0 && row < tokens.length) pick(row);
  });
  arrowKeys(text.element, (down, along) => (down ? across(down) : pick(state.query + along)), (event) => {
    if (event.key === "Home") pick(0);
    else if (event.key === "End") pick(tokens.length - 1);
    else return false;
    return true;
  });
  const follow = () => {
    const changed = names.filter((name) => state[name] !== model.get(name));
    for (const name of changed) state[name] = model.get(name);
    if (changed.length) paint.now();
  };
  const stops = [
    listen(model, Object.fromEntries(names.map((name) => [`change:${name}`, follow]))),
    onThemeChange(drawAll), onRoom(root, (room) => { width = room; drawAll(); }),
    paint.cancel, sync.flush,
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render, ieCounts, ieSees };
