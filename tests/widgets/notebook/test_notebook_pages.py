"""Pages of notebooks: what widgets showed stays when they are gone."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser
from typer.testing import CliRunner

from lab import cli
from lab.course import files
from lab.errors import LabError
from lab.experiment import Experiment
from tests.widgets.fakes import FakeRun
from widgets import figures
from widgets.notebook import FormulaCheck, LossView, Predict, StepThrough
from widgets.notebook.keeping import as_html
from widgets.notebook.pages import render

FORMULA = r"$$\theta \leftarrow \theta - \eta \cdot \frac{1}{N} \sum_i \nabla L_i(\theta)$$"
CELLS = [
    """
import lab
from widgets.notebook import LabPanel
panel = LabPanel(lab.Experiment(steps=3, timing="modelled", devices=["vgpu:0"]), show=("loss", "timeline"))
panel
""",
    "panel.finished().state.step",
]


def book(path: Path, *cells: str) -> Path:
    made = nbformat.v4.new_notebook()
    made.cells = [
        nbformat.v4.new_markdown_cell(f"# 00 · Small & short\n\n{FORMULA}"),
        *map(nbformat.v4.new_code_cell, cells),
    ]
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, path)
    return path


def test_a_figure_keeps_its_data() -> None:
    run = FakeRun(Experiment())
    run.end()
    kept = as_html(LossView(run))
    drawn = re.search(r"\? (\[.*\]) : (\[.*\])\),", kept)
    assert drawn is not None
    for number, theme in ((1, "dark"), (2, "light")):
        data, layout = json.loads(drawn[number])
        assert any(trace.get("y") for trace in data)
        assert layout["height"]
        assert layout["font"]["color"] == figures.PALETTES[theme].ink


def test_lessons_keep_what_they_say() -> None:
    predict = Predict("How <long>?", kind="choice", options=["a", "b"])
    assert "How &lt;long&gt;?" in as_html(predict)
    assert "○ a<br>○ b" in as_html(predict)
    predict.lock("b")
    assert "○ a<br>◉ b" in as_html(predict)
    steps = as_html(StepThrough(Experiment(strategy="ddp", world_size=2, batch_size=8)))
    assert [title in steps for title in ("1. Split", "4. Synchronise", "6. Repeat")] == [True] * 3
    assert "Largest difference over all" in as_html(FormulaCheck(Experiment(batch_size=8)))


def test_a_page_shows_the_run_without_a_kernel(tmp_path: Path, browser: Browser) -> None:
    (page,) = render([book(tmp_path / "00-small.ipynb", *CELLS)], tmp_path / "site")
    assert page.title == "00 · Small & short"
    tab = browser.new_page()
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((tmp_path / "site" / "index.html").as_uri())
    tab.get_by_text("00 · Small & short").click()
    tab.locator(".main-svg").first.wait_for()
    assert tab.locator("[role=img]").count() == 2
    assert "Finished: 3 steps" in tab.locator("body").inner_text()
    assert "lab.Experiment(" in "".join(tab.locator("details").all_text_contents())
    formula = tab.locator("math[display=block]")
    assert formula.locator("mfrac").count() == 1
    assert formula.bounding_box()["height"] > 25  # a fraction that is set, and no line of text
    assert "\\frac" not in tab.locator("body").inner_text()
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    tab.close()


def test_a_page_shows_pictures_where_there_are_no_scripts(tmp_path: Path, browser: Browser) -> None:
    curves = "from widgets.notebook import Curves\nCurves('A step', [1, 2], {'measured': [9.0, 6.0]}, 'parts', 'ms')"
    (page,) = render([book(tmp_path / "00-small.ipynb", curves)], tmp_path / "site")
    for theme in ("light", "dark"):
        context = browser.new_context(java_script_enabled=False, color_scheme=theme)
        tab = context.new_page()
        tab.goto(page.path.as_uri())
        box = tab.locator("picture img").bounding_box()
        assert box is not None
        assert (box["width"], box["height"]) == (760, 300)
        context.close()
    text = page.path.read_text(encoding="utf-8")
    assert text.count("parallel-lab-still") == 0
    fetched = re.findall(r"""<(?:script|link|img|source|iframe)[^>]*(?:src|href|srcset)=["'](?!data:)([^"']+)""", text)
    assert fetched == ["plotly.min.js"]


@pytest.mark.parametrize("path", files.notebooks(), ids=lambda path: path.stem)
def test_every_formula_of_the_course_can_be_set(path: Path) -> None:
    from widgets.notebook.exporting import PageExporter

    course = nbformat.read(path, 4)
    course.cells = [cell for cell in course.cells if cell.cell_type == "markdown"]
    body, _ = PageExporter().from_notebook_node(course)
    text = re.sub(r"(?s)<(style|script|code|pre|math)\b.*?</\1>", "", body)
    typed = [each for cell in course.cells for each in re.findall(r"\$+([^$\n]*\\[^$\n]*)\$+", cell.source)]
    assert body.count("<math") >= len(typed)
    assert "$" not in text
    assert not [each for each in typed if html.escape(each.strip()) in text]


def test_a_formula_that_cannot_be_read_stays_as_it_was_typed() -> None:
    from widgets.notebook.exporting import mathml

    assert mathml("\\left( x < 1", "inline") == "<code>\\left( x &lt; 1</code>"
    assert mathml("x_i", "inline").startswith("<math")


def test_a_notebook_that_fails_is_named(tmp_path: Path) -> None:
    path = book(tmp_path / "00-broken.ipynb", "1 / 0")
    with pytest.raises(LabError, match=r"00-broken\.ipynb does not run to its end"):
        list(render([path], tmp_path / "site"))


def test_a_folder_that_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot write the pages to"):
        list(render([], tmp_path / "file"))


def test_the_command_makes_pages_and_copies_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "notebooks", lambda: [book(tmp_path / "00-small.ipynb", "1 + 1")])
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["notebooks", "--html", "site"])
    assert result.exit_code == 0
    assert "00-small.html" in result.output
    assert sorted(path.name for path in (tmp_path / "site").iterdir()) == [
        "00-small.html",
        "index.html",
        "plotly.min.js",
    ]
    assert not (tmp_path / "parallel-lab-course").exists()
