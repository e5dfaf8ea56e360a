"""Views: pictures that other packages offer to draw."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from lab import views
from lab.errors import LabError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def offer(monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    """What packages offer, in place of what is installed here."""
    offered = EntryPoints(EntryPoint(name, value, views.GROUP) for name, value in points.items())
    monkeypatch.setattr(views, "entry_points", lambda **wanted: offered.select(**wanted))


def test_what_is_offered_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, longest="builtins:max", shortest="builtins:min")
    assert views.draw("longest", 3, 5) == 5
    assert views.draw("shortest", 3, 5) == 3


def test_what_nobody_draws_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch)
    with pytest.raises(LabError, match=r"no installed package draws 'profile_timeline'.*pip install parallel-lab"):
        views.draw("profile_timeline")


def test_what_a_view_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, profile_timeline="not_installed_here.figures:draw")
    with pytest.raises(LabError, match=r"drawing 'profile_timeline' needs not_installed_here.*pip install"):
        views.draw("profile_timeline")


def test_the_project_offers_what_profiles_draw() -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    points = project["entry-points"][views.GROUP]
    assert set(points) == {"profile_timeline", "profile_memory"}
    for name, value in points.items():
        assert callable(EntryPoint(name, value, views.GROUP).load())
