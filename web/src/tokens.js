/** CLIP's tokenizer: prompts to ids by byte-pair merges, and where in them a word is. */

const WORDS = /<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu;

/** GPT-2's alphabet: a printable character for each of the 256 bytes. */
const ALPHABET = (() => {
  const printable = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let hidden = 0;
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(printable(byte) ? byte : 256 + hidden++),
  );
})();

export class Tokenizer {
  /** @param {object} tables the manifest's "tokenizer" */
  constructor(tables) {
    this.tables = tables;
    this.rank = new Map(tables.merges.map(([left, right], i) => [`${left} ${right}`, i]));
    this.marks = new Set([tables.start, tables.end, tables.pad, tables.unknown]);
    this.ends = new Set(
      Object.entries(tables.vocabulary)
        .filter(([piece]) => piece.endsWith(tables.end_of_word))
        .map(([, id]) => id),
    );
    this.specials = new Map([
      ["<|startoftext|>", tables.start],
      ["<|endoftext|>", tables.end],
    ]);
  }

  /** Ids of all pieces of a text, without marks and uncut; `word` says which piece is of which word. */
  pieces(text) {
    const normal = text.normalize("NFC").replace(/\s+/gu, " ").toLowerCase();
    const words = normal.match(WORDS) ?? [];
    return words.map((word) => ({ word, ids: this.#merge(word) }));
  }

  /** Ids as the text encoder reads them: between marks, cut and padded to the model's length. */
  encode(text) {
    const { start, end, pad, length } = this.tables;
    const inner = this.pieces(text).flatMap(({ ids }) => ids).slice(0, length - 2);
    const ids = [start, ...inner, end];
    return [...ids, ...new Array(length - ids.length).fill(pad)];
  }

  /** How many tokens a prompt has, marks included, before it is cut. */
  count(text) {
    return 2 + this.pieces(text).reduce((total, { ids }) => total + ids.length, 0);
  }

  /** The words of a prompt with the positions of their pieces, in the order in which they come. */
  words(text) {
    let at = 1; // 0 is the start mark
    return this.pieces(text).map(({ word, ids }) => {
      const positions = ids.map((_, i) => at + i);
      at += ids.length;
      return { word, positions };
    });
  }

  /** Positions of a word (or phrase) in a prompt: all its pieces, at all its places; maybe none. */
  find(text, word) {
    const ids = [this.tables.start, ...this.pieces(text).flatMap((one) => one.ids)];
    const wanted = this.pieces(word).flatMap((one) => one.ids);
    const found = [];
    for (let i = 1; wanted.length && i + wanted.length <= ids.length; i += 1) {
      const begins = this.marks.has(ids[i - 1]) || this.ends.has(ids[i - 1]);
      if (begins && wanted.every((id, k) => ids[i + k] === id)) {
        found.push(...wanted.map((_, k) => i + k));
      }
    }
    return found;
  }

  /** Byte-pair encoding of one word: the pair that was learnt first is merged first. */
  #merge(word) {
    if (this.specials.has(word)) return [this.specials.get(word)];
    const { vocabulary, end_of_word: ending, unknown } = this.tables;
    const bytes = Array.from(new TextEncoder().encode(word), (byte) => ALPHABET[byte]);
    bytes[bytes.length - 1] += ending;
    // A piece outside the vocabulary is the unknown mark, which merges with nothing.
    let pieces = bytes.map((piece) => (Object.hasOwn(vocabulary, piece) ? piece : null));
    for (;;) {
      let best = Infinity;
      for (let i = 0; i + 1 < pieces.length; i += 1) {
        best = Math.min(best, this.#rankOf(pieces, i));
      }
      if (best === Infinity) break;
      const merged = [];
      for (let i = 0; i < pieces.length; i += 1) {
        const joins = i + 1 < pieces.length && this.#rankOf(pieces, i) === best;
        merged.push(joins ? pieces[i] + pieces[i + 1] : pieces[i]);
        if (joins) i += 1;
      }
      pieces = merged;
    }
    return pieces.map((piece) => (piece === null ? unknown : vocabulary[piece]));
  }

  #rankOf(pieces, i) {
    if (pieces[i] === null || pieces[i + 1] === null) return Infinity;
    return this.rank.get(`${pieces[i]} ${pieces[i + 1]}`) ?? Infinity;
  }
}

/** The word of a list that is nearest by edits, or null where none is within half of its letters. */
export function nearestWord(word, known) {
  let [best, least] = [null, Math.floor(word.length / 2) + 1];
  for (const candidate of known) {
    const far = distance(word.toLowerCase(), candidate);
    if (far < least) [best, least] = [candidate, far];
  }
  return best;
}

/** Letters to insert, drop, change or swap with their neighbour (optimal string alignment). */
function distance(a, b) {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i += 1) {
    rows.push([i]);
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      rows[i][j] = Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + same);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) rows[i][j] = Math.min(rows[i][j], rows[i - 2][j - 2] + 1);
    }
  }
  return rows[a.length][b.length];
}
