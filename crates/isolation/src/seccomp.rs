//! The filter over a container's system calls.
//!
//! It refuses what no program in a container needs and what has let programs out of containers:
//! namespaces, mounts, other processes' memory, keys, kernel modules, BPF, clocks. Everything else
//! is left to the namespaces, capabilities and limits. An unknown architecture is refused whole.

use crate::sys::FilterInstruction;

/// `struct seccomp_data`: where its fields are.
const NUMBER_OFFSET: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
/// The lower half of an argument on a little-endian machine.
const fn argument_offset(index: u32) -> u32 {
    16 + 8 * index
}

const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const fn refuse_with(errno: i32) -> u32 {
    0x0005_0000 | errno as u32
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// On x86-64 numbers from here on are a second set of the same calls.
const SECOND_ABI: u32 = 0x4000_0000;

/// All flags of `clone` that make namespaces.
const NAMESPACE_FLAGS: u32 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u32;

/// `CLONE_NEWTIME`, which only `unshare` takes: in `clone` the bit is part of the signal.
const CLOCK_NAMESPACE: u32 = 0x80;

/// Refused with "operation not permitted".
const REFUSED: &[libc::c_long] = &[
    // Other file systems.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_fanotify_init,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The machine's clock, name and terminals.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// Refused as if the kernel did not have them: programs then fall back to what it has always had.
const UNKNOWN: &[libc::c_long] = &[
    // Its flags lie in memory, where a filter cannot read; `clone` does the same.
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Families of sockets that reach past the network namespace or into rarely tried kernel code.
const REFUSED_FAMILIES: [i32; 2] = [libc::AF_VSOCK, libc::AF_ALG];

/// Whose filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterFor {
    /// A container's program.
    Program,
    /// The process of a template, which moves into namespaces before it forks.
    Template,
}

/// The filter's program.
pub fn filter(whose: FilterFor) -> Vec<FilterInstruction> {
    let mut assembler = Assembler::default();
    assembler.load(ARCHITECTURE_OFFSET);
    assembler.unless_equal(ARCHITECTURE, refuse_with(libc::ENOSYS));
    assembler.load(NUMBER_OFFSET);
    if cfg!(target_arch = "x86_64") {
        assembler.push(JUMP_GREATER_OR_EQUAL, SECOND_ABI, 0, 1);
        assembler.push(RETURN, refuse_with(libc::ENOSYS), 0, 0);
    }
    for number in REFUSED {
        assembler.if_equal(*number as u32, refuse_with(libc::EPERM));
    }
    if whose == FilterFor::Program {
        assembler.if_equal(libc::SYS_setns as u32, refuse_with(libc::EPERM));
    }
    for number in UNKNOWN {
        assembler.if_equal(*number as u32, refuse_with(libc::ENOSYS));
    }
    let with_clock = NAMESPACE_FLAGS | CLOCK_NAMESPACE;
    // A template's child enters the namespaces of its container, and hides its groups.
    let of_unshare = match whose {
        FilterFor::Program => with_clock,
        FilterFor::Template => with_clock & !(libc::CLONE_NEWCGROUP as u32),
    };
    for (number, flags) in [(libc::SYS_clone, NAMESPACE_FLAGS), (libc::SYS_unshare, of_unshare)] {
        assembler.argument(number, 0, |body| {
            body.push(JUMP_ANY_BIT, flags, 0, 1);
            body.push(RETURN, refuse_with(libc::EPERM), 0, 0);
        });
    }
    assembler.argument(libc::SYS_socket, 0, |body| {
        for family in REFUSED_FAMILIES {
            body.if_equal(family as u32, refuse_with(libc::EPERM));
        }
    });
    // Typing into somebody else's terminal.
    assembler.argument(libc::SYS_ioctl, 1, |body| {
        body.if_equal(libc::TIOCSTI as u32, refuse_with(libc::EPERM));
    });
    assembler.push(RETURN, ALLOW, 0, 0);
    assembler.instructions
}

/// The filter for a program that installs it itself, as the bytes that the kernel reads, in hex.
pub fn filter_hex() -> String {
    let instruction = |instruction: FilterInstruction| {
        let FilterInstruction { code, jump_true, jump_false, value } = instruction;
        let [a, b] = code.to_ne_bytes();
        let [c, d, e, f] = value.to_ne_bytes();
        [a, b, jump_true, jump_false, c, d, e, f].map(|byte| format!("{byte:02x}")).concat()
    };
    filter(FilterFor::Program).into_iter().map(instruction).collect()
}

#[derive(Default)]
struct Assembler {
    instructions: Vec<FilterInstruction>,
}

impl Assembler {
    fn push(&mut self, code: u16, value: u32, jump_true: u8, jump_false: u8) {
        self.instructions.push(FilterInstruction { code, jump_true, jump_false, value });
    }

    fn load(&mut self, offset: u32) {
        self.push(LOAD_WORD, offset, 0, 0);
    }

    fn if_equal(&mut self, value: u32, verdict: u32) {
        self.push(JUMP_EQUAL, value, 0, 1);
        self.push(RETURN, verdict, 0, 0);
    }

    fn unless_equal(&mut self, value: u32, verdict: u32) {
        self.push(JUMP_EQUAL, value, 1, 0);
        self.push(RETURN, verdict, 0, 0);
    }

    /// For one call: `body` looks at an argument; what it does not return on is allowed.
    fn argument(&mut self, number: libc::c_long, index: u32, body: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        inner.load(argument_offset(index));
        body(&mut inner);
        inner.push(RETURN, ALLOW, 0, 0);
        let skipped = u8::try_from(inner.instructions.len()).expect("a body is a few instructions");
        self.push(JUMP_EQUAL, number as u32, 0, skipped);
        self.instructions.append(&mut inner.instructions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn verdict(
        program: &[FilterInstruction],
        architecture: u32,
        number: u32,
        args: [u32; 2],
    ) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let FilterInstruction { code, jump_true, jump_false, value } = program[at];
            at += 1;
            let mut jump =
                |taken: bool| at += usize::from(if taken { jump_true } else { jump_false });
            match code {
                LOAD_WORD => {
                    accumulator = match value {
                        NUMBER_OFFSET => number,
                        ARCHITECTURE_OFFSET => architecture,
                        offset if offset == argument_offset(0) => args[0],
                        offset if offset == argument_offset(1) => args[1],
                        other => panic!("reads at {other}"),
                    }
                }
                JUMP_EQUAL => jump(accumulator == value),
                JUMP_GREATER_OR_EQUAL => jump(accumulator >= value),
                JUMP_ANY_BIT => jump(accumulator & value != 0),
                RETURN => return value,
                other => panic!("an instruction {other:#x} that nobody wrote"),
            }
        }
    }

    #[test]
    fn the_filter_refuses_what_it_should() {
        let program = filter(FilterFor::Program);
        let ask = |number: libc::c_long, args| verdict(&program, ARCHITECTURE, number as u32, args);
        for number in REFUSED.iter().chain([&libc::SYS_setns]) {
            assert_eq!(ask(*number, [0, 0]), refuse_with(libc::EPERM), "{number}");
        }
        assert_eq!(ask(libc::SYS_clone3, [0, 0]), refuse_with(libc::ENOSYS));
        assert_eq!(ask(libc::SYS_clone, [libc::SIGCHLD as u32, 0]), ALLOW);
        let namespace = (libc::CLONE_NEWUSER | libc::SIGCHLD) as u32;
        assert_eq!(ask(libc::SYS_clone, [namespace, 0]), refuse_with(libc::EPERM));
        assert_eq!(ask(libc::SYS_unshare, [libc::CLONE_FS as u32, 0]), ALLOW);
        assert_eq!(ask(libc::SYS_unshare, [libc::CLONE_NEWNS as u32, 0]), refuse_with(libc::EPERM));
        assert_eq!(ask(libc::SYS_socket, [libc::AF_INET as u32, 0]), ALLOW);
        assert_eq!(ask(libc::SYS_socket, [libc::AF_VSOCK as u32, 0]), refuse_with(libc::EPERM));
        assert_eq!(ask(libc::SYS_ioctl, [0, libc::TIOCSTI as u32]), refuse_with(libc::EPERM));
        for number in [libc::SYS_read, libc::SYS_execve, libc::SYS_openat, libc::SYS_futex] {
            assert_eq!(ask(number, [0, 0]), ALLOW);
        }
        assert_eq!(verdict(&program, 3, 0, [0, 0]), refuse_with(libc::ENOSYS));
        let template = filter(FilterFor::Template);
        assert_eq!(verdict(&template, ARCHITECTURE, libc::SYS_setns as u32, [0, 0]), ALLOW);
    }
}
