// Image search: a text goes to Python, images come back; an image goes, captions come back.

function render({ model, el }) {
  const { examples, height, width } = model.get("_payload");
  let busy = false;
  const ask = asker(model, { onBusy: (on) => { busy = on; form.busy(on); } });
  const search = (text) => ask({ kind: "text", text });
  const form = textForm({
    label: "Your caption", submit: "Search", value: model.get("query"), ask,
    blank: "Type a caption first.", send: search,
  });
  const choose = (text) => {
    if (busy) return;
    form.input.value = text;
    search(text);
  };
  const chip = (text) => h("button", { type: "button", class: "is-chip", onClick: () => choose(text) }, text);
  const asked = h("div", { class: "zoo-heading" });
  const grid = h("div", { class: "is-images", role: "group", "aria-label": "The nearest images. Pick one." });
  const picture = h("div", { class: "zoo-heading" });
  const rows = h("ol", { class: "is-captions" });
  const live = liveRegion();
  const root = mount(el, form,
    examples.length > 0 && h("div", { class: "is-examples", role: "group", "aria-label": "Examples" },
      h("span", { class: "is-title" }, "Try"), examples.map(chip)),
    asked, grid, picture, rows, live);

  let buttons = [];

  function drawImages() {
    const { query, images } = model.get("_found");
    asked.textContent = `Images nearest to “${query}”`;
    buttons = images.map(({ image, cosine, caption, pixels }) => {
      const surface = still(84, Math.round((84 * height) / width), caption);
      surface.context.imageSmoothingEnabled = false;
      surface.context.drawImage(imageCanvas(bytes(pixels), width, height), 0, 0, surface.width, surface.height);
      const pick = button({ label: surface.element, pressed: false, onClick: () => { if (!busy) ask({ kind: "image", image }); } });
      pick.element.classList.add("is-image");
      pick.element.append(h("span", {}, cosine.toFixed(3)));
      return { ...pick, image };
    });
    grid.replaceChildren(...buttons.map((each) => each.element));
  }

  function drawCaptions() {
    const { image, rows: found } = model.get("_captions");
    const place = buttons.findIndex((each) => each.image === image);
    buttons.forEach((each, i) => each.press(i === place));
    picture.textContent = place < 0 ? "Captions nearest to the picked image" : `Captions nearest to image ${place + 1}`;
    rows.replaceChildren(...found.map(({ caption, cosine, own }) => h("li", {},
      h("span", { class: "is-cosine" }, cosine.toFixed(3)), chip(caption), own && h("span", { class: "is-title" }, "its own"))));
    const own = found.findIndex((row) => row.own);
    const rank = own < 0 ? "not among them" : `at place ${own + 1}`;
    live.say(`${place < 0 ? "The picked image" : `Image ${place + 1} of ${buttons.length}`}: its own caption is ${rank}.`);
  }

  function drawAll() {
    drawImages();
    drawCaptions();
  }

  const stops = [
    listen(model, {
      "change:_found": drawAll,
      "change:_captions": drawCaptions,
      "change:query": () => form.set(model.get("query")),
      "msg:custom": ask.hear,
    }),
    ask.dispose,
  ];
  drawAll();
  ready(root);
  return () => stops.forEach((stop) => stop());
}

export default { render };
