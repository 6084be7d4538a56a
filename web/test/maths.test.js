/**
 * The page's maths. What cdlib says of the same maps comes from tests/test_explore_maps.py, which names
 * its folder in CDLIB_FIXTURES; without it only the small cases below are run.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { decodeHalf } from "../src/half.js";
import * as maths from "../src/maths.js";
import { fitTwoGaussians, randomNumbers } from "../src/mixture.js";

const folder = process.env.CDLIB_FIXTURES;
const skip = folder ? false : "CDLIB_FIXTURES names no folder";

/** Infinity is no JSON, so Python writes it as a string. */
const fixture = async (name) =>
  JSON.parse(await readFile(join(folder, name)), (_, value) => (/Infinity$/.test(value) ? Number(value) : value));

const fileIn = (place) => async (name) => {
  const bytes = await readFile(join(place, name));
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
};

/** Within 1e-9 of each other, measured on the map's own range; infinities have to be equal. */
function assertClose(found, expected, scale, what) {
  const close = found === expected || Math.abs(found - expected) <= 1e-9 * scale;
  assert.ok(close, `${what}: ${found}, cdlib has ${expected}`);
}

test("half-precision numbers of every kind", () => {
  const bits = Uint16Array.of(0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3c00, 0xc000, 0x7bff, 0x7c00, 0xfc00, 0x7e00);
  const expected = [0, -0, 2 ** -24, 1023 * 2 ** -24, 2 ** -14, 1, -2, 65504, Infinity, -Infinity, NaN];
  assert.deepEqual([...decodeHalf(bits)], expected);
});

test("every half agrees with NumPy", { skip }, async () => {
  const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const expected = new Float32Array(await fileIn(folder)("halves.bin"));
  const other = decodeHalf(bits).findIndex((value, i) => !Object.is(value, expected[i]));
  assert.equal(other, -1); // by value, since a NaN's bits are no one's business
});

test("the random numbers are NumPy's", () => {
  const ofSeed0 = [0.5488135039273248, 0.7151893663724195, 0.6027633760716439];
  assert.deepEqual(randomNumbers(0, 3), ofSeed0); // np.random.RandomState(0).random_sample(3)
});

test("a constant map has one mode and nothing above it", () => {
  const map = new Float64Array(16).fill(0.25);
  assert.deepEqual(fitTwoGaussians(map), { means: [0.25, 0.25], variances: [0, 0], weights: [1, 0] });
  for (const rule of ["gmm", "posterior", "otsu", "percentile"]) {
    assert.equal(maths.cutMap(map, { rule }).threshold, 0.25, rule);
  }
});

test("the majority filter takes stray cells and leaves the border", () => {
  const stray = Uint8Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  const filtered = maths.majorityFilter(stray, 4, 4);
  assert.deepEqual([...filtered], [1, ...new Array(15).fill(0)]);
});

test("scores of empty masks: they agree, but have no precision or recall", () => {
  const empty = new Uint8Array(4);
  assert.deepEqual(maths.compare(empty, empty), { iou: 1, precision: null, recall: null, share: 0 });
  assert.equal(maths.compare(empty, Uint8Array.of(1, 0, 0, 0)).iou, 0);
});

test("an outline runs around a pixel", () => {
  assert.equal(maths.outline(Uint8Array.of(0, 1), 1, 2), "M1 0h1M1 0v1M2 0v1M1 1h1");
});

test("thresholds, modes, masks and scores agree with cdlib", { skip }, async (t) => {
  for (const [i, one] of (await fixture("cases.json")).entries()) {
    const { height, width, seed, percentile, truth } = one;
    const map = Float64Array.from(one.map);
    const [low, high] = maths.range(map);
    const scale = Math.max(high - low, Math.abs(low), Math.abs(high));
    for (const [rule, expected] of Object.entries(one.rules)) {
      const name = `${one.kind} map ${i}, ${rule}`;
      const cut = maths.cutMap(map, { rule, seed, percentile });
      assertClose(cut.threshold, expected.threshold, scale, name);
      for (const k of expected.means ? [0, 1] : []) {
        assertClose(cut.means[k], expected.means[k], scale, `${name}, mean ${k}`);
        assertClose(cut.variances[k], expected.variances[k], scale ** 2, `${name}, variance ${k}`);
        assertClose(cut.weights[k], expected.weights[k], 1, `${name}, weight ${k}`);
      }
      const raw = Uint8Array.from(map, (value) => (value > cut.threshold ? 1 : 0));
      assert.deepEqual([...raw], expected.raw, `${name}, mask`);
      const mask = maths.majorityFilter(raw, height, width);
      assert.deepEqual([...mask], expected.mask, `${name}, filtered mask`);
      const pixels = maths.upsample(mask, [height, width], one.size);
      const scores = maths.compare(pixels, Uint8Array.from(truth));
      for (const score of ["iou", "precision", "recall"]) {
        const [found, said] = [scores[score], expected[score]];
        assert.ok(found === said || Math.abs(found - said) <= 1e-12, `${name}, ${score}: ${found}, cdlib has ${said}`);
      }
    }
  }
  t.diagnostic("all cases agree");
});

test("what a chapter wrote, evaluated, is what cdlib makes of the same maps", { skip }, async () => {
  const maps = await maths.readMaps(fileIn(join(folder, "maps")));
  for (const { change, ...expected } of await fixture("expected.json")) {
    const name = JSON.stringify(change);
    const shown = maths.evaluate(maps, { ...maths.bookSettings(maps), ...change });
    assertClose(shown.cut.threshold, expected.threshold, shown.high, name);
    assert.deepEqual([...shown.mask], expected.mask, name);
    assert.ok(Math.abs(shown.scores.iou - expected.iou) <= 1e-12, name);
    assert.equal(
      shown.histogram.counts.reduce((a, b) => a + b),
      shown.map.length,
    );
  }
});

test("the book's own settings score as the run's M_pre did", { skip }, async () => {
  const maps = await maths.readMaps(fileIn(join(folder, "maps")));
  const m_pre = maps.images.map((_, image) => maths.stageMask(maps, image, "m_pre"));
  for (const [image, { iou }] of maps.images.entries()) {
    const shown = maths.evaluate(maps, { ...maths.bookSettings(maps), image });
    assert.ok(Math.abs(shown.scores.iou - iou.m_pre) <= 1e-3);
    assert.deepEqual(shown.pixels, m_pre[image]);
    for (const stage of maps.stages.slice(0, -1)) {
      const found = maths.compare(maths.stageMask(maps, image, stage), maths.stageMask(maps, image, "truth"));
      assert.ok(Math.abs(found.iou - iou[stage]) <= 1e-12, stage);
    }
  }
});

test("things to try are settings that can be evaluated", { skip }, async () => {
  const maps = await maths.readMaps(fileIn(join(folder, "maps")));
  const offered = maths.presets(maps);
  assert.ok(offered.length >= 4);
  for (const { change } of offered) {
    const { scores } = maths.evaluate(maps, { ...maths.bookSettings(maps), ...change });
    assert.ok(scores.iou >= 0 && scores.iou <= 1);
  }
});

test("a folder of another format, or cut short, is refused", async () => {
  const text = (index) => new TextEncoder().encode(JSON.stringify(index)).buffer;
  const short = { format: 1, images: [{}], words: [{}], layers: ["mid"], bins: [{ count: 1 }], grid: [2, 2] };
  const get = (index) => async (name) => (name === "index.json" ? text(index) : new ArrayBuffer(6));
  await assert.rejects(maths.readMaps(get({ format: 2 })), /format 2/);
  await assert.rejects(maths.readMaps(get(short)), /6 bytes, 8 expected/);
});
