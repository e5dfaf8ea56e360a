// A button that waits: it can be clicked again only when Python has done what the last click asked for, and says in
// each click for which turn it was meant, so that a late one does nothing.
function render({ model, el }) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "jupyter-widgets jupyter-button widget-button";
  button.style.cssText = "width: auto; margin: 2px";
  el.append(button);
  let waiting = false;
  const show = () => {
    button.textContent = model.get("description");
    button.classList.toggle("mod-primary", model.get("primary"));
    // Not `disabled`, which would take the keyboard's focus away with every click.
    const off = waiting || model.get("disabled");
    button.setAttribute("aria-disabled", String(off));
    button.style.opacity = off ? "0.55" : "";
    button.style.cursor = off ? "default" : "";
  };
  const done = () => {
    waiting = false;
    show();
  };
  button.addEventListener("click", () => {
    if (waiting || model.get("disabled")) return;
    waiting = true;
    show();
    model.send({ event: "click", turn: model.get("turn") });
  });
  model.on("change:turn", done);
  model.on("change:description change:disabled change:primary", show);
  show();
  return () => {
    model.off("change:turn", done);
    model.off("change:description change:disabled change:primary", show);
  };
}

export default { render };
