// Mix explorer: lay two images over each other, or move a box of one into the other.

/** Halves go to the even number, as Python rounds. */
function meRound(x) {
  const up = Math.round(x);
  return Math.abs(x % 1) === 0.5 && up % 2 ? up - 1 : up;
}

/** The box of `cut_box` in mixing.py, as drawn and as the edge clips it. */
function meBox(height, width, lam, row, column) {
  const tall = meRound(height * Math.sqrt(1 - lam)), wide = meRound(width * Math.sqrt(1 - lam));
  const top = row - Math.floor(tall / 2), left = column - Math.floor(wide / 2);
  const box = {
    top: Math.max(top, 0), bottom: Math.min(top + tall, height),
    left: Math.max(left, 0), right: Math.min(left + wide, width),
  };
  const area = (box.bottom - box.top) * (box.right - box.left);
  return { ...box, tall, wide, area, kept: 1 - area / (height * width) };
}

function render({ model, el }) {
  const data = model.get("_payload");
  const { height, width: wide, channels, labels } = data;
  const size = height * wide * channels, pixels = bytes(data.images);
  const sync = saver(model);
  const names = ["method", "lam", "first", "second", "row", "column"];
  const state = {};
  let width = 0, scale = 10, box;

  // ------------------------------------------------------------ elements
  const options = labels.map((label, i) => [String(i), `${i + 1}: ${label}`]);
  const pickMethod = select({
    label: "method", options: ["MixUp", "CutMix"], value: "CutMix", onChange: (value) => set({ method: value }),
  });
  const share = slider({
    label: "λ, the share of the first", min: 0, max: 1, step: 0.05, value: 0.5,
    format: (value) => value.toFixed(2), onInput: (value) => set({ lam: value }),
  });
  const pickFirst = select({ label: "first", options, value: "0", onChange: (i) => set({ first: Number(i) }) });
  const pickSecond = select({ label: "second", options, value: "1", onChange: (i) => set({ second: Number(i) }) });
  const panel = (heading, surface) => h("div", { class: "zoo-panel" }, heading, surface);
  const headings = [0, 1, 2].map(() => h("div", { class: "zoo-heading" }));
  const one = still(10, 10, "First image"), other = still(10, 10, "Second image");
  const mixed = canvas2d(10, 10, "The mixture. Arrow keys move the box of CutMix.");
  mixed.element.classList.add("zoo-cursor");
  const parts = [0, 1].map((i) => h("span", { class: `me-part me-part-${i}` }));
  const shares = [0, 1].map((i) => ({ swatch: h("span", { class: `zoo-swatch me-part-${i}` }), text: h("span") }));
  const facts = {};
  const fact = (key, label) => {
    facts[key] = h("dd");
    return [h("dt", {}, label), facts[key]];
  };
  const live = liveRegion();
  const root = mount(el,
    h("div", { class: "zoo-controls" }, pickMethod, share, pickFirst, pickSecond),
    h("div", { class: "zoo-panels" },
      panel(headings[0], one), panel(headings[1], other), panel(headings[2], mixed),
      h("div", { class: "zoo-panel me-label" },
        h("div", { class: "zoo-heading" }, "The label"),
        h("div", { class: "me-bar", "aria-hidden": "true" }, ...parts),
        h("div", { class: "zoo-legend" }, ...shares.map((entry) => h("span", {}, entry.swatch, entry.text))),
        h("dl", { class: "zoo-facts me-facts" }, fact("lam", "λ"), fact("whole", "box for this λ"),
          fact("inside", "of it inside the image"), fact("kept", "share of the first label")))),
    live);

  // ------------------------------------------------------------ drawing
  const imageOf = (i) => pixels.subarray(i * size, (i + 1) * size);

  function mixture() {
    const a = imageOf(state.first), b = imageOf(state.second), found = new Uint8Array(size);
    for (let i = 0; i < size; i++) {
      if (state.method === "MixUp") {
        found[i] = Math.floor(state.lam * a[i] + (1 - state.lam) * b[i] + 0.5);
        continue;
      }
      const place = Math.floor(i / channels), y = Math.floor(place / wide), x = place % wide;
      const inside = y >= box.top && y < box.bottom && x >= box.left && x < box.right;
      found[i] = inside ? b[i] : a[i];
    }
    return found;
  }

  function paint(surface, values) {
    const { context } = surface;
    context.imageSmoothingEnabled = false;
    context.drawImage(imageCanvas(values, wide, height, channels), 0, 0, surface.width, surface.height);
    if (state.method !== "CutMix" || !box.area) return;
    markRect(context, box.left * scale, box.top * scale,
      (box.right - box.left) * scale, (box.bottom - box.top) * scale);
  }

  function drawAll() {
    if (!width) return;
    const colors = themeColors(root);
    root.style.setProperty("--me-first", colors.series[0]);
    root.style.setProperty("--me-second", colors.series[1]);
    pickMethod.set(state.method);
    share.set(state.lam);
    pickFirst.set(String(state.first));
    pickSecond.set(String(state.second));
    const room = Math.min(width, Math.max(130, Math.min(230, (width - 330) / 3)));
    scale = Math.min(room / wide, 230 / height);
    box = meBox(height, wide, state.lam, state.row, state.column);
    const cuts = state.method === "CutMix";
    const kept = cuts ? box.kept : state.lam;
    for (const surface of [one, other, mixed]) surface.resize(Math.round(wide * scale), Math.round(height * scale));
    paint(one, imageOf(state.first));
    paint(other, imageOf(state.second));
    paint(mixed, mixture());
    const [a, b] = [labels[state.first], labels[state.second]];
    headings[0].textContent = `First: ${a}`;
    headings[1].textContent = `Second: ${b}`;
    headings[2].textContent = state.method;
    one.element.setAttribute("aria-label", `First image: ${a}`);
    other.element.setAttribute("aria-label", `Second image: ${b}`);
    [kept, 1 - kept].forEach((part, i) => {
      parts[i].style.width = `${100 * part}%`;
      shares[i].text.textContent = `${i ? b : a} ${part.toFixed(2)}`;
    });
    facts.lam.textContent = state.lam.toFixed(2);
    facts.whole.textContent = cuts ? `${box.tall} × ${box.wide} pixels` : "no box";
    facts.inside.textContent = cuts ? `${box.area} of ${box.tall * box.wide} pixels` : "no box";
    facts.kept.textContent = cuts ? `1 − ${box.area}/${height * wide} = ${kept.toFixed(2)}` : `λ = ${kept.toFixed(2)}`;
    const clipped = cuts && box.area < box.tall * box.wide;
    live.say(`${state.method}, λ ${state.lam.toFixed(2)}. ` +
      (cuts ? `The box has ${box.area} pixels${clipped ? ", clipped at the edge" : ""}. ` : "") +
      `Label: ${a} ${kept.toFixed(2)}, ${b} ${(1 - kept).toFixed(2)}.`);
    ready(root);
  }

  // ------------------------------------------------------------ pointer, keys, Python
  const draw = redraw(drawAll);
  function set(values) {
    for (const [name, value] of Object.entries(values)) {
      if (state[name] === value) continue;
      state[name] = value;
      sync(name, value);
    }
    draw();
  }
  const move = (row, column) => {
    if (state.method === "CutMix") set({ row: clamp(row, 0, height - 1), column: clamp(column, 0, wide - 1) });
  };
  const point = (event) => {
    const [x, y] = mixed.at(event);
    move(Math.floor(y / scale), Math.floor(x / scale));
  };
  mixed.element.addEventListener("pointerdown", point);
  mixed.element.addEventListener("pointermove", (event) => { if (event.buttons === 1) point(event); });
  const stride = () => Math.max(1, Math.round(height / 16));
  arrowKeys(mixed.element, (down, across) =>
    move(state.row + down * stride(), state.column + across * stride()));
  const follow = () => {
    const changed = names.filter((name) => state[name] !== model.get(name));
    for (const name of changed) state[name] = model.get(name);
    if (changed.length) draw.now();
  };
  follow();
  const stops = [
    listen(model, Object.fromEntries(names.map((name) => [`change:${name}`, follow]))),
    onThemeChange(drawAll), onRoom(root, (room) => { width = room; drawAll(); }),
    draw.cancel, sync.flush,
  ];
  return () => stops.forEach((stop) => stop());
}

export default { render, meBox };
