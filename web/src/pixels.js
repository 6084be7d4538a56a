/** Pictures as pixels: RGBA bytes from a file, laid over each other, and onto a canvas. */

import { range } from "./maths.js";
import { heat } from "./ui.js";

/** Colour of what a mask marks, as in explore.css: bytes and how much of it covers the image. */
const MARK = [38, 139, 255];

/** A map from its least to its largest value as colours to lay over an image: the less, the clearer. */
export function heatOver(map, height, width) {
  const [low, high] = range(map);
  const made = new ImageData(width, height);
  map.forEach((value, i) => {
    const share = high > low ? (value - low) / (high - low) : 0;
    made.data.set([...heat(share), 90 + 120 * share], 4 * i);
  });
  return made;
}

/** A difference in the colours of a map, from its PNG in grey. */
export function heatOf(grey) {
  return mapPixels(grey, ([level]) => heat(level / 255));
}

/** The pixels of a picture file. */
export async function loadPixels(url) {
  const picture = new Image();
  picture.src = url;
  await picture.decode().catch(() => {
    throw new Error(`${url.split("/").pop()}: the picture could not be loaded.`);
  });
  const { naturalWidth: width, naturalHeight: height } = picture;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  return context.getImageData(0, 0, width, height);
}

export function show(canvas, pixels) {
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

/** Each pixel (r, g, b) of an image made anew; `change` gets it, and its place. */
function mapPixels(image, change) {
  const made = new ImageData(image.width, image.height);
  for (let i = 0; i < image.data.length; i += 4) {
    const rgb = [image.data[i], image.data[i + 1], image.data[i + 2]];
    made.data.set(change(rgb, i / 4), i);
    made.data[i + 3] = 255;
  }
  return made;
}

/** What a mask marks in blue, the rest darker. */
export function tinted(image, mask) {
  return mapPixels(image, (rgb, i) =>
    rgb.map((c, k) => (mask[i] ? 0.35 * c + 0.65 * MARK[k] : 0.6 * c)),
  );
}

/** What a mask keeps of an image; the rest grey and dark. */
export function cutOut(image, mask) {
  return mapPixels(image, (rgb, i) => {
    if (mask[i]) return rgb;
    const grey = 12 + 0.12 * (rgb[0] + rgb[1] + rgb[2]) / 3;
    return [grey, grey, grey];
  });
}
