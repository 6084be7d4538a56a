/** Prompts put together from words of the model's vocabulary; no page in here. */
import { nearestWord } from "./tokens.js";

const SWAPPED = ["objects", "colours", "places"];

/** All words that the model was taught, in a set. */
export const knownWords = (manifest) => new Set(Object.values(manifest.words).flat());

/**
 * Words of a prompt that the model was never taught, each with the nearest that it was.
 *
 * @returns {{word: string, nearest: string | null}[]} each once
 */
export function unknownWords(prompt, tokenizer, manifest) {
  const known = knownWords(manifest);
  const strange = new Set(tokenizer.words(prompt).map(({ word }) => word).filter((word) => !known.has(word)));
  return [...strange].map((word) => ({ word, nearest: nearestWord(word, known) }));
}

/** The prompt with one word in the place of another, wherever it stands as a whole word. */
export function replaceWord(prompt, word, other) {
  const words = prompt.split(/(\s+)/);
  return words.map((one) => (one.toLowerCase() === word ? other : one)).join("");
}

/**
 * The prompt with a word put where it belongs: in place of the first of its kind (objects, colours,
 * places), or else a colour before the object, a place behind with its preposition, others at the end.
 */
export function placeWord(prompt, word, manifest) {
  const kind = Object.keys(manifest.words).find((group) => manifest.words[group].includes(word));
  const said = prompt.trim().split(/\s+/).filter(Boolean);
  const lower = said.map((one) => one.toLowerCase());
  const first = lower.findIndex((one) => manifest.words[kind].includes(one));
  if (SWAPPED.includes(kind) && first >= 0) return swap(said, first, word, manifest.places);
  if (kind === "places") return [...said, manifest.places[word] ?? word].join(" ");
  if (kind === "colours") {
    const object = lower.findIndex((one) => manifest.words.objects.includes(one));
    if (object >= 0) return said.toSpliced(object, 0, word).join(" ");
  }
  if (kind === "objects") return [...opening(said, lower, manifest.words.colours), word].join(" ");
  return [...said, word].join(" ");
}

/** A place takes its preposition along: "in the snow", "on the grass". */
function swap(said, at, word, places) {
  const before = said.slice(Math.max(0, at - 2), at).join(" ").toLowerCase();
  if (places[word] && /^(on|in) the$/.test(before)) {
    return said.toSpliced(at - 2, 3, places[word]).join(" ");
  }
  return said.with(at, word).join(" ");
}

/** What stands before the first object: "a photo of a" if nothing does. */
function opening(said, lower, colours) {
  if (!said.length) return ["a", "photo", "of", "a"];
  return ["a", "an", "the", ...colours].includes(lower.at(-1)) ? said : [...said, "a"];
}
