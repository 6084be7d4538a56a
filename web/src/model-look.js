/** Section 2: a picture and a word to where the model sees it, and to a mask. */
import { compare, cutMap, majorityFilter, upsample } from "./maths.js";
import { figure, readPicture, runner, seconds, section, spotlit, statusLine } from "./model-parts.js";
import { button, h, slider } from "./ui.js";

/**
 * @param {object} app what all sections share
 * @param {(found: object) => void} pass told of {image, plate, mask, word}: a picture with its mask
 */
export function lookSection(app, pass) {
  const { manifest } = app;
  const { run } = manifest;
  const status = statusLine("model-look-status");
  const figures = lookFigures(manifest);
  let picture = null; // {name, image, truth, plate}
  const chooser = pictureChooser(app, status, (chosen) => {
    picture = chosen;
    cancel.click(); // of what was sought in the picture before
    figures.start(picture);
    pass(null);
  });
  const word = wordChoice(manifest);
  const passes = slider({
    label: "Timesteps averaged", min: 1, max: run.t0, value: Math.min(10, run.t0), testid: "model-look-passes",
  });
  const start = button("Find it", null, { class: "cd-button cd-model-go", "data-testid": "model-look" });
  const cancel = button("Cancel", null, { "data-testid": "model-look-cancel" });
  runner({
    start, cancel, status,
    work: async (started) => {
      if (!picture) throw new Error("Choose a picture first.");
      const looked = { ...picture, word: word.value };
      const prompt = promptOf(looked.word, run);
      const asked = { image: looked.image, prompt, word: looked.word, passes: passes.value, seed: run.seed };
      const begun = performance.now();
      const onState = (state) => {
        if (picture.image !== looked.image) return;
        figures.update(looked, state.map);
        status.say(`Timestep ${state.step} of ${state.steps}`);
      };
      const state = await started(app.client.run("look", asked, { onState }));
      if (!state || picture.image !== looked.image) return void status.say("Cancelled.");
      const mask = figures.update(looked, state.map);
      app.clock.finished(state);
      pass({ ...looked, mask });
      status.say(`“${looked.word}” found in ${seconds(performance.now() - begun)}, from the prompt “${prompt}”.`);
    },
  });
  chooser.first();
  return section(
    "2", "Look at a picture", "The picture is noised a little and shown to the model, together with a word. Where the "
      + "word is attended to, averaged over timesteps, is the map; cut in two, it is a first mask.",
    chooser.element,
    h("div", { class: "cd-controls" }, word.element, passes.element),
    h("div", { class: "cd-model-actions" }, start, cancel),
    status.element, figures.element,
  );
}

/** M_pre by the run's rule, (h, w). */
export function maskOf(map, { rule, seed }, { height, width }) {
  const { threshold } = cutMap(map, { rule, seed });
  return majorityFilter(Uint8Array.from(map, (value) => (value > threshold ? 1 : 0)), height, width);
}

/** The run's own prompt for its concept, a like one for other words. */
function promptOf(word, { concept, y_f }) {
  if (word === concept) return y_f;
  return y_f.split(" ").includes(concept) ? y_f.replace(concept, word) : `a photo of a ${word}`;
}

function wordChoice(manifest) {
  const select = h("select", { id: "cd-model-word", "data-testid": "model-look-word" },
    Object.entries(manifest.words).map(([group, words]) =>
      h("optgroup", { label: group }, words.map((word) => h("option", { value: word }, word)))));
  select.value = manifest.run.concept;
  return {
    element: h("div", { class: "cd-field" }, h("label", { for: select.id }, "Word"), select),
    get value() {
      return select.value;
    },
  };
}

/** Pictures of the page as buttons, and one of the reader's own. */
function pictureChooser(app, status, onChoice) {
  const { manifest, data } = app;
  const read = async (url) => readPicture(await (await fetch(data + url)).blob(), manifest.image);
  const choose = async (picked, load) => {
    try {
      onChoice(await load());
      for (const one of buttons) one.setAttribute("aria-pressed", one === picked);
      status.say("");
    } catch (error) {
      status.say(`That picture could not be opened: ${error.message}`);
    }
  };
  const ofPage = (entry) => async () => {
    const [image, mask, plate] = await Promise.all(
      [entry.image, entry.mask, entry.plate].map((file) => file && read(file)),
    );
    const truth = mask && Uint8Array.from({ length: mask.length / 3 }, (_, i) => (mask[3 * i] > 0.5 ? 1 : 0));
    return { name: entry.name, image, truth, plate };
  };
  const buttons = manifest.pictures.map((entry, i) =>
    h("button", {
      type: "button", class: "cd-model-thumb", "aria-pressed": "false", "aria-label": `Picture ${i + 1}`,
      "data-testid": `model-picture-${i}`, onclick: (event) => choose(event.currentTarget, ofPage(entry)),
    }, h("img", { src: data + entry.image, alt: "" })));
  const file = h("input", { type: "file", accept: "image/*", id: "cd-model-file", "data-testid": "model-file" });
  file.onchange = () => file.files[0] && choose(null, async () => (
    { name: file.files[0].name, image: await readPicture(file.files[0], manifest.image) }
  ));
  return {
    element: h("div", { class: "cd-model-thumbs", role: "group", "aria-label": "Pictures" }, buttons,
      h("div", { class: "cd-model-own" }, h("label", { for: file.id }, "or one of your own"), file)),
    first: () => buttons[0]?.click(),
  };
}

/** The picture, the map over it, the mask and the truth. */
function lookFigures(manifest) {
  const { image: size, latent: grid, run } = manifest;
  const picture = figure("model-look-picture", "The picture", "picture");
  const seen = figure("model-look-map", "Where the word is seen", "where the word is seen");
  const found = figure("model-look-mask", "The preliminary mask", "M", h("sub", {}, "pre"));
  const truth = figure("model-look-truth", "The truth", "truth");
  const iou = h("strong", { "data-testid": "model-look-iou" });
  const element = h("div", { class: "cd-panels" }, [picture, seen, found, truth].map((one) => one.element));
  const hide = (...figures) => figures.forEach((one) => (one.element.hidden = true));
  return {
    element,
    start(given) {
      picture.show(given.image, size);
      hide(seen, found, truth);
    },
    /** @returns {Uint8Array} the mask, (h, w) */
    update(given, map) {
      const mask = maskOf(map, run, grid);
      const pixels = upsample(mask, [grid.height, grid.width], [size.height, size.width]);
      const known = given.truth && given.word === run.concept;
      seen.show(given.image, size);
      seen.lay(map, grid);
      seen.caption.replaceChildren(`where “${given.word}” is seen`);
      found.show(spotlit(given.image, pixels), size);
      iou.textContent = known ? compare(pixels, given.truth).iou.toFixed(3) : "";
      found.caption.replaceChildren("M", h("sub", {}, "pre"), ` by ${run.rule}`, known ? ", IoU " : "", iou);
      if (known) truth.show(spotlit(given.image, given.truth), size);
      seen.element.hidden = found.element.hidden = false;
      truth.element.hidden = !known;
      return mask;
    },
  };
}
