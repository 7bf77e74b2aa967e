"""Links that work without the key: downloads and services."""

import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone

import pytest
from conftest import done
from langsmith.sandbox import ResourceNotFoundError, SandboxClientError

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("local_names")]

TEXT = "zażółć\n"


def fetch(url: str, method: str = "GET", **headers: str):
    """As anybody's browser would, without a credential."""
    return urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=30)


def refusal(url: str, method: str = "GET") -> int:
    with pytest.raises(urllib.error.HTTPError) as failure:
        fetch(url, method)
    return failure.value.code


def seconds_until(moment: str) -> float:
    return (datetime.fromisoformat(moment.replace("Z", "+00:00")) - datetime.now(timezone.utc)).total_seconds()


async def test_a_download_link_needs_no_key(sandbox):
    await done(sandbox.write("/home/user/note.txt", TEXT))
    link = await done(sandbox.generate_download_url("/home/user/note.txt"))
    assert link.expires_at is None
    assert link.token in link.download_url
    with fetch(link.download_url) as response:
        assert response.read().decode() == TEXT
    with fetch(link.download_url, "HEAD") as response:
        assert (int(response.headers["Content-Length"]), response.read()) == (len(TEXT.encode()), b"")
    with fetch(link.download_url, Range="bytes=0-1") as response:
        assert (response.status, response.read()) == (206, b"za")


async def test_a_download_link_says_how_the_file_is_shown(client, sandbox):
    await done(sandbox.write("/home/user/page.html", "<p>"))
    link = await done(
        client.generate_download_url(
            sandbox.name,
            "/home/user/page.html",
            content_type="text/html; charset=utf-8",
            content_disposition="inline",
        )
    )
    with fetch(link.download_url) as response:
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert response.headers["Content-Disposition"].startswith("inline")


async def test_a_download_link_expires(sandbox):
    await done(sandbox.write("/home/user/note.txt", TEXT))
    lasting = await done(sandbox.generate_download_url("/home/user/note.txt", expires_in_seconds=3600))
    assert timedelta(minutes=59).total_seconds() < seconds_until(lasting.expires_at) <= 3600
    brief = await done(sandbox.generate_download_url("/home/user/note.txt", expires_in_seconds=1))
    await done(sandbox.run("sleep 2"))
    assert refusal(brief.download_url) in (401, 403, 404, 410)
    fetch(lasting.download_url).close()


async def test_a_changed_download_link_is_refused(sandbox):
    await done(sandbox.write("/home/user/note.txt", TEXT))
    link = await done(sandbox.generate_download_url("/home/user/note.txt"))
    middle = len(link.token) // 2
    forged = link.token[:middle] + ("A" if link.token[middle] != "A" else "B") + link.token[middle + 1 :]
    assert refusal(link.download_url.replace(link.token, forged)) in (401, 403, 404)
    assert refusal(link.download_url, "DELETE") in (401, 403, 404, 405)


async def test_a_download_link_wakes_a_stopped_sandbox(client, sandbox):
    await done(sandbox.write("/home/user/note.txt", TEXT))
    link = await done(sandbox.generate_download_url("/home/user/note.txt"))
    await done(sandbox.stop())
    with fetch(link.download_url) as response:
        assert response.read().decode() == TEXT
    assert (await done(client.get_sandbox_status(sandbox.name))).status == "ready"


async def test_links_of_an_unknown_sandbox_are_not_found(client):
    for call in (lambda: client.generate_download_url("nobody", "/tmp/file"), lambda: client.service("nobody", 80)):
        with pytest.raises(ResourceNotFoundError) as failure:
            await done(call())
        assert failure.value.resource_type == "sandbox"


@pytest.fixture
async def served(sandbox):
    """A sandbox that serves the directory /srv/site at port 8000."""
    await done(sandbox.write("/srv/site/index.html", TEXT))
    await done(sandbox.write("/srv/site/below/page.txt", "below"))
    listen = "import socket; socket.create_connection(('127.0.0.1', 8000))"
    await done(
        sandbox.run(
            "setsid python3 -m http.server 8000 --bind 127.0.0.1 --directory /srv/site >/tmp/log 2>&1 &"
            f'until python3 -c "{listen}" 2>/dev/null; do sleep 0.05; done',
            timeout=30,
        )
    )
    return sandbox


async def test_a_service_answers_whoever_has_its_token(served):
    service = await done(served.service(8000))
    assert service.service_url.endswith("/")
    assert 0 < seconds_until(service.expires_at) <= 600
    response = await done(service.get("/"))
    assert (response.status_code, response.text) == (200, TEXT)
    response = await done(service.get("below/page.txt"))
    assert (response.status_code, response.text) == (200, "below")
    # What the service itself answers goes through as it is.
    assert (await done(service.get("/nowhere"))).status_code == 404
    assert (await done(service.post("/", content=b"body"))).status_code == 501


async def test_a_browser_is_let_in_by_its_link(served):
    service = await done(served.service(8000))
    link = service.browser_url
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with browser.open(link, timeout=30) as response:
        assert response.read().decode() == TEXT
    with browser.open(service.service_url + "below/page.txt", timeout=30) as response:
        assert response.read() == b"below"
    # What stands in the history of a browser lets nobody else in.
    assert refusal(link) in (401, 403, 410)


async def test_a_service_without_its_token_is_closed(served):
    service = await done(served.service(8000))
    assert refusal(service.service_url) in (401, 403)


async def test_a_token_opens_one_port_only(client, served):
    other = await done(client.service(served.name, 8001))
    here = await done(client.service(served.name, 8000))
    with pytest.raises(urllib.error.HTTPError) as failure:
        fetch(here.service_url, **{"X-Langsmith-Sandbox-Service-Token": other.token})
    assert failure.value.code in (401, 403)


async def test_nothing_listens(client, sandbox):
    service = await done(client.service(sandbox.name, 9))
    assert (await done(service.get("/"))).status_code == 502


async def test_a_service_url_renews_itself(served):
    # It has less left than the margin of this client, so each use asks for another.
    service = await done(served.service(8000, expires_in_seconds=5))
    assert (await done(service.get("/"))).status_code == 200


async def test_login_mode_is_not_in_the_local_server(client, sandbox):
    with pytest.raises(SandboxClientError, match="login"):
        await done(client.service(sandbox.name, 8000, access="restricted"))
