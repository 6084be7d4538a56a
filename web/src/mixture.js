/**
 * Two Gaussians fitted to the values of a map, as `cdlib.masks.fit_two_gaussians` does it.
 *
 * cdlib asks scikit-learn, whose fit depends on where it starts and on when it stops: k-means++ draws
 * three random numbers, k-means ends in a local optimum or once its centres hardly move, and so does EM.
 * Starting instead from the best split of the sorted values, which needs no draws, gave another
 * threshold on 81 of 396 maps of the pocket model (12 scenes, 3 words, 10 groups of timesteps and their
 * mean). So we follow it step by step: NumPy's generator, k-means++, Lloyd's iterations, EM. Of these
 * maps and of 278 made up for the tests, ties included, all then agree to 1e-9 of their range.
 */

/**
 * @param {ArrayLike<number>} values P >= 2 finite numbers
 * @param {number} seed what is given to scikit-learn as random_state
 * @returns {{means: number[], variances: number[], weights: number[]}} two of each, the lower mean
 *   first. Constant values have one mode: both means equal it, variances are 0, weights [1, 0].
 */
export function fitTwoGaussians(values, seed = 0) {
  const [centre, scale] = meanAndSpread(values);
  const same = values.every((value) => value === values[0]);
  if (same || scale <= 1e-12 * Math.max(1, Math.abs(centre))) {
    return { means: [centre, centre], variances: [0, 0], weights: [1, 0] };
  }
  const x = Float64Array.from(values, (value) => (value - centre) / scale);
  const { means, variances, weights } = expectationMaximisation(x, kMeansLabels(x, seed));
  const order = means[0] <= means[1] ? [0, 1] : [1, 0];
  return {
    means: order.map((k) => means[k] * scale + centre),
    variances: order.map((k) => variances[k] * scale ** 2),
    weights: order.map((k) => weights[k]),
  };
}

/** The sum in NumPy's order, in pairs of parts (eight running sums in parts of up to 128). */
function sum(values, from = 0, to = values.length) {
  const count = to - from;
  if (count > 128) {
    const middle = from + 8 * Math.floor(count / 16);
    return sum(values, from, middle) + sum(values, middle, to);
  }
  const parts = new Float64Array(8);
  const whole = from + count - (count % 8);
  for (let i = from; i < whole; i += 1) parts[(i - from) % 8] += values[i];
  const [a, b, c, d, e, f, g, h] = parts;
  let total = a + b + (c + d) + (e + f + (g + h));
  for (let i = whole; i < to; i += 1) total += values[i];
  return total;
}

function meanAndSpread(values) {
  const mean = sum(values) / values.length;
  const squares = Float64Array.from(values, (value) => (value - mean) * (value - mean));
  return [mean, Math.sqrt(sum(squares) / values.length)];
}

/** The first numbers in [0, 1) of NumPy's RandomState(seed), at most 100 (Matsumoto and Nishimura, 1998). */
export function randomNumbers(seed, count) {
  const state = new Uint32Array(624);
  state[0] = seed;
  for (let i = 1; i < 624; i += 1) {
    const before = state[i - 1];
    state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i;
  }
  const word = (i) => {
    const joined = (state[i] & 0x80000000) | (state[i + 1] & 0x7fffffff);
    let y = state[i + 397] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
  // two words make the 53 bits of a double
  const number = (k) => ((word(2 * k) >>> 5) * 2 ** 26 + (word(2 * k + 1) >>> 6)) / 2 ** 53;
  return Array.from({ length: count }, (_, k) => number(k));
}

/** Which of the two clusters each value is in, 0 or 1, as sklearn.cluster.KMeans(2, n_init=1) has it. */
function kMeansLabels(values, seed) {
  const [mean, spread] = meanAndSpread(values);
  const x = values.map((value) => value - mean); // 0 up to rounding, which decides ties
  let centres = firstCentres(x, randomNumbers(seed, 3));
  const tolerance = 1e-4 * spread ** 2;
  let labels = null;
  for (let round = 0; round < 300; round += 1) {
    const before = labels;
    labels = nearest(x, centres);
    if (before !== null && labels.every((label, i) => label === before[i])) return labels;
    const moved = means(x, labels);
    const shift = (moved[0] - centres[0]) ** 2 + (moved[1] - centres[1]) ** 2;
    centres = moved;
    if (shift <= tolerance) break;
  }
  return nearest(x, centres);
}

/** Greedy k-means++ (Arthur and Vassilvitskii, 2007): the second centre is the better of two drawn. */
function firstCentres(x, [u0, ...others]) {
  // all values weigh the same, but their sums round, and scikit-learn adds them up
  const first = x[countBelow(cumulated(new Float64Array(x.length).fill(1 / x.length)), u0, true)];
  const distances = squaredDistances(x, first);
  const sums = cumulated(distances);
  const potential = sums[sums.length - 1];
  let best = { left: Infinity };
  for (const u of others) {
    const candidate = x[Math.min(countBelow(sums, u * potential, false), x.length - 1)];
    const left = sum(squaredDistances(x, candidate).map((d, i) => Math.min(d, distances[i])));
    if (left < best.left) best = { left, candidate };
  }
  return [first, best.candidate];
}

function cumulated(values) {
  let total = 0;
  return Float64Array.from(values, (value) => (total += value));
}

/** How many of the rising numbers lie below `value`, with `through` also those that equal it. */
function countBelow(rising, value, through) {
  const at = rising.findIndex((one) => (through ? one > value : one >= value));
  return at < 0 ? rising.length : at;
}

/** Expanded as in scikit-learn, whose rounding decides between values that are equally far. */
function squaredDistances(x, centre) {
  return x.map((value) => Math.max(0, -2 * (centre * value) + centre * centre + value * value));
}

function nearest(x, [a, b]) {
  return Uint8Array.from(x, (value) => (b * b - 2 * value * b < a * a - 2 * value * a ? 1 : 0));
}

function means(x, labels) {
  const totals = [0, 0];
  const counts = [0, 0];
  for (let i = 0; i < x.length; i += 1) {
    totals[labels[i]] += x[i];
    counts[labels[i]] += 1;
  }
  return totals.map((total, k) => total * (1 / counts[k]));
}

const TOLERANCE = 1e-3; // of the mean log-likelihood, scikit-learn's default, as are the next two
const ROUNDS = 100;
const LEAST_VARIANCE = 1e-6; // added to both variances in every round

/** sklearn.mixture.GaussianMixture(2).fit of values that are already of unit scale. */
function expectationMaximisation(x, labels) {
  const upper = Float64Array.from(labels); // the responsibilities of mode 1
  const lower = upper.map((r) => 1 - r);
  let modes = maximise(x, lower, upper, x.length);
  let bound = -Infinity;
  for (let round = 0; round < ROUNDS; round += 1) {
    const before = bound;
    bound = expect(x, modes, lower, upper);
    modes = maximise(x, lower, upper, null);
    if (Math.abs(bound - before) < TOLERANCE) break; // a fit that still creeps is used as it is
  }
  return modes;
}

/** Fill in the responsibilities; the mean log-likelihood. */
function expect(x, { means, variances, weights }, lower, upper) {
  const log = variances.map((v, k) => Math.log(weights[k]) - 0.5 * Math.log(2 * Math.PI * v));
  let total = 0;
  for (let i = 0; i < x.length; i += 1) {
    const a = log[0] - (0.5 * (x[i] - means[0]) ** 2) / variances[0];
    const b = log[1] - (0.5 * (x[i] - means[1]) ** 2) / variances[1];
    const both = Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));
    lower[i] = Math.exp(a - both);
    upper[i] = Math.exp(b - both);
    total += both;
  }
  return total / x.length;
}

/** Means, variances and weights for the responsibilities; `count` is what weights are shares of. */
function maximise(x, lower, upper, count) {
  const sides = [lower, upper];
  const sizes = sides.map((r) => sum(r) + 10 * Number.EPSILON);
  const centres = sides.map((r, k) => {
    let total = 0;
    for (let i = 0; i < x.length; i += 1) total += r[i] * x[i];
    return total / sizes[k];
  });
  const variances = sides.map((r, k) => {
    let total = 0;
    for (let i = 0; i < x.length; i += 1) total += r[i] * (x[i] - centres[k]) ** 2;
    return total / sizes[k] + LEAST_VARIANCE;
  });
  const whole = count ?? sizes[0] + sizes[1];
  return { means: centres, variances, weights: sizes.map((size) => size / whole) };
}
