//! Settings: one table of all there are, resolved file < environment < flag.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corral_types::{ErrorKind, Explain, nearest};

/// One setting: where it may stand and what it means.
#[derive(Debug)]
pub struct Setting {
    /// The table and key in the configuration file.
    pub key: &'static str,
    pub environment: &'static str,
    /// `None` where absence means something of its own.
    pub default: Option<&'static str>,
    pub description: &'static str,
    /// Whether `config show` hides the value.
    pub secrecy: Secrecy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    Plain,
    Secret,
}

const fn setting(
    key: &'static str,
    environment: &'static str,
    default: Option<&'static str>,
    description: &'static str,
) -> Setting {
    Setting { key, environment, default, description, secrecy: Secrecy::Plain }
}

/// Every setting. Flags of the same meaning override them.
pub const SETTINGS: &[Setting] = &[
    setting(
        "client.url",
        "CORRAL_URL",
        Some("http://127.0.0.1:8400"),
        "the server that the command line asks",
    ),
    Setting {
        key: "client.token",
        environment: "CORRAL_TOKEN",
        default: None,
        description: "the token it shows",
        secrecy: Secrecy::Secret,
    },
    setting(
        "client.ca_certificate",
        "CORRAL_CA_CERTIFICATE",
        None,
        "a PEM file of a certificate authority to trust beside the usual ones",
    ),
    setting("up.data_dir", "CORRAL_DATA_DIR", None, "where `corral up` keeps everything"),
    setting("up.listen", "CORRAL_LISTEN", Some("127.0.0.1:8400"), "the address it listens on"),
    setting(
        "up.hosts",
        "CORRAL_HOSTS",
        Some(""),
        "names under which clients reach it, separated by commas, beside localhost and its address",
    ),
    setting(
        "up.endpoint_domain",
        "CORRAL_ENDPOINT_DOMAIN",
        Some("ml.localhost"),
        "the domain below which every endpoint has a name",
    ),
    setting("up.tls_cert", "CORRAL_TLS_CERT", None, "a PEM file with its certificate chain"),
    setting("up.tls_key", "CORRAL_TLS_KEY", None, "a PEM file with the certificate's key"),
    setting("up.memory", "CORRAL_MEMORY", None, "the memory it may use, instead of the machine's"),
    setting(
        "up.memory_reserve",
        "CORRAL_MEMORY_RESERVE",
        None,
        "memory it leaves to the rest of the machine",
    ),
    setting(
        "up.model_memory",
        "CORRAL_MODEL_MEMORY",
        Some("2GiB"),
        "the memory of open models, beyond which the one that was asked longest ago is closed",
    ),
    setting(
        "up.model_idle_minutes",
        "CORRAL_MODEL_IDLE_MINUTES",
        Some("10"),
        "after how long a model that nobody asks is closed, unless its endpoint keeps it warm",
    ),
    setting(
        "up.image_base",
        "CORRAL_IMAGE_BASE",
        Some("auto"),
        "what images of functions stand on: auto, debian or host",
    ),
    setting(
        "up.job_retention_days",
        "CORRAL_JOB_RETENTION_DAYS",
        Some("30"),
        "how long ended jobs are kept",
    ),
    setting(
        "up.cpu_hour_price",
        "CORRAL_CPU_HOUR_PRICE",
        None,
        "what an hour on a core costs, for `corral usage`",
    ),
    setting(
        "up.gib_hour_price",
        "CORRAL_GIB_HOUR_PRICE",
        None,
        "what a GiB of memory costs an hour, for `corral usage`",
    ),
    setting(
        "up.gpu_hour_price",
        "CORRAL_GPU_HOUR_PRICE",
        None,
        "what an hour of a GPU costs, for `corral usage`",
    ),
];

/// Where a setting's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File,
    Environment,
}

impl Origin {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
        }
    }
}

/// Why the configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read the configuration file {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("read the configuration file {path} as TOML")]
    Syntax { path: PathBuf, source: Box<toml::de::Error> },
    #[error("the configuration file {path} has an unknown key `{key}`")]
    UnknownKey { path: PathBuf, key: String },
    #[error("the configuration file {path}: `{key}` must be a text, a number or true or false")]
    Type { path: PathBuf, key: String },
}

impl Explain for ConfigError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownKey { key, .. } => {
                let known = SETTINGS.iter().map(|setting| setting.key);
                Some(match nearest(key, known, 1).first() {
                    Some(close) => format!("did you mean `{close}`?"),
                    None => "`corral config show` lists the keys there are".to_owned(),
                })
            }
            _ => None,
        }
    }
}

/// The settings in force before flags.
#[derive(Debug)]
pub struct Settings {
    file: Option<PathBuf>,
    from_file: BTreeMap<String, String>,
}

impl Settings {
    /// Reads the configuration file: `CORRAL_CONFIG`, else `corral/config.toml` in the
    /// user's configuration folder, which may be absent.
    ///
    /// # Errors
    /// When the file cannot be read or holds a key that is none.
    pub fn load() -> Result<Self, ConfigError> {
        if let Some(path) = std::env::var_os("CORRAL_CONFIG") {
            return Self::read(Path::new(&path));
        }
        let folder = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")));
        match folder.map(|folder| folder.join("corral/config.toml")) {
            Some(path) if path.exists() => Self::read(&path),
            _ => Ok(Self { file: None, from_file: BTreeMap::new() }),
        }
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let path = path.to_owned();
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let tables: toml::Table = text.parse().map_err(|source| ConfigError::Syntax {
            path: path.clone(),
            source: Box::new(source),
        })?;
        let mut from_file = BTreeMap::new();
        for (table, entries) in tables {
            let toml::Value::Table(entries) = entries else {
                return Err(ConfigError::UnknownKey { path, key: table });
            };
            for (name, value) in entries {
                let key = format!("{table}.{name}");
                if !SETTINGS.iter().any(|setting| setting.key == key) {
                    return Err(ConfigError::UnknownKey { path, key });
                }
                let value = match value {
                    toml::Value::String(text) => text,
                    toml::Value::Integer(number) => number.to_string(),
                    toml::Value::Float(number) => number.to_string(),
                    toml::Value::Boolean(truth) => truth.to_string(),
                    _ => return Err(ConfigError::Type { path, key }),
                };
                from_file.insert(key, value);
            }
        }
        Ok(Self { file: Some(path), from_file })
    }

    /// The file that was read.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// A setting's value and where it stands. The key must be one of [`SETTINGS`].
    pub fn get(&self, key: &str) -> Option<(String, Origin)> {
        let setting = SETTINGS.iter().find(|setting| setting.key == key)?;
        let from_environment =
            std::env::var(setting.environment).ok().filter(|value| !value.is_empty());
        from_environment
            .map(|value| (value, Origin::Environment))
            .or_else(|| self.from_file.get(key).map(|value| (value.clone(), Origin::File)))
            .or_else(|| setting.default.map(|value| (value.to_owned(), Origin::Default)))
    }

    /// A setting's value.
    pub fn value(&self, key: &str) -> Option<String> {
        self.get(key).map(|(value, _)| value)
    }
}

/// What the client half of the binary needs.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub url: String,
    pub token: Option<String>,
    pub ca_certificate: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Settings::read(file.path())
    }

    #[test]
    fn the_file_stands_above_the_defaults() {
        let settings = read("[up]\njob_retention_days = 7\n").unwrap();
        assert_eq!(settings.get("up.job_retention_days"), Some(("7".into(), Origin::File)));
        assert_eq!(settings.get("up.hosts"), Some((String::new(), Origin::Default)));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = read("[up]\nlisten_on = \"x\"\n").unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("did you mean `up.listen`?"));
        assert!(matches!(read("up = 3"), Err(ConfigError::UnknownKey { .. })));
        assert!(matches!(read("[up]\nlisten = [1]"), Err(ConfigError::Type { .. })));
        assert!(matches!(read("[up"), Err(ConfigError::Syntax { .. })));
    }
}
