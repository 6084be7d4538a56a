/** Pieces that the sections of the model's explorer share: figures, tasks, pictures. */
import { heatOver, show } from "./pixels.js";
import { drawImage, h, live } from "./ui.js";

/** A titled section. */
export function section(number, title, intro, ...children) {
  return h(
    "section", { class: "cd-model-section" },
    h("h4", {}, h("span", { class: "cd-model-number", "aria-hidden": "true" }, number), title),
    h("p", { class: "cd-model-intro" }, intro),
    ...children,
  );
}

/** A status line that a test finds by its name. */
export function statusLine(testid, text) {
  const status = live(text);
  status.element.dataset.testid = testid;
  return status;
}

/** A figure of a picture, over which a map can be laid. */
export function figure(testid, label, ...caption) {
  const picture = h("canvas", { role: "img", "aria-label": label });
  const map = h("canvas", { class: "cd-model-heat", "aria-hidden": "true", hidden: true });
  const text = h("figcaption", {}, ...caption);
  const element = h(
    "figure", { class: "cd-panel cd-model-card", "data-testid": testid },
    h("div", { class: "cd-model-stack" }, picture, map), text,
  );
  return {
    element,
    caption: text,
    show(image, { height, width }) {
      drawImage(picture, image, height, width);
    },
    lay(values, { height, width }) {
      map.hidden = !values;
      if (values) show(map, heatOver(values, height, width));
    },
    call(words) {
      picture.setAttribute("aria-label", words);
    },
  };
}

/**
 * A button that starts a task and one that cancels it; errors are said, and leave all usable.
 *
 * @param {(started: (task) => Promise<object | null>) => Promise<void>} work runs tasks by `started`
 */
export function runner({ start, cancel, status, work }) {
  let running = null;
  cancel.disabled = true;
  cancel.onclick = () => {
    running?.cancel();
    status.say("Cancelling …");
  };
  const started = (task) => (running = task).done;
  start.onclick = async () => {
    if (start.disabled) return;
    start.disabled = true;
    cancel.disabled = false;
    status.say("Starting …");
    try {
      await work(started);
    } catch (error) {
      status.say(error.message);
    } finally {
      running = null;
      start.disabled = false;
      cancel.disabled = true;
    }
  };
}

/** A picture of the page or of the reader, cut square at its centre: Float32Array (H, W, 3). */
export async function readPicture(blob, { height, width }) {
  const whole = await createImageBitmap(blob);
  const side = Math.min(whole.width, whole.height);
  const [x, y] = [(whole.width - side) / 2, (whole.height - side) / 2];
  const same = whole.width === width && whole.height === height;
  const resize = { resizeWidth: width, resizeHeight: height, resizeQuality: "high" };
  const fitted = same ? whole : await createImageBitmap(blob, x, y, side, side, resize);
  const canvas = h("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(fitted, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return Float32Array.from({ length: 3 * height * width }, (_, i) => data[4 * Math.floor(i / 3) + (i % 3)] / 255);
}

/** A picture with all but a mask (H, W) dimmed. */
export function spotlit(image, mask) {
  return image.map((value, i) => {
    const on = mask[Math.floor(i / 3)];
    const grey = (image[i - (i % 3)] + image[i - (i % 3) + 1] + image[i - (i % 3) + 2]) / 3;
    return on ? value : 0.12 + 0.25 * grey;
  });
}

/** Bytes as one reads them. */
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

/** Milliseconds as one reads them. */
export const seconds = (milliseconds) => {
  const s = milliseconds / 1000;
  return s < 10 ? `${s.toFixed(1)} s` : `${Math.round(s)} s`;
};
