// In the document's head, before anything is drawn: light or dark as the browser says, until the reader chooses.
(() => {
  const key = "parallel-lab-theme";
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null; // storage may be forbidden
    }
  };
  const wanted = () => stored() || (system.matches ? "dark" : "light");
  const apply = () => {
    document.body.classList.toggle("dark", wanted() === "dark");
    document.dispatchEvent(new CustomEvent("parallel-lab:theme", { detail: wanted() }));
  };
  // Without an argument: which theme it is. With one: choose it.
  window.parallelLabTheme = (chosen) => {
    if (chosen) {
      try {
        localStorage.setItem(key, chosen);
      } catch {
        /* then it lasts as long as the page */
      }
      document.body.classList.toggle("dark", chosen === "dark");
      document.dispatchEvent(new CustomEvent("parallel-lab:theme", { detail: chosen }));
    } else {
      document.body.classList.toggle("dark", wanted() === "dark");
    }
    return document.body.classList.contains("dark") ? "dark" : "light";
  };
  system.addEventListener("change", () => setTimeout(apply, 0));
})();
