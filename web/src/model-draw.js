/** Section 1: a prompt to a picture, step by step, and where each of its words went. */
import { runner, seconds, section, statusLine } from "./model-parts.js";
import { resultWall } from "./model-wall.js";
import { placeWord, replaceWord, unknownWords } from "./prompting.js";
import { button, h, slider } from "./ui.js";

const DECODED = 2; // every so many steps: decoding takes about as long as a pass

export function drawSection(app) {
  const { manifest } = app;
  const status = statusLine("model-draw-status", "Press Draw. Then change one word, or the seed, and draw again.");
  const prompt = promptField(app);
  const seed = slider({ label: "Seed", min: 0, max: 99, value: 6, testid: "model-seed" });
  const steps = slider({ label: "Steps", min: 8, max: 50, value: 16, testid: "model-steps" });
  const guidance = slider({
    label: "Guidance", min: 1, max: 10, step: 0.5, value: 4, testid: "model-guidance",
    format: (value) => (value === 1 ? "none" : value.toFixed(1)),
  });
  const wall = resultWall(manifest, (word) => status.say(
    word ? `Bright is where “${word}” went. Click it again for the bare picture.` : "Click a word to see where it went.",
  ));
  const start = button("Draw", null, { class: "cd-button cd-model-go", "data-testid": "model-draw" });
  const cancel = button("Cancel", null, { "data-testid": "model-draw-cancel" });
  runner({
    start, cancel, status,
    work: async (started) => {
      if (!prompt.check()) return;
      const asked = { prompt: prompt.value, seed: seed.value, steps: steps.value, guidance: guidance.value };
      const result = wall.begin(asked);
      const begun = performance.now();
      const onState = (state) => {
        if (state.image) result.show(state.image);
        status.say(`Step ${state.step} of ${state.steps}`);
      };
      const task = app.client.run("draw", { ...asked, every: DECODED }, { onState });
      const state = await started(task).catch((error) => {
        wall.drop(result);
        throw error;
      });
      if (!state) {
        wall.drop(result);
        status.say("Cancelled.");
        return;
      }
      const took = performance.now() - begun;
      wall.finish(result, state);
      app.clock.finished(state, took / 1000);
      status.say(`Drawn in ${seconds(took)}. Click a word under the picture to see where it went.`);
    },
  });
  prompt.input.onkeydown = (event) => event.key === "Enter" && start.click();
  return section(
    "1", "Write a picture", "The model knows a small world of objects, colours and places. A word below takes the "
      + "place of its kind in the prompt: change one at a time and compare.",
    prompt.element,
    h("div", { class: "cd-controls" }, seed.element, steps.element, guidance.element),
    h("div", { class: "cd-model-actions" }, start, cancel),
    status.element, wall.element,
  );
}

/** The prompt with its vocabulary; `check` says whether the model knows all its words. */
function promptField(app) {
  const { manifest, tokenizer } = app;
  const input = h("input", {
    type: "text", id: "cd-model-prompt", "data-testid": "model-prompt", autocomplete: "off", spellcheck: "false",
  });
  const { colours, places } = manifest.words;
  input.value = [colours[0], places[0]].filter(Boolean).reduce(
    (said, word) => placeWord(said, word, manifest), manifest.run.y_f,
  );
  const notice = h("p", { class: "cd-model-notice", role: "status", "data-testid": "model-unknown" });
  const set = (value) => {
    input.value = value;
    check();
  };
  const fix = ({ word, nearest }) => button(`Use “${nearest}”`, () => set(replaceWord(input.value, word, nearest)));
  const check = () => {
    const strange = unknownWords(input.value, tokenizer, manifest);
    notice.replaceChildren(...strange.flatMap((one) => [
      `This model was never taught “${one.word}”${one.nearest ? ` – did you mean “${one.nearest}”?` : "."} `,
      ...(one.nearest ? [fix(one), " "] : []),
    ]));
    return !strange.length;
  };
  input.oninput = check;
  const chips = Object.entries(manifest.words).map(([group, words]) =>
    h("div", { class: "cd-model-chips", role: "group", "aria-label": group },
      h("span", { class: "cd-model-group" }, group),
      words.map((word) => button(word, () => set(placeWord(input.value, word, manifest)), {
        class: "cd-button cd-model-chip", "data-testid": `model-chip-${word}`,
      }))));
  const [common, rest] = [chips.slice(0, 3), chips.slice(3)];
  const element = h(
    "div", { class: "cd-model-prompt" },
    h("label", { for: input.id }, "Prompt"), input, notice, common,
    h("details", {}, h("summary", {}, "More words"), rest),
  );
  return {
    element, input, check,
    get value() {
      return input.value.trim();
    },
  };
}
