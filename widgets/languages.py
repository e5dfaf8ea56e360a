"""The language that the faces speak: English, unless `speaking` says otherwise.

Words stand in packages that have a module for each language, with the same names and the same `{fields}`:

    widgets/web/text/__init__.py    __getattr__ = languages.words(__name__)
    widgets/web/text/en.py          START = "Start"
    widgets/web/text/zh.py          START = "开始"

`text.START` is then the word in the language of the tab that is served at the moment. So it is looked up inside of
functions: what a module kept of it from its import would be English for everybody. Gradio's own `gr.I18n` follows the
browser alone, cannot be switched, and reaches neither choices nor what Python computes.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Literal, TypeAlias

Language: TypeAlias = Literal["en", "zh"]
LANGUAGES: dict[Language, str] = {"en": "EN", "zh": "中文"}
"""What the switch calls them."""

_now: ContextVar[Language] = ContextVar("language", default="en")


def current() -> Language:
    return _now.get()


def known(language: Any) -> Language:
    """A language as a browser named it; English for one that is not spoken here."""
    return "zh" if language == "zh" else "en"


@contextlib.contextmanager
def speaking(language: Language) -> Iterator[None]:
    """Everything inside is said in that language. Not for the body of a generator, which may go on in another thread:
    see `spoken`."""
    before = _now.set(language)
    try:
        yield
    finally:
        _now.reset(before)


def table(package: str, language: Language) -> ModuleType:
    """All words of a package in one language."""
    return importlib.import_module(f"{package}.{language}")


def words(package: str) -> Callable[[str], Any]:
    """A package's `__getattr__`: its words in the language of now."""

    def word(name: str) -> Any:
        if name.startswith("__"):  # what the import system asks for
            raise AttributeError(name)
        return getattr(table(package, current()), name)

    return word


def spoken(language_of: Callable[..., Language]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Has a function or generator speak the language that `language_of` finds in its arguments, anew at each step."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if not inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def call(*args: Any, **kwargs: Any) -> Any:
                with speaking(language_of(*args, **kwargs)):
                    return function(*args, **kwargs)

            return call

        @functools.wraps(function)
        def steps(*args: Any, **kwargs: Any) -> Iterator[Any]:
            made = function(*args, **kwargs)
            try:
                while True:
                    with speaking(language_of(*args, **kwargs)):
                        try:
                            item = next(made)
                        except StopIteration:
                            return
                    yield item
            finally:
                made.close()

        return steps

    return decorate
