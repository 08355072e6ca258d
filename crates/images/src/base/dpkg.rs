//! The packages of a Debian system, as dpkg notes them.

use std::collections::{BTreeMap, BTreeSet};

/// One installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub architecture: String,
    pub essential: bool,
    /// Needed packages; of alternatives any one will do.
    pub depends: Vec<Vec<String>>,
    pub provides: Vec<String>,
    /// Files of configuration and the hashes (MD5) of what was packaged.
    pub configuration: Vec<(String, String)>,
    /// The whole paragraph, as it stood.
    pub paragraph: String,
}

/// Installed packages by name.
#[derive(Clone, Debug, Default)]
pub struct Packages(pub BTreeMap<String, Package>);

impl Packages {
    /// Reads dpkg's `status` file.
    pub fn read(status: &str) -> Self {
        let packages = status.split("\n\n").filter_map(paragraph);
        Self(packages.map(|package| (package.name.clone(), package)).collect())
    }

    /// Whether a package of this name, or one that stands for it, is installed.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<&Package> {
        let provider = || self.0.values().find(|p| p.provides.iter().any(|other| other == name));
        self.0.get(name).or_else(provider)
    }

    /// These packages, the essential ones, and all that they need, as far as they are installed.
    pub fn closure(&self, names: &[&str]) -> Vec<&Package> {
        let essential = self.0.values().filter(|p| p.essential).map(|p| p.name.as_str());
        let mut open: Vec<&str> = names.iter().copied().chain(essential).collect();
        let mut taken = BTreeSet::new();
        while let Some(name) = open.pop() {
            let Some(package) = self.find(name) else { continue };
            if !taken.insert(package.name.as_str()) {
                continue;
            }
            for alternatives in &package.depends {
                open.extend(alternatives.iter().map(String::as_str).find(|name| self.has(name)));
            }
        }
        taken.into_iter().map(|name| &self.0[name]).collect()
    }
}

fn paragraph(text: &str) -> Option<Package> {
    let mut package = Package { paragraph: text.to_owned(), ..Package::default() };
    let mut installed = false;
    let mut field = "";
    for line in text.lines() {
        if line.starts_with([' ', '\t']) {
            if field == "Conffiles" {
                let mut words = line.split_whitespace();
                // A third word says that the file is obsolete.
                if let (Some(path), Some(hash), None) = (words.next(), words.next(), words.next()) {
                    package.configuration.push((path.to_owned(), hash.to_owned()));
                }
            }
            continue;
        }
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        field = name;
        match name {
            "Package" => package.name = value.to_owned(),
            "Version" => package.version = value.to_owned(),
            "Architecture" => package.architecture = value.to_owned(),
            "Essential" => package.essential = value == "yes",
            "Status" => installed = value == "install ok installed" || value == "hold ok installed",
            "Depends" | "Pre-Depends" => {
                package
                    .depends
                    .extend(value.split(',').map(|one| one.split('|').map(bare).collect()));
            }
            "Provides" => package.provides.extend(value.split(',').map(bare)),
            _ => {}
        }
    }
    (installed && !package.name.is_empty()).then_some(package)
}

/// A name without its version and architecture.
fn bare(relation: &str) -> String {
    let name = relation.trim().split([' ', '(', ':']).next().unwrap_or_default();
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Package: a\nStatus: install ok installed\nEssential: yes\nVersion: 1\n\
        Depends: b (>= 2) | c, virtual:any\nConffiles:\n /etc/a 0123\n /etc/old 4567 obsolete\n\n\
        Package: c\nStatus: install ok installed\nVersion: 3\n\n\
        Package: d\nStatus: install ok installed\nVersion: 3\nProvides: virtual (= 3), e\n\n\
        Package: f\nStatus: install ok installed\nVersion: 3\n\n\
        Package: b\nStatus: deinstall ok config-files\nVersion: 2\n";

    #[test]
    fn what_is_needed_is_found_through_alternatives_and_stand_ins() {
        let packages = Packages::read(STATUS);
        assert!(!packages.has("b") && packages.has("virtual"));
        let names = |roots: &[&str]| {
            packages.closure(roots).iter().map(|p| p.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["a", "c", "d"]);
        assert_eq!(names(&["f", "unknown"]), ["a", "c", "d", "f"]);
        assert_eq!(packages.0["a"].configuration, [("/etc/a".to_owned(), "0123".to_owned())]);
    }
}
