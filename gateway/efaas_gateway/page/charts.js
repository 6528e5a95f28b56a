// The plots, on uPlot: each has a name that is read aloud, and its last values as text beside it.

import { color, h, shortSeconds } from "./dom.js";

// Times of day as people here write them.
const days = uPlot.fmtDate("{YYYY}-{MM}-{DD}");
const minutes = uPlot.fmtDate("{HH}:{mm}");
const moments = uPlot.fmtDate("{HH}:{mm}:{ss}");

export const timeAxis = (axis) => axis(undefined, undefined, {
  space: 76,
  size: 30,
  values: (_, splits, __, ___, step) => splits.map((at) => (step >= 86400 ? days : step >= 60 ? minutes : moments)(new Date(at * 1000))),
});

// Ticks of durations at whole seconds, minutes, hours and days.
export const durations = { incrs: [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 864000] };

// Durations on a logarithmic axis: lines and labels at powers of ten of seconds.
const powersOfTen = (_, splits) => splits.map((split) => (split > 0 && Math.abs(Math.log10(split) - Math.round(Math.log10(split))) < 1e-6 ? split : null));

export const decadesAxis = (axis) => {
  const made = axis(undefined, (value) => (value >= 60 ? `${value} s` : shortSeconds(value)), { size: 60, filter: powersOfTen });
  return { ...made, grid: { ...made.grid, filter: powersOfTen }, ticks: { ...made.ticks, filter: powersOfTen } };
};

export const countAxis = (axis, label) => axis(label, undefined, { size: 30, space: 60 });

const axis = (label, values, more = {}) => ({
  stroke: color("--soft"),
  grid: { stroke: color("--grid"), width: 1 },
  ticks: { stroke: color("--grid"), width: 1, size: 4 },
  font: "12px system-ui, sans-serif",
  labelFont: "12px system-ui, sans-serif",
  label,
  labelSize: 16,
  labelGap: 2,
  ...(values ? { values: (_, splits) => splits.map((split) => (split === null || split === undefined ? "" : values(split))) } : {}),
  ...more,
});

export class Chart {
  constructor(name, height, make) {
    this.make = make;
    this.height = height;
    this.plot = null;
    this.shape = "";
    this.element = h("div", { class: "chart", role: "img", "aria-label": name, style: `min-height:${height}px` });
    this.observer = new ResizeObserver(() => {
      const width = this.element.clientWidth;
      if (this.plot && width && Math.abs(width - this.plot.width) > 1) this.plot.setSize({ width, height: this.height });
    });
    this.observer.observe(this.element);
  }

  // `data` is a list of columns; `options` come from `make` and are made anew when the shape changes.
  set(data, context = {}) {
    const shape = JSON.stringify([data.length, context.shape || "", document.documentElement.dataset.theme || ""]);
    if (!this.element.isConnected || !this.element.clientWidth) {
      requestAnimationFrame(() => this.element.isConnected && this.set(data, context));
      return;
    }
    if (this.plot && shape === this.shape) { this.plot.setData(data); return; }
    this.shape = shape;
    this.plot?.destroy();
    this.plot = new uPlot(
      { width: this.element.clientWidth, height: this.height, legend: { show: false }, cursor: { points: { size: 6 }, drag: { x: true, y: false } }, ...this.make(axis, context) },
      data,
      this.element,
    );
  }

  repaint() { this.shape = ""; }

  close() {
    this.observer.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }
}

export const line = (label, stroke, more = {}) => ({ label, stroke: color(stroke), width: 1.6, points: { show: false }, ...more });

export function bars(label, fill) {
  return { label, fill: color(fill), stroke: color(fill), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.9, 28] }) };
}

export const legend = (entries) => h("ul", { class: "legend" }, entries.map(([key, label]) => h("li", {}, h("i", { style: `--key:var(${key})` }), label)));

// What a plot shows, for who cannot see it or wants the numbers.
export function dataTable(columns, rows) {
  return h("details", {}, h("summary", {}, "Last values as a table"), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Values" },
    h("table", {}, h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col" }, column)))), h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", { class: "number" }, cell))))))));
}
