/**
 * Where the model runs: beside the page, which stays responsive and can say "cancel".
 *
 * In: {id, task, asked} with a task of `tasks`, or {id, task: "cancel"}. Out: {id, kind, ...} with kind
 * "progress" (bytes that have come), "state" (a step's), and one of "done", "cancelled" and "failed".
 */
import * as ort from "./vendor/ort.wasm.min.mjs";
import { Engine } from "./engine.js";
import { fetchBytes, gunzip } from "./packing.js";

const RUNTIME = new URL("./vendor/ort-wasm-simd-threaded", import.meta.url).href;
const cancelled = new Set();
let engine = null;
let onBytes = () => {}; // told of every piece of a file that comes
let queue = Promise.resolve(); // one task at a time: they share the sessions

const tasks = {
  async *load({ manifest, data }) {
    const fetched = (url) => fetchBytes(url, (bytes) => onBytes(bytes));
    engine = new Engine({ ort, manifest, get: (file) => fetched(data + file) });
    const runtime = fetched(`${RUNTIME}.wasm.gz`).then(gunzip);
    const [wasmBinary] = await Promise.all([runtime, engine.fetchAll()]);
    // Threads share memory, which browsers allow to isolated pages alone.
    const cores = Math.min(navigator.hardwareConcurrency || 1, 4);
    const numThreads = self.crossOriginIsolated ? cores : 1;
    Object.assign(ort.env.wasm, { wasmBinary, wasmPaths: { mjs: `${RUNTIME}.mjs` }, numThreads });
    await engine.start();
    yield { done: true, threads: numThreads };
  },
  draw: (asked) => engine.draw(asked),
  look: (asked) => engine.look(asked),
  remove: (asked) => engine.remove(asked),
};

self.onmessage = ({ data: { id, task, asked } }) => {
  if (task === "cancel") cancelled.add(id);
  else queue = queue.then(() => work(id, task, asked));
};

async function work(id, task, asked) {
  const say = (kind, told = {}) => self.postMessage({ id, kind, ...told });
  onBytes = (bytes) => say("progress", { bytes });
  try {
    await breathe();
    if (cancelled.delete(id)) return say("cancelled");
    for await (const state of tasks[task](asked)) {
      if (state.done) return say("done", { state: { ...state, passTime: engine.passTime } });
      say("state", { state });
      await breathe();
      if (cancelled.delete(id)) return say("cancelled");
    }
  } catch (error) {
    return say("failed", { message: error.message });
  }
}

/** Let messages in: a pass of the U-Net keeps this thread busy from its start to its end. */
const breathe = () => new Promise((resolve) => setTimeout(resolve));
