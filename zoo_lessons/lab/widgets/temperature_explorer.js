// Temperature explorer: slide T, watch a teacher's soft targets and the gradient that they make.

// Round numbers, about evenly spread on a logarithmic scale.
const TE_TEMPERATURES = [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20];
const TE_LAST = TE_TEMPERATURES.length - 1;

/** The slider's place that is nearest to a temperature. */
const tePlace = (t) => TE_TEMPERATURES.reduce((best, value, i) =>
  Math.abs(Math.log(value / t)) < Math.abs(Math.log(TE_TEMPERATURES[best] / t)) ? i : best, 0);

function teSoftened(logits, temperature) {
  const top = Math.max(...logits);
  const exps = logits.map((z) => Math.exp((z - top) / temperature));
  const sum = exps.reduce((a, b) => a + b, 0);
  return exps.map((e) => e / sum);
}

/** KL(teacher ‖ student) in nats, and the length of its gradient at the student's logits. */
function teStatistics(student, teacher, temperature) {
  const p = teSoftened(student, temperature), q = teSoftened(teacher, temperature);
  const log = (x) => Math.log(Math.max(x, 1e-300));
  return {
    p, q,
    divergence: q.reduce((sum, x, i) => sum + x * (log(x) - log(p[i])), 0),
    gradient: Math.sqrt(q.reduce((sum, x, i) => sum + ((p[i] - x) / temperature) ** 2, 0)),
  };
}

function render({ model, el }) {
  const classes = model.get("classes"), names = model.get("names"), truth = model.get("truth");
  const teacher = model.get("teacher"), student = model.get("student");
  const sync = saver(model);
  const state = { temperature: model.get("temperature"), example: model.get("example") };

  const heat = slider({
    label: "temperature T", min: 0, max: TE_LAST, value: tePlace(state.temperature),
    format: (i) => String(TE_TEMPERATURES[i]), onInput: (i) => set("temperature", TE_TEMPERATURES[i]),
  });
  const which = names.length > 1 && slider({
    label: "example", min: 1, max: names.length, value: state.example + 1,
    format: (i) => `${i} of ${names.length}`, onInput: (i) => set("example", i - 1),
  });
  const text = h("p", { class: "te-text" });
  const rows = classes.map((name) => {
    const bars = ["teacher", "student"].map((who) => h("span", { class: `te-bar te-${who}` }));
    const numbers = ["teacher", "student"].map(() => h("td", { class: "te-number" }));
    const label = h("th", { scope: "row" }, name);
    const row = h("tr", {}, label, h("td", { class: "te-track", "aria-hidden": "true" }, ...bars), ...numbers);
    return { row, label, bars, numbers, name };
  });
  const facts = {};
  const fact = (key, label) => {
    facts[key] = h("dd");
    return [h("dt", {}, label), facts[key]];
  };
  const chart = lineChart({ heading: "Length of the gradient at the student's logits", height: 230 });
  const live = liveRegion();
  const root = mount(el,
    h("div", { class: "zoo-controls" }, heat, which),
    text,
    h("div", { class: "zoo-panels" },
      h("div", { class: "zoo-panel te-left" },
        h("table", { class: "te-table" },
          h("caption", { class: "zoo-hidden" }, "Probability of each class"),
          h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "class"),
            h("th", { scope: "col" }, "0 to 1"),
            h("th", { scope: "col" }, h("span", { class: "te-key te-teacher" }), "teacher"),
            h("th", { scope: "col" }, h("span", { class: "te-key te-student" }), "student"))),
          h("tbody", {}, ...rows.map((row) => row.row))),
        h("dl", { class: "zoo-facts" }, fact("kl", "KL(teacher ‖ student), nats"),
          fact("loss", "loss, T² · KL"), fact("entropy", "the teacher's entropy, nats"))),
      chart),
    live);

  function draw() {
    const { temperature, example } = state;
    const colors = themeColors(root);
    root.style.setProperty("--te-teacher", colors.series[0]);
    root.style.setProperty("--te-student", colors.series[1]);
    const pair = [student[example], teacher[example]];
    const { p, q, divergence, gradient } = teStatistics(...pair, temperature);
    text.textContent = names[example];
    rows.forEach(({ label, bars, numbers, name }, i) => {
      label.textContent = truth.length && truth[example] === i ? `${name} (right)` : name;
      [q, p].forEach((shares, who) => {
        bars[who].style.width = `${100 * shares[i]}%`;
        numbers[who].textContent = shares[i].toFixed(3);
      });
    });
    const entropy = -q.reduce((sum, x) => sum + (x > 0 ? x * Math.log(x) : 0), 0);
    facts.kl.textContent = divergence.toFixed(4);
    facts.loss.textContent = (temperature ** 2 * divergence).toFixed(3);
    facts.entropy.textContent = `${entropy.toFixed(2)} of ${Math.log(classes.length).toFixed(2)}`;

    const ts = TE_TEMPERATURES;
    const plain = ts.map((t) => teStatistics(...pair, t).gradient);
    const scaled = plain.map((g, i) => g * ts[i] ** 2);
    const xs = ts.map(Math.log2);
    const most = Math.max(0.01, ...plain, ...scaled);
    const ticks = [0.5, 1, 2, 5, 10, 20];
    const at = Math.log2(temperature);
    chart.draw({
      colors, xRange: [xs[0], xs[xs.length - 1]], yRange: [0, 1.1 * most],
      xLabel: "temperature T (logarithmic)", yLabel: "gradient", xTicks: ticks.map(Math.log2),
      xFormat: (x) => String(ticks.find((t) => Math.abs(Math.log2(t) - x) < 1e-9)),
      yFormat: (y) => String(Number(y.toPrecision(2))),
      lines: [
        { xs, ys: plain, color: colors.series[1], name: "of KL", dash: [7, 4] },
        { xs, ys: scaled, color: colors.series[0], name: "of T² · KL", width: 3 },
      ],
      rules: [{ x: at }],
      dots: [{ x: at, y: gradient, color: colors.series[1] },
        { x: at, y: gradient * temperature ** 2, color: colors.series[0] }],
      label: `Length of the gradient against the temperature. At ${temperature}: ${gradient.toFixed(3)} ` +
        `of KL, ${(gradient * temperature ** 2).toFixed(3)} of T² times KL.`,
    });
    const order = q.map((_, i) => i).sort((a, b) => q[b] - q[a]);
    const second = order.length > 1
      ? ` The teacher's second choice is ${classes[order[1]]}, ${q[order[1]].toFixed(3)}.` : "";
    live.say(`Temperature ${temperature}: ${classes[order[0]]} gets ${q[order[0]].toFixed(3)} from the teacher, ` +
      `${p[order[0]].toFixed(3)} from the student.${second} Gradient ${gradient.toFixed(3)}, ` +
      `times T² ${(gradient * temperature ** 2).toFixed(3)}.`);
  }

  const request = redraw(draw);
  function set(name, value) {
    state[name] = value;
    sync(name, value);
    request();
  }
  function follow() {
    state.temperature = model.get("temperature");
    state.example = clamp(model.get("example"), 0, names.length - 1);
    heat.set(tePlace(state.temperature));
    if (which) which.set(state.example + 1);
    request();
  }
  const stops = [
    listen(model, { "change:temperature": follow, "change:example": follow }),
    onThemeChange(request), chart.dispose, request.cancel, sync.flush,
  ];
  request.now();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render, teSoftened, teStatistics };
