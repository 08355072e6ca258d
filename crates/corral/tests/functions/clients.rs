//! The official clients, each installed in a folder of its own below `target/`, once.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A client that people have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// The package `modal` of the Python package index.
    Python(&'static str),
    /// The package `modal` of npm. Its tag `latest` is another package, so it is never asked for
    /// without a version.
    JavaScript(&'static str),
}

pub const NEWEST: Client = Client::Python("1.6.4");
pub const OF_2025: Client = Client::Python("1.0.5");
pub const BEFORE_1: Client = Client::Python("0.73.173");
pub const OF_2024: Client = Client::Python("0.64.235");
pub const JAVASCRIPT: Client = Client::JavaScript("0.11.1");

pub const CLIENTS: [Client; 5] = [NEWEST, OF_2025, BEFORE_1, OF_2024, JAVASCRIPT];

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Python(version) => f.write_str(version),
            Self::JavaScript(version) => write!(f, "JavaScript {version}"),
        }
    }
}

/// Series of Python that all of the Python clients run on, the best known first.
const SERIES: [&str; 3] = ["3.11", "3.12", "3.13"];

/// Where the clients lie.
pub struct Clients {
    pub folder: PathBuf,
    installed: Vec<Client>,
}

impl Clients {
    /// Installs what is not there yet. A client that cannot be installed is said and left out.
    pub fn install() -> Self {
        let folder = folder();
        fs::create_dir_all(&folder).unwrap();
        let mut installed = Vec::new();
        for client in CLIENTS {
            match install(client, &home_of(&folder, client)) {
                Ok(()) => installed.push(client),
                Err(why) => println!("skipped: programs of the client {client} ({why})"),
            }
        }
        Self { folder, installed }
    }

    pub fn has(&self, client: Client) -> bool {
        self.installed.contains(&client)
    }

    /// Where a client's own programs lie.
    pub fn home(&self, client: Client) -> PathBuf {
        home_of(&self.folder, client)
    }
}

/// Below `target/`, wherever cargo has that.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("modal-clients")
}

fn home_of(folder: &Path, client: Client) -> PathBuf {
    folder.join(match client {
        Client::Python(version) => format!("python-{version}"),
        Client::JavaScript(version) => format!("javascript-{version}"),
    })
}

fn install(client: Client, home: &Path) -> Result<(), String> {
    let whole = home.join("whole");
    if whole.exists() {
        return Ok(());
    }
    let _ = fs::remove_dir_all(home);
    match client {
        Client::Python(version) => {
            let python = python()
                .ok_or_else(|| format!("there is no Python {} here", SERIES.join(" or ")))?;
            run(Command::new(python).args(["-m", "venv"]).arg(home))?;
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            run(Command::new(home.join("bin/python")).args(pip).arg(format!("modal=={version}")))?;
        }
        Client::JavaScript(version) => {
            fs::create_dir_all(home).map_err(|error| error.to_string())?;
            let npm = ["install", "--prefix", ".", "--no-save", "--silent"];
            run(Command::new("npm").args(npm).arg(format!("modal@{version}")).current_dir(home))?;
        }
    }
    fs::write(whole, "").map_err(|error| error.to_string())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().rfind(|line| !line.is_empty()).unwrap_or("it failed silently").to_owned())
}

/// The system's own Python before others: it is the one that images on this machine have.
fn python() -> Option<PathBuf> {
    let system = SERIES.map(|series| PathBuf::from(format!("/usr/bin/python{series}")));
    let found = SERIES.map(|series| PathBuf::from(format!("python{series}")));
    system.into_iter().chain(found).find(|python| {
        let tried = Command::new(python).args(["-c", "import venv, ensurepip"]).output();
        tried.is_ok_and(|output| output.status.success())
    })
}
