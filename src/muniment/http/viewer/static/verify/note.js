// Signed notes and checkpoints (c2sp.org/signed-note, c2sp.org/tlog-checkpoint).

import { fromBase64, hex, utf8 } from "./bytes.js";
import { need } from "./failure.js";
import { holds, isKeyName } from "./keys.js";
import { HASH_BYTES } from "./merkle.js";

const MAX_NOTE_BYTES = 1_000_000;
const MAX_SIGNATURES = 100;
const LARGEST_TREE = 2n ** 63n - 1n;

/** A note's text, and its signature lines, none of them verified. Throws a `Failure`. */
export function parseNote(note) {
  const isText = typeof note === "string" && note.length <= MAX_NOTE_BYTES && note.isWellFormed();
  need(isText && utf8(note).length <= MAX_NOTE_BYTES, "note_form");
  need(!/[\u0000-\u0009\u000b-\u001f]/.test(note), "note_form");
  // The text may have empty lines: the last one separates it from the signatures.
  const end = note.lastIndexOf("\n\n") + 1;
  need(end > 0 && note.endsWith("\n") && note.length > end + 1, "note_form");
  const lines = note.slice(end + 1, -1).split("\n");
  need(lines.length <= MAX_SIGNATURES, "note_form");
  return { text: note.slice(0, end), signatures: lines.map(parseSignature) };
}

function parseSignature(line) {
  const found = /^\u2014 ([^ ]+) ([^ ]+)$/u.exec(line);
  const data = found && fromBase64(found[2]);
  need(data && data.length > 4 && isKeyName(found[1]), "note_form");
  return { name: found[1], id: hex(data.slice(0, 4)), signature: data.slice(4) };
}

/** The checkpoint in a note's text: its `size` stays text, which is exact. Throws a `Failure`. */
export function parseCheckpoint(text) {
  const [origin, size, encoded, ...extensions] = text.slice(0, -1).split("\n");
  const root = fromBase64(encoded);
  const isSize = /^(0|[1-9][0-9]{0,18})$/.test(size ?? "") && BigInt(size) <= LARGEST_TREE;
  need(origin !== "" && isSize && root?.length === HASH_BYTES, "checkpoint_form");
  need(extensions.every((line) => line !== ""), "checkpoint_form");
  return { origin, size, root };
}

/**
 * Those of the keys that signed the note. Signatures of other keys don't count, even under a known
 * name; one of a known key that does not hold spoils the note. Throws a `Failure`.
 */
export async function signersOf(note, keys) {
  const message = utf8(note.text);
  const found = new Set();
  for (const { name, id, signature } of note.signatures) {
    for (const key of keys.filter((each) => each.name === name && each.id === id)) {
      need(await holds(key.publicKey, message, signature), "signature_forged", { name });
      found.add(key);
    }
  }
  const names = note.signatures.map(({ name, id }) => `${name} (${id})`);
  need(found.size > 0, "signature_missing", { names });
  return [...found];
}
