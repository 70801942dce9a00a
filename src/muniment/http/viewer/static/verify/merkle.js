// The Merkle tree of RFC 6962, section 2.1, as far as an inclusion proof needs it.

import { need } from "./failure.js";
import { sha256 } from "./bytes.js";

export const HASH_BYTES = 32;
const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

/** SHA-256 over a zero byte and the leaf's data (RFC 6962, section 2.1). */
export const leafHash = (data) => sha256(LEAF, data);

/** SHA-256 over a one byte and the roots of two subtrees (RFC 6962, section 2.1). */
export const nodeHash = (left, right) => sha256(NODE, left, right);

const half = (number) => Math.floor(number / 2); // `>>` would cut it to 32 bits
const isOdd = (number) => number % 2 === 1;

/**
 * Where a leaf hash and its path lead (RFC 9162, section 2.1.3.2).
 *
 * Gives the `root`, and the `walk`: of each hash on the path, lowest first, the `side` on which it
 * stands, itself, and what both hash to. Throws a `Failure` for a path of another length.
 */
export async function rootFromInclusion(leafIndex, treeSize, leaf, path) {
  const isPlace = Number.isSafeInteger(leafIndex) && Number.isSafeInteger(treeSize);
  need(isPlace && leafIndex >= 0 && leafIndex < treeSize, "path_outside", { leafIndex, treeSize });
  for (const each of [leaf, ...path]) need(each?.length === HASH_BYTES, "path_no_hash");
  const walk = [];
  let [index, last, root] = [leafIndex, treeSize - 1, leaf];
  for (const sibling of path) {
    need(last > 0, "path_too_long", { hashes: path.length });
    const side = isOdd(index) || index === last ? "left" : "right";
    if (side === "left") {
      root = await nodeHash(sibling, root);
      while (!isOdd(index) && index > 0) [index, last] = [half(index), half(last)];
    } else {
      root = await nodeHash(root, sibling);
    }
    walk.push({ side, sibling, root });
    [index, last] = [half(index), half(last)];
  }
  need(last === 0, "path_too_short", { hashes: path.length });
  return { root, walk };
}
