"use strict";
// Draws the report from the JSON in #data. Strings reach the document through textContent and
// setAttribute alone: nothing that a test made up is ever parsed as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const STEP = 26, ROW = 24, HEAD = 46, LEFT = 14, AXIS = 30;

const state = { test: -1, zoom: 1, query: "", outcome: "all", shown: [] };

// ---- Elements --------------------------------------------------------------------------------

function make(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function draw(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("aria-") && value !== null) { element.setAttribute(key, String(value)); continue; }
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== "") element.append(child);
  }
  return element;
}

// ---- Words -----------------------------------------------------------------------------------

function length(micros) {
  let seconds = micros / 1e6;
  if (seconds < 0) return "-" + length(-micros);
  if (seconds === 0) return "0";
  if (seconds < 0.001) return Math.round(micros) + "µs";
  if (seconds < 1) return Math.round(seconds * 1000) + "ms";
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  if (seconds < 60) return +seconds.toFixed(3) + "s";
  seconds = Math.round(seconds);
  const parts = [];
  for (const [unit, size] of units) {
    const many = Math.floor(seconds / size);
    if (many || parts.length) parts.push([many, unit]);
    seconds -= many * size;
  }
  return parts.slice(0, 2).filter(([many]) => many).map(([many, unit]) => many + unit).join(" ");
}

function instant(sim, micros) {
  const time = new Date(Date.parse(sim.start) + micros / 1000);
  return isNaN(time) ? "" : time.toISOString().replace("T", " ").replace("Z", " UTC");
}

const glyph = (kind) => data.glyphs[kind] || "·";

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

const plural = (count, word) => count.toLocaleString("en") + " " + word + (count === 1 ? "" : "s");

// ---- The list of tests -----------------------------------------------------------------------

function haystack(test) {
  if (test.hay === undefined) {
    const words = [test.id, test.outcome, test.message];
    for (const sim of test.sims) {
      words.push(sim.schedule);
      for (const run of sim.runs) {
        words.push(run.id, run.workflow, run.status);
        for (const event of run.events) words.push(event.i, event.x, event.s || "");
      }
    }
    test.hay = words.join("\n").toLowerCase();
  }
  return test.hay;
}

const MARKS = { passed: "✓", failed: "✗", error: "!", skipped: "–", xfailed: "x", xpassed: "?" };

function fits(test) {
  if (state.outcome !== "all" && test.outcome !== state.outcome) return false;
  return state.query.toLowerCase().split(/\s+/).every((word) => haystack(test).includes(word));
}

function showList() {
  state.shown = data.tests.map((_, index) => index).filter((index) => fits(data.tests[index]));
  $("tests").replaceChildren(...state.shown.map((index) => {
    const test = data.tests[index];
    const cut = test.id.lastIndexOf("::");
    return make("li", {}, make("button", {
      type: "button", "data-test": index, "aria-current": index === state.test,
      onclick: () => choose(index, true),
    },
    make("span", { class: test.outcome, "aria-label": test.outcome }, MARKS[test.outcome] || "·"),
    make("span", {},
      make("span", { class: "name" }, cut < 0 ? test.id : test.id.slice(cut + 2)),
      make("span", { class: "where" }, (cut < 0 ? "" : test.id.slice(0, cut)) + "  " + test.seconds + " s"))));
  }));
  $("none").hidden = state.shown.length > 0;
}

function showFilters() {
  const counts = { all: data.tests.length };
  for (const test of data.tests) counts[test.outcome] = (counts[test.outcome] || 0) + 1;
  $("filters").replaceChildren(...Object.entries(counts).map(([outcome, count]) =>
    make("button", {
      type: "button", "aria-pressed": state.outcome === outcome,
      onclick: () => { state.outcome = outcome; showFilters(); showList(); },
    }, outcome + " " + count)));
  $("counts").textContent = plural(data.tests.length, "simulated test") + ", " + data.made.replace("T", " ");
}

// ---- One test --------------------------------------------------------------------------------

function choose(index, scroll) {
  if (index < 0 || index >= data.tests.length) return;
  state.test = index;
  close();
  for (const button of $("tests").querySelectorAll("button")) {
    const current = Number(button.dataset.test) === index;
    button.setAttribute("aria-current", current);
    if (current) button.scrollIntoView({ block: "nearest" });
  }
  showTest();
  remember();
  if (scroll && matchMedia("(max-width: 760px)").matches) $("main").scrollIntoView();
}

function showTest() {
  const test = data.tests[state.test];
  const main = $("main");
  main.replaceChildren(
    make("h2", {}, test.id),
    make("p", {}, make("span", { class: "badge " + test.outcome }, test.outcome), " ",
      make("span", { class: "quiet" }, test.seconds + " s of real time")));
  if (test.dropped) main.append(note("This page is full: what this test simulated was left out. Run it alone to see it."));
  if (test.message) main.append(make("details", { open: true }, make("summary", {}, "Why"), make("pre", {}, test.message)));
  const many = test.sims.length + (test.more || 0);
  const numbered = test.sims.map((sim, index) => [sim, many - test.sims.length + index + 1]).reverse();
  for (const [sim, number] of numbered) {
    main.append(simulation(sim, test.sims.length > 1 ? "Simulation " + number + " of " + many : ""));
  }
  if (test.more) main.append(note(plural(test.more, "other simulation") + " of this test not shown."));
  main.scrollTop = 0;
}

const note = (text) => make("p", { class: "note" }, text);

function simulation(sim, title) {
  const box = make("section", { class: "simulation" });
  if (title) box.append(make("h3", {}, title));
  box.append(make("p", { class: "quiet" },
    instant(sim, 0) + ", " + length(sim.now) + " of virtual time, " + plural(sim.runs.length + sim.more, "run")));
  if (sim.schedule) box.append(make("p", {}, "schedule: ", make("code", {}, sim.schedule)));
  if (sim.more) box.append(note(plural(sim.more, "run") + " more, not shown."));
  const stage = make("div", { class: "stage" });
  const repaint = () => stage.replaceChildren(lanes(sim));
  stage.repaint = repaint;
  const zoom = (factor) => { state.zoom = factor ? Math.min(4, Math.max(.4, state.zoom * factor)) : 1; paintAll(); };
  box.append(make("div", { class: "tools" },
    make("button", { type: "button", "aria-label": "Zoom out", onclick: () => zoom(1 / 1.3) }, "−"),
    make("button", { type: "button", "aria-label": "Zoom in", onclick: () => zoom(1.3) }, "+"),
    make("button", { type: "button", onclick: () => zoom(0) }, "100 %")), stage);
  repaint();
  box.append(make("p", { class: "legend" },
    "Boxes last from question to answer; a wavy gap is time cut short; ╵ is a commit, ✝ a crash."));
  for (const run of sim.runs) box.append(eventTable(sim, run));
  if (sim.untaken.length) box.append(make("h3", {}, "Events that no run took"), make("pre", {}, sim.untaken.join("\n")));
  if (sim.story.length) box.append(make("details", {}, make("summary", {}, "Story of the schedule"), make("pre", {}, sim.story.join("\n"))));
  return box;
}

function paintAll() {
  for (const stage of document.querySelectorAll(".stage")) stage.repaint();
  remember();
}

// How many crashes came before an event of a run.
function phase(sim, run, event) {
  let count = 0;
  for (const crash of sim.crashes) {
    const before = crash.lengths[run.id] === undefined ? 1 : crash.lengths[run.id];
    if (event.t > crash.t || (event.t === crash.t && event.n >= before)) count += 1;
  }
  return count;
}

function eventTable(sim, run) {
  const rows = [];
  let before = 0;
  run.events.forEach((event, index) => {
    const now = phase(sim, run, event);
    for (; before < now; before += 1) {
      rows.push(make("tr", { class: "crashed" }, make("td", {}, "+" + length(sim.crashes[before].t)), make("td", {}, "✝"), make("td", { colspan: 2 }, "crash")));
    }
    if (index && event.n !== run.events[index - 1].n + 1) {
      rows.push(make("tr", {}, make("td", { colspan: 4 }, plural(run.total - run.events.length, "event") + " not shown")));
    }
    rows.push(make("tr", { onclick: () => tell(sim, run, event) },
      make("td", {}, "+" + length(event.t)), make("td", { class: event.c === "bad" ? "failed" : "" }, glyph(event.k)),
      make("td", {}, event.i), make("td", {}, event.x)));
  });
  const waits = run.waits.map((wait) => make("p", { class: "quiet" }, "waits for " + wait));
  return make("details", { class: "run" },
    make("summary", {}, run.workflow + " " + run.id + " ", make("span", { class: "badge " + run.status }, run.status),
      " ", make("span", { class: "quiet" }, plural(run.total, "event"))),
    run.outcome ? make("pre", {}, pretty(run.outcome)) : null,
    waits, make("table", { class: "events" }, make("tbody", {}, rows)));
}

// ---- Lanes -----------------------------------------------------------------------------------

// Where everything is: instants side by side, each as wide as what happens there; the time
// between two of them is cut to a gap that grows with its logarithm.
function layout(sim) {
  const step = STEP * state.zoom;
  const columns = new Map();
  const column = (at, time) => {
    const key = at + "/" + time;
    if (!columns.has(key)) columns.set(key, { at, time, used: 0 });
    return columns.get(key);
  };
  const places = new Map();
  for (const run of sim.runs) {
    const used = new Map();
    for (const event of run.events) {
      const where = column(phase(sim, run, event), event.t);
      const slot = used.get(where) || 0;
      used.set(where, slot + 1);
      where.used = Math.max(where.used, slot + 1);
      places.set(event, { where, slot });
    }
  }
  sim.crashes.forEach((crash, index) => { column(index + .5, crash.t).used = 1; });
  column(sim.crashes.length, sim.now);
  const sorted = [...columns.values()].sort((a, b) => a.time - b.time || a.at - b.at);
  let x = LEFT;
  const gaps = [];
  sorted.forEach((where, index) => {
    const before = sorted[index - 1];
    if (before && where.time > before.time) {
      const pause = where.time - before.time;
      const wide = (18 + 9 * Math.log10(1 + pause / 1e5)) * state.zoom;
      gaps.push({ x, wide, pause });
      x += wide;
    }
    where.x = x;
    x += Math.max(1, where.used) * step;
  });
  const xOf = (event) => { const place = places.get(event); return place.where.x + (place.slot + .5) * step; };
  return { sorted, gaps, xOf, wide: x + LEFT + 44, step };
}

// The asks of a run as boxes, packed into as few rows as hold them side by side.
function spansOf(run, plan) {
  const ends = new Map();
  for (const event of run.events) if (event.r === "end") ends.set(event.o, event);
  const rows = [];
  return run.events.filter((event) => event.r === "ask").map((event) => {
    const end = ends.get(event.n);
    const from = plan.xOf(event), to = end ? plan.xOf(end) : plan.wide - LEFT - 44;
    let row = rows.findIndex((last) => last < from - 1);
    if (row < 0) row = rows.length;
    rows[row] = Math.max(to, from + plan.step * .8);
    return { event, end, from, to: rows[row], row };
  });
}

function lanes(sim) {
  const plan = layout(sim);
  const picture = draw("svg", { role: "group", "aria-label": "Lanes of the runs" });
  let y = AXIS;
  const parts = [];
  sim.runs.forEach((run, number) => {
    const spans = spansOf(run, plan);
    const rows = Math.max(0, ...spans.map((span) => span.row + 1));
    const high = HEAD + rows * ROW + 14;
    parts.push(lane(sim, run, number, spans, plan, y, high));
    y += high;
  });
  picture.append(axis(sim, plan, y), ...parts, crashMarks(sim, plan, y));
  const titles = sim.runs.map((run) => 8.2 * (run.workflow + run.id + run.status).length + 60);
  const wide = Math.max(plan.wide, 240, ...titles);
  fill(picture, { width: wide, height: y + 6, viewBox: "0 0 " + wide + " " + (y + 6) }, []);
  return picture;
}

function axis(sim, plan, bottom) {
  const box = draw("g", { class: "axis" });
  let free = -1;
  let last = null;
  for (const where of plan.sorted) {
    if (where.time === last) continue;
    last = where.time;
    box.append(draw("line", { x1: where.x, x2: where.x, y1: AXIS - 6, y2: bottom }));
    const label = "+" + length(where.time);
    if (where.x < free) continue;
    box.append(draw("text", { x: where.x + 3, y: 15 }, label));
    free = where.x + 8 + label.length * 7;
  }
  for (const gap of plan.gaps) {
    const middle = gap.x + gap.wide / 2, mark = draw("g", { class: "gap" });
    mark.append(draw("title", {}, length(gap.pause) + " later"),
      draw("rect", { x: gap.x + 1, y: AXIS - 4, width: Math.max(2, gap.wide - 2), height: bottom - AXIS + 4 }),
      draw("path", { d: "M" + (middle - 3) + " " + (AXIS - 4) + " q6 8 0 16 q-6 8 0 16 V" + bottom }));
    box.append(mark);
  }
  return box;
}

function lane(sim, run, number, spans, plan, top, high) {
  const box = draw("g", { class: "lane", "data-lane": number });
  box.append(draw("line", { class: "rule", x1: 0, x2: plan.wide, y1: top, y2: top }),
    draw("text", { class: "title", x: LEFT, y: top + 16 }, run.workflow + "  " + run.id,
      draw("tspan", { class: "status", dx: 10 }, run.status.replaceAll("_", " "))));
  for (const span of spans) {
    const y = top + HEAD + span.row * ROW, wide = span.to - span.from;
    const tone = span.end ? span.end.c : "open";
    const label = span.event.i + (span.end ? "" : " …");
    const clip = draw("svg", { x: span.from, y, width: wide, height: ROW - 4 },
      draw("text", { x: 5, y: 14 }, label));
    box.append(draw("g", {
      class: "span " + tone, "data-event": span.event.n,
      onclick: () => tell(sim, run, span.event, span.end),
    }, draw("title", {}, label + ": " + (span.end || span.event).x),
    draw("rect", { x: span.from, y, width: wide, height: ROW - 4, rx: 5 }), clip));
  }
  const committed = new Set(run.commits);
  for (const event of run.events) {
    const x = plan.xOf(event), y = top + 32;
    box.append(draw("g", {
      class: "dot " + event.c, tabindex: 0, role: "button", "data-event": event.n,
      "aria-label": "+" + length(event.t) + " " + event.i + " " + event.x,
      onclick: () => tell(sim, run, event), onkeydown: (key) => onDot(key, sim, run, event),
    }, draw("title", {}, "+" + length(event.t) + "  " + event.i + "  " + event.x),
    draw("circle", { cx: x, cy: y, r: 10 }), draw("text", { x, y: y + 5 }, glyph(event.k))));
    if (committed.has(event.n + 1)) {
      const edge = x + plan.step / 2;
      box.append(draw("line", { class: "commit", x1: edge, x2: edge, y1: top + 24, y2: top + 40 }, draw("title", {}, "commit")));
    }
  }
  return box;
}

function crashMarks(sim, plan, bottom) {
  const box = draw("g", { class: "crashes" });
  sim.crashes.forEach((crash, index) => {
    const where = plan.sorted.find((one) => one.at === index + .5);
    const x = where.x + plan.step / 2;
    const who = crash.worker === null ? "crash of every worker" : "crash of worker " + crash.worker;
    box.append(draw("g", { class: "crash" }, draw("title", {}, who),
      draw("line", { x1: x, x2: x, y1: AXIS - 4, y2: bottom }), draw("text", { x, y: AXIS - 6 }, "✝")));
  });
  return box;
}

// ---- Details ---------------------------------------------------------------------------------

function tell(sim, run, event, other) {
  const attempts = run.events.filter((one) => one.r === "note" && one.o === event.n);
  const rows = [["when", "+" + length(event.t) + "  (" + instant(sim, event.t) + ")"], ["kind", event.k.replaceAll("_", " ")]];
  const asked = run.events.find((one) => one.r === "ask" && one.n === event.o);
  if (event.s || asked) rows.push(["asked at", (event.s || asked.s) + (asked ? "  " + asked.x : "")]);
  rows.push(["happened", event.x]);
  for (const one of attempts) rows.push(["+" + length(one.t), one.x]);
  const end = other || run.events.find((one) => one.r === "end" && one.o === event.n);
  if (end) rows.push(["answered", "+" + length(end.t) + "  " + end.x]);
  const panel = $("details");
  panel.replaceChildren(
    make("header", {}, make("h2", {}, glyph(event.k) + " " + event.i),
      make("button", { type: "button", "aria-label": "Close", onclick: close }, "✕")),
    make("p", { class: "quiet" }, run.workflow + " " + run.id + ", event " + event.n),
    make("dl", {}, rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));
  for (const one of end ? [event, end] : [event]) {
    if (one.p) panel.append(make("pre", {}, pretty(one.p)));
  }
  for (const dot of document.querySelectorAll(".dot.chosen")) dot.classList.remove("chosen");
  panel.hidden = false;
}

function close() { $("details").hidden = true; }

// ---- Keys ------------------------------------------------------------------------------------

function onDot(key, sim, run, event) {
  const dots = [...key.currentTarget.parentNode.querySelectorAll(".dot")];
  const at = dots.indexOf(key.currentTarget);
  const goTo = (dot) => { if (dot) { dot.focus(); dot.scrollIntoView({ block: "nearest", inline: "nearest" }); key.preventDefault(); key.stopPropagation(); } };
  if (key.key === "ArrowRight") goTo(dots[at + 1]);
  else if (key.key === "ArrowLeft") goTo(dots[at - 1]);
  else if (key.key === "ArrowDown" || key.key === "ArrowUp") {
    const all = [...key.currentTarget.ownerSVGElement.querySelectorAll(".lane")];
    const next = all[all.indexOf(key.currentTarget.parentNode) + (key.key === "ArrowDown" ? 1 : -1)];
    const others = next ? [...next.querySelectorAll(".dot")] : [];
    goTo(others[Math.min(at, others.length - 1)]);
  } else if (key.key === "Enter" || key.key === " ") { tell(sim, run, event); key.preventDefault(); }
}

function onKey(key) {
  if (key.ctrlKey || key.metaKey || key.altKey || $("keys").open) return;
  const isTyping = key.target.tagName === "INPUT";
  if (key.key === "Escape") { close(); if (isTyping) key.target.blur(); return; }
  if (isTyping) return;
  const at = state.shown.indexOf(state.test);
  const factor = { "+": 1.3, "=": 1.3, "-": 1 / 1.3 }[key.key];
  if (key.key === "j") choose(state.shown[Math.min(at + 1, state.shown.length - 1)]);
  else if (key.key === "k") choose(state.shown[Math.max(at - 1, 0)]);
  else if (key.key === "/") { $("search").focus(); $("search").select(); }
  else if (key.key === "t") turnTheme();
  else if (key.key === "?") $("keys").showModal();
  else if (factor) { state.zoom = Math.min(4, Math.max(.4, state.zoom * factor)); paintAll(); }
  else if (key.key === "0") { state.zoom = 1; paintAll(); }
  else if ((key.key === "ArrowRight" || key.key === "ArrowLeft") && document.activeElement === document.body) {
    const first = document.querySelector(".dot");
    if (first) first.focus();
  } else return;
  key.preventDefault();
}

// ---- Light and dark, and the address ---------------------------------------------------------

function setTheme(theme) { document.documentElement.dataset.theme = theme; }

function turnTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  setTheme(theme);
  try { localStorage.setItem("edda-theme", theme); } catch { /* a file has no storage */ }
}

function remember() {
  const hash = "#test=" + state.test + (state.zoom === 1 ? "" : "&zoom=" + state.zoom.toFixed(2));
  try { history.replaceState(null, "", hash); } catch { /* a frame without an address */ }
}

function begin() {
  const asked = new URLSearchParams(location.hash.slice(1));
  let stored = null;
  try { stored = localStorage.getItem("edda-theme"); } catch { /* a file has no storage */ }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  setTheme(asked.get("theme") || stored || (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", (change) => { if (!stored) setTheme(change.matches ? "dark" : "light"); });
  const zoom = Number(asked.get("zoom"));
  if (zoom > 0) state.zoom = Math.min(4, Math.max(.4, zoom));
  state.query = asked.get("search") || "";
  $("search").value = state.query;
  $("search").addEventListener("input", () => { state.query = $("search").value; showList(); });
  $("theme").addEventListener("click", turnTheme);
  $("help").addEventListener("click", () => $("keys").showModal());
  document.addEventListener("keydown", onKey);
  showFilters();
  showList();
  if (!data.tests.length) { $("main").append(note("No test opened a simulation.")); return; }
  if (data.dropped) $("counts").append(", " + plural(data.dropped, "test") + " without detail: the page is full");
  const first = Number(asked.get("test") || state.shown[0] || 0);
  choose(data.tests[first] ? first : 0);
  const event = asked.get("event");
  if (event !== null) {
    const dot = document.querySelector('.dot[data-event="' + Number(event) + '"]');
    if (dot) dot.dispatchEvent(new Event("click"));
  }
}

begin();
