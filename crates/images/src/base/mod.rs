//! What images begin with, where no image registry is asked: the host's own system files, or
//! Debian's packages.

pub mod debian;
pub mod dpkg;
pub mod host;
mod skeleton;

use serde::{Deserialize, Serialize};

use crate::error::BuildError;
use crate::options::BaseChoice;
use crate::store::LayerId;

/// Names of bases among layers begin with this; they are not evicted and do not count.
pub const PREFIX: &str = "base-";

/// Counted up when bases are made differently, so that they are made anew.
const LAYOUT: u32 = 1;

/// Packages of the system that `debian_slim` installs, and what else a base offers beside Python.
pub const PACKAGES: [&str; 9] = [
    "python3",
    "python3-venv",
    "python3-dev",
    "gcc",
    "g++",
    "gfortran",
    "build-essential",
    "ca-certificates",
    "apt",
];

/// Which base, before it is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BaseKind {
    Host,
    Debian { suite: String },
}

impl BaseKind {
    /// The name of this base among layers.
    ///
    /// # Errors
    /// Why the host's files are none.
    pub fn id(&self, host: &Result<host::Host, String>) -> Result<LayerId, String> {
        match self {
            Self::Host => host.as_ref().map(|host| host.id.clone()).map_err(String::clone),
            Self::Debian { suite } => Ok(format!("{PREFIX}debian-{suite}-{LAYOUT}")),
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        match self {
            Self::Host => "the host's system files".into(),
            Self::Debian { suite } => format!("Debian {suite}"),
        }
    }
}

/// What is known about a base when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseAbout {
    pub kind: BaseKind,
    /// Such as `3.11.2`.
    pub python_version: String,
    /// Such as `3.11`.
    pub python_series: String,
    /// Such as `2.36`, of glibc.
    pub glibc_version: String,
    /// The suite whose packages `apt-get` installs, if it is a Debian one.
    pub suite: Option<String>,
}

/// The suites of Debian with the Python that comes with each.
pub const SUITES: [(&str, &str); 4] =
    [("bullseye", "3.9"), ("bookworm", "3.11"), ("trixie", "3.13"), ("forky", "3.14")];

/// What a recipe asks of its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `None` takes any.
    pub series: Option<String>,
    /// It installs packages of the system that the host's base lacks, or whose presence is not
    /// known beforehand.
    pub installs_packages: bool,
}

/// What this machine can offer.
#[derive(Clone, Debug)]
pub struct Offers {
    /// The host's Python, or why its files are no base.
    pub host: Result<String, String>,
    /// Why no base can be made of Debian's packages, if so.
    pub debian: Result<(), String>,
}

impl Offers {
    pub fn of(host: &Result<host::Host, String>) -> Self {
        let host = host.as_ref().map(|host| host.series.clone()).map_err(String::clone);
        Self { host, debian: debian::offer() }
    }

    /// The bases that there are, the preferred one first, each with its Python.
    pub fn all(&self) -> Vec<(BaseKind, String)> {
        let mut all = Vec::new();
        all.extend(self.host.iter().map(|series| (BaseKind::Host, series.clone())));
        if self.debian.is_ok() {
            for (suite, series) in SUITES {
                all.push((BaseKind::Debian { suite: suite.into() }, series.into()));
            }
        }
        all
    }

    /// The base for what is wanted.
    ///
    /// # Errors
    /// [`BuildError::Refused`] with the Pythons that there are.
    pub fn choose(&self, choice: BaseChoice, wanted: &Wanted) -> Result<BaseKind, BuildError> {
        let fits = |series: &str| wanted.series.as_deref().is_none_or(|wanted| wanted == series);
        let host = self.host.as_deref().is_ok_and(fits).then_some(BaseKind::Host);
        let debian = || {
            self.debian.as_ref().ok()?;
            // Without a wish the Python is the host's, so that both bases give the same.
            let series = wanted.series.as_deref().or(self.host.as_deref().ok()).unwrap_or("3.11");
            let (suite, _) = SUITES.iter().find(|(_, offered)| *offered == series)?;
            Some(BaseKind::Debian { suite: (*suite).to_owned() })
        };
        let chosen = match choice {
            BaseChoice::Host => host,
            BaseChoice::Debian => debian(),
            BaseChoice::Auto if wanted.installs_packages => debian().or(host),
            BaseChoice::Auto => host.or_else(debian),
        };
        chosen.ok_or_else(|| self.refusal(choice, wanted))
    }

    fn refusal(&self, choice: BaseChoice, wanted: &Wanted) -> BuildError {
        let series = wanted.series.as_deref().unwrap_or("3");
        let mut offered: Vec<String> = Vec::new();
        for (kind, series) in self.all() {
            let allowed = match choice {
                BaseChoice::Auto => true,
                BaseChoice::Host => kind == BaseKind::Host,
                BaseChoice::Debian => kind != BaseKind::Host,
            };
            if allowed && !offered.contains(&series) {
                offered.push(series);
            }
        }
        offered.sort_by_key(|series| {
            series
                .split('.')
                .map(str::parse)
                .collect::<Vec<Result<u32, _>>>()
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        });
        let mut why: Vec<&str> = Vec::new();
        why.extend(self.host.as_ref().err().map(String::as_str));
        why.extend(self.debian.as_ref().err().map(String::as_str));
        match offered.is_empty() {
            true => BuildError::refused_with(
                format!("this machine has no base for Python {series}"),
                why.join("; "),
            ),
            false => BuildError::refused_with(
                format!(
                    "this machine has no base with Python {series}; it can offer {}",
                    offered.join(", ")
                ),
                format!(
                    "set python_version to one of them{}",
                    match why.is_empty() {
                        true => String::new(),
                        false => format!("; further ones: {}", why.join("; ")),
                    }
                ),
            ),
        }
    }
}

/// The Python that a reference behind `FROM` asks for.
///
/// # Errors
/// [`BuildError::Refused`] for what only a registry has.
pub fn wanted_series(reference: &str, added: Option<&str>) -> Result<Option<String>, BuildError> {
    let plain = ["docker.io/library/", "docker.io/", "library/"]
        .iter()
        .find_map(|prefix| reference.strip_prefix(prefix))
        .unwrap_or(reference);
    let (name, tag) = plain.split_once(':').unwrap_or((plain, "latest"));
    match name {
        "python" => {
            let version = tag.split('-').next().unwrap_or_default();
            let mut numbers = version.split('.');
            match (numbers.next().map(str::parse::<u32>), numbers.next().map(str::parse::<u32>)) {
                (Some(Ok(3)), Some(Ok(minor))) => Ok(Some(format!("3.{minor}"))),
                (Some(Ok(3)), None) => Ok(None),
                _ if matches!(version, "latest" | "slim") => Ok(None),
                _ => Err(BuildError::refused(format!("`{reference}` names no Python 3"))),
            }
        }
        "debian" => Ok(added.map(str::to_owned)),
        _ => Err(BuildError::refused_with(
            format!(
                "`{reference}` would have to be pulled from a registry, which is not supported"
            ),
            "begin with debian_slim(), `python:3.X-slim` or `debian:bookworm-slim` with add_python",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corral_types::Explain;

    fn wanted(series: &str, installs_packages: bool) -> Wanted {
        Wanted { series: (!series.is_empty()).then(|| series.to_owned()), installs_packages }
    }

    #[test]
    fn references_name_a_python() {
        let series = |reference| wanted_series(reference, None).unwrap();
        assert_eq!(series("python:3.11.12-slim-bookworm").as_deref(), Some("3.11"));
        assert_eq!(series("docker.io/library/python:3.13").as_deref(), Some("3.13"));
        assert_eq!(series("python:3-slim"), None);
        assert_eq!(series("python"), None);
        assert_eq!(wanted_series("debian:12", Some("3.11")).unwrap().as_deref(), Some("3.11"));
        for reference in ["python:2.7", "nvidia/cuda:12", "ubuntu:22.04", "", "python:x"] {
            assert!(wanted_series(reference, None).is_err(), "{reference}");
        }
    }

    #[test]
    fn the_host_is_preferred_until_packages_of_the_system_are_needed() {
        let offers = Offers { host: Ok("3.11".into()), debian: Ok(()) };
        let choose = |choice, series, packages| offers.choose(choice, &wanted(series, packages));
        let bookworm = BaseKind::Debian { suite: "bookworm".into() };
        assert_eq!(choose(BaseChoice::Auto, "3.11", false).unwrap(), BaseKind::Host);
        assert_eq!(choose(BaseChoice::Auto, "", false).unwrap(), BaseKind::Host);
        assert_eq!(choose(BaseChoice::Auto, "3.11", true).unwrap(), bookworm);
        assert_eq!(choose(BaseChoice::Auto, "", true).unwrap(), bookworm);
        assert_eq!(choose(BaseChoice::Host, "3.11", true).unwrap(), BaseKind::Host);
        assert_eq!(choose(BaseChoice::Debian, "3.11", false).unwrap(), bookworm);
        let trixie = BaseKind::Debian { suite: "trixie".into() };
        assert_eq!(choose(BaseChoice::Auto, "3.13", false).unwrap(), trixie);
        let refused = choose(BaseChoice::Auto, "3.12", false).unwrap_err();
        assert!(refused.to_string().contains("3.9, 3.11, 3.13, 3.14"), "{refused}");
        let refused = choose(BaseChoice::Host, "3.13", false).unwrap_err();
        assert!(refused.to_string().ends_with("it can offer 3.11"), "{refused}");
        let none = Offers { host: Err("no dpkg".into()), debian: Err("no mmdebstrap".into()) };
        let refused = none.choose(BaseChoice::Auto, &wanted("3.11", false)).unwrap_err();
        assert_eq!(refused.hint().as_deref(), Some("no dpkg; no mmdebstrap"));
    }
}
