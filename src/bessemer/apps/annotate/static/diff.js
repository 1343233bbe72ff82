// What one answer says that another does not, word by word (character by character in Chinese).

import { el } from "./dom.js";

const LITTLE = 0.3; // share in common below which two texts are simply different, and nothing is marked
const LIMIT = 1500; // words of a text; longer ones are shown plain

/** Words, single Chinese characters, and what is between them. */
export function words(text) {
  return text.match(/[\p{Script=Han}]|[\p{L}\p{N}_]+|\s+|[^\p{L}\p{N}\s]/gu) ?? [];
}

/** For every word of `text` whether it is also in a longest common subsequence with `other`. */
export function common(text, other) {
  const [n, m] = [text.length, other.length];
  const row = new Uint16Array((n + 1) * (m + 1));
  for (let i = n - 1; i >= 0; i -= 1) {
    for (let j = m - 1; j >= 0; j -= 1) {
      const at = i * (m + 1) + j;
      row[at] = text[i] === other[j] ? row[at + m + 2] + 1 : Math.max(row[at + m + 1], row[at + 1]);
    }
  }
  const same = new Array(n).fill(false);
  for (let i = 0, j = 0; i < n && j < m;) {
    if (text[i] === other[j]) {
      same[i] = true;
      i += 1;
      j += 1;
    } else if (row[(i + 1) * (m + 1) + j] >= row[i * (m + 1) + j + 1]) i += 1;
    else j += 1;
  }
  return same;
}

/** The text as nodes, with what `other` does not say marked. */
export function marked(text, other) {
  const [own, theirs] = [words(text), words(other)];
  if (own.length > LIMIT || theirs.length > LIMIT) return [text];
  const same = common(own, theirs);
  const said = own.filter((word) => word.trim());
  const shared = own.filter((word, index) => same[index] && word.trim());
  if (shared.length < said.length * LITTLE) return [text];
  const nodes = [];
  let run = "";
  let differs = false;
  own.forEach((word, index) => {
    const different = !same[index] && word.trim() !== "";
    if (different !== differs && run) {
      nodes.push(differs ? el("mark", {}, run) : run);
      run = "";
    }
    differs = different;
    run += word;
  });
  if (run) nodes.push(differs ? el("mark", {}, run) : run);
  return nodes;
}
