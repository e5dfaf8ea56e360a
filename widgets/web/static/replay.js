// Going through the step that the timeline shows: a cursor over the chart, and what each device does at that moment.
const REPLAY_SECONDS = 10;
const JUMP_SECONDS = 0.8; // from one change to the next, for readers who want no motion
const replay = find("[data-replay]");
const cursor = find("[data-cursor]");
const playing = { since: 0, from: 0, request: 0, timer: 0 };
const line = make("i", { class: "lab-cursor", "aria-hidden": "true" });
let held = null; // the run whose timeline stands still while the reader goes through a step
let moment = 0; // as a share of the step
let bars = []; // of the step: {lane, start, end, kind, name, label, color}
let span = null; // the step: {end, unit_ns, symbol, step}

plotOf("timeline").after(line);

/** Whether the timeline stands still at what it shows, while the run goes on. */
function standsStill() {
  if (held && (held.run !== frame.run || held.theme !== frame.theme)) release();
  return held !== null;
}

function hold() {
  if (held || !frame?.live) return;
  held = { run: frame.run, theme: frame.theme };
  find("[data-follow]").hidden = false;
}

function release() {
  held = null;
  stopPlaying();
  find("[data-follow]").hidden = true;
  moment = 0;
  drawMoment();
}

/** The timeline has been drawn anew. */
function readTimeline() {
  const { data = [], layout = {} } = plotOf("timeline");
  const drawn = data.filter((trace) => trace.type === "bar" && trace.meta?.kind);
  const lanes = laneNames(layout.yaxis ?? {});
  bars = drawn.flatMap((trace) =>
    trace.x.map((length, index) => ({
      lane: lanes[Math.round(trace.y[index])] ?? "",
      start: trace.base[index],
      end: trace.base[index] + length,
      kind: trace.meta.kind,
      talks: trace.meta.lane === "communication",
      name: trace.customdata[index][0],
      label: trace.name,
      color: trace.marker.color,
    })),
  );
  span = bars.length && layout.meta ? { ...layout.meta, end: Math.max(...bars.map((bar) => bar.end)) } : null;
  replay.hidden = !span;
  offerSteps();
  drawMoment();
}

/** A rank's two lanes have one name: that of its device. */
function laneNames({ tickvals = [], ticktext = [] }) {
  const names = [];
  tickvals.forEach((at, index) => (names[Math.round(at)] ??= ticktext[index].replace(/<[^>]*>/g, "").trim()));
  return names;
}

function offerSteps() {
  const steps = frame?.steps ?? [];
  find("[data-steps]").hidden = steps.length < 2;
  if (steps.length < 2) return;
  offer(find("[data-step]"), steps.map((step) => [step, step.toLocaleString("en-US")]), span?.step ?? steps.at(-1));
  find("[data-earlier]").disabled = span?.step === steps[0];
  find("[data-later]").disabled = span?.step === steps.at(-1);
}

const inUnits = (value) => `${Number(value.toPrecision(3))} ${span.symbol}`;

function drawMoment() {
  const shown = Boolean(span) && (moment > 0 || playing.since > 0 || document.activeElement === cursor);
  line.hidden = find("[data-now]").hidden = find("[data-moment]").hidden = !shown;
  cursor.value = String(Math.round(1000 * moment));
  if (!span) return;
  const time = moment * span.end;
  const words = `${inUnits(time)} / ${inUnits(span.end)}`;
  cursor.setAttribute("aria-valuetext", words);
  const slower = Math.round((REPLAY_SECONDS * 1e9) / (span.end * span.unit_ns));
  const pace = playing.since && !calm() ? ` · ${parallelLab.word("slowed").replace("{factor}", slower.toLocaleString("en-US"))}` : "";
  write(find("[data-moment]"), words + pace);
  if (!shown) return;
  drawLine(time);
  drawNow(time);
}

function drawLine(time) {
  const plot = plotOf("timeline");
  const { xaxis, yaxis } = plot._fullLayout ?? {};
  if (!xaxis?.l2p) return;
  const left = xaxis.l2p(time);
  line.hidden = left < 0 || left > xaxis._length; // the reader has zoomed to elsewhere
  Object.assign(line.style, {
    left: `${plot.offsetLeft + xaxis._offset + left}px`,
    top: `${plot.offsetTop + yaxis._offset}px`,
    height: `${yaxis._length}px`,
  });
}

function drawNow(time) {
  // The very end of the step belongs to it too.
  const now = bars.filter((bar) => bar.start <= time && (time < bar.end || (time >= span.end && bar.end === span.end)));
  const lanes = [...new Set(bars.map((bar) => bar.lane))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const rows = lanes.map((lane) => {
    const does = now.filter((bar) => bar.lane === lane);
    return { lane, does: does.length ? does : [{ kind: "", name: parallelLab.word("nothing_now"), label: "", color: "transparent" }] };
  });
  const list = find("[data-now]");
  list.setAttribute("aria-live", playing.since ? "off" : "polite"); // nobody can listen that fast
  const key = JSON.stringify(rows);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(
    ...rows.map(({ lane, does }) =>
      make("li", {}, make("b", { text: lane }), ...does.map((bar) => make("span", { "data-kind": bar.kind }, swatch(bar.color), wording(bar)))),
    ),
  );
}

function swatch(color) {
  const node = make("i", { "aria-hidden": "true" });
  node.style.background = color;
  return node;
}

function wording({ kind, name, label, talks }) {
  if (talks) return name; // `waits for rank 1`, `bucket 0 · 66.2 kB`
  if (kind === "wait") return name && name !== label ? `${label}: ${name}` : label;
  return name === label || !label ? name : `${label} ${name}`;
}

// -- playing ----------------------------------------------------------------------------------------------------------

function play() {
  hold();
  if (moment >= 1) moment = 0;
  Object.assign(playing, { since: performance.now(), from: moment });
  namePlay("pause_play", true);
  if (calm()) jump();
  else playing.request = requestAnimationFrame(glide);
}

function glide(now) {
  moment = Math.min(1, playing.from + (now - playing.since) / (1000 * REPLAY_SECONDS));
  drawMoment();
  if (moment < 1) playing.request = requestAnimationFrame(glide);
  else stopPlaying();
}

/** To the next moment at which a device begins something. */
function jump() {
  const time = moment * span.end;
  const next = bars.map((bar) => bar.start).filter((start) => start > time * (1 + 1e-9) + 1e-12);
  moment = next.length ? Math.min(...next) / span.end : 1;
  drawMoment();
  if (moment < 1) playing.timer = setTimeout(jump, 1000 * JUMP_SECONDS);
  else stopPlaying();
}

function stopPlaying() {
  cancelAnimationFrame(playing.request);
  clearTimeout(playing.timer);
  playing.since = 0;
  namePlay("play", false);
  drawMoment();
}

function namePlay(word, pressed) {
  const button = find("[data-play]");
  button.title = parallelLab.word(word);
  button.setAttribute("aria-label", button.title);
  button.setAttribute("aria-pressed", String(pressed));
}

find("[data-play]").addEventListener("click", () => (playing.since ? stopPlaying() : play()));
find("[data-follow]").addEventListener("click", () => {
  release();
  applyFigures();
});
cursor.addEventListener("input", () => {
  hold();
  const chosen = Number(cursor.value) / 1000;
  stopPlaying();
  moment = chosen;
  drawMoment();
});
cursor.addEventListener("focus", drawMoment);
cursor.addEventListener("blur", drawMoment);

// -- steps ------------------------------------------------------------------------------------------------------------

function showStep(step) {
  if (held) release();
  trigger("select", { step });
}

function move(by) {
  const steps = frame?.steps ?? [];
  const now = steps.indexOf(span?.step);
  if (steps.length) showStep(steps[Math.min(steps.length - 1, Math.max(0, (now < 0 ? steps.length - 1 : now) + by))]);
}
find("[data-earlier]").addEventListener("click", () => move(-1));
find("[data-later]").addEventListener("click", () => move(1));
find("[data-step]").addEventListener("change", ({ target }) => showStep(Number(target.value)));
document.addEventListener("parallel-lab:language", () => namePlay(playing.since ? "pause_play" : "play", playing.since > 0));
