//! Containers that are forked from templates.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use corral_isolation::{
    Access, Bind, ContainerPlan, ContainerProcessEvent, PlannedFile, TemplateState,
};
use corral_worker::{ContainerHandle, Template};

use crate::harness::Test;
use crate::host::{Host, MIB};

/// A directory of Python packages (numpy, scikit-learn, modal) to try templates with.
pub const PACKAGES_VARIABLE: &str = "CORRAL_TEST_PYTHON_PACKAGES";

/// How many idle containers of a template are looked at.
const IDLE: usize = 20;

pub fn tests() -> Vec<Test> {
    vec![
        ("a_template_bears_containers", a_template_bears_containers),
        ("forks_share_nothing_that_matters", forks_share_nothing_that_matters),
        ("threads_keep_a_template_from_forking", threads_keep_a_template_from_forking),
        ("containers_outlive_their_template", containers_outlive_their_template),
        ("a_parked_container_goes_on_with_its_file", a_parked_container_goes_on_with_its_file),
        ("a_template_of_packages_is_quick_and_small", a_template_of_packages_is_quick_and_small),
    ]
}

/// The template's own container, over an image with a module of these lines.
fn open(name: &str, module: &str) -> Option<(Host, ContainerPlan)> {
    let host = Host::new(name)?;
    if matches!(host.enforcer, corral_worker::Enforcer::Watchdog) {
        println!("skipped: templates take groups of the kernel's, and there are none here");
        return None;
    }
    fs::create_dir(host.image().join("root")).unwrap();
    fs::write(host.image().join("root/app.py"), module).unwrap();
    let mut plan = host.plan(&["/usr/bin/python3.11", "-u"]);
    plan.limits.memory_limit_bytes = 512 * MIB;
    Some((host, plan))
}

/// A container of the template that runs the module.
fn module(plan: &ContainerPlan, arguments: &[&str]) -> ContainerPlan {
    let mut plan = plan.clone();
    let words = ["/usr/bin/python3.11", "-m", "app"].iter().chain(arguments);
    plan.arguments = words.map(|word| (*word).to_owned()).collect();
    plan
}

fn state(host: &Host, template: &Template) -> TemplateState {
    let state = async { tokio::time::timeout(Duration::from_secs(30), template.state()).await };
    host.runtime.block_on(state).expect("a state in time")
}

fn ready(host: &Host, template: &Template, reader: &mut impl Read) {
    match state(host, template) {
        TemplateState::Ready { .. } => {}
        TemplateState::Unusable { reason } => {
            let mut said = vec![0; 10_000];
            let read = reader.read(&mut said).unwrap_or(0);
            panic!("{reason}: {}", String::from_utf8_lossy(&said[..read]));
        }
    }
}

/// Waits until it runs, and gives its first process.
fn started(host: &Host, handle: &mut ContainerHandle) -> u32 {
    match host.next(handle) {
        Some(ContainerProcessEvent::Started { process_id }) => process_id,
        other => panic!("{other:?}"),
    }
}

fn a_template_bears_containers() {
    let lines = r#"
import os, sys
if __name__ == "__main__":
    print(os.environ.get("WHO"), sys.argv[1:], os.getpid(), os.getcwd(), len(os.environ))
    print(sorted(name for name in os.listdir("/proc") if name.isdigit()), os.path.exists("/only"))
    open("/written", "x").write("mine")
    status = open("/proc/self/status").read()
    caps = int(status.split("CapBnd:")[1].split()[0], 16)
    print("admin", bool(caps & (1 << 21 | 1 << 19 | 1 << 12)), status.split("NoNewPrivs:")[1].split()[0])
    print("effective", status.split("CapEff:")[1].split()[0] == status.split("CapBnd:")[1].split()[0])
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    print("setns", libc.setns(os.open("/proc/self/ns/net", os.O_RDONLY), 0), ctypes.get_errno())
    print("mount", libc.mount(b"none", b"/tmp", b"tmpfs", 0, None), ctypes.get_errno())
    print("descriptors", len(os.listdir("/proc/self/fd")))
    sys.exit(int(sys.argv[1]))
"#;
    let Some((host, plan)) = open("templates-bear", lines) else { return };
    let (template, mut reader) = host.template(plan.clone(), &["app"]);
    ready(&host, &template, &mut reader);
    for round in 0..5 {
        let mut container = module(&plan, &[&round.to_string()]);
        container.environment.push(("WHO".into(), format!("number {round}")));
        if round == 3 {
            container.files.push(PlannedFile {
                path: "/only".into(),
                mode: 0o600,
                bytes: b"here".to_vec(),
            });
        }
        let (handle, reader) = host.start_from(&template, container).unwrap();
        let (output, exit) = host.finish(handle, reader);
        assert_eq!((exit.exit_code, exit.signal), (Some(round), None), "{output}");
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[0], format!("number {round} ['{round}'] 2 /root 2"));
        let only = if round == 3 { "True" } else { "False" };
        assert_eq!(lines[1], format!("['1', '2'] {only}"));
        assert_eq!(lines[2..6], ["admin False 1", "effective True", "setns -1 1", "mount -1 1"]);
        // The three streams, its line to the first process, the two just opened.
        assert_eq!(lines[6], "descriptors 6");
    }
    let (handle, reader) = host.start_from(&template, module(&plan, &["x"])).unwrap();
    let (output, exit) = host.finish(handle, reader);
    assert_eq!(exit.exit_code, Some(1));
    assert!(output.contains("ValueError"), "{output}");
}

fn forks_share_nothing_that_matters() {
    let lines = r#"
import os, random, ssl, uuid, tempfile
ssl.RAND_bytes(1); random.random(); tempfile.gettempprefix()
if __name__ == "__main__":
    print(random.random(), ssl.RAND_bytes(8).hex(), uuid.uuid4(), next(tempfile._get_candidate_names()))
"#;
    let Some((host, plan)) = open("templates-random", lines) else { return };
    let (template, mut reader) = host.template(plan.clone(), &["app"]);
    ready(&host, &template, &mut reader);
    let mut seen = HashSet::new();
    for _ in 0..6 {
        let (handle, reader) = host.start_from(&template, module(&plan, &[])).unwrap();
        let (output, exit) = host.finish(handle, reader);
        assert_eq!(exit.exit_code, Some(0), "{output}");
        for word in output.split_whitespace() {
            assert!(seen.insert(word.to_owned()), "{word} twice");
        }
    }
    assert_eq!(seen.len(), 24);
}

fn threads_keep_a_template_from_forking() {
    let lines = "import threading, time\n\
                 threading.Thread(target=time.sleep, args=(1000,), name='beater', daemon=True).start()\n";
    let Some((host, plan)) = open("templates-threads", lines) else { return };
    let (template, _reader) = host.template(plan.clone(), &["app"]);
    let TemplateState::Unusable { reason } = state(&host, &template) else { panic!() };
    assert!(reason.contains("2 threads") && reason.contains("beater"), "{reason}");
    let error = host.start_from(&template, module(&plan, &[])).err().unwrap().to_string();
    assert!(error.contains("beater"), "{error}");
    // The container is started plainly instead.
    let mut plain = module(&plan, &[]);
    plain.arguments = vec!["/usr/bin/python3.11".into(), "-c".into(), "print('plain')".into()];
    assert_eq!(host.run(plain).0, "plain\n");
    let (template, _reader) = host.template(plan, &["no_such_module"]);
    let TemplateState::Unusable { reason } = state(&host, &template) else { panic!() };
    assert!(reason.contains("ModuleNotFoundError"), "{reason}");
}

fn containers_outlive_their_template() {
    let lines = "import time\nif __name__ == '__main__': time.sleep(0.5); print('lived')\n";
    let Some((host, plan)) = open("templates-outlive", lines) else { return };
    let (template, mut reader) = host.template(plan.clone(), &["app"]);
    ready(&host, &template, &mut reader);
    let (handle, reader) = host.start_from(&template, module(&plan, &[])).unwrap();
    drop(template);
    let (output, exit) = host.finish(handle, reader);
    assert_eq!((output.as_str(), exit.exit_code), ("lived\n", Some(0)));
}

fn a_parked_container_goes_on_with_its_file() {
    let lines = r#"
import os, time
if __name__ == "__main__":
    print("waiting", flush=True)
    while not os.path.exists("/__modal/restore-state.json"):
        time.sleep(0.01)
    print(open("/__modal/restore-state.json").read())
"#;
    let Some((host, plan)) = open("templates-parked", lines) else { return };
    let (template, mut reader) = host.template(plan.clone(), &["app"]);
    ready(&host, &template, &mut reader);
    let mut parked = Vec::new();
    for _ in 0..3 {
        let (mut handle, reader) = host.start_from(&template, module(&plan, &[])).unwrap();
        started(&host, &mut handle);
        let mut reader = std::io::BufReader::new(reader);
        let mut line = String::new();
        std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
        assert_eq!(line, "waiting\n");
        handle.control().park();
        parked.push((handle, reader));
    }
    std::thread::sleep(Duration::from_millis(100));
    let before = parked[0].0.control().usage().cpu_ms;
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(parked[0].0.control().usage().cpu_ms, before);
    for (number, (mut handle, mut reader)) in parked.into_iter().enumerate() {
        let bytes = format!("state {number}").into_bytes();
        let path = "/__modal/restore-state.json".into();
        let begun = Instant::now();
        handle.control().release(PlannedFile { path, mode: 0o644, bytes }).unwrap();
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        println!("released and ended in {:?}", begun.elapsed());
        assert_eq!(output, format!("state {number}\n"));
        let Some(ContainerProcessEvent::Exited(exit)) = host.next(&mut handle) else { panic!() };
        assert_eq!(exit.exit_code, Some(0));
    }
}

/// Private memory of every process of a container, in bytes.
fn private_bytes(first: u32) -> u64 {
    let rollup = |process: u32| {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
        let private = text.lines().filter(|line| line.starts_with("Private_"));
        let kib = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.sum::<u64>() * 1024
    };
    // The program was forked elsewhere: it is known by its namespace.
    let namespace = fs::read_link(format!("/proc/{first}/ns/pid")).unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let own = numbers.filter(|number| {
        fs::read_link(format!("/proc/{number}/ns/pid")).is_ok_and(|found| found == namespace)
    });
    own.map(rollup).sum()
}

fn a_template_of_packages_is_quick_and_small() {
    let Ok(packages) = std::env::var(PACKAGES_VARIABLE) else {
        return println!(
            "skipped: set {PACKAGES_VARIABLE} to a directory with scikit-learn and modal"
        );
    };
    let lines = r#"
import gc, sys, time
import numpy, sklearn.linear_model
if __name__ == "__main__":
    print("running", flush=True)
    gc.collect()
    print("collected", flush=True)
    time.sleep(1000)
"#;
    let Some((host, mut plan)) = open("templates-packages", lines) else { return };
    let packages = Path::new(&packages).to_owned();
    plan.binds.push(Bind { source: packages, target: "/packages".into(), access: Access::Read });
    plan.environment.push(("PYTHONPATH".into(), "/packages".into()));
    plan.environment.push(("MODAL_IS_REMOTE".into(), "1".into()));
    let (template, mut reader) =
        host.template(plan.clone(), &["modal._container_entrypoint", "app"]);
    ready(&host, &template, &mut reader);
    println!("{:?}, {:?}", state(&host, &template), template.usage());
    let (mut running, mut first) = (Vec::new(), Vec::new());
    let (mut to_started, mut to_running, mut private) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..IDLE {
        std::thread::sleep(Duration::from_millis(100));
        let begun = Instant::now();
        let (mut handle, reader) = host.start_from(&template, module(&plan, &[])).unwrap();
        first.push(started(&host, &mut handle));
        to_started.push(begun.elapsed());
        let mut reader = std::io::BufReader::new(reader);
        let mut line = String::new();
        std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
        assert_eq!(line, "running\n");
        to_running.push(begun.elapsed());
        std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
        running.push((handle, reader));
    }
    for process in first {
        private.push(private_bytes(process));
    }
    to_started.sort_unstable();
    to_running.sort_unstable();
    private.sort_unstable();
    let usage = running[0].0.control().usage();
    println!(
        "started {:?} (at most {:?}), running {:?} (at most {:?}), private {:.1} MiB (at most {:.1}), {usage:?}",
        to_started[IDLE / 2],
        to_started[IDLE - 1],
        to_running[IDLE / 2],
        to_running[IDLE - 1],
        private[IDLE / 2] as f64 / MIB as f64,
        private[IDLE - 1] as f64 / MIB as f64,
    );
    // Far above what a quiet machine takes: this one may be building something.
    assert!(to_running[IDLE / 2] < Duration::from_secs(5), "{to_running:?}");
    assert!(private[IDLE - 1] < 10 * MIB, "{private:?}");
}
