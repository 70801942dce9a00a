// Is an event in its tenant's trail, unchanged? In four steps, each of which is told by itself.

import { fromBase64, hex, same } from "./bytes.js";
import { Failure, need } from "./failure.js";
import { forTenant, originEnd } from "./keys.js";
import { leafHash, rootFromInclusion } from "./merkle.js";
import { parseCheckpoint, parseNote, signersOf } from "./note.js";

/** The steps, in their order. */
export const STEPS = ["hash", "path", "checkpoint", "signature"];

/**
 * What each step comes to: `{step, result, code, values}`, `result` being "holds", "fails" or
 * "skipped".
 *
 * `eventId` and `tenantId` say which event is meant. `body` is its stored body, bytes as they came,
 * or null if it was erased. `proof` is what the service says of it, in the shape of the API. `keys`
 * are parsed keys of the log, by whatever name; who chose them decides what the last step is worth.
 */
export async function verifyEvent({ eventId, tenantId, body, proof, keys }) {
  const steps = [];
  const take = async (step, work) => {
    try {
      steps.push({ step, result: "holds", ...(await work()) });
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      steps.push({ step, result: "fails", code: error.code, values: error.values });
    }
  };
  let leaf = null;
  await take("hash", async () => {
    const said = fromBase64(proof.leaf_hash);
    need(said, "hash_missing");
    if (body === null) {
      leaf = said;
      return { code: "hash_erased", values: { hash: hex(said) } };
    }
    checkIsMeant(body, eventId, tenantId);
    const computed = await leafHash(body);
    const values = { hash: hex(computed), said: hex(said), bytes: body.length };
    need(same(computed, said), "hash_differs", values);
    leaf = computed;
    return { code: "hash_holds", values };
  });
  if (leaf === null) steps.push(skipped("path", "path_no_leaf"));
  else await take("path", () => followPath(leaf, proof));
  let note = null;
  await take("checkpoint", () => {
    const parsed = parseNote(proof.checkpoint);
    const checkpoint = parseCheckpoint(parsed.text);
    note = { ...parsed, origin: checkpoint.origin };
    return checkCheckpoint(checkpoint, tenantId, proof);
  });
  if (note === null) steps.push(skipped("signature", "signature_no_note"));
  else await take("signature", () => checkSignature(note, tenantId, keys));
  return steps;
}

/** Whether every step holds. */
export const isProved = (steps) => steps.every(({ result }) => result === "holds");

const skipped = (step, code) => ({ step, result: "skipped", code, values: {} });

/** A body of another event, however well it is proved, proves nothing of this one. */
function checkIsMeant(body, eventId, tenantId) {
  let event;
  try {
    event = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body));
  } catch {
    throw new Failure("hash_no_event");
  }
  need(event?.event_id === eventId && event?.tenant_id === tenantId, "hash_other_event");
}

async function followPath(leaf, proof) {
  const given = Array.isArray(proof.hashes) ? proof.hashes : [null];
  const path = given.map(fromBase64);
  const due = fromBase64(proof.root_hash);
  const { root, walk } = await rootFromInclusion(proof.leaf_index, proof.tree_size, leaf, path);
  const values = {
    leafIndex: proof.leaf_index,
    treeSize: proof.tree_size,
    hashes: path.length,
    root: hex(root),
    walk: walk.map(({ side, sibling, root: to }) => ({ side, hash: hex(sibling), root: hex(to) })),
  };
  need(due && same(root, due), "path_elsewhere", { ...values, said: due ? hex(due) : "" });
  return { code: "path_holds", values };
}

function checkCheckpoint({ origin, size, root }, tenantId, proof) {
  const values = { origin, size, root: hex(root), tenantId };
  need(origin.endsWith(originEnd(tenantId)), "checkpoint_other_log", values);
  const due = fromBase64(proof.root_hash);
  const isSame = size === String(proof.tree_size) && due && same(root, due);
  need(isSame, "checkpoint_differs", values);
  return { code: "checkpoint_holds", values };
}

async function checkSignature(note, tenantId, keys) {
  need(keys.length > 0, "signature_no_key");
  const known = await Promise.all(keys.map((key) => forTenant(key, tenantId)));
  const signers = await signersOf(note, known);
  // Tenants' keys share a seed: only its name tells whose log a key speaks for.
  need(signers.some(({ name }) => name === note.origin), "signature_other_log", {
    origin: note.origin,
  });
  return {
    code: "signature_holds",
    values: { signers: signers.map(({ name, id, fingerprint }) => ({ name, id, fingerprint })) },
  };
}
