"""The cookie by which the server knows a browser again: made by this server alone, for one name."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.types import Scope


class Cookies:
    """Gives browsers their cookies, and reads them.

    A cookie is sealed together with the name that its browser came in with, so that it is worth nothing to who has
    found or planted it and comes in with another.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._name = f"parallel_lab_{hashlib.sha256(self._key).hexdigest()[:8]}"

    def owner(self, headers: Headers, login: str = "") -> str | None:
        """The browser that this server once gave its cookie to, under that name; None for any other."""
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self._name)
        except CookieError:
            return None
        browser, _, seal = (morsel.value if morsel is not None else "").partition(".")
        if not browser or not hmac.compare_digest(seal.encode(), self._seal(browser, login).encode()):
            return None
        return f"{login}/{browser}" if login else browser

    def made(self, scope: Scope, headers: Headers, login: str = "") -> str:
        """The header that gives a browser its cookie."""
        browser = secrets.token_urlsafe(24)
        secure = "; Secure" if "https" in (scope["scheme"], headers.get("x-forwarded-proto", "")) else ""
        return f"{self._name}={browser}.{self._seal(browser, login)}; Path=/; HttpOnly; SameSite=Lax{secure}"

    def _seal(self, browser: str, login: str) -> str:
        return hmac.new(self._key, f"{login}/{browser}".encode(), hashlib.sha256).hexdigest()
