//! Runs: their output, and their end in each of the ways that runs end.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{containers_of, has_stopped, state_of_app, word};
use crate::process::{Running, wait_for};
use crate::stage::{COMMAND_LIMIT, Outcomes, Stage, Tried, outcomes_in};

/// An app whose client says nothing any more is ended after a few missed heartbeats, which come
/// every 15 s.
const SILENCE_LIMIT: Duration = Duration::from_secs(110);

pub fn runs(stage: &Stage<'_>, tried: &mut Tried) {
    let mut said = String::new();
    tried.part("function", || {
        let run = ["run", "hello.py::greet", "--name", "Ada", "--excited"];
        said = stage.said(&run)?;
        ensure!(said.contains("greeting Ada"), "its output is missing: {said}");
        ensure!(said.contains("a line on standard error"), "its errors are missing: {said}");
        Ok(())
    });
    tried.part("live logs", || {
        let mut run = stage.modal(&["run", "hello.py::live"]);
        let returned = run.line("after the call", COMMAND_LIMIT)?;
        let logged = run.line("a line while it runs", COMMAND_LIMIT)?;
        ensure!(logged < returned, "the line came after the function had ended");
        run.end(COMMAND_LIMIT)?.success()?;
        Ok(())
    });
    tried.part("end", || {
        // Its address holds its id.
        let app = word(&said, "ap-")?;
        wait_for("the app's end", COMMAND_LIMIT, || has_stopped(stage, &app))?;
        let left = containers_of(stage, &app)?;
        ensure!(left.is_empty(), "{left:?} are left");
        Ok(())
    });
}

/// Begins a run that goes on until it is told otherwise: it, and its app.
fn begin(stage: &Stage<'_>, arguments: &[&str]) -> Result<(Running, String)> {
    let mut run = stage.modal(arguments);
    run.line("at work", COMMAND_LIMIT)?;
    let app = word(&run.said(), "ap-")?;
    Ok((run, app))
}

pub fn interrupted(stage: &Stage<'_>, tried: &mut Tried) {
    tried.part("Ctrl-C", || {
        let (run, app) = begin(stage, &["run", "interrupted.py::main"])?;
        run.signal("INT");
        run.end(COMMAND_LIMIT)?;
        wait_for("the app's end", COMMAND_LIMIT, || has_stopped(stage, &app))?;
        wait_for("the end of its containers", COMMAND_LIMIT, || {
            Ok(containers_of(stage, &app)?.is_empty().then_some(()))
        })
    });
    tried.part("detach", || {
        let arguments = ["run", "--detach", "interrupted.py::main", "--seconds", "6"];
        let (run, app) = begin(stage, &arguments)?;
        run.signal("KILL");
        run.end(COMMAND_LIMIT)?;
        let state = state_of_app(stage, &app)?.unwrap_or_default();
        ensure!(state.contains("detached"), "the app is {state}");
        wait_for("the end of its work", COMMAND_LIMIT, || {
            Ok(stage.said(&["app", "logs", &app])?.contains("work is done").then_some(()))
        })?;
        stop(stage, &app)
    });
}

fn stop(stage: &Stage<'_>, app: &str) -> Result<()> {
    let help = stage.said(&["app", "stop", "--help"])?;
    let yes: &[&str] = if help.contains("--yes") { &["--yes"] } else { &[] };
    stage.said(&[&["app", "stop", app], yes].concat())?;
    Ok(())
}

pub fn killed_client(stage: &Stage<'_>, tried: &mut Tried) {
    tried.part("killed client", || {
        let (run, app) = begin(stage, &["run", "interrupted.py::main"])?;
        run.signal("KILL");
        run.end(COMMAND_LIMIT)?;
        wait_for("the app's end", SILENCE_LIMIT, || {
            std::thread::sleep(Duration::from_secs(3));
            has_stopped(stage, &app)
        })
    });
}

/// The classes, and that their exit hooks ran.
pub fn classes(stage: &Stage<'_>, tried: &mut Tried) {
    let said = match stage.modal(&["run", "classes.py::main"]).end(COMMAND_LIMIT) {
        Ok(ended) => ended.said,
        Err(error) => format!("fails: exit: {error:#}"),
    };
    let outcomes: Outcomes = outcomes_in(&said);
    tried.0.extend(outcomes);
    tried.part("exit", || {
        ensure!(said.contains("ada ends at 12"), "its hook did not run: {said}");
        Ok(())
    });
}
