/** Random numbers of the page's own: the same seed draws the same picture, in every browser. */

/** 32 bits from a text (FNV-1a). */
function hash(text) {
  let bits = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) bits = Math.imul(bits ^ byte, 0x01000193);
  return bits >>> 0;
}

/** Uniform numbers in [0, 1) with 32 bits: sfc32 (Doty-Humphrey), which passes PractRand. */
function uniform(seed, stream) {
  let [a, b, c, count] = [seed | 0, hash(stream), 0x9e3779b9 | 0, 1];
  const next = () => {
    const sum = (((a + b) | 0) + count) | 0;
    count = (count + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 15; i += 1) next(); // until every bit of the seed has reached every word
  return next;
}

/**
 * Standard normal numbers by Box and Muller's transform.
 *
 * @param {number} seed a whole number
 * @param {string} stream names the use ("start", "encode", ...), so that uses do not share numbers
 * @param {number} length how many
 * @returns {Float32Array}
 */
export function normal(seed, stream, length) {
  const next = uniform(seed, stream);
  const values = new Float32Array(length);
  for (let i = 0; i < length; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - next()));
    const angle = 2 * Math.PI * next();
    values[i] = radius * Math.cos(angle);
    if (i + 1 < length) values[i + 1] = radius * Math.sin(angle);
  }
  return values;
}

/** The noise of one seed: from a use and a length to numbers. */
export const noiseOf = (seed) => (stream, length) => normal(seed, stream, length);
