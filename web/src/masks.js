/**
 * The mask explorer: which word, which timesteps, which layers and which cut find the object.
 *
 * `evaluate` in maths.js does the work; here are the controls, and where its results are drawn.
 */
import { histogramPanel, written } from "./histogram.js";
import { bookSettings, evaluate, presets, readMaps, stageMask } from "./maths.js";
import { heatOf, heatOver, loadPixels, show, tinted } from "./pixels.js";
import { button, checkbox, choice, h, live, slider } from "./ui.js";
import { outlineOver, wipePanel } from "./wipe.js";

const RULE_TEXTS = {
  gmm: "gmm: between modes",
  posterior: "posterior: modes cross",
  otsu: "otsu: least spread",
  percentile: "percentile",
  fixed: "fixed: by hand",
};

let mounted = 0; // radio buttons of two explorers on a page must not share their name

export async function mount(root, { data }) {
  const maps = await readMaps((file) => bytesOf(new URL(file, data)));
  const scenes = await Promise.all(maps.images.map((one) => loadPixels(new URL(one.image, data).href)));
  const explorer = build(maps, scenes, (file) => loadPixels(new URL(file, data).href));
  await explorer.ready;
  root.classList.add("cd-mask");
  root.replaceChildren(...explorer.elements);
}

async function bytesOf(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url.pathname.split("/").pop()}: not found (${answer.status}).`);
  return answer.arrayBuffer();
}

function build(maps, scenes, load) {
  const book = bookSettings(maps);
  const tries = presets(maps);
  const status = live("Change anything: map, histogram, mask and scores follow at once.");
  const views = viewPanels(maps, (value) => set({ rule: "fixed", value }));
  const wipe = wipePanel(maps);
  const controls = controlPanel(maps, set);
  const resets = button("The book’s settings", () => attempt({}, "Back to what the run used."), { "data-testid": "preset-book" });
  const buttons = tries.map(({ text, asks, change }, k) =>
    button(text, () => attempt(change, asks), { "data-testid": `preset-${k}` }),
  );
  const cache = new Map();
  let state = { ...book };
  let shown = null;

  /** The settings with some of them changed; the two ends of the range push each other. */
  function set(change) {
    if (change.rule === "fixed" && change.value === undefined && state.rule !== "fixed") {
      const { low, high, cut } = shown;
      change = { ...change, value: Math.min(Math.max(cut.threshold, low), high) };
    }
    state = { ...state, ...change };
    if (change.first > state.last) state.last = change.first;
    if (change.last < state.first) state.first = change.last;
    refresh();
  }

  function attempt(change, says) {
    set({ ...book, image: state.image, ...change });
    status.say(says);
  }

  function refresh() {
    const began = performance.now();
    shown = evaluate(maps, state);
    views.draw(scenes[state.image], shown, maps.images[state.image].iou.m_pre);
    controls.sync(state, shown);
    if (wipe.image === state.image) wipe.update(cache.get(state.image), shown.pixels);
    views.time(performance.now() - began);
    for (const [one, change] of [[resets, {}], ...tries.map((one, k) => [buttons[k], one.change])]) {
      one.setAttribute("aria-pressed", isSame(state, { ...book, ...change, image: state.image, value: state.value }));
    }
  }

  async function open(image) {
    set({ image });
    views.trace(stageMask(maps, image, "truth"));
    if (!cache.has(image)) {
      const { removed, difference } = maps.images[image];
      const [without, changed] = await Promise.all([load(removed), load(difference)]);
      cache.set(image, { image: scenes[image], removed: without, difference: heatOf(changed) });
    }
    if (state.image === image) wipe.open(image, cache.get(image), shown.pixels);
  }

  const pick = (image) => open(image).catch((error) => status.say(error.message));
  return {
    ready: open(0),
    elements: [
      scenePicker(maps, scenes, pick),
      h("div", { class: "cd-mask-tries", role: "group", "aria-label": "Things to try" }, resets, h("span", {}, "Try:"), buttons),
      status.element,
      h("div", { class: "cd-mask-work" }, views.element, controls.element),
      wipe.element,
    ],
  };
}

function isSame(a, b) {
  return JSON.stringify(Object.entries(a).sort()) === JSON.stringify(Object.entries(b).sort());
}

function scenePicker(maps, scenes, onPick) {
  const name = `cd-mask-scene-${(mounted += 1)}`;
  const options = scenes.map((pixels, image) => {
    const canvas = h("canvas");
    show(canvas, pixels);
    const radio = h("input", {
      type: "radio",
      name,
      value: image,
      checked: image === 0,
      "aria-label": `Scene ${image + 1}, ${maps.images[image].name}`,
      "data-testid": `mask-scene-${image}`,
      onchange: () => onPick(image),
    });
    return h("label", {}, radio, canvas);
  });
  return h("fieldset", { class: "cd-mask-scenes" }, h("legend", {}, `Choose a scene with a ${maps.concept}`), options);
}

/** Heat map, mask, histogram and scores. */
function viewPanels(maps, onCut) {
  const [[height, width], [rows, columns]] = [maps.size, maps.grid];
  const [below, heat, mask] = [h("canvas"), h("canvas", { class: "cd-mask-over" }), h("canvas")];
  const outlines = [outlineOver(height, width), outlineOver(height, width)];
  const histogram = histogramPanel({ onCut });
  const scores = ["IoU", "Precision", "Recall"].map(scoreTile);
  const [beside, time] = [h("span", { "data-testid": "mask-book-iou" }), h("span", { "data-testid": "mask-time" })];
  const panel = (caption, name, outline, ...canvases) =>
    h(
      "figure",
      { class: "cd-panel" },
      h("div", { class: "cd-mask-frame", role: "img", "aria-label": caption, "data-testid": name }, canvases, outline.element),
      h("figcaption", {}, caption),
    );
  const spoken = h("p", { class: "cd-mask-spoken", role: "status", "aria-live": "polite" });
  let later = 0;
  return {
    element: h(
      "div",
      { class: "cd-mask-views" },
      h(
        "div",
        { class: "cd-mask-now" },
        h("dl", { class: "cd-mask-scores" }, scores.map(({ element }) => element)),
        panel("Heat: the word’s attention", "mask-heat", outlines[0], below, heat),
        panel("Blue: mask. White: true outline", "mask-picture", outlines[1], mask),
      ),
      histogram.element,
      h("p", { class: "cd-mask-note" }, beside, time),
      spoken,
    ),
    draw(scene, shown, bookIou) {
      show(below, scene);
      show(heat, heatOver(shown.map, rows, columns));
      show(mask, tinted(scene, shown.pixels));
      histogram.draw(shown);
      const { iou, precision, recall } = shown.scores;
      [iou, precision, recall].forEach((score, k) => scores[k].draw(score));
      beside.textContent = `With the book’s settings this scene has IoU ${bookIou.toFixed(3)}. `;
      clearTimeout(later); // a screen reader hears where a slider stops, not each place on its way
      later = setTimeout(() => (spoken.textContent = `IoU ${iou.toFixed(2)}`), 700);
    },
    trace: (truth) => outlines.forEach(({ trace }) => trace(truth)),
    time: (milliseconds) => (time.textContent = `Computed and drawn in ${milliseconds.toFixed(1)} ms.`),
  };
}

function scoreTile(name) {
  const value = h("span", { "data-testid": `mask-${name.toLowerCase()}` });
  const bar = h("span", { class: "cd-mask-bar" });
  return {
    element: h("div", {}, h("dt", {}, name), h("dd", {}, value, bar)),
    draw(score) {
      value.textContent = score === null ? "none" : score.toFixed(3);
      bar.style.setProperty("--share", score ?? 0);
    },
  };
}

/** Everything the reader sets but the scene; `sync` writes settings back that presets have changed. */
function controlPanel(maps, set) {
  const bins = maps.bins.length - 1;
  const prompt = h("span", { class: "cd-mask-note", "data-testid": "mask-prompt" });
  const word = choice({
    label: "Word",
    options: maps.words.map((one, k) => ({ value: k, text: `“${one.word}”${one.model === "m" ? "" : " (tuned)"}` })),
    onChange: (k) => set({ word: Number(k) }),
    testid: "mask-word",
  });
  const end = (label, key, testid) =>
    slider({ label, min: 0, max: bins, value: 0, format: (k) => `t = ${maps.bins[k][key]}`, onInput: (k) => set({ [key]: k }), testid });
  const first = end("From timestep", "first", "mask-first");
  const last = end("To timestep", "last", "mask-last");
  const [least, most] = [maps.bins[0].first, maps.bins[bins].last];
  const layers = maps.layers.map((name, k) =>
    checkbox({ label: name, value: true, onChange: choose, testid: `mask-layer-${k}` }),
  );
  const rule = choice({
    label: "Cut by",
    options: Object.entries(RULE_TEXTS).map(([value, text]) => ({ value, text })),
    onChange: (name) => set({ rule: name }),
    testid: "mask-rule",
  });
  const percentile = slider({
    label: "Percentile", min: 0, max: 100, value: 80, format: (v) => `${v}%`, onInput: (v) => set({ percentile: v }), testid: "mask-percentile",
  });
  const value = slider({
    label: "Cut at", min: 0, max: 1, step: "any", value: 0, format: written, onInput: (v) => set({ value: v }), testid: "mask-value",
  });
  const majority = checkbox({ label: "3×3 majority filter", onChange: (on) => set({ majority: on }), testid: "mask-majority" });

  function choose() {
    const chosen = [...layers.keys()].filter((k) => layers[k].value);
    set({ layers: chosen });
  }

  return {
    element: h(
      "div",
      { class: "cd-mask-controls" },
      word.element,
      prompt,
      first.element,
      last.element,
      h("span", { class: "cd-mask-note" }, `${least} is almost clean, ${most} almost noise`),
      h("fieldset", { class: "cd-mask-layers" }, h("legend", {}, "Layers"), layers.map((one) => one.element)),
      rule.element,
      percentile.element,
      value.element,
      majority.element,
    ),
    sync(state, { low, high }) {
      word.value = state.word;
      const asked = maps.words[state.word];
      prompt.textContent = `in “${asked.prompt}”${asked.model === "m" ? "" : ", after fine-tuning"}`;
      first.value = state.first;
      last.value = state.last;
      layers.forEach((one, k) => {
        one.value = state.layers.includes(k);
        one.input.disabled = state.layers.length === 1 && one.value; // of none there is no mean
      });
      rule.value = state.rule;
      percentile.element.hidden = state.rule !== "percentile";
      percentile.value = state.percentile;
      value.element.hidden = state.rule !== "fixed";
      Object.assign(value.input, { min: low, max: high, step: (high - low) / 400 || 1 });
      value.value = state.value;
      majority.value = state.majority;
    },
  };
}
