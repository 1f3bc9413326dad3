// The website's own script: it draws the course's widgets without Jupyter, tells them the theme, and
// lets keyboards reach what scrolls. Plain scripts only: pages opened from a folder load no modules.

const zooSite = (() => {
  "use strict";
  const base = new URL(".", document.currentScript.src);
  const scripts = {}; // address -> promise
  const widgets = {}; // name -> { render, css }
  const states = {}; // lesson -> list of traits

  const NO_PYTHON = "Python answers this question, and there is none on this page: open the lesson as a notebook.";

  function load(address) {
    scripts[address] ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL(address, base);
      script.onload = resolve;
      script.onerror = () => reject(new Error(`${address} did not load`));
      document.head.append(script);
    });
    return scripts[address];
  }

  /** Bytes come as base64; widgets expect the DataView that Jupyter gives them. */
  function unpack(value) {
    if (Array.isArray(value)) return value.map(unpack);
    if (value === null || typeof value !== "object") return value;
    if ("__bytes__" in value) {
      return new DataView(Uint8Array.from(atob(value.__bytes__), (c) => c.charCodeAt(0)).buffer);
    }
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, unpack(inner)]));
  }

  /** What a widget's script talks to: recorded traits, and nobody behind them. */
  class RecordedModel {
    constructor(traits) {
      this.traits = unpack(traits);
      this.handlers = {};
    }
    get(name) { return this.traits[name]; }
    set(name, value) {
      if (this.traits[name] === value) return;
      this.traits[name] = value;
      this.emit(`change:${name}`);
      this.emit("change");
    }
    save_changes() {}
    on(event, fn) { (this.handlers[event] ??= []).push(fn); }
    off(event, fn) {
      this.handlers[event] = (this.handlers[event] || []).filter((other) => fn && other !== fn);
    }
    emit(event, ...values) { for (const fn of [...(this.handlers[event] || [])]) fn(...values); }
    send(content) {
      const answer = { kind: "answer", request: content.request, error: NO_PYTHON };
      setTimeout(() => this.emit("msg:custom", answer, []));
    }
  }

  /** Draw one widget in place of its picture, which stays where something goes wrong. */
  async function draw(place) {
    const { widget, states: lesson, index } = place.dataset;
    try {
      await Promise.all([load(`widgets/${widget}.js`), load(`widgets/states/${lesson}.js`)]);
      const { render, css } = widgets[widget];
      if (css && !document.querySelector(`style[data-widget="${widget}"]`)) {
        const style = document.createElement("style");
        style.dataset.widget = widget;
        style.textContent = css;
        document.head.append(style);
      }
      const el = document.createElement("div");
      el.className = "site-widget-live";
      place.append(el);
      await render({ model: new RecordedModel(states[lesson][index]), el });
      place.dataset.drawn = "1";
    } catch (error) {
      place.querySelector(".site-widget-live")?.remove();
      place.dataset.drawn = "0";
      console.error(error);
    }
  }

  function drawWhenNear() {
    const watcher = new IntersectionObserver((entries) => {
      for (const entry of entries.filter((e) => e.isIntersecting)) {
        watcher.unobserve(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "800px 0px" });
    document.querySelectorAll(".site-widget[data-widget]").forEach((place) => watcher.observe(place));
  }

  /** Widgets watch JupyterLab's theme attribute; here it follows the page's theme. */
  function followTheme() {
    const night = matchMedia("(prefers-color-scheme: dark)");
    const tell = () => {
      const theme = document.body.dataset.theme;
      document.body.dataset.jpThemeLight = String(theme === "light" || (theme !== "dark" && !night.matches));
    };
    new MutationObserver(tell).observe(document.body, { attributes: true, attributeFilter: ["data-theme"] });
    night.addEventListener("change", tell);
    tell();
  }

  /** What scrolls sideways must be reachable without a mouse. */
  function focusScrollers() {
    for (const box of document.querySelectorAll("pre, .table-wrapper, .site-scroll, div.math")) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else if (box.tabIndex === 0) box.removeAttribute("tabindex");
    }
  }

  /** Sphinx calls the captions of the contents headings, but leaves out their level. */
  function levelHeadings() {
    document.querySelectorAll("[role=heading]:not([aria-level])").forEach((caption) => {
      caption.setAttribute("aria-level", "2");
    });
  }

  followTheme();
  levelHeadings();
  drawWhenNear();
  focusScrollers();
  addEventListener("resize", focusScrollers);
  addEventListener("load", focusScrollers);

  return {
    widget(name, render, css) { widgets[name] = { render, css }; },
    states(lesson, traits) { states[lesson] = traits; },
  };
})();
