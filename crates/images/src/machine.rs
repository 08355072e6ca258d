//! What a build needs to know of this machine: certificates, package index, proxies.
//!
//! It reaches steps as variables and as one directory that is laid over theirs, and no layer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::BuildError;
use crate::step::{Access, Bind};

/// Where steps find the machine's files. Every base has the directory.
pub const TARGET: &str = "/__corral/build";

/// Debian's own mirror.
const MIRROR: &str = "http://deb.debian.org/debian";

/// Settings of apt that are about reaching packages.
const APT_SETTINGS: [&str; 6] = [
    "Acquire::http",
    "Acquire::https",
    "Acquire::Check-",
    "Acquire::Retries",
    "Acquire::AllowInsecureRepositories",
    "Acquire::ForceIPv",
];

/// Variables that programs read the path of the certificates from.
const CERTIFICATE_VARIABLES: [&str; 6] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
];

/// Their name among the machine's files.
const CERTIFICATES: &str = "ca.pem";

const CERTIFICATE_FILES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Variables that are handed on as they are.
const HANDED_ON: [&str; 20] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_HTTP_TIMEOUT",
    "UV_SYSTEM_CERTS",
    "UV_NATIVE_TLS",
];

/// The settings of this machine.
#[derive(Clone, Debug)]
pub struct Machine {
    folder: PathBuf,
    /// For programs that the builder itself runs on the host.
    pub tools: BTreeMap<String, String>,
    steps: BTreeMap<String, String>,
    mirror: String,
}

impl Machine {
    /// Reads the settings and writes the files that steps see into `folder`.
    pub fn read(folder: &Path) -> Result<Self, BuildError> {
        let mut tools = BTreeMap::new();
        for name in HANDED_ON {
            if let Ok(value) = std::env::var(name) {
                tools.insert(name.to_owned(), value);
            }
        }
        read_pip_files(&mut tools);
        // What pip is told holds for uv, unless uv is told something of its own.
        let uv_is_told = tools.keys().any(|name| name.starts_with("UV_") && name.contains("INDEX"));
        for (pip, uv) in
            [("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_EXTRA_INDEX_URL", "UV_INDEX")]
        {
            if let Some(value) = tools.get(pip).filter(|_| !uv_is_told).cloned() {
                tools.insert(uv.to_owned(), value);
            }
        }
        if let Some(hosts) = tools.get("PIP_TRUSTED_HOST").cloned() {
            tools.entry("UV_INSECURE_HOST".to_owned()).or_insert(hosts);
        }

        let mut steps = tools.clone();
        let told = std::env::var("SSL_CERT_FILE").ok().map(PathBuf::from);
        let certificates = told
            .into_iter()
            .chain(CERTIFICATE_FILES.map(PathBuf::from))
            .find_map(|path| Some((fs::read(&path).ok()?, path)));
        if let Some((bytes, path)) = certificates {
            write(&folder.join(CERTIFICATES), &bytes)?;
            for name in CERTIFICATE_VARIABLES {
                steps.insert(name.to_owned(), format!("{TARGET}/{CERTIFICATES}"));
            }
            tools.insert("SSL_CERT_FILE".to_owned(), path.display().to_string());
        }
        for (name, value) in [
            ("DEBIAN_FRONTEND", "noninteractive"),
            ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
            ("PIP_NO_CACHE_DIR", "1"),
            ("PIP_ROOT_USER_ACTION", "ignore"),
            // The cache of a step lies elsewhere than its packages.
            ("UV_LINK_MODE", "copy"),
            ("UV_NO_CACHE", "1"),
            ("UV_NO_PROGRESS", "1"),
            ("UV_PYTHON_DOWNLOADS", "never"),
        ] {
            steps.insert(name.to_owned(), value.to_owned());
        }
        let mirror = host_mirror().unwrap_or_else(|| MIRROR.to_owned());
        let machine = Self { folder: folder.to_owned(), tools, steps, mirror };
        write(&machine.apt_settings_file(), apt_settings().as_bytes())?;
        Ok(machine)
    }

    /// Where Debian's packages come from.
    pub fn mirror(&self) -> &str {
        &self.mirror
    }

    /// The machine's settings of apt, as a file of its own format.
    pub fn apt_settings_file(&self) -> PathBuf {
        self.folder.join("apt-settings.conf")
    }

    /// The variables of a step over a base with this Debian suite.
    pub fn step_environment(
        &self,
        suite: Option<&str>,
    ) -> Result<BTreeMap<String, String>, BuildError> {
        let mut environment = self.steps.clone();
        let name = match suite {
            Some(suite) if self.mirror != MIRROR => {
                // The image's own list stays as Debian ships it.
                let list = format!("deb {} {suite} main\n", self.mirror);
                write(&self.folder.join(format!("{suite}.list")), list.as_bytes())?;
                let settings = format!(
                    "{}Dir::Etc::SourceList \"{TARGET}/{suite}.list\";\nDir::Etc::SourceParts \"-\";\n",
                    apt_settings()
                );
                let name = format!("apt-{suite}.conf");
                write(&self.folder.join(&name), settings.as_bytes())?;
                name
            }
            _ => "apt-settings.conf".to_owned(),
        };
        environment.insert("APT_CONFIG".to_owned(), format!("{TARGET}/{name}"));
        Ok(environment)
    }

    /// The certificates alone, in the place of those of the image, with the variables that tell
    /// programs of it.
    pub fn certificates(&self) -> Option<(Bind, BTreeMap<String, String>)> {
        let source = self.folder.join(CERTIFICATES);
        source.exists().then(|| {
            let variables = CERTIFICATE_VARIABLES
                .map(|name| (name.to_owned(), CERTIFICATE_FILES[0].to_owned()));
            let target = PathBuf::from(CERTIFICATE_FILES[0]);
            (Bind { source, target, access: Access::Read }, variables.into())
        })
    }

    /// The directory with the machine's files, where steps see it.
    pub fn bind(&self) -> Bind {
        Bind { source: self.folder.clone(), target: TARGET.into(), access: Access::Read }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    if fs::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    crate::store::write_whole(path, bytes).map_err(BuildError::io("write", path))
}

/// `name = value` lines of pip's configuration files, as the variables that mean the same.
fn read_pip_files(variables: &mut BTreeMap<String, String>) {
    let mut paths = vec![PathBuf::from("/etc/pip.conf"), PathBuf::from("/etc/xdg/pip/pip.conf")];
    if let Some(home) = std::env::home_dir() {
        paths.extend([home.join(".pip/pip.conf"), home.join(".config/pip/pip.conf")]);
    }
    paths.extend(std::env::var_os("PIP_CONFIG_FILE").map(PathBuf::from));
    // Later files override earlier ones, and the environment overrides them all.
    for path in paths.iter().rev() {
        let Ok(text) = fs::read_to_string(path) else { continue };
        for (name, value) in pip_settings(&text) {
            variables.entry(name).or_insert(value);
        }
    }
}

fn pip_settings(text: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut within = false;
    let mut last: Option<usize> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(section) = trimmed.strip_prefix('[') {
            within = matches!(section.trim_end_matches(']'), "global" | "install");
            last = None;
        } else if !within || trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        } else if line.starts_with([' ', '\t']) {
            // A list goes on in lines that are set in.
            if let Some(at) = last {
                let (_, value): &mut (String, String) = &mut settings[at];
                value.push(' ');
                value.push_str(trimmed);
            }
        } else if let Some((name, value)) = trimmed.split_once('=') {
            let name = format!("PIP_{}", name.trim().replace('-', "_").to_uppercase());
            last = None;
            if HANDED_ON.contains(&name.as_str()) {
                last = Some(settings.len());
                settings.push((name, value.trim().to_owned()));
            }
        }
    }
    for (_, value) in &mut settings {
        *value = value.trim().to_owned();
    }
    settings
}

/// The host's settings of apt that are about reaching packages.
fn apt_settings() -> String {
    let mut kept = String::new();
    let Ok(output) = Command::new("apt-config").arg("dump").output() else { return kept };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let has_value = !line.contains("\"\"");
        if has_value && APT_SETTINGS.iter().any(|prefix| line.starts_with(prefix)) {
            writeln!(kept, "{line}").expect("writing to a text cannot fail");
        }
    }
    kept
}

/// The first mirror of Debian that the host itself uses.
fn host_mirror() -> Option<String> {
    let mut texts = Vec::new();
    texts.extend(fs::read_to_string("/etc/apt/sources.list"));
    for entry in fs::read_dir("/etc/apt/sources.list.d").ok()?.flatten() {
        if matches!(entry.path().extension()?.to_str()?, "list" | "sources") {
            texts.extend(fs::read_to_string(entry.path()));
        }
    }
    texts.iter().find_map(|text| mirror_in(text))
}

fn mirror_in(text: &str) -> Option<String> {
    text.lines().filter(|line| line.starts_with("deb ") || line.starts_with("URIs:")).find_map(
        |line| {
            let mut words = line.split_whitespace();
            let url = words.find(|word| word.starts_with("http"))?.trim_end_matches('/');
            url.ends_with("/debian").then(|| url.to_owned())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_pip_are_read_with_their_lists() {
        let text = "[global]\nindex-url = https://a/simple\nextra-index-url =\n  https://b\n  https://c\n\
                    cert = /x\n[freeze]\ntimeout = 1\n";
        let expected =
            [("PIP_INDEX_URL", "https://a/simple"), ("PIP_EXTRA_INDEX_URL", "https://b https://c")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(pip_settings(text), expected);
    }

    #[test]
    fn the_hosts_mirror_is_found_in_both_formats() {
        let old =
            "# deb http://old/debian x main\ndeb [arch=amd64] http://a/debian/ bookworm main\n";
        assert_eq!(mirror_in(old).as_deref(), Some("http://a/debian"));
        assert_eq!(
            mirror_in("Types: deb\nURIs: https://b/debian\n").as_deref(),
            Some("https://b/debian")
        );
        assert_eq!(mirror_in("deb http://security/debian-security x main\n"), None);
    }
}
