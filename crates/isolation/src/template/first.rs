//! What first processes do for templates: T starts Z and makes C after C; C lets P in.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal};

use crate::error::{Step, StepFailed};
use crate::init::{self, Birth, GAVE_UP, MAX_ERROR_BYTES, Order, RunAs};
use crate::packet;
use crate::privileges::ProcessCount;
use crate::seccomp::{self, FilterFor};
use crate::sys::{self, Forked};
use crate::wire::{FromForked, FromSeat, Program, ToForked, ToSeat};
use crate::{ContainerPlan, PlannedFile, Stdio};

/// The program of Z.
const PROGRAM: &str = include_str!("zygote.py");

/// Where Z finds it.
const PROGRAM_PATH: &str = "/__corral/template.py";

/// The number of Z in its namespace. Programs are the second process of theirs, so that a library
/// that looks at its number sees that it was forked.
const TEMPLATE_PROCESS: i32 = 1000;

/// What a container of a template has for itself; users and what they may do it shares.
const OF_CONTAINER: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// T's life after it was told what to import into: starts Z, then makes first processes of
/// containers. Ends when the worker lets go of it.
pub fn become_template(
    socket: &OwnedFd,
    descriptors: Vec<OwnedFd>,
    trees: usize,
) -> Result<i32, StepFailed> {
    let order = Order::take(descriptors, trees, Program::Forked)?;
    let deaths = sys::child_deaths().step(|| "watch its children".into())?;
    let template = start_template(order)?;
    packet::send(socket, &FromSeat::Started, &[]).step(|| "say that it started".into())?;
    loop {
        let mut waiting = [PollFd::new(socket, PollFlags::IN), PollFd::new(&deaths, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut waiting, None))
            .step(|| "wait for the worker".into())?;
        let [heard, died] = waiting.map(|descriptor| !descriptor.revents().is_empty());
        if died {
            let mut record = [0; 128];
            while rustix::io::read(&deaths, &mut record).is_ok_and(|read| read > 0) {}
        }
        while let Some(ended) = sys::reap() {
            if ended.process == template.as_raw_pid() {
                let sys::Ended { exit_code, signal, cpu_ms, .. } = ended;
                let message = FromSeat::Ended { exit_code, signal, cpu_ms };
                packet::send(socket, &message, &[]).step(|| "say that it ended".into())?;
            }
        }
        if heard {
            match packet::receive::<ToSeat>(socket).step(|| "hear from the worker".into())? {
                None => return Ok(0),
                Some((ToSeat::Seat, descriptors)) => {
                    for seat in descriptors {
                        fork_container(seat)?;
                    }
                }
                Some(_) => {}
            }
        }
    }
}

fn fork_container(socket: OwnedFd) -> Result<(), StepFailed> {
    let what = || "make namespaces within the template".to_owned();
    let (go, mut begin) = io::pipe().step(what)?;
    match sys::fork_into(OF_CONTAINER) {
        Ok(Forked::Child) => {
            drop(begin);
            init::run(socket, go, Birth::TemplateUsers)
        }
        Ok(Forked::Parent(_)) => begin.write_all(&[1]).step(what),
        Err(error) => {
            let error = format!("{}: {error}", what());
            // The worker may have let go of it.
            let _ = packet::send(&socket, &FromSeat::NotStarted { error }, &[]);
            Ok(())
        }
    }
}

/// Forks Z: in mounts and names of its own, among T's processes and in T's network.
fn start_template(order: Order) -> Result<Pid, StepFailed> {
    let what = || "start the template's process".to_owned();
    let (mut failure, report) = io::pipe().step(what)?;
    let own = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    match sys::fork_as(own, Pid::from_raw(TEMPLATE_PROCESS)).step(what)? {
        Forked::Child => {
            drop(failure);
            let report_too = report.try_clone();
            if let Err(failed) = run_template(order, report)
                && let Ok(mut report) = report_too
            {
                // Without a reader there is nobody left to tell.
                let _ = report.write_all(failed.to_string().as_bytes());
            }
            sys::exit_now(GAVE_UP)
        }
        Forked::Parent(template) => {
            drop((report, order));
            let mut text = String::new();
            (&mut failure).take(MAX_ERROR_BYTES).read_to_string(&mut text).step(what)?;
            match text.is_empty() {
                true => Ok(template),
                false => Err(io::Error::other(text)).step(what),
            }
        }
    }
}

fn run_template(order: Order, report: io::PipeWriter) -> Result<(), StepFailed> {
    let Order { mut plan, stdio, channel, trees } = order;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .step(|| "ask to end with the first process".into())?;
    let bytes = PROGRAM.as_bytes().to_vec();
    plan.files.push(PlannedFile { path: PROGRAM_PATH.into(), mode: 0o644, bytes });
    plan.arguments.push(PROGRAM_PATH.into());
    init::enter_container(&plan, trees)?;
    // Its containers share its user, so a group has to count them.
    let how = RunAs { whose: FilterFor::Template, count: ProcessCount::ByGroup };
    init::run_program(&plan, stdio, channel, how, report)
}

/// C's part: tells P what it is, now that the container is made, and waits until it runs.
pub fn release_forked(
    channel: &OwnedFd,
    plan: &ContainerPlan,
    stdio: &Stdio,
) -> Result<Pid, StepFailed> {
    let what = || "let the forked program in".to_owned();
    let message = ToForked {
        environment: plan.environment.clone(),
        arguments: plan.arguments.clone(),
        directory: plan.working_directory.clone(),
        filter: seccomp::filter_hex(),
    };
    let streams = [stdio.input.as_fd(), stdio.output.as_fd(), stdio.error.as_fd()];
    packet::send(channel, &message, &streams).step(what)?;
    match packet::receive::<FromForked>(channel).step(what)? {
        Some((FromForked::Running(process), _)) => Pid::from_raw(process)
            .filter(|process| process.as_raw_pid() > 0)
            .ok_or_else(|| io::Error::other("it named no process"))
            .step(what),
        Some((FromForked::Failed(error), _)) => Err(io::Error::other(error)).step(what),
        None => Err(io::Error::other("it has ended")).step(what),
    }
}
