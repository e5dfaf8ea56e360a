// In the document's head: projector mode, to be read from the back of a classroom. The address says it (?projector).
// The stylesheets do it for the page; charts are enlarged here, before Plotly draws them.
Object.assign(
  window.parallelLab,
  (() => {
    const TYPE = 1.5; // type, lines and marks
    const ROOM = 1.3; // height
    const mark = "lab-projector";
    let on = new URLSearchParams(location.search).has("projector");
    document.documentElement.classList.toggle(mark, on);

    const grows = (key, parent) =>
      (key === "size" && /font$|^marker$/.test(parent)) ||
      (key === "width" && parent === "line") ||
      ["ticklen", "minsize", "standoff"].includes(key);

    /** A copy of a chart's data or layout, larger, and with strong words; columns of numbers stay as they are. */
    function enlarged(value, parent, soft, strong) {
      if (Array.isArray(value)) {
        return typeof value[0] === "object" ? value.map((each) => enlarged(each, parent, soft, strong)) : value;
      }
      if (value === soft) return strong;
      if (typeof value !== "object" || value === null) return value;
      const pairs = Object.entries(value).map(([key, inner]) => {
        const larger = typeof inner === "number" && grows(key, parent);
        return [key, larger ? TYPE * inner : enlarged(inner, key, soft, strong)];
      });
      return Object.fromEntries(pairs);
    }

    return {
      // Without an argument: whether it is on. With one: switch it.
      projector(chosen) {
        if (chosen === undefined || chosen === on) return on;
        on = chosen;
        document.documentElement.classList.toggle(mark, on);
        const address = new URL(location.href);
        if (on) address.searchParams.set("projector", "");
        else address.searchParams.delete("projector");
        history.replaceState(history.state, "", address);
        document.dispatchEvent(new CustomEvent("parallel-lab:projector", { detail: on }));
        return on;
      },
      /** A figure of a frame as it is to be drawn: {data, layout}. */
      drawn({ data, layout }) {
        if (!on) return { data, layout };
        const colors = getComputedStyle(document.body);
        const [soft, strong] = ["--lab-quiet", "--lab-ink"].map((name) => colors.getPropertyValue(name).trim());
        return enlarged({ data, layout }, "", soft, strong);
      },
      /** A height in pixels of a chart, as it is to be drawn. */
      room: (height) => (on ? Math.round(ROOM * height) : height),
    };
  })(),
);
