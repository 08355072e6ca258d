//! The container side of Modal's clients, laid over images.

use crate::common::*;
use corral_images::{BaseChoice, ClientVersion, StepEnd, StepProcess, StepRunner};

#[test]
fn every_clients_container_side_can_be_imported() {
    if !can_build() {
        return;
    }
    let shop = workshop(BaseChoice::Auto);
    let image = shop.images.ensure(&debian_slim("3.11"), &client(), &Heard::default()).unwrap();
    for (client_version, builder_version, runs) in [
        ("1.6.4", "2026.10", "1.6.4"),
        ("1.6.4", "2025.06", "1.6.4"),
        ("1.0.5", "2024.10", "1.0.5"),
        ("0.73.173", "2024.10", "0.73.173"),
        ("0.64.235", "2024.10", "0.73.173"),
    ] {
        let client = ClientVersion {
            client_version: client_version.into(),
            builder_version: builder_version.into(),
        };
        let log = Heard::default();
        let bundle = shop.images.client_bundle(&client, &image, &log);
        let bundle = bundle.unwrap_or_else(|error| panic!("{error}\n{}", log.text()));
        assert_eq!(bundle.client_version, runs);
        let writable = tempfile::tempdir_in(folder()).unwrap();
        std::fs::create_dir(writable.path().join("upper")).unwrap();
        let mut environment = image.environment.clone();
        environment.extend(bundle.environment);
        environment.insert("PYTHONDONTWRITEBYTECODE".into(), "1".into());
        let program = "import modal, modal._container_entrypoint as e, sys; \
                       print(modal.__version__, modal.__file__, e.__spec__.cached); \
                       import grpclib; print(grpclib.__file__)";
        let process = StepProcess {
            lowers: bundle.lowers.iter().chain(&image.lowers).cloned().collect(),
            writable: writable.path().to_owned(),
            binds: vec![],
            environment,
            working_directory: "/".into(),
            arguments: ["python", "-v", "-c", program].map(str::to_owned).into(),
            network: corral_containers::Network::None,
        };
        let log = Heard::default();
        assert_eq!(shop.runner.run(&process, &log).unwrap(), StepEnd::SUCCESS, "{}", log.text());
        let text = log.text();
        assert!(text.contains(&format!("{runs} /pkg/modal/__init__.py")), "{text}");
        // Everything was compiled beforehand, but for the line that makes the path.
        let (begin, own) = ("# code object from /", ["pkg/", "__modal/"]);
        let compiled_now = text.lines().filter_map(|line| line.strip_prefix(begin));
        let compiled_now: Vec<&str> =
            compiled_now.filter(|path| own.iter().any(|own| path.starts_with(own))).collect();
        assert_eq!(compiled_now, ["pkg/sitecustomize.py"]);
        assert!(text.contains("/__modal/deps/grpclib/"), "{text}");
        let compiled = bundle.lowers[0].join("pkg/modal/__pycache__");
        assert!(compiled.join("_container_entrypoint.cpython-311.pyc").exists());
    }
}
