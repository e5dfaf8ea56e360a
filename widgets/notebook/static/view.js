// A figure that Python describes and Plotly draws, in place: nothing is ever mounted anew.
const config = { displayModeBar: false, displaylogo: false, responsive: false, doubleClick: "reset" };
const QUIET_MS = 2000; // longer than between two drawings of a run that goes on
const LABELS_PX = 70; // left of a figure, before it has been drawn
const BUTTONS_PX = 64; // of the two that go from step to step, beside the title

// Plotly comes from a hidden model, once for all views of the page.
function plotly(model) {
  globalThis.parallelLabPlotly ??= (async () => {
    const bundle = await model.widget_manager.get_model(model.get("bundle"));
    const code = bundle.get("code");
    const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    const others = window.Plotly;
    try {
      await import(url);
      return window.Plotly;
    } finally {
      URL.revokeObjectURL(url);
      if (others) window.Plotly = others;
    }
  })();
  return globalThis.parallelLabPlotly;
}

function luminance(color) {
  const [r, g, b, a] = (color.match(/[\d.]+/g) ?? []).map(Number);
  return a === 0 || b === undefined ? null : (0.299 * r + 0.587 * g + 0.114 * b) / 255;
}

// JupyterLab and Notebook say which theme they have; elsewhere the background that is there decides.
function theme(el) {
  const said = document.body.dataset.jpThemeLight;
  if (said) return said === "false" ? "dark" : "light";
  for (let node = el; node; node = node.parentElement) {
    const light = luminance(getComputedStyle(node).backgroundColor);
    if (light !== null) return light < 0.5 ? "dark" : "light";
  }
  return "light";
}

const make = (tag, name, text = "") => Object.assign(document.createElement(tag), { className: name, textContent: text });

function tabulate(box, table) {
  const key = JSON.stringify(table);
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  const node = make("table", "");
  for (const [index, cells] of [table.columns, ...table.rows].entries()) {
    const row = make("tr", "");
    row.append(...cells.map((text) => make(index ? "td" : "th", "", text)));
    node.append(row);
  }
  box.replaceChildren(node, make("p", "", table.note));
}

// Plotly cuts off a title that is too long; here it goes on in the next line.
const ruler = document.createElement("canvas").getContext("2d");
function wrapTitle(layout, width, left, room) {
  const { title, font } = layout;
  if (!title?.text) return;
  const size = title.font?.size ?? 13;
  ruler.font = `${size}px ${title.font?.family ?? font?.family ?? "sans-serif"}`;
  const long = (text, most) => ruler.measureText(text).width > most;
  if (!long(title.text, width - left - room)) return;
  const lines = [""];
  for (const word of title.text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (lines.at(-1) && long(longer, lines.length === 1 ? width - room : width)) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  // Plotly moves a title of several lines up by some of their height.
  const more = Math.round((lines.length - 1) * size * 1.3);
  title.text = lines.map((line) => line.replace(/^· | ·$/g, "")).join("<br>");
  Object.assign(title, { x: 0, xref: "container", y: 1, yref: "container", yanchor: "top", pad: { t: more + 3 } });
  layout.margin = { ...layout.margin, t: (layout.margin?.t ?? 36) + more };
  layout.height += more;
}

async function render({ model, el }) {
  el.classList.add("parallel-lab-view");
  const plot = make("div", "parallel-lab-plot");
  const steps = make("span", "parallel-lab-steps");
  const earlier = Object.assign(make("button", "", "◀"), { title: model.get("words").earlier });
  const later = Object.assign(make("button", "", "▶"), { title: model.get("words").later });
  steps.append(earlier, later);
  steps.hidden = true;
  const details = make("details", "parallel-lab-numbers");
  const box = make("div", "");
  details.append(make("summary", "", model.get("words").table), box);
  el.append(steps, plot, details);

  const tell = () => {
    const now = theme(el);
    if (model.get("theme") === now) return;
    model.set("theme", now);
    model.save_changes();
  };
  const themes = new MutationObserver(tell);
  themes.observe(document.body, { attributes: true });
  themes.observe(document.documentElement, { attributes: true });

  let Plotly;
  try {
    Plotly = await plotly(model);
  } catch (error) {
    globalThis.parallelLabPlotly = undefined;
    plot.textContent = `${model.get("words").no_plotly} (${error})`;
    return;
  }
  // Once it stands still, a picture of it goes to Python, for a notebook that is opened when Python is gone.
  let quiet = 0;
  const keep = async () => {
    if (!plot.offsetWidth) return;
    const size = { width: plot.offsetWidth, height: plot.offsetHeight };
    const picture = await Plotly.toImage(plot, { format: "png", ...size });
    if (picture === model.get("picture")) return;
    model.set("picture", picture);
    model.save_changes();
  };
  let queued = 0;
  let drawnAt = 0;
  const draw = () => {
    queued = 0;
    const figure = JSON.parse(model.get("figure") || "null");
    if (!figure) return;
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", figure.layout.title?.text ?? "");
    drawnAt = plot.offsetWidth;
    const left = plot._fullLayout?._size?.l ?? LABELS_PX;
    if (drawnAt) wrapTitle(figure.layout, drawnAt - 8, left, figure.steps.length < 2 ? 0 : BUTTONS_PX);
    plot.style.height = `${figure.layout.height}px`;
    Plotly.react(plot, figure.data, figure.layout, config);
    steps.hidden = figure.steps.length < 2;
    steps.dataset.steps = JSON.stringify(figure.steps);
    if (figure.table) tabulate(box, figure.table);
    clearTimeout(quiet);
    quiet = setTimeout(keep, QUIET_MS);
  };
  // Several changes between two frames are one drawing; a hidden tab gets no frames and draws nothing.
  const ask = () => {
    queued ||= requestAnimationFrame(draw);
  };
  model.on("change:figure", ask);
  details.addEventListener("toggle", () => {
    model.set("numbers", details.open);
    model.save_changes();
  });
  const move = (by) => {
    const all = JSON.parse(steps.dataset.steps ?? "[]");
    const now = model.get("step") ?? all.at(-1);
    const next = all[Math.min(all.length - 1, Math.max(0, all.indexOf(now) + by))];
    model.set("step", next);
    model.save_changes();
  };
  earlier.addEventListener("click", () => move(-1));
  later.addEventListener("click", () => move(1));
  const sizes = new ResizeObserver(() => {
    if (!plot._fullLayout || !plot.offsetWidth) return;
    if (plot.offsetWidth === drawnAt) Plotly.Plots.resize(plot);
    else ask();
  });
  sizes.observe(plot);
  tell();
  ask();
  return () => {
    cancelAnimationFrame(queued);
    clearTimeout(quiet);
    themes.disconnect();
    sizes.disconnect();
    model.off("change:figure", ask);
    Plotly.purge(plot);
  };
}

export default { render };
