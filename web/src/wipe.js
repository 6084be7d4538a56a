/** The stages of one image side by side in one frame: a slider wipes from one to the other. */
import { compare, outline, stageMask } from "./maths.js";
import { cutOut, show } from "./pixels.js";
import { checkbox, choice, h, slider } from "./ui.js";

const STAGES = [
  { value: "image", text: "Image" },
  { value: "yours", text: "M_pre, cut by you", mask: true },
  { value: "m_pre", text: "M_pre, the book's", mask: true },
  { value: "removed", text: "Object removed" },
  { value: "difference", text: "Difference" },
  { value: "m_refined", text: "M, refined", mask: true },
  { value: "predicted", text: "Segmenter", mask: true },
  { value: "truth", text: "Truth", mask: true },
];

/** "M_pre, yours" with "pre" set low. */
function withSubscript(text) {
  const [before, low, after] = text.split(/_(\w+)/);
  return low ? [before, h("sub", {}, low), after] : [text];
}

/** An outline over a picture, light with a dark rim so that it is seen on both. */
export function outlineOver(height, width) {
  const draw = (name) => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", name);
    return path;
  };
  const paths = [draw("cd-mask-rim"), draw("cd-mask-line")];
  const element = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  element.setAttribute("viewBox", `0 0 ${width} ${height}`);
  element.setAttribute("class", "cd-mask-outline");
  element.setAttribute("aria-hidden", "true");
  element.append(...paths);
  const trace = (mask) => paths.forEach((path) => path.setAttribute("d", outline(mask, height, width)));
  return { element, trace };
}

/** @param {object} maps as from `readMaps` */
export function wipePanel(maps) {
  const [height, width] = maps.size;
  const stages = STAGES.filter(({ value, mask }) => !mask || value === "yours" || maps.stages.includes(value));
  const under = h("canvas");
  const over = h("canvas", { class: "cd-mask-over" });
  const edge = h("div", { class: "cd-mask-edge" });
  const truth = outlineOver(height, width);
  const frame = h("div", { class: "cd-mask-frame cd-mask-wipe", "data-testid": "wipe-frame" }, under, over, edge, truth.element);
  const strip = h("div", { class: "cd-mask-strip", role: "group", "aria-label": "Stages of the method" });
  const sides = {
    left: side("Left of the edge", "left", "image"),
    right: side("Right of the edge", "right", "removed"),
  };
  const position = slider({
    label: "Wipe", min: 0, max: 100, value: 50, format: (v) => `${v}%`, onInput: place, testid: "wipe-position",
  });
  const outlined = checkbox({
    label: "True outline", value: true, onChange: (on) => truth.element.toggleAttribute("hidden", !on), testid: "wipe-outline",
  });
  const thumbs = new Map();
  let [current, canvases] = [null, new Map()];

  function side(label, name, value) {
    const iou = h("span", { class: "cd-mask-note", "data-testid": `wipe-${name}-iou` });
    const select = choice({ label, options: stages, value, onChange: draw, testid: `wipe-${name}` });
    return { select, iou, element: h("div", {}, select.element, iou) };
  }

  function place() {
    over.style.clipPath = `inset(0 0 0 ${position.value}%)`;
    edge.style.left = `${position.value}%`;
  }

  function follow(event) {
    const box = frame.getBoundingClientRect();
    position.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    place();
  }
  frame.onpointerdown = (event) => {
    frame.setPointerCapture(event.pointerId);
    follow(event);
  };
  frame.onpointermove = (event) => frame.hasPointerCapture(event.pointerId) && follow(event);

  function draw() {
    for (const [canvas, { select, iou }] of [[under, sides.left], [over, sides.right]]) {
      const stage = select.value;
      show(canvas, canvases.get(stage).pixels);
      iou.textContent = said(canvases.get(stage).iou);
    }
    for (const [stage, { button }] of thumbs) {
      button.setAttribute("aria-pressed", stage === sides.right.select.value);
    }
  }

  const said = (iou) => (iou === null ? "a picture, no mask" : `IoU ${iou.toFixed(3)}`);

  /** The picture of a stage and, of a mask, its score against the truth. */
  function made(stage, pictures, yours) {
    if (!stage.mask) return { pixels: pictures[stage.value], iou: null };
    const mask = stage.value === "yours" ? yours : stageMask(maps, current, stage.value);
    return { pixels: cutOut(pictures.image, mask), iou: compare(mask, stageMask(maps, current, "truth")).iou };
  }

  for (const { value, text } of stages) {
    const [canvas, iou] = [h("canvas"), h("span", { class: "cd-mask-note", "data-testid": `stage-${value}-iou` })];
    const choose = () => {
      sides.right.select.value = value;
      draw();
    };
    const button = h("button", { type: "button", class: "cd-mask-thumb", onclick: choose, "data-testid": `stage-${value}` }, canvas, h("span", {}, withSubscript(text)), iou);
    thumbs.set(value, { button, canvas, iou });
    strip.append(button);
  }

  function thumb(stage) {
    const [{ canvas, iou }, found] = [thumbs.get(stage), canvases.get(stage)];
    show(canvas, found.pixels);
    iou.textContent = found.iou === null ? "" : `IoU ${found.iou.toFixed(3)}`;
  }

  place();
  return {
    element: h(
      "section",
      { class: "cd-mask-later", "aria-label": "Later stages" },
      h("h4", {}, "Then the later stages"),
      strip,
      h(
        "div",
        { class: "cd-mask-compare" },
        frame,
        h(
          "div",
          { class: "cd-mask-sides" },
          sides.left.element,
          sides.right.element,
          position.element,
          outlined.element,
          h("p", { class: "cd-mask-note" }, "A mask is shown as what it keeps of the image; the white line is the true outline. Drag in the picture, or move the slider. The removal is by the fine-tuned model, from the mask of the book’s settings, so neither it nor what follows changes with yours; your own mask does."),
        ),
      ),
    ),
    /** The image that it shows, null before the first. */
    get image() {
      return current;
    },
    /** Another image: its pictures as pixels, and the reader's mask of it. */
    open(image, pictures, yours) {
      current = image;
      canvases = new Map(stages.map((stage) => [stage.value, made(stage, pictures, yours)]));
      truth.trace(stageMask(maps, image, "truth"));
      stages.forEach(({ value }) => thumb(value));
      draw();
    },
    /** The reader's mask has changed, and nothing else. */
    update(pictures, yours) {
      const stage = stages.find(({ value }) => value === "yours");
      canvases.set("yours", made(stage, pictures, yours));
      thumb("yours");
      draw();
    },
  };
}
