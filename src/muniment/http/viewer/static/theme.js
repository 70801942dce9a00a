// Loaded before the page is shown, so that it does not flash in other colours or times.
try {
  const theme = localStorage.getItem("muniment-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  if (localStorage.getItem("muniment-zone") === "utc") document.documentElement.dataset.zone = "utc";
} catch {
  // Storage may be closed to an embedded page: then it looks as the system does.
}
document.documentElement.classList.add("has-script");
