//! Who the client is, where its apps live, and what it keeps secret.

use std::fs;

use anyhow::{Result, ensure};

use super::column;
use crate::process::Ended;
use crate::stage::{COMMAND_LIMIT, Stage, Tried, outcomes_in};

fn environment_names(stage: &Stage<'_>) -> Result<Vec<String>> {
    let rows = stage.json(&["environment", "list"])?;
    Ok(rows.iter().map(|row| column(row, "name").to_owned()).collect())
}

pub fn environments(stage: &Stage<'_>, tried: &mut Tried) {
    tried.part("environments", || {
        stage.said(&["environment", "create", "staging"])?;
        let names = environment_names(stage)?;
        ensure!(names.iter().any(|name| name == "staging"), "{names:?}");
        Ok(())
    });
    tried.part("environment of a run", || {
        stage.said(&["deploy", "--env", "staging", "--name", "only-staged", "library.py"])?;
        let named = |environment: &str| -> Result<bool> {
            let environment = ["--env", environment];
            let apps = stage.json(&[&["app", "list"], &environment[..]].concat())?;
            Ok(apps.iter().any(|row| column(row, "description") == "only-staged"))
        };
        ensure!(named("staging")?, "the app is not in its environment");
        ensure!(!named("default")?, "the app is in another environment");
        let arguments = ["run", "--env", "staging", "hello.py::greet", "--name", "Ada"];
        ensure!(stage.said(&arguments)?.contains("greeting Ada"));
        Ok(())
    });
    tried.part("environments", || {
        stage.said(&["environment", "delete", "staging", "--yes"])?;
        let names = environment_names(stage)?;
        ensure!(!names.iter().any(|name| name == "staging"), "{names:?} after its deletion");
        Ok(())
    });
}

pub fn tokens(stage: &Stage<'_>, tried: &mut Tried) {
    let token = &stage.corral.token;
    let settings = stage.scratch().join("modal.toml");
    let set = |secret: &str| -> Result<Ended> {
        let secret = ["--token-id", &token.id, "--token-secret", secret];
        stage.modal(&[&["token", "set"], &secret[..]].concat()).end(COMMAND_LIMIT)
    };
    tried.part("token set", || {
        set(&token.secret)?.success()?;
        let written = fs::read_to_string(&settings)?;
        ensure!(written.contains(&token.id) && written.contains(&token.secret), "{written}");
        // Without the variables, the file is all there is.
        stage.without_token(&["app", "list"]).end(COMMAND_LIMIT)?.success()?;
        Ok(())
    });
    tried.part("wrong token", || {
        let wrong = settings.with_file_name("modal.toml");
        let text = fs::read_to_string(&wrong)?.replace(&token.secret, "as-not-this-one");
        fs::write(&wrong, text)?;
        let said = stage.without_token(&["app", "list"]).end(COMMAND_LIMIT)?.failure()?;
        ensure!(said.contains("modal token set"), "it does not say what to do: {said}");
        Ok(())
    });
}

pub fn secrets(stage: &Stage<'_>, tried: &mut Tried) {
    tried.part("secret create", || {
        stage.said(&["secret", "create", "proof-named", "NAMED=by name"])?;
        let secrets = stage.json(&["secret", "list"])?;
        let names: Vec<_> = secrets.iter().map(|row| column(row, "name")).collect();
        ensure!(names.contains(&"proof-named"), "{names:?}");
        ensure!(!format!("{secrets:?}").contains("by name"), "its value is shown");
        Ok(())
    });
    let run = stage.modal(&["run", "with_secrets.py"]).end(COMMAND_LIMIT);
    match run {
        Ok(ended) => tried.0.extend(outcomes_in(&ended.said)),
        Err(error) => tried.part("secret by name", || Err(error)),
    }
    tried.part("missing secret", || {
        let said = stage.modal(&["run", "missing_secret.py"]).end(COMMAND_LIMIT)?.failure()?;
        ensure!(said.contains("proof-nobody-made-it"), "{said}");
        Ok(())
    });
}
