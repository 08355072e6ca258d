//! What containers reach over the network, and what they do not.

use std::fs;
use std::net::TcpListener;

use corral_containers::Network;
use corral_isolation::{Access, Bind, ContainerProcessEvent};

use crate::harness::Test;
use crate::host::Host;

pub fn tests() -> Vec<Test> {
    vec![
        ("the_machine_and_its_neighbours_are_closed", the_machine_and_its_neighbours_are_closed),
        ("the_world_is_open", the_world_is_open),
        ("without_a_network_there_is_none", without_a_network_there_is_none),
        ("a_worker_that_ends_leaves_others_their_way_out", leaves_others_their_way_out),
    ]
}

fn open(name: &str) -> Option<Host> {
    let host = Host::new(name)?;
    match host.containers.no_network() {
        None => Some(host),
        Some(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

/// Every address of this machine, as a container would try them.
fn addresses_of_this_machine() -> Vec<String> {
    let text = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let mut found = Vec::new();
    let mut last = "";
    for line in text.lines() {
        if line.contains("host LOCAL") && !found.contains(&last.to_owned()) {
            found.push(last.to_owned());
        } else if let Some((_, address)) = line.split_once("-- ") {
            last = address.trim();
        }
    }
    found
}

fn the_machine_and_its_neighbours_are_closed() {
    let Some(host) = open("containers-closed") else { return };
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let listen = "import socket, time\n\
        s = socket.create_server(('0.0.0.0', 4000)); \n\
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.connect(('192.0.2.77', 9))\n\
        print(u.getsockname()[0], flush=True); time.sleep(100)";
    let (mut neighbour, reader) = host.start(host.python(listen));
    assert!(matches!(host.next(&mut neighbour), Some(ContainerProcessEvent::Started { .. })));
    let mut address = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(reader), &mut address).unwrap();
    let neighbour_address = address.trim().to_owned();
    assert!(neighbour_address.parse::<std::net::Ipv4Addr>().is_ok(), "{neighbour_address}");

    let mut targets: Vec<(String, u16)> =
        addresses_of_this_machine().into_iter().map(|address| (address, port)).collect();
    assert!(targets.len() >= 2, "{targets:?}");
    targets.push((neighbour_address, 4000));
    targets.push(("169.254.169.254".into(), 80));
    targets.push(("100.100.100.200".into(), 80));
    let program = format!(
        "import socket\n\
         own = socket.create_server(('127.0.0.1', 4001))\n\
         socket.create_connection(('127.0.0.1', 4001), 1)\n\
         for target in {targets:?}:\n\
         \x20 try:\n\
         \x20   socket.create_connection(target, 0.5); print(target, 'REACHED')\n\
         \x20 except OSError as error: print(target, 'no')\n\
         for family in (socket.AF_PACKET,):\n\
         \x20 try: socket.socket(family, socket.SOCK_RAW); print('raw REACHED')\n\
         \x20 except OSError: print('raw no')\n\
         print([name for _, name in socket.if_nameindex()])\n"
    );
    let program = program.replace("[(\"", "[('").replace("\"", "'");
    let (output, exit) = host.run(host.python(&program));
    assert_eq!(exit.exit_code, Some(0), "{output}");
    assert!(!output.contains("REACHED"), "{output}");
    assert_eq!(output.matches(" no").count(), targets.len() + 1, "{output}");
    assert!(output.contains("['lo', 'eth0']"), "{output}");
}

/// Goes where the test machine itself can go: its package index, by name and with its authorities.
fn the_world_is_open() {
    let Some(host) = open("containers-open") else { return };
    const INDEX: &str = "pypi.org";
    let outside = std::process::Command::new("/usr/bin/python3.11")
        .args(["-c", &format!("import socket; socket.create_connection(('{INDEX}', 443), 5)")])
        .output()
        .unwrap();
    if !outside.status.success() {
        return println!("skipped: this machine does not reach {INDEX} itself");
    }
    let mut plan = host.python(&format!(
        "import urllib.request\n\
         print(urllib.request.urlopen('https://{INDEX}/simple/pip/', timeout=20).status)"
    ));
    for path in ["/etc/ssl/certs", "/etc/ssl/certs/ca-certificates.crt"] {
        plan.binds.push(Bind { source: path.into(), target: path.into(), access: Access::Read });
    }
    let authorities = "/etc/ssl/certs/ca-certificates.crt";
    plan.environment.push(("SSL_CERT_FILE".into(), authorities.into()));
    let (output, exit) = host.run(plan);
    assert_eq!((output.as_str(), exit.exit_code), ("200\n", Some(0)));
}

fn leaves_others_their_way_out() {
    let Some(first) = open("containers-first") else { return };
    let Some(second) = open("containers-second") else { return };
    let forwarding = || {
        let links = fs::read_dir("/proc/sys/net/ipv4/conf").unwrap().flatten();
        let own = links.filter(|link| !link.file_name().to_string_lossy().starts_with("crl"));
        own.filter(|link| {
            fs::read_to_string(link.path().join("forwarding")).is_ok_and(|text| text.trim() == "1")
        })
        .count()
    };
    let both = forwarding();
    assert!(both > 0);
    drop(first);
    assert_eq!(forwarding(), both);
    drop(second);
}

fn without_a_network_there_is_none() {
    let Some(host) = Host::new("containers-none") else { return };
    let mut plan = host.python("import socket; print([name for _, name in socket.if_nameindex()])");
    plan.network = Network::None;
    assert_eq!(host.run(plan).0, "['lo']\n");
}
