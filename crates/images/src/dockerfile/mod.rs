//! The commands of a recipe, read.
//!
//! They are a Dockerfile's without stages: one instruction after the other, a line each, with
//! continuation lines. Words stay as they were written until a step is carried out, since
//! variables have their values only then ([`words`]).

mod words;

#[cfg(test)]
mod tests;

pub use words::{expand, split};

use crate::error::BuildError;

/// Bytes of commands that one step of a recipe may have.
const MAX_BYTES: usize = 1 << 20;

/// What `RUN`, `CMD` and `ENTRYPOINT` are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A line for the shell.
    Shell(String),
    Exec(Vec<String>),
}

/// A secret that `RUN --mount=type=secret` asks for as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMount {
    /// The name of the variable that holds it.
    pub name: String,
    pub target: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    From {
        reference: String,
    },
    Run {
        command: Command,
        secrets: Vec<SecretMount>,
    },
    Copy {
        from: Option<String>,
        mode: Option<u32>,
        sources: Vec<String>,
        destination: String,
    },
    /// Names and values, unexpanded.
    Env(Vec<(String, String)>),
    Workdir(String),
    Entrypoint(Command),
    Cmd(Command),
    Arg {
        name: String,
        default: Option<String>,
    },
    Shell(Vec<String>),
    /// One without meaning here, such as `EXPOSE`.
    Ignored {
        name: String,
    },
}

/// An instruction and the line that it came from, for the log and for errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    pub instruction: Instruction,
}

/// Reads the commands of one step.
///
/// # Errors
/// [`BuildError::Refused`] with the line, for what cannot be read or is not supported.
pub fn parse(commands: &[String]) -> Result<Vec<Line>, BuildError> {
    if commands.iter().map(String::len).sum::<usize>() > MAX_BYTES {
        return Err(BuildError::refused("a step of an image has more than 1 MiB of commands"));
    }
    let joined = commands.join("\n");
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in joined.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with('#') {
            refuse_other_escape(trimmed)?;
            continue;
        }
        if trimmed.is_empty() {
            continue;
        }
        let start = if open.is_empty() { line.trim_start() } else { line };
        match start.trim_end().strip_suffix('\\') {
            Some(kept) => open.push_str(kept),
            None => {
                open.push_str(start.trim_end());
                lines.push(instruction(std::mem::take(&mut open))?);
            }
        }
    }
    if !open.trim().is_empty() {
        lines.push(instruction(open.trim_end().to_owned())?);
    }
    Ok(lines)
}

/// A directive may change the character that continues a line, which nobody does on Linux.
fn refuse_other_escape(comment: &str) -> Result<(), BuildError> {
    let directive = comment.trim_start_matches('#').trim();
    match directive.strip_prefix("escape") {
        Some(rest) if rest.trim_start().starts_with('=') && !rest.contains('\\') => {
            Err(BuildError::refused(format!("`{comment}`: lines are continued by `\\` only")))
        }
        _ => Ok(()),
    }
}

fn instruction(text: String) -> Result<Line, BuildError> {
    let refuse = |why: &str| BuildError::refused(format!("`{}`: {why}", shorten(&text)));
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(refuse("nothing follows the name of the command"));
    }
    let instruction = match name.to_ascii_uppercase().as_str() {
        "FROM" => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            match words[..] {
                [reference] => Instruction::From { reference: reference.to_owned() },
                _ => return Err(refuse("stages and platforms are not supported")),
            }
        }
        "RUN" => {
            let (flags, rest) = flags(rest);
            let secrets = run_mounts(&flags).map_err(|why| refuse(&why))?;
            refuse_here_document(rest).map_err(refuse)?;
            Instruction::Run { command: command(rest), secrets }
        }
        "COPY" | "ADD" => copy(rest).map_err(|why| refuse(&why))?,
        "ENV" => Instruction::Env(pairs(rest).map_err(|why| refuse(&why))?),
        "WORKDIR" => Instruction::Workdir(rest.to_owned()),
        "ENTRYPOINT" => Instruction::Entrypoint(command(rest)),
        "CMD" => Instruction::Cmd(command(rest)),
        "ARG" => match rest.split_once('=') {
            Some((name, default)) => {
                Instruction::Arg { name: name.to_owned(), default: Some(default.to_owned()) }
            }
            None => Instruction::Arg { name: rest.to_owned(), default: None },
        },
        "SHELL" => match command(rest) {
            Command::Exec(words) if !words.is_empty() => Instruction::Shell(words),
            _ => return Err(refuse("a shell is written as a list, such as [\"/bin/sh\", \"-c\"]")),
        },
        "USER" | "EXPOSE" | "HEALTHCHECK" | "LABEL" | "VOLUME" | "STOPSIGNAL" | "MAINTAINER" => {
            Instruction::Ignored { name: name.to_ascii_uppercase() }
        }
        "ONBUILD" => return Err(refuse("ONBUILD is not supported")),
        _ => return Err(refuse("there is no such command")),
    };
    Ok(Line { text, instruction })
}

/// The `--name=value` words at the beginning, and what follows them.
fn flags(rest: &str) -> (Vec<(&str, &str)>, &str) {
    let mut flags = Vec::new();
    let mut rest = rest;
    while let Some(after) = rest.strip_prefix("--") {
        let (flag, next) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
        flags.push(flag.split_once('=').unwrap_or((flag, "")));
        rest = next.trim_start();
    }
    (flags, rest)
}

/// Caches are directories that a build may keep: here each begins empty and ends with its step, so
/// they need nothing. A secret is asked for as a file.
fn run_mounts(flags: &[(&str, &str)]) -> Result<Vec<SecretMount>, String> {
    let mut secrets = Vec::new();
    for (flag, value) in flags {
        if *flag == "network" && *value == "default" {
            continue;
        }
        if *flag != "mount" {
            return Err(format!("the option --{flag} is not supported"));
        }
        let option = |name: &str| {
            value.split(',').filter_map(|part| part.split_once('=')).find(|(n, _)| *n == name)
        };
        match option("type").map_or("bind", |(_, kind)| kind) {
            "cache" | "tmpfs" => {}
            "secret" => {
                let Some((_, name)) = option("id") else {
                    return Err("a secret is asked for by its id".into());
                };
                let target = option("target").or_else(|| option("dst"));
                let target = match target {
                    Some((_, target)) => target.to_owned(),
                    None => format!("/run/secrets/{name}"),
                };
                // As a variable it is there in any case.
                if option("env").is_none() {
                    secrets.push(SecretMount { name: name.to_owned(), target });
                }
            }
            other => {
                return Err(format!("--mount of the type {other} is not supported; use COPY"));
            }
        }
    }
    Ok(secrets)
}

fn refuse_here_document(rest: &str) -> Result<(), &'static str> {
    let mut tail = rest;
    while let Some(at) = tail.find("<<") {
        let after = &tail[at + 2..];
        let word = after.trim_start_matches('-').trim_start_matches(['"', '\'']);
        if !after.starts_with('<') && word.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return Err("here-documents are not supported; put the text into a file and COPY it");
        }
        tail = after.trim_start_matches('<');
    }
    Ok(())
}

/// A list in JSON is the exec form; anything else, a broken list too, is for the shell.
fn command(rest: &str) -> Command {
    match list(rest) {
        Some(words) => Command::Exec(words),
        None => Command::Shell(rest.to_owned()),
    }
}

fn list(rest: &str) -> Option<Vec<String>> {
    rest.starts_with('[').then(|| serde_json::from_str(rest).ok()).flatten()
}

fn copy(rest: &str) -> Result<Instruction, String> {
    let (flags, rest) = flags(rest);
    let (mut from, mut mode) = (None, None);
    for (flag, value) in flags {
        match flag {
            "from" => from = Some(value.to_owned()),
            "chmod" => {
                let parsed = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                mode = Some(parsed.ok_or("--chmod takes an octal number, such as 755")?);
            }
            // Everything belongs to root, and links are an optimisation of another builder.
            "chown" | "link" => {}
            other => return Err(format!("the option --{other} is not supported")),
        }
    }
    if rest.contains("<<") {
        return Err("here-documents are not supported; put the text into a file".into());
    }
    let mut words = match list(rest) {
        Some(words) => words.iter().map(|word| words::quote(word)).collect(),
        None => words::raw_words(rest)?,
    };
    let destination = words.pop().filter(|_| !words.is_empty());
    let destination = destination.ok_or("it takes at least a source and a destination")?;
    if words.iter().any(|word| word.contains("://") || word.starts_with("git@")) {
        return Err("only files of the context can be added; fetch others with RUN".into());
    }
    Ok(Instruction::Copy { from, mode, sources: words, destination })
}

/// `A=b C="d e"`, or the old form `A b c`.
fn pairs(rest: &str) -> Result<Vec<(String, String)>, String> {
    let first = rest.split(char::is_whitespace).next().unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = rest.split_once(char::is_whitespace).ok_or("a value is missing")?;
        return Ok(vec![(name.to_owned(), value.trim_start().to_owned())]);
    }
    words::raw_words(rest)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(format!("`{}` is not of the form NAME=VALUE", shorten(&word))),
        })
        .collect()
}

/// A command as far as a message shows it.
pub fn shorten(text: &str) -> String {
    const SHOWN_BYTES: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.len() <= SHOWN_BYTES {
        true => line,
        false => format!("{} …", &line[..line.floor_char_boundary(SHOWN_BYTES)]),
    }
}
