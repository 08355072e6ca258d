//! Lines that ask for what a base has already, told from their text.
//!
//! The client begins every image with `apt-get update`, with compilers from Debian and with newer
//! installers. A base has them, so that such a line costs nothing.

use std::sync::Arc;

use crate::base::dpkg::Packages;
use crate::dockerfile;

/// What brings in Python packages in every base.
pub const INSTALLERS: [&str; 4] = ["pip", "wheel", "uv", "setuptools"];

/// Lines of the client's that are true of every base: nothing asks questions while packages are
/// installed, and `python` is there beside `python3`.
const EVERY_BASE: [&str; 2] = [
    "echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections",
    "ln -s /usr/local/bin/python3 /usr/local/bin/python",
];

/// What the client installs in every image, so that packages can be built.
const COMPILERS: [&str; 3] = ["gcc", "gfortran", "build-essential"];

/// That one of them which few hosts have and hardly any package needs to be built.
const RARE_COMPILER: &str = "gfortran";

/// What a line comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Satisfied {
    /// Nothing is left to do.
    Fully,
    /// Lists of packages are to be fetched, which waits until something needs them.
    ListsWanted,
    /// It has to run.
    No,
}

/// Whether a line asks only for what is there.
pub fn look(line: &str, packages: &dyn Fn() -> Arc<Packages>) -> Satisfied {
    let mut result = Satisfied::Fully;
    for piece in line.split("&&") {
        match look_at(piece.trim(), packages) {
            Satisfied::Fully => {}
            Satisfied::ListsWanted => result = Satisfied::ListsWanted,
            Satisfied::No => return Satisfied::No,
        }
    }
    result
}

fn look_at(piece: &str, packages: &dyn Fn() -> Arc<Packages>) -> Satisfied {
    if EVERY_BASE.contains(&piece) {
        return Satisfied::Fully;
    }
    if piece.contains(|c: char| "$`|;<>(){}*?!~#\\".contains(c)) {
        return Satisfied::No;
    }
    let words = dockerfile::split(piece).unwrap_or_default();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let rest = words.get(1..).unwrap_or_default().iter().copied();
    let (options, names): (Vec<&str>, Vec<&str>) = rest.partition(|word| word.starts_with('-'));
    match words.as_slice() {
        ["apt-get" | "apt", ..] if names[..] == ["update"] => Satisfied::ListsWanted,
        ["apt-get" | "apt", ..] if names.first() == Some(&"install") => {
            let plain = options.iter().all(|option| {
                matches!(
                    *option,
                    "-y" | "--yes"
                        | "-q"
                        | "-qq"
                        | "-yq"
                        | "-qy"
                        | "--no-install-recommends"
                        | "--assume-yes"
                )
            });
            let installed = packages();
            let excused = |name: &str| names[1..] == COMPILERS && name == RARE_COMPILER;
            match plain && names[1..].iter().all(|name| installed.has(name) || excused(name)) {
                true => Satisfied::Fully,
                false => Satisfied::No,
            }
        }
        ["pip" | "pip3", "install", rest @ ..]
        | ["python" | "python3", "-m", "pip", "install", rest @ ..] => {
            let ours = |word: &&str| {
                INSTALLERS.contains(word) || matches!(*word, "--upgrade" | "-U" | "--no-cache-dir")
            };
            match rest.iter().all(ours) && rest.iter().any(|word| !word.starts_with('-')) {
                true => Satisfied::Fully,
                false => Satisfied::No,
            }
        }
        _ => Satisfied::No,
    }
}

/// Whether a line may install packages of the system.
pub fn installs_packages(line: &str) -> bool {
    ["apt-get", "apt ", "dpkg", "aptitude"].iter().any(|name| line.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_image_begins_with_is_there() {
        let status = "Package: gcc\nStatus: install ok installed\n\nPackage: gfortran\n\
                      Status: install ok installed\n\nPackage: build-essential\n\
                      Status: install ok installed\n";
        let look = |line: &str| super::look(line, &|| Arc::new(Packages::read(status)));
        assert_eq!(look("apt-get update"), Satisfied::ListsWanted);
        assert_eq!(look("apt-get install -y gcc gfortran build-essential"), Satisfied::Fully);
        assert_eq!(look("apt-get update && apt-get install -y gcc"), Satisfied::ListsWanted);
        let bare = status.replace("gfortran", "another");
        let excused = "apt-get install -y gcc gfortran build-essential";
        assert_eq!(super::look(excused, &|| Arc::new(Packages::read(&bare))), Satisfied::Fully);
        let asked = "apt-get install -y gfortran";
        assert_eq!(super::look(asked, &|| Arc::new(Packages::read(&bare))), Satisfied::No);
        assert_eq!(look("pip install --upgrade pip wheel uv"), Satisfied::Fully);
        let debconf =
            "echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections";
        assert_eq!(look(debconf), Satisfied::Fully);
        for line in [
            "apt-get install -y curl",
            "apt-get install -y gcc=1",
            "apt-get install -y gcc && rm -rf /",
            "pip install --upgrade pip numpy",
            "pip install -r pip",
            "pip install pip==20",
            "apt-get remove gcc",
            "apt-get update; true",
            "",
            "true",
        ] {
            assert_eq!(look(line), Satisfied::No, "{line}");
        }
    }
}
