// The keys j and k go from event to event of a list; Enter opens one, since each is a link.

import { isTyping } from "./base.js";

/** Sets the keys to work on the page's list, which may change. */
export function startMoving() {
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.isComposing) return;
    if (isTyping(event.target) || document.querySelector("dialog[open]") !== null) return;
    const by = { j: 1, k: -1 }[event.key];
    if (by === undefined) return;
    const links = [...document.querySelectorAll("[data-events] .told")];
    const now = links.indexOf(document.activeElement);
    links[now === -1 ? 0 : Math.min(links.length - 1, Math.max(0, now + by))]?.focus();
    event.preventDefault();
  });
}
