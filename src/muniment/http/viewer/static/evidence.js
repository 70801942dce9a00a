// Makes an evidence file of one event: an export like any other, waited for and then downloaded.

import { makeExport } from "./exports.js";

/** Sets the button in `panel` to work, if there is one. */
export function startEvidence(panel) {
  const button = panel.querySelector("[data-evidence]");
  const said = panel.querySelector("[data-evidence-said]");
  button?.addEventListener("click", async () => {
    button.disabled = true;
    said.textContent = said.dataset.working;
    try {
      location.assign(await makeExport(panel.dataset.exportsUrl, JSON.parse(panel.dataset.export)));
      said.textContent = "";
    } catch {
      said.textContent = said.dataset.failed;
    } finally {
      button.disabled = false;
    }
  });
}
