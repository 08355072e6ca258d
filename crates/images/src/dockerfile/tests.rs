use super::*;

fn commands(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn one(line: &str) -> Instruction {
    let mut lines = parse(&commands(&[line])).unwrap();
    assert_eq!(lines.len(), 1, "{line}");
    lines.remove(0).instruction
}

fn refusal(line: &str) -> String {
    parse(&commands(&[line])).unwrap_err().to_string()
}

fn shell(text: &str) -> Command {
    Command::Shell(text.into())
}

#[test]
fn what_the_client_sends_is_read() {
    // A continued command arrives as several elements, with a blank after the backslash.
    let poetry = commands(&[
        "COPY /.pyproject.toml /tmp/poetry/pyproject.toml",
        "RUN cd /tmp/poetry && \\ ",
        "  poetry config virtualenvs.create false && \\ ",
        "poetry install --no-root",
    ]);
    let lines = parse(&poetry).unwrap();
    assert_eq!(lines.len(), 2);
    let Instruction::Run { command: Command::Shell(text), .. } = &lines[1].instruction else {
        panic!("{lines:?}")
    };
    assert!(text.starts_with("cd /tmp/poetry &&") && text.ends_with("poetry install --no-root"));

    assert_eq!(
        one("COPY --from=ghcr.io/astral-sh/uv:latest /uv /.uv/uv"),
        Instruction::Copy {
            from: Some("ghcr.io/astral-sh/uv:latest".into()),
            mode: None,
            sources: vec!["/uv".into()],
            destination: "/.uv/uv".into(),
        }
    );
    assert_eq!(
        one(r#"CMD ["sleep", "172800"]"#),
        Instruction::Cmd(Command::Exec(vec!["sleep".into(), "172800".into()]))
    );
    assert_eq!(one("ENTRYPOINT []"), Instruction::Entrypoint(Command::Exec(vec![])));
    assert_eq!(
        one(r#"SHELL ["/bin/bash", "-c"]"#),
        Instruction::Shell(vec!["/bin/bash".into(), "-c".into()])
    );
    assert_eq!(one("ENV A='x y'"), Instruction::Env(vec![("A".into(), "'x y'".into())]));
    assert_eq!(one("ENV A x y"), Instruction::Env(vec![("A".into(), "x y".into())]));
    assert_eq!(
        one("ARG VERSION=3"),
        Instruction::Arg { name: "VERSION".into(), default: Some("3".into()) }
    );
    assert_eq!(one("EXPOSE 8000"), Instruction::Ignored { name: "EXPOSE".into() });
    assert_eq!(one("run true"), Instruction::Run { command: shell("true"), secrets: vec![] });
}

#[test]
fn options_of_run_are_read_or_refused() {
    assert_eq!(
        one("RUN --mount=type=cache,target=/root/.cache pip install x"),
        Instruction::Run { command: shell("pip install x"), secrets: vec![] }
    );
    assert_eq!(
        one("RUN --mount=type=secret,id=KEY cat /run/secrets/KEY"),
        Instruction::Run {
            command: shell("cat /run/secrets/KEY"),
            secrets: vec![SecretMount { name: "KEY".into(), target: "/run/secrets/KEY".into() }]
        }
    );
    assert!(refusal("RUN --mount=type=ssh git clone x").contains("ssh"));
    assert!(refusal("RUN cat <<EOF").contains("here-documents"));
    assert!(refusal("RUN python3 - <<'PY'").contains("here-documents"));
    one("RUN bash -c 'cat <<< hello'");
    one("RUN echo $((1 << 3))");
}

#[test]
fn what_is_not_supported_is_refused_by_its_line() {
    for line in [
        "FROM a AS b",
        "ONBUILD RUN true",
        "ADD https://example.com/x /x",
        "COPY --chmod=u+x a b",
        "COPY a",
        "ENV A=b C",
        "ENV A='b",
        "FETCH x",
        "RUN",
        "SHELL /bin/sh",
        "# escape=`",
    ] {
        assert!(refusal(line).contains('`'), "{line}");
    }
    assert_eq!(parse(&commands(&["# a comment", "", "  "])).unwrap(), vec![]);
}

#[test]
fn variables_have_their_values_and_quotes_their_meaning() {
    let value = |name: &str| match name {
        "A" => Some("one".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    for (word, expected) in [
        ("$A", "one"),
        ("${A}s", "ones"),
        ("${B:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("${A:+set}${B:+set}", "set"),
        ("${B:-${A}}", "one"),
        ("'$A'", "$A"),
        ("\"$A b\"", "one b"),
        (r"\$A", "$A"),
        (r#""a\"b""#, "a\"b"),
        (r#""a\nb""#, r"a\nb"),
        ("$", "$"),
        ("'it'\"'\"'s'", "it's"),
    ] {
        assert_eq!(expand(word, &value).as_deref(), Ok(expected), "{word}");
    }
    for word in ["${A", "${A:?no}", "${A:", &"${A:-".repeat(100)] {
        assert!(expand(word, &value).is_err(), "{word}");
    }
    let quoted = words::quote(r#"a "b" \ c"#);
    assert_eq!(expand(&quoted, &value).unwrap(), r#"a "b" \ c"#);
    assert_eq!(split(r#"a 'b c' "d" e\ f"#).unwrap(), ["a", "b c", "d", "e f"]);
}

/// Whatever stands there, it is read or refused.
#[test]
fn any_bytes_are_read_or_refused() {
    let corpus = [
        "COPY --from=ghcr.io/astral-sh/uv:latest /uv /.uv/uv",
        "RUN --mount=type=secret,id=K,target=/k cd / && \\\n echo ${A:-b}",
        "ENV A=\"b\" C='d e' F=${G:-${H:+i}}",
        "CMD [\"a\", \"b\"]",
        "COPY --chmod=755 [\"a b\", \"c\"]",
        "ARG A=b\n# escape=\\\nWORKDIR $A",
    ];
    let pieces =
        ["${", "}", ":-", "\\", "\n", "\"", "'", "<<", "--", "[", "]", "é", "=", " ", "\0"];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let value = |name: &str| Some(name.repeat(2));
    for round in 0..20_000 {
        let text = if round % 2 == 0 {
            let bytes: Vec<u8> = (0..random(60)).map(|_| random(256) as u8).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        } else {
            let mut text = corpus[random(corpus.len())].to_owned();
            for _ in 0..random(6) {
                let at = text.floor_char_boundary(random(text.len() + 1));
                match random(3) {
                    0 => text.insert_str(at, pieces[random(pieces.len())]),
                    1 => text.truncate(at),
                    _ => {
                        let end = text.ceil_char_boundary((at + random(4)).min(text.len()));
                        text.replace_range(at..end, "");
                    }
                }
            }
            text
        };
        let lines = parse(std::slice::from_ref(&text)).unwrap_or_default();
        for line in lines {
            if let Instruction::Env(pairs) = line.instruction {
                for (_, word) in pairs {
                    drop(expand(&word, &value));
                }
            }
            drop(split(&line.text));
        }
    }
}
