// Dragging with mouse, pen or finger. Knows chips and lanes only as elements; what a drop means is the board's.

const FAR_ENOUGH = 5; // pixels: less is a click
const EDGE = 40; // pixels from the window's edge where it starts to scroll

/**
 * Lets the chips inside `root` be dragged onto its lanes.
 *
 * A finger drags by the chip's grip only, so that it can scroll the page anywhere else.
 * `lanes()` gives the lanes' elements; `start(chip)`, `over(chip, lane | null)` and `end(chip, lane | null)` are called
 * as it goes; `end` with null when the drag came to nothing.
 */
export function draggable(root, { lanes, start, over, end }) {
  let drag = null; // {chip, id, x, y, scroll, lane, going}

  function laneAt(x, y) {
    const inside = (box) => x >= box.left && x <= box.right && y >= box.top && y <= box.bottom;
    return lanes().find((lane) => inside(lane.getBoundingClientRect())) ?? null;
  }

  function follow(event) {
    const { chip } = drag;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y + window.scrollY - drag.scroll];
    chip.style.transform = `translate(${dx}px, ${dy}px)`;
    const lane = laneAt(event.clientX, event.clientY);
    if (lane !== drag.lane) {
      drag.lane = lane;
      over(chip, lane);
    }
    if (event.clientY < EDGE) window.scrollBy(0, -8);
    if (event.clientY > window.innerHeight - EDGE) window.scrollBy(0, 8);
  }

  function finish(lane) {
    const { chip, going } = drag;
    drag = null;
    if (!going) return;
    window.removeEventListener("keydown", onKey, true);
    root.classList.remove("lab-dragging");
    chip.classList.remove("lab-lifted");
    end(chip, lane);
    chip.style.transform = "";
  }

  function onKey(event) {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    finish(null);
  }

  const listeners = {
    pointerdown(event) {
      const chip = event.target.closest(".lab-chip");
      const by = event.target.closest(event.pointerType === "touch" ? ".lab-grip" : ".lab-grip, .lab-hold");
      if (!chip || !by || event.button !== 0 || drag || root.dataset.locked === "true") return;
      drag = { chip, id: event.pointerId, x: event.clientX, y: event.clientY, scroll: window.scrollY, lane: null };
    },
    pointermove(event) {
      if (!drag || event.pointerId !== drag.id) return;
      if (!drag.going) {
        if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < FAR_ENOUGH) return;
        drag.going = true;
        // The click at the end goes to the root then, and so selects no chip.
        root.setPointerCapture(event.pointerId);
        root.classList.add("lab-dragging");
        drag.chip.classList.add("lab-lifted");
        window.addEventListener("keydown", onKey, true);
        start(drag.chip);
      }
      event.preventDefault();
      follow(event);
    },
    pointerup(event) {
      if (!drag || event.pointerId !== drag.id) return;
      finish(laneAt(event.clientX, event.clientY));
    },
    pointercancel(event) {
      if (drag && event.pointerId === drag.id) finish(null);
    },
    // Browsers drag selected text and images by themselves.
    dragstart: (event) => event.preventDefault(),
  };
  for (const [name, listener] of Object.entries(listeners)) root.addEventListener(name, listener);
  return () => {
    for (const [name, listener] of Object.entries(listeners)) root.removeEventListener(name, listener);
  };
}
