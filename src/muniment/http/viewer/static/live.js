// The live page: its stream, its list, and what is done with them by button or key.

import { isTyping } from "./base.js";
import { startCompletion } from "./complete.js";
import { Feed } from "./feed.js";
import { startMoving } from "./moving.js";
import { Stream } from "./stream.js";

const SAID_EVERY = 5_000;

const root = document.querySelector("[data-live]");
const messages = JSON.parse(root.querySelector("script[type='application/json']").textContent);
const button = root.querySelector("[data-pause]");
const state = root.querySelector("[data-state]");
const waiting = root.querySelector("[data-waiting]");
const empty = root.querySelector("[data-empty]");
const left = root.querySelector("[data-left]");
const again = root.querySelector("[data-sign-in-again]");
const spoken = root.querySelector("[data-spoken]");
const number = new Intl.NumberFormat(document.documentElement.lang || undefined);

const say = (name, count = 0) =>
  messages[count === 1 && `${name}_one` in messages ? `${name}_one` : name].replaceAll(
    "{count}",
    number.format(count),
  );

// --- what came is told now and then, and not event by event

let unsaid = 0;
setInterval(() => {
  if (unsaid > 0 && !feed.isPaused) spoken.textContent = say("came", unsaid);
  if (!feed.isPaused) unsaid = 0;
}, SAID_EVERY);

const feed = new Feed(root.querySelector("[data-events]"), Number(root.dataset.most), (count) => {
  unsaid += count;
  if (count > 0) root.dispatchEvent(new CustomEvent("muniment:rows", { bubbles: true }));
  empty.hidden = root.querySelector("[data-events]").childElementCount > 0;
  left.hidden = feed.left === 0;
  waiting.hidden = !feed.isPaused;
  waiting.textContent = say("waiting", feed.waiting);
});

function pause(isPaused) {
  feed.pause(isPaused);
  root.dataset.paused = String(isPaused);
  button.setAttribute("aria-pressed", String(isPaused));
  button.querySelector("[data-label]").textContent = say(isPaused ? "resume" : "pause");
  spoken.textContent = say(isPaused ? "is_paused" : "goes_on");
}

// --- the connection

const stream = new Stream(
  root.dataset.streamUrl,
  (id, data) => feed.add(id, JSON.parse(data).row),
  (name, seconds) => {
    state.dataset.state = name;
    state.querySelector("[data-label]").textContent = say(name, seconds);
    again.hidden = name !== "over";
    if (name === "open") fillGap();
  },
);

let isFilled = false;

/** Adds what was recorded between the page's making and the stream's opening. */
async function fillGap() {
  if (isFilled) return;
  isFilled = true;
  try {
    const page = await (await fetch(location.href, { headers: { Accept: "text/html" } })).text();
    const rows = new DOMParser().parseFromString(page, "text/html");
    const found = [...rows.querySelectorAll("[data-events] > [data-event]")];
    for (const row of found.reverse()) feed.add(row.dataset.event, row.outerHTML);
  } catch {
    isFilled = false; // the next time that it opens
  }
}

// --- by hand

const takesSpace = (target) => target.closest("a, button, summary") !== null;

button.addEventListener("click", () => pause(!feed.isPaused));
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || isTyping(event.target)) return;
  if (document.querySelector("dialog[open]") !== null) return;
  if (event.key === "p" || (event.key === " " && !takesSpace(event.target))) {
    event.preventDefault();
    pause(!feed.isPaused);
  }
});

startCompletion(root.querySelector("[data-complete]"));
startMoving();
button.hidden = false;
stream.open();
