//! Clients of other versions.

use crate::clients;
use crate::stage::Stage;

/// Runs, deploys and looks up an app with a client; containers run the same version, or the
/// oldest whose container side is started as it is now.
fn works(version: &str, container_version: &str, app: &str, ask: &str) {
    let Some(python) = clients::python(version) else { return };
    let Some(container) = clients::python(container_version) else { return };
    let stage = Stage::start_with(python, container);
    let said = stage.succeeds(&mut stage.modal(&["run", app]));
    assert!(said.contains("is well"), "{said}");
    stage.succeeds(&mut stage.modal(&["deploy", app]));
    let said = stage.succeeds(&mut stage.script(&[ask]));
    assert!(said.contains("looked up"), "{said}");
}

#[test]
fn client_1_0_5_runs_deploys_and_looks_up() {
    works("1.0.5", "1.0.5", "plain.py", "ask_plain.py");
}

#[test]
fn client_0_73_173_runs_deploys_and_looks_up() {
    works("0.73.173", "0.73.173", "old.py", "ask_old.py");
}

#[test]
fn client_0_64_235_runs_deploys_and_looks_up() {
    // The newest container side refuses the words that these functions were written with.
    works("0.64.235", "0.73.173", "old.py", "ask_old.py");
}
