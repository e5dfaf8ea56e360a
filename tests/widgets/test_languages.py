"""The words in every language, and who speaks which."""

from __future__ import annotations

import ast
import re
import string
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import widgets
from widgets import languages
from widgets.web import static

HOME = Path(widgets.__file__).parent
PACKAGES = sorted(".".join(("widgets", *path.parent.relative_to(HOME).parts)) for path in HOME.rglob("zh.py"))
SPOKEN = [path for path in sorted(HOME.rglob("*.py")) if path.name not in ("en.py", "zh.py")]
"""Modules of the faces that may use words."""
WORDS = sorted([*HOME.rglob("en.py"), *HOME.rglob("zh.py"), *HOME.rglob("text.py")])
SAME = {"DDP", "rank {rank} · {devices}", "function"}
"""What Chinese readers read as it is."""
TABLES = {"board", "presets", "preset_groups", "lessons"}
"""Words that scripts take in tables."""
LETTERS = re.compile("[A-Za-z]{2}")
CHINESE = re.compile("[\u4e00-\u9fff]")


def said(table: ModuleType) -> dict[str, Any]:
    """Name, or name.key -> what is said; functions stand for themselves."""
    found: dict[str, Any] = {}
    for name, value in vars(table).items():
        if name.isupper() and not name.startswith("_"):
            found |= flat(name, value)
        elif callable(value) and not isinstance(value, type) and value is not Callable:
            found[name] = "function"
    return found


def flat(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {key: each for part, inner in value.items() for key, each in flat(f"{name}.{part}", inner).items()}
    if isinstance(value, list | tuple):
        return {key: each for i, inner in enumerate(value) for key, each in flat(f"{name}.{i}", inner).items()}
    return {name: value}


def fields(sentence: str) -> list[tuple[str, str]]:
    """(name, conversion) of everything that is filled in; how a number is written may differ."""
    return sorted((name, conversion or "") for _, name, _, conversion in string.Formatter().parse(sentence) if name)


@pytest.mark.parametrize("package", PACKAGES)
def test_both_languages_have_the_same_words(package: str) -> None:
    english, chinese = (said(languages.table(package, language)) for language in ("en", "zh"))
    assert english.keys() == chinese.keys()
    for name, sentence in english.items():
        assert type(sentence) is type(chinese[name]), name
        if not isinstance(sentence, str):
            assert sentence == chinese[name], name
        else:
            assert fields(sentence) == fields(chinese[name]), name


@pytest.mark.parametrize("package", PACKAGES)
def test_chinese_is_chinese_and_english_is_not(package: str) -> None:
    english, chinese = (said(languages.table(package, language)) for language in ("en", "zh"))
    for name, sentence in chinese.items():
        if isinstance(sentence, str) and LETTERS.search(re.sub(r"\{.*?\}", "", english[name])):
            assert CHINESE.search(sentence) or sentence in SAME, name
        assert not CHINESE.search(str(english[name])), name


def test_all_packages_are_found() -> None:
    assert {"widgets.web.text", "widgets.board.words"} <= set(PACKAGES)


def words_of(module: ast.Module) -> set[str]:
    """Names under which a module knows packages of words."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom):
            of = {f"{node.module}.{alias.name}": alias.asname or alias.name for alias in node.names}
            found |= {name for package, name in of.items() if package in PACKAGES}
    return found


@pytest.mark.parametrize("path", SPOKEN, ids=lambda path: str(path.relative_to(HOME)))
def test_no_module_keeps_a_word_from_its_import(path: Path) -> None:
    """It would be English in every tab."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    names = words_of(module)
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module in PACKAGES:
            taken = {alias.name for alias in node.names if alias.name not in ("server", *languages.LANGUAGES)}
            assert not taken, f"line {node.lineno} takes {taken} for good"
    for node in at_import(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.value.id not in names, f"line {node.lineno} keeps {node.value.id}.{node.attr}"


NOT_ON_THE_PAGE = (
    "figures/_curves.py",
    "figures/_profile.py",
    "figures/_scaling.py",
    "notebook/",
    "web/text/server.py",
)
"""Of notebooks and of the terminal, which are in English."""
NOT_SHOWN = {
    "out of memory",  # what the lab says of failures
    "was killed by",
    "without saying that it was done",
    "has been in|did not join",
    "None is not allowed",
    "it is not UTF-8 text",  # in the terminal
    "could not close run %s",
}


@pytest.mark.parametrize(
    "path",
    [path for path in SPOKEN if not str(path.relative_to(HOME)).startswith(NOT_ON_THE_PAGE)],
    ids=lambda path: str(path.relative_to(HOME)),
)
def test_no_sentence_stands_outside_of_the_words(path: Path) -> None:
    module = ast.parse(path.read_text(encoding="utf-8"))
    told = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            sentence = re.search("[A-Za-z]{2,},? [a-z]{2,},? [a-z]{2,}", node.value)
            assert not sentence or node.value in NOT_SHOWN, f"line {node.lineno}: {node.value!r}"


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: all but the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            for outside in (*child.decorator_list, *child.args.defaults, *filter(None, child.args.kw_defaults)):
                yield outside
                yield from at_import(outside)
        elif not isinstance(child, ast.Lambda):
            yield child
            yield from at_import(child)


def test_templates_name_words_that_there_are() -> None:
    text = languages.table("widgets.web.text", "en")
    folder = HOME / "web" / "static"
    for path in folder.glob("*.html"):
        used = set(re.findall(r"%\{(\w+)\}", path.read_text(encoding="utf-8")))
        used |= set(re.findall(r'data-word="(\w+)"', path.read_text(encoding="utf-8")))
        assert used <= text.BENCH.keys(), path.name
    for path in folder.glob("*.js"):
        content = path.read_text(encoding="utf-8")
        assert set(re.findall(r'parallelLab\.word\("(\w+)"\)', content)) <= {*text.BENCH, *TABLES}, path.name
        # A script asks for a word when it needs it: the language may have changed.
        assert path.name == "words.js" or "%{" not in content, path.name
    assert "停止" not in static.early()
    assert "设备时间线" in static.early()


def test_speaking_lasts_as_long_as_it_is_asked_for() -> None:
    from widgets.web import text

    assert text.STOP == "Stop"
    with languages.speaking("zh"):
        assert text.STOP == "停止"
        with languages.speaking("en"):
            assert text.STOP == "Stop"
        heard: list[str] = []
        other = threading.Thread(target=lambda: heard.append(text.STOP))
        other.start()
        other.join()
        assert (text.STOP, heard) == ("停止", ["Stop"])
    assert text.STOP == "Stop"
    with pytest.raises(AttributeError):
        _ = text.NO_SUCH_WORD


def test_a_generator_speaks_anew_at_every_step() -> None:
    from widgets.web import text

    now: list[languages.Language] = ["zh"]
    closed: list[bool] = []

    @languages.spoken(lambda: now[0])
    def counting() -> Iterator[str]:
        try:
            while True:
                yield text.STOP
        finally:
            closed.append(True)

    steps = counting()
    assert next(steps) == "停止"
    assert text.STOP == "Stop"
    now[0] = "en"
    assert next(steps) == "Stop"
    steps.close()
    assert closed == [True]


@pytest.mark.parametrize(("named", "spoken"), [("zh", "zh"), ("en", "en"), ("fr", "en"), (None, "en"), ({}, "en")])
def test_a_language_from_a_browser(named: Any, spoken: str) -> None:
    assert languages.known(named) == spoken


@pytest.mark.parametrize("path", WORDS, ids=lambda path: str(path.relative_to(HOME)))
def test_no_word_has_two_meanings(path: Path) -> None:
    """The second assignment of a name would silently take the place of the first."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    names = [target.id for line in body if isinstance(line, ast.Assign) for target in line.targets]  # type: ignore[attr-defined]
    assert sorted(names) == sorted(set(names))
