// Two of the tab's runs beside each other.
const pickers = [...element.querySelectorAll("[data-compare]")];

function applyCompare() {
  const { compare } = frame;
  if (!compare) return;
  pickers.forEach((picker, index) => offer(picker, compare.runs, compare.chosen[index]));
  fillTable(find("[data-compared]"), compare, cards.compare.getAttribute("aria-label"));
}

for (const picker of pickers) {
  picker.addEventListener("change", () => trigger("select", { compare: pickers.map((each) => each.value) }));
}
find("details", cards.compare).remove(); // its table is always open
