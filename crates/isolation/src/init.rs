//! The first process of a container: waits in its namespaces until it is told what to become,
//! makes the container, starts its program, and reaps for it. When it ends, the kernel ends
//! everything that is left in the container.

use std::ffi::CString;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, Signal};

use crate::error::{Step, StepFailed};
use crate::packet;
use crate::privileges::{self, ProcessCount};
use crate::root::{self, NameFiles};
use crate::seccomp::FilterFor;
use crate::sys::{self, Forked, Groups};
use crate::trees::{Owners, Trees};
use crate::wire::{FromSeat, OWN_NAMESPACES, Program, ToSeat, read_plan};
use crate::{ContainerPlan, Stdio, network, template};

/// Where programs are looked for when a container's environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a program's process says when it cannot be run, at most.
pub const MAX_ERROR_BYTES: u64 = 4096;

/// The exit code of a first process that could not go on; nobody but a log sees it.
pub const GAVE_UP: i32 = 71;

/// How a first process comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// In a user namespace of its own, whose ids are being written down meanwhile.
    OwnUsers(Groups),
    /// In that of the template that it is forked from.
    TemplateUsers,
}

/// Runs as the first process of a container on `socket`, in fresh namespaces. Does not return.
/// `go` gives a byte when the ids are written down.
pub fn run(socket: OwnedFd, go: PipeReader, birth: Birth) -> ! {
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(&socket, go, birth)));
    sys::exit_now(match ran {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            // The worker may be gone, which is why this one ends.
            let _ = packet::send(&socket, &FromSeat::NotStarted { error: error.to_string() }, &[]);
            GAVE_UP
        }
        Err(_) => GAVE_UP,
    })
}

fn serve(socket: &OwnedFd, mut go: PipeReader, birth: Birth) -> Result<i32, StepFailed> {
    prepare(socket, &mut go, birth)?;
    drop(go);
    let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .step(|| "open a descriptor of the first process".into())?;
    // Only this process itself may open them: it is closed to others.
    let open = |name: &&str| std::fs::File::open(format!("/proc/self/ns/{name}"));
    let namespaces: Vec<std::fs::File> = OWN_NAMESPACES
        .iter()
        .map(open)
        .collect::<Result<_, _>>()
        .step(|| "open its own namespaces".into())?;
    let mut descriptors = vec![own.as_fd()];
    descriptors.extend(namespaces.iter().map(AsFd::as_fd));
    packet::send(socket, &FromSeat::Ready, &descriptors).step(|| "say that it is ready".into())?;
    drop((own, namespaces));
    loop {
        let Some((message, descriptors)) = hear(socket)? else { return Ok(0) };
        match message {
            ToSeat::Network { address } => {
                network::take_address(address).step(|| "set up the container's link".into())?;
                packet::send(socket, &FromSeat::NetworkReady, &[])
                    .step(|| "say that the network is ready".into())?;
            }
            ToSeat::Run { trees, program } => {
                return become_container(socket, descriptors, trees, program);
            }
            ToSeat::Try => {
                enter_container(&ContainerPlan::of_nothing(), Trees(Vec::new()))?;
                packet::send(socket, &FromSeat::Started, &[]).step(|| "say that it can".into())?;
                return Ok(0);
            }
            ToSeat::Template { trees } => {
                return template::become_template(socket, descriptors, trees);
            }
            // There is no program yet; the worker kills this process instead.
            ToSeat::Signal { .. } | ToSeat::Seat | ToSeat::WriteFile => {}
        }
    }
}

fn hear(socket: &OwnedFd) -> Result<Option<(ToSeat, Vec<OwnedFd>)>, StepFailed> {
    packet::receive(socket).step(|| "hear from the worker".into())
}

/// Lets go of everything that came with the fork, and becomes root of the namespaces.
fn prepare(socket: &OwnedFd, go: &mut PipeReader, birth: Birth) -> Result<(), StepFailed> {
    let mut kept = [socket.as_raw_fd(), go.as_raw_fd()];
    kept.sort_unstable();
    sys::close_descriptors_but(&kept).step(|| "close what was inherited".into())?;
    sys::reset_signals();
    let mut byte = [0];
    go.read_exact(&mut byte).step(|| "wait for the ids".into())?;
    if let Birth::OwnUsers(groups) = birth {
        sys::become_root(groups).step(|| "become root of the namespace".into())?;
    }
    // After the ids: changing them forgets it. Whoever died before closed the pipe.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .step(|| "ask to end with the launcher".into())?;
    // Nobody in the container may look into this process, whose program is the machine's.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .step(|| "close itself to others".into())?;
    rustix::thread::set_name(c"corral-init").step(|| "name itself".into())?;
    rustix::process::setsid().step(|| "begin a session".into())?;
    for descriptor in 0..3 {
        let null = std::fs::File::options().read(true).write(true).open("/dev/null");
        null.and_then(|null| sys::place_descriptor(null, descriptor))
            .step(|| "close its own streams".into())?;
    }
    network::raise_loopback().step(|| "bring up the loopback".into())
}

/// What comes with the order to become something.
pub struct Order {
    pub plan: ContainerPlan,
    pub stdio: Stdio,
    /// To a program that is forked, or for a template.
    pub channel: Option<OwnedFd>,
    pub trees: Trees,
}

impl Order {
    pub fn take(
        descriptors: Vec<OwnedFd>,
        trees: usize,
        program: Program,
    ) -> Result<Self, StepFailed> {
        let mut descriptors = descriptors.into_iter();
        let (Some(plan), Some(input), Some(output), Some(error)) =
            (descriptors.next(), descriptors.next(), descriptors.next(), descriptors.next())
        else {
            return Err(io::Error::other("it came without its descriptors"))
                .step(|| "start".into());
        };
        let stdio = Stdio { input, output, error };
        let channel = match program {
            Program::Executed => None,
            Program::Forked => descriptors.next(),
        };
        let plan = read_plan(plan).step(|| "read the plan".into())?;
        let trees = match trees {
            0 => Trees::open(&plan, Owners::AsTheyAre)?,
            _ => Trees(descriptors.collect()),
        };
        Ok(Self { plan, stdio, channel, trees })
    }
}

fn become_container(
    socket: &OwnedFd,
    descriptors: Vec<OwnedFd>,
    trees: usize,
    program: Program,
) -> Result<i32, StepFailed> {
    let Order { plan, stdio, channel, trees } = Order::take(descriptors, trees, program)?;
    enter_container(&plan, trees)?;
    let deaths = sys::child_deaths().step(|| "watch its children".into())?;
    let program = match &channel {
        None => start_program(&plan, stdio)?,
        Some(channel) => template::release_forked(channel, &plan, &stdio)?,
    };
    packet::send(socket, &FromSeat::Started, &[]).step(|| "say that it started".into())?;
    drop(plan);
    Ok(watch(socket, &deaths, program, channel.as_ref()))
}

/// Makes the file system of a container in this process's namespaces, and changes into it.
pub fn enter_container(plan: &ContainerPlan, trees: Trees) -> Result<(), StepFailed> {
    rustix::system::sethostname(plan.hostname.as_bytes()).step(|| "set the host name".into())?;
    sys::unshare_cgroups().step(|| "hide the groups around it".into())?;
    root::enter(plan, trees, &NameFiles::of_this_machine())
}

/// Forks the container's program; returns when it runs.
fn start_program(plan: &ContainerPlan, stdio: Stdio) -> Result<Pid, StepFailed> {
    let what = || format!("run {}", plan.arguments.first().map_or("nothing", String::as_str));
    let (mut failure, report) = io::pipe().step(what)?;
    match sys::fork_into(0).step(what)? {
        Forked::Child => {
            drop(failure);
            let how = RunAs { whose: FilterFor::Program, count: ProcessCount::ByUser };
            run_program(plan, stdio, None, how, report)
        }
        Forked::Parent(program) => {
            drop((report, stdio));
            let mut text = String::new();
            let read = (&mut failure).take(MAX_ERROR_BYTES).read_to_string(&mut text);
            read.step(what)?;
            match text.is_empty() {
                true => Ok(program),
                false => Err(io::Error::other(text)).step(what),
            }
        }
    }
}

/// As whom a program runs.
#[derive(Clone, Copy)]
pub struct RunAs {
    pub whose: FilterFor,
    pub count: ProcessCount,
}

/// Becomes the program, or says into `report` why not. It finds `channel` at descriptor 3.
pub fn run_program(
    plan: &ContainerPlan,
    stdio: Stdio,
    channel: Option<OwnedFd>,
    how: RunAs,
    mut report: PipeWriter,
) -> ! {
    let failed = match try_run(plan, stdio, channel, how) {
        Ok(never) => match never {},
        Err(failed) => failed,
    };
    // Without a reader there is nobody left to tell.
    let _ = report.write_all(failed.to_string().as_bytes());
    sys::exit_now(GAVE_UP)
}

enum Never {}

fn try_run(
    plan: &ContainerPlan,
    stdio: Stdio,
    channel: Option<OwnedFd>,
    how: RunAs,
) -> Result<Never, StepFailed> {
    rustix::process::setsid().step(|| "begin a session".into())?;
    sys::reset_signals();
    privileges::limit(plan, how.count).step(|| "set the limits".into())?;
    let program = find_program(plan)?;
    std::env::set_current_dir(&plan.working_directory)
        .step(|| format!("enter {}", plan.working_directory.display()))?;
    let streams = [stdio.input, stdio.output, stdio.error].into_iter().chain(channel);
    for (onto, from) in (0..).zip(streams) {
        sys::place_descriptor(from, onto).step(|| "take its streams".into())?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let text = |text: &str| {
        CString::new(text).map_err(io::Error::other).step(|| format!("pass on {text:?}"))
    };
    let arguments: Vec<CString> =
        plan.arguments.iter().map(|argument| text(argument)).collect::<Result<_, _>>()?;
    let environment: Vec<CString> = plan
        .environment
        .iter()
        .map(|(name, value)| text(&format!("{name}={value}")))
        .collect::<Result<_, _>>()?;
    privileges::give_up(how.whose).step(|| "give up privileges".into())?;
    Err(sys::execute(&program, &arguments, &environment)).step(|| "execute it".into())
}

/// The program's file, as a shell would find it.
fn find_program(plan: &ContainerPlan) -> Result<CString, StepFailed> {
    let what = || "find the program".to_owned();
    let Some(name) = plan.arguments.first().filter(|name| !name.is_empty()) else {
        return Err(io::Error::other("the container has no command")).step(what);
    };
    let path = if name.contains('/') {
        PathBuf::from(name)
    } else {
        let path = plan.variable("PATH").unwrap_or(DEFAULT_PATH);
        let is_program = |path: &PathBuf| {
            use std::os::unix::fs::PermissionsExt;
            path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        let found =
            path.split(':').map(|directory| Path::new(directory).join(name)).find(is_program);
        found
            .ok_or_else(|| io::Error::other(format!("no {name} in the image along PATH={path}")))
            .step(what)?
    };
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other).step(what)
}

/// Reaps and passes on signals until the program has ended, and says how. One that was forked
/// elsewhere is reaped there; its end of `channel` closes with it.
fn watch(socket: &OwnedFd, deaths: &OwnedFd, program: Pid, channel: Option<&OwnedFd>) -> i32 {
    loop {
        let mut waiting =
            vec![PollFd::new(socket, PollFlags::IN), PollFd::new(deaths, PollFlags::IN)];
        waiting.extend(channel.map(|channel| PollFd::new(channel, PollFlags::IN)));
        if rustix::io::retry_on_intr(|| rustix::event::poll(&mut waiting, None)).is_err() {
            return GAVE_UP;
        }
        let happened = |at: usize| waiting.get(at).is_some_and(|fd| !fd.revents().is_empty());
        if happened(1) {
            let mut record = [0; 128];
            while rustix::io::read(deaths, &mut record).is_ok_and(|read| read > 0) {}
        }
        while let Some(ended) = sys::reap() {
            if ended.process == program.as_raw_pid() {
                let sys::Ended { exit_code, signal, cpu_ms, .. } = ended;
                // Without a worker there is nobody to tell, and everything ends anyway.
                let _ = packet::send(socket, &FromSeat::Ended { exit_code, signal, cpu_ms }, &[]);
                return 0;
            }
        }
        if happened(2) {
            return 0;
        }
        if happened(0) {
            match packet::receive::<ToSeat>(socket) {
                // The worker is gone, or breaks the protocol: a container does not outlive it.
                Ok(None) | Err(_) => return GAVE_UP,
                // A program that has just ended is reaped in the next turn.
                Ok(Some((ToSeat::Signal { number }, _))) => _ = sys::send_signal(program, number),
                Ok(Some((ToSeat::WriteFile, descriptors))) => {
                    if let Err(error) = write_files(descriptors) {
                        let error = error.to_string();
                        let _ = packet::send(socket, &FromSeat::NotWritten { error }, &[]);
                    }
                }
                Ok(Some(_)) => {}
            }
        }
    }
}

/// Writes the files of a plan so that nobody sees half of one.
fn write_files(descriptors: Vec<OwnedFd>) -> Result<(), StepFailed> {
    for plan in descriptors {
        for mut file in read_plan(plan).step(|| "read what to write".into())?.files {
            let path = file.path.clone();
            file.path.add_extension("corral-new");
            root::write_file(&file)
                .and_then(|()| std::fs::rename(&file.path, &path))
                .step(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}
