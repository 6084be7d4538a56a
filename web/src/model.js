/**
 * The model in the page: nothing is loaded before the reader asks for it, and all runs in a worker.
 *
 * What is asked for and shown is in model-draw.js (prompts), model-look.js (pictures and masks) and
 * model-remove.js (removal); what computes in worker.js and engine.js.
 */
import { bytesOf } from "./engine.js";
import { Client } from "./model-client.js";
import { drawSection } from "./model-draw.js";
import { lookSection } from "./model-look.js";
import { megabytes } from "./model-parts.js";
import { removeSection } from "./model-remove.js";
import { Tokenizer } from "./tokens.js";
import { button, h, live } from "./ui.js";

/** Explorer contract: put a start button above what `root` holds; once loaded, take its place. */
export async function mount(root, { data }) {
  const response = await fetch(`${data}model.json`);
  if (!response.ok) throw new Error(`the model's description is missing (${response.status}).`);
  const manifest = await response.json();
  if (manifest.format !== 1) throw new Error(`the model's description is of format ${manifest.format}.`);
  root.prepend(startCard(root, manifest, data));
}

function startCard(root, manifest, data) {
  const total = bytesOf(manifest) + manifest.runtime_bytes;
  const status = live();
  const bar = h("progress", { class: "cd-model-bar", max: total, value: 0, "aria-label": "Loading", hidden: true });
  const start = button(`Load the model (${megabytes(total)})`, () => load(), {
    class: "cd-button cd-model-go", "data-testid": "model-load",
  });
  const load = async () => {
    start.disabled = true;
    bar.hidden = false;
    try {
      const app = await loadApp(manifest, data, (bytes) => {
        bar.value = bytes;
        const ready = bytes >= bytesOf(manifest);
        status.say(ready ? "Making it ready …" : `${megabytes(bytes)} of ${megabytes(total)}`);
      });
      root.replaceChildren(...explorer(app));
      root.querySelector("input").focus({ preventScroll: true });
    } catch (error) {
      status.say(`The model could not be loaded: ${error.message} Press again to retry.`);
      start.disabled = false;
    }
  };
  return h(
    "div", { class: "cd-model-start", "data-testid": "model-start" },
    h("h4", {}, "A text-to-image model, alive in this page"),
    h("p", {}, "It is small enough to run in your browser: write a prompt and watch it denoise, ask where ",
      "it put a word, find an object in a picture, and have it painted over. Nothing leaves your machine."),
    start, bar, status.element,
  );
}

/** Have the worker load everything; what all sections share. */
async function loadApp(manifest, data, onTotal) {
  const client = new Client(new URL("./worker.js", import.meta.url));
  const begun = performance.now();
  let bytes = 0;
  const onBytes = (more) => onTotal((bytes += more));
  const { threads } = await client.run("load", { manifest, data }, { onBytes }).done.catch((error) => {
    client.close();
    throw error;
  });
  const app = { client, manifest, data, tokenizer: new Tokenizer(manifest.tokenizer), threads };
  app.clock = clock((performance.now() - begun) / 1000);
  return app;
}

/** Times in small print, which a test can read too. */
function clock(loadSeconds) {
  const number = (testid, text) => h("span", { "data-testid": testid }, text);
  const first = number("model-first-image-seconds", "–");
  const pass = number("model-pass-ms", "–");
  const element = h(
    "p", { class: "cd-model-clock" },
    "Loaded in ", number("model-load-seconds", loadSeconds.toFixed(1)), " s · first picture after ", first,
    " s · ", pass, " ms a pass of the U-Net",
  );
  return {
    element,
    passTime: null, // milliseconds
    finished(state, seconds = null) {
      if (state.passTime) {
        this.passTime = state.passTime;
        pass.textContent = state.passTime.toFixed(0);
      }
      if (seconds !== null && first.textContent === "–") first.textContent = seconds.toFixed(1);
    },
  };
}

function explorer(app) {
  const remove = removeSection(app);
  const look = lookSection(app, remove.take);
  return [drawSection(app), look, remove.element, app.clock.element];
}
