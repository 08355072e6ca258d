//! Runs the table of the surface, and says what came of it in `docs/compatibility.md`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::clients::{CLIENTS, Client, Clients, NEWEST};
use crate::corral::{Corral, no_containers};
use crate::stage::{DEFAULT_ENVIRONMENT, Outcomes, Stage, Tried, outcomes_in};
use crate::surface::{Needs, Part, Program, Run, SURFACE};

/// Programs at once: each of them is a client, a container or two, and much waiting.
const AT_ONCE: usize = 4;

/// How long one program may take: the longest waits for a server that gives up a silent client.
const PROGRAM_LIMIT: Duration = Duration::from_secs(180);

/// Writes the document instead of comparing it.
const WRITE: &str = "CORRAL_WRITE_COMPATIBILITY";

/// Runs only programs whose names hold one of these words, separated by commas, for who works on
/// one of them. The document is not written then.
const ONLY: &str = "CORRAL_PROGRAMS";

/// What stands in a field of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Works,
    Instead(&'static str),
    Fails(String),
}

/// Rows in the order of the table, each with what came of it by client.
type Rows = Vec<(&'static str, &'static str, BTreeMap<Client, Field>)>;

#[test]
fn the_surface_of_the_clients_is_as_documented() {
    if let Some(why) = no_containers() {
        println!(
            "skipped: programs of the official clients (this machine lets no container be: {why})"
        );
        return;
    }
    let clients = Clients::install();
    if !clients.has(NEWEST) {
        println!("skipped: programs of the official clients (the newest one is not here)");
        return;
    }
    let corral = Corral::start(&clients.folder);
    make_environments(&corral, &clients);
    let results = run_all(&corral, &clients);
    drop(corral);
    let (rows, failures) = rows(&results);
    for (program, client, part, why) in &failures {
        println!("fails: {client}: {program}: {part}: {why}");
    }
    let document = document(&rows);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    if std::env::var_os(ONLY).is_some() {
        assert!(failures.is_empty(), "{} parts do not work as the table says", failures.len());
        return;
    }
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, &document).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differing: Vec<_> =
        document.lines().filter(|line| !written.lines().any(|other| other == *line)).collect();
    assert!(
        written == document,
        "docs/compatibility.md says otherwise than what was seen ({WRITE}=1 writes it anew):\n{}",
        differing.join("\n")
    );
}

fn make_environments(corral: &Corral, clients: &Clients) {
    let stage = Stage::new(NEWEST, corral, clients);
    let others = CLIENTS.into_iter().filter(|client| clients.has(*client));
    for name in others.map(Stage::environment).filter(|name| name != DEFAULT_ENVIRONMENT) {
        stage.said(&["environment", "create", &name]).unwrap();
    }
}

/// What a program is called in lists of failures.
fn name_of(program: &Program) -> String {
    match program.run {
        Run::Modal(arguments) => format!("modal run {}", arguments.join(" ")),
        Run::Program(file) => file.to_owned(),
        Run::Steps(_) => format!("steps of {}", program.parts[0].name),
    }
}

type Results = Vec<(&'static Program, Client, Outcomes)>;

/// What is still to do, and in which environments the library is there.
struct Queue {
    waiting: VecDeque<(&'static Program, Client)>,
    deploying: Vec<Client>,
}

fn run_all(corral: &Corral, clients: &Clients) -> Results {
    let only = std::env::var(ONLY).ok();
    let is_wanted = |program: &Program, client: Client| {
        let name = format!("{} {client}", name_of(program));
        only.as_ref().is_none_or(|words| words.split(',').any(|word| name.contains(word)))
    };
    let waiting: VecDeque<_> = SURFACE
        .iter()
        .flat_map(|program| program.clients.iter().map(move |client| (program, *client)))
        .filter(|(program, client)| clients.has(*client) && is_wanted(program, *client))
        .collect();
    let deploys = |program: &Program| program.parts.iter().any(|part| part.name == "deploy");
    let deploying = waiting.iter().filter(|(program, _)| deploys(program)).map(|(_, c)| *c);
    let queue = Mutex::new(Queue { deploying: deploying.collect(), waiting });
    let deployed = Condvar::new();
    let results = Mutex::new(Results::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((program, client)) = queue.lock().unwrap().waiting.pop_front() else {
                        return;
                    };
                    if program.needs == Needs::Library {
                        let environment = Stage::environment(client);
                        let is_awaited = |queue: &mut Queue| {
                            let mut clients = queue.deploying.iter();
                            clients.any(|client| Stage::environment(*client) == environment)
                        };
                        drop(deployed.wait_while(queue.lock().unwrap(), is_awaited).unwrap());
                    }
                    let outcomes = run(program, &Stage::new(client, corral, clients), clients);
                    if deploys(program) {
                        queue.lock().unwrap().deploying.retain(|other| *other != client);
                        deployed.notify_all();
                    }
                    results.lock().unwrap().push((program, client, outcomes));
                }
            });
        }
    });
    results.into_inner().unwrap()
}

fn run(program: &Program, stage: &Stage<'_>, clients: &Clients) -> Outcomes {
    let begin = Instant::now();
    let name = name_of(program);
    let running = match program.run {
        Run::Modal(arguments) => stage.modal(&[&["run"], arguments].concat()),
        Run::Program(file) => stage.program(file),
        Run::Steps(steps) => {
            let mut tried = Tried::default();
            steps(stage, &mut tried);
            println!("{:5.1} s  {}  {name}", begin.elapsed().as_secs_f32(), stage.client);
            return tried.0;
        }
    };
    let ended = running.end(PROGRAM_LIMIT);
    println!("{:5.1} s  {}  {name}", begin.elapsed().as_secs_f32(), stage.client);
    let said = match ended {
        Ok(ended) => ended.said,
        Err(error) => format!("{error:#}"),
    };
    let file: String =
        format!("{} {name}", stage.client).replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let outputs = clients.folder.join("outputs");
    let _ = fs::create_dir_all(&outputs);
    let _ = fs::write(outputs.join(format!("{file}.txt")), &said);
    let mut outcomes = outcomes_in(&said);
    // A program that ended early says why in its last line.
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    for part in program.parts {
        outcomes
            .entry(part.name.to_owned())
            .or_insert_with(|| Err(format!("the program did not come to it: {last}")));
    }
    outcomes
}

/// What came of a part with a client; nothing where it was not tried.
fn field(part: &Part, client: Client, outcome: Option<&Result<(), String>>) -> Field {
    let instead = part.instead.iter().find(|instead| instead.clients.contains(&client));
    match (outcome, instead) {
        (None, Some(instead)) => Field::Instead(instead.sentence),
        (None, None) | (Some(Ok(())), _) => Field::Works,
        (Some(Err(why)), Some(instead)) if why.contains(instead.says) => {
            Field::Instead(instead.sentence)
        }
        (Some(Err(why)), _) => Field::Fails(why.lines().next().unwrap_or_default().to_owned()),
    }
}

/// Program, client, part, and why it does not do what the table says.
type Failure = (String, Client, &'static str, String);

fn rows(results: &Results) -> (Rows, Vec<Failure>) {
    let mut rows = Rows::new();
    let mut failures = Vec::new();
    for program in SURFACE {
        for part in program.parts {
            let known = rows.iter().position(|row| (row.0, row.1) == (program.area, part.words));
            let at = known.unwrap_or_else(|| {
                rows.push((program.area, part.words, BTreeMap::new()));
                rows.len() - 1
            });
            for client in program.clients {
                let result = results
                    .iter()
                    .find(|(other, with, _)| std::ptr::eq(*other, program) && with == client);
                let outcome = result.and_then(|(_, _, outcomes)| outcomes.get(part.name));
                let field = field(part, *client, outcome);
                if let (Field::Fails(_), Some(Err(why))) = (&field, outcome) {
                    failures.push((name_of(program), *client, part.name, why.clone()));
                }
                rows[at].2.insert(*client, field);
            }
        }
    }
    (rows, failures)
}

const INTRODUCTION: &str = "\
# Compatibility with the official client

What of the `modal` client runs against Corral, by version: the client as its makers publish it,
from the Python package index and, for JavaScript, from npm. Each field was seen when this page
was written: the programs in `crates/corral/tests/functions/scripts` are run by each client as
separate processes, over real containers, by `make test`, which fails where this page and what is
seen differ. `CORRAL_WRITE_COMPATIBILITY=1 cargo nextest run -p corral --test functions` writes
it anew.

*works*: as in the client's documentation. *–*: not tried with this client, which may not have
it. A number: what happens instead, below.
";

fn document(rows: &Rows) -> String {
    let mut text = String::from(INTRODUCTION);
    let mut notes: Vec<String> = Vec::new();
    let mut area = "";
    for (row_area, words, fields) in rows {
        if *row_area != area {
            area = row_area;
            let heads: Vec<String> = CLIENTS.iter().map(Client::to_string).collect();
            let line = "---|".repeat(CLIENTS.len());
            write!(text, "\n## {area}\n\n| | {} |\n|---|{line}\n", heads.join(" | ")).unwrap();
        }
        let fields = CLIENTS.map(|client| match fields.get(&client) {
            None => "–".to_owned(),
            Some(Field::Works) => "works".to_owned(),
            Some(Field::Instead(sentence)) => note(&mut notes, sentence),
            Some(Field::Fails(why)) => note(&mut notes, &format!("Fails: {}", why.trim())),
        });
        writeln!(text, "| {words} | {} |", fields.join(" | ")).unwrap();
    }
    if !notes.is_empty() {
        text.push_str("\n## What happens instead\n\n");
        for (number, sentence) in notes.iter().enumerate() {
            writeln!(text, "{}. {sentence}", number + 1).unwrap();
        }
    }
    text
}

/// The number of a note, which is made where there is none like it.
fn note(notes: &mut Vec<String>, sentence: &str) -> String {
    let known = notes.iter().position(|note| note == sentence);
    let at = known.unwrap_or_else(|| {
        notes.push(sentence.to_owned());
        notes.len() - 1
    });
    format!("[{}](#what-happens-instead)", at + 1)
}
