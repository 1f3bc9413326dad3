// Service dashboard: four charts that grow while readings come in, and a slider to read one of them.

const MIN_SECONDS = 10;

/** The largest value to show, rounded up so that the axis does not jump with every reading. */
function ceiling(values) {
  const most = Math.max(0, ...values.filter((value) => value !== null));
  if (most <= 1) return 1;
  const unit = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 3, 5, 7.5, 10].map((step) => step * unit).find((step) => step >= most);
}

/** What one reading says, as a sentence. */
function sentence(row) {
  const wait = row.p50 === null ? "nobody was answered" :
    `half of the answers took up to ${row.p50.toFixed(0)} ms, 99 % up to ${row.p99.toFixed(0)} ms`;
  const hits = row.hits === null ? "" : ` The cache gave ${row.hits.toFixed(0)} % of them.`;
  return `Second ${row.time.toFixed(1)}: ${row.rate.toFixed(0)} answers and ${row.errors.toFixed(0)} ` +
    `errors per second; ${wait}.${hits} ${row.under_way.toFixed(0)} requests are under way.`;
}

function render({ model, el }) {
  const panels = model.get("panels");
  const charts = panels.map((panel) => lineChart({ heading: panel.title, height: 190 }));
  let following = true;
  let place = Math.max(0, model.get("rows").length - 1);
  const pick = slider({
    label: "reading", min: 0, max: Math.max(1, place), value: place,
    format: (i) => (model.get("rows")[i] ? `${model.get("rows")[i].time.toFixed(1)} s` : "none yet"),
    onInput: (i) => {
      place = i;
      following = i >= model.get("rows").length - 1;
      update();
    },
  });
  const live = liveRegion();
  const grid = h("div", { class: "zoo-panels" });
  for (const chart of charts) {
    chart.element.style.flex = "1 1 320px";
    grid.append(chart.element);
  }
  const root = mount(el, h("div", { class: "zoo-controls" }, pick), grid, live);

  function draw() {
    const colors = themeColors(root);
    const rows = model.get("rows");
    const xs = rows.map((row) => row.time);
    const end = Math.max(MIN_SECONDS, xs.length ? xs[xs.length - 1] : 0);
    const rules = model.get("marks").map(({ time, text }) => ({ x: time, text }));
    panels.forEach((panel, i) => {
      const lines = panel.lines.map(([field, name], k) => {
        const known = rows.filter((row) => row[field] !== null);
        return {
          xs: known.map((row) => row.time), ys: known.map((row) => row[field]),
          color: colors.series[k], name: panel.lines.length > 1 ? name : undefined,
          dash: k ? [6, 4] : [],
        };
      });
      const top = panel.unit === "%" ? 100 : ceiling(lines.flatMap((line) => line.ys));
      const at = rows[place];
      charts[i].draw({
        colors, xRange: [0, end], yRange: [0, top], xLabel: "seconds", yLabel: panel.unit, lines,
        yFormat: (v) => String(Number(v.toPrecision(3))),
        rules: at && !following ? [...rules, { x: at.time, color: colors.accent }] : rules,
        label: `${panel.title}, ${panel.unit}, over ${end.toFixed(0)} seconds. ` +
          panel.lines.map(([field, name]) => {
            const latest = rows.length ? rows[rows.length - 1][field] : null;
            return `${name}: ${latest === null ? "none" : latest.toFixed(0)} now`;
          }).join(", ") + ".",
      });
    });
    // While readings pour in, a screen reader hears every tenth only.
    if (!following || rows.length % 10 === 0 || !live.element.textContent) {
      live.say(rows[place] ? sentence(rows[place]) : "No readings yet.");
    }
  }

  const update = redraw(draw);
  const onRows = () => {
    const last = model.get("rows").length - 1;
    if (following) place = Math.max(0, last);
    pick.setRange(0, Math.max(1, last));
    pick.set(place);
    update();
  };
  const forget = listen(model, { "change:rows": onRows, "change:marks": update });
  const calm = onThemeChange(update);
  update.now();
  ready(root);
  return () => {
    forget();
    calm();
    update.cancel();
    charts.forEach((chart) => chart.dispose());
  };
}

export default { render, ceiling, sentence };
