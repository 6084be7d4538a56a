// The small parts of the page's model that need no weights.
import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import {
  MeanAttention, addNoise, cleanAndNoise, ddimTimesteps, denoise, dilate, guided, leastNoisy, removal, weighted,
} from "../src/diffusion.js";
import { noiseOf, normal } from "../src/noise.js";
import { addDifference, gunzip, joinPlanes, unpack, widen } from "../src/packing.js";
import { placeWord, replaceWord, unknownWords } from "../src/prompting.js";
import { Tokenizer, nearestWord } from "../src/tokens.js";

const schedule = {
  trained_steps: 1000,
  alphas_cumprod: Array.from({ length: 1000 }, (_, t) => Math.cos((t / 1000) * 1.5) ** 2 * 0.999),
  final_alpha_cumprod: 0.999,
  prediction_type: "v_prediction",
  offset: 1,
};

test("packed weights come back, from a server that decompresses too", async () => {
  const planes = Uint8Array.of(0x00, 0x01, 0xff, 0x3c, 0xc0, 0x7b); // 1, -2.001953125, 65504
  const halves = await unpack(gzipSync(planes));
  assert.deepEqual([...halves], [0x3c00, 0xc001, 0x7bff]);
  assert.deepEqual([...new Float32Array(widen(halves).buffer)], [1, -2.001953125, 65504]);
  assert.deepEqual(await gunzip(planes), planes);
  assert.throws(() => joinPlanes(new Uint8Array(3)), /3 bytes/);
});

test("differences of bit patterns wrap around", () => {
  const base = Uint16Array.of(0, 65535, 40000);
  assert.deepEqual([...addDifference(Uint16Array.of(65535, 2, 40000), base)], [65535, 1, 14464]);
  assert.throws(() => addDifference(new Uint16Array(2), base), /2 differences, for 3/);
});

test("noise is normal, the same for a seed, another for another seed or use", () => {
  const values = normal(7, "start", 100001);
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const moment = (power) => values.reduce((sum, x) => sum + (x - mean) ** power, 0) / values.length;
  assert.ok(Math.abs(mean) < 0.015);
  assert.ok(Math.abs(moment(2) - 1) < 0.02);
  assert.ok(Math.abs(moment(4) - 3) < 0.12);
  assert.deepEqual(normal(7, "start", 64), values.slice(0, 64));
  const correlation = (other) => Math.abs(values.reduce((sum, x, i) => sum + x * other[i], 0) / values.length);
  assert.ok(correlation(normal(8, "start", values.length)) < 0.015);
  assert.ok(correlation(normal(7, "encode", values.length)) < 0.015);
});

test("the grid is cdlib's", () => {
  assert.deepEqual(ddimTimesteps(schedule, 50).slice(0, 2), [981, 961]);
  assert.deepEqual(ddimTimesteps(schedule, 3), [667, 334, 1]);
  assert.deepEqual(leastNoisy(schedule, 50, 40).slice(-1), [781]);
  assert.deepEqual(leastNoisy(schedule, 50, 40, 2), [201, 601]);
  assert.throws(() => ddimTimesteps(schedule, 0), /from 1 to 999/);
});

test("clean latents and noise are what was mixed, for eps and for v", () => {
  const [z0, eps, abar] = [Float32Array.of(0.5, -2), Float32Array.of(1, 0.25), 0.3];
  const z = addNoise(z0, eps, abar);
  const v = z.map((_, i) => Math.sqrt(abar) * eps[i] - Math.sqrt(1 - abar) * z0[i]);
  for (const [prediction, output] of [["epsilon", eps], ["v_prediction", v]]) {
    const found = cleanAndNoise(z, output, abar, prediction);
    for (const i of [0, 1]) {
      assert.ok(Math.abs(found.z0[i] - z0[i]) < 1e-5 && Math.abs(found.eps[i] - eps[i]) < 1e-5, prediction);
    }
  }
});

test("guidance leaves out what weighs nothing", () => {
  assert.deepEqual(guided("a", "b", 0).map(({ prompt }) => prompt), ["a"]);
  assert.deepEqual(guided("a", "b", 1).map(({ prompt }) => prompt), ["b"]);
  const both = guided("a", "b", -1).map(({ weight }) => weight);
  assert.deepEqual(both, [2, -1]);
  assert.deepEqual([...weighted([Float32Array.of(1, 2), Float32Array.of(3, 5)], both)], [-1, -1]);
});

/** A model that knows the truth: its v leads every latent to the same picture. */
const knows = (truth) => async (z, t) => {
  const [signal, noise] = [Math.sqrt(schedule.alphas_cumprod[t]), Math.sqrt(1 - schedule.alphas_cumprod[t])];
  return z.map((value, i) => (signal * value - truth[i]) / noise);
};

test("denoising ends where a perfect model points, removal in the hole alone", async () => {
  const [truth, known] = [new Float32Array(8).fill(0.7), new Float32Array(8).fill(-0.4)];
  const settings = { schedule, steps: 5, noise: noiseOf(1), predict: knows(truth) };
  let state = null;
  for await (state of denoise({ ...settings, length: 8 }));
  assert.ok(state.z0.every((value, i) => Math.abs(value - truth[i]) < 0.1));
  const hole = Uint8Array.of(1, 0, 0, 0); // of two channels of 2 x 2
  const clean = { ...settings, z0: known, hole, resample: 2, surroundings: "clean" };
  for await (state of removal(clean));
  assert.equal(state.pass, 10);
  assert.deepEqual([...state.z0].map((value) => value > 0), [0, 1, 2, 3, 4, 5, 6, 7].map((i) => i % 4 === 0));
});

test("a mask is widened diagonally too, and not around the border", () => {
  const mask = Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  assert.deepEqual([...dilate(mask, 3, 4, 1)], [0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0]);
  assert.deepEqual(dilate(mask, 3, 4, 0), mask);
});

test("attention is averaged over passes, a word's pieces added", () => {
  const mean = new MeanAttention(2);
  mean.add(Float32Array.of(1, 2, 3, 4));
  mean.add(Float32Array.of(3, 4, 5, 6));
  assert.deepEqual([...mean.map([1])], [4, 5]);
  assert.deepEqual([...mean.map([0, 1])], [6, 8]);
});

const manifest = {
  words: {
    objects: ["bird", "dog"], colours: ["red", "blue"], places: ["grass", "snow"], small: ["a", "photo", "of", "on", "in", "the", "and"],
  },
  places: { grass: "on the grass", snow: "in the snow" },
};

test("words go where they belong", () => {
  const placed = (prompt, word) => placeWord(prompt, word, manifest);
  assert.equal(placed("a photo of a bird", "red"), "a photo of a red bird");
  assert.equal(placed("a photo of a red bird", "blue"), "a photo of a blue bird");
  assert.equal(placed("a photo of a red bird", "dog"), "a photo of a red dog");
  assert.equal(placed("a photo of a Bird", "snow"), "a photo of a Bird in the snow");
  assert.equal(placed("a bird in the snow", "grass"), "a bird on the grass");
  assert.equal(placed("a photo of snow", "grass"), "a photo of grass");
  assert.equal(placed("", "bird"), "a photo of a bird");
  assert.equal(placed("a photo of", "dog"), "a photo of a dog");
  assert.equal(placed("a red", "dog"), "a red dog");
  assert.equal(placed("a photo", "of"), "a photo of");
  assert.equal(placed("a photo", "blue"), "a photo blue");
});

test("an unknown word is told with its nearest", () => {
  const letters = "abcdefghijklmnopqrstuvwxyz".split("").flatMap((c) => [c, `${c}</w>`]);
  const vocabulary = Object.fromEntries(letters.map((piece, id) => [piece, id]));
  const tokenizer = new Tokenizer({
    vocabulary, merges: [["r", "d</w>"]], end_of_word: "</w>", start: 90, end: 91, pad: 91, unknown: 91, length: 9,
  });
  const strange = unknownWords("A photo of a brid, a brid and a zeppelin", tokenizer, manifest);
  assert.deepEqual(strange, [
    { word: "brid", nearest: "bird" }, { word: ",", nearest: null }, { word: "zeppelin", nearest: null },
  ]);
  assert.equal(replaceWord("a Brid and a brid", "brid", "bird"), "a bird and a bird");
  assert.equal(nearestWord("gras", manifest.words.places), "grass");
});
