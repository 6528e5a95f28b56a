// The page: what is known, which view is shown, and changes as they come.

import { follow, get, setToken, takeToken } from "./api.js";
import { Device } from "./device.js";
import { announce, h, put } from "./dom.js";
import { Overview } from "./overview.js";
import { Session } from "./session.js";
import { Usage } from "./usage.js";

// What is known stays known over views: a view shows it at once and then reads what is new.
class Known {
  sessions = new Map();
  devices = new Map();
  trajectories = new Map();
  events = [];
  states = {};
  next = null;
  loaded = false;
  usage = null;

  takeSessions(page, more = false) {
    if (!more) this.sessions = new Map();
    for (const item of page.items) this.sessions.set(`${item.namespace}/${item.name}`, item);
    this.states = page.states;
    this.next = page.next;
    this.loaded = true;
  }

  takeDevices(items) { this.devices = new Map(items.map((item) => [item.name, item])); }

  // Returns whether something came up that must be read from the API.
  take(change) {
    if (change.kind === "evaluation" || change.kind === "session") {
      const key = `${change.namespace}/${change.name}`;
      const item = this.sessions.get(key);
      if (!item) return true;
      if (change.kind === "session") {
        const { kind, limits, result, ...told } = change;
        Object.assign(item, told);
      } else {
        item.iterations = Math.max(item.iterations, change.iteration + 1);
        item.evaluations += 1;
        item.shots += change.shots || 0;
        item.qpu_s += change.qpu_s || 0;
        for (const name of ["energy", "std_error", "best", "ttns_s", "device", "elapsed_s", "calibration_age_s"]) if (change[name] !== null && change[name] !== "") item[name] = change[name];
      }
    } else if (change.kind === "device") {
      const before = this.devices.get(change.device);
      if (!before) return true;
      const { kind, device, sessions, ...told } = change;
      this.devices.set(device, { ...before, ...told, ...(sessions ? { waiting: sessions } : {}) });
    } else if (change.kind === "event") {
      this.events.unshift(change);
      this.events.length = Math.min(this.events.length, 50);
    }
    return false;
  }
}

const known = new Known();
const main = document.getElementById("main");
const connection = document.getElementById("connection");
let view = null;

function route() {
  const [page, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  if (page === "sessions" && rest.length >= 2) return new Session(known, rest[0], rest[1]);
  if (page === "devices" && rest.length >= 1) return new Device(known, rest[0]);
  if (page === "usage") return new Usage(known);
  return new Overview(known);
}

async function show(focus) {
  view?.close();
  view = route();
  const shown = view;
  put(main, view.element);
  document.title = `${view.title} · EFaaS`;
  for (const link of document.querySelectorAll("nav a")) {
    const here = (link.dataset.page === "overview" && view instanceof Overview) || (link.dataset.page === "usage" && view instanceof Usage);
    if (here) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (focus) { window.scrollTo(0, 0); main.querySelector("h1")?.focus(); announce(view.title); }
  await load(shown);
}

async function load(shown) {
  try {
    await shown.load();
  } catch (error) {
    if (error.status === 401) askForToken();
    else if (shown === view) {
      main.querySelector("[data-fault]")?.remove();
      main.prepend(h("p", { class: "notice", role: "alert", "data-fault": true }, error.status === 404 ? "There is nothing of this name (any more)." : `Could not be read: ${error.message}`));
    }
  }
}

function askForToken() {
  const field = h("input", { type: "password", autocomplete: "off", required: true, "aria-label": "Token" });
  put(main, h("h1", { tabindex: -1 }, "A token is needed"), h("p", {}, "Open the address that was printed, or paste its token; in a cluster, a Kubernetes token (kubectl create token)."),
    h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); setToken(field.value.trim()); location.reload(); } }, field, h("button", { type: "submit", style: "margin-left:0" }, "Open")));
}

let waiting = [];
let timer = null;

function take(change) {
  if (change === null) { load(view); return; }
  waiting.push(change);
  // Many changes make one drawing.
  timer ??= setTimeout(() => {
    timer = null;
    const changes = waiting;
    waiting = [];
    let missing = false;
    for (const item of changes) missing = known.take(item) || missing;
    view.changed(changes);
    if (missing) readMissing();
  }, 250);
}

let reading = false;
async function readMissing() {
  if (reading) return;
  reading = true;
  try {
    const [sessions, devices] = await Promise.all([get("/sessions?limit=200"), get("/devices")]);
    known.takeSessions(sessions);
    known.takeDevices(devices.items);
    view.changed([]);
  } catch { /* the next change tries again */ } finally {
    setTimeout(() => { reading = false; }, 1000);
  }
}

const WORDS = { live: "live", lost: "connection lost", refused: "no access" };
let lost = false;
function setState(state) {
  connection.dataset.state = state;
  connection.textContent = WORDS[state];
  if (state === "live" && lost) load(view);
  lost = state === "lost";
}

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("efaas-theme", root.dataset.theme);
  view.repaint?.();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view.repaint?.());
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
window.addEventListener("hashchange", () => show(true));

takeToken();
await show(false);
follow(take, setState);
