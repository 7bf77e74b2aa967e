//! Every wait, buffer, count and size that client and server agree on, each with its reason.

use std::time::Duration;

/// Output bytes in one exec frame. Python's WebSocket library refuses messages over 1 MiB and a control byte
/// costs six bytes in JSON, so 64 KiB stays under 400 KiB whatever the output is (section 5.4.8).
pub const FRAME_OUTPUT_MAX: usize = 64 * 1024;

/// Largest message the server accepts on an exec socket: a command with its environment, or input.
pub const EXEC_MESSAGE_MAX: usize = 4 * 1024 * 1024;

/// Largest message on an exec socket that is read at all, so that its sender can be told by an error frame that it is
/// too large; beyond it the connection breaks.
pub const EXEC_MESSAGE_READ_MAX: usize = 4 * EXEC_MESSAGE_MAX;

/// Retained output per stream of a command, for replay.
pub const RING_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// How long a reader may take nothing before it no longer holds the command back, and how long a command
/// without any reader is held back once its ring buffer is full.
pub const SLOW_READER_GRACE: Duration = Duration::from_secs(30);

/// Silence after the main process's death that ends a command whose pipes somebody else still holds open.
pub const DRAIN_QUIET: Duration = Duration::from_millis(100);

/// Interval of the server's WebSocket pings; proxies commonly cut at 60 s of silence.
pub const PING_INTERVAL: Duration = Duration::from_secs(20);

/// A socket on which nothing arrived for this long, pongs included, is dead.
pub const PONG_DEADLINE: Duration = Duration::from_secs(60);

/// Default limit of a command, seconds (section 5.4.2).
pub const COMMAND_TIMEOUT_DEFAULT: u64 = 60;

/// Default time that a running command survives without a client, seconds (section 7.1).
pub const IDLE_TIMEOUT_DEFAULT: i64 = 300;

/// Default time that a finished command can be reconnected to, seconds (section 7.1).
pub const SESSION_TTL_DEFAULT: i64 = 600;

/// Longest time that a command's settings can mean, seconds: ten years. More is taken as this; instants far beyond it
/// can't be computed with.
pub const COMMAND_SECONDS_MAX: u64 = 10 * 365 * 24 * 3600;

/// What the client waits beyond a command's own limit for the answer, seconds (section 5.2).
pub const COMMAND_GRACE: Duration = Duration::from_secs(10);

/// Stdin bytes that may wait for a command that does not read them. Up to here the socket is read on, so that a
/// kill behind input is seen at once; beyond it the sender is held back.
pub const STDIN_BUFFER_MAX: usize = 4 * 1024 * 1024;

/// How long a command with a full stdin queue may read nothing of it before its writer is refused by an error frame:
/// a kill behind more input than that can't be seen, and must not wait for ever. A slow command that does read is
/// never refused.
pub const STDIN_STALL: Duration = Duration::from_secs(60);

/// Input that a client of the extension sends ahead of what the server has taken, bytes. Below [`STDIN_BUFFER_MAX`], so
/// that its socket is always read on and a kill never waits behind input.
pub const STDIN_WINDOW: usize = 1024 * 1024;

/// Output after which a client of the extension acknowledges, bytes: small against what a command may run ahead of the
/// last acknowledgement, which is the ring buffer without [`ACKED_REPLAY_BYTES`].
pub const OUTPUT_ACK_BYTES: u64 = 256 * 1024;

/// What stays replayable behind the last acknowledgement, bytes. A client acknowledges what arrived, not what its program
/// took: that may be its queue and two batches behind, and a program goes on from there when it reconnects by hand.
pub const ACKED_REPLAY_BYTES: usize = RING_BUFFER_BYTES / 2;

/// Output that one response of server-sent events brings before it has to be acknowledged, bytes of both streams: what is
/// not acknowledged has to be kept, and [`ACKED_REPLAY_BYTES`] of one stream behind it.
pub const SSE_UNACKNOWLEDGED_MAX: usize = RING_BUFFER_BYTES / 4;

/// Longest name of a writer, bytes; ours are 36.
pub const WRITER_MAX: usize = 64;

/// Live and remembered commands of one sandbox.
pub const COMMANDS_MAX: usize = 4096;

/// What lists show of a command's text, bytes: enough to know it by.
pub const COMMAND_SHOWN_MAX: usize = 1024;

/// Default page of a list of commands.
pub const COMMANDS_PAGE_DEFAULT: usize = 100;

/// Longest sandbox name.
pub const NAME_MAX: usize = 128;

/// JSON body of a control-plane request.
pub const CONTROL_BODY_MAX: usize = 1024 * 1024;

/// What is read of a body that no handler has read, so that its client gets to the answer: more than any file that people
/// write in one go, and nothing is kept of it.
pub const LEFTOVER_BODY_MAX: usize = 256 * 1024 * 1024;

/// How long that may take: a client on this machine or near it has sent it by then.
pub const LEFTOVER_BODY_WAIT: Duration = Duration::from_secs(5);

/// What stays replayable behind a stream's slowest live reader, bytes: what was written to a socket may still be
/// lost with it. The rest of the ring buffer is how far a command may run ahead of that reader.
pub const RING_REPLAY_BYTES: usize = RING_BUFFER_BYTES / 4 * 3;

/// Longest drain after the main process's death while others keep writing to its pipes: a server left in the
/// background that logs without a pause must not keep its command from ending.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Wait for the last output of a command whose sandbox is gone. There is little in its pipes, and where a full ring
/// buffer holds that back, nobody can come back for it.
pub const ORPHAN_DRAIN: Duration = Duration::from_secs(1);

/// Wait for the exit report of a killed command. Only a process stuck in the kernel takes longer, or an `init` that
/// does not do its work: the sandbox fails.
pub const KILL_GRACE: Duration = Duration::from_secs(10);

/// Wait for the answer to the start of a command. An `init` that has none by then is beyond help, and its sandbox fails.
pub const START_DEADLINE: Duration = Duration::from_secs(15);

/// Attachments of one command at a time.
pub const ATTACHMENTS_MAX: usize = 64;

/// Longest command id, bytes; the clients' are 36.
pub const COMMAND_ID_MAX: usize = 128;

/// Ids of expired commands that a sandbox remembers, to tell `SessionExpired` from `CommandNotFound`.
pub const EXPIRED_COMMANDS_MAX: usize = 16 * 1024;

/// Output of ended commands that a sandbox keeps for replay, bytes; beyond it the oldest expire early.
pub const ENDED_OUTPUT_MAX: usize = 64 * 1024 * 1024;

/// How often expired commands are looked for; look-ups by id are exact whatever this is.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Wait for the first frame of an exec socket.
pub const OPENING_DEADLINE: Duration = Duration::from_secs(30);

/// Control frames remembered before the opening frame (section 5.4.9 needs one).
pub const EARLY_FRAMES_MAX: usize = 16;

/// Wait for the other side of a closing handshake. Clients that closed already never answer.
pub const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Output per stream that `POST /execute` collects in memory, bytes; the sockets have no such limit.
pub const EXECUTE_OUTPUT_MAX: usize = 8 * 1024 * 1024;

/// Calls of `POST /execute` that run at the same time, as each may collect that much of two streams; more wait for
/// their turn.
pub const EXECUTES_AT_ONCE: usize = 64;

/// Those of one sandbox, so that commands which do not end keep no other sandbox waiting.
pub const EXECUTES_OF_SANDBOX: usize = EXECUTES_AT_ONCE / 4;

/// How long such a call waits for its turn before it is refused, with nothing run: half of what a command may take by
/// default, so that a burst of usual ones gets through.
pub const EXECUTE_WAIT: Duration = Duration::from_secs(COMMAND_TIMEOUT_DEFAULT / 2);

/// Bytes that one blocking read or write of a file moves: large enough to hide the hop to another thread.
pub const FILE_CHUNK: usize = 256 * 1024;

/// What a file that does not know its size, as those of procfs, may give, bytes: it is read into memory.
pub const UNSIZED_FILE_MAX: usize = 16 * 1024 * 1024;

/// Longest path of a file call, bytes: the kernel's `PATH_MAX`.
pub const FILE_PATH_MAX: usize = 4096;

/// Wait for a port inside a sandbox to take a connection. Loopback answers at once; only a listener whose queue is full
/// lets one wait.
pub const PORT_CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Connections to ports of one sandbox at a time; more are refused until one ends. A browser opens six for each page.
pub const PORT_CONNECTIONS_MAX: usize = 256;

/// Wait for the first byte of an answer from a port; a program that computes for longer should stream.
pub const PORT_ANSWER_DEADLINE: Duration = Duration::from_secs(300);

/// What is read at once from a port, bytes, and so its longest head: a program that sends heads without an end keeps a
/// thread of the server for as long as it takes to read some of these.
pub const PORT_READ_MAX: usize = 64 * 1024;

/// Default lifetime of a service URL's token, seconds (section 8.7).
pub const SERVICE_TOKEN_DEFAULT: u64 = 600;

/// Longest lifetime of a service URL's token, seconds (section 8.7).
pub const SERVICE_TOKEN_MAX: u64 = 86_400;

/// Origins that may embed a service (section 8.7).
pub const EMBED_ORIGINS_MAX: usize = 5;

/// One-time links of services that are remembered as spent. Beyond it links are refused until the oldest expire.
pub const SPENT_LINKS_MAX: usize = 16 * 1024;

/// Longest lifetime of a download link that has one, seconds: ten years. One without never expires (section 8.6).
pub const DOWNLOAD_LINK_MAX: u64 = 10 * 365 * 24 * 3600;

/// Longest signed token, bytes: a path of the largest size in JSON, where a control character takes six bytes, and in
/// base64, with room for headers; and under the 64 KiB of a URL that HTTP libraries take.
pub const TOKEN_MAX: usize = 48 * 1024;

/// Longest header value that a download link may pin, bytes.
pub const LINK_HEADER_MAX: usize = 256;

/// Workers of one sandbox at a time, each a process in it; more wait for their turn.
pub const WORKERS_MAX: usize = 8;

/// Those of them that archives may have: a caller may take as long for one as it likes, and all else would wait.
pub const ARCHIVE_WORKERS_MAX: usize = 4;

/// How long work waits for its turn: with a search after it, less than clients wait (section 5.3).
pub const WORKER_TURN: Duration = Duration::from_secs(20);

/// Time for a search, a list or attributes; a search then answers with what it has. Half of what clients wait (section
/// 5.3).
pub const SEARCH_DEADLINE: Duration = Duration::from_secs(30);

/// What a search reports if nobody says how much.
pub const SEARCH_LIMIT_DEFAULT: usize = 10_000;

/// Entries of a directory that a page has if nobody says how many.
pub const LIST_PAGE_DEFAULT: usize = 1000;

/// What a search or a page of a directory reports at most.
pub const SEARCH_LIMIT_MAX: usize = 100_000;

/// What a worker reports of one search or one page of a directory, bytes: it is kept in memory until it is over, and its
/// answer is about as large.
pub const SEARCH_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Longest text that is searched for, bytes.
pub const GREP_PATTERN_MAX: usize = 4096;

/// Paths of one call for attributes.
pub const STAT_PATHS_MAX: usize = 1000;

/// Time for a directory to be made, a path to be renamed, a tree to be removed: millions of files.
pub const WORK_DEADLINE: Duration = Duration::from_secs(600);

/// Time for an archive, which only its size and the network bound. What stalls ends by [`ARCHIVE_STALL`].
pub const ARCHIVE_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// How long an archive may not move on: hostile code can stop the worker, and a client may take nothing of what it asked
/// for.
pub const ARCHIVE_STALL: Duration = Duration::from_secs(60);

/// Size of the pipe that carries an archive, bytes: the most that the kernel gives to everybody.
pub const ARCHIVE_PIPE_BYTES: usize = 1024 * 1024;

/// What a worker may be late with its last word.
pub const WORK_GRACE: Duration = Duration::from_secs(2);

/// Sandboxes of one server.
pub const SANDBOXES_MAX: usize = 4096;

/// Sandboxes made at the same time. More only wait for each other inside the kernel.
pub const CREATES_AT_ONCE: usize = 4;

/// Processes and threads of a sandbox, where the limit can be kept: stops a fork bomb, and is beyond what builds
/// and browsers use.
pub const PIDS_DEFAULT: u64 = 1024;

/// Smallest memory limit of a sandbox, bytes: below it not even a shell starts.
pub const MEMORY_MIN: u64 = 16 * 1024 * 1024;

/// Default wait of a create that waits, seconds (section 2.3).
pub const CREATE_WAIT_DEFAULT: u64 = 30;

/// Longest wait of a create, seconds.
pub const CREATE_WAIT_MAX: u64 = 3600;

/// Wait of a data-plane request for a sandbox that is still being made.
pub const READY_WAIT: Duration = Duration::from_secs(20);

/// Wait for open connections when the server ends, before sandboxes are destroyed under them.
pub const SHUTDOWN_DRAIN: Duration = Duration::from_secs(5);

/// Longest such wait that can be configured: beyond an hour an operator meant something else.
pub const SHUTDOWN_DRAIN_MAX: Duration = Duration::from_secs(3600);

/// Wait of a client for a server that is being restarted.
pub const RETRY_AFTER_DRAIN: Duration = Duration::from_secs(5);

/// Connections of a server at a time; more wait to be accepted. Every sandbox can have several, and each costs a
/// descriptor, of which servers commonly have half a million.
pub const CONNECTIONS_MAX: usize = 16 * 1024;

/// Connections get one of so many descriptors, where that is fewer: a running command takes three and its socket one, and
/// whoever only connects must not take those of the commands.
pub const CONNECTIONS_SHARE: u64 = 4;

/// How long a client may take nothing of what is written to it before its connection breaks: as long as an exec socket
/// may be silent. One that takes something, however slowly, is waited for.
pub const WRITE_STALL: Duration = PONG_DEADLINE;

/// Silence after which a connection's peer is asked whether it is still there, which only its machine's end or a broken
/// network leaves unanswered: as WebSockets do it themselves, for protocols that do not.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// Pause between such questions.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Questions without an answer after which the connection breaks: a minute, as the network may come back.
pub const KEEPALIVE_PROBES: u32 = 6;

/// Time from the opening of a connection, or the end of its last answer, to the end of the next request's head. Covers
/// idle connections too, so it is well above [`POOL_IDLE`]; proxies commonly keep theirs for 60 s.
pub const HEADER_DEADLINE: Duration = Duration::from_secs(75);

/// How long the client keeps an idle connection for its next call.
pub const POOL_IDLE: Duration = Duration::from_secs(30);

/// Pause after a connection could not be accepted, which is for want of descriptors: they come back by themselves.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Open files that a server should be allowed: a thousand sandboxes with a few commands each.
pub const OPEN_FILES_WANTED: u64 = 16 * 1024;

/// Free space below which sandboxes soon fail to write, bytes.
pub const FREE_SPACE_WANTED: u64 = 1 << 30;

/// Wait of `sandwired doctor` for each step of a running server's answer.
pub const DOCTOR_DEADLINE: Duration = Duration::from_secs(5);

/// How often a server looks whether something is left in its trash; usually there is nothing.
pub const TRASH_INTERVAL: Duration = Duration::from_secs(600);

/// Longest request id that is taken from a client, bytes.
pub const REQUEST_ID_MAX: usize = 128;

/// Longest time to live of a sandbox, seconds: ten years. Longer is for ever, which is 0.
pub const TTL_SECONDS_MAX: u64 = 10 * 365 * 24 * 3600;

/// Default idle time after which a sandbox is stopped, seconds (section 7.2).
pub const IDLE_TTL_DEFAULT: u64 = 600;

/// Default time from a sandbox's stop to its deletion, seconds: 14 days (section 7.2).
pub const DELETE_AFTER_STOP_DEFAULT: u64 = 14 * 24 * 3600;

/// Labels of a sandbox, and the longest key or value of one, bytes: they are notes, not storage.
pub const LABELS_MAX: usize = 64;
/// See [`LABELS_MAX`].
pub const LABEL_TEXT_MAX: usize = 256;

/// Silence after which a stream of server-sent events says that it lives (section 5.5).
pub const SSE_HEARTBEAT: Duration = Duration::from_secs(15);

/// Events of sandboxes that are kept for watchers who were away.
pub const EVENTS_KEPT: usize = 4096;

/// Changes that the database commits together: a bound on how long the first of them waits for the last.
pub const STORE_BATCH_MAX: usize = 256;

/// Largest page that a request may name (section 2.9 has it for snapshots).
pub const PAGE_MAX: usize = 500;

/// Filters of one kind in a request.
pub const FILTERS_MAX: usize = 32;

/// Time to remove the files of deleted sandboxes when the server ends; what is left goes at the next start.
pub const REMOVAL_GRACE: Duration = Duration::from_secs(5);

/// The same for a server that is to leave nothing behind.
pub const REMOVAL_GRACE_EPHEMERAL: Duration = Duration::from_secs(60);
