/** Section 3: what a mask covers, painted over by m or m'. */
import { figure, megabytes, runner, seconds, section, statusLine } from "./model-parts.js";
import { button, checkbox, choice, h, heat, slider } from "./ui.js";

export function removeSection(app) {
  const { manifest } = app;
  const { removal } = manifest.run;
  const status = statusLine("model-remove-status", "Find an object in section 2 first.");
  const figures = removeFigures(manifest);
  let found = null; // {image, plate, mask, word}
  const models = modelChoice(manifest);
  const controls = removeControls(removal, () => estimate());
  const start = button("Remove it", null, { class: "cd-button cd-model-go", "data-testid": "model-remove" });
  const cancel = button("Cancel", null, { "data-testid": "model-remove-cancel" });
  const estimate = () => {
    if (!found || !app.clock.passTime) return;
    const { steps, resample, guidance } = controls.asked();
    const passes = steps * resample * (guidance ? 2 : 1);
    status.say(`${passes} passes of the U-Net, about ${seconds(passes * app.clock.passTime)}.`);
  };
  runner({
    start, cancel, status,
    work: async (started) => {
      if (!found) throw new Error("Find an object in section 2 first.");
      if (!found.mask.includes(1)) throw new Error("The mask is empty: there is nothing to paint over.");
      const model = models.value;
      const { run } = manifest;
      const asked = {
        image: found.image, mask: found.mask, model, y_b: run.y_b,
        y_f: run.y_f.replace(run.concept, found.word), surroundings: removal.surroundings, seed: run.seed,
        every: 2, ...controls.asked(),
      };
      const result = figures.begin(found, model);
      const begun = performance.now();
      let bytes = 0;
      const onBytes = (more) => status.say(`Fetching the fine-tuned weights: ${megabytes((bytes += more))}`);
      const onState = (state) => {
        if (state.image) result.show(state.image);
        status.say(`Step ${state.step} of ${state.steps}, pass ${state.pass} of ${state.passes}`);
      };
      const state = await started(app.client.run("remove", asked, { onState, onBytes }));
      if (!state) {
        result.drop();
        return void status.say("Cancelled.");
      }
      result.finish(state.image);
      app.clock.finished(state);
      status.say(`Painted over in ${seconds(performance.now() - begun)}.`);
    },
  });
  const element = section(
    "3", "Remove the object", "Everything under the mask is painted anew as “background”. The model as it was, m, has "
      + "never read that word in a caption; m′ was fine-tuned to know it. The difference to the picture sharpens the mask.",
    h("div", { class: "cd-controls" }, models.element, controls.elements),
    h("div", { class: "cd-model-actions" }, start, cancel),
    status.element, figures.element,
  );
  return {
    element,
    /** A picture with its mask, or null when another picture has been chosen. */
    take(given) {
      found = given;
      figures.start(found);
      status.say(found ? "Ready." : "Find an object in section 2 first.");
      estimate();
    },
  };
}

function modelChoice({ parts }) {
  const tuned = parts.m_prime && {
    value: "m_prime", text: `m′, fine-tuned (+${megabytes(parts.m_prime.weights.bytes)})`,
  };
  const options = [tuned, { value: "m", text: "m, as it was" }].filter(Boolean);
  return choice({ label: "Painted by", options, testid: "model-remove-model" });
}

/** The run's settings, from which the reader may depart. */
function removeControls(removal, onInput) {
  const steps = slider({
    label: "Steps", min: 2, max: Math.max(25, removal.steps), value: removal.steps, testid: "model-remove-steps", onInput,
  });
  const resample = slider({
    label: "Times each step is taken", min: 1, max: Math.max(4, removal.resample), value: removal.resample,
    testid: "model-remove-resample", onInput,
  });
  const wider = slider({
    label: "Mask widened by", min: 0, max: 4, value: removal.dilate, testid: "model-remove-dilate",
    format: (cells) => `${cells} cell${cells === 1 ? "" : "s"}`,
  });
  const away = removal.guidance ?? 0;
  const push = checkbox({
    label: "push away from the object", value: away !== 0, testid: "model-remove-push", onChange: onInput,
  });
  return {
    elements: [steps, resample, wider, push].map((one) => one.element),
    asked: () => ({
      steps: steps.value, resample: resample.value, dilate: wider.value, guidance: push.value ? away || -1 : 0,
    }),
  };
}

/** The picture, what each model made of it, the last difference, and the truth where it is known. */
function removeFigures({ image: size }) {
  const picture = figure("model-remove-picture", "The picture", "picture");
  const made = {
    m_prime: figure("model-remove-m_prime", "Painted over by m prime", "removed by m′"),
    m: figure("model-remove-m", "Painted over by m", "removed by m"),
  };
  const difference = figure("model-remove-difference", "What has changed", "difference");
  const plate = figure("model-remove-plate", "The scene without its object", "the scene without it");
  let finished = {}; // by m and m', of the picture at hand
  const all = [picture, made.m_prime, made.m, difference, plate];
  return {
    element: h("div", { class: "cd-panels" }, all.map((one) => one.element)),
    start(found) {
      finished = {};
      for (const one of all) one.element.hidden = true;
      if (!found) return;
      picture.show(found.image, size);
      if (found.plate) plate.show(found.plate, size);
      picture.element.hidden = false;
      plate.element.hidden = !found.plate;
    },
    begin(found, model) {
      const former = finished[model];
      const show = (image) => {
        made[model].show(image, size);
        made[model].element.hidden = false;
      };
      return {
        show,
        /** Cancelled: what was there before is there again. */
        drop() {
          if (former) show(former);
          else made[model].element.hidden = true;
        },
        finish(image) {
          show(image);
          finished[model] = image;
          difference.show(changes(found.image, image), size);
          difference.caption.replaceChildren(`difference to ${model === "m" ? "m" : "m′"}`);
          difference.element.hidden = false;
        },
      };
    },
  };
}

/** How far each pixel moved, as a picture: the mean over colours, bright where it is largest. */
function changes(before, after) {
  const moved = Float32Array.from({ length: before.length / 3 }, (_, i) =>
    [0, 1, 2].reduce((sum, c) => sum + Math.abs(before[3 * i + c] - after[3 * i + c]) / 3, 0));
  const most = Math.max(...moved, 1e-6);
  return Uint8ClampedArray.from(Array.from(moved, (value) => heat(value / most)).flat());
}
