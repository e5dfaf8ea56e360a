"""Names and passwords: a file of salted hashes, and a check that is slow for those who guess.

The file has one user a line, `NAME:scrypt$N$R$P$SALT$HASH` (salt and hash in base64); `parallel-lab serve --add-user
NAME --auth-file FILE` writes such lines. Lines that begin with # are left alone.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import math
import os
import re
import secrets
import stat
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from widgets.web.text import server as text

COST, BLOCK, PARALLEL = 2**14, 8, 1
"""Of scrypt: 16 MB and about 50 ms for each try."""
MOST_MEMORY_BYTES = 2**26
SALT_BYTES, HASH_BYTES = 16, 32
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
LEAST_PASSWORD = 8
MOST_PASSWORD = 256
FREE_TRIES = 5
"""Wrong passwords before the next try has to wait."""
FREE_TRIES_OF_ADDRESS = 12
"""The same for one address, from which a whole class may come in."""
MOST_WAIT_SECONDS = 60.0
LEAST_PAUSE_SECONDS = 0.25
TRIES_PER_SECOND_OF_PAUSE = 40
"""Of one who guesses on and on, every second that his tries are apart has cost so many wrong ones: a day of it is good
for some 2,600, and whoever knows the password is in after one of these pauses."""
MOST_IN_LINE = 5
"""Tries of one name at one address that wait for each other; further ones are refused unseen."""
MOST_IN_LINE_OF_ADDRESS = 40
"""The same for all names at one address."""
REMEMBERED = 10_000
"""Addresses and proven passwords that are kept in memory."""


class AuthError(LabError):
    """A file of users that cannot be used; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Hash:
    """A salted hash of a password."""

    cost: int
    block: int
    parallel: int
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, password: str) -> Hash:
        salt = secrets.token_bytes(SALT_BYTES)
        return cls(COST, BLOCK, PARALLEL, salt, _scrypt(password, COST, BLOCK, PARALLEL, salt))

    def fits(self, password: str) -> bool:
        digest = _scrypt(password, self.cost, self.block, self.parallel, self.salt)
        return hmac.compare_digest(digest, self.digest)

    def __str__(self) -> str:
        salt, digest = (base64.b64encode(part).decode() for part in (self.salt, self.digest))
        return f"scrypt${self.cost}${self.block}${self.parallel}${salt}${digest}"

    @classmethod
    def read(cls, written: str) -> Hash:
        """Raises ValueError when it is no hash that this release reads."""
        kind, *numbers, salt, digest = written.split("$")
        if kind != "scrypt":
            raise ValueError(kind)
        cost, block, parallel = map(int, numbers)
        # What costs more than twice as much as ours would let a file stop the server.
        fair = 2 <= cost <= 2 * COST and cost & (cost - 1) == 0 and 1 <= block <= 16 and 1 <= parallel <= 4
        decoded = [base64.b64decode(part, validate=True) for part in (salt, digest)]
        if not fair or len(decoded[0]) < 8 or len(decoded[1]) != HASH_BYTES:
            raise ValueError(written)
        return cls(cost, block, parallel, *decoded)


def _scrypt(password: str, cost: int, block: int, parallel: int, salt: bytes) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=MOST_MEMORY_BYTES, dklen=HASH_BYTES
    )


class Users:
    """Who may come in. Safe to use from several threads.

    Args:
        hashes: name -> hash.
        now: a monotonic clock in seconds.
    """

    def __init__(self, hashes: Mapping[str, Hash], now: Callable[[], float] = time.monotonic) -> None:
        self._hashes = dict(hashes)
        self._now = now
        self._lock = threading.Lock()
        self._nobody = Hash.of(secrets.token_hex())
        self._key = secrets.token_bytes(32)
        self._proven: OrderedDict[bytes, str] = OrderedDict()
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Address or name -> wrong tries in a row, and when the last was."""
        self._turns: OrderedDict[str, float] = OrderedDict()
        """Name at an address, or address -> when the last of its tries that waited was let through."""

    def __len__(self) -> int:
        return len(self._hashes)

    def proven(self, name: str, password: str) -> bool:
        """Whether this name came in with this password before; takes no time."""
        with self._lock:
            return self._stamp(name, password) in self._proven

    def wait_seconds(self, *who: str) -> float:
        """For how long these (an address, a name at an address) have to wait before their next try."""
        with self._lock:
            waits = [0.0]
            for each in who:
                tries, last = self._wrong.get(each, (0, 0.0))
                if tries >= FREE_TRIES:
                    pause = min(MOST_WAIT_SECONDS, 2.0 ** (tries - FREE_TRIES))
                    waits.append(last + pause - self._now())
            return max(waits)

    def turn(self, name: str, address: str) -> float | None:
        """For how long a try is to be held back, 0 for not at all; None where too many are held back already.

        Wrong tries of others make a right one late, and do not refuse it: the name's owner may sit at their address.
        Who guesses one name from many addresses, and who tries many names from one, waits longer with each wrong try.
        """
        with self._lock:
            now = self._now()
            pauses = {
                f"{name}@{address}": (self._pause(of_name(name), FREE_TRIES), MOST_IN_LINE),
                f"@{address}": (self._pause(of_address(address), FREE_TRIES_OF_ADDRESS), MOST_IN_LINE_OF_ADDRESS),
            }
            lanes = {lane: (pause, most) for lane, (pause, most) in pauses.items() if pause}
            start = max([now, *(self._turns.get(lane, -math.inf) + pause for lane, (pause, _) in lanes.items())])
            if any(start - now > most * pause for pause, most in lanes.values()):
                return None
            for lane in lanes:
                self._turns.pop(lane, None)
                self._turns[lane] = start
            _trim(self._turns)
            return start - now

    def slowed(self, name: str, address: str) -> bool:
        """Whether tries of these are held back when they come one right after the other."""
        with self._lock:
            of_address_pause = self._pause(of_address(address), FREE_TRIES_OF_ADDRESS)
            return self._pause(of_name(name), FREE_TRIES) > 0 or of_address_pause > 0

    def _pause(self, who: str, free: int) -> float:
        tries, _ = self._wrong.get(who, (0, 0.0))
        if tries < free:
            return 0.0
        return min(MOST_WAIT_SECONDS, max(LEAST_PAUSE_SECONDS, tries / TRIES_PER_SECOND_OF_PAUSE))

    def check(self, name: str, password: str, *who: str, address: str = "") -> bool:
        """Whether the password is the name's. Takes as long for a name that is not there; wrong ones are counted
        against `who`, whose count a right one ends, and against the address, whose count it lowers by one: others may
        guess from there."""
        known = self._hashes.get(name)
        right = (known or self._nobody).fits(password[:MOST_PASSWORD]) and known is not None
        with self._lock:
            if right:
                self._proven[self._stamp(name, password)] = name
                _trim(self._proven)
            for each in who:
                tries, _ = self._wrong.pop(each, (0, 0.0))
                if not right:
                    self._wrong[each] = (tries + 1, self._now())
            if address:
                tries, _ = self._wrong.pop(of_address(address), (0, 0.0))
                self._wrong[of_address(address)] = (max(0, tries - 1) if right else tries + 1, self._now())
            _trim(self._wrong)
        return right

    def _stamp(self, name: str, password: str) -> bytes:
        """Stands for the pair in memory, so that no password stays there."""
        return hmac.digest(self._key, f"{name}\0{password}".encode(), "sha256")


def of_name(name: str) -> str:
    """Under which wrong tries are counted for a name."""
    return f"name {name}"


def of_address(address: str) -> str:
    """Under which they are counted for an address."""
    return f"address {address}"


def _trim(kept: OrderedDict[Any, Any]) -> None:
    while len(kept) > REMEMBERED:
        kept.popitem(last=False)


def read_users(path: Path) -> tuple[Users, list[str]]:
    """The users of a file, and what to warn of.

    Raises:
        AuthError: when it cannot be read, has no user, or a line that is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise AuthError(text.AUTH_UNREADABLE.format(path=path, reason=reason)) from None
    hashes: dict[str, Hash] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, written = line.strip().partition(":")
        try:
            if not NAME.fullmatch(name) or name in hashes:
                raise ValueError(name)
            hashes[name] = Hash.read(written)
        except (ValueError, binascii.Error):
            raise AuthError(text.AUTH_LINE.format(path=path, number=number)) from None
    if not hashes:
        raise AuthError(text.AUTH_EMPTY.format(path=path))
    others = mode & (stat.S_IRWXG | stat.S_IRWXO)
    return Users(hashes), [text.AUTH_OPEN.format(path=path)] if others else []


def add_user(path: Path, name: str, password: str) -> None:
    """Adds a user to the file, or gives one a new password; only its owner can read the file afterwards.

    Raises:
        AuthError: for a name or password that will not do, or a file that cannot be written.
    """
    if not NAME.fullmatch(name):
        raise AuthError(text.AUTH_NAME.format(name=name))
    if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
        raise AuthError(text.AUTH_PASSWORD.format(least=LEAST_PASSWORD, most=MOST_PASSWORD))
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if line.strip().partition(":")[0] != name]
        _write(path, "\n".join([*kept, f"{name}:{Hash.of(password)}"]) + "\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise AuthError(text.AUTH_UNWRITABLE.format(path=path, reason=reason)) from None


def _write(path: Path, content: str) -> None:
    """All or nothing: a server that reads it meanwhile sees the old file or the new one."""
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # readable by its owner alone
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(content)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def basic(header: str) -> tuple[str, str] | None:
    """Name and password of an `Authorization: Basic` header; None for any other."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > 1000:
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    name, colon, password = decoded.partition(":")
    return (name, password) if colon else None
