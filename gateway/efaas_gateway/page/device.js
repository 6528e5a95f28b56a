// One device: how it ages, its calibrations, what runs on it.

import { get } from "./api.js";
import { Chart, durations, legend, line, timeAxis } from "./charts.js";
import { badge, clock, freshness, h, meter, percent, put, seconds, shortSeconds, whole } from "./dom.js";
import { eventItem } from "./overview.js";

const MOST = 2000;

export class Device {
  constructor(known, name) {
    this.known = known;
    this.name = name;
    this.title = name;
    this.state = h("p");
    this.facts = h("dl", { class: "facts" });
    this.fresh = h("div");
    this.age = new Chart(`Age of the calibration of ${name} over time`, 220, (axis) => plot(axis, "", shortSeconds, [line("age", "--s1")]));
    this.error = new Chart(`Two-qubit error of ${name}, as calibrated and as it is`, 220, (axis) => plot(axis, "", (value) => percent(value, 2), [line("as calibrated", "--s1", { width: 2 }), line("as it is", "--s2")]));
    this.queue = new Chart(`Jobs waiting on ${name} over time`, 220, (axis) => plot(axis, "", whole, [line("queue", "--s5", { fill: "rgba(180,140,40,.12)" })]));
    this.errorCard = h("section", { class: "card", "aria-label": "Errors" }, h("header", {}, h("h2", {}, "Errors"), h("span", { class: "soft" }, "median two-qubit error")), this.error.element, legend([["--s1", "as calibrated"], ["--s2", "as it is (known to the simulation only)"]]));
    this.calibrations = h("div");
    this.running = h("div");
    this.events = h("ul", { class: "list" });
    this.element = h("div", {}, h("h1", { tabindex: -1 }, name), this.state, this.fresh, this.facts,
      h("div", { class: "half" }, h("section", { class: "card", "aria-label": "Freshness" }, h("header", {}, h("h2", {}, "Freshness"), h("span", { class: "soft" }, "age of the calibration, device time")), this.age.element), h("section", { class: "card", "aria-label": "Queue" }, h("header", {}, h("h2", {}, "Queue"), h("span", { class: "soft" }, "jobs waiting")), this.queue.element)),
      this.errorCard,
      h("div", { class: "columns" },
        h("section", { class: "card", "aria-label": "On it now" }, h("header", {}, h("h2", {}, "On it now")), this.running),
        h("section", { class: "card", "aria-label": "Calibrations" }, h("header", {}, h("h2", {}, "Calibrations")), this.calibrations)),
      h("section", { class: "card", "aria-label": "Events" }, h("header", {}, h("h2", {}, "What happened")), this.events));
    this.history = null;
    this.happened = [];
    this.device = known.devices.get(name) || null;
    this.draw();
  }

  async load() {
    const [device, history, events] = await Promise.all([get(`/devices/${this.name}`), get(`/devices/${this.name}/history?points=1000`), get(`/events?device=${this.name}&limit=20`)]);
    this.device = device;
    this.history = history;
    this.happened = events.items;
    this.draw();
  }

  changed(changes) {
    for (const change of changes) {
      if (change.device !== this.name || !this.history) continue;
      if (change.kind === "device") {
        this.history.states.push({ ...change, at: Date.now() / 1000 });
        if (this.history.states.length > MOST) this.history.states = this.history.states.filter((_, index) => index > MOST / 2 || index % 2 === 0);
      }
      if (change.kind === "calibration" && !this.history.calibrations.some((known) => known.epoch === change.epoch)) this.history.calibrations.unshift({ ...change, at: Date.now() / 1000 });
      if (change.kind === "event") this.happened.unshift(change);
    }
    this.device = this.known.devices.get(this.name) || this.device;
    this.draw();
  }

  draw() {
    const device = this.device;
    if (device) {
      const fresh = freshness(device);
      put(this.state, badge(device.condition), h("span", { class: "soft" }, ` ${device.snapshot} · ${device.qubits} qubits${device.reason ? ` · ${device.reason}` : ""}`));
      put(this.fresh, fresh.word ? h("div", { style: "max-width:420px" }, meter(fresh.left, "Freshness", fresh.tone), h("p", { class: "soft" }, `${fresh.word}: calibrated ${seconds(device.calibration_age_s)} ago${device.interval_s ? `, every ${seconds(device.interval_s)}` : ""}`)) : "");
      const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
      put(this.facts, fact("Calibration epoch", whole(device.calibration_epoch)), fact("Duty cycle (QDC)", percent(device.duty_cycle)), fact("Shots took", seconds(device.busy_s)), fact("Calibrating took", seconds(device.calibrating_s)), fact("Queue", whole(device.queue_depth)), fact("Device clock", seconds(device.clock_s)), device.slots ? fact("Slots", whole(device.slots)) : null);
      const here = device.waiting || device.sessions || [];
      put(this.running, here.length ? h("ul", { class: "list" }, here.slice(0, 50).map((entry) => h("li", { class: "row" }, h("span", {}, entry.session ? h("a", { href: `#/sessions/${entry.session}` }, entry.session) : "another tenant’s", entry.reason ? h("span", { class: "soft" }, ` ${entry.reason}`) : ""), h("span", {}, entry.position ? `place ${entry.position}` : badge(entry.state))))) : h("p", { class: "empty" }, "Nothing runs here now."));
    }
    put(this.events, this.happened.slice(0, 20).map(eventItem));
    if (!this.happened.length) put(this.events, h("li", { class: "empty" }, "Nothing yet."));
    if (!this.history) return;
    const { states, calibrations } = this.history;
    const x = states.map((state) => state.at);
    this.age.set([x, states.map((state) => state.calibration_age_s)]);
    this.queue.set([x, states.map((state) => state.queue_depth)]);
    const known = states.map((state) => state.known_error ?? null);
    const real = states.map((state) => state.true_error ?? null);
    this.errorCard.hidden = ![...known, ...real].some((value) => value !== null);
    if (!this.errorCard.hidden) this.error.set([x, known, real]);
    put(this.calibrations, calibrations.length ? h("ul", { class: "list" }, calibrations.slice(0, 15).map((item) => h("li", { class: "row" }, h("span", {}, `Epoch ${item.epoch}`, h("span", { class: "soft" }, [item.scope && ` ${item.scope.toLowerCase()}`, item.reason].filter(Boolean).join(": "))), h("span", { class: "soft number" }, `${clock(item.at)} · device ${seconds(item.clock_s)}`)))) : h("p", { class: "empty" }, "None yet."));
  }

  repaint() { for (const chart of [this.age, this.error, this.queue]) chart.repaint(); this.draw(); }

  close() { for (const chart of [this.age, this.error, this.queue]) chart.close(); }
}

function plot(axis, label, say, series) {
  // Errors change by little: their axis shows where they are, all others begin at nothing.
  const pad = (low, high) => Math.max(0.25 * (high - low), 0.02 * high, 1e-9);
  const range = say === whole ? (_, low, high) => [0, Math.max(high * 1.08, 2)] : say === shortSeconds ? (_, low, high) => [0, Math.max(high * 1.08, 1e-9)] : (_, low, high) => [Math.max(0, low - pad(low, high)), high + pad(low, high)];
  const ticks = say === whole ? { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] } : say === shortSeconds ? durations : {};
  return { scales: { y: { range } }, axes: [timeAxis(axis), axis(label || undefined, say, { size: 62, ...ticks })], series: [{}, ...series] };
}
