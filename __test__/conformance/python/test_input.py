"""What needs a connection in both directions, so the WebSocket: input, pseudo-terminals, kill, leaving."""

import pytest
from conftest import done, each
from langsmith.sandbox import SandboxConnectionError, SandboxOperationError

pytestmark = pytest.mark.anyio


async def start(sandbox, command, **options):
    return await done(sandbox.run(command, wait=False, timeout=30, **options))


async def test_input_reaches_the_command(sandbox):
    handle = await start(sandbox, "echo ready; read line; echo got $line", close_input=False)
    async for chunk in each(handle):
        if chunk.data == "ready\n":
            await done(handle.send_input("zażółć\n"))
    assert (await done(handle.result)).stdout == "ready\ngot zażółć\n"


async def test_closed_input_is_end_of_file(sandbox):
    handle = await start(sandbox, "cat; echo done", close_input=False)
    await done(handle.send_input("one\ntwo\n"))
    await done(handle.close_input())
    assert (await done(handle.result)).stdout == "one\ntwo\ndone\n"


async def test_large_input_arrives_whole(sandbox):
    handle = await start(sandbox, "wc -c", close_input=False)
    for _ in range(64):
        await done(handle.send_input("x" * 65_536))
    await done(handle.close_input())
    assert (await done(handle.result)).stdout.strip() == str(64 * 65_536)


async def test_input_that_was_closed_at_the_start_takes_nothing(sandbox):
    handle = await start(sandbox, "cat")
    with pytest.raises(SandboxOperationError):
        await done(handle.send_input("late"))
    assert (await done(handle.result)).stdout == ""


async def test_who_joins_can_close_the_input(sandbox):
    # This client sends what was asked for before the reconnect frame itself, which a server must bear.
    handle = await start(sandbox, "cat; echo done", close_input=False)
    other = await done(sandbox.reconnect(handle.command_id))
    await done(other.close_input())
    assert (await done(other.result)).stdout == "done\n"


async def test_a_pseudo_terminal_merges_the_streams(sandbox):
    result = await done(sandbox.run("test -t 0 && test -t 1 && test -t 2 && echo terminal; echo err >&2", pty=True))
    assert result.stdout.replace("\r\n", "\n") == "terminal\nerr\n"
    assert (result.stderr, result.exit_code) == ("", 0)


async def test_a_pseudo_terminal_takes_input_and_its_end(sandbox):
    handle = await start(sandbox, "stty -echo; echo ready; cat; echo done", pty=True)
    async for chunk in each(handle):
        if "ready" in chunk.data:
            await done(handle.send_input("line\n\x04"))
    assert (await done(handle.result)).stdout.replace("\r\n", "\n") == "ready\nline\ndone\n"


async def test_control_c_interrupts_what_runs_in_the_terminal(sandbox):
    handle = await start(sandbox, "echo ready; exec sleep 1000", pty=True)
    async for chunk in each(handle):
        if "ready" in chunk.data:
            await done(handle.send_input("\x03"))
    assert (await done(handle.result)).exit_code == 128 + 2


async def test_kill_ends_the_command_and_its_children(sandbox, flavour):
    handle = await start(sandbox, "sleep 1000 & echo started; wait")
    async for chunk in each(handle):
        if "started" in chunk.data:
            break
    await done(handle.kill())
    # This client hangs up right after it said so; whether it still hears of the end is a race of its own.
    try:
        assert (await done(handle.result)).exit_code != 0
    except SandboxConnectionError:
        pass
    again = await done(sandbox.reconnect(handle.command_id))
    assert (await done(again.result)).exit_code == 128 + 9
    assert (await done(sandbox.run("grep -lx sleep /proc/[0-9]*/comm | wc -l"))).stdout.strip() == "0"


async def test_a_command_ends_with_its_last_client_if_asked_to(sandbox):
    command = "echo $$ > /tmp/pid; echo ready; sleep 1000"
    handle = await start(sandbox, command, kill_on_disconnect=True)
    other = await done(sandbox.reconnect(handle.command_id))
    for attached in (handle, other):
        async for _ in each(attached):
            break
    # The command has two clients, then one, then none.
    await hang_up(handle)
    await done(sandbox.run("kill -0 $(cat /tmp/pid)"))
    await hang_up(other)
    await done(sandbox.run("while kill -0 $(cat /tmp/pid) 2>/dev/null; do sleep 0.01; done"))


async def test_a_command_nobody_is_attached_to_ends_after_its_idle_time(sandbox):
    handle = await start(sandbox, "echo $$ > /tmp/pid; echo ready; sleep 1000", idle_timeout=1)
    async for _ in each(handle):
        break
    await hang_up(handle)
    await done(sandbox.run("while kill -0 $(cat /tmp/pid) 2>/dev/null; do sleep 0.01; done"))


async def hang_up(handle) -> None:
    """Leaves without a word, as a client does that is gone: this one's documented calls all end or keep the command."""
    stream = handle._stream
    await done(stream.aclose() if hasattr(stream, "aclose") else stream.close())
