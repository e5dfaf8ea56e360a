// Says that the tab is there, and says so to the reader when the server is not, or has forgotten the tab.
//
// A worker says it, since browsers slow the timers of a hidden page, and a worker's not.
const pulse = `let url; onmessage = ({ data }) => { url = data; };
const told = ({ status }) => postMessage(status);
setInterval(() => url && fetch(url, { method: "POST" }).then(told, () => postMessage(0)), 10_000);`;
const GONE = [0, 502, 503, 504]; // no server, or a proxy without one
let worker = null;
let beating = "";

function beat() {
  if (beating === frame.token) return;
  beating = frame.token;
  try {
    if (!worker) {
      worker = new Worker(URL.createObjectURL(new Blob([pulse], { type: "text/javascript" })));
      worker.onmessage = ({ data }) => answered(data);
    }
    worker.postMessage(at(`parallel-lab/alive?${new URLSearchParams({ token: frame.token })}`));
  } catch {
    /* without workers, what the page draws says that it is there */
  }
}

function tell(url) {
  fetch(url, { method: "POST" }).then(({ status }) => answered(status), () => answered(0));
}

let leaving = false; // then requests fail too
window.addEventListener("pagehide", () => (leaving = true));
window.addEventListener("pageshow", () => (leaving = false));

/** What the server answered to a sign of life: 403 when it was started anew, since it then knows no tab. */
function answered(status) {
  if (leaving) return;
  const words = GONE.includes(status) ? "server_gone" : status === 403 ? "server_new" : "";
  find("[data-lost]").hidden = !words;
  write(find("[data-lost-words]"), words && parallelLab.word(words));
}
find("[data-reload]").addEventListener("click", () => location.reload());
