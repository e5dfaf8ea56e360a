// The header: the lesson of the strategy, the languages, projector mode, and the switch between light and dark.
const lesson = element.querySelector("[data-lesson]");
const languages = [...element.querySelectorAll("[data-language]")];
const projector = element.querySelector("[data-projector]");
const press = () => {
  for (const each of languages) each.setAttribute("aria-pressed", String(each.dataset.language === parallelLab.language()));
  projector.setAttribute("aria-pressed", String(parallelLab.projector()));
};
parallelLab.fill(element);
press();
document.addEventListener("parallel-lab:frame", (event) => {
  if (lesson.textContent !== event.detail.lesson) lesson.textContent = event.detail.lesson;
});
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
