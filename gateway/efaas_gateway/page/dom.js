// Makes elements and says numbers.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") element.style.cssText = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const put = (element, ...children) => element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));

const MINUS = "−";
const signed = (text) => text.replaceAll("-", MINUS);

export const number = (value, digits = 4) => value === null || value === undefined ? "–" : signed(value.toFixed(digits));
export const whole = (value) => value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en").replaceAll(",", " ");
export const percent = (value, digits = 0) => value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`;

export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0 s";
  if (value < 1e-3) return `${(value * 1e6).toPrecision(3)} µs`;
  if (value < 1) return `${(value * 1e3).toPrecision(3)} ms`;
  if (value < 60) return `${value.toPrecision(3)} s`;
  for (const [unit, name, lower, lowerName] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    const total = Math.round(value / lower);
    const rest = total % (unit / lower);
    if (total * lower >= unit) return `${Math.floor((total * lower) / unit)} ${name}${rest ? ` ${rest} ${lowerName}` : ""}`;
  }
  return `${Math.round(value)} s`;
}

export const small = (value) => signed(value.toExponential(1));

// For the ticks of an axis: one unit, few digits.
export function shortSeconds(value) {
  const size = Math.abs(value);
  const [unit, name] = size >= 86400 ? [86400, "d"] : size >= 3600 ? [3600, "h"] : size >= 60 ? [60, "min"] : size >= 1 || size === 0 ? [1, "s"] : size >= 1e-3 ? [1e-3, "ms"] : [1e-6, "µs"];
  return `${Number((value / unit).toPrecision(3))} ${name}`;
}

export function clock(at) {
  const date = new Date(at * 1000);
  const time = date.toLocaleTimeString([], { hour12: false });
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString()} ${time}`;
}

export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const TONES = { Completed: "good", Running: "good", Ready: "good", Failed: "bad", Down: "bad", Expired: "fair", Cancelled: "fair", Queued: "fair", Calibrating: "fair", Restarting: "fair", Interrupted: "fair", Draining: "fair" };
const MARKS = { Completed: "✔", Running: "▶", Queued: "◔", Preparing: "◌", Pending: "○", Failed: "✘", Expired: "✘", Cancelled: "✘", Suspended: "‖", Interrupted: "‖", Ready: "✔", Calibrating: "◑" };

export const badge = (state) => h("span", { class: `badge ${TONES[state] || ""}` }, `${MARKS[state] ? `${MARKS[state]} ` : ""}${state || "New"}`);

export const isEnded = (state) => ["Completed", "Failed", "Expired", "Cancelled", "Interrupted"].includes(state);

// How fresh a device's calibration is: by the interval in which it should be calibrated, and its limit.
export function freshness(device) {
  const age = device.calibration_age_s;
  const interval = device.interval_s || device.max_age_s;
  if (device.condition === "Calibrating") return { tone: "fair", word: "calibrating", left: 0 };
  if (!interval) return { tone: "idle", word: "", left: 1 };
  const used = age / interval;
  if (device.max_age_s && age > device.max_age_s) return { tone: "bad", word: "too old", left: 0 };
  if (used < 0.5) return { tone: "good", word: "fresh", left: 1 - used };
  if (used <= 1) return { tone: "fair", word: "ageing", left: 1 - used };
  return { tone: "bad", word: "stale", left: 0 };
}

export const meter = (part, label, tone = "") => h("div", { class: `meter ${tone ? `tone-${tone}` : ""}`, role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * part) }, h("i", { style: `width:${Math.max(0, Math.min(100, 100 * part))}%` }));

export function announce(text) { document.getElementById("announce").textContent = text; }
