//! A `corral up` of this build, with images that outlive it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::process::signal;

/// A running server with its worker. Dropped, it is ended, and its images are kept for the next.
///
/// Bases and bundles of clients take tens of seconds to make and are the same each time.
pub struct Corral {
    pub url: String,
    pub token: Token,
    supervisor: Child,
    data: PathBuf,
    images_between_runs: PathBuf,
    _alone: File,
}

/// What the official client is configured with.
pub struct Token {
    pub id: String,
    pub secret: String,
}

impl Corral {
    /// Starts one on a fresh data directory below `folder`, one at a time on this machine.
    pub fn start(folder: &Path) -> Self {
        let alone = File::create(folder.join("lock")).unwrap();
        alone.lock().unwrap();
        let data = folder.join("run");
        let images_between_runs = folder.join("images");
        let images = data.join("worker/images");
        // A run that was killed left its images here.
        if images.exists() && !images_between_runs.exists() {
            fs::rename(&images, &images_between_runs).unwrap();
        }
        if data.exists() {
            fs::remove_dir_all(&data).unwrap();
        }
        if images_between_runs.exists() {
            fs::create_dir_all(data.join("worker")).unwrap();
            fs::rename(&images_between_runs, &images).unwrap();
        }
        let (supervisor, url, secret) = up(&data);
        let token = Token { id: String::new(), secret };
        let mut corral = Self { url, token, supervisor, data, images_between_runs, _alone: alone };
        let tokens = corral.json(&["token", "ls"]);
        corral.token.id = tokens["items"][0]["id"].as_str().unwrap().to_owned();
        corral
    }

    /// The command line as a person uses it.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_corral"))
            .args(arguments)
            .env("CORRAL_URL", &self.url)
            .env("CORRAL_TOKEN", &self.token.secret)
            .env("CORRAL_CONFIG", "/dev/null")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed, and reads its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "corral {arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The processes of the supervisor, the server and the worker.
    pub fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.supervisor.id()];
        let mut at = 0;
        while at < found.len() {
            let children = format!("/proc/{0}/task/{0}/children", found[at]);
            let below = fs::read_to_string(children).unwrap_or_default();
            found.extend(below.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
            at += 1;
        }
        found
    }

    pub fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap()
    }
}

impl Drop for Corral {
    fn drop(&mut self) {
        end(&mut self.supervisor);
        let images = self.data.join("worker/images");
        let kept = fs::rename(&images, &self.images_between_runs);
        if let Err(error) = kept {
            println!("the images in {} were not kept: {error}", images.display());
        }
        let _ = fs::remove_dir_all(&self.data);
    }
}

/// Why no container can be on this machine, if none can: namespaces and mounts in them are what
/// it takes, and some machines allow neither.
pub fn no_containers() -> Option<String> {
    let namespaces = ["--user", "--map-root-user", "--mount", "--pid", "--net", "--fork"];
    let mount = ["mount", "-t", "tmpfs", "none", "/mnt"];
    match Command::new("unshare").args(namespaces).args(mount).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// Starts `corral up`: its process, its address, and the secret of its first token.
fn up(data: &Path) -> (Child, String, String) {
    let mut supervisor = Command::new(env!("CARGO_BIN_EXE_corral"))
        .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .env_remove("CORRAL_TOKEN")
        .env_remove("CORRAL_URL")
        .env("CORRAL_CONFIG", "/dev/null")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut url, mut printed) = (None, None);
    let mut lines = BufReader::new(supervisor.stdout.take().unwrap()).lines();
    while url.is_none() || printed.is_none() {
        let line = lines.next().expect("corral up said too little before it ended").unwrap();
        if let Some(rest) = line.strip_prefix("Corral is up at ") {
            url = Some(rest.to_owned());
        }
        if let Some((_, secret)) = line.split_once("CORRAL_TOKEN=") {
            printed = Some(secret.to_owned());
        }
    }
    // Keep reading, so that it never writes into a closed pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (supervisor, url.unwrap(), printed.unwrap())
}

fn end(supervisor: &mut Child) {
    signal(&supervisor.id().to_string(), "TERM");
    supervisor.wait().unwrap();
}
