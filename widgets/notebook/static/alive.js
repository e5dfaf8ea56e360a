// A panel whose kernel was restarted stays on the screen, and no click on it arrives anywhere. This says so.
const LOOK_MS = 1500;
const PATIENCE_MS = 4000;
const make = (tag, text = "") => Object.assign(document.createElement(tag), { textContent: text });

async function soon(condition) {
  for (let waited = 0; waited < PATIENCE_MS; waited += 20) {
    if (condition()) return true;
    await new Promise((done) => setTimeout(done, 20));
  }
  return false;
}

// JupyterLab's own keys, in command mode: its commands cannot be reached from here.
function press(target, key, shiftKey = false) {
  const keyCode = { Enter: 13, Escape: 27 }[key];
  const all = { key, code: key, keyCode, which: keyCode, shiftKey, bubbles: true, cancelable: true, composed: true };
  target.dispatchEvent(new KeyboardEvent("keydown", all));
  target.dispatchEvent(new KeyboardEvent("keyup", all));
}

function choose(cell) {
  const prompt = cell.querySelector(".jp-InputPrompt, .jp-InputArea-prompt") ?? cell;
  for (const name of ["mousedown", "mouseup", "click"]) {
    prompt.dispatchEvent(new MouseEvent(name, { bubbles: true, cancelable: true, composed: true, button: 0 }));
  }
}

// Runs the notebook's cells from the first one to that around `el`; false where that is not possible.
async function runUpTo(el) {
  const last = el.closest(".jp-Cell");
  const book = el.closest(".jp-Notebook");
  if (!last || !book) return false;
  const cells = [...book.querySelectorAll(".jp-Cell")];
  const count = cells.indexOf(last) + 1;
  const active = () => book.querySelector(".jp-Cell.jp-mod-active");
  choose(cells[0]);
  for (let index = 0; index < count; index += 1) {
    if (!(await soon(() => active() === cells[index]))) return false;
    active().focus();
    press(document.activeElement, "Escape");
    press(document.activeElement, "Enter", true);
  }
  const prompt = () => last.querySelector(".jp-InputPrompt")?.textContent.includes("*");
  return soon(() => prompt() || !el.isConnected);
}

async function render({ model, el }) {
  const words = model.get("words");
  const box = make("div");
  const button = make("button", words.run);
  const failed = make("p", words.by_hand);
  box.className = "parallel-lab-gone";
  box.setAttribute("role", "alert");
  box.hidden = failed.hidden = true;
  box.append(make("span", words.gone), button, failed);
  el.append(box);
  button.addEventListener("click", async () => {
    button.disabled = true;
    failed.hidden = await runUpTo(el);
    button.disabled = false;
  });

  const real = await model.widget_manager.get_model(model.get("own"));
  const look = () => {
    if (real.comm_live !== false) return;
    box.hidden = false;
    el.closest(".parallel-lab-panel")?.classList.add("parallel-lab-dead");
    clearInterval(looking);
  };
  // Told at once where the front end tells; looked at for those that do not.
  const looking = setInterval(look, LOOK_MS);
  model.on("comm_live_update", look);
  return () => {
    clearInterval(looking);
    model.off("comm_live_update", look);
  };
}

export default { render };
