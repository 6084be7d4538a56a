// IEEE 754 half precision, as NumPy's float16 writes it, to numbers that JavaScript has everywhere.

/**
 * Decode float16 bit patterns; every one of them, subnormals, infinities and NaN too, exactly.
 *
 * @param {Uint16Array} bits one element a number, from little-endian bytes as all browsers are
 * @returns {Float32Array} as many numbers
 */
export function decodeHalf(bits) {
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i += 1) {
    const exponent = (bits[i] >> 10) & 0x1f;
    const fraction = bits[i] & 0x3ff;
    const sign = bits[i] & 0x8000 ? -1 : 1;
    if (exponent === 0x1f) {
      values[i] = fraction ? NaN : sign * Infinity;
    } else if (exponent === 0) {
      values[i] = sign * fraction * 2 ** -24;
    } else {
      values[i] = sign * (fraction + 0x400) * POWERS[exponent];
    }
  }
  return values;
}

/** 2 ** (exponent - 25): what the last bit of a normal number stands for. */
const POWERS = Float32Array.from({ length: 31 }, (_, exponent) => 2 ** (exponent - 25));
