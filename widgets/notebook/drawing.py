"""Figures in a notebook that are light or dark as it is, with the numbers behind them: of runs, profiles, or your own.

Curves("Step time", [1, 2, 4], {"measured": [9.1, 6.2, 5.8]}, x_title="microbatches", y_title="ms")

with vgpu.profile() as p:
    ...
ProfileTimeline(p)
"""

from __future__ import annotations

import html
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from widgets import figures, plain
from widgets.figures import CurveSet, Spec, Table
from widgets.figures.picture import WIDTH, data_address, svg
from widgets.notebook import plotly_bundle, staying, text
from widgets.notebook.staying import Stays

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from lab.vgpu.recording import Recording

_STATIC = Path(__file__).parent / "static"


class Drawing(Stays, anywidget.AnyWidget):
    """A figure that the front end draws in its own theme. What is drawn is for subclasses to say."""

    _esm = _STATIC / "view.js"
    _css = _STATIC / "view.css"

    figure = traitlets.Unicode("").tag(sync=True)
    """What is drawn, as JSON."""
    theme = traitlets.Enum(("light", "dark"), "light").tag(sync=True)
    """Set by the front end."""
    numbers = traitlets.Bool(False).tag(sync=True)
    """Whether the table below the figure is open."""
    step = traitlets.Int(None, allow_none=True).tag(sync=True)
    """For a timeline: the step that is shown; None follows the run."""
    bundle = traitlets.Unicode().tag(sync=True)
    words = traitlets.Dict(text.VIEW).tag(sync=True)
    picture = traitlets.Unicode("").tag(sync=True)
    """Set by the front end: what it has drawn, as a PNG in a data address."""

    def __init__(self, **settings: Any) -> None:
        self._guard = threading.RLock()
        self._taken_of: str | None = None
        """The figure that the front end's picture is of."""
        super().__init__(bundle=plotly_bundle.model_id(), **settings)
        self.observe(lambda change: self.refresh(everything=True), ["theme", "numbers", "step"])
        self.observe(lambda change: self._pictured(), "picture")

    def refresh(self, everything: bool = False) -> None:
        """Draws what is new."""
        with self._guard:
            drawn = self._drawn()
            if drawn != self.figure:
                self.figure = drawn

    def _drawn(self) -> str:
        """The figure as JSON."""
        raise NotImplementedError

    def _title_and_table(self) -> tuple[str, Table | None]:
        """For front ends without widgets; without a table while there is nothing to see."""
        raise NotImplementedError

    def _json(self, spec: Spec, table: Table | None, steps: Sequence[int] = ()) -> str:
        shown = None
        if table is not None and self.numbers:
            note = text.LEFT_OUT.format(count=table.left_out) if table.left_out else ""
            shown = {"columns": table.columns, "rows": table.rows, "note": note}
        whole = {**spec, "steps": list(steps), "table": shown}
        return json.dumps(plain.finite(whole), ensure_ascii=False, separators=(",", ":"))

    # -- where a notebook is only read -----------------------------------------------------------------------------

    def static(self) -> go.Figure:
        """The figure as it is now, as a plain Plotly figure that is kept in the notebook when it is displayed."""
        import plotly.graph_objects as go

        with self._guard:
            drawn = json.loads(self._drawn())
        return go.Figure({"data": drawn["data"], "layout": drawn["layout"]}).update_layout(template="none")

    def _repr_mimebundle_(self, **settings: Any) -> Any:
        bundle = super()._repr_mimebundle_(**settings)
        if bundle is None:
            return None
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**data, "text/html": self._html()}, metadata

    def still(self) -> str:
        """Its picture, and the numbers behind it, folded."""
        title, table = self._title_and_table()
        if table is None or not table.rows:
            return self.painted()
        words = text.VIEW["table"]
        return f"{self.painted()}<details><summary>{html.escape(words)}</summary>{_tabulated(table, title)}</details>"

    def painted(self, width: int = WIDTH) -> str:
        """A picture as HTML: the front end's as long as nothing has changed since it was taken, else our own."""
        with self._guard:
            drawn = json.loads(self._drawn())
            card = figures.PALETTES[self.theme].card
            title = drawn["layout"]["title"]["text"]
            if self._taken_of == self.figure and staying.acceptable(self.picture):
                return staying.image(self.picture, title, card)
            return staying.image(data_address(svg(drawn, width)), title, card)

    def in_theme(self, theme: figures.Theme) -> Spec:
        """The figure as it is now, as plain values, in that theme."""
        with self._guard:
            before = self.theme
            try:
                with self.hold_sync():
                    self.theme = theme
                    return json.loads(self._drawn())
            finally:
                self.theme = before

    def _pictured(self) -> None:
        self._taken_of = self.figure
        self.keep_still()

    def _html(self) -> str:
        """The numbers behind the figure."""
        title, table = self._title_and_table()
        if table is None or not table.rows:
            said = f"{title}. {text.LIVE}" if title else text.LIVE
            return f"<p>{html.escape(said)}</p>"
        return _tabulated(table, title)


def _tabulated(table: Table, title: str) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><caption>{html.escape(title)}</caption><tr>{head}</tr>{rows}</table>"


class _Still(Drawing):
    """A figure that does not change."""

    def __init__(self) -> None:
        super().__init__()
        self.refresh()

    def _spec(self) -> Spec:
        raise NotImplementedError

    def _table(self) -> Table:
        raise NotImplementedError

    def _drawn(self) -> str:
        return self._json(self._spec(), self._table())

    def _title_and_table(self) -> tuple[str, Table | None]:
        return self._spec()["layout"]["title"]["text"], self._table()


class Curves(_Still):
    """Lines over the same x: `lines` has a value for each x by name.

    Raises:
        ValueError: when a line has another number of points than x.
    """

    def __init__(
        self,
        title: str,
        x: Sequence[float],
        lines: Mapping[str, Sequence[float]],
        x_title: str = "",
        y_title: str = "",
        *,
        log_x: bool = False,
        log_y: bool = False,
    ) -> None:
        self._curves = CurveSet(title, x, lines, x_title, y_title, log_x, log_y)
        super().__init__()

    def _spec(self) -> Spec:
        return figures.curves_spec(self._curves, self.theme)

    def _table(self) -> Table:
        return figures.curves_table(self._curves)


class ProfileTimeline(_Still):
    """What every device and stream did in a `vgpu.profile()`; only from when to when in milliseconds, if asked."""

    def __init__(self, profile: Recording, window_ms: tuple[float, float] | None = None) -> None:
        self._profile, self._window_ms = profile, window_ms
        super().__init__()

    def _spec(self) -> Spec:
        return figures.profile_timeline_spec(self._profile, self.theme, self._window_ms)

    def _table(self) -> Table:
        return figures.profile_table(self._profile)


class ProfileMemory(_Still):
    """What every device's memory was used for in a `vgpu.profile()`."""

    def __init__(self, profile: Recording) -> None:
        self._profile = profile
        super().__init__()

    def _spec(self) -> Spec:
        return figures.profile_memory_spec(self._profile, self.theme)

    def _table(self) -> Table:
        return figures.profile_table(self._profile)
