/**
 * From attention maps to masks and scores, as cdlib does it: numbers in, numbers out, no page.
 *
 * `readMaps` reads what `cdlib.explore.maps.write_maps` wrote, `evaluate` turns the reader's settings
 * into all that the page shows. Masks are Uint8Array of 0 and 1, row by row.
 */
import { decodeHalf } from "./half.js";
import { fitTwoGaussians } from "./mixture.js";

export const RULES = ["gmm", "posterior", "otsu", "percentile", "fixed"];

/**
 * What a chapter wrote, with numbers in place of files.
 *
 * @param {(file: string) => Promise<ArrayBuffer>} get the bytes of a file of the folder
 */
export async function readMaps(get) {
  const index = JSON.parse(new TextDecoder().decode(await get("index.json")));
  if (index.format !== 1) throw new Error(`index.json: format ${index.format}, this page reads 1.`);
  const [maps, masks] = await Promise.all([get("maps.bin"), get("masks.bin")]);
  const cells = index.images.length * index.words.length * cellsOf(index);
  if (maps.byteLength !== 2 * cells) {
    throw new Error(`maps.bin: ${maps.byteLength} bytes, ${2 * cells} expected.`);
  }
  return { ...index, values: decodeHalf(new Uint16Array(maps)), bits: new Uint8Array(masks) };
}

/** How many numbers belong to one word of one image. */
function cellsOf({ layers, bins, grid }) {
  return layers.length * bins.length * grid[0] * grid[1];
}

/** The mask of a stage ("truth", "m_pre", ...) of an image, (H, W). */
export function stageMask(maps, image, stage) {
  const row = maps.stages.indexOf(stage);
  if (row < 0) throw new Error(`stage ${stage}: there are ${maps.stages.join(", ")}.`);
  const pixels = maps.size[0] * maps.size[1];
  const first = (image * maps.stages.length + row) * pixels; // in bits, the highest of a byte first
  return Uint8Array.from({ length: pixels }, (_, i) => {
    const bit = first + i;
    return (maps.bits[bit >> 3] >> (7 - (bit & 7))) & 1;
  });
}

/** The settings of the run that wrote the maps: all timesteps, all layers, its rule. */
export function bookSettings(maps) {
  const { rule, percentile, majority } = maps.run;
  return {
    image: 0,
    word: 0,
    first: 0,
    last: maps.bins.length - 1,
    layers: maps.layers.map((_, l) => l),
    rule,
    percentile,
    value: 0, // of the rule "fixed", in the units of the map
    majority,
  };
}

/**
 * All that the page shows for the reader's settings.
 *
 * @returns {{map: Float64Array, low: number, high: number, cut: object, mask: Uint8Array,
 *   pixels: Uint8Array, scores: object, histogram: object}} map and mask are (h, w), pixels (H, W)
 */
export function evaluate(maps, settings) {
  const map = meanMap(maps, settings);
  const cut = cutMap(map, { ...settings, seed: maps.run.seed });
  const [h, w] = maps.grid;
  const above = Uint8Array.from(map, (value) => (value > cut.threshold ? 1 : 0));
  const mask = settings.majority ? majorityFilter(above, h, w) : above;
  const pixels = upsample(mask, maps.grid, maps.size);
  const [low, high] = range(map);
  return {
    map,
    low,
    high,
    cut,
    mask,
    pixels,
    scores: compare(pixels, stageMask(maps, settings.image, "truth")),
    histogram: { ...histogram(map, 32), curves: modeCurves(map, cut, 32) },
  };
}

/** The mean over the chosen bins and layers; a bin counts as often as it has timesteps. */
export function meanMap(maps, { image, word, first, last, layers }) {
  if (!layers.length || first > last) throw new Error("Choose at least one layer and one timestep.");
  const cells = maps.grid[0] * maps.grid[1];
  const start = (image * maps.words.length + word) * cellsOf(maps);
  const total = new Float64Array(cells);
  let count = 0;
  for (const layer of layers) {
    for (let bin = first; bin <= last; bin += 1) {
      const weight = maps.bins[bin].count;
      const at = start + (layer * maps.bins.length + bin) * cells;
      for (let i = 0; i < cells; i += 1) total[i] += weight * maps.values[at + i];
      count += weight;
    }
  }
  return total.map((value) => value / count);
}

/** Where a map is cut, and the modes behind it for the rules that fit them: `cdlib.masks.thresholds`. */
export function cutMap(map, { rule, percentile = 80, value = 0, seed = 0 }) {
  if (rule === "gmm" || rule === "posterior") {
    const modes = fitTwoGaussians(map, seed);
    const middle = (modes.means[0] + modes.means[1]) / 2;
    return { threshold: rule === "gmm" ? middle : posteriorCut(modes), ...modes };
  }
  if (rule === "otsu") return { threshold: otsu(map) };
  if (rule === "percentile") return { threshold: percentileOf(map, percentile) };
  if (rule === "fixed") return { threshold: value };
  throw new Error(`rule ${rule}: there are ${RULES.join(", ")}.`);
}

/** Where the upper mode becomes the likelier; infinite if one of them is so everywhere. */
function posteriorCut({ means, variances: [v0, v1], weights }) {
  if (v0 === 0 || weights[1] === 0) return means[0]; // a constant map
  // the root of a quadratic in the distance from the lower mean, since far from it squares cancel
  const d = means[1] - means[0];
  const a = 0.5 / v0 - 0.5 / v1;
  const b = d / v1;
  const c = Math.log(weights[1] / weights[0]) + 0.5 * Math.log(v0 / v1) - (0.5 * d * d) / v1;
  const slope = Math.sqrt(Math.max(b * b - 4 * a * c, 0));
  if (slope === 0) return c > 0 ? -Infinity : Infinity;
  return means[0] - (2 * c) / (b + slope);
}

/** Otsu's threshold on a histogram of 256 bins, as skimage has it. */
function otsu(map) {
  const [low, high] = range(map);
  if (low === high) return low;
  const { counts, edges } = histogram(map, 256);
  const centres = counts.map((_, i) => (edges[i] + edges[i + 1]) / 2);
  const below = running(counts, (count) => count);
  const belowSum = running(counts, (count, i) => count * centres[i]);
  const above = running(counts.toReversed(), (count) => count).reverse();
  const aboveSum = running(counts.toReversed(), (count, i) => count * centres[255 - i]).reverse();
  let best = { between: -Infinity };
  for (let i = 0; i < 255; i += 1) {
    const apart = belowSum[i] / below[i] - aboveSum[i + 1] / above[i + 1];
    const between = below[i] * above[i + 1] * (apart * apart);
    if (between > best.between) best = { between, threshold: centres[i] };
  }
  return best.threshold;
}

function running(values, term) {
  let total = 0;
  return values.map((value, i) => (total += term(value, i)));
}

/** NumPy's percentile: linear between the two nearest ranks. */
function percentileOf(map, percentile) {
  const sorted = Float64Array.from(map).sort();
  const place = (sorted.length - 1) * (percentile / 100);
  const below = Math.floor(place);
  const [a, b] = [sorted[below], sorted[Math.min(below + 1, sorted.length - 1)]];
  const t = place - below;
  return t >= 0.5 ? b - (b - a) * (1 - t) : a + (b - a) * t;
}

/** The least and the largest value. */
export function range(map) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of map) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** Counts in bins of equal width from the least to the largest value, as NumPy rounds their edges. */
export function histogram(map, bins) {
  let [low, high] = range(map);
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const step = (high - low) / bins;
  const edges = Array.from({ length: bins + 1 }, (_, i) => (i === bins ? high : i * step + low));
  const counts = new Array(bins).fill(0);
  for (const value of map) {
    let bin = Math.min(Math.trunc(((value - low) / (high - low)) * bins), bins - 1);
    if (value < edges[bin]) bin -= 1;
    if (value >= edges[bin + 1] && bin !== bins - 1) bin += 1;
    counts[bin] += 1;
  }
  return { counts, edges };
}

/** The fitted modes in cells a bin, at 161 places of the map's range; none for rules without modes. */
function modeCurves(map, { means, variances, weights }, bins) {
  const [low, high] = range(map);
  if (!means || variances[0] === 0) return [];
  const scale = (map.length * (high - low)) / bins;
  return means.map((mean, k) =>
    Array.from({ length: 161 }, (_, i) => {
      const x = low + ((high - low) * i) / 160;
      const density = Math.exp((-0.5 * (x - mean) ** 2) / variances[k]) / Math.sqrt(2 * Math.PI * variances[k]);
      return [x, weights[k] * scale * density];
    }),
  );
}

/** Each interior cell gets the majority of its 3x3 block; the border stays. */
export function majorityFilter(mask, height, width) {
  const filtered = mask.slice();
  for (let y = 1; y < height - 1; y += 1) {
    for (let x = 1; x < width - 1; x += 1) {
      let votes = 0;
      for (let dy = -1; dy <= 1; dy += 1) {
        for (let dx = -1; dx <= 1; dx += 1) votes += mask[(y + dy) * width + x + dx];
      }
      filtered[y * width + x] = votes >= 5 ? 1 : 0;
    }
  }
  return filtered;
}

/** Cells repeated to pixels, which is how the book scores M_pre. */
export function upsample(mask, [h, w], [height, width]) {
  const pixels = new Uint8Array(height * width);
  for (let y = 0; y < height; y += 1) {
    const row = Math.floor((y * h) / height) * w;
    for (let x = 0; x < width; x += 1) pixels[y * width + x] = mask[row + Math.floor((x * w) / width)];
  }
  return pixels;
}

/**
 * IoU, precision and recall of a mask. Two empty masks agree: IoU 1, as in `cdlib.metrics`; the
 * precision of an empty mask and the recall of an empty truth do not exist: null.
 */
export function compare(mask, truth) {
  let [hits, marked, there] = [0, 0, 0];
  for (let i = 0; i < truth.length; i += 1) {
    hits += mask[i] & truth[i];
    marked += mask[i];
    there += truth[i];
  }
  const either = marked + there - hits;
  return {
    iou: either ? hits / either : 1,
    precision: marked ? hits / marked : null,
    recall: there ? hits / there : null,
    share: marked / truth.length,
  };
}

/** The outline of a mask along its pixels' edges, as the path of an SVG whose unit is a pixel. */
export function outline(mask, height, width) {
  const at = (y, x) => (y >= 0 && x >= 0 && y < height && x < width ? mask[y * width + x] : 0);
  const edges = [];
  for (let y = 0; y <= height; y += 1) {
    for (let x = 0; x <= width; x += 1) {
      if (at(y, x) !== at(y - 1, x)) edges.push(`M${x} ${y}h1`);
      if (at(y, x) !== at(y, x - 1)) edges.push(`M${x} ${y}v1`);
    }
  }
  return edges.join("");
}

/**
 * Things to try: each with what to look for, and what it changes of the book's settings.
 *
 * Only those that these maps allow: a word of the prompt other than the concept's may be missing.
 */
export function presets(maps) {
  const [{ word: concept }] = maps.words;
  const place = (name, model) =>
    maps.words.findIndex((one, k) => k > 0 && one.word === name && one.model === model);
  const word = (name, asks, model = "m") => ({
    text: `Word “${name}”${model === "m" ? "" : ", fine-tuned"}`,
    asks,
    change: { word: place(name, model) },
  });
  return [
    {
      text: "Noisiest steps only",
      asks: `The picture is almost noise there. Does the model still know where the ${concept} is?`,
      change: { first: maps.bins.length - 1 },
    },
    {
      text: "Cleanest steps only",
      asks: "Little noise: are the edges sharper, and is the inside still one piece?",
      change: { last: 0 },
    },
    word("photo", `Every picture is a photo. Does its word care where the ${concept} is?`),
    word("background", `Before fine-tuning: is it the surroundings that this word holds, or the ${concept}?`),
    word("background", "After fine-tuning on what lies outside the masks: what does it mean now?", "m_prime"),
    {
      text: "Fool the threshold",
      asks: `Percentile 50: half of all cells, however small the ${concept} is. What becomes of the precision?`,
      change: { rule: "percentile", percentile: 50 },
    },
    {
      text: "No majority filter",
      asks: "Stray cells stay, and so do thin parts. Which of the two costs more here?",
      change: { majority: false },
    },
  ].filter(({ change }) => change.word !== -1);
}
