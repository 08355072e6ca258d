//! The direction of dependencies: arrows point down only (see `ARCHITECTURE.md`).

use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// Every crate's storey, from the ground up. Within a storey only the base may depend on
/// one another; services meet at ports.
const STOREYS: &[(&str, &[&str])] = &[
    (
        "base",
        &[
            "corral-types",
            "corral-telemetry",
            "corral-taxonomy",
            "corral-data",
            "corral-classifier",
            "corral-encoder",
            "corral-observation",
            "corral-containers",
            "corral-images",
            "corral-isolation",
            "corral-modal-api",
            "corral-labels",
        ],
    ),
    (
        "ports",
        &[
            "corral-blobs",
            "corral-catalog",
            "corral-journal",
            "corral-placement",
            "corral-worker-api",
        ],
    ),
    (
        "services",
        &[
            "corral-batch",
            "corral-apps",
            "corral-datasets",
            "corral-functions",
            "corral-jobs",
            "corral-labeling",
            "corral-serving",
            "corral-training",
            "corral-worker",
        ],
    ),
    ("server", &["corral-server"]),
    ("binary", &["corral", "xtask"]),
];

fn storey(package: &str) -> Option<usize> {
    STOREYS.iter().position(|(_, packages)| packages.contains(&package))
}

/// Fails on a crate that has no storey or depends on one beside or above it.
pub fn check() -> anyhow::Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("run cargo metadata")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().context("cargo metadata has packages")? {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(own) = storey(name) else {
            bail!("{name} has no storey; give it one in xtask/src/storeys.rs");
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let below = dependency["name"].as_str().unwrap_or_default();
            let is_test_only = dependency["kind"] == "dev";
            let Some(other) = storey(below) else { continue };
            let allowed = other < own || (other == own && own == 0);
            if !allowed && !is_test_only {
                wrong.push(format!(
                    "{name} ({}) must not depend on {below} ({})",
                    STOREYS[own].0, STOREYS[other].0
                ));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn dependencies_point_down_only() {
        super::check().unwrap();
    }
}
