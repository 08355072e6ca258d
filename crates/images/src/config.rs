//! What a container of an image begins with, apart from its files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a container of an image begins with, apart from its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub environment: BTreeMap<String, String>,
    pub working_directory: Option<String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub shell: Vec<String>,
    /// `apt-get update` was asked for and waits until a line needs it.
    #[serde(default)]
    pub lists_wanted: bool,
}

impl Config {
    /// That of a base.
    pub fn of_base() -> Self {
        let variables = [
            ("PATH", "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("LANG", "C.UTF-8"),
            ("HOME", "/root"),
        ];
        let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let shell = ["/bin/sh", "-c"].map(str::to_owned);
        Self { environment: environment.into(), shell: shell.into(), ..Self::default() }
    }

    pub fn path(&self) -> &str {
        self.environment.get("PATH").map_or("/usr/bin:/bin", String::as_str)
    }
}
