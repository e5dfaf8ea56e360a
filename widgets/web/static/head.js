// The header: what runs here and what to try next, the lesson of a strategy under the pointer, and the switches for
// languages, projector mode, light and dark.
const lesson = element.querySelector("[data-lesson]");
const next = element.querySelector("[data-next]");
const languages = [...element.querySelectorAll("[data-language]")];
const projector = element.querySelector("[data-projector]");
let shown = ""; // the lesson of the run's strategy
let preset = null; // the preset that runs, with its words

const press = () => {
  for (const each of languages) each.setAttribute("aria-pressed", String(each.dataset.language === parallelLab.language()));
  projector.setAttribute("aria-pressed", String(parallelLab.projector()));
};
parallelLab.fill(element);
press();

function say(pointed = "") {
  const words = pointed || preset?.what || shown;
  if (lesson.textContent !== words) lesson.textContent = words;
  const following = (!pointed && preset?.next) || null;
  next.hidden = !following;
  if (following && next.textContent !== following.says) next.textContent = following.says;
}

document.addEventListener("parallel-lab:frame", (event) => {
  if (shown === event.detail.lesson) return;
  shown = event.detail.lesson;
  say();
});
document.addEventListener("parallel-lab:preset", (event) => {
  preset = event.detail;
  say();
});
next.addEventListener("click", () => {
  if (preset?.next) document.dispatchEvent(new CustomEvent("parallel-lab:choose", { detail: preset.next.name }));
});

// Every strategy's lesson, while its name is pointed at or has the focus.
const strategy = (event) => event.target.closest?.("#lab-strategy label");
function pointed(event) {
  const index = [...document.querySelectorAll("#lab-strategy label")].indexOf(strategy(event));
  if (index >= 0) say(Object.values(parallelLab.word("lessons"))[index]);
}
for (const name of ["pointerover", "focusin"]) document.addEventListener(name, pointed);
for (const name of ["pointerout", "focusout"]) document.addEventListener(name, (event) => strategy(event) && say());

for (const each of languages) {
  each.addEventListener("click", () => {
    parallelLab.language(each.dataset.language);
    press();
    trigger("input"); // what Python says comes in that language from now on
  });
}
projector.addEventListener("click", () => {
  parallelLab.projector(!parallelLab.projector());
  press();
});
element.querySelector("[data-theme]").addEventListener("click", () => {
  window.parallelLabTheme(document.body.classList.contains("dark") ? "light" : "dark");
});
