/** The histogram of a map's cells with its fitted modes and its cut; dragging in it moves the cut. */
import { h } from "./ui.js";

const [WIDTH, HEIGHT] = [320, 120]; // of the drawing, which the page stretches to its own

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A value of attention as the page writes it. */
export function written(value) {
  if (!Number.isFinite(value)) return value > 0 ? "above every cell" : "below every cell";
  return value.toPrecision(3);
}

/** @param {{onCut: (value: number) => void}} asked to cut at a value that the reader points at */
export function histogramPanel({ onCut }) {
  const drawing = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
    class: "cd-mask-histogram",
    "data-testid": "mask-histogram",
  });
  const [low, high, cut] = [h("span"), h("span"), h("span", { "data-testid": "mask-threshold" })];
  let shown = null;
  const cutAt = (event) => {
    const { left, width } = drawing.getBoundingClientRect();
    const place = Math.min(Math.max((event.clientX - left) / width, 0), 1);
    onCut(shown.low + place * (shown.high - shown.low));
  };
  drawing.onpointerdown = (event) => {
    drawing.setPointerCapture(event.pointerId);
    cutAt(event);
  };
  drawing.onpointermove = (event) => drawing.hasPointerCapture(event.pointerId) && cutAt(event);
  const element = h(
    "figure",
    { class: "cd-panel cd-mask-cells" },
    drawing,
    h("div", { class: "cd-mask-axis", "aria-hidden": "true" }, low, h("span", {}, "attention of a cell →"), high),
    h("figcaption", {}, "Cells by value: ", cut, ". Heights are square roots of numbers. Drag in it to cut by hand."),
  );
  return {
    element,
    draw(evaluated) {
      shown = evaluated;
      drawing.replaceChildren(...parts(evaluated));
      low.textContent = written(evaluated.low);
      high.textContent = written(evaluated.high);
      cut.textContent = says(evaluated.cut);
      drawing.setAttribute("aria-label", `Histogram of ${evaluated.map.length} cells, ${cut.textContent}`);
    },
  };
}

function says({ threshold, means, variances }) {
  const where = `cut at ${written(threshold)}`;
  if (!means || variances[0] === 0) return where;
  return `modes at ${written(means[0])} and ${written(means[1])}, ${where}`;
}

function parts({ low, high, cut, histogram: { counts, edges, curves } }) {
  const span = high - low || 1;
  const x = (value) => ((value - low) / span) * WIDTH;
  const top = Math.max(...counts) * 1.08;
  const y = (count) => HEIGHT * (1 - Math.sqrt(Math.min(count / top, 1))); // else only the background shows
  const threshold = Math.min(Math.max(x(cut.threshold), 0), WIDTH);
  const width = WIDTH / counts.length;
  const bars = counts.map((count, i) =>
    svg("rect", {
      x: i * width + 0.5,
      y: y(count),
      width: width - 1,
      height: HEIGHT - y(count),
      class: (edges[i] + edges[i + 1]) / 2 > cut.threshold ? "cd-mask-above" : "cd-mask-below",
    }),
  );
  const modes = curves.map((curve, k) => {
    const points = curve.map(([value, count]) => `${x(value).toFixed(1)} ${y(count).toFixed(1)}`);
    return svg("path", { d: `M${points.join("L")}`, class: `cd-mask-mode cd-mask-mode-${k}` });
  });
  const line = svg("path", { d: `M${threshold} 0V${HEIGHT}`, class: "cd-mask-cut" });
  return [...bars, ...modes, line];
}
