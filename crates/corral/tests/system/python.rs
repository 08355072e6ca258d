//! The Python package: its types, and its own tests against this binary.

use std::path::Path;
use std::process::Command;

#[test]
fn the_python_package_passes_its_own_tests() {
    let Some(python) = std::env::var_os("CORRAL_TEST_PYTHON") else {
        println!("skipped: CORRAL_TEST_PYTHON names no interpreter with the package's needs");
        return;
    };
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/corral");
    for tool in ["mypy", "pytest"] {
        let output = Command::new(&python)
            .args(["-m", tool])
            .current_dir(&package)
            .env("CORRAL_TEST_BINARY", env!("CARGO_BIN_EXE_corral"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tool} on the Python package:\n{said}");
        println!("{said}");
    }
}
