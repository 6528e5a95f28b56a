// One session: live convergence, where the time of each iteration goes, moves, usage and limits, cancel.

import { download, get, post } from "./api.js";
import { Chart, bars, countAxis, decadesAxis, dataTable, durations, legend, line } from "./charts.js";
import { announce, badge, color, h, isEnded, meter, number, put, seconds, shortSeconds, small, whole } from "./dom.js";
import { eventItem, shownName } from "./overview.js";

const PARTS = [["cpu_s", "--c-classical", "classical"], ["network_s", "--c-network", "network"], ["queue_s", "--c-queue", "queue"], ["calibration_s", "--c-calibration", "calibration"], ["execution_s", "--c-qpu", "QPU"]];
const POINTS = 1500;
const MOST = 3000;

export class Session {
  constructor(known, namespace, name) {
    this.known = known;
    this.path = `/sessions/${namespace}/${name}`;
    this.key = `${namespace}/${name}`;
    this.title = shownName({ namespace, name });
    this.heading = h("h1", { tabindex: -1 }, this.title);
    this.state = h("p");
    this.cancelButton = h("button", { type: "button", class: "danger", onclick: () => this.dialog.showModal() }, "Cancel session");
    this.dialog = h("dialog", { "aria-labelledby": "cancel-title" },
      h("h2", { id: "cancel-title" }, `Cancel ${this.title}?`), h("p", {}, "It ends for good. What it has found so far is kept."),
      h("div", { class: "row" }, h("button", { type: "button", onclick: () => this.dialog.close() }, "Keep it running"), h("button", { type: "button", class: "danger", onclick: () => this.cancel() }, "Cancel it")));
    this.facts = h("dl", { class: "facts" });
    this.convergence = new Chart("Energy over evaluations, with its shot noise, the best so far and the exact energy", 300, convergence);
    this.ttns = new Chart("Time to next shot of each iteration", 210, timeToNextShot);
    this.timeline = new Chart("Where the wall time of each iteration went: classical, network, queue, calibration, QPU", 210, timeline);
    this.values = h("div");
    this.keys = h("div");
    this.moves = h("div");
    this.limits = h("div");
    this.events = h("ul", { class: "list" });
    this.speculative = h("p", { class: "soft" });
    this.beyond = h("p", { class: "soft" });
    this.element = h("div", {},
      h("div", { class: "row" }, h("div", {}, this.heading, this.state), this.cancelButton), this.dialog, this.facts,
      h("section", { class: "card", "aria-label": "Convergence" }, h("header", {}, h("h2", {}, "Convergence"), h("span", { class: "more" }, h("button", { type: "button", onclick: () => download(`${this.path}/trajectory.parquet`, `${this.key.replace("/", ".")}.parquet`) }, "Parquet"))), this.convergence.element, this.keys, this.values),
      h("div", { class: "half" },
        h("section", { class: "card", "aria-label": "Time to next shot" }, h("header", {}, h("h2", {}, "Time to next shot")), this.ttns.element),
        h("section", { class: "card", "aria-label": "Timeline" }, h("header", {}, h("h2", {}, "Where each iteration’s time goes")), this.timeline.element, legend(PARTS.map(([, key, label]) => [key, label])), this.beyond, this.speculative)),
      h("section", { class: "card", "aria-label": "Devices" }, h("header", {}, h("h2", {}, "Where it ran")), this.moves),
      h("div", { class: "half" },
        h("section", { class: "card", "aria-label": "Limits" }, h("header", {}, h("h2", {}, "Usage and limits")), this.limits),
        h("section", { class: "card", "aria-label": "Events" }, h("header", {}, h("h2", {}, "What happened")), this.events)));
    this.detail = known.sessions.get(this.key) || null;
    this.columns = known.trajectories.get(this.key) || null;
    this.happened = [];
    this.draw();
  }

  async load() {
    const [detail, trajectory, events] = await Promise.all([get(this.path), get(`${this.path}/trajectory?points=${POINTS}`), get(`${this.path}/events?limit=50`)]);
    this.detail = detail;
    this.columns = trajectory.columns;
    this.happened = events.items;
    this.known.trajectories.set(this.key, this.columns);
    this.draw();
  }

  changed(changes) {
    for (const change of changes) {
      if (change.namespace === undefined) continue;
      const key = `${change.namespace}/${change.kind === "event" ? change.session : change.name}`;
      if (key !== this.key) continue;
      if (change.kind === "evaluation" && this.columns) this.append(change);
      if (change.kind === "event") this.happened.unshift(change);
    }
    const now = this.known.sessions.get(this.key);
    if (now) this.detail = { ...this.detail, ...now };
    this.draw();
  }

  append(change) {
    const numbers = this.columns.evaluation;
    if (numbers.length && change.evaluation <= numbers[numbers.length - 1]) return;
    for (const name of Object.keys(this.columns)) this.columns[name].push(change[name] ?? null);
    if (numbers.length > MOST) {
      // Every second one of the older half goes; the newest stay as they come.
      const kept = numbers.map((_, index) => index > MOST / 2 || index % 2 === 0);
      for (const name of Object.keys(this.columns)) this.columns[name] = this.columns[name].filter((_, index) => kept[index]);
    }
  }

  draw() {
    const detail = this.detail;
    if (detail) {
      put(this.state, badge(detail.state), detail.reason ? h("span", { class: "soft" }, ` ${detail.reason}`) : "", detail.waiting?.length && detail.waiting[0].position ? h("span", { class: "soft" }, ` · place ${detail.waiting[0].position} on ${detail.waiting[0].device}`) : "");
      this.cancelButton.hidden = isEnded(detail.state);
      this.drawFacts(detail);
      this.drawLimits(detail);
    }
    put(this.events, this.happened.slice(0, 30).map(eventItem));
    if (!this.happened.length) put(this.events, h("li", { class: "empty" }, "Nothing yet."));
    if (this.columns) this.drawCharts(detail || {});
  }

  drawFacts(detail) {
    const toExact = detail.exact !== null && detail.energy !== null ? detail.energy - detail.exact : null;
    const fact = (name, value, small) => h("div", {}, h("dt", {}, name), h("dd", {}, value, small ? h("small", {}, ` ${small}`) : ""));
    put(this.facts,
      fact("Energy", number(detail.energy, 5), detail.std_error ? `± ${detail.std_error.toFixed(5)}` : ""),
      fact("Best seen", number(detail.best, 5)),
      fact("Exact", number(detail.exact, 5), toExact === null ? "" : `energy is ${toExact >= 0 ? "+" : ""}${small(toExact)} off`),
      detail.noisy_best !== null && detail.noisy_best !== undefined ? fact("Best under noise", number(detail.noisy_best, 5)) : null,
      fact("Iterations", whole(detail.iterations)),
      fact("TTNS, last", seconds(detail.ttns_s)),
      fact("Shots", whole(detail.shots)),
      fact("QPU time", seconds(detail.qpu_s)),
      fact("CPU time", seconds(detail.cpu_s)));
  }

  drawLimits(detail) {
    const limits = detail.limits || {};
    const rows = [["shots", "Shots", detail.shots, limits.shots, whole], ["qpuTime", "QPU time", detail.qpu_s, duration(limits.qpuTime), seconds], ["duration", "Duration", detail.elapsed_s, duration(limits.duration), seconds]];
    put(this.limits, rows.map(([, name, used, limit, say]) => h("div", { style: "margin:8px 0" }, h("div", { class: "row" }, h("span", {}, name), h("span", { class: "number" }, `${say(used)}${limit ? ` of ${say(limit)}` : ""}`)), limit ? meter((used || 0) / limit, `${name} used of the limit`, (used || 0) / limit > 0.9 ? "bad" : "good") : null)),
      h("p", { class: "soft" }, limits.shots || limits.qpuTime || limits.duration ? "" : "No limits are set.", detail.restarts ? ` Its runner was started again ${detail.restarts} times.` : ""));
  }

  drawCharts(detail) {
    const c = this.columns;
    const x = c.evaluation;
    const upper = c.energy.map((value, index) => (value === null ? null : value + (c.std_error[index] || 0)));
    const lower = c.energy.map((value, index) => (value === null ? null : value - (c.std_error[index] || 0)));
    const flat = (value) => (value === null || value === undefined ? [] : [x.map(() => value)]);
    const shape = [flat(detail.exact).length, flat(detail.noisy_best).length].join();
    this.convergence.set([x, upper, lower, c.energy, c.best, ...flat(detail.exact), ...flat(detail.noisy_best)], { shape, exact: flat(detail.exact).length, noisy: flat(detail.noisy_best).length });
    put(this.keys, legend([["--s1", "energy ± one standard error of its shots"], ["--s3", "best so far"], ...(flat(detail.exact).length ? [["--ink", "exact"]] : []), ...(flat(detail.noisy_best).length ? [["--s2", "best under noise"]] : [])]));
    this.ttns.set([x, c.ttns_s.map((value) => (value ? value : null))]);
    const sums = x.map(() => 0);
    const stacked = PARTS.map(([name]) => x.map((_, index) => (sums[index] += c[name][index] || 0)));
    const step = Math.max(1, Math.ceil(x.length / 160));
    const thin = (column) => column.filter((_, index) => index % step === 0);
    // The first iteration builds circuits and dwarfs the others; the scale is theirs.
    const sorted = [...sums].sort((a, b) => a - b);
    const usual = 2 * (sorted[Math.floor(0.95 * (sorted.length - 1))] || 0);
    const most = sorted[sorted.length - 1] || 0;
    this.timelineTop = Math.min(most, usual || most);
    this.timeline.set([thin(x), ...stacked.reverse().map(thin)], { top: () => this.timelineTop });
    this.beyond.textContent = most > this.timelineTop ? `The longest took ${seconds(most)} (evaluation ${x[sums.indexOf(most)]}) and is cut off.` : "";
    const masked = c.speculative_s.reduce((sum, value) => sum + (value || 0), 0);
    this.speculative.textContent = masked ? `Speculation masked ${seconds(masked)} of classical time.` : "";
    this.drawMoves();
    const open = this.values.querySelector("details")?.open;
    const last = x.length - 1;
    put(this.values, dataTable(["Evaluation", "Energy", "± standard error", "Best", "TTNS", "Device"], x.slice(-12).map((_, index) => last - index).map((index) => [x[index], number(c.energy[index], 6), number(c.std_error[index], 6), number(c.best[index], 6), seconds(c.ttns_s[index]), c.device[index]])));
    if (open) this.values.querySelector("details").open = true;
  }

  drawMoves() {
    const runs = [];
    const { device, evaluation, calibration_epoch: epochs } = this.columns;
    device.forEach((name, index) => {
      const last = runs[runs.length - 1];
      if (last && last.device === name && last.epoch === epochs[index]) { last.to = evaluation[index]; last.count += 1; } else runs.push({ device: name, epoch: epochs[index], from: evaluation[index], to: evaluation[index], count: 1 });
    });
    if (!runs.length) { put(this.moves, h("p", { class: "empty" }, "It has not run yet.")); return; }
    const names = [...new Set(device)];
    const tint = (name) => `var(--s${1 + (names.indexOf(name) % 6)})`;
    put(this.moves,
      h("div", { class: "strip", role: "img", "aria-label": `Devices in order: ${runs.slice(-20).map((run) => run.device).join(", ")}` }, runs.map((run, index) => h("i", { style: `flex:${run.count};background:${tint(run.device)};opacity:${index % 2 ? 0.72 : 1}`, title: `${run.device}, epoch ${run.epoch}` }))),
      h("ul", { class: "list" }, runs.slice(-8).reverse().map((run) => h("li", {}, h("a", { href: `#/devices/${run.device}` }, run.device), h("span", { class: "soft" }, ` calibration epoch ${run.epoch ?? "–"} · evaluations ${run.from}–${run.to}`)))));
  }

  async cancel() {
    this.dialog.close();
    this.cancelButton.disabled = true;
    try {
      await post(`${this.path}/cancel`);
      announce(`${this.title} is being cancelled`);
      this.cancelButton.textContent = "Cancelling …";
    } catch (error) {
      this.cancelButton.disabled = false;
      announce(error.message);
      this.state.append(h("span", { class: "notice" }, error.message));
    }
  }

  repaint() { for (const chart of [this.convergence, this.ttns, this.timeline]) chart.repaint(); this.draw(); }

  close() { for (const chart of [this.convergence, this.ttns, this.timeline]) chart.close(); }
}

// Durations come as the manifest has them: "1h30m", "90s", or ISO 8601.
function duration(text) {
  if (!text) return null;
  const units = { d: 86400, h: 3600, m: 60, s: 1, ms: 1e-3 };
  let sum = 0;
  for (const [, amount, unit] of String(text).replace(/^PT?/, "").toLowerCase().matchAll(/([\d.]+)(ms|d|h|m|s)/g)) sum += parseFloat(amount) * units[unit];
  return sum || null;
}

function convergence(axis, context) {
  return {
    scales: { x: { time: false } },
    axes: [countAxis(axis, "evaluation"), axis("energy", (value) => `${Number(value.toFixed(6))}`.replace("-", "−"), { size: 62 })],
    series: [{}, line("upper", "--band", { width: 0 }), line("lower", "--band", { width: 0 }), line("energy", "--s1"), line("best", "--s3", { width: 2 }),
      ...(context.exact ? [line("exact", "--ink", { dash: [5, 4], width: 1.3 })] : []), ...(context.noisy ? [line("best under noise", "--s2", { dash: [2, 3], width: 1.3 })] : [])],
    bands: [{ series: [1, 2], fill: color("--band") }],
  };
}

function timeToNextShot(axis) {
  return { scales: { x: { time: false }, y: { distr: 3 } }, axes: [countAxis(axis, "evaluation"), decadesAxis(axis)], series: [{}, line("TTNS", "--s1", { width: 0, points: { show: true, size: 4, fill: color("--s1"), stroke: color("--s1") } })] };
}

function timeline(axis, context) {
  return { scales: { x: { time: false }, y: { range: () => [0, Math.max(context.top(), 1e-6)] } }, axes: [countAxis(axis, "evaluation"), axis(undefined, shortSeconds, { size: 60, ...durations })], series: [{}, ...[...PARTS].reverse().map(([, key, label]) => bars(label, key))] };
}
