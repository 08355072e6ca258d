//! What takes more than one command, or someone who presses Ctrl-C.

pub mod accounts;
pub mod deploy;
pub mod images;
pub mod not_yet;
pub mod runs;
pub mod serve;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::stage::Stage;

/// The value of a column of one of the client's tables, which older ones name as they show it:
/// `App ID` for `app_id`.
fn column<'a>(row: &'a Value, name: &str) -> &'a str {
    let same = |other: &str| other.to_lowercase().replace(' ', "_") == name;
    let fields = row.as_object().into_iter().flatten();
    let mut found = fields.filter(|(other, _)| same(other)).filter_map(|(_, value)| value.as_str());
    found.next().unwrap_or_default()
}

/// The state of an app, as `modal app list` shows it; nothing once it is not listed any more.
fn state_of_app(stage: &Stage<'_>, app: &str) -> Result<Option<String>> {
    let apps = stage.json(&["app", "list"])?;
    let found = apps.iter().find(|row| column(row, "app_id") == app);
    Ok(found.map(|row| column(row, "state").to_owned()))
}

/// Whether an app ended: listed as stopped, or not at all.
fn has_stopped(stage: &Stage<'_>, app: &str) -> Result<Option<()>> {
    let state = state_of_app(stage, app)?;
    Ok(state.is_none_or(|state| state.contains("stopped")).then_some(()))
}

/// The containers of an app.
fn containers_of(stage: &Stage<'_>, app: &str) -> Result<Vec<String>> {
    let rows = stage.json(&["container", "list"])?;
    let of_app = rows.iter().filter(|row| column(row, "app_id") == app);
    Ok(of_app.map(|row| column(row, "container_id").to_owned()).collect())
}

/// The first word in `said` that begins with `prefix`, such as an id.
fn word(said: &str, prefix: &str) -> Result<String> {
    let begin = said.find(prefix).with_context(|| format!("no `{prefix}…` in {said}"))?;
    let word = said[begin..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-');
    Ok(word.collect())
}
