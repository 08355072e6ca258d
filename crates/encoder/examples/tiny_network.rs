//! Writes the published files of the tiny test network, of which `tests/golden/embeddings.py`
//! computes reference embeddings.
//!
//!     cargo run -p corral-encoder --features test-support --example tiny_network -- DIRECTORY

use std::error::Error;
use std::path::PathBuf;

use corral_encoder::test_support::TinyNetwork;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args().nth(1).ok_or("usage: tiny_network DIRECTORY")?);
    let network = TinyNetwork::new(1);
    std::fs::write(directory.join("model.safetensors"), network.safetensors)?;
    std::fs::write(directory.join("tokenizer.json"), network.tokenizer_json)?;
    std::fs::write(directory.join("config.json"), network.config_json)?;
    Ok(())
}
