// The page of an event: copying, keys, its proof.

import { isTyping } from "./base.js";
import { startEvidence } from "./evidence.js";
import { startPanel } from "./verify/panel.js";

const article = document.querySelector("article[data-event]");
const said = article.querySelector("[data-copied]");

/** Puts a text on the clipboard, and says whether it is there. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(await text);
    said.textContent = said.dataset.yes;
  } catch {
    said.textContent = said.dataset.no; // not over HTTPS, or not allowed
  }
}

/** The stored body, as it is. */
async function body() {
  const answer = await fetch(article.dataset.bodyUrl, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.text();
}

article.querySelector("[data-copy-json]")?.addEventListener("click", () => copy(body()));
article.querySelector("[data-copy-link]")?.addEventListener("click", ({ target }) => {
  copy(new URL(target.dataset.copyLink, location.href).href);
});

// --- keys

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || isTyping(event.target)) return;
  if (document.querySelector("dialog[open]") !== null) return;
  document.querySelector(`[data-go="${CSS.escape(event.key)}"]`)?.click();
});

// --- the proof

const panel = document.querySelector("[data-proof]");
if (panel.querySelector("[data-verify]")) {
  startPanel(panel);
  startEvidence(panel);
}
