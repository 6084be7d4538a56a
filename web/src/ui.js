/** Small pieces of interface that the explorers share: native controls, labelled, and canvases. */

/** An element: `h("button", {class: "x", onclick: run}, "Run")`; children that are null or false are skipped. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let count = 0;

function labelled(label, control, beside = null, testid = undefined) {
  control.id = `cd-control-${(count += 1)}`;
  if (testid) control.dataset.testid = testid;
  return h("div", { class: "cd-field" }, h("label", { for: control.id }, label), control, beside);
}

/** A range with its value written beside it. `format` turns the number into what is read there. */
export function slider({ label, min, max, step = 1, value, format = String, onInput, testid }) {
  const input = h("input", { type: "range", min, max, step });
  input.value = value;
  const shown = h("output", {}, format(Number(input.value)));
  const show = () => {
    shown.textContent = format(Number(input.value));
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  show();
  input.oninput = () => {
    show();
    onInput?.(Number(input.value));
  };
  return {
    element: labelled(label, input, shown, testid),
    input,
    get value() {
      return Number(input.value);
    },
    set value(number) {
      input.value = number;
      show();
    },
  };
}

/** A labelled select. */
export function choice({ label, options, value, onChange, testid }) {
  const select = h("select", {}, options.map((one) => h("option", { value: one.value }, one.text)));
  if (value !== undefined) select.value = value;
  select.onchange = () => onChange?.(select.value);
  return {
    element: labelled(label, select, null, testid),
    input: select,
    get value() {
      return select.value;
    },
    set value(chosen) {
      select.value = chosen;
    },
  };
}

/** A labelled checkbox. */
export function checkbox({ label, value = false, onChange, testid }) {
  const input = h("input", { type: "checkbox" });
  input.checked = value;
  if (testid) input.dataset.testid = testid;
  input.onchange = () => onChange?.(input.checked);
  return {
    element: h("label", { class: "cd-check" }, input, label),
    input,
    get value() {
      return input.checked;
    },
    set value(checked) {
      input.checked = checked;
    },
  };
}

export function button(text, onClick, attributes = {}) {
  return h("button", { type: "button", class: "cd-button", onclick: onClick, ...attributes }, text);
}

/** A line that a screen reader speaks when it changes. */
export function live(text = "") {
  const element = h("p", { class: "cd-status", role: "status", "aria-live": "polite" }, text);
  return {
    element,
    say(words) {
      element.textContent = words;
    },
  };
}

/** A picture: height x width x 3, bytes or floats in [0, 1]. */
export function drawImage(canvas, rgb, height, width) {
  const scale = rgb instanceof Float32Array ? 255 : 1;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let i = 0; i < height * width; i += 1) {
    const colour = [rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2]].map((c) => Math.round(scale * c));
    pixels.data.set([...colour, 255], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
}

// matplotlib's "inferno" at ninths, between which it is close to straight
const INFERNO = [
  [0, 0, 4], [26, 11, 64], [74, 11, 106], [120, 28, 109], [165, 44, 96],
  [207, 68, 70], [237, 105, 37], [251, 155, 6], [247, 209, 60], [252, 255, 164],
];

/** The colour of a value in [0, 1], as three bytes. */
export function heat(value) {
  const place = Math.min(Math.max(value, 0), 1) * (INFERNO.length - 1);
  const below = Math.min(Math.floor(place), INFERNO.length - 2);
  return INFERNO[below].map((c, k) => Math.round(c + (place - below) * (INFERNO[below + 1][k] - c)));
}
