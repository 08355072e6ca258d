//! Single containers: what they have, what they may, what is out of their reach.

use std::fs;
use std::net::TcpListener;
use std::time::Instant;

use corral_isolation::{Access, Bind, IdMapping, PlannedFile, SeatEvent, Writable};

use crate::harness::Test;
use crate::trial::{Image, MIB, Outcome, run, seat, start};

pub fn tests() -> Vec<Test> {
    vec![
        ("a_program_has_what_it_expects", a_program_has_what_it_expects),
        ("files_have_their_owners", files_have_their_owners),
        (
            "what_a_program_writes_goes_where_it_is_told",
            what_a_program_writes_goes_where_it_is_told,
        ),
        ("ends_are_told", ends_are_told),
        ("what_cannot_start_says_why", what_cannot_start_says_why),
        ("the_machine_is_out_of_reach", the_machine_is_out_of_reach),
        ("system_calls_are_refused", system_calls_are_refused),
        ("a_fork_bomb_is_held", a_fork_bomb_is_held),
        ("the_disk_is_held", the_disk_is_held),
        ("orphans_are_reaped_and_ended", orphans_are_reaped_and_ended),
        ("a_start_is_quick", a_start_is_quick),
        ("an_ordinary_user_has_containers", an_ordinary_user_has_containers),
    ]
}

/// Whether this machine lets the test be; says so where it does not.
fn can() -> bool {
    match seat(IdMapping::of_this_process()) {
        Ok(_) => true,
        Err(why) => {
            println!("skipped: no namespaces here: {why}");
            false
        }
    }
}

fn ok(outcome: &Outcome) -> &str {
    assert_eq!(outcome.exit_code, Some(0), "{outcome:?}");
    outcome.output.trim()
}

fn a_program_has_what_it_expects() {
    if !can() {
        return;
    }
    let image = Image::new();
    let mut plan = image.shell(
        "set -e; id -u; hostname; echo $GREETING; cat /opt/made; echo x > /dev/null; \
         head -c 4 /dev/urandom | wc -c; test -d /dev/shm; test -L /dev/fd; ls /dev/pts/ptmx; \
         ls -d /tmp; touch /tmp/a; pwd; cat /proc/1/comm; grep -c ' / ' /proc/self/mountinfo",
    );
    plan.environment.push(("GREETING".into(), "hello there".into()));
    let path = "/opt/made".into();
    plan.files.push(PlannedFile { path, mode: 0o640, bytes: b"by the plan\n".to_vec() });
    let outcome = run(&plan);
    let expected =
        "0\ninside\nhello there\nby the plan\n4\n/dev/pts/ptmx\n/tmp\n/root\ncorral-init";
    assert!(ok(&outcome).starts_with(expected), "{outcome:?}");
}

fn files_have_their_owners() {
    if !can() {
        return;
    }
    let image = Image::new();
    fs::write(image.path().join("etc/owned"), "").unwrap();
    let mut line = "stat -c %u:%g /etc/owned /usr/bin; chown 0:0 /etc/owned".to_owned();
    let expected = if IdMapping::of_this_process() == IdMapping::Shifted {
        std::os::unix::fs::chown(image.path().join("etc/owned"), Some(33), Some(44)).unwrap();
        line.push_str("; touch /etc/new; chown 12:13 /etc/new; stat -c %u:%g /etc/new");
        "33:44\n0:0\n12:13"
    } else {
        "0:0\n65534:65534"
    };
    assert_eq!(ok(&run(&image.shell(&line))), expected);
}

fn what_a_program_writes_goes_where_it_is_told() {
    if !can() {
        return;
    }
    let image = Image::new();
    fs::write(image.path().join("etc/old"), "old").unwrap();
    let kept = tempfile::tempdir().unwrap();
    let shared = tempfile::tempdir().unwrap();
    let mut plan = image.shell(
        "set -e; echo new > /etc/new; rm /etc/old; mkdir -p /a/b; echo deep > /a/b/c; \
         echo out > /shared/out; ! touch /read/x 2>/dev/null",
    );
    plan.writable = Writable::Directory { path: kept.path().to_owned() };
    for (target, access) in [("/shared", Access::Write), ("/read", Access::Read)] {
        let source = shared.path().to_owned();
        plan.binds.push(Bind { source, target: target.into(), access });
    }
    ok(&run(&plan));
    let read = |path: &str| fs::read_to_string(kept.path().join("upper").join(path));
    assert_eq!(read("etc/new").unwrap(), "new\n");
    assert_eq!(read("a/b/c").unwrap(), "deep\n");
    assert_eq!(fs::read_to_string(shared.path().join("out")).unwrap(), "out\n");
    // The image is as it was, and the layer says what is gone from it.
    assert_eq!(fs::read_to_string(image.path().join("etc/old")).unwrap(), "old");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(
        fs::metadata(kept.path().join("upper/etc/new")).unwrap().uid(),
        rustix::process::getuid().as_raw()
    );
    let mut over = image.shell("cat /a/b/c; ls /etc/old 2>&1 | grep -c 'No such'");
    over.lowers.insert(0, kept.path().join("upper"));
    assert_eq!(ok(&run(&over)), "deep\n1");
}

fn ends_are_told() {
    if !can() {
        return;
    }
    let image = Image::new();
    let outcome = run(&image.shell("echo out; echo err >&2; exit 7"));
    assert_eq!((outcome.exit_code, outcome.signal), (Some(7), None));
    assert_eq!((outcome.output.as_str(), outcome.error.as_str()), ("out\n", "err\n"));
    assert_eq!(run(&image.shell("kill -SEGV $$")).signal, Some(11));

    let running =
        start(&image.shell("trap 'echo told; exit 3' TERM; while :; do sleep 0.05; done"));
    assert_eq!(running.next(), SeatEvent::Started);
    // The shell may not have set its trap yet.
    std::thread::sleep(std::time::Duration::from_millis(100));
    running.seat.signal(15);
    let outcome = running.finish();
    assert_eq!((outcome.exit_code, outcome.output.as_str()), (Some(3), "told\n"));

    let running = start(&image.shell("sleep 1000 & sleep 1000"));
    assert_eq!(running.next(), SeatEvent::Started);
    running.seat.kill();
    let outcome = running.finish();
    assert_eq!((outcome.exit_code, outcome.signal), (None, None));
}

fn what_cannot_start_says_why() {
    if !can() {
        return;
    }
    let image = Image::new();
    let outcome = run(&image.plan(&["no-such-program"]));
    assert!(outcome.error.contains("no no-such-program in the image along PATH"), "{outcome:?}");
    let outcome = run(&image.plan(&["/etc/passwd"]));
    assert!(outcome.error.contains("Permission denied"), "{outcome:?}");
    let mut plan = image.shell("true");
    plan.lowers.push("/nonexistent/layer".into());
    let seat = seat(IdMapping::of_this_process()).unwrap();
    let null = || fs::File::options().read(true).write(true).open("/dev/null").unwrap().into();
    let stdio = corral_isolation::Stdio { input: null(), output: null(), error: null() };
    if IdMapping::of_this_process() == IdMapping::Shifted {
        let error = seat.run(&plan, &stdio).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/layer"), "{error}");
    }
}

fn the_machine_is_out_of_reach() {
    if !can() {
        return;
    }
    let image = Image::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "secret").unwrap();
    // An abstract socket has no path that a mount could hide.
    let (own, path) = (std::process::id(), secret.path().display().to_string());
    let program = format!(
        r#"
import os, socket
def tried(name, act):
    try:
        print(name, "REACHED", act())
    except OSError as error:
        print(name, "no")
tried("file", lambda: open({path:?}).read())
tried("root of init", lambda: os.listdir("/proc/1/root"))
tried("init's environment", lambda: open("/proc/1/environ").read())
tried("init's descriptors", lambda: os.listdir("/proc/1/fd"))
tried("init's program", lambda: os.readlink("/proc/1/exe"))
tried("process", lambda: os.kill({own}, 0))
tried("port", lambda: socket.create_connection(("127.0.0.1", {port}), 2))
tried("sysctl", lambda: open("/proc/sys/kernel/hostname", "w").write("x"))
tried("forward", lambda: open("/proc/sys/net/ipv4/ip_forward", "w").write("1"))
tried("sysrq", lambda: open("/proc/sysrq-trigger", "w").write("h"))
tried("sys", lambda: open("/sys/kernel/uevent_helper", "w").write("x"))
tried("device", lambda: os.mknod("/dev/sda", 0o60600, os.makedev(8, 0)))
tried("disk", lambda: os.mknod("/tmp/vda", 0o60600, os.makedev(254, 0)) or open("/tmp/vda", "rb").read(1))
tried("bound", lambda: open("/usr/bin/written", "w"))
pids = [name for name in os.listdir("/proc") if name.isdigit()]
print("processes", len(pids))
print("interfaces", [name for _, name in socket.if_nameindex()])
print("keys", open("/proc/keys").read() == "")
tried("chroot", lambda: os.chroot("/root") or os.chdir("../../..") or os.chroot(".") or open({path:?}).read())
"#
    );
    let outcome = run(&image.python(&program));
    let output = ok(&outcome);
    assert!(!output.contains("REACHED"), "{output}");
    assert_eq!(output.lines().filter(|line| line.ends_with(" no")).count(), 15, "{output}");
    assert!(output.contains("processes 2\n"), "{output}");
    assert!(output.contains("interfaces ['lo']"), "{output}");
    assert!(output.contains("keys True"), "{output}");
}

fn system_calls_are_refused() {
    if !can() {
        return;
    }
    let image = Image::new();
    let program = r#"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    print(name, "REACHED" if result >= 0 else ctypes.get_errno())
none, here = None, b"/tmp"
call("mount", 165, b"none", here, b"tmpfs", 0, none)
call("umount", 166, b"/proc", 2)
call("unshare user", 272, 0x10000000)
call("unshare mount", 272, 0x20000)
call("setns", 308, os.open("/proc/self/ns/net", os.O_RDONLY), 0)
call("clone user", 56, 0x10000000 | 17, 0, 0, 0, 0)
call("ptrace", 101, 16, 1, 0, 0)
call("vm_readv", 310, 1, 0, 0, 0, 0, 0)
call("keyctl", 250, 0, -3, 0)
call("add_key", 248, b"user", b"a", b"b", 1, -3)
call("bpf", 321, 0, 0, 0)
call("perf", 298, 0, 0, -1, -1, 0)
call("io_uring", 425, 8, none)
call("userfaultfd", 323, 0)
call("kexec", 246, 0, 0, 0, 0)
call("module", 175, 0, 0, 0)
call("sethostname", 170, b"x", 1)
call("settimeofday", 164, 0, 0)
call("reboot", 169, 0xfee1dead, 672274793, 0x1234567, 0)
call("clone3", 435, 0, 0)
call("vsock", 41, 40, 1, 0)
call("x32", 0x40000000 + 39)
print("privileges", open("/proc/self/status").read().split("NoNewPrivs:")[1].split()[0])
caps = int(open("/proc/self/status").read().split("CapBnd:")[1].split()[0], 16)
print("admin", bool(caps & (1 << 21 | 1 << 19 | 1 << 12 | 1 << 27)))
"#;
    if cfg!(not(target_arch = "x86_64")) {
        return println!("skipped: the numbers are those of x86-64");
    }
    let outcome = run(&image.python(program));
    let output = ok(&outcome);
    assert!(!output.contains("REACHED"), "{output}");
    assert!(output.contains("privileges 1\nadmin False"), "{output}");
    assert!(output.contains("clone3 38") && output.contains("mount 1\n"), "{output}");
}

fn a_fork_bomb_is_held() {
    if !can() {
        return;
    }
    let image = Image::new();
    let program = r#"
import os, time
count = 0
try:
    while count < 1000:
        if os.fork() == 0:
            time.sleep(100)
            os._exit(0)
        count += 1
except OSError as error:
    print(error.errno, count < 64)
"#;
    assert_eq!(ok(&run(&image.python(program))), "11 True");
}

fn the_disk_is_held() {
    if !can() {
        return;
    }
    let image = Image::new();
    let line = "head -c 30000000 /dev/zero > /root/large; stat -c %s /root/large";
    let outcome = run(&image.shell(line));
    assert!(outcome.error.contains("No space left on device"), "{outcome:?}");
    let written: u64 = outcome.output.trim().parse().unwrap();
    assert!(written <= 16 * MIB, "{written}");
    // On disk a single file is held at least.
    let mut plan = image.shell("head -c 30000000 /dev/zero > /root/large; echo $?");
    let directory = tempfile::tempdir().unwrap();
    plan.writable = Writable::Directory { path: directory.path().to_owned() };
    run(&plan);
    let written = fs::metadata(directory.path().join("upper/root/large")).unwrap().len();
    assert_eq!(written, 16 * MIB);
}

fn orphans_are_reaped_and_ended() {
    if !can() {
        return;
    }
    let image = Image::new();
    let line = "for i in 1 2 3 4 5; do (sleep 0.01 &) ; done; sleep 0.3; \
                ps -e -o stat= | grep -c Z; (sleep 1000 >/dev/null 2>&1 &); exit 0";
    let running = start(&image.shell(line));
    let first = running.seat.process_id();
    let outcome = running.finish();
    assert_eq!(outcome.output, "0\n", "{outcome:?}");
    // Whatever was in it is gone with its first process.
    let gone = || !std::path::Path::new(&format!("/proc/{first}/task/{first}/children")).exists();
    let begun = Instant::now();
    while !gone() && begun.elapsed().as_secs() < 5 {
        let _ = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(gone());
}

fn a_start_is_quick() {
    if !can() {
        return;
    }
    let image = Image::new();
    let plan = image.plan(&["/usr/bin/true"]);
    let mut seats_us = Vec::new();
    let mut starts_us = Vec::new();
    let mut ends_us = Vec::new();
    for _ in 0..30 {
        let begun = Instant::now();
        let seat = seat(IdMapping::of_this_process()).unwrap();
        seats_us.push(begun.elapsed().as_micros());
        let begun = Instant::now();
        let running = crate::trial::start_in(seat, &plan);
        assert_eq!(running.next(), SeatEvent::Started);
        starts_us.push(begun.elapsed().as_micros());
        ok(&running.finish());
        ends_us.push(begun.elapsed().as_micros());
    }
    let median = |times: &mut Vec<u128>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let medians = [&mut seats_us, &mut starts_us, &mut ends_us].map(median);
    println!("seat {} us, start {} us, to its end {} us", medians[0], medians[1], medians[2]);
    // Far above what a quiet machine takes: this one may be building something.
    assert!(medians[1] < 2_000_000, "a start takes {} us", medians[1]);
}

/// Runs the other tests once more as a user who is nobody.
fn an_ordinary_user_has_containers() {
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    if IdMapping::of_this_process() == IdMapping::Own {
        return println!("skipped: this is an ordinary user already");
    }
    let names: Vec<&str> = tests().iter().map(|(name, _)| *name).collect();
    let others = names.iter().filter(|name| !name.starts_with("an_ordinary"));
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("--exact")
        .args(others)
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/")
        .output();
    match output {
        // Where the build lies is closed to others.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            println!("skipped: nobody may run this program: {error}");
        }
        other => {
            let output = other.unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            print!("{text}");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
