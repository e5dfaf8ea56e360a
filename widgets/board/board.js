// The placement board: a lane for each device, a chip for each layer, and what crosses between them.
//
//   const board = mountBoard(root, { words, onPlacement, onDevices });
//   board.update(state);          // the host's word, see model.js
//   board.measured(figures);      // what a run has found: {layers: {path: {share}}, devices: {name: {busy}}, placed}
//   board.say(text);              // a note under the lanes
//   board.speak(words);           // from now on in these words
//
// Every change is drawn at once from the state's own edges; the host hears of it through `onPlacement({chosen,
// placement, moved})` and need not answer. `onDevices(+1 | -1)`, where given, asks the host for a device more or less.
import { draggable } from "./drag.js";
import { drawBrackets, drawChip, drawLane, drawMemory, make, makeChip, makeGap, makeLane, makeWire, write } from "./lanes.js";
import { complete, concerns, crossingBytes, crossings, fill, history, humanBytes, memory, moved, shortBytes } from "./model.js";

let mounted = 0; // for ids that are unique in a page with several

export function mountBoard(root, { words, onPlacement = () => {}, onDevices = null }) {
  const hintId = `lab-board-hint-${++mounted}`;
  const lanes = make("div", { class: "lab-lanes" });
  const bar = make("div", { class: "lab-tools", role: "toolbar" });
  const total = make("p", { class: "lab-total" });
  const basis = make("p", { class: "lab-basis" });
  const note = make("p", { class: "lab-says-more" });
  const live = make("p", { class: "lab-hidden", "aria-live": "polite", role: "status" });
  const hint = make("p", { class: "lab-hidden", id: hintId });
  const buttons = {};
  const names = ["even", "auto", "undo", "redo", ...(onDevices ? ["add"] : [])];
  for (const name of names) {
    buttons[name] = make("button", { type: "button", "data-do": name });
    bar.append(buttons[name]);
  }
  function label() {
    bar.setAttribute("aria-label", words.tools);
    write(hint, words.hint);
    for (const name of names) {
      buttons[name].title = words[`${name}_hint`];
      write(buttons[name], words[name]);
    }
  }
  label();
  root.classList.add("lab-board");
  root.replaceChildren(lanes, total, basis, bar, note, hint, live);

  let state = null;
  let figures = {}; // what the latest run has found
  let found = {}; // the same, if it is about these layers
  let said = "";
  let last = null; // the placement on the screen
  const chips = new Map(); // layer -> element
  const rows = new Map(); // device -> element
  const selected = new Set();
  const undo = history();

  /** Layer -> device as far as it is known; `settled` is false while only a run can tell. */
  function placed() {
    const { chosen, suggested } = state;
    if (typeof chosen === "object") return { placement: chosen, settled: true };
    if (suggested[chosen]) return { placement: suggested[chosen], settled: true };
    const run = found.placed;
    if (run?.method === chosen && concerns(state, found, true)) return { placement: run.layers, settled: true };
    return { placement: complete(state, last) ? last : suggested.even, settled: false };
  }

  function choose(chosen, paths, remember = true) {
    if (remember) undo.note(state.chosen);
    state = { ...state, chosen };
    draw();
    onPlacement({ chosen, placement: { ...last }, moved: paths });
  }

  /** Moves layers to a device, and tells a screen reader. */
  function move(paths, device) {
    const going = paths.filter((path) => last[path] !== device);
    if (!going.length || root.dataset.locked === "true") return;
    choose(moved(state, last, going, device), going);
    announce(fill(words.moved, { layers: going.join(", "), device }));
  }

  function announce(sentence) {
    const bytes = humanBytes(crossingBytes(state, last), words);
    write(live, `${sentence} ${fill(words.total, { bytes })}`);
  }

  // -- drawing ---------------------------------------------------------------------------------------------------

  const laneNames = () => (state.copies ?? state.devices).map((each) => each.name);

  function draw() {
    const before = positions();
    const focused = document.activeElement;
    found = concerns(state, figures) ? figures : {};
    const { placement, settled } = placed();
    last = placement;
    root.dataset.settled = String(settled);
    root.dataset.locked = String(Boolean(state.copies) || Boolean(state.fixed));
    root.classList.toggle("lab-many", state.layers.length > 9);
    drawLanes();
    if (!state.copies) drawChips();
    drawWires();
    drawTools(settled);
    slide(before);
    // An element that has gone to another lane has lost the focus on its way.
    if (focused && root.contains(focused) && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }

  function drawLanes() {
    const needed = state.copies ? {} : memory(state, last);
    const held = new Set(Object.values(last ?? {}));
    const abouts = state.copies ?? state.devices;
    for (const [name, lane] of rows) if (!laneNames().includes(name)) lane.remove(), rows.delete(name);
    abouts.forEach((about, index) => {
      const { name } = about;
      if (!rows.has(name)) rows.set(name, makeLane(name));
      const empty = held.has(name) ? "" : words.empty;
      drawLane(
        rows.get(name),
        index,
        {
          ...about,
          removable: Boolean(onDevices) && name === state.removable,
          busy: found.devices?.[about.device ?? name]?.busy,
          bytes: state.copies ? about.memory_bytes : needed[name],
          note: state.copies ? about.note : empty,
        },
        words,
      );
    });
  }

  function drawChips() {
    for (const [path, chip] of chips) {
      if (!state.layers.some((layer) => layer.path === path)) chip.remove(), chips.delete(path), selected.delete(path);
    }
    const orders = new Map();
    for (const layer of state.layers) {
      const { path } = layer;
      if (!chips.has(path)) chips.set(path, makeChip(path, hintId));
      const chip = chips.get(path);
      const share = found.layers?.[path]?.share ?? layer.share ?? null;
      drawChip(chip, { ...layer, share }, last[path], state, words);
      chip.firstChild.setAttribute("aria-pressed", String(selected.has(path)));
      const list = rows.get(last[path])?.querySelector(".lab-chips");
      if (!list) continue;
      const place = orders.get(list) ?? 0;
      orders.set(list, place + 1);
      if (list.children[place] !== chip) list.insertBefore(chip, list.children[place] ?? null);
    }
  }

  function drawWires() {
    const order = laneNames();
    const pairs = state.copies ? [] : crossings(state, last);
    const most = Math.max(1, ...pairs.map((pair) => pair.forward + pair.backward));
    const nodes = order.flatMap((name, index) => {
      const here = pairs.filter((pair) => Math.min(order.indexOf(pair.from), order.indexOf(pair.to)) === index);
      const gap = makeGap(here.map((pair) => makeWire(pair, order, most, words)));
      return index < order.length - 1 ? [rows.get(name), gap] : [rows.get(name)];
    });
    for (const old of [...lanes.children]) if (!nodes.includes(old)) old.remove();
    nodes.forEach((node, index) => {
      if (lanes.children[index] !== node) lanes.insertBefore(node, lanes.children[index] ?? null);
    });
    drawBrackets(lanes, rows);
    const bytes = pairs.reduce((sum, pair) => sum + pair.forward + pair.backward, 0);
    write(total, state.copies ? bucketsSaid() : bytes ? fill(words.total, { bytes: humanBytes(bytes, words) }) : words.nothing);
    write(basis, state.copies ? "" : basisSaid(bytes));
  }

  /** Where the sum comes from, and what a run with this very placement has measured in its place. */
  function basisSaid(bytes) {
    const run = found.placed?.layers;
    const same = run && Object.entries(last).every(([path, device]) => run[path] === device);
    if (same && Number.isFinite(found.crossed)) return fill(words.crossed, { bytes: humanBytes(found.crossed, words) });
    return bytes ? words.forecast : "";
  }

  /** How many buckets the gradients of a run with ranks travel in. */
  function bucketsSaid() {
    const sizes = found.buckets ?? [];
    if (!sizes.length) return "";
    const shown = sizes.slice(0, 4).map(shortBytes).join(", ") + (sizes.length > 4 ? " …" : "");
    return fill(sizes.length > 1 ? words.buckets : words.bucket, { count: sizes.length, sizes: shown });
  }

  function drawTools(settled) {
    const locked = root.dataset.locked === "true";
    bar.hidden = locked && !(onDevices && state.can_add);
    for (const name of ["even", "auto", "undo", "redo"]) buttons[name].hidden = locked;
    for (const name of ["even", "auto"]) buttons[name].setAttribute("aria-pressed", String(state.chosen === name));
    buttons.undo.disabled = !undo.canUndo;
    buttons.redo.disabled = !undo.canRedo;
    if (onDevices) buttons.add.disabled = !state.can_add;
    const over = [...rows.values()].find((lane) => lane.dataset.fits === "over");
    const warning = over ? fill(words.will_not_fit, { device: over.dataset.device }) : "";
    note.classList.toggle("lab-warning", Boolean(warning));
    const waiting = state.chosen === "auto" ? (settled ? (found.placed?.reason ?? "") : words.measured_at_start) : "";
    write(note, said || warning || state.refused || state.note || waiting);
  }

  // -- movement: chips glide to their new lane, unless the reader wants no motion -----------------------------------

  const calm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const positions = () => new Map([...chips].map(([path, chip]) => [path, chip.getBoundingClientRect()]));

  function slide(before) {
    if (calm()) return;
    for (const [path, chip] of chips) {
      const [from, to] = [before.get(path), chip.getBoundingClientRect()];
      if (!from?.width || !to.width) continue;
      const [dx, dy] = [from.left - to.left, from.top - to.top];
      if (Math.abs(dx) + Math.abs(dy) < 2) continue;
      chip.animate([{ transform: `translate(${dx}px, ${dy}px)` }, { transform: "none" }], { duration: 160, easing: "ease-out" });
    }
  }

  // -- what the reader does -----------------------------------------------------------------------------------------

  /** The layers that move when this one is taken: all that are selected, if it is one of them. */
  const taken = (path) => (selected.has(path) ? state.layers.map((layer) => layer.path).filter((each) => selected.has(each)) : [path]);

  function over(lane, path = null) {
    for (const row of rows.values()) row.classList.toggle("lab-over", row === lane);
    const device = lane?.dataset.device;
    const placement = device && path ? moved(state, last, taken(path), device) : last;
    const needed = memory(state, placement);
    for (const about of state.devices) drawMemory(rows.get(about.name), needed[about.name], about.capacity_bytes, words);
  }

  const stopDragging = draggable(root, {
    lanes: () => [...rows.values()],
    start: (chip) => taken(chip.dataset.layer).forEach((path) => chips.get(path).classList.add("lab-taken")),
    over: (chip, lane) => over(lane, chip.dataset.layer),
    end(chip, lane) {
      const paths = taken(chip.dataset.layer);
      for (const each of chips.values()) each.classList.remove("lab-taken");
      over(null);
      if (lane) {
        selected.clear();
        move(paths, lane.dataset.device);
        draw();
      }
    },
  });

  function select(path, range) {
    const order = state.layers.map((layer) => layer.path);
    if (range && selected.size) {
      const from = order.indexOf([...selected].at(-1));
      const to = order.indexOf(path);
      for (const each of order.slice(Math.min(from, to), Math.max(from, to) + 1)) selected.add(each);
    } else if (!selected.delete(path)) {
      selected.add(path);
    }
    draw();
  }

  const does = {
    even: () => (choose("even", []), announce(words.placed_even)),
    auto: () => (choose("auto", []), announce(root.dataset.settled === "true" ? words.placed_auto : words.measured_at_start)),
    undo: () => (choose(undo.undo(state.chosen), [], false), announce(words.undone)),
    redo: () => (choose(undo.redo(state.chosen), [], false), announce(words.redone)),
    add: () => onDevices(1),
    remove: () => onDevices(-1),
  };

  function onClick(event) {
    const button = event.target.closest("[data-do]");
    const hold = event.target.closest(".lab-hold");
    if (button) does[button.dataset.do]();
    else if (hold) select(hold.parentElement.dataset.layer, event.shiftKey);
  }

  function onKey(event) {
    const key = event.key.toLowerCase();
    const wanted = (event.ctrlKey || event.metaKey) && { z: event.shiftKey ? "redo" : "undo", y: "redo" }[key];
    if (wanted) {
      event.preventDefault();
      if (!buttons[wanted].disabled) does[wanted]();
      return;
    }
    const hold = event.target.closest(".lab-hold");
    if (!hold || event.ctrlKey || event.altKey || event.metaKey) return;
    const path = hold.parentElement.dataset.layer;
    const order = laneNames();
    const lane = order[order.indexOf(last[path]) + { arrowup: -1, arrowdown: 1 }[key]];
    const all = [...root.querySelectorAll(".lab-hold")];
    if (key === "arrowup" || key === "arrowdown") {
      if (lane) move(taken(path), lane);
      else announce(fill(words.no_lane, { layer: path, device: last[path] }));
    } else if (key === "arrowleft" || key === "arrowright") {
      all[all.indexOf(hold) + (key === "arrowleft" ? -1 : 1)]?.focus();
    } else if (key === "escape" && selected.size) {
      selected.clear();
      draw();
    } else {
      return;
    }
    event.preventDefault();
  }

  function onChange(event) {
    const chip = event.target.closest(".lab-chip");
    if (chip) move(taken(chip.dataset.layer), event.target.value);
  }

  // Chips wrap as the column's width changes, and so the lanes' heights.
  const widths = new ResizeObserver(() => drawBrackets(lanes, rows));
  widths.observe(root);
  root.addEventListener("click", onClick);
  root.addEventListener("keydown", onKey);
  root.addEventListener("change", onChange);

  return {
    update(next) {
      if (!next?.layers || !next.devices) return;
      const layers = (each) => each?.layers.map(({ path }) => path).join();
      if (layers(state) !== layers(next)) {
        undo.clear();
        selected.clear();
        last = null;
      }
      if (state && Boolean(state.copies) !== Boolean(next.copies)) rows.forEach((lane) => lane.remove()), rows.clear();
      state = next;
      draw();
    },
    measured(next) {
      figures = next ?? {};
      if (state && !root.classList.contains("lab-dragging")) draw();
    },
    say(text) {
      said = text;
      if (state) drawTools(root.dataset.settled === "true");
    },
    speak(next) {
      words = next;
      label();
      if (state) draw();
    },
    destroy() {
      stopDragging();
      widths.disconnect();
      root.removeEventListener("click", onClick);
      root.removeEventListener("keydown", onKey);
      root.removeEventListener("change", onChange);
      root.replaceChildren();
    },
  };
}
