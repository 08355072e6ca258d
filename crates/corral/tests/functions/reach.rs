//! What a container reaches of the machine, of other apps and of other containers: nothing but
//! what it may.

use std::fs;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::clients::{Clients, NEWEST};
use crate::corral::{Corral, no_containers};
use crate::stage::{COMMAND_LIMIT, Stage, outcomes_in};

/// Where everyone who installs packages goes.
const OUTBOUND: &str = "pypi.org:443";

/// The parts of `reach.py`, some of them with a wait of their own.
const PARTS: usize = 16;
const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn containers_reach_what_they_may_and_nothing_else() {
    if let Some(why) = no_containers() {
        println!("skipped: what containers reach (this machine lets no container be: {why})");
        return;
    }
    let clients = Clients::install();
    if !clients.has(NEWEST) {
        println!("skipped: what containers reach (there is no client to ask them by)");
        return;
    }
    let corral = Corral::start(&clients.folder);
    let stage = Stage::new(NEWEST, &corral, &clients);
    let canary = stage.scratch().join("canary");
    fs::write(&canary, "a file of the host").unwrap();
    stage.said(&["deploy", "library.py"]).unwrap();
    stage.said(&["deploy", "foreign.py"]).unwrap();
    let foreign = stage.program("foreign.py").end(COMMAND_LIMIT).unwrap().success().unwrap();
    let processes = corral.processes().iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let outbound = if is_reachable(OUTBOUND) {
        OUTBOUND
    } else {
        println!("skipped: outbound network of containers (the machine itself has none)");
        ""
    };
    let run = stage.modal(&[
        "run",
        "reach.py",
        "--canary",
        canary.to_str().unwrap(),
        "--port",
        corral.port(),
        "--processes",
        &processes,
        "--outbound",
        outbound,
        "--foreign",
        foreign.trim(),
    ]);
    let said = run.end(LIMIT).unwrap().said;
    let outcomes = outcomes_in(&said);
    let failures: Vec<_> = outcomes
        .iter()
        .filter_map(|(name, outcome)| Some((name, outcome.as_ref().err()?)))
        .collect();
    assert!(failures.is_empty(), "{said}\n{failures:#?}");
    assert_eq!(outcomes.len(), PARTS, "it ended before its end:\n{said}");
}

fn is_reachable(place: &str) -> bool {
    let addresses: Vec<SocketAddr> =
        place.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let limit = Duration::from_secs(5);
    addresses.iter().any(|address| TcpStream::connect_timeout(address, limit).is_ok())
}
