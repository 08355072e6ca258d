//! What containers are held to, and what is told of them.

use std::time::{Duration, Instant};

use corral_isolation::{ContainerProcessEvent, Writable};

use crate::harness::Test;
use crate::host::{Host, MIB};

pub fn tests() -> Vec<Test> {
    vec![
        ("a_container_tells_how_it_ended", a_container_tells_how_it_ended),
        ("memory_is_held_and_told_with_numbers", memory_is_held_and_told_with_numbers),
        ("the_processor_is_held", the_processor_is_held),
        ("the_disk_is_held_and_told_with_numbers", the_disk_is_held_and_told_with_numbers),
        ("a_fork_bomb_ends_with_its_container", a_fork_bomb_ends_with_its_container),
        ("a_frozen_container_stands_still", a_frozen_container_stands_still),
        ("starts_are_quick", starts_are_quick),
        ("the_machine_says_what_it_can", the_machine_says_what_it_can),
    ]
}

fn the_machine_says_what_it_can() {
    let found = corral_worker::inspect_containers(&std::env::current_exe().unwrap()).unwrap();
    println!("{found:?}");
    let works = Host::new("containers-inspected").is_some();
    assert_eq!(found.no_namespaces.is_none(), works);
    for why in found.no_namespaces.iter().chain(&found.no_network) {
        assert!(!why.reason.is_empty() && !why.setting.is_empty());
    }
}

fn a_container_tells_how_it_ended() {
    let Some(host) = Host::new("containers-ends") else { return };
    let (output, exit) = host.run(host.plan(&["/bin/sh", "-c", "echo hello; exit 4"]));
    assert_eq!((output.as_str(), exit.exit_code, exit.signal), ("hello\n", Some(4), None));
    assert!(exit.over_memory.is_none());
    let (mut handle, _reader) = host.start(host.plan(&["/no/such/program"]));
    let event = host.next(&mut handle);
    let Some(ContainerProcessEvent::NotStarted { error }) = event else { panic!("{event:?}") };
    assert!(error.contains("/no/such/program"), "{error}");
    assert_eq!(host.next(&mut handle), None);

    let (mut handle, _reader) = host.start(host.plan(&["sleep", "1000"]));
    assert!(matches!(host.next(&mut handle), Some(ContainerProcessEvent::Started { .. })));
    handle.control().kill();
    let Some(ContainerProcessEvent::Exited(exit)) = host.next(&mut handle) else { panic!() };
    assert_eq!((exit.exit_code, exit.signal), (None, Some(9)));
}

fn memory_is_held_and_told_with_numbers() {
    let Some(host) = Host::new("containers-memory") else { return };
    let (output, exit) =
        host.run(host.python("print('here', flush=True); held = bytearray(500 << 20); print(1)"));
    assert_eq!(output, "here\n");
    let over = exit.over_memory.expect("it says so");
    assert_eq!(over.limit_bytes, 128 * MIB);
    assert!(over.measured_bytes > 120 * MIB, "{over:?}");
    // The same in files of its own, which are memory.
    let program = "open('/dev/shm/large', 'wb').write(bytes(60 << 20)); \
                   open('/root/large', 'wb').write(bytes(60 << 20)); print('done')";
    let mut plan = host.python(program);
    plan.limits.memory_limit_bytes = 100 * MIB;
    let (output, exit) = host.run(plan);
    assert!(!output.contains("done") && exit.over_memory.is_some(), "{output} {exit:?}");
    // Another container goes on as if nothing had been.
    assert_eq!(host.run(host.plan(&["echo", "well"])).0, "well\n");
}

fn the_disk_is_held_and_told_with_numbers() {
    let Some(host) = Host::new("containers-disk") else { return };
    let directory = tempfile::tempdir().unwrap();
    let program = "import time\n\
                   for number in range(20): open(f'/root/{number}', 'wb').write(bytes(1 << 20))\n\
                   print('written', flush=True); time.sleep(1000)";
    let mut plan = host.python(program);
    plan.writable = Writable::Directory { path: directory.path().to_owned() };
    plan.limits.disk_bytes = 8 * MIB;
    let (output, exit) = host.run(plan);
    assert_eq!(output, "written\n");
    let over = exit.over_disk.expect("it says so");
    assert_eq!((over.limit_bytes, exit.signal), (8 * MIB, Some(9)));
    assert!(over.measured_bytes > 8 * MIB, "{over:?}");
}

fn the_processor_is_held() {
    let Some(host) = Host::new("containers-processor") else { return };
    if matches!(host.enforcer, corral_worker::Enforcer::Watchdog) {
        return println!("skipped: no groups here");
    }
    let mut plan = host.python(
        "import time\nend = time.time() + 1\nwhile time.time() < end: pass\nprint(time.process_time())",
    );
    plan.limits.milli_cpu_limit = Some(200);
    let (output, exit) = host.run(plan);
    let used: f64 = output.trim().parse().unwrap();
    assert!(used < 0.5, "used {used} s of a second at a fifth of a core");
    assert!(exit.cpu_ms > 30 && exit.cpu_ms < 700, "{exit:?}");
}

fn a_fork_bomb_ends_with_its_container() {
    let Some(host) = Host::new("containers-bomb") else { return };
    let (mut handle, _reader) =
        host.start(host.python("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"));
    assert!(matches!(host.next(&mut handle), Some(ContainerProcessEvent::Started { .. })));
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    handle.control().kill();
    assert!(matches!(host.next(&mut handle), Some(ContainerProcessEvent::Exited(_))));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

fn a_frozen_container_stands_still() {
    let Some(host) = Host::new("containers-frozen") else { return };
    let program = "import time\nwhile True: time.sleep(0.001)";
    let (mut handle, _reader) = host.start(host.python(program));
    assert!(matches!(host.next(&mut handle), Some(ContainerProcessEvent::Started { .. })));
    let control = handle.control();
    if let Err(error) = control.freeze() {
        return println!("skipped: {error}");
    }
    // The kernel freezes one process after the other.
    std::thread::sleep(Duration::from_millis(100));
    let before = control.usage().cpu_ms;
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(control.usage().cpu_ms, before);
    control.kill();
    assert!(matches!(host.next(&mut handle), Some(ContainerProcessEvent::Exited(_))));
}

fn starts_are_quick() {
    let Some(host) = Host::new("containers-starts") else { return };
    let mut times = Vec::new();
    for _ in 0..20 {
        // Until a seat is there again, as between the starts of a machine that has work.
        std::thread::sleep(Duration::from_millis(40));
        let begun = Instant::now();
        let (mut handle, _reader) = host.start(host.plan(&["/usr/bin/true"]));
        assert!(matches!(host.next(&mut handle), Some(ContainerProcessEvent::Started { .. })));
        times.push(begun.elapsed());
        host.next(&mut handle);
    }
    times.sort_unstable();
    println!("a start takes {:?}, at most {:?}", times[10], times[19]);
    // Far above what a quiet machine takes: this one may be building something.
    assert!(times[10] < Duration::from_secs(5), "{times:?}");
}
