// The page of the packing lab, from its JSON (sim/packing/html.py): one trace at a time.
const COLORS = ["grey", "blue", "green", "amber", "violet", "red", "sky", "ink"];
const points = (value, digits = 2) => (value === null ? "?" : `${value.toFixed(digits)}\u00a0%`);
const apart = (value) => (value === null ? "?" : value === 0 ? "0" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`);
const DEMAND = { steps: (end) => Array.from({ length: Math.floor(end / 10) + 1 }, (_, i) => 10 * i), tell: (t) => `${t} %` };
const first = report.scorers[0];
const paint = (name) => COLORS[report.scorers.indexOf(name) % COLORS.length];
const span = (i) => (i.low === null ? "" : ` [${apart(i.low)}, ${apart(i.high)}]`);

function head() {
  byId("name").textContent = "Packing lab";
  byId("about").textContent = `${report.scorers.join(", ")}, on the same arrivals`;
  const bands = report.seeds.length > 1 ? `, bands are ${100 * report.level} % intervals of the mean` : "";
  byId("run").textContent = `${report.seeds.length} seeds${bands} · slicewise ${report.version}`;
  theme();
}

function cards(trace) {
  byId("cards").replaceChildren();
  const best = report.scorers.reduce((a, b) => (trace.scorers[b].at_100.mean > trace.scorers[a].at_100.mean ? b : a));
  const of = trace.scorers[best];
  const all = [
    ["Allocated at 100 %", points(of.at_100.mean), `${best}, the most of all`],
    ["Allocated at 130 %", points(of.at_130.mean), best],
    ["First failure", points(of.first_failure.mean, 1), `of the GPUs asked for, with ${best}`],
  ];
  if (best !== first) all.splice(1, 0, [`More than ${first}`, apart(of.gain_100.mean), `points at 100 %${span(of.gain_100)}`]);
  if (trace.bound_100_pct !== null) {
    const gap = of.gap_closed_pct === null ? "no policy can have more" : `no policy can have more; ${points(of.gap_closed_pct, 0)} of the gap from ${first} is closed`;
    all.push(["Bound at 100 %", points(trace.bound_100_pct), gap]);
  }
  byId("cards").style.setProperty("--columns", all.length);
  for (const [what, value, more] of all) {
    const card = element("div", { class: "card" }, byId("cards"));
    element("div", { class: "what" }, card, what);
    element("div", { class: "value" }, card, value);
    element("div", { class: "more" }, card, more);
  }
}

function lines(trace, curve, names, begin = 0) {
  const shown = (values) => values.map((v, i) => (report.arrived_pct[i] < begin ? null : v));
  const bands = names.filter((name) => trace.scorers[name][curve].low).map((name) => {
    const { low, high } = trace.scorers[name][curve];
    return { kind: "band", color: paint(name), lower: shown(low), values: shown(high) };
  });
  return bands.concat(names.map((name) => ({ kind: "line", name, color: paint(name), values: shown(trace.scorers[name][curve].mean) })));
}

function lossBegins(trace) {
  // The demand, in tens, up to which every scorer places all that comes.
  const lost = (name) => report.arrived_pct.find((t, i) => t - trace.scorers[name].allocated.mean[i] > 0.2) ?? 100;
  return Math.min(90, Math.floor(Math.min(...report.scorers.map(lost)) / 10) * 10);
}

function charts(trace) {
  const at = byId("charts"), times = report.arrived_pct, begin = lossBegins(trace);
  const all = { times, end: times[times.length - 1], axis: DEMAND, format: (v) => points(v, 1) };
  at.replaceChildren();
  crosses.length = 0;
  const values = times.map((t) => (t < begin ? null : Math.min(t, 100)));
  const ideal = { kind: "line", dash: true, name: "all that arrived", color: "quiet", values };
  const limits = trace.bound_100_pct === null ? [] : [{ value: trace.bound_100_pct, name: "bound at 100 %" }];
  const lowest = Math.min(begin, ...report.scorers.flatMap((name) => trace.scorers[name].allocated.mean.slice(begin)));
  chart(at, {
    ...all, title: "Allocated", begin, bottom: 5 * Math.floor((lowest + 0.2) / 5), top: 100, height: 210, limits,
    series: [ideal, ...lines(trace, "allocated", report.scorers, begin)],
    note: "GPUs that hold pods, in percent of all, against the GPUs that were asked for. Before, all that came found a place.",
  });
  if (report.scorers.length > 1) {
    chart(at, {
      ...all, title: `Allocated, compared with ${first}`, begin, height: 150, format: apart,
      series: lines(trace, "gain", report.scorers.slice(1), begin),
      note: "Points, paired: seed by seed, on the same arrivals.",
    });
  }
  chart(at, {
    ...all, title: "Fragmentation", height: 180, series: lines(trace, "fragmented", report.scorers),
    note: "What is free where the pods that are expected do not fit, in percent of all GPUs (F of Weng et al., USENIX ATC 2023).",
  });
}

function losses(trace) {
  const panel = byId("losses");
  panel.replaceChildren();
  element("h2", {}, panel, "Who lost");
  element("p", { class: "note" }, panel, "Refused while the first 100 % arrived, in percent of all GPUs (cpu-only: of the CPU). Pods that name GPU models are counted in their other class too.");
  const legend = element("div", { class: "legend" }, panel);
  report.scorers.forEach((name) => mark(legend, { kind: "area", name, color: paint(name) }));
  const classes = Object.keys(trace.scorers[first].lost), most = Math.max(0.01, ...report.scorers.flatMap((n) => classes.map((c) => trace.scorers[n].lost[c].mean)));
  const bar = Math.max(5, Math.min(14, 60 / report.scorers.length)), group = bar * report.scorers.length + 14, height = group * classes.length;
  const svg = node("svg", { viewBox: `0 0 ${WIDTH} ${height + 4}`, role: "img", "aria-label": "Who lost" }, panel);
  const x = (v) => 90 + (v / most) * (WIDTH - 230);
  classes.forEach((kind, i) => {
    node("text", { x: 82, y: i * group + group / 2 + 1, "text-anchor": "end" }, svg, kind);
    report.scorers.forEach((name, j) => {
      const { mean, low, high } = trace.scorers[name].lost[kind], y = i * group + 5 + j * bar;
      const made = node("rect", { x: x(0), y, width: Math.max(1, x(mean) - x(0)), height: bar - 1.5, fill: color(paint(name)) }, svg);
      if (low !== null && high > 0) node("line", { x1: x(Math.max(0, low)), x2: x(high), y1: y + bar / 2 - 1, y2: y + bar / 2 - 1, stroke: "var(--quiet)" }, svg);
      node("text", { x: x(Math.max(mean, high ?? 0)) + 6, y: y + bar / 2 + 3 }, svg, points(mean));
      hover(made, () => [`${kind}, ${name}`, [[null, "lost", points(mean)], ...(low === null ? [] : [[null, "interval", `${points(low)} to ${points(high)}`]])]]);
    });
  });
}

function table(trace) {
  const panel = byId("table"), bound = trace.bound_100_pct !== null;
  panel.replaceChildren();
  element("h2", {}, panel, "In numbers");
  const made = element("table", {}, panel), top = element("tr", {}, made);
  const heads = ["scorer", "at 100 %", `more than ${first}`, "at 130 %", `more than ${first}`, ...(bound ? ["gap closed"] : []), "first failure", "decision P50", "P99"];
  heads.forEach((text, i) => element("th", { class: i ? "number" : "" }, top, text));
  for (const name of report.scorers) {
    const of = trace.scorers[name], row = element("tr", {}, made), same = name === first;
    element("i", { style: `background:${color(paint(name))}` }, element("td", {}, row)).after(name);
    const gap = of.gap_closed_pct === null ? "" : points(of.gap_closed_pct, 0);
    const cells = [points(of.at_100.mean), same ? "" : apart(of.gain_100.mean) + span(of.gain_100), points(of.at_130.mean), same ? "" : apart(of.gain_130.mean) + span(of.gain_130), ...(bound ? [gap] : []),
      points(of.first_failure.mean, 1), `${of.decision_ms_p50.toFixed(3)} ms`, `${of.decision_ms_p99.toFixed(3)} ms`];
    cells.forEach((text) => element("td", { class: "number" }, row, text));
  }
}

function show(i) {
  const trace = report.traces[i];
  [...byId("traces").children].forEach((chip, j) => chip.setAttribute("aria-pressed", String(i === j)));
  cards(trace);
  charts(trace);
  losses(trace);
  table(trace);
}

head();
report.traces.forEach((trace, i) => {
  const chip = element("button", { class: "chip", type: "button" }, byId("traces"), trace.name);
  chip.addEventListener("click", () => show(i));
});
show(0);
