/**
 * Denoising as `cdlib` does it: the DDIM grid, a step, guidance, removal, the mean of attention.
 *
 * Pure: the U-Net comes in as `predict(z, t)`, noise as `noise(use, length)`. Latents are Float32Array
 * of one image, (C, h, w) in a row. abar is the cumulative product of alphas, and
 * z_t = sqrt(abar_t) z0 + sqrt(1 - abar_t) eps.
 */

/**
 * Timesteps in the order of denoising, evenly spaced with an offset: [981, 961, ..., 21, 1] for 50.
 *
 * @param {object} schedule the manifest's "schedule"
 */
export function ddimTimesteps(schedule, steps) {
  const { trained_steps: trained, offset } = schedule;
  if (!Number.isInteger(steps) || steps < 1 || steps >= trained) {
    throw new Error(`steps = ${steps}: must be a whole number from 1 to ${trained - 1}.`);
  }
  const gap = Math.floor(trained / steps);
  return Array.from({ length: steps }, (_, i) => (steps - 1 - i) * gap + offset);
}

/** K of the t0 least noisy timesteps of the grid, rising, spread evenly; all of them for K = t0. */
export function leastNoisy(schedule, steps, t0, passes = t0) {
  const all = ddimTimesteps(schedule, steps).reverse().slice(0, t0);
  return Array.from({ length: passes }, (_, i) => all[Math.floor(((i + 0.5) * t0) / passes)]);
}

/** sqrt(abar) and sqrt(1 - abar). */
const rates = (abar) => [Math.sqrt(abar), Math.sqrt(1 - abar)];

/** abar of what step i of the grid leads to. */
function abarAfter(schedule, timesteps, i) {
  const { alphas_cumprod: abars, final_alpha_cumprod: last, trained_steps: trained } = schedule;
  const t = timesteps[i] - Math.floor(trained / timesteps.length);
  return t >= 0 ? abars[t] : last;
}

/** sqrt(abar) z0 + sqrt(1 - abar) eps. */
export function addNoise(z0, eps, abar) {
  const [signal, noise] = rates(abar);
  return z0.map((value, i) => signal * value + noise * eps[i]);
}

/** What the U-Net's output says of z_t: clean latents and the noise in them. */
export function cleanAndNoise(z, output, abar, prediction) {
  const [signal, noise] = rates(abar);
  if (prediction === "epsilon") {
    return { z0: z.map((value, i) => (value - noise * output[i]) / signal), eps: output };
  }
  // v = sqrt(abar) eps - sqrt(1 - abar) z0 (Salimans and Ho, 2022, appendix D)
  return {
    z0: z.map((value, i) => signal * value - noise * output[i]),
    eps: z.map((value, i) => signal * output[i] + noise * value),
  };
}

/** One step of DDIM without noise of its own (Song et al., 2021, Eq. 12 with sigma = 0). */
export function ddimStep(z, output, abar, abarNext, prediction) {
  const { z0, eps } = cleanAndNoise(z, output, abar, prediction);
  return { z: addNoise(z0, eps, abarNext), z0 };
}

/**
 * The sum of outputs under several prompts, whose weights add up to 1: eps and v alike are linear.
 *
 * @param {Float32Array[]} outputs @param {number[]} weights
 */
export function weighted(outputs, weights) {
  return outputs[0].map((_, i) => outputs.reduce((sum, one, k) => sum + weights[k] * one[i], 0));
}

/**
 * Prompts with their weights for eps(base) + scale [eps(towards) - eps(base)]; one that weighs
 * nothing needs no pass.
 */
export function guided(base, towards, scale) {
  const all = [{ prompt: base, weight: 1 - scale }, { prompt: towards, weight: scale }];
  return all.filter(({ weight }) => weight !== 0);
}

/**
 * From noise to an image's latents.
 *
 * @param {(z: Float32Array, t: number) => Promise<Float32Array>} predict the output, guided
 * @yields {{step: number, steps: number, t: number, z: Float32Array, z0: Float32Array}} z0 is what the
 *   model takes the latents for; after the last step z itself
 */
export async function* denoise({ schedule, steps, length, noise, predict }) {
  const { alphas_cumprod: abars, prediction_type: prediction } = schedule;
  const timesteps = ddimTimesteps(schedule, steps);
  let z = noise("start", length);
  for (const [i, t] of timesteps.entries()) {
    const output = await predict(z, t);
    const after = ddimStep(z, output, abars[t], abarAfter(schedule, timesteps, i), prediction);
    z = after.z;
    yield { step: i + 1, steps, t, z, z0: i + 1 === steps ? z : after.z0 };
  }
}

/**
 * What a mask covers, painted anew: `cdlib.remove` on the DDIM grid.
 *
 * Before every step what is known is put in place, noised anew ("noised") or as it is ("clean"); with
 * `resample` above 1 a step is taken so often, from its own result noised back (RePaint: Lugmayr et
 * al., 2022).
 *
 * @param {Float32Array} z0 the image's latents @param {Uint8Array} hole 1 where to paint, (h, w)
 * @yields the same as `denoise`, after every take: `pass` of `passes` counts them
 */
export async function* removal({
  schedule, steps, z0: known, hole, resample = 1, surroundings = "noised", noise, predict,
}) {
  const { alphas_cumprod: abars, prediction_type: prediction } = schedule;
  const timesteps = ddimTimesteps(schedule, steps);
  const clean = surroundings === "clean";
  const fill = (inside, outside) => inside.map((value, i) => (hole[i % hole.length] ? value : outside[i]));
  let z = noise("start", known.length);
  let pass = 0;
  for (const [i, t] of timesteps.entries()) {
    const next = abarAfter(schedule, timesteps, i);
    for (let take = 0; take < resample; take += 1) {
      const label = `step=${i}${take ? ` take=${take}` : ""}`;
      // back to where it came from: signal falls by sqrt(abar_t / abar_next)
      if (take) z = addNoise(z, noise(`back ${label}`, z.length), abars[t] / next);
      const around = clean ? known : addNoise(known, noise(`known ${label}`, z.length), abars[t]);
      z = fill(z, around);
      const output = await predict(z, t);
      const after = ddimStep(z, output, abars[t], next, prediction);
      const last = i + 1 === steps && take + 1 === resample;
      const guess = last ? after.z : after.z0;
      z = after.z;
      pass += 1;
      yield {
        step: i + 1, steps, pass, passes: steps * resample, t, z, z0: clean ? fill(guess, known) : guess,
      };
    }
  }
}

/** The hole made wider by so many cells in every direction, diagonals too: `cdlib.masks.dilate_mask`. */
export function dilate(mask, height, width, cells) {
  return mask.map((_, at) => {
    const [row, column] = [Math.floor(at / width), at % width];
    for (let y = Math.max(0, row - cells); y <= Math.min(height - 1, row + cells); y += 1) {
      for (let x = Math.max(0, column - cells); x <= Math.min(width - 1, column + cells); x += 1) {
        if (mask[y * width + x]) return 1;
      }
    }
    return 0;
  });
}

/** A running mean of attention, (tokens, cells) a pass. */
export class MeanAttention {
  constructor(cells) {
    this.cells = cells;
    this.count = 0;
  }

  add(attention) {
    this.sum ??= new Float64Array(attention.length);
    for (let i = 0; i < attention.length; i += 1) this.sum[i] += attention[i];
    this.count += 1;
  }

  /** The map of a word: its pieces' maps added, as `cdlib.capture_attention` does. */
  map(positions) {
    const map = new Float32Array(this.cells);
    for (let i = 0; i < this.cells; i += 1) {
      for (const k of positions) map[i] += this.sum[k * this.cells + i] / this.count;
    }
    return map;
  }
}
