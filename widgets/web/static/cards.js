// What every chart's card can do: show its numbers as a table, fill the window, and be saved.
const dialog = find("[data-dialog]");
let enlarged = null; // the card that fills the window: {card, button, place}

for (const card of Object.values(cards)) {
  find("h2", card).append(find("[data-tools]").content.cloneNode(true));
  card.append(find("[data-foot]").content.cloneNode(true));
  find("[data-maximise]", card).addEventListener("click", ({ currentTarget }) => (enlarged ? dialog.close() : enlarge(card, currentTarget)));
  for (const button of card.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => save(card.dataset.figure, button.dataset.save));
  }
  find("details", card).addEventListener("toggle", ({ currentTarget }) => {
    // The server makes the tables that are open.
    trigger("select", { table: card.dataset.figure, open: currentTarget.open });
    applyTable(card.dataset.figure);
  });
}
parallelLab.fill(element);

/** Every button says which chart it is for. */
function nameTools() {
  for (const card of Object.values(cards)) {
    const title = card.getAttribute("aria-label");
    for (const button of card.querySelectorAll("[data-maximise], [data-save]")) {
      button.title = parallelLab.word(button.dataset.word);
      button.setAttribute("aria-label", `${button.title}: ${title}`);
    }
    find("summary", card)?.setAttribute("aria-label", `${parallelLab.word("as_table")}: ${title}`);
  }
}
nameTools();
document.addEventListener("parallel-lab:language", nameTools);

function applyTable(name) {
  const table = frame?.tables?.[name];
  const card = cards[name];
  if (table && find("details", card).open) fillTable(find("[data-table]", card), table, card.getAttribute("aria-label"));
}

function fillTable(box, table, label) {
  const key = JSON.stringify(table);
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  const head = make("tr", {}, ...table.columns.map((text) => make("th", { scope: "col", text })));
  const rows = table.rows.map((cells) => make("tr", {}, ...cells.map((text) => make("td", { text }))));
  // It scrolls, so the keyboard must be able to get there.
  for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", label]]) box.setAttribute(name, value);
  const [left, top] = [box.scrollLeft, box.scrollTop];
  box.replaceChildren(make("table", { "aria-label": label }, head, ...rows), make("p", { text: table.note ?? "" }));
  box.scrollTo(left, top);
}

// -- filling the window ---------------------------------------------------------------------------------------------

function enlarge(card, button) {
  const place = document.createComment("the card's place");
  card.before(place);
  dialog.append(card); // the chart moves with it, and is not drawn anew
  dialog.setAttribute("aria-label", card.getAttribute("aria-label"));
  dialog.showModal();
  enlarged = { card, button, place };
  press(true);
  button.focus();
}

function press(pressed) {
  const { button } = enlarged;
  button.dataset.word = pressed ? "restore" : "maximise";
  button.setAttribute("aria-pressed", String(pressed));
  nameTools();
}

dialog.addEventListener("close", () => {
  if (!enlarged) return;
  const { card, button, place } = enlarged;
  press(false);
  enlarged = null;
  place.replaceWith(card);
  button.focus({ preventScroll: true });
});
dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());

// -- saving ---------------------------------------------------------------------------------------------------------

function save(name, kind) {
  if (!frame) return;
  if (kind === "csv") {
    const step = name === "timeline" || name === "traffic" || name === "buckets" ? (plotOf(name).layout?.meta?.step ?? "") : "";
    const query = new URLSearchParams({ token: frame.token, figure: name, step });
    make("a", { href: at(`parallel-lab/table.csv?${query}`), download: `parallel-lab-${name}.csv` }).click();
    return;
  }
  const plot = plotOf(name);
  if (!window.Plotly || !plot.layout) return;
  // The card has the title and the ground; a picture needs its own.
  const subtitle = find("[data-subtitle]", cards[name]).textContent;
  const title = [cards[name].getAttribute("aria-label"), subtitle].filter(Boolean).join(" · ");
  const ground = getComputedStyle(cards[name]).backgroundColor;
  const { width, height } = plot.getBoundingClientRect();
  const layout = {
    ...plot.layout,
    title: { text: title, x: 0, xref: "paper", y: 0.98, yanchor: "top", font: { size: 13 } },
    margin: { ...plot.layout.margin, t: plot._fullLayout._size.t + 30 },
    paper_bgcolor: ground,
  };
  const size = { width: Math.round(width), height: Math.round(height) + 30 };
  Plotly.downloadImage({ data: plot.data, layout, config }, { format: kind, filename: `parallel-lab-${name}`, scale: 2, ...size });
}
