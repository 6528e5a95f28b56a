// Overview: sessions and why each waits, devices with their freshness, the queue, what happened.

import { get } from "./api.js";
import { badge, clock, freshness, h, isEnded, meter, number, percent, put, seconds, small, whole } from "./dom.js";

const PAGE = 200;

export const sessionLink = (item) => `#/sessions/${item.namespace}/${item.name}`;
export const shownName = (item) => (item.namespace === "default" ? item.name : `${item.namespace}/${item.name}`);

export class Overview {
  title = "Overview";

  constructor(known) {
    this.known = known;
    this.shown = PAGE;
    this.search = h("input", { type: "search", placeholder: "Find a session", "aria-label": "Find a session", oninput: () => this.draw() });
    this.filter = h("select", { "aria-label": "State", onchange: () => this.draw() }, h("option", { value: "" }, "All states"), h("option", { value: "active" }, "Not ended"));
    this.counts = h("p", { class: "soft" });
    this.devices = h("div", { class: "devices" });
    this.rows = h("tbody");
    this.more = h("button", { type: "button", onclick: () => { this.shown += PAGE; this.loadMore(); } }, "Show more");
    this.queue = h("div");
    this.events = h("ul", { class: "list" });
    this.element = h("div", {},
      h("h1", { tabindex: -1 }, "Overview"), this.counts,
      h("section", { "aria-label": "Devices" }, this.devices),
      h("section", { class: "card", "aria-label": "Sessions" },
        h("header", {}, h("h2", {}, "Sessions"), h("span", { class: "more" }, this.search, this.filter)),
        h("div", { class: "scroll" }, h("table", { class: "sessions" },
          h("thead", {}, h("tr", {}, ["Session", "State", "Why", "Device"].map((name) => h("th", { scope: "col" }, name)), ["Iteration", "Best", "To exact", "TTNS"].map((name) => h("th", { scope: "col", class: "right" }, name)))),
          this.rows)),
        this.more),
      h("div", { class: "half" },
        h("section", { class: "card", "aria-label": "Queue" }, h("header", {}, h("h2", {}, "Queue now")), this.queue),
        h("section", { class: "card", "aria-label": "Events" }, h("header", {}, h("h2", {}, "What happened")), this.events)));
    this.draw();
  }

  async load() {
    const [sessions, devices, events] = await Promise.all([get(`/sessions?limit=${PAGE}`), get("/devices"), get("/events?limit=12")]);
    this.known.takeSessions(sessions);
    this.known.takeDevices(devices.items);
    this.known.events = events.items;
    this.draw();
  }

  async loadMore() {
    while (this.known.next && this.known.sessions.size < this.shown) {
      this.known.takeSessions(await get(`/sessions?limit=${PAGE}&cursor=${encodeURIComponent(this.known.next)}`), true);
    }
    this.draw();
  }

  changed() { this.draw(); }

  draw() {
    const { known } = this;
    const states = new Map();
    for (const item of known.sessions.values()) states.set(item.state, (states.get(item.state) || 0) + 1);
    const all = known.next ? Object.entries(known.states) : [...states];
    this.counts.textContent = known.loaded ? all.filter(([, count]) => count).map(([state, count]) => `${whole(count)} ${(state || "new").toLowerCase()}`).join(" · ") || "No sessions yet. They appear here as soon as one is started." : "";
    this.drawDevices();
    this.drawSessions();
    this.drawQueue();
    put(this.events, known.events.slice(0, 12).map(eventItem));
    if (!known.events.length) put(this.events, h("li", { class: "empty" }, "Nothing yet."));
  }

  drawDevices() {
    put(this.devices, [...this.known.devices.values()].map((device) => {
      const fresh = freshness(device);
      return h("a", { class: `device tone-${fresh.tone}`, href: `#/devices/${device.name}` },
        h("span", { class: "row" }, h("span", { class: "name" }, device.name), badge(device.condition)),
        h("span", { class: "soft" }, `${device.qubits} qubits${fresh.word ? ` · ${fresh.word}` : ""}`),
        meter(fresh.left, `Freshness of ${device.name}`, fresh.tone),
        h("dl", {},
          h("dt", {}, "Calibrated"), h("dd", { class: "number" }, `${seconds(device.calibration_age_s)} ago`),
          h("dt", {}, "Duty cycle"), h("dd", { class: "number" }, percent(device.duty_cycle)),
          h("dt", {}, "Queue"), h("dd", { class: "number" }, whole(device.queue_depth))));
    }));
  }

  drawSessions() {
    const text = this.search.value.trim().toLowerCase();
    const items = [...this.known.sessions.values()].filter((item) =>
      (!text || `${item.namespace}/${item.name}`.toLowerCase().includes(text)) && (!this.filter.value || !isEnded(item.state)));
    put(this.rows, items.slice(0, this.shown).map(sessionRow));
    if (!items.length && this.known.loaded) put(this.rows, h("tr", {}, h("td", { colspan: 8, class: "empty" }, text || this.filter.value ? "No session fits." : "No sessions yet.")));
    this.more.hidden = !(this.known.next || items.length > this.shown);
  }

  drawQueue() {
    const waiting = [...this.known.devices.values()].flatMap((device) => (device.waiting || device.sessions || []).filter((entry) => entry.position > 0).map((entry) => ({ ...entry, device: device.name })));
    if (!waiting.length) { put(this.queue, h("p", { class: "empty" }, "Nobody waits.")); return; }
    waiting.sort((a, b) => a.position - b.position || a.device.localeCompare(b.device));
    put(this.queue, h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Who waits" }, h("table", {}, h("thead", {}, h("tr", {}, ["Device", "Place", "Session", "Why"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, waiting.slice(0, 50).map((entry) => h("tr", {}, h("td", {}, entry.device), h("td", { class: "number" }, entry.position), h("td", {}, entry.session ? h("a", { href: `#/sessions/${entry.session}` }, entry.session) : "another tenant’s"), h("td", { class: "why" }, entry.reason)))))));
  }

  close() {}
}

function sessionRow(item) {
  const error = item.best !== null && item.exact !== null ? item.best - item.exact : null;
  const cell = (name, text, empty) => h("td", { class: `right number${empty ? " empty-cell" : ""}`, "data-name": name }, text);
  return h("tr", {},
    h("td", {}, h("a", { href: sessionLink(item) }, shownName(item))),
    h("td", {}, badge(item.state)),
    h("td", { class: `why${item.reason ? "" : " empty-cell"}` }, item.queue_position ? `place ${item.queue_position}: ${item.reason}` : item.reason),
    h("td", { class: item.device ? "" : "empty-cell" }, item.device ? h("a", { href: `#/devices/${item.device}` }, item.device) : ""),
    cell("iteration", whole(item.iterations), !item.iterations),
    cell("best", number(item.best), item.best === null),
    cell("to exact", error === null ? "" : small(error), error === null),
    cell("TTNS", item.ttns_s === null ? "" : seconds(item.ttns_s), item.ttns_s === null));
}

export function eventItem(event) {
  const where = [event.session && shownName({ namespace: event.namespace, name: event.session }), event.device].filter(Boolean).join(" on ");
  return h("li", {}, h("time", { datetime: new Date(event.at * 1000).toISOString() }, clock(event.at)), ` ${where}${where ? ": " : ""}`, h("strong", {}, event.reason), event.message ? ` – ${event.message}` : "");
}
