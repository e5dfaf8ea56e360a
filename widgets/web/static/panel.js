// The placement board in the page. props.value is the board's state (widgets/board/state.py); Python reads what is
// `chosen` at Start. A placement that changes beside a run starts that run anew.
const RESTART_MS = 400; // restarts are so far apart: the first move is answered at once, several start few runs
const RESTARTS = ["starting", "running", "finished", "failed"];
let frame = null;
let restarting = null; // the run that is to be replaced
let timer = 0;
let restarted = -Infinity;

const board = mountBoard(element.querySelector("[data-board]"), {
  words: parallelLab.word("board"),
  onPlacement({ chosen }) {
    props.value = { ...props.value, chosen };
    clearTimeout(timer);
    if (!RESTARTS.includes(frame?.status.state)) return;
    restarting = frame.run;
    board.say(parallelLab.word("board").restarting);
    timer = setTimeout(() => {
      restarted = performance.now();
      trigger("submit");
    }, restarted + RESTART_MS - performance.now());
  },
  onDevices: (by) => trigger("edit", { by }),
});

document.addEventListener("parallel-lab:frame", (event) => {
  frame = event.detail;
  if (restarting && (frame.run !== restarting || frame.alert || frame.status.state === "stopped")) {
    restarting = null;
    board.say("");
  }
  board.measured(frame.board);
});
document.addEventListener("parallel-lab:language", () => board.speak(parallelLab.word("board")));
watch("value", () => board.update(props.value));
board.update(props.value);
