// Makes an evidence file of one event: an export like any other, waited for and then downloaded.

const LOOK_EVERY = 500;

/** Sets the button in `panel` to work, if there is one. */
export function startEvidence(panel) {
  const button = panel.querySelector("[data-evidence]");
  const said = panel.querySelector("[data-evidence-said]");
  button?.addEventListener("click", async () => {
    button.disabled = true;
    said.textContent = said.dataset.working;
    try {
      location.assign(await made(panel.dataset.exportsUrl, JSON.parse(panel.dataset.export)));
      said.textContent = "";
    } catch {
      said.textContent = said.dataset.failed;
    } finally {
      button.disabled = false;
    }
  });
}

/** The URL of the file, once it is there. */
async function made(url, wanted) {
  const headers = { Accept: "application/json", "Content-Type": "application/json" };
  let answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(wanted) });
  const place = new URL(answer.headers.get("Location") ?? "", new URL(url, location.href));
  for (;;) {
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const { state, export_id: id } = await answer.json();
    if (state === "done") return new URL(`${url}/${encodeURIComponent(id)}/file`, location.href);
    if (state !== "waiting" && state !== "running") throw new Error(state);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
    answer = await fetch(place, { headers });
  }
}
