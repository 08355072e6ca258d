//! Containers that are processes without namespaces.

use std::io::Read;
use std::time::{Duration, Instant};

use corral_isolation::{ContainerPlan, ContainerProcessEvent, Isolation, PlannedFile};
use corral_worker_api::Enforcement;

use crate::harness::Test;
use crate::host::{Host, MIB};

pub fn tests() -> Vec<Test> {
    vec![
        ("a_bare_container_runs_and_ends", a_bare_container_runs_and_ends),
        ("a_bare_container_is_watched", a_bare_container_is_watched),
    ]
}

fn bare(host: &Host, directory: &std::path::Path, arguments: &[&str]) -> ContainerPlan {
    let mut plan = host.plan(arguments);
    plan.lowers.clear();
    plan.binds.clear();
    plan.working_directory = directory.to_owned();
    plan
}

fn a_bare_container_runs_and_ends() {
    let host = Host::of_processes("containers-bare", None);
    assert_eq!(host.containers.isolation(), Isolation::Process);
    let directory = tempfile::tempdir().unwrap();
    let line = "pwd; cat made; echo $GREETING; trap 'echo told; exit 5' INT; \
                while :; do sleep 0.02; done";
    let mut plan = bare(&host, directory.path(), &["sh", "-c", line]);
    plan.environment.push(("GREETING".into(), "hello".into()));
    let path = directory.path().join("made");
    plan.files.push(PlannedFile { path, mode: 0o600, bytes: b"by the plan\n".to_vec() });
    let (mut handle, mut reader) = host.start(plan);
    assert!(matches!(host.next(&mut handle), Some(ContainerProcessEvent::Started { .. })));
    std::thread::sleep(Duration::from_millis(200));
    handle.control().signal(2);
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    let expected = format!("{}\nby the plan\nhello\ntold\n", directory.path().display());
    assert_eq!(output, expected);
    let Some(ContainerProcessEvent::Exited(exit)) = host.next(&mut handle) else { panic!() };
    assert_eq!((exit.exit_code, exit.signal), (Some(5), None));

    // What it leaves behind ends with it.
    let line = "setsid sleep 1000 & sleep 1000";
    let (mut handle, mut reader) = host.start(bare(&host, directory.path(), &["sh", "-c", line]));
    assert!(matches!(host.next(&mut handle), Some(ContainerProcessEvent::Started { .. })));
    let begun = Instant::now();
    handle.control().kill();
    reader.read_to_string(&mut String::new()).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));

    let mut layered = host.plan(&["true"]);
    layered.working_directory = directory.path().to_owned();
    let error = host.try_start(layered).err().unwrap().to_string();
    assert!(error.contains("without namespaces"), "{error}");
    let mut outside = bare(&host, directory.path(), &["true"]);
    let path = directory.path().join("../outside");
    outside.files.push(PlannedFile { path, mode: 0o600, bytes: Vec::new() });
    assert!(host.try_start(outside).is_err());
}

fn a_bare_container_is_watched() {
    for enforcement in [None, Some(Enforcement::Watchdog)] {
        let host = Host::of_processes("containers-bare-watched", enforcement);
        let directory = tempfile::tempdir().unwrap();
        let program = "import time\nprint('here', flush=True)\nheld = []\n\
                       while True: held.append(bytearray(4 << 20)); time.sleep(0.005)";
        let plan = bare(&host, directory.path(), &["/usr/bin/python3.11", "-c", program]);
        let (mut handle, mut reader) = host.start(plan);
        assert!(matches!(host.next(&mut handle), Some(ContainerProcessEvent::Started { .. })));
        let Some(ContainerProcessEvent::Exited(exit)) = host.next(&mut handle) else { panic!() };
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        assert_eq!(output, "here\n");
        let over = exit.over_memory.expect("it says so");
        assert_eq!(over.limit_bytes, 128 * MIB);
        assert!(over.measured_bytes > 120 * MIB, "{over:?}");
    }
}
