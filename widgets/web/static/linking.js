// What belongs together lights up together: a layer's spans in the timeline, its chip on the board, its box and edges in
// the graph. Whichever of them the reader points at, or has the focus on, says which layers or which link are meant.
let linked = null; // {layers: [...], pair: [device, device] | null}

/** Layers may be folded: `blocks.0` on the board stands for `blocks.0.attn` in the timeline. */
const within = (one, other) => one === other || one.startsWith(`${other}.`) || other.startsWith(`${one}.`);
const meant = (names) => linked.layers.some((layer) => names.some((name) => within(layer, name)));
const isPair = (one, other) => Boolean(one && other) && one.length === 2 && one.every((name) => other.includes(name));

function link(next) {
  if (JSON.stringify(next) === JSON.stringify(linked)) return;
  linked = next;
  showLinks();
}

function showLinks() {
  for (const chip of document.querySelectorAll(".lab-chip[data-layer]")) {
    chip.classList.toggle("lab-linked", Boolean(linked) && meant([chip.dataset.layer]));
  }
  mark("timeline", (trace, index) => {
    if (trace.meta?.kind === "transfer") return isPair(linked.pair, ends(trace.customdata[index][0]));
    return isLayer(trace) && meant([bare(trace.customdata[index][0])]);
  });
  mark("placement_graph", (trace, index) => {
    if (trace.meta?.layers) return meant(trace.meta.layers[index]);
    if (!trace.meta?.ends) return false;
    return meant(trace.meta.ends[index].flat()) || isPair(linked.pair, trace.meta.devices[index]);
  });
}

/** Marks the bars and points of a chart; those of a trace are in the order of its values. */
function mark(name, chosen) {
  const plot = plotOf(name);
  plot.classList.toggle("lab-linking", Boolean(linked));
  if (!plot.data) return;
  for (const [layer, type] of [["barlayer", "bar"], ["scatterlayer", "scatter"]]) {
    const traces = plot.data.filter((trace) => trace.type === type);
    plot.querySelectorAll(`.${layer} > .trace`).forEach((group, place) => {
      group.querySelectorAll(".points > .point").forEach((point, index) => {
        point.classList.toggle("lab-linked", Boolean(linked) && Boolean(traces[place]?.meta) && chosen(traces[place], index));
      });
    });
  }
}

const isLayer = (trace) => ["forward", "backward"].includes(trace.meta?.kind);
const bare = (name) => name.replace(/ …$/, "");
const ends = (name) => name.match(/(\S+) → (\S+)$/)?.slice(1) ?? null;

function pointed(name, { data: trace, pointNumber: index }) {
  if (name === "timeline") {
    if (isLayer(trace)) return { layers: [bare(trace.customdata[index][0])], pair: null };
    return trace.meta?.kind === "transfer" ? { layers: [], pair: ends(trace.customdata[index][0]) } : null;
  }
  if (trace.meta?.layers) return { layers: trace.meta.layers[index], pair: null };
  return trace.meta?.ends ? { layers: trace.meta.ends[index].flat(), pair: trace.meta.devices[index] } : null;
}

/** Listens to a chart that has been drawn for the first time. */
function listen(name) {
  if (name === "timeline") plotOf(name).on("plotly_afterplot", () => drawMoment());
  if (name !== "timeline" && name !== "placement_graph") return;
  plotOf(name).on("plotly_hover", ({ points }) => link(pointed(name, points[0])));
  plotOf(name).on("plotly_unhover", () => link(null));
  plotOf(name).on("plotly_afterplot", () => linked && showLinks());
}

const chipOf = ({ target }) => target.closest?.(".lab-chip[data-layer]")?.dataset.layer;
for (const [starts, stops] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
  document.addEventListener(starts, (event) => chipOf(event) && link({ layers: [chipOf(event)], pair: null }));
  document.addEventListener(stops, (event) => chipOf(event) && link(null));
}
