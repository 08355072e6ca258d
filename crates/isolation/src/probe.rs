//! What keeps a machine from having containers, and the setting that would change it.

use std::fs;

use crate::Unavailable;

/// How much containers are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Each in namespaces of its own.
    Namespaces,
    /// Processes with limits and nothing between them: for one workspace only.
    Process,
}

/// Which kind is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsolationChoice {
    /// The strongest that works here.
    #[default]
    Auto,
    Only(Isolation),
}

impl std::str::FromStr for IsolationChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "namespaces" => Ok(Self::Only(Isolation::Namespaces)),
            "process" => Ok(Self::Only(Isolation::Process)),
            other => Err(format!("no isolation is called {other:?}: auto, namespaces or process")),
        }
    }
}

impl std::fmt::Display for IsolationChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Only(Isolation::Namespaces) => "namespaces",
            Self::Only(Isolation::Process) => "process",
        })
    }
}

/// What decides why namespaces are refused.
#[derive(Clone, Debug, Default)]
struct Facts {
    is_root: bool,
    /// Debian's own switch.
    unprivileged: Option<String>,
    most_user_namespaces: Option<String>,
    /// Ubuntu's own switch.
    apparmor_restricts: Option<String>,
    /// A filter over system calls is in place around this program.
    is_filtered: bool,
}

impl Facts {
    fn of_this_machine() -> Self {
        let read = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let status = read("/proc/self/status").unwrap_or_default();
        Self {
            is_root: rustix::process::geteuid().is_root(),
            unprivileged: read("/proc/sys/kernel/unprivileged_userns_clone"),
            most_user_namespaces: read("/proc/sys/user/max_user_namespaces"),
            apparmor_restricts: read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            is_filtered: status
                .lines()
                .any(|line| line.strip_prefix("Seccomp:").is_some_and(|value| value.trim() == "2")),
        }
    }

    /// The setting that would let a step succeed that failed with `reason`.
    fn setting(&self, reason: &str) -> String {
        let is = |found: &Option<String>, value: &str| found.as_deref() == Some(value);
        let text = if is(&self.most_user_namespaces, "0") {
            "sysctl -w user.max_user_namespaces=15000"
        } else if !self.is_root && is(&self.unprivileged, "0") {
            "sysctl -w kernel.unprivileged_userns_clone=1, or run the worker as root"
        } else if !self.is_root && is(&self.apparmor_restricts, "1") {
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run the worker as root"
        } else if reason.contains("/proc") {
            "let the container around this program show its whole /proc: docker run --security-opt \
             systempaths=unconfined, in Kubernetes securityContext.procMount: Unmasked"
        } else if reason.contains("over one another") {
            "a kernel of version 5.11 or later with overlayfs (modprobe overlay)"
        } else if self.is_filtered {
            "docker run --privileged, or --security-opt seccomp=unconfined --security-opt \
             apparmor=unconfined --security-opt systempaths=unconfined --cap-add SYS_ADMIN; in \
             Kubernetes securityContext.privileged: true"
        } else {
            "run the worker as root on the machine itself"
        };
        text.into()
    }
}

/// Why containers in namespaces cannot be here, from what a trial said.
pub fn explain(reason: String) -> Unavailable {
    let setting = Facts::of_this_machine().setting(&reason);
    Unavailable { reason, setting }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_setting() {
        let some = |text: &str| Some(text.to_owned());
        let user = Facts::default();
        let denied = "make namespaces: Operation not permitted";
        let debian = Facts { unprivileged: some("0"), ..user.clone() };
        assert!(debian.setting(denied).contains("kernel.unprivileged_userns_clone=1"));
        let ubuntu = Facts { apparmor_restricts: some("1"), ..user.clone() };
        assert!(ubuntu.setting(denied).contains("apparmor_restrict_unprivileged_userns=0"));
        let none = Facts { most_user_namespaces: some("0"), ..user.clone() };
        assert!(none.setting(denied).contains("user.max_user_namespaces"));
        let docker = Facts { is_root: true, is_filtered: true, ..user };
        assert!(docker.setting(denied).contains("seccomp=unconfined"));
        assert!(docker.setting("mount /proc: not permitted").contains("systempaths"));
    }

    #[test]
    fn choices_are_read_as_they_are_written() {
        for word in ["auto", "namespaces", "process"] {
            assert_eq!(word.parse::<IsolationChoice>().unwrap().to_string(), word);
        }
        assert!("docker".parse::<IsolationChoice>().is_err());
    }
}
