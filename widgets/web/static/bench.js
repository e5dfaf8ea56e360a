// Applies the frames of widgets/web/frame.py to the instruments, in place: nothing is ever mounted anew.
const at = (path) => new URL(path, document.baseURI).href;
const find = (selector, root = element) => root.querySelector(selector);
const config = { displayModeBar: false, displaylogo: false, responsive: false, doubleClick: "reset" };
const shown = {}; // figure -> revision on the screen
let frame = null;
let queued = false;
let shownAs = "code"; // what the box to copy from shows

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
  write(find("[data-code]"), copied[shownAs]());
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
      write(plot, parallelLab.word("no_plotly"));
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
  fetch(at(`parallel-lab/drawn?${note}`), { method: "POST" }).catch(() => {});
  find("[data-download]").href = at(`parallel-lab/run.json?${new URLSearchParams({ token: frame.token })}`);
  beat();
}

function receive() {
  if (!props.value) return;
  let came;
  try {
    came = JSON.parse(props.value);
  } catch {
    return; // the initial value is no frame
  }
  // When one event ends, its last frame comes once more, after those of the next.
  if (frame?.token === came.token && came.number <= frame.number) return;
  frame = came;
  if (queued) return;
  queued = true;
  // A hidden tab gets no animation frames, so it draws nothing until it is looked at.
  requestAnimationFrame(apply);
}

// Says that the tab is there. A worker does, since browsers slow the timers of a hidden page, and a worker's not.
const pulse = `let url; onmessage = ({ data }) => { url = data; };
setInterval(() => url && fetch(url, { method: "POST" }).catch(() => {}), 10_000);`;
let worker = null;
let beating = "";
function beat() {
  if (beating === frame.token) return;
  beating = frame.token;
  try {
    worker ??= new Worker(URL.createObjectURL(new Blob([pulse], { type: "text/javascript" })));
    worker.postMessage(at(`parallel-lab/alive?${new URLSearchParams({ token: frame.token })}`));
  } catch {
    /* without workers, what the page draws says that it is there */
  }
}

parallelLab.fill(element);
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

const copied = {
  code: () => frame?.code,
  toml: () => frame?.toml,
  link: () => frame && `${location.origin}${location.pathname}?${frame.query}`,
};
for (const button of element.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const taken = copied[button.dataset.copy]() ?? "";
    write(find("[data-code]"), taken);
    shownAs = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(taken);
      button.textContent = parallelLab.word("copied");
    } catch {
      getSelection().selectAllChildren(find("[data-code]")); // no clipboard here: select it for the reader
    }
    setTimeout(() => (button.textContent = parallelLab.word(button.dataset.word)), 1500);
  });
}
