//! Generates the types from `proto/`, without `protoc`.

use std::env;
use std::fmt::Write;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/service.proto"], ["proto"])?;
    let methods =
        files.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method).fold(
            String::new(),
            |mut list, method| {
                // Writing to a string cannot fail.
                let _ = writeln!(list, "    {:?},", method.name());
                list
            },
        );
    let out = PathBuf::from(env::var("OUT_DIR")?);
    std::fs::write(out.join("methods.rs"), format!("&[\n{methods}]"))?;
    let client = env::var_os("CARGO_FEATURE_CLIENT").is_some();
    let builder = tonic_prost_build::configure()
        .build_server(false)
        .build_client(client)
        .build_transport(false)
        // Payloads are slices of the received message, not copies.
        .bytes(".")
        // The same message is the same bytes: definitions are compared by them.
        .btree_map(".")
        // What holds values of secrets is not to be printed by accident.
        .skip_debug(["SecretGetOrCreateRequest", "SecretUpdateRequest"]);
    builder.compile_fds(files)?;
    Ok(())
}
