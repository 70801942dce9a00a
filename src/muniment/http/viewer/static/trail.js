// The page of the trail: keys that move through it, and what its menus do.

import { isTyping } from "./base.js";
import { startCompletion } from "./complete.js";
import { startExports } from "./exports.js";
import { startHistogram } from "./histogram.js";
import { startMoving } from "./moving.js";
import { startRange } from "./range.js";
import { startSaved } from "./saved.js";
import { showTimes } from "./times.js";

const root = document.documentElement;

// --- from event to event, and out of menus

startMoving();

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) {
    const menu = document.querySelector("details.menu[open]");
    if (menu !== null) {
      menu.open = false;
      menu.querySelector("summary").focus();
    } else if (isTyping(event.target)) {
      event.target.blur();
    }
  }
});

// --- one menu at a time, and none once the pointer goes elsewhere

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// --- what is not asked for stays out of the link

document.querySelector("form.search")?.addEventListener("submit", (event) => {
  for (const field of event.target.querySelectorAll("input")) field.disabled = field.value === "";
});
addEventListener("pageshow", () => {
  for (const field of document.querySelectorAll("form.search input")) field.disabled = false;
});

// --- the zone of times

const showRange = startRange(document.querySelector("[data-range]"));
const zoneButton = document.querySelector("[data-zone-button]");

function showZone(zone) {
  root.dataset.zone = zone;
  zoneButton.querySelector("[data-label]").textContent = zoneButton.dataset[zone];
  showTimes(document);
  showRange();
}

if (zoneButton !== null) {
  showZone(root.dataset.zone);
  zoneButton.addEventListener("click", () => {
    showZone(root.dataset.zone === "utc" ? "local" : "utc");
    try {
      localStorage.setItem("muniment-zone", root.dataset.zone);
    } catch {
      // It holds for this page only.
    }
  });
}

// --- the link of this page

const copy = document.querySelector("[data-copy-link]");
let copied;
copy?.addEventListener("click", async () => {
  const label = copy.querySelector("[data-label]");
  copy.dataset.label ??= label.textContent;
  try {
    await navigator.clipboard.writeText(location.href);
    label.textContent = copy.dataset.done;
  } catch {
    label.textContent = copy.dataset.failed; // not over HTTPS, or not allowed
  }
  clearTimeout(copied);
  copied = setTimeout(() => (label.textContent = copy.dataset.label), 4_000);
});

// On a narrow screen the facets stand above what was found: folded.
const facets = document.querySelector(".facets-fold");
if (facets !== null && matchMedia("(max-width: 60rem)").matches) {
  facets.open = false;
}

startCompletion(document.querySelector("[data-complete]"));
startExports(document.querySelector("[data-exports]"));
startHistogram(document.querySelector("[data-histogram]"));
startSaved(document.querySelector("[data-saved]"));
