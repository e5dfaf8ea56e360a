"""Names and passwords."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from tests.widgets.test_sessions import Clock
from widgets.web import auth

PASSWORD = "correct horse battery"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


def test_a_user_that_was_added_comes_in(path: Path) -> None:
    auth.add_user(path, "ada", PASSWORD)
    auth.add_user(path, "grace", "another password")
    users, warnings = auth.read_users(path)
    assert warnings == []
    assert users.check("ada", PASSWORD)
    assert users.check("grace", "another password")
    assert not users.check("ada", "another password")
    assert not users.check("nobody", PASSWORD)
    assert not users.check("ada", "")


def test_the_file_holds_salted_scrypt_and_is_its_owners(path: Path) -> None:
    auth.add_user(path, "ada", PASSWORD)
    auth.add_user(path, "grace", PASSWORD)
    ada, grace = path.read_text().splitlines()
    assert ada.partition(":")[2] != grace.partition(":")[2]
    _, cost, block, parallel, salt, digest = ada.partition(":")[2].split("$")
    expected = hashlib.scrypt(
        PASSWORD.encode(), salt=base64.b64decode(salt), n=int(cost), r=int(block), p=int(parallel), dklen=32,
        maxmem=2**26,
    )  # fmt: skip
    assert base64.b64decode(digest) == expected
    assert PASSWORD not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_new_password_replaces_the_old_one(path: Path) -> None:
    path.write_text("# the class of this year\n")
    for password in (PASSWORD, "another password"):
        auth.add_user(path, "ada", password)
    assert path.read_text().startswith("# the class of this year\n")
    users, _ = auth.read_users(path)
    assert len(users) == 1
    assert not users.check("ada", PASSWORD)
    assert users.check("ada", "another password")


def test_a_file_that_others_can_read_is_warned_of(path: Path) -> None:
    auth.add_user(path, "ada", PASSWORD)
    path.chmod(0o640)
    assert auth.read_users(path)[1] == [f"others can read {path}: chmod 600 {path}"]


@pytest.mark.parametrize(
    "content",
    [
        "ada",
        "ada:",
        "ada:secret",
        "ada:scrypt$1$2$3",
        "ada:scrypt$16384$8$1$!!!$!!!",
        "ada:scrypt$16384$8$1$AAAA$AAAA",
        f"ada:scrypt$1073741824$8$1${'A' * 24}${'A' * 43}=",
        f"../x:{auth.Hash.of(PASSWORD)}",
        f"ada:{auth.Hash.of(PASSWORD)}\nada:{auth.Hash.of(PASSWORD)}",
    ],
)
def test_a_line_that_is_no_user_is_named(path: Path, content: str) -> None:
    path.write_text(content + "\n")
    number = len(content.splitlines())
    with pytest.raises(auth.AuthError, match=f"line {number} of .* is no user"):
        auth.read_users(path)


def test_a_file_that_cannot_be_used_is_a_sentence(path: Path, tmp_path: Path) -> None:
    with pytest.raises(auth.AuthError, match=r"cannot read the users in .*No such file"):
        auth.read_users(path)
    with pytest.raises(auth.AuthError, match="Is a directory"):
        auth.read_users(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(auth.AuthError, match="not UTF-8"):
        auth.read_users(path)
    path.write_text("# nobody yet\n")
    with pytest.raises(auth.AuthError, match="has no user"):
        auth.read_users(path)
    with pytest.raises(auth.AuthError, match="cannot write"):
        auth.add_user(tmp_path / "absent" / "users", "ada", PASSWORD)


@pytest.mark.parametrize(
    ("name", "password"), [("", PASSWORD), ("a:b", PASSWORD), ("a\nb", PASSWORD), ("ada", "short")]
)
def test_names_and_passwords_that_will_not_do(path: Path, name: str, password: str) -> None:
    with pytest.raises(auth.AuthError):
        auth.add_user(path, name, password)
    assert not path.exists()


def test_wrong_tries_make_the_next_wait_longer() -> None:
    clock = Clock()
    users = auth.Users({"ada": auth.Hash.of(PASSWORD)}, clock)
    waits = []
    for _ in range(auth.FREE_TRIES + 8):
        users.check("ada", "guess", "ada@here")
        waits.append(users.wait_seconds("ada@here"))
    assert waits[: auth.FREE_TRIES - 1] == [0] * (auth.FREE_TRIES - 1)
    assert waits[auth.FREE_TRIES - 1 :] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert users.wait_seconds("ada@elsewhere") == 0
    clock.seconds = 61
    assert users.wait_seconds("ada@here") <= 0
    assert users.check("ada", PASSWORD, "ada@here")
    assert users.wait_seconds("ada@here") == 0
    assert users.proven("ada", PASSWORD)
    assert not users.proven("ada", "guess")


@pytest.mark.parametrize(
    ("header", "pair"),
    [
        ("Basic " + base64.b64encode(b"ada:a:b").decode(), ("ada", "a:b")),
        ("basic " + base64.b64encode("ada:ö".encode()).decode(), ("ada", "ö")),
        ("Basic " + base64.b64encode(b"ada").decode(), None),
        ("Basic " + base64.b64encode(b"\xff:\xff").decode(), None),
        ("Basic é", None),
        ("Bearer abc", None),
        ("", None),
    ],
)
def test_the_header_is_read(header: str, pair: tuple[str, str] | None) -> None:
    assert auth.basic(header) == pair
