"""`import lab` is light: nothing slow is loaded before it is used, and nothing is changed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import lab

HEAVY = {"torch", "torchvision", "numpy", "gradio", "plotly", "ipywidgets", "anywidget", "pydantic", "rich", "typer"}


def in_fresh_python(code: str) -> dict[str, object]:
    """The JSON object that the code prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def loaded_after(code: str) -> set[str]:
    found = in_fresh_python(f"{code}\nimport json, sys; print(json.dumps({{'modules': list(sys.modules)}}))")
    assert isinstance(found["modules"], list)
    return {name.split(".")[0] for name in found["modules"]}


def test_import_lab_loads_nothing_heavy() -> None:
    assert not loaded_after("import lab") & HEAVY


def test_an_experiment_needs_no_torch() -> None:
    loaded = loaded_after("import lab; lab.Experiment(strategy='model_parallel').to_toml()")
    assert not loaded & {"torch", "torchvision", "gradio", "plotly", "ipywidgets"}


def test_the_command_line_starts_without_torch() -> None:
    assert not loaded_after("import lab.cli") & {"torch", "torchvision", "gradio", "plotly", "pydantic"}


def test_import_changes_no_logging_environment_or_signal() -> None:
    found = in_fresh_python(
        "import json, logging, os, signal\n"
        "def state():\n"
        "    return [len(logging.root.handlers), logging.root.level, sorted(os.environ), str(signal.getsignal(2))]\n"
        "before = state()\n"
        "import lab, lab.cli, lab.experiment, lab.state, lab.terminal\n"
        "print(json.dumps({'same': state() == before}))"
    )
    assert found == {"same": True}


def test_public_names_exist() -> None:
    for name in lab.__all__:
        assert getattr(lab, name) is not None
    assert set(lab.__all__) <= set(dir(lab))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Experimint'"):
        _ = lab.Experimint
