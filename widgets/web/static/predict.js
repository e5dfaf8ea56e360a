// Predict first: the questions of widgets/web/guesses.py. What is in the fields when a run starts is locked; the frames
// say so, and the instruments show it beside the measurement.
const find = (selector) => element.querySelector(selector);
const on = find("[data-on]");
const box = find("[data-questions]");
let locked = false;
let asked = "";

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const fields = () => [...box.querySelectorAll("[data-question]")];

function field({ name, options }) {
  if (!options.length) {
    const typed = { type: "text", inputmode: "decimal", autocomplete: "off", maxlength: props.value.most, placeholder: "×" };
    return make("input", { ...typed, "data-question": name });
  }
  const choices = [["", "–"], ...options].map(([value, text]) => make("option", { value }, text));
  return make("select", { "data-question": name }, ...choices);
}

function build() {
  const { questions } = props.value;
  const key = JSON.stringify(questions);
  if (key !== asked) ask(questions, key);
  told();
}

function ask(questions, key) {
  asked = key;
  const before = Object.fromEntries(fields().map((node) => [node.dataset.question, node.value]));
  box.replaceChildren(...questions.flatMap((question) => [
    make("label", {}, make("span", {}, question.text), field(question)),
    make("p", { role: "status", "data-reading": question.name }),
  ]));
  for (const node of fields()) {
    node.value = before[node.dataset.question] ?? "";
    if (node.selectedIndex === -1) node.value = "";
    node.addEventListener("input", send);
  }
  lock(locked);
}

/** How what is typed is read, before it is locked; an answer that has come too late for it says nothing. */
function told() {
  for (const node of fields()) {
    const reading = (props.value.readings ?? {})[node.dataset.question];
    const fits = reading && reading.typed === node.value && !locked;
    const place = find(`[data-reading=${node.dataset.question}]`);
    place.textContent = fits ? reading.said : "";
    place.classList.toggle("lab-unread", Boolean(fits && !reading.readable));
  }
}

function send() {
  trigger("select", { answers: Object.fromEntries(fields().map((node) => [node.dataset.question, node.value])) });
}

function lock(now) {
  if (locked && !now) for (const node of fields()) node.value = ""; // the next run wants a prediction of its own
  locked = now;
  for (const node of fields()) node.disabled = now;
  told();
}

on.addEventListener("change", () => {
  box.hidden = !on.checked;
  trigger("select", { on: on.checked });
});
document.addEventListener("parallel-lab:frame", ({ detail }) => {
  if (detail.predict.locked !== locked) lock(detail.predict.locked);
});
document.addEventListener("parallel-lab:language", () => on.checked && trigger("select", { on: true }));
parallelLab.fill(element);
watch("value", build);
build();
