// The header: the lesson of the strategy, and the switch between light and dark.
const lesson = element.querySelector("[data-lesson]");
document.addEventListener("parallel-lab:frame", (event) => {
  if (lesson.textContent !== event.detail.lesson) lesson.textContent = event.detail.lesson;
});
element.querySelector("[data-theme]").addEventListener("click", () => {
  window.parallelLabTheme(document.body.classList.contains("dark") ? "light" : "dark");
});
