// Patience explorer: slide the patience, see which examples leave where, and whether they are right.

/** How many layers each example uses. predictions[layer][example]; as patience_explorer.py. */
function peExits(predictions, patience) {
  const layers = predictions.length;
  return predictions[0].map((_, i) => {
    let confirmed = 0;
    for (let layer = 1; layer < layers; layer++) {
      confirmed = predictions[layer][i] === predictions[layer - 1][i] ? confirmed + 1 : 0;
      if (confirmed >= patience) return layer + 1;
    }
    return layers;
  });
}

function render({ model, el }) {
  const classes = model.get("classes"), names = model.get("names"), labels = model.get("labels");
  const predictions = model.get("predictions"), confidence = model.get("confidence");
  const layers = predictions.length, examples = labels.length, shown = model.get("rows");
  const sync = saver(model);
  const state = {};
  const traits = ["patience", "first", "which"];

  const trade = Array.from({ length: layers }, (_, p) => {
    const left = peExits(predictions, p + 1);
    const right = left.filter((layer, i) => predictions[layer - 1][i] === labels[i]).length;
    return { left, used: left.reduce((a, b) => a + b, 0) / examples, right: right / examples };
  });

  const patience = slider({
    label: "patience", min: 1, max: layers, value: 1,
    format: (p) => (p === layers ? "off: all layers" : String(p)), onInput: (p) => set("patience", p),
  });
  const which = select({
    label: "show examples that leave", value: "all",
    options: [["all", "right or wrong"], ["right", "right"], ["wrong", "wrong"]],
    onChange: (kind) => { state.first = 0; sync("first", 0); set("which", kind); },
  });
  const place = slider({
    label: "from number", min: 1, max: 1, value: 1, onInput: (v) => set("first", v - 1),
  });
  const facts = {};
  const fact = (key, label) => {
    facts[key] = h("dd");
    return [h("dt", {}, label), facts[key]];
  };
  const chart = lineChart({ heading: "Share right against layers used", height: 220 });
  const counts = Array.from({ length: layers }, () => ({ bar: h("span", { class: "pe-fill" }), number: h("span") }));
  const body = h("tbody");
  const live = liveRegion();
  const root = mount(el,
    h("div", { class: "zoo-controls" }, patience, which, place),
    h("div", { class: "zoo-panels" },
      h("div", { class: "zoo-panel pe-side" },
        h("dl", { class: "zoo-facts" }, fact("right", "right"), fact("used", "layers used, mean"),
          fact("all", "right with all layers")),
        h("p", { class: "zoo-heading pe-gap" }, "Where they leave"),
        h("ol", { class: "pe-counts" }, ...counts.map(({ bar, number }, i) =>
          h("li", {}, h("span", {}, `layer ${i + 1}`), h("span", { class: "pe-track" }, bar), number)))),
      chart),
    h("div", { class: "pe-scroll" }, h("table", { class: "pe-table" },
      h("caption", { class: "zoo-hidden" }, "Predictions of each layer, one example a row"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "example"), h("th", { scope: "col" }, "right class"),
        ...predictions.map((_, i) => h("th", { scope: "col" }, `layer ${i + 1}`)))),
      body)),
    h("p", { class: "zoo-note" }, "✓ right, ✗ wrong, with the classifier's own probability in per cent. " +
      "The framed layer is where the example leaves; struck-out layers are never computed."),
    live);

  function drawRows(left) {
    const kept = labels.map((_, i) => i).filter((i) => {
      const right = predictions[left[i] - 1][i] === labels[i];
      return state.which === "all" || right === (state.which === "right");
    });
    const last = Math.max(0, kept.length - shown);
    place.setRange(1, last + 1);
    state.first = clamp(state.first, 0, last);
    place.set(state.first + 1);
    body.replaceChildren(...kept.slice(state.first, state.first + shown).map((i) => h("tr", {},
      h("th", { scope: "row", title: names[i] }, h("span", { class: "pe-name" }, names[i])),
      h("td", {}, classes[labels[i]]),
      ...predictions.map((row, layer) => {
        const right = row[i] === labels[i], leaves = left[i] === layer + 1;
        const kind = `pe-cell${right ? "" : " pe-wrong"}${leaves ? " pe-leaves" : ""}${layer + 1 > left[i] ? " pe-unused" : ""}`;
        return h("td", { class: kind },
          h("span", {}, `${right ? "✓" : "✗"} ${classes[row[i]]}`), " ",
          h("span", { class: "pe-sure" }, String(Math.round(100 * confidence[layer][i]))),
          leaves && h("span", { class: "zoo-hidden" }, " leaves here"));
      }))));
    return kept.length;
  }

  function draw() {
    const colors = themeColors(root);
    const { left, used, right } = trade[state.patience - 1];
    const all = trade[layers - 1];
    const percent = (share) => `${(100 * share).toFixed(1)} %`;
    facts.right.textContent = percent(right);
    facts.used.textContent = `${used.toFixed(2)} of ${layers}`;
    facts.all.textContent = percent(all.right);
    const sizes = Array.from({ length: layers }, (_, i) => left.filter((layer) => layer === i + 1).length);
    counts.forEach(({ bar, number }, i) => {
      bar.style.width = `${(100 * sizes[i]) / Math.max(...sizes)}%`;
      number.textContent = String(sizes[i]);
    });
    const kept = drawRows(left);
    const low = Math.min(...trade.map((t) => t.right)), high = Math.max(...trade.map((t) => t.right));
    const room = Math.max(0.02, 0.25 * (high - low));
    chart.draw({
      colors, xRange: [1, layers], yRange: [Math.max(0, low - room), Math.min(1, high + room)],
      xLabel: "layers used, mean", yLabel: "share right (%)", yFormat: (y) => String(Math.round(1000 * y) / 10),
      xTicks: Array.from({ length: layers }, (_, i) => i + 1),
      lines: [{ xs: trade.map((t) => t.used), ys: trade.map((t) => t.right), color: colors.series[0], name: "patience 1, 2, …" }],
      rules: [{ y: all.right, text: "all layers" }],
      dots: trade.map((t, i) => ({ x: t.used, y: t.right, color: i === state.patience - 1 ? colors.series[1] : colors.series[0] })),
      label: `Share right against layers used, for each patience. At patience ${state.patience}: ` +
        `${percent(right)} with ${used.toFixed(2)} layers.`,
    });
    const rule = state.patience === layers ? "No early exit" : `Patience ${state.patience}`;
    live.say(`${rule}: ${percent(right)} right with ${used.toFixed(2)} of ${layers} layers on average ` +
      `(all layers: ${percent(all.right)}). ${sizes[layers - 1]} of ${examples} use all layers. ` +
      `${kept} examples to look at.`);
  }

  const request = redraw(draw);
  function set(name, value) {
    state[name] = value;
    sync(name, value);
    request();
  }
  function follow() {
    for (const name of traits) state[name] = model.get(name);
    state.patience = clamp(state.patience, 1, layers);
    patience.set(state.patience);
    which.set(state.which);
    request();
  }
  const stops = [
    listen(model, Object.fromEntries(traits.map((name) => [`change:${name}`, follow]))),
    onThemeChange(request), chart.dispose, request.cancel, sync.flush,
  ];
  follow();
  request.now();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render, peExits };
