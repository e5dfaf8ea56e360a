"""The presets: each can run, and what to watch in it is there."""

from __future__ import annotations

import pytest

from lab import readiness
from lab.experiment import Experiment
from tests.widgets.forms_factory import form
from widgets import languages
from widgets.web import presets
from widgets.web.form import CONTROLS
from widgets.web.form_values import values
from widgets.web.leases import Budget
from widgets.web.limits import PERSONAL, Limits

NAMES = list(presets.all_presets())
ROOM = Budget(10, 100)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_checked_and_the_controls_give_it_back(name: str) -> None:
    experiment = presets.all_presets()[name].experiment
    assert readiness.check(experiment.explicit()) == experiment
    assert not Limits().problems(experiment), "it runs on a server with the usual limits"
    shown = dict(zip(CONTROLS, values(experiment), strict=True))
    assert form(**shown).experiment(experiment) == experiment
    assert presets.shown(experiment) == name
    assert presets.shown(experiment.replace(seed=5)) is None


@pytest.mark.parametrize("language", list(languages.LANGUAGES))
def test_every_preset_has_its_words_and_leads_on(language: languages.Language) -> None:
    words = languages.table("widgets.web.lessons", language)
    assert list(words.PRESETS) == NAMES
    for name, preset in presets.all_presets().items():
        assert preset.group in words.PRESET_GROUPS
        assert preset.next in NAMES
        assert preset.next != name
        title, what, watch = words.PRESETS[name]
        assert len(title) <= 30
        assert len(what) <= 95
        assert len(watch) <= 130


def test_the_menu_has_all_groups_once_and_in_order() -> None:
    menu = presets.menu(presets.allowed(PERSONAL, ROOM))
    assert [group["name"] for group in menu] == list(languages.table("widgets.web.lessons", "en").PRESET_GROUPS)
    assert [preset["name"] for group in menu for preset in group["presets"]] == NAMES


def test_a_server_offers_what_it_would_run() -> None:
    assert list(presets.allowed(PERSONAL, ROOM)) == NAMES
    calm = presets.allowed(Limits(faults=False), ROOM)
    assert set(NAMES) - set(calm) == {"straggler", "killed"}
    small = presets.allowed(PERSONAL, Budget(2, 2))
    assert set(NAMES) - set(small) == {"ddp", "straggler"}


def test_the_page_opens_on_a_preset() -> None:
    from lab.page_commands import _opening

    assert presets.shown(_opening()) == "naive"
    assert presets.shown(Experiment()) is None
