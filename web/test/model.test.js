// The model of the page against cdlib's, on what tests/test_explore_onnx.py writes (MODEL_FIXTURE).
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { before, test } from "node:test";
import * as ort from "onnxruntime-web/wasm";
import { Engine } from "../src/engine.js";

const fixture = process.env.MODEL_FIXTURE;
const skip = fixture ? false : "run by pytest, which writes the fixture";
ort.env.wasm.numThreads = 1;
let [told, engine] = [null, null];

before(async () => {
  if (skip) return;
  told = JSON.parse(await readFile(fixture));
  const get = async (file) => new Uint8Array(await readFile(`${told.folder}/${file}`));
  const manifest = JSON.parse(await readFile(`${told.folder}/model.json`));
  engine = new Engine({ ort, manifest, get });
  await engine.load();
});

/** The noise that cdlib took, by its use. */
const recorded = (noise) => (use, length) => {
  assert.equal(noise[use]?.length, length, use);
  return Float32Array.from(noise[use]);
};

async function last(states) {
  let state = null;
  for await (state of states);
  assert.equal(state.done, true);
  return state;
}

/** The largest difference of two rows of numbers. */
function apart(given, wanted) {
  assert.equal(given.length, wanted.length);
  return given.reduce((far, value, i) => Math.max(far, Math.abs(value - wanted[i])), 0);
}

const spread = (map) => Math.max(...map) - Math.min(...map);

test("prompts become the ids that CLIPTokenizer gives", { skip }, () => {
  for (const { prompt, ids, count, bird } of told.tokens) {
    assert.deepEqual(engine.tokenizer.encode(prompt), ids, prompt);
    assert.equal(engine.tokenizer.count(prompt), count, prompt);
    assert.deepEqual(engine.tokenizer.find(prompt, "bird"), bird, prompt);
  }
});

test("a prompt that the model would cut is refused", { skip }, async () => {
  await assert.rejects(engine.encode("bird ".repeat(200)), /has \d+ tokens; this model reads \d+/);
});

test("a picture from the same noise is diffusers', and so is where its words are", { skip }, async () => {
  const { asked, noise, image, maps } = told.draw;
  const state = await last(engine.draw({ ...asked, noise: recorded(noise), every: 3 }));
  assert.ok(apart(state.image, image) < 1e-3);
  for (const [word, map] of Object.entries(maps)) {
    const found = state.words.find((one) => one.word === word).map;
    assert.ok(apart(found, map) < 1e-3 * spread(map), word);
  }
});

test("where a word is in a picture is what concept_attention says", { skip }, async () => {
  const { prompt, word, image, noise, maps } = told.look;
  for (const [passes, map] of Object.entries(maps)) {
    const asked = { image: Float32Array.from(image), prompt, word, passes: Number(passes) };
    const state = await last(engine.look({ ...asked, noise: recorded(noise) }));
    assert.ok(apart(state.map, map) < 1e-3 * spread(map), passes);
  }
});

test("an object is removed as cdlib.remove does it", { skip }, async () => {
  for (const { asked, mask, picture, noise, image } of told.remove) {
    const settings = { ...asked, mask: Uint8Array.from(mask), image: Float32Array.from(picture) };
    const state = await last(engine.remove({ ...settings, noise: recorded(noise), every: 4 }));
    assert.ok(apart(state.image, image) < 1e-3, asked.model);
  }
});

test("work ends when its reader leaves", { skip }, async () => {
  const before = engine.clock.passes;
  for await (const { step } of engine.draw({ prompt: "a photo", steps: 50, guidance: 1 })) {
    if (step === 2) break;
  }
  assert.equal(engine.clock.passes - before, 2);
});
