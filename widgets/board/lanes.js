// The board's pieces of page: chips, lanes and the wires between them. They draw what they are given and keep nothing.
import { fill, fits, humanBytes, humanCount, shortBytes } from "./model.js";

/** An element with attributes and children; `text` becomes its textContent. */
export function make(tag, { text, ...attributes } = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  node.append(...children);
  return node;
}

/** Sets a text only if it differs: a screen reader would read it again, and a selection would be lost. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function put(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Colour and dash of the device with that place in the list: the same colours as in the figures. */
export function tint(node, index) {
  node.style.setProperty("--lab-device", index < 0 ? "var(--lab-line)" : `var(--lab-d${index % 8})`);
  put(node, "data-sign", String(Math.max(0, index) % 8));
}

export function makeChip(path, hintId) {
  const hold = make("button", { type: "button", class: "lab-hold", "aria-describedby": hintId, "aria-pressed": "false" });
  const cost = make("span", { class: "lab-cost" }, make("span"), " ", make("span"));
  hold.append(make("b", { text: path }), cost, make("span", { class: "lab-share" }));
  const select = make("select", {});
  const picker = make("span", { class: "lab-picker" }, select);
  const grip = make("span", { class: "lab-grip", "aria-hidden": "true", text: "⠿" });
  return make("li", { class: "lab-chip", "data-layer": path }, hold, picker, grip);
}

export function drawChip(chip, layer, device, state, words) {
  const [hold, picker] = chip.children;
  const [, cost, time] = hold.children;
  const [first, second] = cost.children;
  const parameters = layer.parameters ? fill(words.params, { count: humanCount(layer.parameters).trim() }) : "";
  const flops = layer.flops ? `${humanCount(layer.flops)}FLOP` : "";
  const share = layer.share === null ? "" : fill(words.share, { share: Math.round(100 * layer.share) });
  write(first, parameters || flops || layer.module);
  write(second, parameters ? flops : "");
  write(time, share || (parameters || flops ? layer.module : ""));
  const about = fill(words.about_layer, {
    parameters: layer.parameters.toLocaleString("en-US"),
    flops: `${humanCount(layer.flops)}FLOP`,
    memory: shortBytes(layer.memory_bytes),
  });
  put(hold, "title", `${layer.module}: ${about}`);
  put(hold, "aria-label", [layer.path, parameters || layer.module, flops, share, fill(words.on, { device })].filter(Boolean).join(", "));
  const select = picker.firstChild;
  put(select, "aria-label", fill(words.device_of, { layer: layer.path }));
  put(select, "title", fill(words.device_of, { layer: layer.path }));
  const names = state.devices.map((each) => each.name);
  if (select.dataset.key !== names.join()) {
    select.dataset.key = names.join();
    select.replaceChildren(...names.map((name) => make("option", { value: name, text: name })));
  }
  if (select.value !== device) select.value = device;
  tint(chip, names.indexOf(device));
}

export function makeLane(name) {
  const head = make("header", {}, make("span", { class: "lab-swatch", "aria-hidden": "true" }), make("b", { text: name }));
  const remove = make("button", { type: "button", class: "lab-remove", "data-do": "remove", text: "×" });
  head.append(make("span", { class: "lab-what" }), make("span", { class: "lab-busy" }), remove);
  const bar = make("span", { class: "lab-room", role: "meter", "aria-valuemin": "0", "aria-valuemax": "100" }, make("i"));
  const memory = make("div", { class: "lab-memory" }, bar, make("span"));
  const body = [make("ul", { class: "lab-chips", role: "list" }), make("p", { class: "lab-empty" })];
  body.push(make("div", { class: "lab-part", role: "img" }), make("ul", { class: "lab-also" }));
  return make("section", { class: "lab-lane", "data-device": name, role: "group" }, head, memory, ...body);
}

/**
 * `about` is {title, simulated, capacity_bytes, busy, bytes, note, removable}; `note` stands where there are no chips.
 */
export function drawLane(lane, index, about, words) {
  const [head, memory, , note, part, also] = lane.children;
  const [, , what, busy, remove] = head.children;
  tint(lane, index);
  const simulated = about.simulated ? ` · ${words.simulated}` : "";
  write(what, about.title.replace(" (fictional)", "") + simulated);
  put(what, "title", about.title + simulated);
  remove.hidden = !about.removable;
  put(remove, "aria-label", fill(words.remove, { device: lane.dataset.device }));
  put(remove, "title", fill(words.remove_hint, { device: lane.dataset.device }));
  write(busy, about.busy === null || about.busy === undefined ? "" : fill(words.busy, { share: Math.round(100 * about.busy) }));
  drawMemory(lane, about.bytes, about.capacity_bytes, words);
  write(note, about.note);
  drawPart(part, about.part, words);
  drawAlso(also, about.also ?? [], words);
  const says = memory.lastChild.textContent;
  put(lane, "aria-label", [lane.dataset.device, what.textContent, busy.textContent, says].filter(Boolean).join(", "));
}

/** Which part of every batch a copy gets: as many cells as parts, one of them filled. */
function drawPart(node, part, words) {
  node.hidden = !part || part[1] < 2;
  if (node.hidden) return;
  put(node, "aria-label", fill(words.part, { part: part[0] + 1, count: part[1] }));
  if (node.dataset.part === part.join()) return;
  node.dataset.part = part.join();
  node.replaceChildren(...Array.from({ length: part[1] }, (_, index) => make("i", index === part[0] ? { class: "lab-mine" } : {})));
}

/** Where the other ranks have the same layers. */
function drawAlso(list, names, words) {
  list.hidden = !names.length;
  put(list, "aria-label", words.also);
  put(list, "title", words.also);
  if (list.dataset.key === names.join()) return;
  list.dataset.key = names.join();
  list.replaceChildren(...names.map((text) => make("li", { text })));
}

/** The bar of a lane; also while a chip hovers over it. */
export function drawMemory(lane, bytes, capacity, words) {
  const [bar, text] = lane.children[1].children;
  const state = fits(bytes, capacity);
  put(lane, "data-fits", state);
  const part = capacity ? Math.min(1, bytes / capacity) : 0;
  bar.firstChild.style.width = `${(100 * part).toFixed(1)}%`;
  put(bar, "aria-valuenow", String(Math.round(100 * part)));
  const sentence = { ok: words.memory, tight: words.memory_tight, over: words.memory_over }[state];
  write(text, fill(sentence, { needed: shortBytes(bytes), capacity: shortBytes(capacity) }));
  put(bar, "aria-label", text.textContent);
}

/** What crosses between two lanes, with an arrow from the lane that sends forward. */
export function makeWire(pair, rows, most, words) {
  const [from, to] = [rows.indexOf(pair.from), rows.indexOf(pair.to)];
  const near = Math.abs(from - to) === 1;
  const sentence = bothWays(pair.forward, pair.backward, words);
  const names = `${pair.from} → ${pair.to}`;
  const wire = make("div", {
    class: near ? "lab-wire" : "lab-wire lab-far",
    "data-from": pair.from,
    "data-to": pair.to,
    "data-way": to > from ? "down" : "up",
    title: pair.edges.map((edge) => `${edge.source} → ${edge.target}: ${bothWays(edge.forward_bytes, edge.backward_bytes, words)}`).join("\n"),
  });
  wire.style.setProperty("--lab-thick", `${(2 + (3 * (pair.forward + pair.backward)) / most).toFixed(1)}px`);
  const line = make("i", { "aria-hidden": "true" });
  wire.append(line, make("span", { class: near ? "lab-hidden" : "", text: `${names}: ` }), make("span", { text: sentence }));
  return wire;
}

/** The wires below one lane: first those to its neighbour, each with a line of its own from lane to lane. */
export function makeGap(wires) {
  const far = (wire) => wire.classList.contains("lab-far");
  const near = wires.filter((wire) => !far(wire));
  near.forEach((wire, index) => wire.style.setProperty("--lab-nth", index));
  const gap = make("div", { class: "lab-gap" }, ...near, ...wires.filter(far));
  gap.style.setProperty("--lab-lines", Math.max(1, near.length));
  return gap;
}

/** Lines beside the lanes, from one to another that is not its neighbour. Call it again when lanes change in height. */
export function drawBrackets(lanes, rows) {
  for (const old of lanes.querySelectorAll(":scope > .lab-bracket")) old.remove();
  const far = [...lanes.querySelectorAll(".lab-far")];
  put(lanes, "data-far", String(far.length > 0));
  far.forEach((wire, index) => {
    const { from, to, way } = wire.dataset;
    // Several lines start and end a little below each other.
    const [top, bottom] = [rows.get(from).offsetTop, rows.get(to).offsetTop].sort((a, b) => a - b).map((y) => y + 14 + 5 * index);
    const bracket = make("div", { class: "lab-bracket", "data-way": way, "aria-hidden": "true" });
    Object.assign(bracket.style, { top: `${top}px`, height: `${bottom - top}px` });
    lanes.append(bracket);
  });
}

/** `368,640 bytes forward, 368,640 back`. */
function bothWays(forward, backward, words) {
  const back = forward < 1e6 && backward < 1e6 ? backward.toLocaleString("en-US") : humanBytes(backward, words);
  return fill(words.crossing, { forward: humanBytes(forward, words), back });
}
