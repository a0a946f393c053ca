// The page, from the report's JSON (schema slicewise.dev/sim-report/1).
const line = report.time_line, end = report.duration_s, times = line.at_s;

function head() {
  byId("name").textContent = report.scenario;
  byId("about").textContent = report.about;
  byId("run").textContent =
    `${duration(end)} simulated · seed ${report.seed} · ${report.engine} · slicewise ${report.version}`;
  theme();
}

const LIMITS = { first_token_s: "first token", per_output_token_s: "per output token", end_to_end_s: "end to end" };
const limitText = () =>
  Object.entries(report.attainment.limits).map(([k, v]) => `${LIMITS[k]} ${duration(v)}`).join(", ");

function cards() {
  const { attainment, gpus, latency, requests, sessions, replicas, tokens } = report;
  const lost = requests.dropped + requests.refused;
  const reused = tokens.prompt_cached / Math.max(1, tokens.prompt_cached + tokens.prompt_computed);
  const all = [
    ["SLO kept", percent(attainment.share, 2), `of ${count(attainment.judged)} requests within ${limitText()}`],
    ["GPU hours held", gpus.total_h.toFixed(2), `${percent(gpus.total_h / gpus.provisioned_h, 0)} of ${count(gpus.provisioned_h)} in the cluster; replicas busy ${percent(gpus.busy_share, 0)}`],
    ["First token, P99", duration(latency.first_token_s.p99), `median ${duration(latency.first_token_s.p50)}`],
    ["End to end, P99", duration(latency.end_to_end_s.p99), `median ${duration(latency.end_to_end_s.p50)}`],
    ["Replicas", replicas.mean.toFixed(1), `mean; ${replicas.most} at most, ${replicas.ups} up, ${replicas.downs} down, ${replicas.reversals} reversals`],
    ["Requests lost", count(lost), `of ${count(requests.arrived)}: ${count(requests.dropped)} with their replica, ${count(requests.refused)} refused`, lost ? "bad" : "good"],
  ];
  if (sessions.begun) {
    all.push(["Sessions broken", count(sessions.broken), `of ${count(sessions.begun)} begun, ${count(sessions.finished)} finished`, sessions.broken ? "bad" : "good"]);
    all.push(["Prefix computed again", count(tokens.prefix_computed_again), `tokens; ${percent(reused)} of the prompts came from the cache`]);
  }
  byId("cards").style.setProperty("--columns", all.length % 4 ? 3 : 4);
  for (const [what, value, more, tone = ""] of all) {
    const card = element("div", { class: `card ${tone}` }, byId("cards"));
    element("div", { class: "what" }, card, what);
    element("div", { class: "value" }, card, value);
    element("div", { class: "more" }, card, more);
  }
  for (const promise of report.promises) {
    const text = `promise: ${promise.name.replace("_", " ")} ${promise.wanted}, got ${promise.got === null ? "?" : trim(promise.got, 4)}`;
    element("span", { class: `chip ${promise.kept ? "good" : "bad"}` }, byId("verdicts"), text);
  }
  const held = report.laws.filter((law) => law.holds).length;
  const laws = element("span", { class: `chip ${held === report.laws.length ? "good" : "bad"}` }, byId("verdicts"), `${held} of ${report.laws.length} balances hold`);
  laws.title = report.laws.map((law) => law.name).join("\n");
}

function asked() {
  // Each change of the scale at its instant, which is finer than the time line's steps.
  const points = report.changes.map((change) => [change.at_s, change.after]);
  return [...points, [end, points.length ? points[points.length - 1][1] : 0]];
}

function scaleIn(at, all) {
  const again = line.prefix_computed_again, lost = line.dropped;
  const events = lost.map((n, i) => ({ at_s: times[i], before: n, after: 0, by: "the end of a replica", why: `${n} requests lost`, steps: [] }));
  if (again.some((v) => v)) {
    chart(at, {
      ...all, title: "What evictions and scale-in cost the sessions", height: 90, events: events.filter((e) => e.before),
      note: "Prefix tokens computed once more because the cache that held them was evicted, left or killed; ▼ requests that went with a replica.",
      series: [{ name: "tokens computed again", values: again, kind: "bar", color: "violet" }],
    });
  } else if (lost.some((v) => v)) {
    chart(at, {
      ...all, title: "What scale-in cost", height: 90, note: "Requests that went with a replica whose grace was over.",
      series: [{ name: "requests lost", values: lost, kind: "bar", color: "red" }],
    });
  }
}

function charts() {
  const at = byId("charts"), all = { times, end };
  const load = [
    { name: "requests a minute", values: line.arrived.map((n) => (n * 60) / line.step_s), kind: "area", soft: true, color: "blue" },
    { name: "in service", values: line.running, kind: "line", color: "green" },
    { name: "waiting", values: line.queued, kind: "line", color: "red" },
  ];
  if (report.sessions.begun) load.splice(1, 0, { name: "sessions alive", values: line.sessions, kind: "line", color: "grey" });
  chart(at, { ...all, title: "Load", note: "What came, what was in service and what waited, at the gateway or in an engine.", series: load });
  chart(at, {
    ...all, title: "Replicas", stepped: true, height: 190, events: report.changes,
    note: "▲ ▼ each change of the scale, with its reason. Pods of the scale: ready, starting, or waiting for a place.",
    series: [
      { name: "ready", values: line.ready, kind: "area", stack: true, color: "green" },
      { name: "starting", values: line.starting, kind: "area", stack: true, color: "amber" },
      { name: "waiting for a place", values: line.pending, kind: "area", stack: true, color: "red" },
      { name: "asked for by the scale", values: line.wanted, points: asked(), kind: "line", color: "ink" },
      { name: "what the scaler answers", values: line.desired, kind: "line", dash: true, color: "blue" },
    ],
  });
  const limits = report.attainment.limits;
  chart(at, {
    ...all, title: "Latency", format: duration, height: 170, note: "95th percentile of the requests that ended in each step.",
    series: [
      { name: "end to end, P95", values: line.p95_end_to_end_s, kind: "line", color: "blue" },
      { name: "first token, P95", values: line.p95_first_token_s, kind: "line", color: "violet" },
    ],
    limits: ["first_token_s", "end_to_end_s"].filter((k) => limits[k]).map((k) => ({ value: limits[k], name: `SLO ${LIMITS[k]}`, shown: true })),
  });
  chart(at, {
    ...all, title: "SLO misses", format: (v) => percent(v, 0), height: 90,
    note: `Share of the requests that came in each step and missed ${limitText()}.`,
    series: [{ name: "missed", values: line.kept_share.map((v) => (v === null ? null : 1 - v)), kind: "bar", color: "red" }],
  });
  scaleIn(at, all);
  chart(at, {
    ...all, title: "Memory and GPUs in use", format: (v) => percent(v, 0), top: 1, height: 100,
    note: "KV cache of the ready replicas held by running requests; GPUs of the cluster held by pods.",
    series: [
      { name: "GPUs held", values: line.gpus_used.map((v, i) => v / Math.max(1, gpusAt(times[i]))), kind: "area", soft: true, color: "grey" },
      { name: "KV cache used", values: line.kv_used, kind: "line", color: "blue" },
    ],
  });
}

const gpusAt = (t) => report.nodes.reduce((sum, n) => sum + (n.from_s < t && t <= (n.to_s ?? end) ? n.gpus : 0), 0);
const SHOWN_GPUS = 48;

function lanes() {
  // Every GPU that a pod ever held, with its holds; those without a place of their own are laid beside each other.
  const of = (n) => Array.from({ length: n.gpus }, (_, i) => [`${n.name} ${i}`, Object.assign([], { node: n })]);
  const found = new Map(report.nodes.flatMap(of));
  for (const pod of report.pods) {
    for (const hold of pod.node === null ? [] : pod.holds) {
      found.get(`${pod.node} ${hold.gpu}`).push({ pod, part: hold.part, start: hold.start, profile: hold.profile, from: pod.bound_s, to: pod.gone_s ?? end });
    }
  }
  for (const holds of found.values()) {
    const free = holds.filter((h) => h.start === null).sort((a, b) => a.from - b.from);
    free.forEach((h, i) => {
      const beside = free.slice(0, i).filter((o) => o.to > h.from).sort((a, b) => a.start - b.start);
      h.start = beside.reduce((start, o) => (o.start < start + h.part && o.start + o.part > start ? o.start + o.part : start), 0);
    });
  }
  return found;
}

function map() {
  const all = lanes(), used = [...all].filter(([, holds]) => holds.length), panel = byId("map");
  const shown = used.slice(0, SHOWN_GPUS), idle = all.size - used.length, lane = shown.length > 24 ? 14 : 20;
  element("h2", {}, panel, "GPUs over time");
  const more = used.length > shown.length ? ` ${used.length - shown.length} more that were used are not drawn.` : "";
  element("p", { class: "note" }, panel, `One row a GPU, and in it each pod at its place and size. ${idle} of ${all.size} GPUs were never used.${more}`);
  const legend = element("div", { class: "legend" }, panel);
  [["starting", "amber"], ["serving", "sky"], ["ending", "violet"]].forEach(([name, paint]) => mark(legend, { name, kind: "area", color: paint }));
  const height = shown.length * (lane + 4) + 8, left = 128;
  const svg = node("svg", { viewBox: `0 0 ${WIDTH} ${height + 20}`, role: "img", "aria-label": "GPUs over time" }, panel);
  const x = (t) => left + (t / end) * (WIDTH - left - RIGHT);
  for (const t of timeSteps(end)) {
    node("line", { class: "grid", x1: x(t), x2: x(t), y1: 2, y2: height }, svg);
    node("text", { x: x(t), y: height + 14, "text-anchor": t === 0 ? "start" : x(t) > WIDTH - 40 ? "end" : "middle" }, svg, duration(t));
  }
  shown.forEach(([name, holds], i) => {
    const y = i * (lane + 4) + 4;
    node("text", { x: left - 8, y: y + lane / 2 + 4, "text-anchor": "end" }, svg, name);
    const [from, to] = [holds.node.from_s, holds.node.to_s ?? end];
    const there = node("rect", { x: x(from), width: x(to) - x(from), y, height: lane, fill: color("grey-soft"), rx: 3 }, svg);
    hover(there, () => [name, [["grey", `${holds.node.gpu}, ${holds.node.mode}`, `there from ${duration(from)}${holds.node.to_s === null ? "" : ` to ${duration(to)}`}`]]]);
    holds.forEach((hold) => block(svg, hold, x, y + hold.start * lane, Math.max(2, hold.part * lane - 1)));
  });
}

function block(svg, { pod, profile, part, from, to }, x, y, height) {
  const deleted = pod.deleted_s ?? to, ready = Math.min(pod.ready_s ?? deleted, deleted);
  const spans = [[from, ready, "amber"], [ready, deleted, "sky"], [deleted, to, "violet"]];
  for (const [a, b, paint] of spans.filter(([a, b]) => b > a)) {
    const made = node("rect", { x: x(a), width: Math.max(0.8, x(b) - x(a)), y, height, fill: color(paint), stroke: "var(--panel)", "stroke-width": 0.6 }, svg);
    hover(made, () => [pod.name, [
      ["grey", "holds", profile ?? `${percent(part, 0)} of the GPU`],
      ["amber", "from bound to ready", pod.ready_s === null ? "never ready" : duration(pod.ready_s - from)],
      ["sky", "serving", pod.ready_s === null ? "0" : `${duration(deleted - pod.ready_s)} from ${duration(pod.ready_s)}`],
      ["violet", "ending", pod.deleted_s === null ? "lived on" : `${duration(to - deleted)} from ${duration(deleted)}`],
    ]]);
  }
}

function split(panel, title, note, parts, format) {
  element("h2", {}, panel, title);
  element("p", { class: "note" }, panel, note);
  const total = parts.reduce((sum, [, value]) => sum + value, 0), bar = element("div", { class: "bar" }, panel);
  const table = element("table", {}, panel);
  for (const [name, value, paint, about] of parts) {
    const cell = element("div", { style: `width:${(100 * value) / (total || 1)}%;background:${color(paint)}` }, bar);
    hover(cell, () => [name, [[paint, about ?? "", format(value)]]]);
    const row = element("tr", {}, table), first = element("td", {}, row);
    element("i", { style: `background:${color(paint)}` }, first);
    first.append(name);
    if (about) element("span", { class: "quiet" }, first, ` ${about}`);
    element("td", { class: "number" }, row, format(value));
    element("td", { class: "number quiet" }, row, percent(value / (total || 1), 1));
  }
}

function waste() {
  const g = report.gpus, served = g.serving_h + g.draining_h, busy = (g.busy_share ?? 0) * served;
  const idle = Math.max(0, g.serving_h - busy);
  split(byId("waste"), "Where the GPU hours went", `${count(g.provisioned_h)} GPU hours in the cluster, ${g.total_h.toFixed(2)} of them held.`, [
    ["busy", Math.min(busy, served), "green", "an iteration was running"],
    ["idle, ready", idle, "sky", "a replica waited for requests"],
    ["starting", g.starting_h, "amber", "bound, not ready yet"],
    ["ending", Math.max(0, served - busy - idle), "violet", "draining its last requests"],
    ["too small", g.fragmented_h, "red", "not held, and no room for one more replica"],
    ["not held", Math.max(0, g.provisioned_h - g.total_h - g.fragmented_h), "grey", "free for others"],
  ], (v) => `${v.toFixed(2)} h`);
}

const STAGES = { slice: "device handed over", image: "image pulled", weights: "weights loaded", engine: "engine started", probe: "until the next probe" };

function starts() {
  const { starts: s } = report, paints = ["grey", "sky", "blue", "amber", "violet"];
  const parts = Object.entries(s.stages_s).filter(([, v]) => v !== null).map(([name, v], i) => [name, v, paints[i % 5], STAGES[name]]);
  const note = `${s.count} replicas became ready, P50 ${duration(s.to_ready_s.p50)} and P99 ${duration(s.to_ready_s.p99)} after they were created. Means:`;
  split(byId("starts"), "How long a start takes", note, parts, duration);
}

function latency() {
  const panel = byId("latency"), table = element("table", {}, panel);
  panel.prepend(element("h2", {}, null, "Latency in numbers"));
  const header = element("tr", {}, table);
  ["", "mean", "P50", "P90", "P99"].forEach((name, i) => element("th", { class: i ? "number" : "" }, header, name));
  const rows = { "first token": "first_token_s", "per output token": "per_output_token_s", "end to end": "end_to_end_s", "waiting for an engine": "waiting_s" };
  for (const [name, key] of Object.entries(rows)) {
    const row = element("tr", {}, table), q = report.latency[key];
    element("td", {}, row, name);
    [q.mean, q.p50, q.p90, q.p99].forEach((v) => element("td", { class: "number" }, row, duration(v)));
  }
}

function changes() {
  const panel = byId("changes");
  const evictions = report.evictions || [];
  const evicted = evictions.length ? `, ${evictions.length} pods evicted` : "";
  element("h2", {}, panel, `Scale events (${report.changes.length}${evicted})`);
  const table = element("table", {}, element("div", { class: "scroll" }, panel)), header = element("tr", {}, table);
  ["at", "replicas", "by", "why"].forEach((name) => element("th", {}, header, name));
  for (const change of [...report.changes, ...evictions].sort((a, b) => a.at_s - b.at_s)) {
    const row = element("tr", {}, table), up = change.after > change.before;
    if (change.pod) {
      [duration(change.at_s), change.pod, "kube-scheduler"].forEach((text) => element("td", {}, row, text));
      element("td", {}, row, `evicted from ${change.node} by ${change.by}: ${change.why}`);
      continue;
    }
    element("td", {}, row, duration(change.at_s));
    element("td", { class: up ? "up" : "down" }, row, `${change.before} → ${change.after}`);
    element("td", {}, row, change.by);
    const why = element("td", {}, row);
    if (!change.steps.length) { why.textContent = change.why; continue; }
    const told = element("details", {}, why), steps = element("ol", {}, told);
    told.prepend(element("summary", {}, null, change.steps[change.steps.length - 1]));
    change.steps.forEach((step) => element("li", {}, steps, step));
    element("li", {}, steps, change.why);
  }
}

function honesty() {
  const panel = byId("honesty"), all = element("div", { class: "three" }, panel);
  panel.prepend(element("h2", {}, null, "How far this can be believed"));
  const groups = { calibrated: "Calibrated on measurements", interpolated: "Interpolated or from datasheets", not_modelled: "Not modelled" };
  for (const [key, title] of Object.entries(groups)) {
    const group = element("div", {}, all);
    element("h3", {}, group, title);
    const list = element("ul", {}, group);
    const told = report.honesty[key];
    (told.length ? told : ["nothing"]).forEach((text) => element("li", {}, list, text));
  }
  byId("foot").textContent = `${report.schema} · ${Object.entries(report.inputs).map(([k, v]) => `${k} ${v.slice(0, 16)}…`).join(" · ")}`;
}

[head, cards, charts, map, waste, starts, latency, changes, honesty].forEach((draw) => draw());
