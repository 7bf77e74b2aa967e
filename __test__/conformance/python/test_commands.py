"""Commands over both transports: results, callbacks, iteration, configuration, timeouts, reconnecting."""

import pytest
from conftest import done, each
from langsmith.sandbox import CommandTimeoutError, SandboxOperationError

pytestmark = pytest.mark.anyio

NUMBERS = "".join(f"{i}\n" for i in range(1, 2001))


async def start(sandbox, command, **options):
    return await done(sandbox.run(command, wait=False, **options))


async def result_of(handle):
    return await done(handle.result)


async def test_the_result_has_both_streams_and_the_exit_code(sandbox, transport):
    result = await done(sandbox.run("echo out; echo err >&2; exit 3"))
    assert (result.stdout, result.stderr, result.exit_code, result.success) == ("out\n", "err\n", 3, False)


async def test_a_missing_command_is_exit_code_127_and_no_exception(sandbox, transport):
    assert (await done(sandbox.run("no-such-program"))).exit_code == 127


async def test_a_signal_is_an_exit_code_above_128(sandbox, transport):
    assert (await done(sandbox.run("kill -TERM $$"))).exit_code == 128 + 15


async def test_environment_directory_and_shell_are_honoured(sandbox, transport):
    command = 'echo "$GREETING from $PWD"; echo $0'
    result = await done(sandbox.run(command, env={"GREETING": "hello"}, cwd="/tmp", shell="/bin/sh"))
    assert result.stdout == "hello from /tmp\n/bin/sh\n"


async def test_a_run_configuration_names_user_directory_and_environment(sandbox, transport):
    config = {"user": "65534", "work_dir": "/tmp", "env_vars": {"GREETING": "hello"}}
    result = await done(sandbox.run('echo "$(id -u) $PWD $GREETING"', run_config=config))
    assert result.stdout == "65534 /tmp hello\n"


async def test_input_is_closed_unless_asked_otherwise(sandbox, transport):
    assert (await done(sandbox.run("cat; echo end", timeout=30))).stdout == "end\n"


async def test_callbacks_get_every_byte_of_their_stream(sandbox, transport):
    out, err = [], []
    command = "seq 1 2000; seq 1 500 >&2"
    result = await done(sandbox.run(command, on_stdout=out.append, on_stderr=err.append))
    assert result.exit_code == 0
    assert "".join(out) == result.stdout == NUMBERS
    assert "".join(err) == "".join(f"{i}\n" for i in range(1, 501))


async def test_a_handle_yields_chunks_while_the_command_runs(sandbox, transport):
    # It goes on only after the first chunk was seen: a server that collects output until the end would hang here.
    command = "echo first; until [ -e /tmp/go ]; do sleep 0.01; done; echo second"
    handle = await start(sandbox, command, timeout=30)
    seen = []
    async for chunk in each(handle):
        seen.append(chunk)
        if len(seen) == 1:
            await done(sandbox.write("/tmp/go", ""))
    assert [(chunk.stream, chunk.data) for chunk in seen] == [("stdout", "first\n"), ("stdout", "second\n")]
    assert [chunk.offset for chunk in seen] == [0, len("first\n")]
    assert (await result_of(handle)).exit_code == 0


async def test_a_handle_knows_its_command_process_and_offsets(sandbox, transport):
    handle = await start(sandbox, "printf 12345; printf abc >&2")
    result = await result_of(handle)
    assert handle.command_id
    assert handle.pid > 0
    assert (result.stdout, result.stderr) == ("12345", "abc")
    assert (handle.last_stdout_offset, handle.last_stderr_offset) == (5, 3)


async def test_characters_of_several_bytes_survive_wherever_they_are_cut(sandbox, transport):
    line = "zażółć gęślą 日本語 🦀"
    result = await done(sandbox.run(f"for i in $(seq 3000); do echo '{line}'; done"))
    assert result.stdout == f"{line}\n" * 3000


async def test_bytes_that_are_no_text_become_replacement_characters(sandbox, transport):
    result = await done(sandbox.run(r"printf 'a\xffb'"))
    assert result.stdout == "a\ufffdb"


async def test_ten_megabytes_arrive_whole(sandbox, transport):
    result = await done(sandbox.run("head -c 10000000 /dev/zero | tr '\\0' x"))
    assert len(result.stdout) == 10_000_000
    assert set(result.stdout) == {"x"}


async def test_control_characters_stay_below_the_size_that_this_client_takes(sandbox, transport):
    # Six bytes each in JSON: frames that were measured before escaping would be over its limit of a mebibyte.
    result = await done(sandbox.run("head -c 3000000 /dev/zero | tr '\\0' '\\1'"))
    assert len(result.stdout) == 3_000_000
    assert set(result.stdout) == {"\x01"}


async def test_a_command_past_its_limit_is_a_timeout(sandbox, transport):
    with pytest.raises(CommandTimeoutError) as failure:
        await done(sandbox.run("sleep 60", timeout=1))
    assert (failure.value.operation, failure.value.error_type) == ("command", "CommandTimeout")


async def test_a_timeout_is_told_again_to_who_reconnects(sandbox, transport):
    handle = await start(sandbox, "echo before; sleep 60", timeout=1)
    for attached in (handle, await done(sandbox.reconnect(handle.command_id))):
        with pytest.raises(CommandTimeoutError):
            await result_of(attached)


async def test_a_finished_command_is_replayed(sandbox, transport):
    handle = await start(sandbox, "seq 1 2000; echo err >&2")
    await result_of(handle)
    again = await result_of(await done(sandbox.reconnect(handle.command_id)))
    assert (again.stdout, again.stderr, again.exit_code) == (NUMBERS, "err\n", 0)
    tail = await done(sandbox.reconnect(handle.command_id, stdout_offset=1000, stderr_offset=2))
    result = await result_of(tail)
    assert (result.stdout, result.stderr) == (NUMBERS[1000:], "r\n")


async def test_a_handle_reconnects_from_where_it_is(sandbox, transport):
    handle = await start(sandbox, "echo before; until [ -e /tmp/go ]; do sleep 0.01; done; echo after", timeout=30)
    async for chunk in each(handle):
        assert chunk.data == "before\n"
        break
    other = await done(handle.reconnect())
    await done(sandbox.write("/tmp/go", ""))
    assert (await result_of(other)).stdout == "after\n"


async def test_two_handles_of_a_running_command_both_get_everything(sandbox, transport):
    handle = await start(sandbox, "echo before; until [ -e /tmp/go ]; do sleep 0.01; done; echo after", timeout=30)
    other = await done(sandbox.reconnect(handle.command_id))
    await done(sandbox.write("/tmp/go", ""))
    for result in (await result_of(handle), await result_of(other)):
        assert (result.stdout, result.exit_code) == ("before\nafter\n", 0)


async def test_an_unknown_command_can_not_be_reconnected_to(sandbox, transport):
    with pytest.raises(SandboxOperationError) as failure:
        await result_of(await done(sandbox.reconnect("00000000000070008000000000000000")))
    assert (failure.value.operation, failure.value.error_type) == ("reconnect", "CommandNotFound")


async def test_the_session_of_a_finished_command_expires(sandbox, transport):
    handle = await start(sandbox, "echo over", ttl_seconds=0)
    await result_of(handle)
    # The end of a session is an event of the server that nothing tells a client of; asking is how it is seen.
    with pytest.raises(SandboxOperationError) as failure:
        while True:
            await result_of(await done(sandbox.reconnect(handle.command_id)))
    assert (failure.value.operation, failure.value.error_type) == ("reconnect", "SessionExpired")


async def test_what_a_command_left_running_lives_on(sandbox, transport):
    await done(sandbox.run("setsid sleep 1000 >/dev/null 2>&1 & echo $! > /tmp/pid"))
    assert (await done(sandbox.run("kill -0 $(cat /tmp/pid)"))).success


async def test_callbacks_can_not_be_combined_with_not_waiting(sandbox):
    with pytest.raises(ValueError):
        await start(sandbox, "true", on_stdout=print)
