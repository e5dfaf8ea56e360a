// The placement board's arithmetic: what crosses, what fits, and how numbers read. No DOM in here.
//
// A board's state, as widgets/board/state.py makes it:
//   devices  [{name, title, capacity_bytes, simulated}]
//   layers   [{path, module, parameters, flops, memory_bytes, share}]      in the order in which the net runs them
//   others   [{name, kind, follows, bytes}]     input, joins and loss: each is where the node that it follows is
//   edges    [{source, target, forward_bytes, backward_bytes}]
//   chosen   {layer: device} | "even" | "auto"
//   suggested {even: {layer: device}, auto: {layer: device} | null}        null: only a run can tell
//   also     of a device: where the other ranks have the same layers; part, of a copy: [which, of how many] of the batch
//   copies   null | [{name, device, title, simulated, samples, note, memory_bytes, capacity_bytes}]: every lane holds all
//   fixed    true when the layers are placed and nothing may be moved
//   removable  the device that may be taken away, can_add whether one may be added; refused, note  sentences

/** Node -> device, for the layers and for what follows them. */
export function homes(state, placement) {
  const home = { ...placement };
  for (const other of state.others) home[other.name] = home[other.follows];
  return home;
}

/** What crosses, summed for each pair of devices that sends forward: [{from, to, forward, backward, edges}]. */
export function crossings(state, placement) {
  const home = homes(state, placement);
  const pairs = new Map();
  for (const edge of state.edges) {
    const [from, to] = [home[edge.source], home[edge.target]];
    if (from === undefined || to === undefined || from === to) continue;
    const key = JSON.stringify([from, to]);
    const pair = pairs.get(key) ?? { from, to, forward: 0, backward: 0, edges: [] };
    pair.forward += edge.forward_bytes;
    pair.backward += edge.backward_bytes;
    pair.edges.push(edge);
    pairs.set(key, pair);
  }
  return [...pairs.values()];
}

/** Bytes that cross in one step, both ways. */
export const crossingBytes = (state, placement) =>
  crossings(state, placement).reduce((sum, pair) => sum + pair.forward + pair.backward, 0);

/** Device -> about how many bytes one step needs there: its layers, the input, and what arrives from other devices. */
export function memory(state, placement) {
  const needed = Object.fromEntries(state.devices.map((device) => [device.name, 0]));
  const home = homes(state, placement);
  const add = (device, bytes) => {
    if (device in needed) needed[device] += bytes;
  };
  for (const layer of state.layers) add(home[layer.path], layer.memory_bytes);
  for (const other of state.others) if (other.kind === "input") add(home[other.name], other.bytes);
  for (const pair of crossings(state, placement)) add(pair.to, pair.forward);
  return needed;
}

// The need is an estimate: it leaves out gradients on their way through backward, which took a quarter of the peak in the
// one lane where both were measured. So the warning comes early; it is no promise.
const TIGHT = 0.7;

/** "ok", "tight" from 70% of the capacity on, "over" beyond it. */
export function fits(bytes, capacity) {
  if (!capacity || bytes < TIGHT * capacity) return "ok";
  return bytes <= capacity ? "tight" : "over";
}

/** Whether every layer has one of the devices. */
export const complete = (state, placement) =>
  Boolean(placement) &&
  state.layers.every(({ path }) => state.devices.some((device) => device.name === placement[path]));

/** Whether what a run has found is about the layers on the board, and about its devices too. */
export function concerns(state, figures, devices = false) {
  const { placed } = figures;
  if (!placed || Boolean(placed.whole) !== Boolean(state.copies)) return false;
  const mine = Object.keys(placed.layers).length === state.layers.length && state.layers.every(({ path }) => path in placed.layers);
  return mine && (!devices || placed.devices?.join() === state.devices.map(({ name }) => name).join());
}

/** The placement with some layers on another device; the layers in their order. */
export function moved(state, placement, paths, device) {
  const all = { ...placement, ...Object.fromEntries(paths.map((path) => [path, device])) };
  return Object.fromEntries(state.layers.map(({ path }) => [path, all[path]]));
}

/** Undo and redo over any values; the newest `limit` are kept. */
export function history(limit = 100) {
  let past = [];
  let future = [];
  const step = (from, to, now) => {
    to.push(now);
    return from.pop();
  };
  return {
    note(value) {
      past = [...past, value].slice(-limit);
      future = [];
    },
    undo: (now) => step(past, future, now),
    redo: (now) => step(future, past, now),
    clear() {
      past = [];
      future = [];
    },
    get canUndo() {
      return past.length > 0;
    },
    get canRedo() {
      return future.length > 0;
    },
  };
}

const scaled = (value, units) => units.find(([unit]) => value >= unit) ?? [1, ""];

/** `260`, `5.0 k`, `41 M`: as widgets/figures/_units.py writes counts. */
export function humanCount(count) {
  const [unit, symbol] = scaled(count, [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]);
  if (unit === 1) return `${Math.round(count)} `;
  const value = count / unit;
  return `${value.toFixed(value < 10 ? 1 : 0)} ${symbol}`;
}

/** `368,640 bytes` while that can be read, then `16.8 MB`. */
export function humanBytes(bytes, words) {
  if (bytes < 1e6) return `${bytes.toLocaleString("en-US")} ${words.bytes}`;
  return shortBytes(bytes);
}

/** `368.6 kB`. */
export function shortBytes(bytes) {
  const [unit, symbol] = scaled(bytes, [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]);
  return unit === 1 ? `${bytes} B` : `${(bytes / unit).toFixed(1)} ${symbol}`;
}

/** A sentence with its {names} filled in. */
export const fill = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
