//! A real `corral up` in a folder of its own, and its command line.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a condition is waited for before the test fails: generous, since the machine
/// may be building beside it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A small generator (SplitMix64), so that a seed repeats an order of kills.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }
}

/// The number in an environment variable, if there is one.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A running supervisor with its server and worker. Dropped, it ends all of them.
pub struct Corral {
    pub url: String,
    pub token: String,
    supervisor: Child,
    _scratch: Option<tempfile::TempDir>,
}

impl Corral {
    /// Starts one on a fresh data directory and a free port.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let data_dir = scratch.path().join("data");
        let mut corral = Self::start_in(&data_dir, arguments, None);
        corral._scratch = Some(scratch);
        corral
    }

    /// Starts one with settings in its environment.
    pub fn start_with_environment(environment: &[(&str, &str)]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut corral = Self::spawn(&scratch.path().join("data"), &[], None, environment);
        corral._scratch = Some(scratch);
        corral
    }

    /// Starts one on this directory; `token` is the one that an earlier start printed.
    pub fn start_in(data_dir: &Path, arguments: &[&str], token: Option<&str>) -> Self {
        Self::spawn(data_dir, arguments, token, &[])
    }

    fn spawn(
        data_dir: &Path,
        arguments: &[&str],
        token: Option<&str>,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut supervisor = Command::new(env!("CARGO_BIN_EXE_corral"))
            .arg("up")
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .env_remove("CORRAL_TOKEN")
            .env_remove("CORRAL_URL")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut url, mut printed) = (None, token.map(str::to_owned));
        let wants_token = token.is_none() && !arguments.contains(&"--no-auth");
        let mut lines = BufReader::new(supervisor.stdout.take().unwrap()).lines();
        while url.is_none() || (wants_token && printed.is_none()) {
            let line = lines.next().expect("corral up said too little before it ended").unwrap();
            if let Some(rest) = line.strip_prefix("Corral is up at ") {
                url = Some(rest.to_owned());
            }
            if let Some((_, token)) = line.split_once("CORRAL_TOKEN=") {
                printed = Some(token.to_owned());
            }
        }
        // Keep reading, so that it never writes into a closed pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { url: url.unwrap(), token: printed.unwrap_or_default(), supervisor, _scratch: None }
    }

    /// The command line with this server's address and token.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corral"));
        command
            .args(arguments)
            .env("CORRAL_URL", &self.url)
            .env("CORRAL_TOKEN", &self.token)
            .env("CORRAL_CONFIG", "/dev/null")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command that must succeed and gives what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "corral {arguments:?} failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must succeed, and reads its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        serde_json::from_str(&self.run(&arguments)).unwrap()
    }

    /// Runs a command that must fail: its exit code and what it said.
    pub fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output: Output = self.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "corral {arguments:?} succeeded");
        (output.status.code().unwrap(), said)
    }

    /// Trains a small model and deploys it as the endpoint `support`.
    pub fn deploy_support(&self) {
        let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
        std::fs::write(file.path(), small_dataset(300)).unwrap();
        self.run(&["dataset", "import", "tickets", file.path().to_str().unwrap()]);
        let train = ["train", "support", "--dataset", "tickets", "--encoder", "none"];
        self.run(&[&train[..], &["--trials", "2", "--wait"]].concat());
        self.run(&["deploy", "support", "--name", "support"]);
    }

    /// Asks the endpoint `support` by our own API: the likeliest class's id.
    pub fn class_of(&self, text: &str) -> String {
        let answer = self.json(&["predict", "support", text]);
        answer["predictions"][0]["labels"][0]["id"].as_str().unwrap().to_owned()
    }

    /// Memory of the server process that is its own, in bytes.
    pub fn server_memory_bytes(&self) -> u64 {
        let server = self.processes("server")[0];
        let status = std::fs::read_to_string(format!("/proc/{server}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub fn supervisor_id(&self) -> u32 {
        self.supervisor.id()
    }

    /// The process ids below the supervisor whose first argument is `role`.
    pub fn processes(&self, role: &str) -> Vec<u32> {
        let mut found = Vec::new();
        let mut queue = vec![self.supervisor.id()];
        while let Some(parent) = queue.pop() {
            for child in children_of(parent) {
                queue.push(child);
                let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                if line.split(|byte| *byte == 0).nth(1) == Some(role.as_bytes()) {
                    found.push(child);
                }
            }
        }
        found
    }

    /// Waits until a job is in one of `states`.
    pub fn wait_for_job(&self, job: &str, states: &[&str]) -> Value {
        wait_for(&format!("{job} to be one of {states:?}"), || {
            let detail = self.json(&["job", "show", job]);
            states.contains(&detail["state"].as_str().unwrap()).then_some(detail)
        })
    }

    /// Asks it to end and waits for that.
    pub fn stop(mut self) -> std::process::ExitStatus {
        signal(self.supervisor.id(), "TERM");
        self.supervisor.wait().unwrap()
    }

    /// Ends the supervisor without a warning; its children notice.
    pub fn kill(mut self) {
        let below = [self.processes("server"), self.processes("worker")].concat();
        self.supervisor.kill().unwrap();
        self.supervisor.wait().unwrap();
        wait_for("the children of a killed supervisor to end", || {
            below.iter().all(|id| !is_alive(*id)).then_some(())
        });
    }
}

impl Drop for Corral {
    fn drop(&mut self) {
        if matches!(self.supervisor.try_wait(), Ok(None)) {
            signal(self.supervisor.id(), "TERM");
            let _ended = self.supervisor.wait();
        }
    }
}

/// Polls until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Sends a signal to a process that this test started.
pub fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).output();
    assert!(sent.is_ok(), "kill is part of every system");
}

pub fn is_alive(process: u32) -> bool {
    // A zombie has ended; its parent has not looked yet.
    std::fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

fn children_of(process: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|ids| ids.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

/// Rows of three classes that words tell apart, as JSON lines; the same for the same count.
pub fn small_dataset(rows: usize) -> String {
    let subjects = ["the invoice", "my parcel", "the app", "this order", "your service"];
    let topics = [
        ("billing", ["charged twice", "refund the money", "wrong price", "credit card declined"]),
        (
            "shipping",
            ["arrived late", "lost on the way", "delivered to a neighbour", "no tracking"],
        ),
        ("technical", ["crashes on start", "shows an error", "login fails", "screen stays black"]),
    ];
    let mut lines = String::new();
    for row in 0..rows {
        let (label, phrases) = topics[row % topics.len()];
        let text = format!(
            "{} {} number {row}",
            subjects[row / 3 % subjects.len()],
            phrases[row / 15 % phrases.len()]
        );
        let split = if row % 5 == 4 { "test" } else { "train" };
        let line = serde_json::json!({"text": text, "label": label, "split": split});
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    lines
}
