// The placement panel: a row per layer with a select for its device, and two buttons that choose for all.
// props.value is {layers: [...], devices: [...], chosen: {layer: device} | "even" | "auto"}; Python reads it at Start.
const rows = element.querySelector("[data-layers]");
const reason = element.querySelector("[data-reason]");
let frame = null;

// Which device each layer has: the reader's choice, or what the run settled on.
function placed() {
  const { layers, devices, chosen } = props.value;
  if (typeof chosen === "object") return chosen;
  const run = frame?.layers ?? {};
  const fits = frame?.placed?.method === chosen && layers.every((layer) => devices.includes(run[layer]?.device));
  return fits ? Object.fromEntries(layers.map((layer) => [layer, run[layer].device])) : {};
}

function choose(chosen) {
  props.value = { ...props.value, chosen };
  draw();
}

function row(layer) {
  const node = document.createElement("label");
  node.className = "lab-layer";
  node.dataset.layer = layer;
  const name = Object.assign(document.createElement("b"), { textContent: layer });
  const about = Object.assign(document.createElement("span"), { className: "lab-soft" });
  const select = document.createElement("select");
  select.setAttribute("aria-label", `${words.device_of} ${layer}`);
  select.addEventListener("change", () => {
    const now = placed();
    const { layers, devices } = props.value;
    const all = Object.fromEntries(layers.map((each) => [each, now[each] ?? devices[0]]));
    choose({ ...all, [layer]: select.value });
  });
  node.append(name, about, select);
  return node;
}

function draw() {
  if (!props.value?.layers) return;
  const { layers, devices, chosen } = props.value;
  const key = JSON.stringify([layers, devices]);
  if (rows.dataset.key !== key) {
    rows.dataset.key = key;
    rows.replaceChildren(...layers.map(row));
  }
  const now = placed();
  for (const node of rows.children) {
    const layer = node.dataset.layer;
    const select = node.querySelector("select");
    const device = now[layer] ?? "";
    const options = device ? devices : ["", ...devices];
    if (select.dataset.key !== options.join()) {
      select.dataset.key = options.join();
      select.replaceChildren(
        ...options.map((each) => Object.assign(document.createElement("option"), { value: each, textContent: each || "…" })),
      );
    }
    if (select.value !== device && document.activeElement !== select) select.value = device;
    const index = devices.indexOf(device);
    node.style.setProperty("--lab-device", index < 0 ? "var(--lab-line)" : `var(--lab-d${index % 8})`);
    const { about = "", title = "" } = frame?.layers?.[layer] ?? {};
    const span = node.querySelector("span");
    if (span.textContent !== about) span.textContent = about;
    if (span.title !== title) span.title = title;
  }
  for (const button of element.querySelectorAll("[data-method]")) {
    button.textContent = words[button.dataset.method];
    button.title = words[`${button.dataset.method}_hint`];
    button.setAttribute("aria-pressed", String(chosen === button.dataset.method));
  }
  const settled = Object.keys(now).length > 0;
  const text = typeof chosen === "object" ? "" : settled ? (frame?.placed?.reason ?? "") : words.at_start;
  if (reason.textContent !== text) reason.textContent = text;
}

for (const button of element.querySelectorAll("[data-method]")) {
  button.addEventListener("click", () => choose(button.dataset.method));
}
document.addEventListener("parallel-lab:frame", (event) => {
  frame = event.detail;
  draw();
});
watch("value", draw);
draw();
