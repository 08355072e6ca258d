//! A container over this machine's own programs.

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use corral_containers::{Limits, Network};
use corral_isolation::{
    Access, Bind, ContainerPlan, IdMapping, Seat, SeatEvent, Stdio, Writable, fork_seat,
    socket_pair,
};

pub const MIB: u64 = 1 << 20;

/// An image that holds no more than links to this machine's programs, which are bound in.
pub struct Image {
    directory: tempfile::TempDir,
}

impl Image {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), directory.path().join(name)).unwrap();
        }
        for name in ["etc", "root", "usr", "var"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n";
        fs::write(directory.path().join("etc/passwd"), users).unwrap();
        Self { directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A container that runs a line of shell.
    pub fn shell(&self, line: &str) -> ContainerPlan {
        self.plan(&["/bin/sh", "-c", line])
    }

    pub fn python(&self, program: &str) -> ContainerPlan {
        self.plan(&["/usr/bin/python3.11", "-c", program])
    }

    pub fn plan(&self, arguments: &[&str]) -> ContainerPlan {
        ContainerPlan {
            name: "a test's container".into(),
            lowers: vec![self.path().to_owned()],
            writable: Writable::Memory { bytes: 16 * MIB },
            binds: vec![Bind {
                source: "/usr".into(),
                target: "/usr".into(),
                access: Access::Read,
            }],
            files: Vec::new(),
            environment: vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())],
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            working_directory: PathBuf::from("/root"),
            hostname: "inside".into(),
            limits: Limits {
                memory_request_bytes: 64 * MIB,
                memory_limit_bytes: 256 * MIB,
                milli_cpu: 1000,
                milli_cpu_limit: None,
                processes: 64,
                disk_bytes: 16 * MIB,
                gpus: 0,
            },
            network: Network::None,
        }
    }
}

/// What a container printed, and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub output: String,
    pub error: String,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
}

/// A container that runs, with the ends of its streams.
pub struct Running {
    pub seat: Seat,
    output: fs::File,
    error: fs::File,
}

/// A seat, or the reason why this machine has none.
pub fn seat(mapping: IdMapping) -> Result<Seat, String> {
    let (ours, theirs) = socket_pair().unwrap();
    fork_seat(theirs, mapping).map_err(|error| format!("namespaces: {error}"))?;
    Seat::await_ready(ours, mapping).map_err(|error| error.to_string())
}

pub fn start(plan: &ContainerPlan) -> Running {
    start_in(seat(IdMapping::of_this_process()).unwrap(), plan)
}

pub fn start_in(seat: Seat, plan: &ContainerPlan) -> Running {
    let pipe = || {
        let (ours, theirs) = io::pipe().unwrap();
        (fs::File::from(OwnedFd::from(ours)), OwnedFd::from(theirs))
    };
    let (output, output_end) = pipe();
    let (error, error_end) = pipe();
    let input = fs::File::open("/dev/null").unwrap().into();
    seat.run(plan, &Stdio { input, output: output_end, error: error_end }).unwrap();
    Running { seat, output, error }
}

impl Running {
    pub fn next(&self) -> SeatEvent {
        self.seat.take_event().unwrap()
    }

    /// Reads to the end of both streams and hears how it ended.
    pub fn finish(mut self) -> Outcome {
        let mut outcome =
            Outcome { output: String::new(), error: String::new(), exit_code: None, signal: None };
        self.output.read_to_string(&mut outcome.output).unwrap();
        self.error.read_to_string(&mut outcome.error).unwrap();
        loop {
            match self.next() {
                SeatEvent::NotStarted { error } => outcome.error.push_str(&error),
                SeatEvent::Ended { exit_code, signal, .. } => {
                    (outcome.exit_code, outcome.signal) = (exit_code, signal);
                }
                SeatEvent::Gone => return outcome,
                SeatEvent::Started | SeatEvent::NetworkReady | SeatEvent::NotWritten { .. } => {}
            }
        }
    }
}

/// Runs a container to its end.
pub fn run(plan: &ContainerPlan) -> Outcome {
    start(plan).finish()
}
