"""What a visitor takes along: a link that opens the page on the same Experiment, and the run as a file."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import lab
from lab import readiness
from lab.errors import ExperimentError, Problem
from lab.experiment import Experiment, read_query
from lab.state import RunState
from widgets import figures, plain
from widgets.web import history, text
from widgets.web.limits import Limits

if TYPE_CHECKING:
    from widgets.web.session import Session

MOST_QUERY = 4000
"""Characters of a link that are read; browsers and proxies cut longer ones."""
MOST_FIELDS = 200
OF_THE_VIEW = ("lang", "projector")
"""Names in the page's address that say how it looks, and nothing of what runs."""
MOST_NAME, MOST_SENTENCE = 80, 600
"""Characters of a field's name and of what is said of it: both may repeat what the address says."""
FILE_VERSION = 1
MOST_ROWS = 2000
"""Of each table in the file."""


def from_link(query: str, limits: Limits) -> tuple[Experiment | None, list[Problem]]:
    """The Experiment in the page's address, brought down to what is allowed here, and what was wrong or changed.

    Returns:
        None, with the problems, for one that cannot be followed, and without any where the address names none.
    """
    query = query.removeprefix("?")
    if not query.strip("&"):
        return None, []
    if len(query) > MOST_QUERY or query.count("&") > MOST_FIELDS:
        return None, [Problem("link", text.LINK_TOO_LONG.format(most=MOST_QUERY))]
    try:
        fields = {name: value for name, value in read_query(query).items() if not name.startswith("__")}
        for name in OF_THE_VIEW:
            fields.pop(name, None)
        if not fields:
            return None, []  # such as Gradio's own `?__theme=dark`
        # The limits come first: what needs the machine may be slow for values that are not allowed anyway.
        experiment, told = limits.clamped(Experiment.from_dict(fields))
        return readiness.check(experiment.explicit()), told
    except ExperimentError as error:
        return None, [Problem(problem.field[:MOST_NAME], problem.message[:MOST_SENTENCE]) for problem in error.problems]


def texts(experiment: Experiment) -> dict[str, str]:
    """The Experiment as a link's query, as Python and as TOML, to copy."""
    return {"code": experiment.to_code(), "toml": experiment.to_toml(), "query": experiment.to_query()}


def run_file(run_id: str, experiment: Experiment, state: RunState) -> str:
    """A run as JSON: what was run, how it ended, and the numbers behind every figure. Hold the run's lock meanwhile.

    It does not grow with the run: `RunState` thins what it keeps, and tables are cut.
    """
    finished = state.finished
    content = {
        "file": "parallel-lab run",
        "version": FILE_VERSION,
        "lab": lab.__version__,
        "run": run_id,
        "experiment": experiment.to_dict(),
        "state": state.status,
        "steps": state.step,
        "samples": state.samples,
        "last_loss": state.last_loss,
        "evaluations": [
            {"step": each.step, "split": each.split, "loss": each.loss, "accuracy": each.accuracy}
            for each in state.evaluations
        ],
        "wall_seconds": finished.wall_seconds if finished is not None else None,
        "failures": [{"rank": each.rank, "cause": each.cause, "primary": each.primary} for each in state.failures],
        "figures": {name: _table(state, name) for name in figures.FIGURES},
    }
    return json.dumps(plain.finite(content), ensure_ascii=False, indent=1)


def _table(state: RunState, name: str) -> dict[str, Any]:
    table = figures.table(state, name, None)
    rows = list(table.rows)
    return {
        "columns": list(table.columns),
        "rows": rows[:MOST_ROWS],
        "left_out": table.left_out + len(rows[MOST_ROWS:]),
    }


def table_file(session: Session, figure: str, step: int | None = None) -> str | None:
    """The numbers behind one of the tab's charts as CSV, every row of them; None where there is nothing to say."""
    run = session.run
    if figure == "compare":
        found = session.compared()
        if found is None:
            return None
        columns, rows = history.table(*found)
    elif run is None or figure not in figures.FIGURES:
        return None
    else:
        with run.lock:
            wanted = step if step is not None else session.step
            # Of a run that goes on, the step on the screen may be gone; the last one is as good.
            kept = wanted if wanted in run.state.spans else None
            table = figures.table(run.state, figure, kept, whole=True)
        columns, rows = table.columns, table.rows
    file = io.StringIO()
    file.write("\ufeff")  # without it, some spreadsheets take µ and arrows for something else
    csv.writer(file).writerows([columns, *rows])
    return file.getvalue()
