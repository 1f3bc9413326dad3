// An attention mask as a grid of allowed pairs, with what it lets each query see and what it costs.

// Each rule says whether query i may attend to key j; `uses` names the sliders it needs, and
// `sparse` marks what is offered only on request. A further pattern is one more entry here and one in
// mask_explorer.py.
const meNear = (i, j, s) => Math.abs(i - j) <= s.window;
const meGlobal = (i, j, s) => i < s.global_tokens || j < s.global_tokens;
/** Whether the key's block is one of those that the query's block has drawn. */
function meDrawn(i, j, s) {
  const blocks = Math.ceil(s.length / s.block), own = Math.floor(i / s.block), other = Math.floor(j / s.block);
  const next = uniforms(15, own * blocks);
  const chances = Array.from({ length: blocks }, next);
  return chances.filter((chance) => chance < chances[other]).length < s.random_blocks;
}
const ME_PALE = 0.4;
const ME_PATTERNS = {
  "full": { uses: [], allows: () => true,
    says: "Every query sees every key, as in an encoder without padding." },
  "causal": { uses: [], allows: (i, j) => j <= i,
    says: "A query sees itself and what came before, so a decoder cannot read the answer." },
  "padding": { uses: ["padding"], allows: (i, j, s) => j < s.length - s.padding,
    says: "Nobody sees the padding at the end. Padded queries still compute something: ignore their output." },
  "causal + padding": { uses: ["padding"], allows: (i, j, s) => j <= i && j < s.length - s.padding,
    says: "Both at once: a pair is allowed only if both masks allow it." },
  "sliding window": { uses: ["window"], allows: meNear,
    says: "A query sees its neighbours to each side, as far as the window reaches: cost grows with the length, not its square." },
  "causal sliding window": { uses: ["window"], allows: (i, j, s) => j <= i && i - j <= s.window,
    says: "A query sees itself and the window before it." },
  "window + global": { uses: ["window", "global_tokens"], sparse: true,
    allows: (i, j, s) => meNear(i, j, s) || meGlobal(i, j, s),
    says: "A few tokens see all and are seen by all: any two tokens are connected by two layers." },
  "window + random": { uses: ["window", "random_blocks", "block"], sparse: true,
    allows: (i, j, s) => meNear(i, j, s) || meDrawn(i, j, s),
    says: "Each block of queries also sees a few blocks of keys, drawn once: chance shortens the ways." },
  "window + global + random": { uses: ["window", "global_tokens", "random_blocks", "block"], sparse: true,
    allows: (i, j, s) => meNear(i, j, s) || meGlobal(i, j, s) || meDrawn(i, j, s),
    says: "The union of all three, as in BigBird." },
};

function render({ model, el }) {
  const sync = saver(model);
  const own = Object.fromEntries(model.get("_masks").map((mask) => [mask.name, { ...mask, allowed: bytes(mask.allowed) }]));
  const tokens = model.get("tokens");
  const state = {};
  const numbers = ["length", "padding", "window", "global_tokens", "random_blocks", "block", "layers"];
  for (const name of ["pattern", "head_dim", ...numbers]) state[name] = model.get(name);
  const sparse = model.get("sparse");
  const offered = Object.keys(ME_PATTERNS).filter((name) => sparse || !ME_PATTERNS[name].sparse);
  let mask, place, colors, width = 0;
  let cursor = null; // [query, key]

  const names = [...Object.keys(own).map((name) => [name, `${name} (yours)`]), ...offered];
  const patternSelect = select({
    label: "Mask", options: names, value: state.pattern, onChange: (v) => choose("pattern", v),
  });
  const sliders = {
    length: slider({ label: "Tokens", min: 1, max: 64, value: state.length, onInput: (v) => choose("length", v) }),
    padding: slider({ label: "Padded tokens", min: 0, max: state.length, value: state.padding, onInput: (v) => choose("padding", v) }),
    window: slider({ label: "Window", min: 0, max: 16, value: state.window, onInput: (v) => choose("window", v) }),
    global_tokens: slider({ label: "Global tokens", min: 0, max: 8, value: state.global_tokens, onInput: (v) => choose("global_tokens", v) }),
    random_blocks: slider({ label: "Random blocks", min: 0, max: 6, value: state.random_blocks, onInput: (v) => choose("random_blocks", v) }),
    block: slider({ label: "Tokens in a block", min: 1, max: 16, value: state.block, onInput: (v) => choose("block", v) }),
    layers: slider({ label: "Layers", min: 1, max: 8, value: state.layers, onInput: (v) => choose("layers", v) }),
  };
  const explanation = h("p", { class: "zoo-note me-explanation" });
  const gridTitle = h("div", { class: "zoo-heading" }, "Rows are queries, columns are keys");
  const grid = canvas2d(10, 10, "Attention mask: rows are queries, columns are keys. Arrow keys read a pair.");
  const allowedSwatch = h("span", { class: "me-swatch" }), reachedSwatch = h("span", { class: "me-swatch me-gap" });
  const reachedLegend = h("span", { class: "me-reached" }, reachedSwatch, "connected by several layers");
  const legend = h("div", { class: "me-legend" },
    allowedSwatch, "may attend", reachedLegend, h("span", { class: "me-swatch me-gap me-no" }), "masked");
  const facts = {}, labels = {};
  const fact = (name, label) => {
    facts[name] = h("dd");
    labels[name] = h("dt", {}, label);
    return [labels[name], facts[name]];
  };
  const list = h("dl", { class: "me-facts" },
    fact("pairs", "Allowed pairs"), fact("density", "Density"), fact("seen", "Keys a query sees"),
    fact("cost", "Multiply-adds, one head"), fact("dense", "Without a mask"),
    sparse && [fact("reach", ""), fact("flops", ""), fact("denseFlops", "With full attention")].flat());
  const warning = h("p", { class: "zoo-note zoo-error" });
  const note = h("p", { class: "zoo-note" });
  const live = liveRegion();
  const root = mount(el,
    h("div", { class: "zoo-controls" }, patternSelect, ...Object.values(sliders)), explanation,
    h("div", { class: "zoo-panels" },
      h("div", { class: "zoo-panel" }, gridTitle, grid, legend),
      h("div", { class: "zoo-panel me-side" }, h("div", { class: "zoo-heading" }, "What it costs"), list, warning, note)),
    live);

  const label = (i) => (tokens[i] !== undefined && mask.queries === tokens.length ? `“${tokens[i]}” (${i})` : String(i));
  const keyLabel = (j) => (tokens[j] !== undefined && mask.keys === tokens.length ? `“${tokens[j]}” (${j})` : String(j));

  function compute() {
    const mine = own[state.pattern];
    if (mine) {
      mask = { queries: mine.queries, keys: mine.keys, at: (i, j) => mine.allowed[i * mine.keys + j] === 1 };
    } else {
      const rule = ME_PATTERNS[state.pattern];
      mask = { queries: state.length, keys: state.length, at: (i, j) => rule.allows(i, j, state) };
    }
    mask.counts = Array.from({ length: mask.queries }, (_, i) => {
      let count = 0;
      for (let j = 0; j < mask.keys; j++) if (mask.at(i, j)) count++;
      return count;
    });
    mask.pairs = mask.counts.reduce((a, b) => a + b, 0);
    mask.steps = stepsNeeded();
    if (cursor && (cursor[0] >= mask.queries || cursor[1] >= mask.keys)) cursor = null;
  }

  /** For each pair, after how many layers the query's output depends on the key: 1 where it may
   *  attend, 0 where the layers do not suffice. A token keeps what it knows, by the residual path. */
  function stepsNeeded() {
    const { queries, keys, at } = mask;
    const steps = Array.from({ length: queries }, (_, i) => Uint8Array.from({ length: keys }, (_, j) => Number(at(i, j))));
    if (queries !== keys) return steps;
    let known = steps.map((row, i) => row.map((one, j) => one || Number(i === j)));
    for (let layer = 2; layer <= state.layers; layer++) {
      const next = known.map((row) => row.slice());
      for (let i = 0; i < queries; i++) {
        for (let via = 0; via < keys; via++) {
          if (!at(i, via)) continue;
          for (let j = 0; j < keys; j++) {
            if (!known[via][j] || next[i][j]) continue;
            next[i][j] = 1;
            steps[i][j] = layer;
          }
        }
      }
      known = next;
    }
    return steps;
  }

  function choose(name, value) {
    state[name] = value;
    sync(name, value);
    // Padding cannot be longer than the sequence.
    if (name === "length" && state.padding > value) { state.padding = value; sync("padding", value); }
    drawAll();
  }

  function controls() {
    const uses = own[state.pattern] ? [] : ["length", ...ME_PATTERNS[state.pattern].uses];
    if (sparse) uses.push("layers");
    for (const [name, control] of Object.entries(sliders)) {
      control.element.hidden = !uses.includes(name) || (name === "length" && tokens.length > 0);
    }
    sliders.padding.setRange(0, state.length);
    for (const name of numbers) sliders[name].set(state[name]);
    patternSelect.set(state.pattern);
    explanation.textContent = own[state.pattern]
      ? "Your own mask, as your code made it." : ME_PATTERNS[state.pattern].says;
  }

  function drawAll() {
    if (!width) return;
    colors = themeColors(root);
    allowedSwatch.style.background = colors.series[0];
    reachedSwatch.style.background = colors.series[0];
    reachedLegend.hidden = state.layers === 1;
    compute();
    controls();
    layout();
    drawGrid();
    drawFacts();
    ready(root);
  }

  function layout() {
    const counts = 110; // the bars to the right of the grid
    const context = grid.context;
    context.font = "12px system-ui, sans-serif";
    const text = (i) => (tokens.length ? tokens[i] ?? "" : String(i));
    const widest = (count) => Math.ceil(Math.max(...[...Array(count).keys()].map((i) => context.measureText(text(i)).width)));
    const left = Math.min(90, widest(mask.queries)) + 12;
    const turned = tokens.length > 0;
    const top = turned ? Math.min(90, widest(mask.keys)) + 12 : 22;
    const room = (width >= 600 ? width - 256 : width) - left - counts;
    let cell = Math.min(30, room / mask.keys, 520 / mask.queries);
    cell = cell >= 5 ? Math.floor(cell) : cell;
    place = { left, top, cell, counts, turned, text };
    grid.resize(Math.ceil(left + mask.keys * cell + counts), Math.ceil(top + mask.queries * cell + 3));
  }

  function drawGrid() {
    const { context } = grid;
    const { left, top, cell, counts, turned, text } = place;
    const { queries, keys } = mask;
    const yes = colors.series[0], gap = cell > 8 ? 1 : 0;
    context.clearRect(0, 0, grid.width, grid.height);
    for (let i = 0; i < queries; i++) {
      for (let j = 0; j < keys; j++) {
        const steps = mask.steps[i][j];
        context.fillStyle = steps === 1 ? yes : colors.grid;
        context.fillRect(left + j * cell, top + i * cell, cell - gap, cell - gap);
        if (steps > 1) { // pale: the colour over the grid's
          context.globalAlpha = ME_PALE;
          context.fillStyle = yes;
          context.fillRect(left + j * cell, top + i * cell, cell - gap, cell - gap);
          context.globalAlpha = 1;
        }
      }
    }
    const step = Math.ceil(13 / cell), columnStep = turned ? step : Math.ceil(20 / cell);
    context.textBaseline = "middle";
    const face = (marked) => {
      context.font = `${marked ? "bold " : ""}${step > 1 || cell < 15 ? 10 : 12}px system-ui, sans-serif`;
      context.fillStyle = marked ? colors.fg : colors.muted;
    };
    context.textAlign = "right";
    for (let i = 0; i < queries; i += step) {
      face(cursor && cursor[0] === i);
      context.fillText(text(i), left - 6, top + (i + 0.5) * cell, left - 8);
    }
    for (let j = 0; j < keys; j += columnStep) {
      face(cursor && cursor[1] === j);
      context.save();
      context.translate(left + (j + 0.5) * cell, top - (turned ? 6 : 10));
      context.textAlign = turned ? "left" : "center";
      if (turned) context.rotate(-Math.PI / 2);
      context.fillText(text(j), 0, 0, turned ? top - 8 : undefined);
      context.restore();
    }
    // How many keys each query sees.
    const start = left + keys * cell + 12, length = counts - 44;
    for (let i = 0; i < queries; i++) {
      const share = mask.counts[i] / keys;
      context.fillStyle = colors.grid;
      context.fillRect(start, top + (i + 0.2) * cell, length, cell * 0.6);
      context.fillStyle = mask.counts[i] === 0 ? colors.error : yes;
      context.fillRect(start, top + (i + 0.2) * cell, share * length, cell * 0.6);
      if (i % step === 0) {
        face(cursor && cursor[0] === i);
        context.textAlign = "left";
        context.fillText(String(mask.counts[i]), start + length + 6, top + (i + 0.5) * cell);
      }
    }
    context.textAlign = "left";
    face(false);
    if (top >= 20) context.fillText("keys seen", start, top - 10);
    if (cursor) {
      for (const [style, line] of [["#ffffff", 4], ["#e8501e", 2]]) {
        context.strokeStyle = style;
        context.lineWidth = line;
        context.strokeRect(left + cursor[1] * cell - 1, top + cursor[0] * cell - 1, cell + 1, cell + 1);
      }
    }
    announce();
  }

  function drawFacts() {
    const number = (value) => value.toLocaleString("en-GB");
    const all = mask.queries * mask.keys;
    const low = Math.min(...mask.counts), high = Math.max(...mask.counts);
    facts.pairs.textContent = `${number(mask.pairs)} of ${number(all)}`;
    facts.density.textContent = `${((100 * mask.pairs) / all).toFixed(1)} %`;
    facts.seen.textContent = low === high ? String(low) : `${low} to ${high}`;
    facts.cost.textContent = number(2 * mask.pairs * state.head_dim);
    facts.dense.textContent = number(2 * all * state.head_dim);
    if (sparse) {
      const reach = mask.steps.map((row, i) => row.filter((steps, j) => steps > 0 || (state.layers > 1 && i === j)).length);
      const least = Math.min(...reach), most = Math.max(...reach);
      const layers = state.layers === 1 ? "1 layer" : `${state.layers} layers`;
      labels.reach.textContent = `Reach after ${layers}`;
      facts.reach.textContent = least === most ? String(least) : `${least} to ${most}`;
      labels.flops.textContent = `FLOPs, one head, ${layers}`;
      facts.flops.textContent = number(4 * mask.pairs * state.head_dim * state.layers);
      facts.denseFlops.textContent = number(4 * all * state.head_dim * state.layers);
    }
    const blind = mask.counts.filter((count) => count === 0).length;
    warning.hidden = blind === 0;
    warning.textContent =
      `${blind} ${blind === 1 ? "query sees" : "queries see"} no key at all, so the softmax has nothing to share out.`;
    note.textContent = `Each allowed pair costs d_k = ${state.head_dim} multiply-adds for the score and as many for the weighted sum. ` +
      "A dense kernel computes every pair and throws the masked ones away: only a kernel that skips them saves the time.";
  }

  function announce() {
    if (!cursor) {
      live.say(`${state.pattern}: ${mask.pairs} of ${mask.queries * mask.keys} pairs allowed. Click a cell, or use the arrow keys, to read a pair.`);
      return;
    }
    const [i, j] = cursor;
    const later = mask.steps[i][j] > 1 ? `, but hears of it after ${mask.steps[i][j]} layers` : "";
    live.say(`Query ${label(i)} ${mask.at(i, j) ? "may attend" : "may not attend"} to key ${keyLabel(j)}${later}. ` +
      `It sees ${mask.counts[i]} of ${mask.keys} keys.`);
  }

  const paint = redraw(drawGrid);
  const cellAt = (event) => {
    const [x, y] = grid.at(event);
    const i = Math.floor((y - place.top) / place.cell), j = Math.floor((x - place.left) / place.cell);
    return i >= 0 && i < mask.queries && j >= 0 && j < mask.keys ? [i, j] : null;
  };
  grid.element.addEventListener("click", (event) => { cursor = cellAt(event); paint.now(); });
  grid.element.addEventListener("pointermove", (event) => {
    grid.element.style.cursor = cellAt(event) ? "pointer" : "default";
  });
  arrowKeys(grid.element, (rows, columns) => {
    cursor = cursor === null ? [0, 0]
      : [clamp(cursor[0] + rows, 0, mask.queries - 1), clamp(cursor[1] + columns, 0, mask.keys - 1)];
    paint();
  });

  const fromKernel = (name) => () => {
    if (model.get(name) === state[name]) return; // our own change, already drawn
    state[name] = model.get(name);
    drawAll();
  };
  const stopListening = listen(model, Object.fromEntries(
    Object.keys(state).map((name) => [`change:${name}`, fromKernel(name)])));
  const stopTheme = onThemeChange(drawAll);
  const stopResize = onResize(root, () => {
    const style = getComputedStyle(root);
    width = root.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    drawAll();
  });
  return () => {
    paint.cancel();
    sync.flush();
    stopListening();
    stopTheme();
    stopResize();
  };
}

export default { render };
