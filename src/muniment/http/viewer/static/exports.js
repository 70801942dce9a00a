// Exports of what is shown: made by the service in the background, waited for, then downloaded.

const LOOK_EVERY = 400;

/** Makes an export and gives the URL of its file; `tell` hears how far it is, from 0 to 1. */
export async function makeExport(url, wanted, tell = () => {}) {
  const headers = { Accept: "application/json", "Content-Type": "application/json" };
  let answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(wanted) });
  const place = new URL(answer.headers.get("Location") ?? "", new URL(url, location.href));
  for (;;) {
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const job = await answer.json();
    if (job.state === "done") return new URL(`${place.pathname}/file`, location.href);
    if (job.state !== "waiting" && job.state !== "running") throw new Error(job.state);
    tell(job.total > 0 ? job.done / job.total : null, job.done);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
    answer = await fetch(place, { headers });
  }
}

/** Sets the menu of exports to work. */
export function startExports(menu) {
  if (menu === null) return;
  const filters = JSON.parse(menu.querySelector("script").textContent);
  const said = menu.querySelector("[data-said]");
  const buttons = menu.querySelectorAll("[data-format]");
  const number = new Intl.NumberFormat(document.documentElement.lang || undefined);
  for (const button of buttons) {
    button.addEventListener("click", async () => {
      for (const each of buttons) each.disabled = true;
      try {
        const wanted = { format: button.dataset.format, filters };
        const file = await makeExport(menu.dataset.exportsUrl, wanted, (share, done) => {
          const shown = share === null ? number.format(done ?? 0) : `${Math.round(share * 100)} %`;
          said.textContent = menu.dataset.working.replace("DONE", shown);
        });
        said.textContent = "";
        location.assign(file);
      } catch {
        said.textContent = menu.dataset.failed;
      } finally {
        for (const each of buttons) each.disabled = false;
      }
    });
  }
}
