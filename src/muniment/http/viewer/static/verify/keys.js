// Public keys as C2SP signed-note writes them (c2sp.org/signed-note, "Verifier keys").

import { concat, fromBase64, fromHex, hex, sha256, toBase64, utf8 } from "./bytes.js";
import { need } from "./failure.js";

const LOG = 1;
const WITNESS = 4;
const PRIME = 2n ** 255n - 19n;
const EIGHTH = 0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n;
// The y of every point of small order, under which one signature holds for many messages.
const WEAK = new Set([0n, 1n, PRIME - 1n, PRIME, PRIME + 1n, EIGHTH, PRIME - EIGHTH]);

/** Whether C2SP takes it for a key's name: not empty, no Unicode space, plus or control. */
export const isKeyName = (name) =>
  name !== "" && name.isWellFormed() && !/[\p{White_Space}+\u0000-\u001f]/u.test(name);

/** Four bytes that, with the name, tell which key signed (signed-note, "Signatures"). */
const idOf = async (name, publicKey) =>
  (await sha256(utf8(`${name}\n`), Uint8Array.of(LOG), publicKey)).slice(0, 4);

/** A log's key of that name: `text` is how C2SP writes it, `id` its four bytes in hexadecimal. */
async function makeKey(name, publicKey) {
  const id = hex(await idOf(name, publicKey));
  const text = `${name}+${id}+${toBase64(concat(Uint8Array.of(LOG), publicKey))}`;
  return { name, id, publicKey, text, fingerprint: hex(await sha256(publicKey)) };
}

/** The key in a text such as `example.com/audit+530d903a+AekyeRrm…`. Throws a `Failure`. */
export async function parseKey(text) {
  need(!text.startsWith("PRIVATE+KEY+"), "key_private");
  // The name has no plus; the base64 may have some.
  const found = /^([^+]*)\+([0-9a-f]{8})\+(.+)$/.exec(text);
  const data = found && fromBase64(found[3]);
  need(data && data.length > 0 && isKeyName(found[1]), "key_form");
  need(data[0] !== WITNESS, "key_witness");
  need(data[0] === LOG && data.length === 33, "key_form");
  const key = await makeKey(found[1], data.slice(1));
  need(key.id === found[2], "key_id_wrong");
  const y = BigInt(`0x${hex(key.publicKey.toReversed())}`) % 2n ** 255n;
  need(!WEAK.has(y), "key_weak");
  return key;
}

/** The keys in a text, with white space between them. Throws a `Failure` if one of them is none. */
export const parseKeys = (text) => Promise.all(text.split(/\s+/).filter(Boolean).map(parseKey));

/** The end of the origin of a tenant's log: a slash, and its id percent-encoded (RFC 3986). */
export const originEnd = (tenantId) =>
  "/" +
  encodeURIComponent(tenantId).replace(
    /[!'()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );

/** The key as that tenant's log bears it; one that is named after the tenant stays as it is. */
export async function forTenant(key, tenantId) {
  const end = originEnd(tenantId);
  return key.name.endsWith(end) ? key : makeKey(key.name + end, key.publicKey);
}

/** Whether the key signed the message: Ed25519 (RFC 8032), by the browser. */
export async function holds(publicKey, message, signature) {
  if (signature.length !== 64) return false;
  let key;
  try {
    key = await crypto.subtle.importKey("raw", publicKey, { name: "Ed25519" }, false, ["verify"]);
  } catch {
    return false; // no point of the curve
  }
  return crypto.subtle.verify({ name: "Ed25519" }, key, signature, message);
}

// RFC 8032, section 7.1, test 2: the message is the byte 0x72.
const TEST_KEY = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
const TEST_SIGNATURE =
  "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da" +
  "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

/**
 * Why this browser can't verify, or null if it can: "insecure" where it keeps WebCrypto from a page
 * that came without TLS, "no_ed25519" where it can't tell good from bad by a vector of RFC 8032.
 */
export async function whyNot() {
  if (!globalThis.crypto?.subtle) return "insecure";
  const [key, signature] = [fromHex(TEST_KEY), fromHex(TEST_SIGNATURE)];
  try {
    const good = await holds(key, Uint8Array.of(0x72), signature);
    const bad = await holds(key, Uint8Array.of(0x73), signature);
    return good && !bad ? null : "no_ed25519";
  } catch {
    return "no_ed25519";
  }
}
