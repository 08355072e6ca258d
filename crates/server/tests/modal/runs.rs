//! Apps that run with their client.

use crate::stage::Stage;

const NEWEST: &str = "1.6.4";

#[test]
fn an_app_runs_with_remote_map_spawn_and_generator() {
    let Some(stage) = Stage::start(NEWEST) else { return };
    let said = stage.succeeds(&mut stage.modal(&["run", "hello.py"]));
    assert!(said.contains("all is well"), "{said}");
    assert!(said.contains("squaring 7"), "{said}");
    println!("{said}");
}

#[test]
fn a_module_that_fails_in_its_container_fails_its_inputs() {
    let Some(stage) = Stage::start(NEWEST) else { return };
    let said = stage.succeeds(&mut stage.modal(&["run", "broken.py"]));
    assert!(said.contains("it said: this module does not work there"), "{said}");
}

#[test]
fn a_deployed_app_is_called_in_every_way() {
    let Some(stage) = Stage::start(NEWEST) else { return };
    let said = stage.succeeds(&mut stage.modal(&["deploy", "shop.py"]));
    assert!(said.contains("App deployed"), "{said}");
    let said = stage.succeeds(&mut stage.modal(&["deploy", "shop.py"]));
    assert!(said.contains("no changes detected"), "{said}");
    let said = stage.succeeds(&mut stage.script(&["ask_shop.py"]));
    assert!(said.contains("the shop is fine"), "{said}");
}

#[test]
fn what_is_not_there_is_said_so() {
    let Some(stage) = Stage::start(NEWEST) else { return };
    let said = stage.succeeds(&mut stage.script(&["wrong.py"]));
    assert!(said.contains("not found:"), "{said}");
    assert!(said.contains("unimplemented: Corral does not serve VolumeGetOrCreate"), "{said}");
    let mut stranger = stage.modal(&["app", "list"]);
    let said = stage.fails(stranger.env("MODAL_TOKEN_SECRET", "corral_of_another"));
    assert!(said.contains("the token is not known"), "{said}");
}

#[test]
fn apps_secrets_and_environments_are_seen_to() {
    let Some(stage) = Stage::start(NEWEST) else { return };
    let modal = |arguments: &[&str]| stage.succeeds(&mut stage.modal(arguments));
    modal(&["deploy", "plain.py"]);
    let listed = modal(&["app", "list", "--json"]);
    assert!(listed.contains("plain") && listed.contains("deployed"), "{listed}");
    modal(&["environment", "create", "dev"]);
    let listed = modal(&["environment", "list", "--json"]);
    assert!(listed.contains("dev") && listed.contains("default"), "{listed}");
    modal(&["deploy", "-e", "dev", "plain.py"]);
    let busy = stage.fails(&mut stage.modal(&["environment", "delete", "dev", "--yes"]));
    assert!(busy.contains("is used by plain"), "{busy}");
    modal(&["app", "stop", "-e", "dev", "plain", "--yes"]);
    modal(&["environment", "delete", "dev", "--yes"]);

    modal(&["secret", "create", "keys", "A=1", "B=2"]);
    let listed = modal(&["secret", "list", "--json"]);
    assert!(listed.contains("keys"), "{listed}");
    let again = stage.fails(&mut stage.modal(&["secret", "create", "keys", "A=3"]));
    assert!(again.contains("already"), "{again}");
    modal(&["secret", "create", "--force", "keys", "A=3"]);
    modal(&["secret", "delete", "keys", "--yes"]);

    let said = stage.succeeds(&mut stage.script(&["ask_plain.py"]));
    assert!(said.contains("looked up"), "{said}");
    let history = modal(&["app", "history", "plain", "--json"]);
    assert!(history.contains("v1"), "{history}");
    modal(&["app", "rollover", "plain"]);
    modal(&["app", "rollback", "plain", "v1"]);
    let history = modal(&["app", "history", "plain", "--json"]);
    assert!(history.contains("v3"), "{history}");
    let containers = modal(&["container", "list", "--json"]);
    assert!(containers.contains("ta-"), "{containers}");
    modal(&["app", "logs", "plain"]);
    modal(&["app", "stop", "plain", "--yes"]);
    let gone = stage.fails(&mut stage.script(&["ask_plain.py"]));
    assert!(gone.contains("NotFoundError"), "{gone}");
}

#[test]
fn an_app_that_is_interrupted_ends_and_a_detached_one_goes_on() {
    let Some(stage) = Stage::start(NEWEST) else { return };
    let state = |description: &str| {
        let listed = stage.succeeds(&mut stage.modal(&["app", "list", "--json"]));
        let line = listed.split('{').find(|one| one.contains(description));
        line.map(|line| line.to_owned()).unwrap_or_default()
    };
    let mut client = stage.modal(&["run", "long.py"]).spawn().unwrap();
    crate::stage::wait_for("the app to run", || state("long").contains("ephemeral"));
    crate::containers::send(client.id(), "INT");
    client.wait().unwrap();
    crate::stage::wait_for("the app to end", || state("long").contains("stopped"));

    let mut client = stage.modal(&["run", "--detach", "detached.py"]).spawn().unwrap();
    crate::stage::wait_for("the app to run", || state("detached").contains("detached"));
    client.kill().unwrap();
    client.wait().unwrap();
    assert!(state("detached").contains("detached"));
}
