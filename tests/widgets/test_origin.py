"""Where a request comes from, under which name it asks, and in whose frame the page may stand."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from starlette.datastructures import Headers

from tests.widgets.conftest import closing_loops
from tests.widgets.fakes import FakeRun
from tests.widgets.forms_factory import DEFAULT
from tests.widgets.test_gate_integration import PATHS
from widgets.web import origin
from widgets.web.leases import Budget
from widgets.web.limits import Limits
from widgets.web.serve import Served, Sharing, serving


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with closing_loops(), serving(DEFAULT, port=0, start=FakeRun) as served:
        yield served


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "counted"),
    [
        ("192.0.2.1", None, [], "192.0.2.1"),
        ("127.0.0.1", "198.51.100.1", [], "127.0.0.1"),
        ("127.0.0.1", "198.51.100.1", ["127.0.0.1"], "198.51.100.1"),
        ("127.0.0.1", "203.0.113.9, 198.51.100.1", ["127.0.0.1"], "198.51.100.1"),
        ("127.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.7", ["127.0.0.1", "10.0.0.0/24"], "198.51.100.1"),
        ("127.0.0.1", "203.0.113.9, nonsense", ["127.0.0.1"], "127.0.0.1"),
        ("127.0.0.1", "", ["127.0.0.1"], "127.0.0.1"),
        ("10.0.0.7", "10.0.0.8, 10.0.0.9", ["10.0.0.0/24"], "10.0.0.8"),
        ("::ffff:192.0.2.1", None, [], "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", None, [], "2001:db8:1:2::"),
        ("::1", "2001:db8:1:2:9::1", ["::1"], "2001:db8:1:2::"),
    ],
)
def test_who_is_counted(peer: str, forwarded: str | None, proxies: list[str], counted: str) -> None:
    headers = Headers({} if forwarded is None else {"x-forwarded-for": forwarded})
    assert origin.client({"client": (peer, 1)}, headers, origin.networks(proxies)) == counted


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:7860", True),
        ("localhost", True),
        ("lab.localhost:7860", True),
        ("LocalHost.:7860", True),
        ("127.0.0.1:7860", True),
        ("[::1]:7860", True),
        ("192.168.0.9:7860", True),  # an address leads nowhere else
        ("evil.example:7860", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example@localhost", False),
        ("localhost:80@evil.example", False),
        ("", False),
        ("a b", False),
    ],
)
def test_names_of_this_computer(host: str, allowed: bool) -> None:
    assert origin.Hosts().allows(host) is allowed
    assert origin.Hosts(["evil.example"]).allows("evil.example") is True
    assert origin.Hosts(None).allows(host)


def test_another_name_reaches_no_route(served: Served) -> None:
    with httpx.Client(base_url=served.url) as client:
        for method, path in PATHS:
            answer = client.request(method, path, headers={"Host": "evil.example"})
            assert answer.status_code == 403, (method, path)
            assert "set-cookie" not in answer.headers
        for host in ("localhost", "127.0.0.1:1"):
            assert client.get("", headers={"Host": host}).status_code == 200
        forwarded = {"Host": "evil.example", "X-Forwarded-Host": "localhost"}
        assert client.get("", headers=forwarded).status_code == 403


@pytest.mark.parametrize(
    ("sharing", "allowed", "refused"),
    [
        (Sharing(hosts=("lab.example",)), ["lab.example:80", "localhost"], ["evil.example"]),
        (Sharing(hosts=("*",)), ["anything.example"], []),
        (Sharing(Limits(), Budget(1, 4)), ["localhost"], ["evil.example"]),
        (Sharing(root_path="https://lab.example/class"), ["lab.example", "localhost"], ["evil.example"]),
        (Sharing(root_path="/user/ada/parallel-lab"), ["hub.example.org"], []),
        (Sharing(root_path="/lab", hosts=("lab.example",)), ["lab.example"], ["evil.example"]),
    ],
)
def test_names_are_an_option(sharing: Sharing, allowed: list[str], refused: list[str]) -> None:
    with serving(DEFAULT, port=0, start=FakeRun, sharing=sharing) as here, httpx.Client(base_url=here.url) as client:
        answers = [client.get("config", headers={"Host": host}).status_code for host in (*allowed, *refused)]
        assert answers == [200] * len(allowed) + [403] * len(refused)


def test_no_other_site_frames_the_page(served: Served) -> None:
    """Whatever is answered, refusals too."""
    with httpx.Client(base_url=served.url) as client:
        for method, path in PATHS:
            if "heartbeat" in path or "queue/data" in path:
                continue  # refused here, and tried as open answers elsewhere
            answer = client.request(method, path)
            assert "frame-ancestors 'self'" in answer.headers["content-security-policy"], (method, path)
            assert answer.headers["x-frame-options"] == "SAMEORIGIN"
