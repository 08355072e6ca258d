//! The Open Inference Protocol, asked by its official client.
//!
//! `CORRAL_TEST_PYTHON` names a Python that has `tritonclient[http]`.

use std::process::Command;

use crate::support::Corral;

#[test]
fn the_official_client_is_served() {
    let Ok(python) = std::env::var("CORRAL_TEST_PYTHON") else {
        println!("skipped: the inference client (CORRAL_TEST_PYTHON names no Python)");
        return;
    };
    let imported = Command::new(&python).args(["-c", "import tritonclient.http"]).output().unwrap();
    if !imported.status.success() {
        println!("skipped: the inference client (that Python is too old for it, or lacks it)");
        return;
    }
    let corral = Corral::start();
    corral.deploy_support();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/inference_client.py");
    let output = Command::new(python)
        .arg(script)
        .env("CORRAL_URL", &corral.url)
        .env("CORRAL_TOKEN", &corral.token)
        .env("EXPECTED_CLASS", corral.class_of("my parcel was lost on the way"))
        .env_remove("http_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{failed}");
    assert!(said.contains("all checks passed"), "{said}");
}
