// What every page does: times in the reader's zone, light or dark, help, and keys that lead on.

import { showTimes } from "./times.js";

const root = document.documentElement;

function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Storage may be closed to an embedded page: then it holds for this page only.
  }
}

// --- light or dark

const themeButton = document.querySelector("[data-theme-button]");
const themes = ["auto", "light", "dark"];

function sayTheme() {
  themeButton.querySelector("[data-label]").textContent = themeButton.dataset[root.dataset.theme];
}

themeButton.addEventListener("click", () => {
  root.dataset.theme = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
  remember("muniment-theme", root.dataset.theme);
  sayTheme();
});
sayTheme();

// --- help

const help = document.querySelector("dialog[data-keys]");
document.querySelector("[data-help]").addEventListener("click", () => help.showModal());

// --- keys

export const isTyping = (target) =>
  target.closest("input, textarea, select, [contenteditable]") !== null;

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.isComposing) return;
  if (isTyping(event.target) || help.open) return;
  if (event.key === "?") {
    help.showModal();
  } else if (event.key === "/") {
    const search = document.querySelector("input[type='search']");
    if (search === null) return;
    search.focus();
    search.select();
  } else {
    return;
  }
  event.preventDefault();
});

// --- times

showTimes(document);
document.addEventListener("muniment:rows", (event) => showTimes(event.target));
setInterval(() => showTimes(document), 30_000);
