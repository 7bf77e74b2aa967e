//! The system call filter of every sandbox.
//!
//! Calls that change the machine, reach into the kernel's inner life or make namespaces fail with `EPERM`; calls
//! newer than this list fail with `ENOSYS`, so that nothing is allowed merely because nobody knew it. Programs
//! take `ENOSYS` as an old kernel and fall back, which is why `clone3` gets it too: its flags are behind a
//! pointer that a filter can't follow, and libc then uses `clone`, whose flags are checked.
//!
//! The filter is a binary search over ranges of call numbers. The kernel runs it once per call number when it is
//! installed, so depth, not length, is what a new sandbox pays for.

use sandwire_init::wire::encode_bpf;

/// Highest call number known here: `mseal`, Linux 6.10, the same on every architecture.
const NEWEST: u32 = 462;

const NAMESPACE_FLAGS: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;
const NEW_TIME_FLAG: u32 = 0x80;

const FAMILIES: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
/// What terminals could do beyond being terminals: type for their user (TIOCSTI, TIOCLINUX), or run another line
/// discipline, which would load a rarely used part of the kernel (TIOCSETD).
const TERMINAL_ABUSE: &[u32] = &[0x5412, 0x541C, 0x5423];

const FORBIDDEN: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const FORBIDDEN_HERE: &[libc::c_long] = &[
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_modify_ldt,
    libc::SYS_sysfs,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS__sysctl,
];
#[cfg(target_arch = "aarch64")]
const FORBIDDEN_HERE: &[libc::c_long] = &[];

/// Calls that look absent rather than forbidden, because programs then use something older.
const ABSENT: &[libc::c_long] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    457,
    458,
];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const IF_ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

// Offsets in struct seccomp_data; arguments are 64 bits, little-endian, and only their low half is looked at.
const AT_NUMBER: u32 = 0;
const AT_ARCHITECTURE: u32 = 4;
const AT_FIRST_ARGUMENT: u32 = 16;
const AT_SECOND_ARGUMENT: u32 = 24;

/// One BPF instruction: operation, jump if true, jump if false, operand.
type Instruction = (u16, u8, u8, u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Allow,
    Fail(i32),
    Flags(u32),
    Socket,
    Ioctl,
    /// Only on the caller itself: ids inside are equal, so one could otherwise starve init of descriptors.
    Own,
}

/// The filter, packed for [`sandwire_init::wire::Setup::seccomp`].
pub(crate) fn program() -> Vec<u64> {
    instructions().into_iter().map(|(code, jt, jf, k)| encode_bpf(code, jt, jf, k)).collect()
}

fn instructions() -> Vec<Instruction> {
    let mut program = vec![
        (LOAD, 0, 0, AT_ARCHITECTURE),
        (IF_EQUAL, 1, 0, ARCHITECTURE),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, AT_NUMBER),
    ];
    program.extend(search(&ranges()));
    program
}

/// What is to happen from each call number on, in ascending order.
fn ranges() -> Vec<(u32, Action)> {
    let mut special: Vec<(u32, Action)> = Vec::new();
    let mut add = |calls: &[libc::c_long], action| {
        special.extend(calls.iter().filter_map(|call| Some((u32::try_from(*call).ok()?, action))));
    };
    add(FORBIDDEN, Action::Fail(libc::EPERM));
    add(FORBIDDEN_HERE, Action::Fail(libc::EPERM));
    add(ABSENT, Action::Fail(libc::ENOSYS));
    add(&[libc::SYS_clone], Action::Flags(NAMESPACE_FLAGS));
    add(&[libc::SYS_unshare], Action::Flags(NAMESPACE_FLAGS | NEW_TIME_FLAG));
    add(&[libc::SYS_socket], Action::Socket);
    add(&[libc::SYS_ioctl], Action::Ioctl);
    add(&[libc::SYS_prlimit64], Action::Own);
    special.sort_unstable_by_key(|(call, _)| *call);

    let mut ranges = vec![(0, Action::Allow)];
    for (call, action) in special {
        ranges.pop_if(|(start, _)| *start == call);
        if ranges.last().is_none_or(|(_, before)| *before != action) {
            ranges.push((call, action));
        }
        ranges.push((call + 1, Action::Allow));
    }
    ranges.push((NEWEST + 1, Action::Fail(libc::ENOSYS)));
    ranges
}

fn search(ranges: &[(u32, Action)]) -> Vec<Instruction> {
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let Some((pivot, action)) = right.first() else { return leaf(Action::Allow) };
    if left.is_empty() {
        return leaf(*action);
    }
    let (left, right) = (search(left), search(right));
    let mut program = match u8::try_from(left.len()) {
        Ok(skip) => vec![(IF_AT_LEAST, skip, 0, *pivot)],
        Err(_) => vec![(IF_AT_LEAST, 0, 1, *pivot), (JUMP, 0, 0, left.len() as u32)],
    };
    program.extend(left);
    program.extend(right);
    program
}

fn leaf(action: Action) -> Vec<Instruction> {
    match action {
        Action::Allow => vec![(RETURN, 0, 0, ALLOW)],
        Action::Fail(errno) => vec![(RETURN, 0, 0, failure(errno))],
        Action::Flags(forbidden) => vec![
            (LOAD, 0, 0, AT_FIRST_ARGUMENT),
            (IF_ANY_BIT, 0, 1, forbidden),
            (RETURN, 0, 0, failure(libc::EPERM)),
            (RETURN, 0, 0, ALLOW),
        ],
        Action::Socket => {
            let families: Vec<u32> = FAMILIES.iter().map(|family| *family as u32).collect();
            one_of(AT_FIRST_ARGUMENT, &families, ALLOW, failure(libc::EAFNOSUPPORT))
        }
        Action::Own => one_of(AT_FIRST_ARGUMENT, &[0], ALLOW, failure(libc::EPERM)),
        Action::Ioctl => one_of(AT_SECOND_ARGUMENT, TERMINAL_ABUSE, failure(libc::EPERM), ALLOW),
    }
}

fn one_of(argument: u32, values: &[u32], then: u32, otherwise: u32) -> Vec<Instruction> {
    let mut program = vec![(LOAD, 0, 0, argument)];
    let count = values.len() as u8;
    program.extend((1..=count).zip(values).map(|(nth, value)| (IF_EQUAL, count - nth + 1, 0, *value)));
    program.push((RETURN, 0, 0, otherwise));
    program.push((RETURN, 0, 0, then));
    program
}

fn failure(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | (errno as u32 & libc::SECCOMP_RET_DATA)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the kernel would do with a call.
    fn run(architecture: u32, number: u32, arguments: [u64; 2]) -> u32 {
        let program = instructions();
        let word = |offset| match offset {
            AT_NUMBER => number,
            AT_ARCHITECTURE => architecture,
            AT_FIRST_ARGUMENT => arguments[0] as u32,
            AT_SECOND_ARGUMENT => arguments[1] as u32,
            _ => panic!("reads offset {offset}"),
        };
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let (code, jt, jf, k) = program[at];
            at += 1;
            let skip = |holds: bool| usize::from(if holds { jt } else { jf });
            match code {
                LOAD => accumulator = word(k),
                JUMP => at += k as usize,
                IF_EQUAL => at += skip(accumulator == k),
                IF_AT_LEAST => at += skip(accumulator >= k),
                IF_ANY_BIT => at += skip(accumulator & k != 0),
                RETURN => return k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    fn call(number: libc::c_long, arguments: [u64; 2]) -> u32 {
        run(ARCHITECTURE, number as u32, arguments)
    }

    #[test]
    fn ordinary_calls_pass() {
        for number in [libc::SYS_read, libc::SYS_execve, libc::SYS_openat, libc::SYS_ptrace, libc::SYS_futex]
        {
            assert_eq!(call(number, [0; 2]), ALLOW, "call {number}");
        }
    }

    #[test]
    fn each_forbidden_call_fails() {
        for number in FORBIDDEN.iter().chain(FORBIDDEN_HERE) {
            assert_eq!(call(*number, [0; 2]), failure(libc::EPERM), "call {number}");
        }
        for number in ABSENT {
            assert_eq!(call(*number, [0; 2]), failure(libc::ENOSYS), "call {number}");
        }
    }

    #[test]
    fn neighbours_of_forbidden_calls_pass() {
        let all: Vec<_> = FORBIDDEN.iter().chain(FORBIDDEN_HERE).chain(ABSENT).copied().collect();
        for number in all.iter().flat_map(|number| [number - 1, number + 1]) {
            let checked =
                [libc::SYS_clone, libc::SYS_unshare, libc::SYS_socket, libc::SYS_ioctl, libc::SYS_prlimit64];
            if !all.contains(&number) && !checked.contains(&number) {
                assert_eq!(call(number, [0; 2]), ALLOW, "call {number}");
            }
        }
    }

    #[test]
    fn threads_pass_and_namespaces_fail() {
        let thread = (libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_THREAD) as u64;
        assert_eq!(call(libc::SYS_clone, [thread, 0]), ALLOW);
        assert_eq!(call(libc::SYS_unshare, [libc::CLONE_FS as u64, 0]), ALLOW);
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID] {
            assert_eq!(call(libc::SYS_clone, [thread | flag as u64, 0]), failure(libc::EPERM));
            assert_eq!(call(libc::SYS_unshare, [flag as u64, 0]), failure(libc::EPERM));
        }
    }

    #[test]
    fn sockets_and_ioctls_are_checked_by_argument() {
        assert_eq!(call(libc::SYS_socket, [libc::AF_INET as u64, 0]), ALLOW);
        for family in [libc::AF_VSOCK, libc::AF_ALG, libc::AF_PACKET, 0] {
            assert_eq!(call(libc::SYS_socket, [family as u64, 0]), failure(libc::EAFNOSUPPORT));
        }
        assert_eq!(call(libc::SYS_ioctl, [0, 0x5413]), ALLOW);
        for forbidden in TERMINAL_ABUSE {
            assert_eq!(call(libc::SYS_ioctl, [0, u64::from(*forbidden)]), failure(libc::EPERM));
        }
        // The kernel looks at 32 bits of the request; so must the filter.
        assert_eq!(call(libc::SYS_ioctl, [0, 0xF_0000_5412]), failure(libc::EPERM));
    }

    #[test]
    fn limits_of_others_are_out_of_reach() {
        assert_eq!(call(libc::SYS_prlimit64, [0, 7]), ALLOW);
        assert_eq!(call(libc::SYS_prlimit64, [1, 7]), failure(libc::EPERM));
    }

    #[test]
    fn what_is_newer_is_absent() {
        assert_eq!(run(ARCHITECTURE, NEWEST, [0; 2]), ALLOW);
        for number in [NEWEST + 1, 500, 0x4000_0000, u32::MAX] {
            assert_eq!(run(ARCHITECTURE, number, [0; 2]), failure(libc::ENOSYS));
        }
    }

    #[test]
    fn another_architecture_dies() {
        assert_eq!(run(0x4000_0003, 1, [0; 2]), KILL);
    }

    #[test]
    fn the_program_fits_the_kernel() {
        assert!(instructions().len() < 4096);
    }

    proptest! {
        #[test]
        fn every_path_ends(number: u32, first: u64, second: u64) {
            run(ARCHITECTURE, number, [first, second]);
        }
    }
}
