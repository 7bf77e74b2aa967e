"""The wire itself, where it matters to clients and no call of today's official ones shows it: what older releases send,
codes and shapes that they all depend on, and answers that must stay small or whole."""

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from conftest import Server
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

BASES = ["/v2/sandboxes", "/api/v2/sandboxes", "/api/v1/v2/sandboxes"]
# A whole run of these tests is far below it; it only keeps one that hangs from hanging for ever.
TIMEOUT = 30


class Wire:
    """Plain HTTP with the key."""

    def __init__(self, server: Server) -> None:
        self.origin = server.endpoint.split("/v2/")[0]
        self.session = requests.Session()
        self.session.headers["X-Api-Key"] = server.api_key
        self.key = server.api_key

    def ask(self, method: str, path: str, base: str = BASES[0], **options: Any) -> requests.Response:
        return self.session.request(method, f"{self.origin}{base}{path}", timeout=TIMEOUT, **options)


@pytest.fixture
def wire(server: Server) -> Wire:
    return Wire(server)


@pytest.fixture
def box(wire: Wire) -> Iterator[dict]:
    box = wire.ask("POST", "/boxes", json={"wait_for_ready": True, "timeout": 30}).json()
    yield box
    wire.ask("DELETE", f"/boxes/{box['id']}")


def exec_socket(box: dict, wire: Wire):
    url = box["dataplane_url"].replace("http://", "ws://") + "/execute/ws"
    return connect(url, additional_headers={"X-Api-Key": wire.key}, open_timeout=TIMEOUT)


def frames(socket) -> list[dict]:
    """All that comes until the server closes."""
    return [json.loads(message) for message in socket]


def run(box: dict, wire: Wire, *opening: dict | bytes) -> list[dict]:
    with exec_socket(box, wire) as socket:
        for frame in opening:
            socket.send(frame if isinstance(frame, bytes) else json.dumps(frame))
        said = frames(socket)
        assert socket.protocol.close_code == 1000
        return said


@pytest.mark.parametrize("base", BASES)
def test_every_base_has_the_same_control_plane(wire, box, base):
    assert wire.ask("GET", f"/boxes/{box['name']}", base).json()["id"] == box["id"]
    assert wire.ask("GET", "/registries", base).status_code == 501


def test_codes_are_those_of_the_official_server(wire):
    made = wire.ask("POST", "/boxes", json={"wait_for_ready": True, "timeout": 30})
    name = made.json()["name"]
    codes = [made.status_code, wire.ask("GET", f"/boxes/{name}").status_code]
    codes += [wire.ask("GET", f"/boxes/{name}/status").status_code, wire.ask("DELETE", f"/boxes/{name}").status_code]
    assert codes == [201, 200, 200, 204]


def test_codes_of_stop_and_start(wire, box):
    # With a body and without one, as either client has it.
    for body in ({}, {"json": {}}):
        assert wire.ask("POST", f"/boxes/{box['name']}/stop", **body).status_code == 204
        assert wire.ask("POST", f"/boxes/{box['name']}/start", **body).status_code == 202
        while wire.ask("GET", f"/boxes/{box['name']}/status").json()["status"] != "ready":
            pass


def test_a_name_is_decoded_before_it_is_looked_at(wire, box):
    escaped = "".join(f"%{byte:02X}" for byte in box["name"].encode())
    assert wire.ask("GET", f"/boxes/{escaped}").json()["id"] == box["id"]
    assert wire.ask("GET", "/boxes/no%2Fbody").status_code == 404


def test_lists_have_both_shapes(wire, box):
    listed = wire.ask("GET", "/boxes").json()
    assert listed["items"] == listed["sandboxes"]
    assert box["id"] in [item["id"] for item in listed["items"]]
    assert {"next_cursor", "offset"} <= listed.keys()


def test_errors_have_the_standard_form(wire):
    answer = wire.ask("GET", "/boxes/nobody")
    assert answer.status_code == 404
    assert answer.json()["detail"].keys() >= {"error", "message"}
    assert "nobody" in answer.json()["detail"]["message"]


def test_validation_errors_have_the_list_form(wire):
    answer = wire.ask("POST", "/boxes", json={"name": "Not A Valid Name!"})
    (item,) = answer.json()["detail"]
    assert (answer.status_code, item["loc"][-1], item["type"]) == (422, "name", "value_error")
    assert item["msg"]


def test_what_is_no_whole_number_is_refused_by_name(wire):
    answer = wire.ask("POST", "/boxes", json={"idle_ttl_seconds": 60.5})
    assert (answer.status_code, answer.json()["detail"][0]["loc"][-1]) == (422, "idle_ttl_seconds")


@pytest.mark.parametrize("body", [b"{", b"[]", b"7", b"\xff", b"[" * 100_000])
def test_what_is_no_request_is_refused_in_words(wire, body):
    answer = wire.ask("POST", "/boxes", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 413, 415, 422)
    assert answer.json()["detail"]


def test_http_execute(wire, box):
    url = box["dataplane_url"] + "/execute"
    body = {"command": 'echo "$A $PWD"; echo err >&2; exit 3', "timeout": 30, "shell": "/bin/sh", "env": {"A": "a"}, "cwd": "/tmp"}
    answer = wire.session.post(url, json=body, timeout=TIMEOUT)
    assert answer.status_code == 200
    assert answer.json() | {"stdout": "a /tmp\n", "stderr": "err\n", "exit_code": 3} == answer.json()
    answer = wire.session.post(url, json={"command": "sleep 60", "timeout": 1}, timeout=TIMEOUT)
    assert answer.status_code >= 400
    assert answer.json()["detail"]["error"] in ("CommandError", "CommandTimeout")


def test_the_oldest_clients_say_hardly_anything(wire, box):
    said = run(box, wire, {"type": "execute", "command": "echo out", "timeout": 30})
    assert [frame["type"] for frame in said] == ["started", "stdout", "exit"]
    assert said[0]["command_id"] and said[0]["pid"] > 0
    assert (said[1]["data"], said[1]["offset"], said[2]["exit_code"]) == ("out\n", 0, 0)


def test_the_oldest_name_of_the_time_limit_is_taken_too(wire, box):
    said = run(box, wire, {"type": "execute", "command": "sleep 60", "timeout": 1})
    assert (said[-1]["type"], said[-1]["error_type"]) == ("error", "CommandTimeout")


def test_binary_messages_are_frames_too(wire, box):
    said = run(box, wire, json.dumps({"type": "execute", "command": "echo out", "close_stdin": True}).encode())
    assert said[-1] | {"type": "exit", "exit_code": 0} == said[-1]


def test_a_command_is_started_once_however_often_it_is_asked_for(wire, box):
    opening = {"type": "execute", "command": "echo $$", "command_id": uuid.uuid4().hex, "close_stdin": True}
    first, second = run(box, wire, opening), run(box, wire, opening)
    assert first == second
    assert first[0]["command_id"] == opening["command_id"]


def test_control_frames_and_unknown_ones_after_the_end_change_nothing(wire, box):
    with exec_socket(box, wire) as socket:
        socket.send(json.dumps({"type": "execute", "command": "cat", "command_id": "c1"}))
        for frame in ({"type": "input", "data": "x"}, {"type": "close_stdin"}, {"type": "close_stdin"}):
            socket.send(json.dumps(frame))
        assert frames(socket)[-1] == {"type": "exit", "exit_code": 0}


def test_frames_are_far_below_a_mebibyte(wire, box):
    with exec_socket(box, wire) as socket:
        command = "head -c 4000000 /dev/zero | tr '\\0' '\\1'"
        socket.send(json.dumps({"type": "execute", "command": command, "close_stdin": True}))
        sizes = [len(message) for message in socket]
    assert max(sizes) < 512 * 1024


def test_offsets_count_the_bytes_of_what_was_sent(wire, box):
    said = run(box, wire, {"type": "execute", "command": r"printf '\xff'; sleep 0.2; printf 'ż'; sleep 0.2; printf x"})
    at = 0
    for frame in said[1:-1]:
        assert frame["offset"] == at
        at += len(frame["data"].encode())
    assert "".join(frame["data"] for frame in said[1:-1]) == "\ufffdżx"


def test_an_unknown_session_is_an_error_frame_not_a_refused_upgrade(wire, box):
    said = run(box, wire, {"type": "reconnect", "command_id": "nobody", "stdout_offset": 0, "stderr_offset": 0})
    assert [(frame["type"], frame["error_type"]) for frame in said] == [("error", "CommandNotFound")]


def test_upgrades_are_refused_by_status(wire, box):
    url = box["dataplane_url"].replace("http://", "ws://") + "/execute/ws"
    with pytest.raises(InvalidStatus) as failure:
        connect(url, additional_headers={"X-Api-Key": "wrong"})
    assert failure.value.response.status_code in (401, 403)
    with pytest.raises(InvalidStatus) as failure:
        connect(url.replace(box["id"], str(uuid.uuid4())), additional_headers={"X-Api-Key": wire.key})
    assert failure.value.response.status_code == 404


def events(answer: requests.Response) -> Iterator[tuple[str, dict]]:
    name = ""
    for line in answer.iter_lines(chunk_size=65_536, decode_unicode=True):
        field, _, value = line.partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            yield name, json.loads(value)


def sse(box: dict, wire: Wire, call: str, **body: Any) -> requests.Response:
    return wire.session.post(f"{box['dataplane_url']}/execute/stream/{call}", json=body, stream=True, timeout=TIMEOUT)


def test_server_sent_events(wire, box):
    command_id = uuid.uuid4().hex
    command = r"printf 'a\xff'; printf err >&2; exit 3"
    start = {"command": command, "command_id": command_id, "shell": "/bin/bash", "timeout_seconds": 60}
    said = list(events(sse(box, wire, "start", **start, idle_timeout_seconds=300, ttl_seconds=600)))
    assert said[0][0] == "started"
    assert said[0][1]["command_id"] == command_id
    output = {kind: b"".join(base64.b64decode(data["data"]) for name, data in said if name == kind) for kind in ("stdout", "stderr")}
    assert output == {"stdout": b"a\xff", "stderr": b"err"}
    ends = {data["stream"]: data["offset"] for name, data in said if name == "stream_end"}
    assert ends == {"stdout": 2, "stderr": 3}
    assert said[-1] == ("exit", said[-1][1] | {"exit_code": 3})
    again = list(events(sse(box, wire, "resume", command_id=command_id, stdout_offset=1, stderr_offset=3)))
    assert again[0][0] == "started"
    assert [(name, data) for name, data in again if name in ("stdout", "stderr")] == [
        ("stdout", {"data": base64.b64encode(b"\xff").decode(), "offset": 1})
    ]


def test_a_reader_of_events_is_asked_to_acknowledge(wire, box):
    total = 12 * 1024 * 1024
    command_id = uuid.uuid4().hex
    answer = sse(box, wire, "start", command=f"head -c {total} /dev/zero", command_id=command_id, timeout_seconds=60)
    got, asked = 0, 0
    while True:
        last = None
        for last, data in events(answer):
            if last == "stdout":
                assert data["offset"] == got
                got += len(base64.b64decode(data["data"]))
        if last == "exit":
            break
        assert last == "ack_required"
        asked += 1
        answer = sse(box, wire, "resume", command_id=command_id, stdout_offset=got, stderr_offset=0)
    assert (got, asked > 0) == (total, True)


def test_events_of_an_unknown_command(wire, box):
    answer = sse(box, wire, "resume", command_id="nobody", stdout_offset=0, stderr_offset=0)
    assert answer.status_code == 404


def test_the_server_describes_itself(wire):
    described = requests.get(f"{wire.origin}/openapi.json", timeout=TIMEOUT).json()
    assert described["openapi"].startswith("3.")
    assert any(path.endswith("/boxes/{name}") for path in described["paths"])


@pytest.mark.parametrize(
    "path", ["/snapshots", "/snapshots/python:3.12", "/snapshots/a%2Fb%3Av1", "/registries/x", "/volumes", "/templates/x", "/pools", "/usage/costs"]
)
def test_what_is_not_there_yet_says_so_by_name(wire, path):
    answer = wire.ask("GET", path)
    assert (answer.status_code, answer.json()["detail"]["error"]) == (501, "NotSupported")
