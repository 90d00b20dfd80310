//! The system call filter, in classic BPF (seccomp(2)).
//!
//! Calls of another architecture (x32 and 32-bit ones included) kill the process; those that could change mounts,
//! namespaces, keys, the kernel or the clock answer EPERM; `clone3`, whose flags a filter cannot see, answers ENOSYS,
//! upon which C libraries use `clone`. Everything else passes, `ptrace` within the machine too.

use libc::sock_filter;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;
/// x32 calls have this bit and the architecture of x86_64.
#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

// Newer than the libc crate's tables; the numbers are the same on every architecture.
const OPEN_TREE_ATTR: libc::c_long = 467;

/// Refused with EPERM whatever their arguments are.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    OPEN_TREE_ATTR,
    libc::SYS_setns,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_open_by_handle_at,
];

/// Any of these in `clone` or `unshare` asks for a namespace. (In `clone` the lowest byte is the exit signal, so
/// `CLONE_NEWTIME` counts for `unshare` alone.)
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .cast_unsigned();
const NEWTIME: u32 = 0x80;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const JUMP_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
#[cfg(target_arch = "x86_64")]
const JUMP_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// The lower half of an argument: every one looked at here is an `int` to the kernel. Both architectures are little endian.
const fn argument(index: u32) -> u32 {
    16 + index * 8
}

const fn refuse(errno: i32) -> sock_filter {
    statement(RETURN, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

const ALLOW: sock_filter = statement(RETURN, libc::SECCOMP_RET_ALLOW);
const KILL: sock_filter = statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS);

#[expect(clippy::cast_possible_truncation, reason = "operation codes have 16 bits")]
const fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

#[expect(clippy::cast_possible_truncation, reason = "operation codes have 16 bits")]
const fn branch(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

/// If the call is this one: `body` (which decides in every case), else go on.
fn on(program: &mut Vec<sock_filter>, call: libc::c_long, body: &[sock_filter]) {
    let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
    program.push(branch(JUMP_EQUAL, number(call), 0, length));
    program.extend_from_slice(body);
}

/// The filter of a machine.
pub(super) fn filter() -> Vec<sock_filter> {
    let mut program = vec![statement(LOAD, ARCH), branch(JUMP_EQUAL, ARCHITECTURE, 1, 0), KILL];
    program.push(statement(LOAD, NUMBER));
    #[cfg(target_arch = "x86_64")]
    program.extend([branch(JUMP_AT_LEAST, X32_BIT, 0, 1), KILL]);

    for call in REFUSED {
        on(&mut program, *call, &[refuse(libc::EPERM)]);
    }
    on(&mut program, libc::SYS_clone3, &[refuse(libc::ENOSYS)]);
    for (call, flags) in [(libc::SYS_clone, NAMESPACES), (libc::SYS_unshare, NAMESPACES | NEWTIME)] {
        on(
            &mut program,
            call,
            &[statement(LOAD, argument(0)), branch(JUMP_ANY_BIT, flags, 0, 1), refuse(libc::EPERM), ALLOW],
        );
    }
    let families = |family: libc::c_int| family.cast_unsigned();
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        on(
            &mut program,
            call,
            &[
                statement(LOAD, argument(0)),
                branch(JUMP_EQUAL, families(libc::AF_UNIX), 6, 0),
                branch(JUMP_EQUAL, families(libc::AF_INET), 5, 0),
                branch(JUMP_EQUAL, families(libc::AF_INET6), 4, 0),
                branch(JUMP_EQUAL, families(libc::AF_NETLINK), 0, 2),
                statement(LOAD, argument(2)),
                branch(JUMP_EQUAL, families(libc::NETLINK_ROUTE), 1, 0),
                refuse(libc::EPERM),
                ALLOW,
            ],
        );
    }
    on(
        &mut program,
        libc::SYS_ioctl,
        &[
            statement(LOAD, argument(1)),
            branch(JUMP_EQUAL, terminal(libc::TIOCSTI), 1, 0),
            branch(JUMP_EQUAL, terminal(libc::TIOCLINUX), 0, 1),
            refuse(libc::EPERM),
            ALLOW,
        ],
    );
    program.push(ALLOW);
    program
}

fn terminal(request: impl TryInto<u32>) -> u32 {
    request.try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel does.
    fn run(arch: u32, nr: u32, args: [u64; 3]) -> u32 {
        let program = filter();
        let mut data = [0_u8; 64];
        data[0..4].copy_from_slice(&nr.to_le_bytes());
        data[4..8].copy_from_slice(&arch.to_le_bytes());
        for (index, arg) in args.iter().enumerate() {
            data[16 + index * 8..24 + index * 8].copy_from_slice(&arg.to_le_bytes());
        }
        let (mut at, mut accumulator) = (0_usize, 0_u32);
        loop {
            let step = program[at];
            let code = u32::from(step.code);
            let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
            at += 1;
            if code == LOAD {
                let offset = step.k as usize;
                accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().expect("four bytes"));
            } else if code == RETURN {
                return step.k;
            } else if code == JUMP_EQUAL {
                at += jump(accumulator == step.k);
            } else if code == JUMP_ANY_BIT {
                at += jump(accumulator & step.k != 0);
            } else {
                at += jump(accumulator >= step.k);
            }
        }
    }

    fn call(nr: libc::c_long, args: [u64; 3]) -> u32 {
        run(ARCHITECTURE, number(nr), args)
    }

    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

    #[test]
    fn every_listed_call_answers_as_listed() {
        for nr in REFUSED {
            assert_eq!(call(*nr, [0; 3]), EPERM, "{nr}");
        }
        assert_eq!(call(libc::SYS_clone3, [0; 3]), libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
        assert_eq!(run(0x4000_0003, 1, [0; 3]), libc::SECCOMP_RET_KILL_PROCESS, "32-bit calls");
        #[cfg(target_arch = "x86_64")]
        assert_eq!(call(0x4000_0001, [0; 3]), libc::SECCOMP_RET_KILL_PROCESS, "x32 calls");
    }

    #[test]
    fn arguments_decide_where_only_some_uses_are_refused() {
        for flag in 0..32 {
            let bit = 1_u32 << flag;
            let wanted = if NAMESPACES & bit != 0 { EPERM } else { libc::SECCOMP_RET_ALLOW };
            assert_eq!(call(libc::SYS_clone, [bit.into(), 0, 0]), wanted, "clone bit {flag}");
            let wanted = if bit == NEWTIME { EPERM } else { wanted };
            assert_eq!(call(libc::SYS_unshare, [bit.into(), 0, 0]), wanted, "unshare bit {flag}");
        }
        for family in 0..50_u64 {
            let allowed = [1, 2, 10, 16].contains(&family);
            let wanted = if allowed { libc::SECCOMP_RET_ALLOW } else { EPERM };
            assert_eq!(call(libc::SYS_socket, [family, 1, 0]), wanted, "family {family}");
            assert_eq!(call(libc::SYS_socketpair, [family, 1, 0]), wanted, "family {family}");
        }
        assert_eq!(call(libc::SYS_socket, [16, 3, 15]), EPERM, "netlink, but not routing");
        let high = 0xFFFF_FFFF_0000_0000_u64;
        assert_eq!(call(libc::SYS_ioctl, [0, high | 0x5412, 0]), EPERM, "upper halves do not count");
        assert_eq!(call(libc::SYS_ioctl, [0, 0x541C, 0]), EPERM);
        assert_eq!(call(libc::SYS_ioctl, [0, 0x5413, 0]), libc::SECCOMP_RET_ALLOW);
        for nr in [libc::SYS_ptrace, libc::SYS_execveat, libc::SYS_read] {
            assert_eq!(call(nr, [0; 3]), libc::SECCOMP_RET_ALLOW);
        }
    }
}
