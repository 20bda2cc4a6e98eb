"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("lanes"), pen = canvas.getContext("2d"), tip = document.getElementById("tip");
const LABEL = 116, AXIS = 26, QUEUE = 32, LINE = 20, DEPTH = 12, UNIT = 34, GAP = 9;
const STATE_COLOR = { starting: "muted", executing: "sequencer", waiting: "wait", "queue full": "memory", draining: "line", fetching: "fetch", bubble: "panel", stopping: "muted" };
const LANE_COLOR = { read: "load", write: "store", row: "memory", credit: "load", hazard: "fetch", refresh: "sequencer", REF: "sequencer", REFSB: "sequencer" };
let run = DATA.runs[0], lanes = [], from = 0, to = 1, colors = {};

const element = (id) => document.getElementById(id);
const hue = (name) => colors[run.colors[name] || name];
const number = (value) => Math.round(value).toLocaleString("en-US").replace(/,/g, " ");
const percent = (value) => (100 * value).toFixed(1) + " %";
const semaphores = (mask) => [...Array(16).keys()].filter((i) => mask >> i & 1).map((i) => "s" + i).join(" ") || "none";

function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ground", "panel", "ink", "muted", "line", "load", "matrix", "vector", "store", "sequencer", "fetch", "wait", "memory"])
    colors[name] = style.getPropertyValue("--" + name).trim();
}

function choose(index) {
  run = DATA.runs[index];
  lanes = [];
  let y = AXIS;
  const add = (kind, name, label, height, spans) => { lanes.push({ kind, name, label, y, height, spans }); y += height; };
  if (run.sequencer.length) {
    add("sequencer", "sequencer", "sequencer", LINE, run.sequencer);
    y += 3;
    add("fetch", "fetch", "fetch", LINE - 4, run.fetch);
  }
  for (const [name, unit] of Object.entries(run.units)) {
    y += GAP;
    add("queue", name, name + " queue", QUEUE, unit.waits);
    add("unit", name, name, UNIT, unit.busy);
  }
  if (Object.keys(run.lanes).length) y += GAP;
  for (const [name, spans] of Object.entries(run.lanes)) { add("lane", name, name, LINE, spans); y += 2; }
  canvas.style.height = y + 8 + "px";
  [from, to] = [0, run.cycles];
  tables();
  resize();
}

function resize() {
  const scale = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  draw();
}

const width = () => canvas.clientWidth - LABEL - 10;
const toX = (cycle) => LABEL + (cycle - from) / (to - from) * width();
const toCycle = (x) => from + (x - LABEL) / width() * (to - from);

function firstVisible(spans) {  // the first span that ends after `from`: they are disjoint and ascending
  let low = 0, high = spans.length;
  while (low < high) { const middle = low + high >> 1; if (spans[middle][1] <= from) low = middle + 1; else high = middle; }
  return low;
}

function ticks() {
  const rough = (to - from) / Math.max(2, width() / 110), power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].find((k) => k * power >= rough) * power);
  pen.textAlign = "center"; pen.textBaseline = "alphabetic"; pen.font = "11px system-ui, sans-serif";
  for (let cycle = Math.ceil(from / step) * step; cycle <= to; cycle += step) {
    const x = toX(cycle);
    pen.fillStyle = colors.line; pen.fillRect(x, AXIS - 6, 1, canvas.clientHeight);
    pen.fillStyle = colors.muted; pen.fillText(number(cycle), Math.min(x, canvas.clientWidth - 26), AXIS - 11);
  }
}

function box(x, y, wide, high, color, label, alpha) {
  pen.globalAlpha = alpha; pen.fillStyle = color; pen.fillRect(x, y, Math.max(wide, 0.75), high); pen.globalAlpha = 1;
  if (wide > 4) { pen.fillStyle = colors.ground; pen.fillRect(x + wide - 1, y, 1, high); }
  if (label && wide > 34) {
    pen.save(); pen.beginPath(); pen.rect(x + 2, y, wide - 5, high); pen.clip();
    pen.fillStyle = colors.ink; pen.textAlign = "left"; pen.textBaseline = "middle"; pen.font = "11px system-ui, sans-serif";
    pen.fillText(label, x + 5, y + (high > 30 ? 10 : high / 2 + 0.5)); pen.restore();
  }
}

function stepsOf(unit) {  // [first cycle, end, active cycles before] of each interval of activity
  if (!unit.steps) {
    unit.steps = [];
    let cycle = 0, before = 0;
    for (let i = 0; i < unit.activity.length; i += 2) {
      const first = cycle + unit.activity[i], active = unit.activity[i + 1];
      unit.steps.push([first, cycle = first + active, before]);
      before += active;
    }
  }
  return unit.steps;
}

function activeBefore(steps, cycle) {
  let low = 0, high = steps.length;
  while (low < high) { const middle = (low + high) >> 1; if (steps[middle][0] < cycle) low = middle + 1; else high = middle; }
  if (!low) return 0;
  const [first, end, before] = steps[low - 1];
  return before + Math.min(cycle, end) - first;
}

function drawActivity(lane) {
  const steps = stepsOf(run.units[lane.name]), base = lane.y + lane.height - 1, high = 12;
  pen.fillStyle = hue(lane.name);
  const pixels = Math.ceil(width());
  for (let p = 0; p < pixels; p++) {  // a column of pixels shows the share of active ones among the cycles below it
    const first = toCycle(LABEL + p), end = toCycle(LABEL + p + 1);
    if (first >= run.cycles) break;
    const share = (activeBefore(steps, end) - activeBefore(steps, first)) / (end - first);
    if (share > 0) { const h = Math.max(1, high * share); pen.fillRect(LABEL + p, base - h, 1.2, h); }
  }
}

function drawDepth(lane) {
  const points = run.units[lane.name].depth, most = Math.max(1, ...points.map((p) => p[1])), base = lane.y + lane.height - 1;
  pen.strokeStyle = hue(lane.name); pen.lineWidth = 1.2; pen.beginPath();
  let value = 0, started = false;
  for (const [cycle, count] of points) {
    if (cycle > to) break;
    if (cycle >= from) {
      const x = toX(cycle);
      if (!started) { pen.moveTo(LABEL, base - value / most * (DEPTH - 2)); started = true; }
      pen.lineTo(x, base - value / most * (DEPTH - 2)); pen.lineTo(x, base - count / most * (DEPTH - 2));
    }
    value = count;
  }
  if (!started) pen.moveTo(LABEL, base - value / most * (DEPTH - 2));
  pen.lineTo(toX(Math.min(to, run.cycles)), base - value / most * (DEPTH - 2)); pen.stroke();
}

function draw() {
  pen.fillStyle = colors.ground; pen.fillRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  ticks();
  for (const lane of lanes) {
    pen.fillStyle = colors.panel; pen.globalAlpha = 0.6; pen.fillRect(LABEL, lane.y, width(), lane.height - 1); pen.globalAlpha = 1;
    pen.save(); pen.beginPath(); pen.rect(LABEL, lane.y, width(), lane.height); pen.clip();
    let last = -1;
    for (let i = firstVisible(lane.spans); i < lane.spans.length && lane.spans[i][0] < to; i++) {
      const span = lane.spans[i], x = Math.max(toX(span[0]), LABEL - 5), end = Math.min(toX(span[1]), canvas.clientWidth);
      if (end - x < 0.5 && Math.floor(x) === last) continue;  // below a pixel: one for all that fall there
      last = Math.floor(x);
      const high = lane.kind === "queue" ? lane.height - DEPTH - 3 : lane.height - 2;
      if (lane.kind === "unit") box(x, lane.y, end - x, high, hue(lane.name), run.units[lane.name].commands[span[2]][0], 0.32);
      else if (lane.kind === "queue") box(x, lane.y, end - x, high, colors.wait, span[3], 0.35);
      else if (lane.kind === "lane") box(x, lane.y, end - x, high, colors[LANE_COLOR[span[2].split(" ")[0]] || "wait"], span[2], 0.45);
      else if (lane.kind === "sequencer") box(x, lane.y, end - x, high, colors[STATE_COLOR[DATA.states[span[2]]]], DATA.states[span[2]] + (span[4] ? ": " + span[4] : ""), 0.55);
      else box(x, lane.y, end - x, high, colors.fetch, "", span[2] === "arriving" ? 0.9 : 0.3);
    }
    if (lane.kind === "unit") drawActivity(lane);
    if (lane.kind === "queue") drawDepth(lane);
    pen.restore();
    pen.fillStyle = lane.kind === "unit" ? hue(lane.name) : colors.muted; pen.textAlign = "right"; pen.textBaseline = "middle";
    pen.font = (lane.kind === "unit" ? "600 13px" : "12px") + " system-ui, sans-serif";
    pen.fillText(lane.label, LABEL - 10, lane.y + lane.height / 2);
  }
  element("range").textContent = `cycles ${number(from)} to ${number(to)} of ${number(run.cycles)}`;
}

function zoom(factor, around) {
  const least = Math.min(8, run.cycles), span = Math.max(least, Math.min(run.cycles, (to - from) * factor));
  const share = (around - from) / (to - from);
  move(around - share * span, span);
}
function move(start, span) {
  from = Math.max(0, Math.min(start, run.cycles - span));
  to = from + span;
  draw();
}

function describe(lane, cycle) {
  const span = lane.spans.find((s) => s[0] <= cycle && cycle < s[1]);
  if (!span) return lane.kind === "queue" ? `${lane.label}: ${depthAt(lane, cycle)} commands waiting or taken\nits head does not wait` : "";
  const when = `cycles ${number(span[0])} to ${number(span[1] - 1)}: ${number(span[1] - span[0])}`;
  if (lane.kind === "sequencer") return `sequencer: ${DATA.states[span[2]]}${span[4] ? " for " + span[4] : ""}\n${when}\ninstruction ${span[3]}`;
  if (lane.kind === "fetch") return `instruction lines: ${span[2]}\n${when}`;
  if (lane.kind === "lane") return `${lane.name}: ${span[2]}\n${when}`;
  const c = run.units[lane.name].commands[span[2]];
  const what = `${lane.name} command ${span[2]}: ${c[0]}\ninstruction ${c[2]}${c[1] ? " of " + c[1] : ""}\n`;
  if (lane.kind === "queue") return `${what}waits for ${span[3]}\n${when}\n${depthAt(lane, cycle)} commands waiting or taken`;
  const fields = Object.entries(c[8]).map(([name, value]) => `${name} ${value}`).join(", ");
  return `${what}${when}\nqueued ${c[3]}, taken ${c[4] ?? "never"}, done ${c[5] ?? "never"}\n${run.sequencer.length ? `waits for ${semaphores(c[6])}, signals ${semaphores(c[7])}\n` : ""}${fields}`;
}
function depthAt(lane, cycle) {
  let value = 0;
  for (const [at, count] of run.units[lane.name].depth) { if (at > cycle) break; value = count; }
  return value;
}

function row(cells, tag, classes) {
  const line = document.createElement("tr");
  cells.forEach((cell, i) => { const box = document.createElement(tag); box.textContent = cell; if (classes && classes[i]) box.className = classes[i]; line.append(box); });
  return line;
}
function table(id, head, rows, classes, click) {
  const top = document.createElement("thead"), body = document.createElement("tbody");
  top.append(row(head, "th", classes));
  rows.forEach((cells, i) => { const line = row(cells, "td", classes); if (click) { line.className = "go"; line.onclick = () => click(i); } body.append(line); });
  element(id).replaceChildren(top, body);
}
function tables() {
  table("units", ["unit", "commands", "busy", "active", "waits", "idle", "first", "last"],
    Object.entries(run.summary).map(([name, s]) => [name, s.commands ?? "", percent(s.busy), s.active === undefined ? "" : percent(s.active), percent(s.wait), percent(s.idle),
      s.first == null ? "" : number(s.first), s.last == null ? "" : number(s.last)]));
  table("waits", ["queue", "command", "from", "cycles", "for", "signalled by"],
    run.waits.map((w) => [w[0], w[1], number(w[2]), number(w[3]), w[4].join(" ") || (run.sequencer.length ? "its turn" : "a shared entry"), w[5]]), ["", "", "", "", "", "left"],
    (i) => { const w = run.waits[i]; const span = Math.min(run.cycles, Math.max(3 * w[3], 8)); move(w[2] + w[3] / 2 - span / 2, span); canvas.scrollIntoView({ block: "center" }); });
}

function legend() {
  const entry = (color, alpha, text) => {
    const item = document.createElement("span"), mark = document.createElement("i");
    mark.style.background = `var(--${color})`; mark.style.opacity = alpha; item.append(mark, text); return item;
  };
  if (DATA.legend.length) { element("legend").replaceChildren(...DATA.legend.map((e) => entry(...e))); return; }
  element("legend").replaceChildren(
    entry("matrix", 0.35, "unit: a command, from its first cycle to its last"), entry("matrix", 1, "unit: steps, beats or writes in that time"), entry("matrix", 0.9, "line below a queue: commands waiting or taken"),
    entry("wait", 0.4, "queue: its head waits for semaphores"), entry("sequencer", 0.6, "sequencer executes"), entry("line", 0.9, "drains (FENCE, HALT)"),
    entry("memory", 0.6, "queue full"), entry("fetch", 0.6, "instruction fetch"));
}

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) move(from + event.deltaX / width() * (to - from), to - from);
  else zoom(Math.exp(event.deltaY / 400), Math.max(from, toCycle(event.offsetX)));
}, { passive: false });
let held = null;
canvas.addEventListener("pointerdown", (event) => { held = { x: event.clientX, from }; canvas.setPointerCapture(event.pointerId); tip.style.display = "none"; });
canvas.addEventListener("pointerup", () => { held = null; });
canvas.addEventListener("pointercancel", () => { held = null; });
canvas.addEventListener("pointerleave", () => { tip.style.display = "none"; });
canvas.addEventListener("pointermove", (event) => {
  if (held) { move(held.from - (event.clientX - held.x) / width() * (to - from), to - from); return; }
  const lane = lanes.find((l) => l.y <= event.offsetY && event.offsetY < l.y + l.height), cycle = toCycle(event.offsetX);
  const text = lane && cycle >= from && cycle < to ? describe(lane, cycle) : "";
  tip.style.display = text ? "block" : "none";
  tip.textContent = text;
  tip.style.left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8) + "px";
  tip.style.top = Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 8) + "px";
});
canvas.addEventListener("keydown", (event) => {
  const middle = (from + to) / 2, step = (to - from) / 5;
  const act = { "+": () => zoom(0.6, middle), "=": () => zoom(0.6, middle), "-": () => zoom(1.7, middle), ArrowLeft: () => move(from - step, to - from), ArrowRight: () => move(from + step, to - from), 0: () => move(0, run.cycles) }[event.key];
  if (act) { act(); event.preventDefault(); }
});
element("in").onclick = () => zoom(0.5, (from + to) / 2);
element("out").onclick = () => zoom(2, (from + to) / 2);
element("all").onclick = () => move(0, run.cycles);
DATA.runs.forEach((r, i) => element("run").add(new Option(`${i + 1}: ${r.name}`, i)));
element("run").onchange = (event) => choose(Number(event.target.value));
if (DATA.runs.length < 2) element("chooser").hidden = true;
window.addEventListener("resize", resize);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColors(); draw(); });
readColors();
legend();
const asked = location.hash.slice(1).split(",").map(Number);  // #run,first,last opens the page at a place
const first = asked[0] >= 1 && asked[0] <= DATA.runs.length ? asked[0] - 1 : 0;
element("run").value = String(first);
choose(first);
if (asked.length === 3 && asked[2] > asked[1]) move(asked[1], Math.min(asked[2] - asked[1], run.cycles));
