//! How containers find names: the name servers of this machine that they can reach.

use std::fs;
use std::net::IpAddr;

use crate::root::NameFiles;

/// In the order in which they are looked at: a local resolver writes down where it asks itself.
const RESOLVER_FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

impl NameFiles {
    /// From this machine's own files.
    pub fn of_this_machine() -> Self {
        let read = |path: &&str| fs::read_to_string(path).unwrap_or_default();
        let texts: Vec<String> = RESOLVER_FILES.iter().map(read).collect();
        Self { resolv_conf: resolv_conf(&texts) }
    }
}

/// The name servers that containers are told of.
pub fn servers_of_this_machine() -> Vec<IpAddr> {
    name_servers(&NameFiles::of_this_machine().resolv_conf)
}

/// The name servers that `text` lists.
fn name_servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    };
    text.lines().filter_map(server).collect()
}

/// The first of the texts whose servers lie outside of this machine, with its search domains.
fn resolv_conf(texts: &[String]) -> String {
    let usable = |text: &&String| name_servers(text).iter().any(|server| !server.is_loopback());
    let Some(text) = texts.iter().find(usable) else { return String::new() };
    let kept = |line: &&str| match line.split_whitespace().next() {
        Some("nameserver") => name_servers(line).iter().any(|server| !server.is_loopback()),
        Some("search" | "domain" | "options") => true,
        _ => false,
    };
    text.lines().filter(kept).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_resolvers_are_passed_over() {
        let stub = "# stub\nnameserver 127.0.0.53\noptions edns0\n".to_owned();
        let real = "nameserver 10.0.0.2\nnameserver ::1\nsearch example.org\n".to_owned();
        assert_eq!(
            resolv_conf(&[stub.clone(), real.clone()]),
            "nameserver 10.0.0.2\nsearch example.org\n"
        );
        assert_eq!(resolv_conf(&[stub]), "");
        assert_eq!(name_servers(&real).len(), 2);
    }
}
