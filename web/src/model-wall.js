/** Pictures drawn, side by side: the newest, the one before it, and those that the reader pinned. */
import { figure } from "./model-parts.js";
import { button, h } from "./ui.js";

/** @param {(word: string | null) => void} onChoice told which word is shown, if any */
export function resultWall(manifest, onChoice) {
  const element = h("div", { class: "cd-panels cd-model-wall", "data-testid": "model-results" });
  let results = []; // newest first
  let chosen = null; // the word whose map is shown, on all pictures that have it
  const choose = (word) => {
    chosen = chosen === word ? null : word;
    results.forEach((one) => one.mark(chosen));
    onChoice(chosen);
  };
  const lay = () => {
    results = results.filter((one, i) => i < 2 || one.pinned);
    element.replaceChildren(...results.map((one) => one.element));
    results.forEach((one, i) => one.place(["newest", "before"][i] ?? "pinned", i ? null : results[1]));
  };
  return {
    element,
    /** A place for a picture that is about to be drawn. */
    begin(asked) {
      const result = drawnPicture(asked, manifest, choose);
      results.unshift(result);
      element.replaceChildren(...results.map((one) => one.element));
      return result;
    },
    /** It is drawn: older ones make room. */
    finish(result, state) {
      result.finish(state);
      lay();
      result.mark(chosen);
    },
    /** It will not be drawn. */
    drop(result) {
      results = results.filter((one) => one !== result);
      lay();
    },
  };
}

/** One picture, with its words as buttons that show where each went. */
function drawnPicture({ prompt, seed, steps, guidance }, manifest, choose) {
  const row = h("div", { class: "cd-model-words", role: "group", "aria-label": "Where did each word go?" }, prompt);
  const pin = button("Pin", () => press(), {
    "aria-pressed": "false", class: "cd-button cd-model-small", "data-testid": "model-pin", disabled: true,
  });
  const where = h("strong", {}, "newest");
  const settings = `seed ${seed} · ${steps} steps · guidance ${guidance}`;
  const card = figure("model-result", `A picture being drawn: ${prompt}`, row,
    h("div", { class: "cd-model-meta" }, h("span", {}, where, ` · ${settings}`), pin));
  card.element.classList.add("cd-model-drawing");
  let words = []; // {word, map, button}
  const press = () => {
    result.pinned = !result.pinned;
    pin.setAttribute("aria-pressed", result.pinned);
    pin.textContent = result.pinned ? "Pinned" : "Pin";
  };
  const result = {
    element: card.element,
    pinned: false,
    get words() {
      return words.map((one) => one.word);
    },
    /** Say which of the pictures it is; words that are not in the one before stand out. */
    place(name, before) {
      where.textContent = name;
      const fresh = ({ word }) => Boolean(before) && !before.words.includes(word);
      words.forEach((one) => one.button.classList.toggle("cd-model-changed", fresh(one)));
    },
    show: (image) => card.show(image, manifest.image),
    finish(state) {
      card.element.classList.remove("cd-model-drawing");
      card.show(state.image, manifest.image);
      card.call(`Drawn by the model: ${prompt}`);
      words = state.words.map(({ word, map }) => ({ word, map, button: wordButton(word, choose) }));
      row.replaceChildren(...words.map((one) => one.button));
      pin.disabled = false;
    },
    /** Show the map of a word, if the prompt has it; a word that comes twice shows both. */
    mark(word) {
      const found = words.filter((one) => one.word === word);
      words.forEach((one) => one.button.setAttribute("aria-pressed", one.word === word));
      card.lay(found.length ? added(found) : null, manifest.latent);
      card.call(`Drawn by the model: ${prompt}${found.length ? `; bright where “${word}” went` : ""}`);
    },
  };
  return result;
}

const wordButton = (word, choose) =>
  button(word, () => choose(word), {
    class: "cd-button cd-model-word", "aria-pressed": "false", "data-testid": `model-word-${word}`,
  });

const added = (found) => found[0].map.map((_, i) => found.reduce((sum, one) => sum + one.map[i], 0));
