// Sets the formulas, shrinks what is too high for a slide, and starts reveal.js.
"use strict";

const WIDTH = 1280;
const HEIGHT = 720;
const SCALES = [1, 0.94, 0.88, 0.82, 0.76, 0.7];

window.MathJax = {
  tex: {
    inlineMath: [["$", "$"], ["\\(", "\\)"]],
    displayMath: [["$$", "$$"], ["\\[", "\\]"]],
    processEscapes: true,
    tags: "none",
  },
  svg: { fontCache: "global" },
  options: {
    enableMenu: false,
    skipHtmlTags: ["script", "noscript", "style", "textarea", "pre", "code"],
  },
  startup: { typeset: false },
};

function loadScript(address) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${address} did not load`));
    document.head.append(script);
  });
}

function leaves() {
  return [...document.querySelectorAll(".slides > section > section")];
}

// Each slide gets one box for its content; notes stay beside it, where reveal.js looks for them.
function wrap(slide) {
  const content = document.createElement("div");
  content.className = "content";
  const notes = [...slide.querySelectorAll("aside.notes")];
  content.append(...[...slide.childNodes].filter((node) => !notes.includes(node)));
  if (slide.dataset.section) {
    const section = document.createElement("p");
    section.className = "running";
    section.textContent = slide.dataset.section;
    slide.append(section);
  }
  slide.append(content, ...notes);
  return content;
}

function fit(content) {
  for (const scale of SCALES) {
    content.style.fontSize = `${scale}em`;
    if (content.scrollHeight <= content.clientHeight + 1) return;
  }
  content.classList.add("scrolls");
  content.tabIndex = 0;
  content.setAttribute("role", "region");
  content.setAttribute("aria-label", "Slide that scrolls");
}

function reachByKeyboard(box) {
  if (box.scrollHeight > box.clientHeight + 1 || box.scrollWidth > box.clientWidth + 1) {
    box.tabIndex = 0;
  }
}

async function start() {
  await loadScript("assets/mathjax/tex-svg.js");
  await MathJax.startup.promise;
  await MathJax.typesetPromise();
  await Promise.all([...document.images].map((image) => image.decode().catch(() => undefined)));
  await document.fonts.ready;
  const contents = leaves().map(wrap);
  document.body.classList.add("measuring");
  contents.forEach(fit);
  document.querySelectorAll(".content pre, .jp-OutputArea-output").forEach(reachByKeyboard);
  document.body.classList.remove("measuring");
  await Reveal.initialize({
    width: WIDTH,
    height: HEIGHT,
    margin: 0,
    minScale: 0.1,
    maxScale: 4,
    center: false,
    hash: true,
    slideNumber: "h.v",
    transition: "none",
    plugins: [RevealNotes],
  });
  document.body.dataset.ready = "1";
}

start().catch((error) => {
  document.body.classList.add("plain");
  console.error(error);
});
