/**
 * The model: its parts loaded and run. No page in here: it works in a worker and in Node alike.
 *
 *     const engine = new Engine({ ort, manifest, get });
 *     await engine.load();
 *     for await (const state of engine.draw({ prompt: "a photo of a bird", seed: 1 })) show(state);
 *
 * Images are Float32Array (H, W, 3) in [0, 1]; attention and masks are on the latent grid. What draws,
 * looks and removes are generators that yield their state after every pass of the U-Net, the last one
 * with `done: true`; leave the loop, and the work ends.
 */
import {
  MeanAttention, addNoise, denoise, dilate, guided, leastNoisy, removal, weighted,
} from "./diffusion.js";
import { noiseOf } from "./noise.js";
import { addDifference, gunzip, unpack, widen } from "./packing.js";
import { Tokenizer } from "./tokens.js";

const PARTS = ["text", "unet", "encoder", "decoder"];

export class Engine {
  /**
   * @param {object} ort onnxruntime-web @param {object} manifest model.json
   * @param {(file: string) => Promise<Uint8Array>} get the bytes of a file of the manifest's folder
   */
  constructor({ ort, manifest, get }) {
    Object.assign(this, { ort, manifest, get });
    this.tokenizer = new Tokenizer(manifest.tokenizer);
    const { channels, height, width } = manifest.latent;
    this.cells = height * width;
    this.length = channels * this.cells;
    this.shape = [channels, height, width];
    this.sessions = {};
    this.encoded = new Map();
    this.clock = { passes: 0, milliseconds: 0 }; // passes of the U-Net, for an image each
  }

  /** Fetch all parts but m' and make them ready. */
  async load() {
    await this.fetchAll();
    await this.start();
  }

  async fetchAll() {
    const one = async (name) => [name, await Promise.all([this.#graph(name), this.#halves(name)])];
    this.fetched = Object.fromEntries(await Promise.all(PARTS.map(one)));
  }

  async start() {
    for (const [name, [graph, halves]] of Object.entries(this.fetched)) {
      this.sessions[name] = await this.#session(graph, name, halves);
    }
    const [graph, halves] = this.fetched.unet;
    this.unet = { graph, halves }; // m' has the same graph, and weights told from these
    delete this.fetched;
  }

  /** Fetch m' too, unless it is there. */
  async loadTuned() {
    if (this.sessions.m_prime) return;
    if (!this.manifest.parts.m_prime) throw new Error("This page has no fine-tuned weights.");
    const halves = addDifference(await this.#halves("m_prime"), this.unet.halves);
    this.sessions.m_prime = await this.#session(this.unet.graph, "unet", halves);
  }

  /** Milliseconds that one pass of the U-Net took on average, for one image and one prompt. */
  get passTime() {
    return this.clock.milliseconds / this.clock.passes;
  }

  /** A prompt as the U-Net reads it, (L, D); refuses what the model would cut. */
  async encode(prompt) {
    if (this.encoded.has(prompt)) return this.encoded.get(prompt);
    const [tokens, limit] = [this.tokenizer.count(prompt), this.manifest.tokenizer.length];
    if (tokens > limit) {
      throw new Error(`The prompt has ${tokens} tokens; this model reads ${limit}, start and end included.`);
    }
    const ids = BigInt64Array.from(this.tokenizer.encode(prompt), BigInt);
    const feeds = { ids: new this.ort.Tensor("int64", ids, [1, ids.length]) };
    const { embeddings } = await this.sessions.text.run(feeds);
    this.encoded.set(prompt, embeddings.data);
    return embeddings.data;
  }

  /**
   * A picture from a prompt, by DDIM under classifier-free guidance (none up to a guidance of 1).
   *
   * @param {number} every decode the state after so many steps; the last one always
   * @yields {{step, steps, t, image?, done}} the last one with `words`: each of the prompt, with its
   *   attention averaged over steps
   */
  async *draw({ prompt, seed = 0, steps = 20, guidance = 4, every = 1, noise = noiseOf(seed) }) {
    const prompts = guided("", prompt, Math.max(guidance, 1));
    const attention = new MeanAttention(this.cells);
    const predict = await this.#predictor("unet", prompts, (maps) => attention.add(maps));
    const { schedule } = this.manifest;
    for await (const state of denoise({ schedule, steps, length: this.length, noise, predict })) {
      const done = state.step === steps;
      const image = done || state.step % every === 0 ? await this.decode(state.z0) : null;
      const words = done ? this.#wordMaps(prompt, attention) : null;
      yield { step: state.step, steps, t: state.t, image, words, done };
    }
  }

  /**
   * Where the model sees a word in a picture: M_hat, the mean over `passes` of the run's timesteps.
   *
   * @yields {{step, steps, map: Float32Array, done}} the mean so far
   */
  async *look({ image, prompt, word, passes, seed = 0, noise = noiseOf(seed) }) {
    const { schedule, run } = this.manifest;
    const positions = this.tokenizer.find(prompt, word);
    if (!positions.length) throw new Error(`“${word}” is not in the prompt “${prompt}”.`);
    const timesteps = leastNoisy(schedule, run.steps, run.t0, passes);
    const attention = new MeanAttention(this.cells);
    const predict = await this.#predictor("unet", [{ prompt, weight: 1 }], (maps) => attention.add(maps));
    const z0 = await this.encodeImage(image, noise);
    for (const [i, t] of timesteps.entries()) {
      const eps = noise(`forward t=${t} draw=0`, this.length);
      await predict(addNoise(z0, eps, schedule.alphas_cumprod[t]), t);
      const done = i + 1 === timesteps.length;
      yield { step: i + 1, steps: timesteps.length, map: attention.map(positions), done };
    }
  }

  /**
   * A picture with what a mask covers painted over, by m or m' (`model`: "m" or "m_prime").
   *
   * @param {Uint8Array} mask on the latent grid @param {number} guidance s in
   *   eps(y_b) + s [eps(y_f) - eps(y_b)]: 0 is y_b alone, below it pushes away from the object
   * @yields {{step, steps, pass, passes, image?, done}}
   */
  async *remove({
    image, mask, model = "m_prime", y_b, y_f, guidance = 0, steps, resample = 1, dilate: wider = 0,
    surroundings = "noised", seed = 0, every = 1, noise = noiseOf(seed),
  }) {
    if (model === "m_prime") await this.loadTuned();
    const predict = await this.#predictor(model === "m" ? "unet" : model, guided(y_b, y_f, guidance));
    const z0 = await this.encodeImage(image, noise);
    const [, height, width] = this.shape;
    const hole = dilate(mask, height, width, wider);
    const { schedule } = this.manifest;
    const settings = { schedule, steps, z0, hole, resample, surroundings, noise, predict };
    for await (const { z0: guess, pass, passes, step } of removal(settings)) {
      const done = pass === passes;
      const shown = done || pass % every === 0 ? await this.decode(guess) : null;
      yield { step, steps, pass, passes, image: shown, done };
    }
  }

  /** Latents of a picture, a sample of the encoder's posterior as `cdlib.models.encode_images` takes. */
  async encodeImage(image, noise) {
    const { height, width } = this.manifest.image;
    const pixels = image.length / 3;
    if (pixels !== height * width) throw new Error(`The picture must be ${width} × ${height} pixels.`);
    const planes = image.map((_, i) => image[(i % pixels) * 3 + Math.floor(i / pixels)]);
    const feeds = { images: this.#tensor(planes, [1, 3, height, width]) };
    const { mean, std } = await this.sessions.encoder.run(feeds);
    const eps = noise("encode", mean.data.length);
    return mean.data.map((value, i) => value + std.data[i] * eps[i]);
  }

  /** Latents to a picture. */
  async decode(z) {
    const { images } = await this.sessions.decoder.run({ latents: this.#tensor(z, [1, ...this.shape]) });
    const pixels = images.data.length / 3;
    return images.data.map((_, i) => images.data[(i % 3) * pixels + Math.floor(i / 3)]);
  }

  /** The U-Net under weighted prompts, all in one pass; `see` gets the last prompt's attention. */
  async #predictor(name, prompts, see = () => {}) {
    const session = this.sessions[name];
    const count = prompts.length;
    const embeddings = [];
    for (const { prompt } of prompts) embeddings.push(await this.encode(prompt));
    const tokens = this.manifest.tokenizer.length;
    const y = this.#tensor(join(embeddings), [count, tokens, embeddings[0].length / tokens]);
    const weights = prompts.map(({ weight }) => weight);
    return async (z, t) => {
      const start = performance.now();
      const { prediction, attention } = await session.run({
        sample: this.#tensor(join(prompts.map(() => z)), [count, ...this.shape]),
        timestep: this.#tensor(new Float32Array(count).fill(t), [count]),
        embeddings: y,
      });
      this.clock.milliseconds += performance.now() - start;
      this.clock.passes += count;
      see(attention.data.subarray((count - 1) * tokens * this.cells));
      const { length } = this;
      const outputs = prompts.map((_, k) => prediction.data.subarray(k * length, (k + 1) * length));
      return weighted(outputs, weights);
    };
  }

  #wordMaps(prompt, attention) {
    return this.tokenizer
      .words(prompt)
      .map(({ word, positions }) => ({ word, map: attention.map(positions) }));
  }

  #tensor(values, shape) {
    return new this.ort.Tensor("float32", values, shape);
  }

  async #graph(name) {
    return gunzip(await this.get(this.manifest.parts[name].graph.file));
  }

  async #halves(name) {
    const { weights, values } = this.manifest.parts[name];
    const halves = await unpack(await this.get(weights.file));
    if (halves.length !== values) throw new Error(`${weights.file}: ${halves.length} weights, not ${values}.`);
    return halves;
  }

  async #session(graph, name, halves) {
    const externalData = [{ path: this.manifest.parts[name].location, data: widen(halves) }];
    return this.ort.InferenceSession.create(graph, { executionProviders: ["wasm"], externalData });
  }
}

/** The bytes of all parts that loading needs, or of those named. */
export function bytesOf(manifest, names = PARTS) {
  return names.reduce((total, name) => {
    const { graph, weights } = manifest.parts[name];
    return total + weights.bytes + (graph?.bytes ?? 0);
  }, 0);
}

function join(arrays) {
  const whole = new Float32Array(arrays.reduce((total, one) => total + one.length, 0));
  let at = 0;
  for (const one of arrays) {
    whole.set(one, at);
    at += one.length;
  }
  return whole;
}
