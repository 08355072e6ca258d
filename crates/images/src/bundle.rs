//! The container side of a Modal client, to be laid over images.
//!
//! The client's own packages lie in `/pkg`, first on Python's path. What they need lies in
//! `/__modal/deps`, last on it, so that an image's own versions come first; a `sitecustomize`
//! module in `/pkg` adds it. Images of older builders have it installed as well.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::BuildError;
use crate::files::{link_tree, make_directory};
use crate::log::{BuildLog, say};
use crate::packages::{Failure, Freshness, Packages, Request, Target, request};
use crate::ready::{ClientBundle, ClientVersion};
use crate::store::Layer;

/// What of a client's requirements travels with it.
const WITH_CLIENT: &str = "synchronicity";

const SITECUSTOMIZE: &str = "import sys\n\nsys.path.append(\"/__modal/deps\")\n";

/// What uv says of a release that the index does not have, rather than have no wheel of.
const NO_SUCH_VERSION: &str = "there is no version of";

/// Clients before this version take their arguments in another way, so that the container side of
/// a newer one runs for them.
const OLDEST_OWN_SIDE: (u32, u32) = (0, 73);

/// The client whose container side runs for those: it is started as newer ones are, and knows the
/// words of older ones, such as `keep_warm`.
const STAND_IN: &str = "0.73.173";

/// The version of the container side for a client.
pub fn container_side(client_version: &str) -> &str {
    let mut numbers = client_version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < OLDEST_OWN_SIDE => STAND_IN,
        _ => client_version,
    }
}

/// The name among layers.
pub fn id(client: &ClientVersion, target: &Target) -> String {
    let of = [
        container_side(&client.client_version),
        &client.builder_version,
        &target.series,
        &target.platform,
    ];
    format!("client-{}", &blake3::hash(of.join(" ").as_bytes()).to_hex()[..32])
}

pub fn laid(client: &ClientVersion, layer: &Layer) -> ClientBundle {
    ClientBundle {
        lowers: vec![layer.tree.clone()],
        environment: BTreeMap::from([("PYTHONPATH".to_owned(), "/pkg".to_owned())]),
        client_version: container_side(&client.client_version).to_owned(),
        hold: layer.hold(),
    }
}

pub fn make(
    client: &ClientVersion,
    id: &str,
    packages: &Packages<'_>,
    log: &dyn BuildLog,
) -> Result<Layer, BuildError> {
    let version = container_side(&client.client_version);
    let series = &packages.target.series;
    say(log, &format!("lays out the client {version} for Python {series}, once on this machine"));
    let elsewhere = |failure: Failure| {
        failure.into_error(&format!("the client {version} for Python {series} cannot be fetched"))
    };
    let scratch = packages.store.scratch()?;
    let tree = scratch.path().join("tree");
    for name in ["tree/pkg", "tree/__modal/deps"] {
        make_directory(scratch.path(), Path::new(name))
            .map_err(BuildError::io("make", scratch.path()))?;
    }
    let own = tree.join("pkg");
    let alone = |requirement: String| Request {
        requirements: vec![requirement],
        without_dependencies: true,
        ..Request::default()
    };
    let client_alone = alone(format!("modal=={version}"));
    lay(packages, &client_alone, &own, log).map_err(elsewhere)?;
    if let Some(requirement) = requirement_of_client(&own) {
        lay(packages, &alone(requirement), &own, log).map_err(elsewhere)?;
    }

    let requirements = requirements(&own.join("modal"), client, series)?;
    let needed = |requirements: Vec<String>| Request {
        requirements,
        without_dependencies: true,
        ..Request::default()
    };
    let deps = tree.join("__modal/deps");
    let mut laid = lay(packages, &needed(requirements.clone()), &deps, log);
    if let Err(Failure::Elsewhere(why)) = &laid
        && why.contains(NO_SUCH_VERSION)
    {
        say(log, "the index lacks a release that the client names; the one before it is taken");
        let earlier = requirements.iter().map(|pin| pin.replacen("==", "<=", 1)).collect();
        laid = lay(packages, &needed(earlier), &deps, log);
    }
    match laid {
        Ok(()) => {}
        Err(Failure::Elsewhere(why)) => {
            say(log, &format!("builds what the client needs in a container, since {why}"));
            let built = packages.build(&requirements, log)?;
            link_tree(&built.tree, &deps).map_err(BuildError::io("link", &built.tree))?;
        }
        Err(Failure::Failed(error)) => return Err(error),
    }
    let path = own.join("sitecustomize.py");
    fs::write(&path, SITECUSTOMIZE).map_err(BuildError::io("write", &path))?;
    packages.store.adopt(id, &tree, serde_json::Value::Null)
}

/// Links the packages of a request into a directory.
fn lay(
    packages: &Packages<'_>,
    request: &Request,
    into: &Path,
    log: &dyn BuildLog,
) -> Result<(), Failure> {
    let pins = packages.resolve(request, &vec![], Freshness::Cached, log)?;
    for layer in packages.unpacked(&pins, log)? {
        let from = layer.tree.join(packages.target.packages_path());
        link_tree(&from, into).map_err(BuildError::io("link", &from))?;
    }
    Ok(())
}

/// The requirement of the client that travels with it.
fn requirement_of_client(own: &Path) -> Option<String> {
    let entries = fs::read_dir(own).ok()?;
    let mut names = entries.flatten().map(|entry| entry.path());
    let info = names.find(|path| path.extension().is_some_and(|e| e == "dist-info"))?;
    let metadata = fs::read_to_string(info.join("METADATA")).ok()?;
    let requirements = metadata.lines().filter_map(|line| line.strip_prefix("Requires-Dist: "));
    requirements.map(str::to_owned).find(|requirement| requirement.starts_with(WITH_CLIENT))
}

/// What the client says that its container side needs with this builder.
fn requirements(
    client: &Path,
    version: &ClientVersion,
    series: &str,
) -> Result<Vec<String>, BuildError> {
    let builder = &version.builder_version;
    let special = (builder == "2023.12" && series == "3.12").then(|| format!("{builder}.312.txt"));
    let names = special.into_iter().chain([format!("{builder}.txt"), "2024.10.txt".to_owned()]);
    for name in names {
        for folder in ["builder", "requirements"] {
            let Ok(text) = fs::read_to_string(client.join(folder).join(&name)) else { continue };
            return request::requirements_of(&text).ok_or_else(|| {
                BuildError::refused(format!("the client's requirements in {name} cannot be read"))
            });
        }
    }
    Err(BuildError::refused(format!("the client has no requirements for the builder {builder}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_clients_are_served_by_a_newer_container_side() {
        assert_eq!(container_side("0.64.235"), STAND_IN);
        assert_eq!(container_side("0.73.173"), "0.73.173");
        assert_eq!(container_side("1.0.5"), "1.0.5");
        assert_eq!(container_side("odd"), "odd");
    }
}
