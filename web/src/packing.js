/** Weights as `cdlib/explore/packing.py` packs them, and files that tell how far they have come. */
import { decodeHalf } from "./half.js";

/** Is it gzip by its first bytes? Some servers decompress on the way, most do not. */
const isGzip = (bytes) => bytes[0] === 0x1f && bytes[1] === 0x8b;

/** @param {Uint8Array} bytes gzipped or not @returns {Promise<Uint8Array>} what was in it */
export async function gunzip(bytes) {
  if (!isGzip(bytes)) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** All low bytes, then all high bytes, to 16-bit patterns. */
export function joinPlanes(bytes) {
  if (bytes.length % 2) throw new Error(`weights: ${bytes.length} bytes are no two planes.`);
  const halves = new Uint16Array(bytes.length / 2);
  const high = bytes.subarray(halves.length);
  for (let i = 0; i < halves.length; i += 1) halves[i] = bytes[i] | (high[i] << 8);
  return halves;
}

/** Patterns from how far they lie from others; wraps around at 2 ** 16, as it was taken. */
export function addDifference(difference, base) {
  if (difference.length !== base.length) {
    throw new Error(`weights: ${difference.length} differences, for ${base.length} weights.`);
  }
  return difference.map((step, i) => step + base[i]); // a Uint16Array wraps by itself
}

/** @returns {Promise<Uint16Array>} the bit patterns of a packed file */
export const unpack = async (bytes) => joinPlanes(await gunzip(bytes));

/** Bit patterns to the float32 bytes that an ONNX graph expects beside it. */
export const widen = (halves) => new Uint8Array(decodeHalf(halves).buffer);

/**
 * Fetch a file in pieces.
 *
 * @param {string} url
 * @param {(bytes: number) => void} onBytes told of every piece that has come, by its length
 * @returns {Promise<Uint8Array>}
 */
export async function fetchBytes(url, onBytes = () => {}) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
  const pieces = [];
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    onBytes(value.length);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}
