//! Nothing stays behind, whatever is killed when.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use corral_isolation::ContainerProcessEvent;
use rustix::process::{Pid, Signal};

use crate::harness::Test;
use crate::host::Host;

/// How often a worker is killed in the middle of its starts.
const KILLS: u64 = 15;

pub fn tests() -> Vec<Test> {
    vec![("nothing_stays_after_kills", nothing_stays_after_kills)]
}

/// A worker that starts containers without end, plainly and from a template, until it is killed.
/// Whatever comes from it has its name among its arguments.
pub fn doomed_main(name: &str) -> ExitCode {
    let Some(host) = Host::new(name) else { return ExitCode::SUCCESS };
    let module = "import sys, time\nif __name__ == '__main__': time.sleep(1000)\n";
    fs::create_dir(host.image().join("root")).unwrap();
    fs::write(host.image().join("root/app.py"), module).unwrap();
    let template_plan = host.plan(&["/usr/bin/python3.11", "-X", &format!("name={name}")]);
    let is_grouped = !matches!(host.enforcer, corral_worker::Enforcer::Watchdog);
    let template = is_grouped.then(|| host.template(template_plan, &["app"]));
    println!("ready");
    let mut running = Vec::new();
    for round in 0.. {
        let program = format!(
            "import subprocess, time; subprocess.Popen(['sh', '-c', 'sleep 999; : {name}']); \
             time.sleep(999)"
        );
        let from_template =
            template.as_ref().filter(|(template, _)| round % 2 == 1 && template.is_ready().is_ok());
        let (mut handle, reader) = match from_template {
            Some((template, _)) => {
                let plan = host.plan(&["/usr/bin/python3.11", "-m", "app"]);
                host.start_from(template, plan).unwrap()
            }
            None => host.start(host.python(&program)),
        };
        let started = matches!(host.next(&mut handle), Some(ContainerProcessEvent::Started { .. }));
        assert!(started);
        running.push((handle, reader));
        if running.len() > 4 {
            running.remove(0);
        }
    }
    ExitCode::SUCCESS
}

fn doom(name: &str) -> Option<Child> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["doomed", name])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line.trim() != "ready" {
        print!("{line}");
        child.wait().unwrap();
        return None;
    }
    Some(child)
}

fn groups_of(name: &str) -> Vec<PathBuf> {
    let mounts = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    mounts
        .map(|mount| mount.path().join("corral").join(name))
        .filter(|path| path.exists())
        .collect()
}

/// Processes of this machine that came from the containers of a doomed worker.
fn processes_left(name: &str) -> Vec<String> {
    let commands = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&command).replace('\0', " "))
    });
    commands.filter(|command| command.contains(name)).collect()
}

fn nothing_stays_after_kills() {
    let name = format!("containers-kills-{}", std::process::id());
    for round in 0..KILLS {
        let Some(mut child) = doom(&name) else { return };
        std::thread::sleep(Duration::from_millis(20 + 61 * round));
        let worker = child.id() as i32;
        let children =
            fs::read_to_string(format!("/proc/{worker}/task/{worker}/children")).unwrap();
        let launcher: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
        // The worker, the launcher, or both.
        let victims: &[i32] = match round % 3 {
            0 => &[worker],
            1 => &[launcher],
            _ => &[worker, launcher],
        };
        for victim in victims {
            let _ = rustix::process::kill_process(Pid::from_raw(*victim).unwrap(), Signal::KILL);
        }
        let begun = Instant::now();
        if round % 3 == 1 {
            // Without its launcher it cannot start anything more, and ends by its own panic.
            while child.try_wait().unwrap().is_none() && begun.elapsed().as_secs() < 10 {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
        }
        child.wait().unwrap();
        while !processes_left(&name).is_empty() && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(processes_left(&name).is_empty(), "round {round}: {:?}", processes_left(&name));
    }
    // Groups cannot go by themselves: the next worker of the name removes them.
    let groups = groups_of(&name).len();
    println!("{groups} trees of groups were left");
    drop(Host::new(&name));
    assert_eq!(groups_of(&name), Vec::<PathBuf>::new());
}
