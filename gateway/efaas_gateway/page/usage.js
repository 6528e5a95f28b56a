// Usage: what each tenant had of what it deserves, and what was charged to whom.

import { download, get } from "./api.js";
import { Chart, durations, legend, line, timeAxis } from "./charts.js";
import { h, percent, put, seconds, shortSeconds, whole } from "./dom.js";

const SPANS = { "1 hour": 3600, "1 day": 86400, "7 days": 604800, "30 days": 2592000, "all time": 0 };
const STEPS = 60;

export class Usage {
  title = "Usage";

  constructor(known) {
    this.known = known;
    this.by = "tenant";
    this.span = h("select", { "aria-label": "Time", onchange: () => { this.chosen = true; this.load(); } }, Object.keys(SPANS).map((name) => h("option", { selected: name === "1 day" }, name)));
    this.choice = h("select", { "aria-label": "Summed by", onchange: () => { this.by = this.choice.value; this.load(); } }, ["tenant", "session", "device"].map((name) => h("option", { value: name }, `by ${name}`)));
    this.shares = h("div");
    this.note = h("p", { class: "soft" });
    this.names = [];
    this.chart = new Chart("QPU time used over time, by tenant", 220, (axis, context) => ({ scales: { x: { range: () => context.range() }, y: { range: (_, low, high) => [0, Math.max(high * 1.08, 1e-9)] } }, axes: [timeAxis(axis), axis(undefined, shortSeconds, { size: 62, ...durations })], series: [{}, ...this.names.map((name, index) => line(name, `--s${1 + (index % 6)}`, { points: { show: true, size: 4 } }))] }));
    this.keys = h("div");
    this.table = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Usage" });
    const save = (format) => h("button", { type: "button", onclick: () => download(`/usage?${this.query()}&format=${format}`, `usage-by-${this.by}.${format}`) }, format === "csv" ? "CSV" : "Parquet");
    this.element = h("div", {}, h("h1", { tabindex: -1 }, "Usage"),
      h("section", { class: "card", "aria-label": "Shares" }, h("header", {}, h("h2", {}, "Shares against what is deserved")), this.shares, this.note),
      h("section", { class: "card", "aria-label": "Over time" }, h("header", {}, h("h2", {}, "QPU time over time")), this.chart.element, this.keys),
      h("section", { class: "card", "aria-label": "Charges" }, h("header", {}, h("h2", {}, "Charges"), h("span", { class: "more" }, this.choice, this.span, save("csv"), save("parquet"))), this.table));
    if (known.usage) this.draw(known.usage);
  }

  query() {
    const span = SPANS[this.span.value];
    return `by=${this.by}${span ? `&start=${Math.floor(Date.now() / 1000) - span}` : ""}`;
  }

  range(moments) {
    const now = Date.now() / 1000;
    const span = SPANS[this.span.value];
    return span ? [now - span, now] : [(moments[0] ?? now) - 3600, now];
  }

  async load() {
    const span = SPANS[this.span.value];
    const step = Math.max(1, Math.ceil((span || 2592000) / STEPS));
    const [shares, sums, steps] = await Promise.all([get("/shares"), get(`/usage?${this.query()}`), get(`/usage?${this.query().replace(/by=\w+/, "by=tenant")}&bucket_s=${step}`)]);
    const oldest = Math.min(...steps.items.map((row) => row.at));
    if (!this.chosen && this.span.value === "1 day" && oldest > Date.now() / 1000 - 3600) {
      // Everything is new: a day would show it as one point.
      this.chosen = true;
      this.span.value = "1 hour";
      return this.load();
    }
    this.known.usage = { shares, sums: sums.items, steps: steps.items };
    this.draw(this.known.usage);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.element.isConnected && this.load().catch(() => {}), 5000);
  }

  changed() {}

  draw({ shares, sums, steps }) {
    put(this.shares, shares.items.length ? shares.items.map((item) => h("div", { class: "share" },
      h("div", { class: "row" }, h("span", {}, item.tenant || "other tenants", h("span", { class: "soft" }, ` weight ${item.weight}`)), h("span", { class: "number" }, `${percent(item.share)} of ${percent(item.deserved)} deserved`)),
      h("div", { class: "bar", role: "img", "aria-label": `${item.tenant || "other tenants"} had ${percent(item.share)} and deserves ${percent(item.deserved)}` }, h("i", { style: `width:${100 * item.share}%` }), h("b", { style: `left:${100 * item.deserved}%` })))) : h("p", { class: "empty" }, "Nobody has used anything lately."));
    this.note.textContent = shares.items.length ? `Bar: part of all QPU time lately (half-life ${seconds(shares.half_life_s)}). Mark: what the weight entitles to among tenants that use something.` : "";
    this.names = [...new Set(steps.map((row) => row.tenant))];
    const moments = [...new Set(steps.map((row) => row.at))].sort((a, b) => a - b);
    const at = new Map(steps.map((row) => [`${row.tenant} ${row.at}`, row.qpu_s]));
    this.chart.set([moments, ...this.names.map((name) => moments.map((moment) => at.get(`${name} ${moment}`) ?? 0))], { shape: this.names.join(), range: () => this.range(moments) });
    put(this.keys, legend(this.names.map((name, index) => [`--s${1 + (index % 6)}`, name || "nobody’s"])));
    const name = (row) => (this.by === "tenant" ? row.tenant || "nobody’s" : row[this.by] || "–");
    const total = (column) => sums.reduce((sum, row) => sum + row[column], 0);
    put(this.table, h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, this.by), ["QPU time", "CPU time", "Shots", "Charges"].map((column) => h("th", { scope: "col", class: "right" }, column)))),
      h("tbody", {}, sums.slice(0, 500).map((row) => h("tr", {}, h("td", {}, this.by === "session" && row.session ? h("a", { href: `#/sessions/${row.session}` }, row.session) : name(row)), h("td", { class: "right number" }, seconds(row.qpu_s)), h("td", { class: "right number" }, seconds(row.cpu_s)), h("td", { class: "right number" }, whole(row.shots)), h("td", { class: "right number" }, whole(row.charges)))),
        sums.length > 1 ? h("tr", {}, h("th", { scope: "row" }, "Total"), h("td", { class: "right number" }, seconds(total("qpu_s"))), h("td", { class: "right number" }, seconds(total("cpu_s"))), h("td", { class: "right number" }, whole(total("shots"))), h("td", { class: "right number" }, whole(total("charges")))) : null)));
    if (!sums.length) put(this.table, h("p", { class: "empty" }, "Nothing was charged in this time."));
  }

  repaint() { this.chart.repaint(); if (this.known.usage) this.draw(this.known.usage); }

  close() { clearTimeout(this.timer); this.chart.close(); }
}
