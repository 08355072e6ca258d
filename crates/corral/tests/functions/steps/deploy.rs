//! Deployed apps: their versions, what they are called by, and their end.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{column, state_of_app};
use crate::process::wait_for;
use crate::stage::{COMMAND_LIMIT, Stage, Tried, scripts};

const APP: &str = "versions";

/// Deploys the app that other programs look up.
pub fn deploy(stage: &Stage<'_>, tried: &mut Tried) {
    tried.part("deploy", || {
        let said = stage.said(&["deploy", "library.py"])?;
        ensure!(said.contains("deployed"), "{said}");
        Ok(())
    });
}

/// Deploys the library as another app, in which `version` answers `version`.
fn deploy_version(stage: &Stage<'_>, version: u32) -> Result<()> {
    let source = fs::read_to_string(scripts().join("library.py"))?
        .replace("VERSION = 1", &format!("VERSION = {version}"))
        .replace("App(\"library\")", &format!("App(\"{APP}\")"));
    let file = stage.scratch().join("versions.py");
    fs::write(&file, source)?;
    stage.said(&["deploy", file.to_str().context("a path in UTF-8")?])?;
    Ok(())
}

/// Calls a function of the deployed app by a program of its own.
fn call(stage: &Stage<'_>, function: &str, arguments: &str) -> Result<String> {
    let file = stage.scratch().join("call.py");
    let look_up = format!("modal.Function.from_name({APP:?}, {function:?})");
    fs::write(&file, format!("import modal\nprint({look_up}.remote({arguments}))\n"))?;
    let file = file.to_str().context("a path in UTF-8")?;
    Ok(stage.program(file).end(COMMAND_LIMIT)?.success()?.trim().to_owned())
}

fn answers(stage: &Stage<'_>, version: u32) -> Result<()> {
    wait_for(&format!("version {version} to answer"), Duration::from_secs(20), || {
        Ok((call(stage, "version", "")? == version.to_string()).then_some(()))
    })
}

pub fn versions(stage: &Stage<'_>, tried: &mut Tried) {
    tried.part("redeploy", || {
        deploy_version(stage, 1)?;
        answers(stage, 1)?;
        deploy_version(stage, 2)?;
        answers(stage, 2)
    });
    tried.part("history", || {
        let history = stage.json(&["app", "history", APP])?;
        let versions: Vec<_> = history.iter().map(|row| column(row, "version")).collect();
        ensure!(versions == ["v2", "v1"], "{versions:?}");
        Ok(())
    });
    tried.part("rollback", || {
        stage.said(&["app", "rollback", APP, "v1"])?;
        answers(stage, 1)
    });
    let mut app = String::new();
    tried.part("list", || {
        let apps = stage.json(&["app", "list"])?;
        let row = apps.iter().find(|row| column(row, "description") == APP);
        let row = row.with_context(|| format!("{APP} is not in {apps:?}"))?;
        app = column(row, "app_id").to_owned();
        ensure!(column(row, "state") == "deployed", "{row}");
        Ok(())
    });
    tried.part("logs", || {
        ensure!(call(stage, "shout", "'hear me'")? == "HEAR ME");
        wait_for("the line in the app's logs", COMMAND_LIMIT, || {
            Ok(stage.said(&["app", "logs", APP])?.contains("shouting hear me").then_some(()))
        })
    });
    containers(stage, tried, &app);
    tried.part("stop", || {
        stage.said(&["app", "stop", APP, "--yes"])?;
        wait_for("the app to be stopped", COMMAND_LIMIT, || {
            let state = state_of_app(stage, &app)?;
            Ok(state.is_none_or(|state| state.contains("stopped")).then_some(()))
        })?;
        let called = call(stage, "version", "");
        ensure!(called.is_err(), "it still answers");
        Ok(())
    });
}

fn containers(stage: &Stage<'_>, tried: &mut Tried, app: &str) {
    let mut containers = Vec::new();
    tried.part("container list", || {
        containers = super::containers_of(stage, app)?;
        ensure!(!containers.is_empty(), "none is listed, though one has just answered");
        ensure!(containers.iter().all(|id| id.starts_with("ta-")), "{containers:?}");
        Ok(())
    });
    tried.part("container logs", || {
        let mut said = String::new();
        for container in &containers {
            said += &stage.said(&["container", "logs", container, "--all"])?;
        }
        ensure!(said.contains("shouting hear me"), "{said}");
        Ok(())
    });
    tried.part("container stop", || {
        for container in &containers {
            stage.said(&["container", "stop", container, "--yes"])?;
        }
        wait_for("their end", COMMAND_LIMIT, || {
            let left = super::containers_of(stage, app)?;
            Ok(containers.iter().all(|id| !left.contains(id)).then_some(()))
        })?;
        ensure!(call(stage, "shout", "'again'")? == "AGAIN", "another container takes over");
        Ok(())
    });
}
