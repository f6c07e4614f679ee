
"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const { texts, values, nodes, frames, turns, passes } = data;
const SVG = "http://www.w3.org/2000/svg";
const LAST = frames.length;
// A frame is [pass, number, rule, node, op, why, scope, turn, nodes after it, before, after, around, changed, hidden].
const [PASS, NUMBER, RULE, NODE, OP, WHY, SCOPE, TURN, COUNT, BEFORE, AFTER, AROUND, CHANGED, HIDDEN] = Array(14).keys();
const byId = (id) => document.getElementById(id);
const state = { at: 0, query: "", hits: [], chosen: -1 };

// Text from the model reaches the page as text nodes and attribute values only.
function make(tag, attributes = {}, ...children) {
  const found = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) found.setAttribute(key, value);
  found.append(...children);
  return found;
}
function draw(tag, attributes = {}, ...children) {
  const found = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) found.setAttribute(key, value);
  found.append(...children);
  return found;
}
const number = (value) => value.toLocaleString("en-US");
const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + number(Math.abs(value));
function scaled(value, units, base) {
  let at = 0;
  while (Math.abs(value) >= base && at < units.length - 1) { value /= base; at += 1; }
  return `${at && Math.abs(value) < 100 ? value.toFixed(Math.abs(value) < 10 ? 2 : 1) : Math.round(value)}${units[at]}`;
}
const bytes = (value) => scaled(value, [" B", " kB", " MB", " GB", " TB"], 1000);
const counted = (value) => scaled(value, ["", " k", " M", " G", " T"], 1000);
const decibels = (value) => value === null ? "not known" : value === "inf" ? "bit for bit" : value === "-inf" ? "−∞ dB" : `${value.toFixed(1)} dB`;
const shorten = (text, most) => text.length <= most ? text : `${text.slice(0, Math.floor(most / 3) - 1)}…${text.slice(text.length - most + Math.floor(most / 3))}`;
const label = (node) => texts[nodes[node][1]];

// ---- charts: each is a step line over rewrites -------------------------------------------------------------------
function series() {
  const sizes = [[0, data.start[1]]], macs = [[0, data.start[2], data.start[3]]], count = [[0, data.start[0]]];
  frames.forEach((frame, index) => count.push([index + 1, frame[COUNT]]));
  for (const turn of turns) {
    const at = Math.min(turn[3], LAST);
    sizes.push([at, turn[5]]);
    if (turn[6]) macs.push([at, turn[6][0], turn[6][1]]);
  }
  const made = [["Nodes", count, number], ["Weights", sizes, bytes], ["MACs", macs, counted]];
  if (data.latency) {
    made.push([data.latency[2] ? "Latency (noisy)" : "Latency", [[0, data.latency[0]], [LAST, data.latency[1]]], (one) => `${(one * 1000).toPrecision(3)} ms`, true]);
  }
  const errors = data.steps.filter((step) => typeof step[6] === "number").map((step) => [Math.min(step[1], LAST), step[6]]);
  if (data.steps.length) made.push(["SQNR of the step", errors, decibels, true]);
  return made;
}
const charts = [];
function at(points, place) {
  let found = null;
  for (const point of points) { if (point[0] > place) break; found = point; }
  return found;
}
function buildCharts() {
  const wide = 1000, high = 44;
  for (const [name, points, shown, sparse] of series()) {
    const figures = points.map((point) => point[1]);
    const top = Math.max(...figures), low = sparse && name.startsWith("SQNR") ? Math.min(...figures) : 0;
    const x = (place) => LAST ? place / LAST * wide : 0;
    const y = (value) => high - 3 - (top === low ? 0.5 : (value - low) / (top - low)) * (high - 8);
    const svg = draw("svg", { viewBox: `0 0 ${wide} ${high}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    svg.append(draw("line", { class: "base", x1: 0, x2: wide, y1: high - 1, y2: high - 1 }));
    if (points.length) {
      let path = `M${x(points[0][0])},${y(points[0][1])}`;
      for (const point of points.slice(1)) path += sparse ? `L${x(point[0])},${y(point[1])}` : `H${x(point[0])}V${y(point[1])}`;
      if (!sparse) path += `H${wide}`;
      if (!sparse) svg.append(draw("path", { class: "area", d: `${path}V${high}H0Z` }));
      svg.append(draw("path", { class: "curve", d: path }));
      if (sparse) for (const point of points) svg.append(draw("path", { class: "dot", d: `M${x(point[0])},${y(point[1])}h0.01` }));
    }
    const cursor = draw("line", { class: "cursor", y1: 0, y2: high });
    svg.append(cursor);
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      go(Math.round((event.clientX - box.left) / box.width * LAST));
    });
    const value = make("b");
    byId("charts").append(make("div", { class: "chart" }, make("div", { class: "head" }, make("span", {}, name), value), svg));
    charts.push({ name, points, shown, cursor, value, x });
  }
}
function moveCharts() {
  for (const { name, points, shown, cursor, value, x } of charts) {
    cursor.setAttribute("x1", x(state.at));
    cursor.setAttribute("x2", x(state.at));
    const start = points[0], now = at(points, state.at), error = name.startsWith("SQNR");
    const between = name.startsWith("Latency") && state.at && state.at < LAST;  // measured of the input and the result only
    const parts = [error ? sqnrAt() : between ? `${shown(start[1])} → ${shown(points[1][1])}` : now ? shown(now[1]) : "not known"];
    if (now && now[2]) parts.push(` and ${plural(now[2], "node")} of unknown shape`);
    else if (!error && !between && now && start[1] && now[1] !== start[1] && !(name === "MACs" && (start[2] || now[1] > start[1]))) parts.push(` (${now[1] > start[1] ? "+" : "−"}${Math.abs((now[1] / start[1] - 1) * 100).toFixed(1)} %)`);
    value.textContent = parts.join("");
  }
}
function sqnrAt() {
  const done = data.steps.filter((step) => Math.min(step[1], LAST) <= state.at);
  return done.length ? decibels(done[done.length - 1][6]) : "no step done yet";
}

// ---- the strip of passes -----------------------------------------------------------------------------------------
const starts = turns.map((turn, index) => index ? Math.min(turns[index - 1][3], LAST) : 0);
function buildStrip() {
  const svg = draw("svg", { viewBox: "0 0 1000 12", preserveAspectRatio: "none" });
  turns.forEach((turn, index) => {
    const from = starts[index] / (LAST || 1) * 1000, to = Math.min(turn[3], LAST) / (LAST || 1) * 1000;
    if (to <= from) return;
    const rect = draw("rect", { class: index % 2 ? "odd" : "even", x: from, y: 2, width: Math.max(to - from - 0.6, 0.6), height: 8, rx: 1 },
      draw("title", {}, `${passes[turn[0]][0]}: ${plural(turn[3] - starts[index], "rewrite")}`));
    rect.addEventListener("click", () => go(starts[index] + 1));
    svg.append(rect);
  });
  svg.append(draw("g", { id: "marks" }));
  byId("strip").append(svg);
}
function moveStrip() {
  const turn = state.at ? frames[state.at - 1][TURN] : -1;
  let index = -1;
  document.querySelectorAll("#strip svg > rect").forEach((rect) => {
    do index += 1; while (index < turns.length && Math.min(turns[index][3], LAST) <= starts[index]);
    rect.classList.toggle("here", index === turn);
  });
}

// ---- layout: layers by longest path, order by barycentres, then each node under the middle of what it reads --------
function layers(boxes, links) {
  const depth = boxes.map(() => 0);
  for (let round = 0, moved = true; moved && round <= boxes.length; round += 1) {
    moved = false;
    for (const [from, to] of links) if (from !== to && depth[to] < depth[from] + 1) { depth[to] = Math.min(depth[from] + 1, boxes.length); moved = true; }
  }
  boxes.forEach((_, index) => {  // what reads nothing stands just above its first reader
    if (links.some(([, to]) => to === index)) return;
    const readers = links.filter(([from]) => from === index).map(([, to]) => depth[to]);
    if (readers.length) depth[index] = Math.max(0, Math.min(...readers) - 1);
  });
  return depth;
}
function layout(boxes, links) {
  const depth = layers(boxes, links);
  const spots = boxes.map((box, index) => ({ ...box, depth: depth[index], near: [[], []] }));
  const chains = links.map(([from, to]) => {
    const chain = [from];
    for (let level = depth[from] + 1; level < depth[to]; level += 1) {
      spots.push({ w: 14, h: 0, depth: level, near: [[], []] });
      chain.push(spots.length - 1);
    }
    chain.push(to);
    for (let place = 1; place < chain.length; place += 1) {
      spots[chain[place]].near[0].push(chain[place - 1]);
      spots[chain[place - 1]].near[1].push(chain[place]);
    }
    return chain;
  });
  const rows = Array.from({ length: Math.max(0, ...spots.map((spot) => spot.depth)) + 1 }, () => []);
  spots.forEach((spot, index) => rows[spot.depth].push(index));
  const rank = [];
  const number = () => rows.forEach((row) => row.forEach((spot, place) => { rank[spot] = place; }));
  number();
  for (let sweep = 0; sweep < 8; sweep += 1) {
    const side = sweep % 2;
    for (const row of side ? [...rows].reverse() : rows) {
      const wish = new Map(row.map((spot) => {
        const near = spots[spot].near[side];
        return [spot, near.length ? near.reduce((sum, one) => sum + rank[one], 0) / near.length : rank[spot]];
      }));
      row.sort((one, other) => wish.get(one) - wish.get(other) || rank[one] - rank[other]);
      row.forEach((spot, place) => { rank[spot] = place; });
    }
  }
  const gap = 22;
  for (const row of rows) {
    let x = 0;
    for (const spot of row) { spots[spot].x = x + spots[spot].w / 2; x += spots[spot].w + gap; }
  }
  for (let sweep = 0; sweep < 10; sweep += 1) {
    const side = sweep % 2;
    for (const row of side ? [...rows].reverse() : rows) {
      const wish = row.map((spot) => {
        const near = spots[spot].near[side].length ? spots[spot].near[side] : spots[spot].near[1 - side];
        return near.length ? near.reduce((sum, one) => sum + spots[one].x, 0) / near.length : spots[spot].x;
      });
      const room = (place) => (spots[row[place - 1]].w + spots[row[place]].w) / 2 + gap;
      const right = [...wish], left = [...wish];
      for (let place = 1; place < row.length; place += 1) right[place] = Math.max(right[place], right[place - 1] + room(place));
      for (let place = row.length - 2; place >= 0; place -= 1) left[place] = Math.min(left[place], left[place + 1] - room(place + 1));
      row.forEach((spot, place) => { spots[spot].x = (left[place] + right[place]) / 2; });
    }
  }
  let y = 0;
  for (const row of rows) {
    const high = Math.max(0, ...row.map((spot) => spots[spot].h));
    for (const spot of row) { spots[spot].y = y + (high - spots[spot].h) / 2; if (!spots[spot].h) spots[spot].y = y + high / 2; }
    y += high + 46;
  }
  const edge = Math.min(...spots.map((spot) => spot.x - spot.w / 2));
  for (const spot of spots) spot.x -= edge;
  return { spots, chains, wide: Math.max(...spots.map((spot) => spot.x + spot.w / 2)), high: y - 46 };
}

// ---- pictures ----------------------------------------------------------------------------------------------------
function boxOf(node, kind) {
  const [op, name, , ins] = nodes[node];
  const weights = ins.filter((value) => values[value][2] === "constant");
  const lines = [shorten(texts[name], 30)];
  for (const value of weights.slice(0, 3)) lines.push(`${shorten(texts[values[value][0]], 12)} ${shorten(texts[values[value][1]], 28)}`.trim());
  if (weights.length > 3) lines.push(`and ${weights.length - 3} more`);
  const title = shorten(texts[op], 26);
  const w = Math.max(84, title.length * 8 + 24, ...lines.map((line) => line.length * 6.7 + 20));
  return { w, h: 28 + lines.length * 15, title, lines, node, kind };
}
function picture(frame, before) {
  const own = frame[before ? BEFORE : AFTER], kinds = own.map((_, index) => index < frame[CHANGED] ? "moved" : before ? "gone" : "came");
  const boxes = [...own.map((node, index) => boxOf(node, kinds[index])), ...frame[AROUND].map((node) => boxOf(node, "kept"))];
  if (!boxes.length) return null;
  const makers = new Map(), links = [], names = [], ports = new Map();
  boxes.forEach((box, index) => nodes[box.node][4].forEach((value) => { if (texts[values[value][0]]) makers.set(texts[values[value][0]], index); }));
  const count = boxes.length;
  for (let index = 0; index < count; index += 1) {
    const seen = new Set();
    for (const value of nodes[boxes[index].node][3]) {
      const [name, type, kind] = values[value], text = texts[name];
      if (kind === "constant" || kind === "none" || seen.has(text)) continue;
      seen.add(text);
      let from = makers.get(text);
      if (from === undefined && boxes[index].kind !== "kept") {  // made out of sight, or an input
        from = ports.get(text);
        if (from === undefined) {
          const shown = shorten(text, 28);
          boxes.push({ w: Math.max(40, shown.length * 6.7 + 18), h: 22, title: "", lines: [shown], kind: "port", what: kind === "input" ? "input" : "value" });
          from = boxes.length - 1;
          ports.set(text, from);
        }
      }
      if (from !== undefined && from !== index) { links.push([from, index]); names.push([text, texts[type]]); }
    }
    for (const value of nodes[boxes[index].node][4]) {
      const [name, type, kind] = values[value];
      if (kind !== "output" || !texts[name]) continue;
      const shown = shorten(texts[name], 28);
      boxes.push({ w: Math.max(40, shown.length * 6.7 + 18), h: 22, title: "", lines: [shown], kind: "port", what: "output" });
      links.push([index, boxes.length - 1]);
      names.push([texts[name], texts[type]]);
    }
  }
  return { ...layout(boxes, links), boxes, names };
}
function edgePath(spots, chain) {
  const first = spots[chain[0]], last = spots[chain[chain.length - 1]];
  let x = first.x, y = first.y + first.h, path = `M${x},${y}`;
  for (const spot of [...chain.slice(1, -1).map((one) => spots[one]), { x: last.x, y: last.y - 5 }]) {
    const half = (spot.y - y) / 2;
    path += `C${x},${y + half} ${spot.x},${spot.y - half} ${spot.x},${spot.y}`;
    x = spot.x; y = spot.y;
  }
  return path;
}
function render(frame, before) {
  const found = picture(frame, before), side = before ? "Before" : "After";
  if (!found) return make("p", { class: "empty" }, "No node is here.");
  const pad = 8, wide = Math.ceil(found.wide) + 2 * pad, high = Math.ceil(found.high) + 2 * pad;
  const scale = Math.max(0.7, Math.min(1, (byId(before ? "before" : "after").clientWidth - 24) / wide));
  const svg = draw("svg", { width: Math.floor(wide * scale), height: Math.floor(high * scale), viewBox: `${-pad} ${-pad} ${wide} ${high}`, role: "group", "aria-label": `${side} the rewrite` });
  const few = found.chains.length <= 16;
  found.chains.forEach((chain, index) => {
    const last = found.spots[chain[chain.length - 1]], [name, type] = found.names[index];
    svg.append(draw("path", { class: "edge", d: edgePath(found.spots, chain) }, draw("title", {}, type ? `${name}  ${type}` : name)));
    svg.append(draw("path", { class: "tip", d: `M${last.x - 4},${last.y - 7}h8l-4,7z` }));
    if (few && type) {
      const first = found.spots[chain[0]], next = found.spots[chain[1]];
      const alone = found.chains.filter((other) => other[0] === chain[0]).length === 1;
      const x = alone ? first.x : (first.x + 3 * next.x) / 4, from = first.y + first.h;
      svg.append(draw("text", { class: "shape", x, y: from + (next.y - from) * (alone ? 0.4 : 0.68) + 3, "text-anchor": "middle" }, shorten(type, 26)));
    }
  });
  found.boxes.forEach((box, index) => {
    const spot = found.spots[index], x = spot.x - box.w / 2;
    const group = draw("g", { class: box.kind });
    group.append(draw("rect", { x, y: spot.y, width: box.w, height: box.h, rx: box.kind === "port" ? 11 : 6 }));
    if (box.title) group.append(draw("text", { class: "op", x: spot.x, y: spot.y + 19, "text-anchor": "middle" }, box.title));
    box.lines.forEach((line, place) => {
      group.append(draw("text", { x: spot.x, y: spot.y + (box.title ? 34 : 15) + place * 15, "text-anchor": "middle" }, line));
    });
    if (box.node !== undefined) {
      const words = { gone: "removed", came: "added", moved: "changed", kept: "unchanged" }[box.kind];
      group.setAttribute("tabindex", "0");
      group.setAttribute("role", "button");
      group.setAttribute("aria-label", `${texts[nodes[box.node][0]]} ${label(box.node)}, ${words}`);
      group.prepend(draw("title", {}, label(box.node)));
      const choose = () => {
        document.querySelectorAll(".canvas g.chosen").forEach((one) => one.classList.remove("chosen"));
        group.classList.add("chosen");
        details(box.node, words);
      };
      group.addEventListener("click", choose);
      group.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); } });
    } else group.append(draw("title", {}, `${box.lines[0]}, ${box.what === "value" ? "a value made elsewhere" : `an ${box.what} of the graph`}`));
    svg.append(group);
  });
  return svg;
}
function details(node, words) {
  const [op, name, scope, ins, outs, attrs] = nodes[node];
  const list = (slots) => slots.filter((value) => values[value][2] !== "none").map((value) =>
    make("code", { class: "value" }, texts[values[value][0]], " ", make("span", {}, texts[values[value][1]])));
  const rows = [["Node", make("code", {}, texts[name])], ["Reads", ...list(ins)], ["Makes", ...list(outs)]];
  if (texts[attrs]) rows.push(["Attributes", make("code", {}, texts[attrs])]);
  if (texts[scope]) rows.push(["In", make("code", {}, texts[scope])]);
  const find = make("button", { type: "button" }, "What touched it?");
  find.addEventListener("click", () => { byId("search").value = texts[name]; search(texts[name]); byId("search").focus(); });
  const found = byId("details");
  found.hidden = false;
  found.replaceChildren(make("h2", {}, `${texts[op]} `, make("span", {}, `(${words})`)),
    make("dl", {}, ...rows.flatMap(([term, ...content]) => [make("dt", {}, term), make("dd", {}, ...content)])), find);
}

// ---- the place in time -------------------------------------------------------------------------------------------
function legend() {
  for (const [kind, word] of [["gone", "removed"], ["came", "added"], ["moved", "changed"], ["kept", "unchanged, next to it"]]) {
    byId("legend").append(make("span", {}, make("i", { class: kind }), word));
  }
}
function contents(frame) {
  const pass = passes[frame[PASS]], where = texts[frame[SCOPE]], turn = turns[frame[TURN]];
  const title = make("p", { class: "title" }, `${pass[0]}:${frame[NUMBER]} `, make("span", {}, `${texts[frame[RULE]]} on ${texts[frame[OP]]} `),
    make("code", {}, texts[frame[NODE]]));
  const rows = [title];
  if (texts[frame[WHY]]) rows.push(make("p", {}, texts[frame[WHY]]));
  if (where) rows.push(make("p", { class: "quiet" }, `in ${where}`));
  rows.push(make("p", { class: "quiet" }, `${pass[1]}, step ${turn[1] + 1}${turn[2] > 1 ? `, round ${turn[2]}` : ""}. Leave it out with `,
    make("code", {}, `--disable ${pass[0]}:${frame[NUMBER]}`)));
  return rows;
}
function show() {
  const frame = state.at ? frames[state.at - 1] : null;
  byId("slider").value = String(state.at);
  byId("details").hidden = true;
  for (const [id, off] of [["first", !state.at], ["back", !state.at], ["next", state.at === LAST], ["last", state.at === LAST],
    ["back-pass", !state.at], ["next-pass", state.at === LAST]]) byId(id).disabled = off;
  const position = byId("position");
  if (!frame) {
    position.replaceChildren(make("b", {}, LAST ? "The input" : "Nothing was changed"), make("span", {}, LAST ? ` before ${plural(LAST, "rewrite")}` : ""));
    byId("remark").replaceChildren(make("p", { class: "title" }, LAST ? "The model as it was read" : "No pass found anything to do"),
      make("p", { class: "quiet" }, `${plural(data.start[0], "node")}, ${bytes(data.start[1])} of weights. ${LAST ? "Move the slider, or press →, to follow the rewrites one by one." : ""}`),
      make("p", { class: "quiet" }, data.recipe ? `Recipe ${data.recipe}: ` : "Pipeline ", make("code", {}, data.pipeline)));
    byId("picture").classList.add("still");
  } else {
    position.replaceChildren(make("b", {}, `Rewrite ${number(state.at)}`), make("span", {}, ` of ${number(LAST)}, ${passes[frame[PASS]][0]}`));
    byId("remark").replaceChildren(...contents(frame));
  }
  document.querySelector(".panes").hidden = byId("legend").hidden = !frame;
  document.querySelector(".panes").style.display = byId("legend").style.display = frame ? "" : "none";
  if (frame) {
    const drawn = frame.length > BEFORE;
    for (const [id, before] of [["before", true], ["after", false]]) {
      const pane = byId(id), count = drawn ? frame[before ? BEFORE : AFTER].length : 0;
      pane.replaceChildren(drawn ? render(frame, before) : make("p", { class: "empty" }, "This rewrite is not drawn; see the notes below."));
      pane.scrollTop = 0;
      pane.scrollLeft = (pane.scrollWidth - pane.clientWidth) / 2;
      const hidden = drawn ? frame[HIDDEN][before ? 0 : 1] : 0;
      byId(`${id}-count`).textContent = !drawn ? "" : count ? `${plural(count + hidden, "node")}${hidden ? `, of which ${count} are shown` : ""}` : before ? "" : frame[BEFORE].length ? "nothing in its place" : "no node differs";
    }
  }
  moveCharts();
  moveStrip();
  document.querySelectorAll("#table tbody tr").forEach((row) => row.classList.toggle("here", !!frame && row.dataset.pass === String(frame[PASS])));
  byId("slider").setAttribute("aria-valuetext", position.textContent);
  document.body.dataset.at = String(state.at);
  remember();
}
function go(place) {
  const next = Math.min(LAST, Math.max(0, Number.isFinite(place) ? place : 0));
  if (next !== state.at) { state.at = next; show(); }
}
function goPass(back) {
  if (back) go((starts.filter((start) => start + 1 < state.at).pop() ?? -1) + 1);
  else go((starts.find((start) => start + 1 > state.at && start < LAST) ?? LAST - 1) + 1);
}

// ---- search ------------------------------------------------------------------------------------------------------
let index = null;
function indexed() {  // number of a text -> the rewrites that touched what it names
  if (index) return index;
  index = new Map();
  const add = (text, place) => {
    const found = index.get(text);
    if (!found) index.set(text, [place]);
    else if (found[found.length - 1] !== place) found.push(place);
  };
  frames.forEach((frame, place) => {
    add(frame[NODE], place + 1);
    for (const node of [...(frame[BEFORE] ?? []), ...(frame[AFTER] ?? [])]) {
      add(nodes[node][1], place + 1);
      for (const value of [...nodes[node][3], ...nodes[node][4]]) add(values[value][0], place + 1);
    }
  });
  return index;
}
function search(query) {
  state.query = query;
  const wanted = query.trim().toLowerCase(), box = byId("hits");
  const places = new Set(), names = new Set();
  if (wanted) {
    for (const [text, found] of indexed()) {
      if (texts[text].toLowerCase().includes(wanted)) { names.add(text); for (const place of found) places.add(place); }
    }
  }
  state.hits = [...places].sort((one, other) => one - other);
  state.chosen = -1;
  const missed = wanted ? data.missed.filter((one) => texts[one[2]].toLowerCase().includes(wanted)) : [];
  const rows = [make("div", { class: "count" }, `${plural(state.hits.length, "rewrite")} touched ${plural(names.size, "name")}; ${plural(missed.length, "remark")} of what did not happen`)];
  for (const place of state.hits.slice(0, 60)) {
    const frame = frames[place - 1];
    const option = make("div", { role: "option", id: `hit-${place}`, "aria-selected": "false", "data-at": place },
      `${number(place)}  ${passes[frame[PASS]][0]}:${frame[NUMBER]}`, make("small", {}, `${texts[frame[RULE]]} on ${texts[frame[NODE]]}`));
    option.addEventListener("click", () => { go(place); closeHits(); });
    rows.push(option);
  }
  if (state.hits.length > 60) rows.push(make("div", { class: "count" }, `and ${number(state.hits.length - 60)} more, marked above the slider`));
  for (const [pass, rule, node, , why, , of] of missed.slice(0, 20)) {
    rows.push(make("div", { class: "count" }, `${passes[pass][0]} ${of === null ? "missed" : `switched off (${of})`}: ${texts[rule]} on ${texts[node]}${texts[why] ? ` because ${texts[why]}` : ""}`));
  }
  box.replaceChildren(...rows);
  box.hidden = !wanted;
  byId("search").setAttribute("aria-expanded", String(!!wanted));
  byId("search").removeAttribute("aria-activedescendant");
  const marks = byId("marks");
  marks.replaceChildren(...state.hits.slice(0, 2000).map((place) => draw("rect", { class: "hit", x: (place - 0.5) / LAST * 1000 - 1, y: 0, width: 2, height: 12 })));
  document.body.dataset.hits = String(state.hits.length);
  remember();
}
function choose(step) {
  if (!state.hits.length) return;
  const most = Math.min(state.hits.length, 60);
  state.chosen = (state.chosen + step + most) % most;
  document.querySelectorAll("#hits [role=option]").forEach((option, place) => {
    option.setAttribute("aria-selected", String(place === state.chosen));
    if (place === state.chosen) { option.scrollIntoView({ block: "nearest" }); byId("search").setAttribute("aria-activedescendant", option.id); }
  });
  go(state.hits[state.chosen]);
}
function closeHits() {
  byId("hits").hidden = true;
  byId("search").setAttribute("aria-expanded", "false");
}

// ---- tables ------------------------------------------------------------------------------------------------------
function table() {
  const head = ["pass", "contract", "rewrites", "missed", "nodes", "weights", "seconds"];
  const body = make("tbody"), idle = [];
  passes.forEach((row, place) => {
    if (!row[2]) { idle.push(row[3] ? `${row[0]} (${number(row[3])} missed)` : row[0]); return; }
    const first = frames.findIndex((frame) => frame[PASS] === place);
    const name = make("td", { class: "name" });
    if (first >= 0) {
      const jump = make("button", { type: "button" }, row[0]);
      jump.addEventListener("click", () => { go(first + 1); scrollTo(0, 0); });
      name.append(jump);
    } else name.append(row[0]);
    const size = row[5] ? `${row[5] > 0 ? "+" : "−"}${bytes(Math.abs(row[5]))}` : "";
    body.append(make("tr", { "data-pass": place }, name,
      ...[row[1], number(row[2]), row[3] ? number(row[3]) : "", row[4] ? signed(row[4]) : "", size, row[6].toFixed(2)].map((one) => make("td", {}, one))));
  });
  byId("table").append(make("thead", {}, make("tr", {}, ...head.map((one) => make("th", { scope: "col" }, one)))), body);
  byId("table").hidden = !body.children.length;
  if (idle.length) byId("idle").append(make("summary", {}, `${number(idle.length)} ${idle.length === 1 ? "pass" : "passes"} changed nothing`), make("p", { class: "mono" }, idle.join(", ")));
  byId("idle").hidden = !idle.length;
}
function waterfall() {
  if (!data.steps.length) return;
  byId("error").hidden = false;
  const power = (db) => typeof db === "number" ? 10 ** (-db / 10) : 0;
  const end = data.verdict[4], sum = data.steps.reduce((all, step) => all + power(step[6]), 0), top = Math.max(sum, power(end));
  const box = byId("waterfall");
  let reached = 0;
  const bar = (name, from, size, figure, kind, title) => box.append(make("div", { class: "bar" }, make("code", { class: "name", title: name }, name),
    draw("svg", { viewBox: "0 0 1000 16", preserveAspectRatio: "none", "aria-hidden": "true" }, draw("line", { x1: 0, x2: 1000, y1: 15.5, y2: 15.5 }),
      draw("rect", { class: kind, x: top ? from / top * 1000 : 0, y: 2, width: top ? Math.max(size / top * 1000, size ? 2 : 0) : 0, height: 12 }, draw("title", {}, title))),
    make("span", { class: "figure" }, figure)));
  for (const [text, , , outcome, , sentence, db] of data.steps) {
    bar(text, reached, power(db), decibels(db), "", sentence || outcome);
    reached += power(db);
  }
  bar("result against the input", 0, power(end), decibels(end), "sum", data.verdict[3]);
  box.append(make("p", {}, top ? "Each bar is the noise power that a step adds to its worst output, relative to the signal; the last is what was measured of the result. "
    + "Errors that do not depend on each other add up to it." : "Every step kept all outputs bit for bit, so there is no error to add up."));
}

// ---- start -------------------------------------------------------------------------------------------------------
const THEMES = { auto: "Auto", light: "Light", dark: "Dark" };
function theme(name) {
  const chosen = THEMES[name] ? name : "auto";
  document.documentElement.dataset.theme = chosen;
  byId("theme").textContent = THEMES[chosen];
  byId("theme").setAttribute("aria-label", `Colours: ${chosen === "auto" ? "as the system" : chosen}`);
  remember();
}
function nextTheme() {
  const names = Object.keys(THEMES);
  theme(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]);
}
let ready = false, timer = 0;
function remember() {  // the address holds the place, so that it can be passed on; browsers refuse to change it too often
  if (!ready) return;
  clearTimeout(timer);
  timer = setTimeout(address, 150);
}
function address() {
  const parts = new URLSearchParams();
  if (state.at) parts.set("rewrite", String(state.at));
  if (state.query) parts.set("search", state.query);
  if (document.documentElement.dataset.theme !== "auto") parts.set("theme", document.documentElement.dataset.theme);
  try { history.replaceState(null, "", `#${parts}`); } catch { /* some viewers keep the address to themselves */ }
}
function recall() {
  const parts = new URLSearchParams(location.hash.slice(1));
  theme(parts.get("theme") ?? document.documentElement.dataset.theme);
  const query = parts.get("search");
  if (query !== null) { byId("search").value = query; search(query); closeHits(); }
  const place = parts.get("rewrite");
  if (place !== null) state.at = Math.min(LAST, Math.max(0, parseInt(place, 10) || 0));
  else if (query !== null && state.hits.length) state.at = state.hits[0];
}
function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target === byId("search");
  if (typing) {
    if (event.key === "ArrowDown" || event.key === "Enter") { event.preventDefault(); byId("hits").hidden = !state.hits.length; choose(1); }
    else if (event.key === "ArrowUp") { event.preventDefault(); choose(-1); }
    else if (event.key === "Escape") { closeHits(); byId("search").blur(); }
    return;
  }
  const moves = { ArrowLeft: () => go(state.at - 1), ArrowRight: () => go(state.at + 1), Home: () => go(0), End: () => go(LAST),
    PageUp: () => goPass(true), PageDown: () => goPass(false), "/": () => byId("search").focus(), t: nextTheme };
  if (!Object.hasOwn(moves, event.key)) return;
  event.preventDefault();
  moves[event.key]();
}
function begin() {
  byId("model").textContent = data.model;
  const end = turns.length ? turns[turns.length - 1] : null;
  byId("summary").textContent = end
    ? `${number(data.rewrites)} rewrites: ${number(data.start[0])} → ${plural(end[4], "node")}, file ${bytes(data.bytes[0])} → ${bytes(data.bytes[1])}. Outputs ${data.verdict[3]}`
    : `${plural(data.start[0], "node")}, nothing was changed`;
  byId("made").textContent = `Made by graphopt ${data.versions.graphopt} with onnx ${data.versions.onnx} and onnxruntime ${data.versions.onnxruntime}.`;
  byId("slider").max = String(LAST);
  byId("slider").addEventListener("input", (event) => go(Number(event.target.value)));
  for (const [id, move] of [["first", () => go(0)], ["back", () => go(state.at - 1)], ["next", () => go(state.at + 1)], ["last", () => go(LAST)],
    ["back-pass", () => goPass(true)], ["next-pass", () => goPass(false)]]) byId(id).addEventListener("click", move);
  byId("theme").addEventListener("click", nextTheme);
  byId("search").addEventListener("input", (event) => search(event.target.value));
  byId("search").addEventListener("focus", () => { if (state.query.trim()) byId("hits").hidden = false; });
  document.addEventListener("pointerdown", (event) => { if (!event.target.closest(".search")) closeHits(); });
  document.addEventListener("keydown", keys);
  let resized = 0;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(show, 150); });
  addEventListener("hashchange", () => { ready = false; recall(); ready = true; show(); });
  legend();
  buildCharts();
  buildStrip();
  table();
  waterfall();
  if (data.notes.length) {
    byId("notes").hidden = false;
    byId("notelist").append(...data.notes.map((note) => make("li", {}, note)));
  }
  recall();
  ready = true;
  show();
  document.body.dataset.ready = String(Math.round(performance.now()));
}
begin();
})();
