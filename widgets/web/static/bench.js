// Applies the frames of widgets/web/frame.py to the instruments, in place: nothing is ever mounted anew.
const config = { displayModeBar: false, displaylogo: false, responsive: false, doubleClick: "reset" };
const wide = new Set(element.querySelectorAll("[data-figure].lab-wide"));
const shown = {}; // figure -> revision on the screen
let queued = false;
let shownAs = "code"; // what the box to copy from shows

function applyText() {
  const status = find(".lab-status");
  status.dataset.state = frame.status.state;
  write(find("[data-status]"), frame.status.text);
  hear(frame.status);
  write(find("[data-eta]"), frame.eta);
  write(find("[data-data]"), frame.data);
  find("[data-progress]").style.width = `${(100 * frame.progress).toFixed(1)}%`;
  for (const [name, [value, of]] of Object.entries(frame.kpis)) {
    const tile = find(`[data-kpi="${name}"]`);
    write(find("b", tile), value);
    write(find("i", tile), of);
  }
  write(find("[data-code]"), copied[shownAs]());
  offerSteps();
}

// A screen reader hears of every change of state, but not of every step.
let heard = "";
function hear({ state, text }) {
  if (heard === state) return;
  heard = state;
  write(find("[data-heard]"), text);
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
  write(find("[data-alert-lesson]"), alert.lesson);
  applyList(find("[data-alert-did]"), alert.last);
  find("[data-alert-last]").hidden = !alert.last.length;
  applyList(find("[data-alert-seen]"), alert.others);
  find("[data-alert-others]").hidden = !alert.others.length;
  write(find("[data-alert-advice]"), alert.advice);
  find("[data-alert-more]").hidden = !alert.traceback;
  write(find("[data-alert-traceback]"), alert.traceback);
}

// Charts that stand side by side share the height of the taller, within reason.
const tallest = 340;
function applyHeights() {
  const standing = Object.values(cards).filter((card) => !card.hidden && card !== enlarged?.card);
  const own = (card) => parallelLab.room(frame.figures[card.dataset.figure].height);
  const rows = standing.map((card) => standing.filter((other) => other.offsetTop === card.offsetTop));
  standing.forEach((card, index) => {
    const height = `${Math.max(own(card), Math.min(Math.max(...rows[index].map(own)), tallest))}px`;
    const plot = find("[data-plot]", card);
    if (plot.style.height !== height) plot.style.height = height;
  });
}

function applyFigures() {
  // Which charts there are depends on the strategy, and on what the tab has run.
  for (const [name, card] of Object.entries(cards)) card.hidden = !frame.cards.includes(name) || !frame.figures[name];
  // None stands alone in half a row.
  const halves = Object.values(cards).filter((card) => !card.hidden && !wide.has(card));
  halves.forEach((card, index) => card.classList.toggle("lab-wide", index % 2 === 0 && index === halves.length - 1));
  applyHeights();
  for (const [name, card] of Object.entries(cards)) {
    if (card.hidden) continue;
    applyTable(name);
    if (name === "timeline" && standsStill()) continue;
    const figure = frame.figures[name];
    const key = `${frame.run}/${frame.revisions[name]}`;
    if (shown[name] === key) continue;
    const plot = find("[data-plot]", card);
    if (!window.Plotly) {
      write(plot, parallelLab.word("no_plotly"));
      continue;
    }
    const first = !shown[name];
    shown[name] = key;
    write(find("[data-subtitle]", card), figure.title);
    const { data, layout } = parallelLab.drawn(figure);
    Plotly.react(plot, data, layout, config);
    if (first) listen(name);
    if (name === "timeline") readTimeline();
  }
}

function apply() {
  queued = false;
  if (!frame) return;
  applyText();
  applyAlert();
  applyFigures();
  applyCompare();
  applyInsight();
  document.dispatchEvent(new CustomEvent("parallel-lab:frame", { detail: frame }));
  // The server sends the next frame when this one is on the screen.
  const note = new URLSearchParams({ token: frame.token, number: frame.number });
  tell(at(`parallel-lab/drawn?${note}`));
  find("[data-download]").href = at(`parallel-lab/run.json?${new URLSearchParams({ token: frame.token })}`);
  beat();
}

function receive() {
  if (!props.value) return;
  let news;
  try {
    news = JSON.parse(props.value);
  } catch {
    return; // the initial value is no frame
  }
  // When one event ends, its last frame comes once more, after those of the next.
  if (frame?.token === news.token && news.number <= frame.number) return;
  // A frame has what has changed since the one that was drawn last, or everything of another run.
  const before = frame?.run === news.run ? frame : {};
  const groups = { figures: { ...before.figures, ...news.figures }, tables: { ...before.tables, ...news.tables } };
  frame = { ...before, ...news, ...groups };
  if (queued) return;
  queued = true;
  // A hidden tab gets no animation frames, so it draws nothing until it is looked at.
  requestAnimationFrame(apply);
}

watch("value", receive);
receive();

document.addEventListener("parallel-lab:projector", () => {
  for (const name of Object.keys(shown)) shown[name] = "to be drawn anew";
  if (frame) applyFigures();
});

const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) if (target._fullLayout) Plotly.Plots.resize(target);
});
element.querySelectorAll("[data-plot]").forEach((plot) => sizes.observe(plot));

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
