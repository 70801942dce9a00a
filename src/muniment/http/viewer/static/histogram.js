// Drag across the bars of the histogram to look at their range.

const LEAST = 6; // pixels; less is a click

/** Sets a histogram to work: `data-zoom` is the link to a range, with SINCE and UNTIL in it. */
export function startHistogram(figure) {
  if (figure === null) return;
  const svg = figure.querySelector("svg");
  const brush = svg.querySelector("[data-brush]");
  const bars = [...svg.querySelectorAll(".bar")];
  if (bars.length === 0) return;
  const first = Number(bars[0].dataset.start);
  const width = Number(figure.dataset.width);
  const earliest = Date.parse(figure.dataset.since) / 1000; // the first bar may begin before it
  let from = null;
  let dragged = false;

  const share = (event) => {
    const box = svg.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  const ends = (event) => {
    const [low, high] = [from.share, share(event)].sort((a, b) => a - b);
    return [Math.floor(low * bars.length), Math.min(bars.length, Math.floor(high * bars.length) + 1)];
  };
  const stamp = (seconds) => new Date(seconds * 1000).toISOString().replace(".000Z", "Z");

  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    from = { x: event.clientX, share: share(event) };
    dragged = false;
  });
  addEventListener("pointermove", (event) => {
    if (from === null || (!dragged && Math.abs(event.clientX - from.x) < LEAST)) return;
    dragged = true;
    const [low, high] = ends(event);
    brush.setAttribute("x", String(low * 10));
    brush.setAttribute("width", String((high - low) * 10));
  });
  addEventListener("pointerup", (event) => {
    if (from === null) return;
    if (dragged) {
      const [low, high] = ends(event);
      const since = encodeURIComponent(stamp(Math.max(earliest, first + low * width)));
      const until = encodeURIComponent(stamp(first + high * width));
      location.assign(figure.dataset.zoom.replace("SINCE", since).replace("UNTIL", until));
    }
    from = null;
  });
  addEventListener("pointercancel", () => {
    from = null;
    brush.setAttribute("width", "0");
  });
  // Back on this page, as it was left.
  addEventListener("pageshow", () => brush.setAttribute("width", "0"));
  // The links of the bars are for clicks only.
  svg.addEventListener("click", (event) => dragged && event.preventDefault(), true);
  svg.addEventListener("dragstart", (event) => event.preventDefault());
}
