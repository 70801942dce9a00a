// Times as the reader likes them: how long ago, in their own time zone or in UTC.

const lang = document.documentElement.lang || undefined;
const relative = new Intl.RelativeTimeFormat(lang, { numeric: "auto", style: "short" });
const steps = [
  ["second", 60],
  ["minute", 60],
  ["hour", 24],
  ["day", 7],
];
const zones = { local: undefined, utc: "UTC" };
const made = new Map();
const HOUR = 3_600_000;

function format(zone, parts) {
  const key = `${zone} ${parts}`;
  if (!made.has(key)) {
    const options = { hourCycle: "h23", timeZone: zones[zone] };
    if (parts.includes("date")) Object.assign(options, { year: "numeric", month: "short", day: "numeric" });
    if (parts.includes("time")) Object.assign(options, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    if (parts.includes("day")) Object.assign(options, { month: "short", day: "numeric" });
    if (parts.includes("minute")) Object.assign(options, { hour: "2-digit", minute: "2-digit" });
    if (parts.includes("zone")) options.timeZoneName = "short";
    made.set(key, new Intl.DateTimeFormat(lang, options));
  }
  return made.get(key);
}

/** A time without what goes without saying: this year, and seconds on the minute. */
function brief(zone, moment) {
  const isThisYear = moment.getFullYear() === new Date().getFullYear();
  const isWhole = moment.getTime() % 60_000 === 0;
  return format(zone, `${isThisYear ? "day" : "date"} ${isWhole ? "minute" : "time"}`).format(moment);
}

/** The time of day; with the day, unless that is today. */
function timeOfDay(zone, moment) {
  const day = format(zone, "date");
  const isToday = day.format(moment) === day.format(new Date());
  return isToday ? format(zone, "time").format(moment) : brief(zone, moment);
}

/** How long ago, in words: "5 min. ago". */
export function ago(moment, now = Date.now()) {
  let amount = (moment - now) / 1000;
  for (const [unit, size] of steps) {
    if (Math.abs(amount) < size || unit === "day") return relative.format(Math.round(amount), unit);
    amount /= size;
  }
  return "";
}

/** Shows every <time> below an element in the page's zone, in the form that it asks for. */
export function showTimes(below) {
  const zone = document.documentElement.dataset.zone === "utc" ? "utc" : "local";
  for (const element of below.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const whole = format(zone, "date time zone").format(moment);
    const utc = `${element.dateTime.slice(0, 10)} ${element.dateTime.slice(11, 23)} UTC`;
    const form = element.dataset.form;
    element.title = zone === "utc" ? utc : `${whole} · ${utc}`;
    if (form === "short") {
      const since = Date.now() - moment.getTime();
      element.dataset.exact = brief(zone, moment);
      element.textContent = since >= 0 && since < HOUR ? ago(moment.getTime()) : element.dataset.exact;
    }
    else if (form === "time") element.textContent = timeOfDay(zone, moment);
    else if (form === "zones") element.textContent = zone === "utc" ? utc : `${whole} (${utc})`;
    else if (form === "range") element.textContent = brief(zone, moment);
    else element.textContent = `${whole}, ${ago(moment.getTime())}`;
  }
}
