//! The container side of the real Modal client, in containers of every kind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use corral_isolation::{
    Access, Bind, ContainerPlan, ContainerProcessEvent, PlannedFile, TemplateState,
};
use corral_worker::ContainerHandle;

use crate::harness::Test;
use crate::host::{Host, MIB};
use crate::templates::PACKAGES_VARIABLE;

const SERVER: &str = include_str!("server.py");

/// How long a container may take to call, on a machine that has much else to do.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// How often each kind of start is timed.
const ROUNDS: usize = 8;

pub fn tests() -> Vec<Test> {
    vec![("the_real_client_runs_in_every_kind_of_container", every_kind)]
}

struct Server {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Server {
    fn start(packages: &str, directory: &Path, kind: &str) -> Self {
        let _ = fs::remove_file(directory.join("api.sock"));
        let mut process = Command::new("/usr/bin/python3.11")
            .args(["-c", SERVER])
            .args([directory.join("api.sock"), directory.join("args.pb")])
            .arg(kind)
            .env("PYTHONPATH", packages)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let server = Self { process, lines };
        server.wait_for("listening");
        server
    }

    /// When the call came, since the epoch.
    fn wait_for(&self, call: &str) -> Duration {
        let line = self.lines.recv_timeout(CALL_TIMEOUT);
        let line = line.unwrap_or_else(|_| panic!("the server did not hear {call}"));
        let (name, time) = line.trim().rsplit_once(' ').unwrap_or((&line, ""));
        assert_eq!(name, call, "the server heard {line:?}");
        Duration::from_secs_f64(time.parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

fn median(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let (middle, last) = (times[times.len() / 2], times[times.len() - 1]);
    format!("{:.1} ms, at most {:.1} ms", middle.as_secs_f64() * 1e3, last.as_secs_f64() * 1e3)
}

/// A container of the client's, as a worker would plan it.
fn plan(host: &Host, packages: &str, directory: &Path) -> ContainerPlan {
    let mut plan = host.plan(&["/usr/bin/python3.11", "-u", "-m", "modal._container_entrypoint"]);
    plan.limits.memory_limit_bytes = 512 * MIB;
    let bind = |source: &Path, target: &str| Bind {
        source: source.into(),
        target: target.into(),
        access: Access::Read,
    };
    plan.binds.push(bind(Path::new(packages), "/packages"));
    plan.binds.push(bind(&directory.join("api.sock"), "/__corral/api.sock"));
    let bytes = fs::read(directory.join("args.pb")).unwrap();
    let path = "/__corral/args.pb".into();
    plan.files.push(PlannedFile { path, mode: 0o600, bytes });
    for (name, value) in [
        ("PYTHONPATH", "/packages"),
        ("MODAL_IS_REMOTE", "1"),
        ("MODAL_SERVER_URL", "unix:///__corral/api.sock"),
        ("MODAL_CONTAINER_ARGUMENTS_PATH", "/__corral/args.pb"),
        ("MODAL_TASK_ID", "ta-1"),
    ] {
        plan.environment.push((name.into(), value.into()));
    }
    plan
}

/// Waits until it has ended well, and gives the processor time that it took.
fn ended(host: &Host, mut handle: ContainerHandle) -> Duration {
    loop {
        match host.next(&mut handle) {
            Some(ContainerProcessEvent::Started { .. }) => {}
            Some(ContainerProcessEvent::Exited(exit)) if exit.exit_code == Some(0) => {
                return Duration::from_millis(exit.cpu_ms);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Shows what a container says.
fn show((handle, mut reader): (ContainerHandle, std::io::PipeReader)) -> ContainerHandle {
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::stderr()));
    handle
}

fn every_kind() {
    let Ok(packages) = std::env::var(PACKAGES_VARIABLE) else {
        return println!(
            "skipped: set {PACKAGES_VARIABLE} to a directory with scikit-learn and modal"
        );
    };
    let Some(host) = Host::new("containers-client") else { return };
    fs::create_dir(host.image().join("root")).unwrap();
    let lines = "import modal, numpy, sklearn.linear_model\n\
                 assert not modal.is_local()\n\
                 app = modal.App('trial')\n\
                 @app.function()\n\
                 def f(): pass\n";
    fs::write(host.image().join("root/app.py"), lines).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&packages, directory.path(), "plain");
    let cold_plan = plan(&host, &packages, directory.path());
    let (mut cold, mut warm, mut released) = (Vec::new(), Vec::new(), Vec::new());
    let mut spent = Vec::new();
    for _ in 0..ROUNDS / 2 {
        let begun = now();
        let handle = show(host.start(cold_plan.clone()));
        server.wait_for("hello");
        cold.push(server.wait_for("inputs") - begun);
        let _ = ended(&host, handle);
    }
    println!("plainly, to its first poll: {}", median(cold));

    let imports = ["modal._container_entrypoint", "app"];
    let mut template_plan = cold_plan.clone();
    template_plan.arguments = vec!["/usr/bin/python3.11".into(), "-u".into()];
    template_plan.binds.retain(|bind| bind.target != Path::new("/__corral/api.sock"));
    let (template, _reader) = host.template(template_plan, &imports);
    let state = host.runtime.block_on(template.state());
    assert!(matches!(state, TemplateState::Ready { .. }), "{state:?}");
    for _ in 0..ROUNDS {
        std::thread::sleep(Duration::from_millis(200));
        let begun = now();
        let handle = show(host.start_from(&template, cold_plan.clone()).unwrap());
        server.wait_for("hello");
        warm.push(server.wait_for("inputs") - begun);
        spent.push(ended(&host, handle));
    }
    println!("from its template, to its first poll: {}", median(warm));
    println!("of the processor, to its end: {}", median(spent));

    drop(server);
    let server = Server::start(&packages, directory.path(), "snapshot");
    let mut snapshot_plan = plan(&host, &packages, directory.path());
    snapshot_plan.environment.push(("MODAL_ENABLE_SNAP_RESTORE".into(), "1".into()));
    for _ in 0..ROUNDS {
        let handle = show(host.start_from(&template, snapshot_plan.clone()).unwrap());
        server.wait_for("hello");
        server.wait_for("checkpoint");
        // The client closes its connections after that.
        std::thread::sleep(Duration::from_millis(200));
        handle.control().park();
        std::thread::sleep(Duration::from_millis(100));
        let begun = now();
        let state = br#"{"task_id": "ta-2", "function_id": "fu-1"}"#.to_vec();
        let path = "/__modal/restore-state.json".into();
        handle.control().release(PlannedFile { path, mode: 0o644, bytes: state }).unwrap();
        released.push(server.wait_for("inputs") - begun);
        let _ = ended(&host, handle);
    }
    println!("from its checkpoint, to its first poll: {}", median(released));
}
