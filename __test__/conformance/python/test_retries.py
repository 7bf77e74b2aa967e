"""Answers that get lost: this client sends a request again, also one that changes something."""

import threading
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import client_of, close, done

pytestmark = pytest.mark.anyio


class Losing(ThreadingHTTPServer):
    """Forwards to the real server and answers 503 in its place the first time that somebody posts."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), Forward)
        self.origin = endpoint.split("/v2/")[0]
        self.posts: list[int] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v2/sandboxes"


class Forward(BaseHTTPRequestHandler):
    server: Losing

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self.forward(body)
        first = not self.server.posts
        self.server.posts.append(status)
        self.answer(503 if first else status, b"" if first else answer)

    def do_GET(self) -> None:
        self.answer(*self.forward(None))

    do_DELETE = do_GET

    def forward(self, body):
        headers = {name: self.headers[name] for name in ("X-Api-Key", "Content-Type") if name in self.headers}
        url = self.server.origin + self.path
        request = urllib.request.Request(url, body, headers, method=self.command)
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def losing(server):
    with Losing(server.endpoint) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()


async def test_a_create_that_is_sent_again_makes_one_sandbox(flavour, server, losing):
    client = client_of(flavour, server, api_endpoint=losing.endpoint)
    name = f"again-{uuid.uuid4().hex[:12]}"
    try:
        made = await done(client.create_sandbox(name=name))
        assert losing.posts == [201, 200]
        assert [other.id for other in await done(client.list_sandboxes()) if other.name == name] == [made.id]
        await done(client.delete_sandbox(name))
    finally:
        await close(client)


async def test_a_file_that_is_sent_again_is_written_once(flavour, client, sandbox, server, losing):
    other = client_of(flavour, server, api_endpoint=losing.endpoint)
    url = sandbox.dataplane_url.replace(losing.origin, losing.endpoint.split("/v2/")[0])
    through = type(sandbox).from_dict({"name": sandbox.name, "dataplane_url": url}, other)
    try:
        await done(through.write("/tmp/file", "text"))
        assert losing.posts == [200, 200]
        assert await done(sandbox.read("/tmp/file")) == b"text"
    finally:
        await close(other)
