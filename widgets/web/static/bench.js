// Applies the frames of widgets/web/frame.py to the instruments, in place: nothing is ever mounted anew.
const find = (selector, root = element) => root.querySelector(selector);
const config = { displayModeBar: false, displaylogo: false, responsive: false, doubleClick: "reset" };
const shown = {}; // figure -> revision on the screen
let frame = null;
let queued = false;

const write = (node, text) => {
  if (node && node.textContent !== text) node.textContent = text;
};

function applyText() {
  const status = find(".lab-status");
  status.dataset.state = frame.status.state;
  write(find("[data-status]"), frame.status.text);
  write(find("[data-eta]"), frame.eta);
  write(find("[data-data]"), frame.data);
  find("[data-progress]").style.width = `${(100 * frame.progress).toFixed(1)}%`;
  for (const [name, [value, of]] of Object.entries(frame.kpis)) {
    const tile = find(`[data-kpi="${name}"]`);
    write(find("b", tile), value);
    write(find("i", tile), of);
  }
  write(find("[data-says]"), frame.says);
  write(find("[data-code]"), frame.code);
  find("[data-steps]").hidden = frame.steps.length < 2;
}

function applyList(list, items) {
  if (list.textContent === items.join("")) return;
  list.replaceChildren(...items.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

function applyAlert() {
  const box = find("[data-alert]");
  const alert = frame.alert;
  box.hidden = !alert;
  if (!alert) return;
  write(find("[data-alert-title]"), alert.title);
  applyList(find("[data-alert-items]"), alert.items);
  applyList(find("[data-alert-seen]"), alert.others);
  find("[data-alert-others]").hidden = !alert.others.length;
  write(find("[data-alert-advice]"), alert.advice);
  find("[data-alert-more]").hidden = !alert.traceback;
  write(find("[data-alert-traceback]"), alert.traceback);
}

function applyTable(card, table) {
  const box = find("[data-table]", card);
  if (!find("details", card).open || !table) return;
  const key = JSON.stringify(table);
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  const rows = [table.columns, ...table.rows].map((cells, index) => {
    const row = document.createElement("tr");
    row.append(...cells.map((text) => Object.assign(document.createElement(index ? "td" : "th"), { textContent: text })));
    return row;
  });
  const node = document.createElement("table");
  node.append(...rows);
  const note = Object.assign(document.createElement("p"), { textContent: table.note });
  box.replaceChildren(node, note);
}

// Charts that stand side by side share the height of the taller, within reason.
const tallest = 340;
function applyHeights() {
  const cards = [...element.querySelectorAll("[data-figure]")].filter((card) => frame.figures[card.dataset.figure]);
  for (const card of cards) {
    const row = cards.filter((other) => other.offsetTop === card.offsetTop);
    const own = frame.figures[card.dataset.figure].height;
    const others = Math.max(...row.map((other) => frame.figures[other.dataset.figure].height));
    const height = `${Math.max(own, Math.min(others, tallest))}px`;
    const plot = find("[data-plot]", card);
    if (plot.style.height !== height) plot.style.height = height;
  }
}

function applyFigures() {
  // Which charts there are depends on the strategy.
  for (const card of element.querySelectorAll("[data-figure]")) card.hidden = !frame.figures[card.dataset.figure];
  applyHeights();
  for (const card of element.querySelectorAll("[data-figure]")) {
    const name = card.dataset.figure;
    const figure = frame.figures[name];
    if (!figure) continue;
    applyTable(card, frame.tables[name]);
    const key = `${frame.run}/${figure.revision}`;
    if (shown[name] === key) continue;
    shown[name] = key;
    write(find("[data-subtitle]", card), figure.title);
    const plot = find("[data-plot]", card);
    if (!window.Plotly) {
      write(plot, "%{no_plotly}");
      continue;
    }
    Plotly.react(plot, figure.data, figure.layout, config);
  }
}

function apply() {
  queued = false;
  if (!frame) return;
  applyText();
  applyAlert();
  applyFigures();
  document.dispatchEvent(new CustomEvent("parallel-lab:frame", { detail: frame }));
  // The server sends the next frame when this one is on the screen.
  const note = new URLSearchParams({ token: frame.token, number: frame.number });
  fetch(`parallel-lab/drawn?${note}`, { method: "POST" }).catch(() => {});
}

function receive() {
  if (!props.value) return;
  try {
    frame = JSON.parse(props.value);
  } catch {
    return; // the initial value is no frame
  }
  if (queued) return;
  queued = true;
  // A hidden tab gets no animation frames, so it draws nothing until it is looked at.
  requestAnimationFrame(apply);
}

watch("value", receive);
receive();

for (const card of element.querySelectorAll("[data-figure]")) {
  find("details", card).addEventListener("toggle", () => frame && applyTable(card, frame.tables[card.dataset.figure]));
}
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) if (target._fullLayout) Plotly.Plots.resize(target);
});
element.querySelectorAll("[data-plot]").forEach((plot) => sizes.observe(plot));

function move(by) {
  const steps = frame?.steps ?? [];
  if (!steps.length) return;
  const now = steps.indexOf(Number((frame.figures.timeline.title.match(/step ([\d,]+)/)?.[1] ?? "").replaceAll(",", "")));
  const next = steps[Math.min(steps.length - 1, Math.max(0, (now < 0 ? steps.length - 1 : now) + by))];
  trigger("select", { step: next });
}
find("[data-earlier]").addEventListener("click", () => move(-1));
find("[data-later]").addEventListener("click", () => move(1));
document.addEventListener("parallel-lab:theme", (event) => trigger("select", { theme: event.detail }));

find("[data-copy]").addEventListener("click", async (event) => {
  const button = event.currentTarget;
  const words = button.textContent;
  try {
    await navigator.clipboard.writeText(frame?.code ?? "");
    button.textContent = button.dataset.done;
  } catch {
    getSelection().selectAllChildren(find("[data-code]")); // no clipboard here: select it for the reader
  }
  setTimeout(() => (button.textContent = words), 1500);
});
