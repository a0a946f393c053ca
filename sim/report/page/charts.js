"use strict";
// Draws lines from the report's columns: SVG made here, one axis (time, if not said otherwise) and one crosshair for all.
const report = JSON.parse(document.getElementById("report").textContent);
const byId = (id) => document.getElementById(id);
const NS = "http://www.w3.org/2000/svg";
const WIDTH = 1180, LEFT = 58, RIGHT = 14;
const crosses = [];

function node(name, attributes, parent, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function element(name, attributes, parent, text) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

const color = (name) => `var(--${name})`;

function count(value, digits = 3) {
  if (value === null || value === undefined) return "?";
  const size = Math.abs(value);
  if (size >= 1e6) return `${trim(value / 1e6, digits)} M`;
  if (size >= 1e4) return `${trim(value / 1e3, digits)} k`;
  return size >= 1e3 ? Math.round(value).toLocaleString("en") : trim(value, digits);
}

function trim(value, digits) { return String(Number(value.toPrecision(digits))); }

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "?";
  if (seconds === 0) return "0";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${trim(seconds, 3)} s`;
  const whole = Math.round(seconds);
  const d = Math.floor(whole / 86400), h = Math.floor(whole / 3600) % 24, m = Math.floor(whole / 60) % 60, s = whole % 60;
  if (d) return h || m ? `${d} d ${h} h${m ? ` ${m} min` : ""}` : `${d} d`;
  if (h) return m ? `${h} h ${m} min` : `${h} h`;
  return s ? `${m} min ${s} s` : `${m} min`;
}

const percent = (share, digits = 1) => (share === null || share === undefined ? "?" : `${(100 * share).toFixed(digits)}\u00a0%`);

const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

function theme() {
  const button = byId("theme"), root = document.documentElement;
  root.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  if (location.hash === "#dark" || location.hash === "#light") root.dataset.theme = location.hash.slice(1);
  button.addEventListener("click", () => { root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark"; });
}

function steps(top, most, sizes, bottom = 0) {
  // Round steps from at most `bottom` to at least `top`, about so many; of `sizes` where they reach.
  const range = top - bottom, raw = range / most, size = 10 ** Math.floor(Math.log10(raw || 1));
  const round = sizes && raw > 1 ? sizes : [1, 2, 5, 10].map((f) => f * size);
  const step = round.find((s) => range / s <= most) || size * 10;
  const found = [];
  for (let i = Math.floor(bottom / step); i * step < top + step * 0.999; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function timeSteps(end) {
  const step = TIMES.find((s) => end / s <= 12) || 604800;
  return Array.from({ length: Math.floor(end / step) + 1 }, (_, i) => i * step);
}

const TIME = { steps: timeSteps, tell: duration };

function path(points, x, y, stepped) {
  let text = "", open = false, before = 0;
  points.forEach(([t, v]) => {
    if (v === null) { open = false; return; }
    const px = x(t).toFixed(1), py = y(v).toFixed(1);
    if (!open) text += `M${px} ${py}`;
    else text += stepped ? `H${px}V${py}` : `L${px} ${py}`;
    open = true; before = py;
  });
  return text;
}

function areaPath(lower, upper, x, y, stepped) {
  const forth = path(upper, x, y, stepped);
  if (!forth) return "";
  let back = "", last = null;
  for (let i = lower.length - 1; i >= 0; i--) {
    if (upper[i][1] === null) continue;
    const px = x(lower[i][0]).toFixed(1), py = y(lower[i][1]).toFixed(1);
    back += stepped && last !== null ? `V${py}H${px}` : `L${px} ${py}`;
    last = py;
  }
  return `${forth}${back}Z`;
}

function frame(parent, title, note, height, begin, end, axis) {
  const panel = element("section", { class: "panel" }, parent);
  element("h2", {}, panel, title);
  if (note) element("p", { class: "note" }, panel, note);
  const legend = element("div", { class: "legend" }, panel);
  const svg = node("svg", { viewBox: `0 0 ${WIDTH} ${height + 24}`, role: "img", "aria-label": title }, panel);
  const x = (t) => LEFT + ((t - begin) / (end - begin)) * (WIDTH - LEFT - RIGHT);
  for (const t of axis.steps(end).filter((t) => t >= begin)) {
    node("line", { class: "grid", x1: x(t), x2: x(t), y1: 6, y2: height }, svg);
    const anchor = t === begin ? "start" : x(t) > WIDTH - 40 ? "end" : "middle";
    node("text", { x: x(t), y: height + 16, "text-anchor": anchor }, svg, axis.tell(t));
  }
  node("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: height, y2: height }, svg);
  return { panel, legend, svg, x, height };
}

function mark(legend, series) {
  const label = element("span", {}, legend);
  const shape = series.kind === "line" ? `stroke${series.dash ? " dash" : ""}` : "";
  const paint = series.kind === "line" ? `border-color:${color(series.color)}` : `background:${color(series.color)}`;
  element("i", { class: shape, style: paint }, label);
  label.append(series.name);
}

// series: {name, values, points (instead of values, for a line), kind: area | line | bar | band (from lower to values, without
// a name), color, dash, stack}; limits: {value, name}; events: changes of the scale; bottom: where the axis of the
// values begins, 0 or below the lowest; values before `begin` are null
function chart(parent, { title, note, times, begin = 0, end, axis = TIME, series, format = count, bottom, top, stepped = false, height = 150, limits = [], events = [] }) {
  const { panel, legend, svg, x } = frame(parent, title, note, height, begin, end, axis);
  const sums = times.map(() => 0), drawn = [];
  let highest = Math.max(0, ...limits.map((l) => (l.shown ? l.value : 0)), ...events.map((e) => e.after));
  for (const one of series) {
    const lower = one.lower ?? (one.stack ? sums.slice() : times.map(() => 0));
    const upper = one.values.map((v, i) => (v === null ? null : one.stack ? v + lower[i] : v));
    if (one.stack) upper.forEach((v, i) => { sums[i] = v === null ? sums[i] : v; });
    highest = Math.max(highest, ...upper.filter((v) => v !== null));
    drawn.push({ ...one, lower, upper });
  }
  const lowest = bottom ?? Math.min(0, ...drawn.flatMap((one) => (one.kind === "band" ? one.lower : one.values)).filter((v) => v !== null));
  const ticks = steps(top || highest || 1, 4, format === duration ? TIMES : null, lowest), ceiling = top || ticks[ticks.length - 1];
  const y = (v) => height - ((Math.max(ticks[0], Math.min(v, ceiling)) - ticks[0]) / (ceiling - ticks[0])) * (height - 10);
  for (const tick of ticks.filter((t) => t <= ceiling)) {
    node("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }, svg);
    node("text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, svg, format(tick));
  }
  const width = Math.max(1, (x(end) - x(begin)) / times.length - 0.6);
  for (const one of drawn) {
    if (one.name) mark(legend, one);
    const points = one.points ?? times.map((t, i) => [t, one.upper[i]]);
    if (one.kind === "bar") {
      points.forEach(([t, v], i) => {
        if (v) node("rect", { x: x(t) - width, width, y: y(v), height: y(one.lower[i]) - y(v), fill: color(one.color) }, svg);
      });
    } else if (one.kind === "band") {
      node("path", { d: areaPath(times.map((t, i) => [t, one.lower[i]]), points, x, y, stepped), fill: color(one.color), "fill-opacity": 0.2 }, svg);
    } else if (one.kind === "area") {
      const lower = times.map((t, i) => [t, one.lower[i]]);
      node("path", { d: areaPath(lower, points, x, y, stepped), fill: color(one.color), "fill-opacity": one.soft ? 0.22 : 0.85 }, svg);
      if (one.soft) node("path", { d: path(points, x, y, stepped), fill: "none", stroke: color(one.color), "stroke-width": 1.5 }, svg);
    } else {
      const dash = one.dash ? { "stroke-dasharray": "5 3" } : {};
      node("path", { d: path(points, x, y, stepped), fill: "none", stroke: color(one.color), "stroke-width": 1.9, "stroke-linejoin": "round", ...dash }, svg);
    }
  }
  for (const limit of limits.filter((l) => l.value <= ceiling)) {
    node("line", { class: "limit", x1: LEFT, x2: WIDTH - RIGHT, y1: y(limit.value), y2: y(limit.value) }, svg);
    node("text", { class: "limit-name", x: WIDTH - RIGHT, y: y(limit.value) - 4, "text-anchor": "end" }, svg, limit.name);
  }
  for (const event of events) {
    const up = event.after > event.before, px = x(event.at_s), py = y(event.after);
    const shape = up ? `M${px} ${py - 9}l4.5 8h-9z` : `M${px} ${py + 9}l4.5 -8h-9z`;
    const made = node("path", { d: shape, fill: color(up ? "blue" : "violet"), stroke: "var(--panel)", "stroke-width": 1 }, svg);
    const lines = event.steps.length ? event.steps : [event.why];
    hover(made, () => [`${duration(event.at_s)}: ${event.before} → ${event.after} by ${event.by}`, lines.map((l) => [null, l, ""])]);
  }
  const rows = (i) => drawn.filter((one) => one.name).map((one) => [one.color, one.name, one.values[i] === null ? "not known" : format(one.values[i])]);
  crosshair(svg, x, height, times, begin, end, (i) => [axis.tell(times[i]), rows(i)]);
  return panel;
}

function crosshair(svg, x, height, times, begin, end, told) {
  const line = node("line", { class: "cross", y1: 6, y2: height, x1: -9, x2: -9, visibility: "hidden" }, svg);
  crosses.push((t) => {
    line.setAttribute("visibility", t === null || t < begin ? "hidden" : "visible");
    if (t !== null) { line.setAttribute("x1", x(t)); line.setAttribute("x2", x(t)); }
  });
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const t = (((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * (end - begin) + begin;
    if (t < begin || t > end) return;
    const next = times.findIndex((at) => at >= t), i = next < 0 ? times.length - 1 : next;
    crosses.forEach((move) => move(times[i]));
    if (event.target.dataset.told === undefined) tip(event, ...told(i));
  });
  svg.addEventListener("pointerleave", () => { crosses.forEach((move) => move(null)); tip(null); });
}

function hover(made, told) {
  made.dataset.told = "";
  made.addEventListener("pointermove", (event) => tip(event, ...told()));
  made.addEventListener("pointerleave", () => tip(null));
}

function tip(event, head, rows) {
  const box = document.getElementById("tip");
  box.hidden = event === null;
  if (event === null) return;
  box.replaceChildren();
  element("b", {}, box, head);
  for (const [paint, name, value] of rows) {
    const row = element("div", { class: "row" }, box), label = element("span", {}, row);
    if (paint) element("i", { style: `background:${color(paint)}` }, label);
    label.append(name);
    element("span", {}, row, value);
  }
  const wide = box.offsetWidth, high = box.offsetHeight;
  box.style.left = `${event.clientX + 16 + wide > innerWidth ? event.clientX - wide - 14 : event.clientX + 16}px`;
  box.style.top = `${Math.min(event.clientY + 14, innerHeight - high - 8)}px`;
}
