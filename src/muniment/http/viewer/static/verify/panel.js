// The panel of a proof: fetches the event and its proof, verifies both here, and says step by step.

import { STEPS, isProved, verifyEvent } from "./event.js";
import { Failure } from "./failure.js";
import { parseKeys, whyNot } from "./keys.js";
import { forget, keep, kept } from "./trusted.js";

const GONE = 410;
// What is not seen, or moves others about; as an escape, it is the same JSON.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}]/gu;
const MARKS = { holds: "✓", fails: "✗", skipped: "–" };

/** A message of the catalogue, its `{names}` filled in; numbers as the reader writes them. */
function wording(messages) {
  const number = new Intl.NumberFormat(document.documentElement.lang || undefined);
  const shown = (value) => {
    if (typeof value === "number") return number.format(value);
    return Array.isArray(value) ? value.join(", ") : String(value);
  };
  return (name, values = {}) =>
    (messages[name] ?? name).replace(/\{(\w+)\}/g, (_, key) => shown(values[key] ?? ""));
}

/** An element with a class and a text, which is never read as markup. */
function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** Sets the panel to work: `root` is its element, which says what it is about in `data-…`. */
export async function startPanel(root) {
  const messages = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const panel = new Panel(root, wording(messages));
  await panel.start();
}

class Panel {
  #root;
  #say;
  #button;
  #verdict;
  #list;
  #key;

  constructor(root, say) {
    this.#root = root;
    this.#say = say;
    this.#button = root.querySelector("[data-verify]");
    this.#verdict = root.querySelector("[data-verdict]");
    this.#list = root.querySelector("[data-steps]");
    this.#key = root.querySelector("[data-own-key]");
  }

  async start() {
    this.#key.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#saveKey();
    });
    this.#key.querySelector("[data-forget]").addEventListener("click", () => this.#forgetKey());
    this.#key.elements.key.value = kept();
    await this.#showKeys();
    this.#button?.addEventListener("click", () => this.#verify());
    const reason = await whyNot();
    if (reason !== null && this.#button) {
      this.#button.disabled = true;
      this.#tell("unable", this.#say(`cannot_${reason}`));
    }
  }

  // --- the keys

  async #keys() {
    const own = kept();
    if (own) return { keys: await parseKeys(own), source: "own" };
    return { keys: await parseKeys(this.#root.dataset.keys), source: "service" };
  }

  async #showKeys() {
    const shown = this.#root.querySelector("[data-known]");
    const { keys, source } = await this.#keys();
    const intro = keys.length === 0 ? "no_key" : `key_of_${source}`;
    const lines = keys.map((key) => this.#keyLines(key));
    shown.replaceChildren(make("p", "", this.#say(intro)), ...lines);
  }

  #keyLines({ name, id, fingerprint }) {
    return this.#facts([
      ["key_name", name],
      ["key_id", id],
      ["key_fingerprint", fingerprint.match(/.{8}/g).join(" ")],
    ]);
  }

  async #saveKey() {
    const said = this.#key.querySelector("[data-said]");
    const text = this.#key.elements.key.value.trim();
    try {
      const keys = await parseKeys(text);
      if (keys.length === 0) throw new Failure("key_form");
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      said.textContent = this.#say(error.code);
      this.#key.elements.key.setAttribute("aria-invalid", "true");
      this.#key.elements.key.focus();
      return;
    }
    this.#key.elements.key.removeAttribute("aria-invalid");
    said.textContent = this.#say(keep(text) ? "key_kept" : "key_kept_for_now");
    await this.#showKeys();
  }

  async #forgetKey() {
    forget();
    this.#key.elements.key.value = "";
    this.#key.elements.key.removeAttribute("aria-invalid");
    this.#key.querySelector("[data-said]").textContent = this.#say("key_forgotten");
    await this.#showKeys();
  }

  // --- the verification

  async #verify() {
    this.#button.disabled = true;
    this.#tell("busy", this.#say("working"));
    try {
      const { keys, source } = await this.#keys();
      const { body, proof } = await this.#fetched();
      const { eventId, tenantId } = this.#root.dataset;
      const steps = await verifyEvent({ eventId, tenantId, body, proof, keys });
      this.#show(steps, source, body);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#list.hidden = true;
      this.#tell("fails", this.#say(error.code, error.values));
    } finally {
      this.#button.disabled = false;
    }
  }

  /** The stored body, byte for byte, and the proof. The service may not answer, or not yet. */
  async #fetched() {
    const { bodyUrl, proofUrl } = this.#root.dataset;
    const accept = { headers: { Accept: "application/json" }, cache: "no-store" };
    let answers;
    try {
      answers = await Promise.all([fetch(bodyUrl, accept), fetch(proofUrl, accept)]);
      const [first, second] = answers;
      if (!second.ok || !(first.ok || first.status === GONE)) {
        const bad = second.ok ? first : second;
        throw new Failure("refused", { status: bad.status });
      }
      const body = first.ok ? new Uint8Array(await first.arrayBuffer()) : null;
      return { body, proof: await second.json() };
    } catch (error) {
      throw error instanceof Failure ? error : new Failure("unreachable");
    }
  }

  #show(steps, source, body) {
    const bad = steps.find(({ result }) => result === "fails");
    this.#list.hidden = false;
    for (const [at, item] of [...this.#list.children].entries()) {
      const { result, code, values } = steps[at];
      item.dataset.result = result;
      item.querySelector("[data-mark]").textContent = MARKS[result];
      item.querySelector("[data-result]").textContent = this.#say(`result_${result}`);
      item.querySelector("[data-said]").replaceChildren(
        make("p", "", this.#say(code, values)),
        ...this.#findings(STEPS[at], values),
      );
    }
    if (body !== null) this.#list.querySelector("[data-said]").append(this.#bytes(body));
    if (isProved(steps)) this.#tell("holds", this.#say(`proved_${source}`));
    else this.#tell("fails", this.#say("not_proved", { step: this.#say(`step_${bad.step}`) }));
  }

  /** What was computed on the way, for whoever wants to compare. */
  #findings(step, values) {
    if (step === "signature") return (values.signers ?? []).map((key) => this.#keyLines(key));
    const facts = [];
    if (values.hash) facts.push(["computed_hash", values.hash]);
    if (values.said && values.said !== values.hash) facts.push(["told_hash", values.said]);
    if (values.origin) facts.push(["origin", values.origin]);
    if (values.size) facts.push(["tree_size", values.size]);
    if (values.root) facts.push([step === "path" ? "computed_root" : "root_hash", values.root]);
    const found = facts.length > 0 ? [this.#facts(facts)] : [];
    if (values.walk?.length) found.push(this.#walk(values.walk));
    return found;
  }

  #walk(walk) {
    const details = make("details", "walk");
    const list = make("ol");
    for (const { side, hash, root } of walk) {
      const item = make("li", "", this.#say(`walk_${side}`));
      item.append(" ", make("code", "hash", hash), " → ", make("code", "hash", root));
      list.append(item);
    }
    details.append(make("summary", "", this.#say("walk", { hashes: walk.length })), list);
    return details;
  }

  /** The event that was verified, as it came: what the page shows may be compared with it. */
  #bytes(body) {
    const details = make("details", "bytes");
    const escaped = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
    const visible = (sign) => sign.split("").map(escaped).join("");
    const text = new TextDecoder().decode(body).replace(HIDDEN, visible);
    const shown = make("pre", "", text);
    Object.assign(shown, { tabIndex: 0, role: "region", ariaLabel: this.#say("bytes") });
    details.append(make("summary", "", this.#say("bytes")), shown);
    return details;
  }

  #facts(facts) {
    const list = make("dl", "facts");
    for (const [name, value] of facts) {
      const row = make("div");
      const shown = make("dd");
      shown.append(make("code", "hash", value));
      row.append(make("dt", "", this.#say(name)), shown);
      list.append(row);
    }
    return list;
  }

  #tell(result, text) {
    this.#verdict.dataset.result = result;
    this.#verdict.textContent = text;
  }
}
