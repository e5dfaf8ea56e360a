// The chooser of presets, and what to watch in the one that runs. props.value is the menu of widgets/web/presets.py. The
// frames say which preset the run is, and the header shows what it is and which one to try next.
const find = (selector) => element.querySelector(selector);
const select = find("[data-choose]");
let now = null; // the name of the preset that runs

const all = () => props.value.flatMap((group) => group.presets);

/** A preset with its words in the language of now. */
function worded(preset) {
  const [title, what, watch] = parallelLab.word("presets")[preset.name];
  return { ...preset, title, what, watch };
}

function option(value, text) {
  return Object.assign(document.createElement("option"), { value, textContent: text });
}

function build() {
  const own = Object.assign(option("", parallelLab.word("no_preset")), { hidden: true });
  const groups = props.value.map((group) => {
    const node = Object.assign(document.createElement("optgroup"), { label: parallelLab.word("preset_groups")[group.name] });
    node.append(...group.presets.map((preset) => option(preset.name, worded(preset).title)));
    return node;
  });
  select.replaceChildren(own, ...groups);
  show();
}

function show() {
  const found = all().find((each) => each.name === now);
  const preset = found ? worded(found) : null;
  select.value = preset?.name ?? "";
  find("[data-watch-box]").hidden = !preset;
  find("[data-watch]").textContent = preset?.watch ?? "";
  const following = all().find((each) => each.name === preset?.next);
  const next = following && { name: following.name, says: parallelLab.word("try").replace("{title}", worded(following).title) };
  document.dispatchEvent(new CustomEvent("parallel-lab:preset", { detail: preset && { ...preset, next } }));
}

function choose(name) {
  if (!all().some((each) => each.name === name)) return;
  now = name;
  show();
  trigger("select", { preset: name });
}

parallelLab.fill(element);
select.addEventListener("change", () => choose(select.value));
document.addEventListener("parallel-lab:choose", (event) => choose(event.detail));
document.addEventListener("parallel-lab:language", build);
document.addEventListener("parallel-lab:frame", ({ detail }) => {
  if (detail.preset === now) return;
  now = detail.preset;
  show();
});
build();
