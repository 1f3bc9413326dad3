// Pipeline explorer: who works when, how much time is idle, and what each stage must keep.
// The same timetables as in zoo_lessons/deploy/timetables.py; a test compares the two.

/** What a stage does, in order: pairs [kind, micro-batch]. */
function plOrder(schedule, stage, stages, count) {
  const ahead = schedule === "GPipe" ? count : Math.min(stages - stage - 1, count);
  const work = Array.from({ length: ahead }, (_, i) => ["forward", i]);
  for (let i = 0; i < count; i++) {
    if (ahead + i < count) work.push(["forward", ahead + i]);
    work.push(["backward", i]);
  }
  return work;
}

/** Slots { stage, micro, kind, start, end }; a forward pass takes 1. */
function plTimetable(schedule, stages, count, backward) {
  const todo = Array.from({ length: stages }, (_, s) => plOrder(schedule, s, stages, count));
  const ends = new Map(), free = new Array(stages).fill(0), slots = [];
  const key = (stage, kind, micro) => `${stage} ${kind} ${micro}`;
  while (todo.some((work) => work.length)) {
    todo.forEach((work, stage) => {
      if (!work.length) return;
      const [kind, micro] = work[0];
      const before = stage + (kind === "forward" ? -1 : 1);
      const inside = before >= 0 && before < stages;
      const ready = inside ? ends.get(key(before, kind, micro)) : 0;
      if (ready === undefined) return;
      const start = Math.max(free[stage], ready), end = start + (kind === "forward" ? 1 : backward);
      ends.set(key(stage, kind, micro), end);
      free[stage] = end;
      slots.push({ stage, micro, kind, start, end });
      work.shift();
    });
  }
  return slots;
}

/** Micro-batches whose activations a stage keeps at the worst moment. */
const plKept = (schedule, stage, stages, count) =>
  schedule === "GPipe" ? count : Math.min(stages - stage, count);

const plIdle = (stages, count) => (stages - 1) / (count + stages - 1);

const plPercent = (share) => `${(100 * share).toFixed(1)} %`;

function render({ model, el }) {
  const [mostStages, mostMicro] = model.get("limits"), backward = model.get("backward");
  const names = ["schedule", "stages", "micro_batches"];
  const sync = saver(model);
  const state = {};
  const controls = {
    schedule: select({
      label: "schedule", options: ["GPipe", "1F1B"], value: "GPipe", onChange: (v) => set("schedule", v),
    }),
    stages: slider({ label: "stages p", min: 1, max: mostStages, value: 1, onInput: (v) => set("stages", v) }),
    micro_batches: slider({
      label: "micro-batches m", min: 1, max: mostMicro, value: 1, onInput: (v) => set("micro_batches", v),
    }),
  };
  const facts = {};
  const fact = (name, label) => {
    facts[name] = h("dd");
    return [h("dt", {}, label), facts[name]];
  };
  const table = still(600, 120, "Timetable");
  const chart = lineChart({ heading: "Idle share against micro-batches", height: 210 });
  const forwardSwatch = h("span", { class: "zoo-swatch" }), backwardSwatch = h("span", { class: "zoo-swatch" });
  const live = liveRegion();
  const root = mount(el,
    h("div", { class: "zoo-controls" }, ...Object.values(controls)),
    h("p", { class: "zoo-heading" }, "Timetable: one row a stage, numbers are micro-batches"),
    table,
    h("div", { class: "zoo-legend" }, h("span", {}, forwardSwatch, "forward"),
      h("span", {}, backwardSwatch, `backward, takes ${backward} times as long`), h("span", {}, "empty: idle")),
    h("div", { class: "zoo-panels", style: "margin-top:12px" },
      h("div", { class: "zoo-panel" },
        h("dl", { class: "zoo-facts" }, fact("idle", "idle: (p − 1) / (m + p − 1)"),
          fact("speed", "as fast as one device, times"), fact("first", "first stage keeps, micro-batches"),
          fact("last", "last stage keeps, micro-batches"), fact("share", "kept by the first, share of the batch"))),
      chart),
    h("p", { class: "zoo-note" }, "The batch stays the same: more micro-batches are smaller ones. Stages are equally fast, and sending takes no time. " +
      "What is kept are the activations that a stage needs for its backward passes."),
    live);

  let width = 600;

  function drawTable(slots, colors) {
    const left = 26, rowHeight = 26, bottom = 22;
    const height = state.stages * rowHeight + bottom;
    if (table.width !== width || table.height !== height) table.resize(width, height);
    const { context } = table;
    context.clearRect(0, 0, width, height);
    const end = Math.max(...slots.map((slot) => slot.end));
    const x = (time) => left + (time / end) * (width - left - 4);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (let stage = 0; stage < state.stages; stage++) {
      const top = stage * rowHeight;
      context.fillStyle = colors.panel;
      context.fillRect(left, top + 2, width - left - 4, rowHeight - 4);
      context.fillStyle = colors.muted;
      context.textAlign = "right";
      context.fillText(String(stage + 1), left - 6, top + rowHeight / 2);
    }
    context.textAlign = "center";
    const unit = x(1) - x(0);
    for (const { stage, micro, kind, start, end: stop } of slots) {
      const top = stage * rowHeight + 2, wide = x(stop) - x(start);
      context.fillStyle = kind === "forward" ? colors.series[0] : colors.series[1];
      context.fillRect(x(start), top, wide - (unit > 4 ? 1 : 0), rowHeight - 4);
      if (wide >= 13) {
        context.fillStyle = colors.dark ? "#111111" : "#ffffff";
        context.fillText(String(micro + 1), x(start) + wide / 2, top + (rowHeight - 4) / 2);
      }
    }
    context.fillStyle = colors.muted;
    context.textBaseline = "bottom";
    context.textAlign = "left";
    context.fillText("time →", left, height - 3);
    context.textAlign = "right";
    context.fillText(`${end} steps of a forward pass`, width - 4, height - 3);
    table.element.setAttribute("aria-label",
      `Timetable of ${state.stages} stages and ${state.micro_batches} micro-batches, ${state.schedule}: ` +
      `${end} steps, ${plPercent(plIdle(state.stages, state.micro_batches))} idle.`);
  }

  function draw() {
    const colors = themeColors(root);
    const { schedule, stages, micro_batches: count } = state;
    forwardSwatch.style.background = colors.series[0];
    backwardSwatch.style.background = colors.series[1];
    drawTable(plTimetable(schedule, stages, count, backward), colors);
    const idle = plIdle(stages, count), speed = stages * (1 - idle);
    const first = plKept(schedule, 0, stages, count), last = plKept(schedule, stages - 1, stages, count);
    facts.idle.textContent = plPercent(idle);
    facts.speed.textContent = speed.toFixed(2);
    facts.first.textContent = `${first} of ${count}`;
    facts.last.textContent = `${last} of ${count}`;
    facts.share.textContent = plPercent(first / count);
    const xs = Array.from({ length: mostMicro }, (_, i) => i + 1);
    chart.draw({
      colors, xRange: [1, mostMicro], yRange: [0, 1], xLabel: "micro-batches m", yLabel: "idle share (%)",
      yFormat: (y) => String(Math.round(100 * y)), yTicks: [0, 0.25, 0.5, 0.75, 1],
      lines: [{ xs, ys: xs.map((m) => plIdle(stages, m)), color: colors.series[0], name: `p = ${stages}` }],
      dots: [{ x: count, y: idle, color: colors.series[1] }],
      label: `Idle share for ${stages} stages: ${plPercent(plIdle(stages, 1))} with one micro-batch, ` +
        `${plPercent(idle)} with ${count}, ${plPercent(plIdle(stages, mostMicro))} with ${mostMicro}.`,
    });
    live.say(`${schedule}, ${stages} stages, ${count} micro-batches: ${plPercent(idle)} of the time is idle, ` +
      `${speed.toFixed(2)} times as fast as one device. The first stage keeps the activations of ` +
      `${first} micro-batches, the last of ${last}.`);
  }

  const request = redraw(draw);
  function set(name, value) {
    state[name] = value;
    sync(name, value);
    request();
  }
  function follow() {
    for (const name of names) {
      state[name] = model.get(name);
      controls[name].set(state[name]);
    }
    request();
  }
  follow();
  const stops = [
    listen(model, Object.fromEntries(names.map((name) => [`change:${name}`, follow]))),
    onRoom(root, (room) => { width = Math.max(220, Math.floor(room)); request(); }),
    onThemeChange(request), chart.dispose, request.cancel, sync.flush,
  ];
  request.now();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render, plTimetable, plKept };
