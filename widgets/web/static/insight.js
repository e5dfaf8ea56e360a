// What just happened: the sentences of widgets/web/told.py, and the rest of them on request.
const told = find("[data-insight]");

function applyInsight() {
  const { insight } = frame;
  write(find("[data-insight-title]", told), insight.title);
  write(find("[data-insight-empty]", told), insight.empty);
  write(find("summary", told), insight.more);
  const [first, others] = [insight.said.slice(0, insight.shown), insight.said.slice(insight.shown)];
  applySaid(find("[data-insight-first]", told), first);
  applySaid(find("[data-insight-others]", told), others);
  find("details", told).hidden = !others.length;
  applyPredicted();
}

/** What the reader predicted, beside what the run says. */
function applyPredicted() {
  const { predict } = frame;
  const box = find("[data-predicted]", told);
  box.hidden = !predict.rows.length;
  const key = JSON.stringify(predict);
  if (box.hidden || box.dataset.key === key) return;
  box.dataset.key = key;
  write(find("[data-predicted-title]", box), predict.title);
  write(find("[data-predicted-note]", box), predict.note);
  const cells = predict.rows.map((row) => [row.question, row.answer, row.measured, row.verdict]);
  find("thead", box).replaceChildren(make("tr", {}, ...predict.columns.map((text) => make("th", { scope: "col", text }))));
  find("tbody", box).replaceChildren(...cells.map((texts) => make("tr", {}, ...texts.map((text) => make("td", { text })))));
}

/** In place: what the reader has selected, or a screen reader reads, stays unless its words change. */
function applySaid(list, said) {
  while (list.children.length > said.length) list.lastChild.remove();
  while (list.children.length < said.length) list.append(make("li", {}, make("span"), " ", make("abbr")));
  said.forEach(([text, label, meaning, basis], index) => {
    const [words, mark] = list.children[index].children;
    write(words, text);
    write(mark, label);
    mark.title = meaning;
    mark.dataset.basis = basis;
  });
}
