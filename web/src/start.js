/**
 * On every page: brings the explorers to life that the page holds.
 *
 * An explorer is an element with data-explorer (the module that mounts it) and data-source (the folder
 * of what a chapter wrote for it). What it holds before is shown where scripts are off, in print, and
 * where the explorer cannot start.
 */

export async function startAll(page = document, load = (name) => import(`./${name}.js`)) {
  const roots = [...page.querySelectorAll("[data-explorer]")];
  await Promise.all(roots.map((root) => start(root, load)));
}

async function start(root, load) {
  try {
    const data = new URL(`data/${root.dataset.source}/`, import.meta.url).href;
    const { mount } = await load(root.dataset.explorer);
    const still = [...root.childNodes].map((node) => node.cloneNode(true));
    await mount(root, { data });
    keepForPrint(root, still);
    root.dataset.state = "ready";
  } catch (error) {
    root.dataset.state = "failed";
    const said = document.createElement("p");
    said.setAttribute("role", "alert");
    said.textContent = `The explorer could not start: ${error.message}`;
    root.prepend(said);
  }
}

/** On paper nothing moves: there the still picture and its words stand again. */
function keepForPrint(root, still) {
  const kept = document.createElement("div");
  kept.className = "cd-print";
  kept.append(...still);
  root.after(kept);
}

if (typeof document !== "undefined") startAll();
