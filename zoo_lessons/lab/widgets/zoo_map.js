// Zoo map: which part is used in which model, where each is taught, and what happens to it then.

function render({ model, el }) {
  const { parts, lessons, columns, models, shipping, routes } = model.get("_map");
  const sync = saver(model);
  const state = { selected: model.get("selected"), route: model.get("route"), hovered: null };
  let solved = {}; // lesson -> [exercises solved, exercises]; empty until Python has told it
  const lessonOf = Object.fromEntries(lessons.map((l) => [l.number, l]));

  // Everything on the map: id -> { kind, data, nodes, related (set of ids) }.
  const items = new Map();
  const add = (id, kind, data) => items.set(id, { id, kind, data, nodes: [], related: new Set() });
  const relate = (a, b) => {
    items.get(a).related.add(b);
    items.get(b).related.add(a);
  };
  for (const lesson of lessons) add(lesson.number, "lesson", lesson);
  for (const group of columns.flat()) for (const part of group.components) add(part.id, "part", part);
  for (const family of models) for (const entry of family.models) add(entry.id, "model", entry);
  for (const item of [...items.values()]) {
    if (item.kind !== "lesson") relate(item.id, item.data.lesson);
    if (item.kind === "model") item.data.components.forEach((id) => relate(item.id, id));
    if (item.kind === "lesson") item.data.models.forEach((id) => relate(item.id, id));
  }

  /** A button for an item; the map reacts to pointer, focus and click alike. */
  function node(id, className, ...children) {
    const item = items.get(id);
    const element = h("button", {
      type: "button", class: `zm-node ${className}`, tabindex: -1, "aria-pressed": "false", "data-id": id,
      onPointerenter: () => hover(id), onPointerleave: () => hover(null),
      onFocus: () => hover(id), onBlur: () => hover(null), onClick: () => choose(id),
    }, ...children);
    item.nodes.push(element);
    return element;
  }
  const counted = (number) => (solved[number] ? `${solved[number][0]} of ${solved[number][1]} exercises solved` : "");
  const nameOfLesson = (l) =>
    [`Lesson ${l.number}: ${l.title}${l.planned ? " (planned)" : ""}`, counted(l.number)].filter(Boolean).join(", ");
  const small = (text) => h("span", { class: "zm-small" }, text);

  const path = h("div", { class: "zm-path", role: "group", "aria-label": "Lessons" }, ...parts.map(({ id, name }) =>
    h("div", { class: "zm-part" }, h("p", { class: "zm-title" }, `Part ${id}: ${name}`),
      h("div", { class: "zm-numbers" }, ...lessons.filter((l) => l.part === id).map((l) => {
        const button = node(l.number, `zm-number${l.planned ? " zm-planned" : ""}`, h("span", {}, l.number), h("span", { class: "zm-done" }));
        button.setAttribute("aria-label", nameOfLesson(l));
        return button;
      })))));
  const partBand = h("div", { class: "zm-columns", role: "group", "aria-label": "Parts" }, ...columns.map((groups) =>
    h("div", { class: "zm-column" }, ...groups.map((group) => h("div", { class: "zm-group" },
      h("p", { class: "zm-title" }, group.name),
      ...group.components.map((c) => node(c.id, "zm-chip", h("span", {}, c.name), small(c.lesson))))))));
  const modelBand = h("div", { class: "zm-families", role: "group", "aria-label": "Models" }, ...models.map((family) =>
    h("div", { class: "zm-family", style: `flex-grow: ${family.models.length}` }, h("p", { class: "zm-title" }, family.name),
      h("div", { class: "zm-row" }, ...family.models.map((m) => node(m.id, "zm-chip zm-model", h("span", {}, m.name), small(m.year)))))));
  const shipBand = h("div", { class: "zm-row", role: "group", "aria-label": "Then made small, fast and ready to use" },
    ...shipping.map((number) => node(number, "zm-chip zm-ship", h("span", {}, lessonOf[number].title), small(number))));
  const routeSelect = select({
    label: "highlight a route", options: [["", "none"], ...routes.map((r) => [r.id, r.name])],
    value: state.route, onChange: (id) => setRoute(id),
  });
  const routeNote = h("span", { class: "zm-route" });
  const detail = h("div", { class: "zm-detail" });
  const live = liveRegion();
  const band = (title, note, content) => h("div", { class: "zm-band" },
    h("p", { class: "zoo-heading" }, title, " ", h("span", { class: "zm-note" }, note)), content);
  const legend = h("span", {});
  const picture = h("div", { class: "zm-picture" },
    band("Lessons", legend, path),
    band("Parts", "with the lesson that teaches each. Point at one to see the models that use it; click to keep it", partBand),
    band("Models", "with the year of the paper", modelBand),
    band("Then made small, fast and ready to use", "", shipBand));
  const root = mount(el, h("div", { class: "zoo-controls" }, routeSelect, routeNote), picture, detail, live);

  // One tab stop per band; arrow keys move inside it.
  for (const group of [path, partBand, modelBand, shipBand]) {
    const buttons = [...group.querySelectorAll("button")];
    const stop = (button) => buttons.forEach((b) => { b.tabIndex = b === button ? 0 : -1; });
    const go = (from, by) => buttons[clamp(buttons.indexOf(from) + by, 0, buttons.length - 1)].focus();
    stop(buttons[0]);
    group.addEventListener("focusin", (event) => stop(event.target));
    arrowKeys(group, (down, right) => go(document.activeElement, down + right), (event) => {
      if (event.key !== "Home" && event.key !== "End") return false;
      go(event.key === "Home" ? buttons[0] : buttons[buttons.length - 1], 0);
      return true;
    });
  }

  const nameOf = (id) => items.get(id).data.name || `lesson ${id}`;
  const relatedOf = (item, kind) => [...item.related].map((id) => items.get(id)).filter((other) => other.kind === kind);
  const listed = (others) => others.map((other) => nameOf(other.id)).join("; ");

  /** What the readout says about an item. */
  function sentence(item) {
    if (item.kind === "part") {
      const users = listed(relatedOf(item, "model"));
      const outside = item.data.elsewhere && `${item.data.elsewhere} (outside the course)`;
      return `${item.data.name} is used in: ${[users, outside].filter(Boolean).join("; ")}.`;
    }
    if (item.kind === "model") {
      const later = relatedOf(item, "lesson").filter((l) => shipping.includes(l.id)).map((l) => l.id).sort();
      return `${item.data.name} is made of: ${listed(relatedOf(item, "part"))}.` +
        (later.length ? ` Taken further in lesson${later.length > 1 ? "s" : ""} ${later.join(", ")}.` : "");
    }
    const [taught, met] = [listed(relatedOf(item, "part")), listed(relatedOf(item, "model"))];
    const facts = [taught && `teaches: ${taught}.`, met && `works with: ${met}.`].filter(Boolean);
    const done = counted(item.id);
    return `Lesson ${item.id} ${facts.length ? facts.join(" It ") : "is about no single part or model."}${done && ` ${done}.`}`;
  }

  /** The lesson's link. JupyterLab opens it as a tab; elsewhere it is a plain relative link. */
  function lessonLink(lesson) {
    if (lesson.planned) return h("span", { class: "zm-soon" }, `Lesson ${lesson.number}, ${lesson.title}: planned`);
    const link = h("a", { href: lesson.file }, `Open lesson ${lesson.number}: ${lesson.title} (${lesson.minutes} min)`);
    const manager = model.widget_manager;
    const handler = manager?.rendermime?.linkHandler;
    const resolver = manager?.context?.urlResolver;
    if (handler && resolver) resolver.resolveUrl(lesson.file).then((path) => handler.handleLink(link, path, ""));
    return link;
  }

  const dots = (number) => {
    const [done, all] = solved[number];
    return "●".repeat(done) + "○".repeat(all - done);
  };

  /** What the learner has solved, in figures, in a bar, and in the buttons' names. */
  function showProgress() {
    const begun = Object.values(solved).some(([done]) => done > 0);
    for (const lesson of lessons) {
      const [done, all] = solved[lesson.number] || [0, 0];
      for (const mark of path.querySelectorAll(`[data-id="${lesson.number}"] .zm-done`)) {
        mark.replaceChildren(...(begun && all ? [
          h("span", {}, done === all ? "✓" : `${done}/${all}`),
          h("span", { class: "zm-bar" }, h("span", { style: `width: ${(100 * done) / all}%` })),
        ] : []));
        mark.closest("button").setAttribute("aria-label", nameOfLesson(lesson));
      }
    }
    legend.textContent = [
      lessons.some((l) => l.planned) && "dashed: planned",
      begun && "2/5: you have solved 2 of 5 exercises, as noted on this computer; ✓: all",
    ].filter(Boolean).join("; ");
    showDetail();
  }

  /** Ask Python again now and then: exercises are solved in other notebooks meanwhile. */
  let asked = -Infinity;
  function askProgress() {
    if (performance.now() - asked < 2000) return;
    asked = performance.now();
    try { model.send?.({ kind: "progress" }); } catch { /* no kernel: the map does without */ }
  }
  function hear(content) {
    if (content.kind !== "progress") return;
    const changed = JSON.stringify(content.lessons) !== JSON.stringify(solved);
    solved = content.lessons;
    if (changed) showProgress();
    if (changed) request();
  }

  function showDetail() {
    const item = items.get(state.selected);
    const { data, kind } = item;
    const lesson = kind === "lesson" ? data : lessonOf[data.lesson];
    const text = kind === "lesson" ? data.question : data.description;
    const title = kind === "lesson" ? `${data.number} ${data.title}` : data.name;
    detail.replaceChildren(
      h("p", { class: "zm-name" }, h("span", { class: "zm-kind" }, kind), title),
      h("p", { class: "zm-text" }, text, kind === "model" && h("span", { class: "zm-paper" }, ` ${data.paper}`)),
      ...(lesson && solved[lesson.number] ? [h("p", { class: "zm-exercises" },
        `Lesson ${lesson.number}: ${counted(lesson.number)} `, h("span", { class: "zm-dots", "aria-hidden": "true" }, dots(lesson.number)))] : []),
      h("p", { class: "zm-link" }, lessonLink(lesson)));
  }

  function draw() {
    const shown = items.get(state.hovered || state.selected);
    for (const item of items.values()) {
      for (const element of item.nodes) {
        element.setAttribute("aria-pressed", String(item.id === state.selected));
        element.classList.toggle("zm-here", item === shown);
        element.classList.toggle("zm-related", shown.related.has(item.id));
      }
    }
    const route = routes.find((r) => r.id === state.route);
    const minutes = Object.fromEntries((route ? route.stops : []).map((stop) => [stop.lesson, stop.minutes]));
    for (const lesson of lessons) {
      for (const element of items.get(lesson.number).nodes) element.classList.toggle("zm-stop", lesson.number in minutes);
    }
    root.classList.toggle("zm-routed", Boolean(route));
    routeNote.textContent = route
      ? `${route.stops.length} lessons, ${Math.floor(route.minutes / 60)} h ${route.minutes % 60} min. ${route.purpose}`
      : "";
    live.say(sentence(shown));
  }

  const request = redraw(draw);
  function hover(id) {
    if (state.hovered === id) return;
    state.hovered = id;
    request();
  }
  function choose(id) {
    state.selected = id;
    sync("selected", id);
    showDetail();
    request();
  }
  function setRoute(id) {
    state.route = id;
    sync("route", id);
    request();
  }
  const follow = () => {
    if (state.selected !== model.get("selected")) {
      state.selected = model.get("selected");
      showDetail();
    }
    state.route = model.get("route");
    routeSelect.set(state.route);
    request();
  };
  const stops = [
    listen(model, { "change:selected": follow, "change:route": follow, "msg:custom": hear }),
    request.cancel, sync.flush,
  ];
  root.addEventListener("pointerenter", askProgress);
  root.addEventListener("focusin", askProgress);
  showProgress();
  request.now();
  askProgress();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render };
