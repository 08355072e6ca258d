//! `pip install` and `uv pip install` lines that the builder can carry out itself.
//!
//! Only what names packages is taken: no paths, no sources, nothing that a shell would have to
//! make something of. No addresses either: the builder reaches what containers must not, this
//! machine's own ports for one. Everything else runs in a container, as it stands.

use crate::dockerfile;

/// What a line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Requirements in the form of PEP 508, names first.
    pub requirements: Vec<String>,
    /// Files of requirements, absolute in the image or relative to its working directory.
    pub files: Vec<String>,
    pub prereleases: bool,
    pub without_dependencies: bool,
    /// Newer versions than those that are there are asked for.
    pub upgrade: bool,
    /// It names the interpreter by `python` along `PATH`, or by none.
    pub program: String,
}

/// The Python of the image, as lines name it.
const INTERPRETER: &str = "$(command -v python)";

/// Reads a line of a shell; `None` if it is not one to be carried out here.
pub fn read(line: &str) -> Option<Request> {
    // The one substitution that the client itself writes.
    let line = line.replace(INTERPRETER, "python");
    if line.contains(|c: char| "$`&|;<>(){}*?!~#\\\n".contains(c) && !is_quoted(&line, c)) {
        return None;
    }
    let words = dockerfile::split(&line).ok()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (program, arguments) = match words.as_slice() {
        [python @ ("python" | "python3"), "-m", "pip", "install", rest @ ..] => (*python, rest),
        [pip @ ("pip" | "pip3"), "install", rest @ ..] => (*pip, rest),
        [uv @ ("uv" | "/.uv/uv"), "pip", "install", rest @ ..] => (*uv, rest),
        _ => return None,
    };
    let mut request = Request { program: program.to_owned(), ..Request::default() };
    options(&mut request, arguments)?;
    let anything = !request.requirements.is_empty() || !request.files.is_empty();
    anything.then_some(request)
}

/// Whether every occurrence of a character is within quotes, where no shell looks at it. Within
/// double quotes it looks at some.
fn is_quoted(line: &str, wanted: char) -> bool {
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, c) if c == wanted => return false,
            (Some('"'), c) if c == wanted && "$`\\!".contains(c) => return false,
            _ => {}
        }
    }
    true
}

fn options(request: &mut Request, arguments: &[&str]) -> Option<()> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let (name, attached) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (*argument, None),
        };
        let mut value =
            || attached.map(str::to_owned).or_else(|| Some((*arguments.next()?).to_owned()));
        match name {
            "-r" | "--requirement" | "--requirements" => request.files.push(value()?),
            "--pre" => request.prereleases = true,
            "--prerelease" => {
                request.prereleases = match value()?.as_str() {
                    "allow" => true,
                    _ => return None,
                }
            }
            "--no-deps" => request.without_dependencies = true,
            "-U" | "--upgrade" => request.upgrade = true,
            "--python" | "-p" => match value()?.as_str() {
                "python" | "python3" | "/usr/local/bin/python" => {}
                _ => return None,
            },
            "--no-cache-dir"
            | "--no-cache"
            | "--compile-bytecode"
            | "--compile"
            | "--system"
            | "-q"
            | "--quiet"
            | "--no-input"
            | "--disable-pip-version-check"
            | "--only-binary=:all:"
            | "--break-system-packages"
            | "--no-warn-script-location" => {}
            option if option.starts_with('-') => return None,
            requirement => request.requirements.push(named(requirement)?),
        }
    }
    Some(())
}

/// A requirement that begins with the name of a package: no path and no address.
pub fn named(requirement: &str) -> Option<String> {
    let name = package_name(requirement)?;
    let rest = &requirement[name.len()..];
    // The builder hands requirements on as lines of a file.
    if requirement.contains(char::is_control) {
        return None;
    }
    let is_file = ["/", ".whl", ".gz", ".zip"].iter().any(|mark| requirement.contains(mark));
    let is_source = rest.contains('@') || requirement.contains("://");
    (!is_file && !is_source).then(|| requirement.to_owned())
}

/// The name that a requirement begins with.
pub fn package_name(requirement: &str) -> Option<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name = &requirement[..requirement.find(|c| !is_name(c)).unwrap_or(requirement.len())];
    name.starts_with(|c: char| c.is_ascii_alphanumeric()).then_some(name)
}

/// Requirements in a file; `None` if it has lines that need more than a name.
pub fn requirements_of(text: &str) -> Option<Vec<String>> {
    let mut requirements = Vec::new();
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('-') || line.ends_with('\\') || line.contains('$') {
            return None;
        }
        requirements.push(named(line)?);
    }
    Some(requirements)
}

/// A name as indexes compare it: lower case, `-` between parts.
pub fn normal_name(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        match matches!(c, '-' | '_' | '.') {
            true if !normal.ends_with('-') => normal.push('-'),
            true => {}
            false => normal.push(c.to_ascii_lowercase()),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_client_are_carried_out_here() {
        let plain = read("python -m pip install cbor2 'numpy<3'").unwrap();
        assert_eq!(plain.requirements, ["cbor2", "numpy<3"]);
        assert_eq!(plain.program, "python");
        let uv = "/.uv/uv pip install --python $(command -v python) --compile-bytecode \
                  --requirements /.uv/0/requirements.txt pandas scikit-learn";
        let uv = read(uv).unwrap();
        assert_eq!(uv.requirements, ["pandas", "scikit-learn"]);
        assert_eq!(uv.files, ["/.uv/0/requirements.txt"]);
        let own = "uv pip install --system --compile-bytecode --no-cache --no-deps \
                   -r /modal_requirements.txt";
        assert!(read(own).unwrap().without_dependencies);
        assert!(read("python -m pip install torch --pre ").unwrap().prereleases);
        assert!(read("pip install --upgrade pip wheel uv").unwrap().upgrade);
        let extras = read("python -m pip install 'fastapi[standard]==0.115.4'").unwrap();
        assert_eq!(extras.requirements, ["fastapi[standard]==0.115.4"]);
    }

    #[test]
    fn whatever_needs_a_shell_or_a_build_is_left_to_a_container() {
        for line in [
            "python -m pip install x && rm y",
            "python -m pip install numpy<2",
            "python -m pip install .",
            "python -m pip install ./x",
            "python -m pip install git+https://a/b",
            "python -m pip install 'x @ https://a/b'",
            "python -m pip install -e /src",
            "python -m pip install x.whl",
            "python -m pip install $PACKAGES",
            "python -m pip install \"$PACKAGES\"",
            "python -m pip install --no-binary :all: x",
            "python -m pip install --find-links /wheels x",
            "python -m pip install --index-url http://127.0.0.1/ x",
            "python -m pip install x --extra-index-url=https://a/b",
            "python -m pip install 'x\n--requirement /etc/passwd'",
            "python -m pip install 'x\r-e /src'",
            "python -m pip install",
            "/opt/python -m pip install x",
            "pip download x",
            "echo pip install x",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn files_of_requirements_are_taken_if_they_only_name_packages() {
        let text = "# all\naiohttp==3.12.7 ; python_version < \"3.14\"\n\nnumpy>=2 # why\n";
        let expected = ["aiohttp==3.12.7 ; python_version < \"3.14\"", "numpy>=2"];
        assert_eq!(requirements_of(text).unwrap(), expected);
        for text in ["-r other.txt", "x==1 \\\n --hash=sha256:0", "git+https://a", "./x", "x==${V}"]
        {
            assert_eq!(requirements_of(text), None, "{text}");
        }
        assert_eq!(normal_name("Scikit_Learn..x"), "scikit-learn-x");
    }

    /// Whatever a line holds, what is taken of it is one line that begins with a name.
    #[test]
    fn any_line_gives_names_or_nothing() {
        let pieces = [
            "pip install ",
            "uv pip install ",
            "python -m pip install ",
            "-r",
            "--python",
            " ",
            "'",
            "\"",
            "\n",
            "\\",
            "$",
            "=",
            "six",
            "==1",
            "@",
            "http://a",
            "./",
            "-e",
            "[x]",
            ";",
            "é",
            "\0",
            "--pre",
        ];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..20_000 {
            let mut line = String::new();
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            for shift in 0..(state % 12) as u32 {
                line.push_str(
                    pieces[(state.rotate_left(shift * 5 + 7) >> 13) as usize % pieces.len()],
                );
            }
            let _ = requirements_of(&line);
            for requirement in read(&line).into_iter().flat_map(|request| request.requirements) {
                assert!(requirement.starts_with(|c: char| c.is_ascii_alphanumeric()), "{line:?}");
                assert!(!requirement.contains(['\n', '\r', '\0']), "{line:?}");
            }
        }
    }
}
