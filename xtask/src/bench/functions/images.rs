//! Images: asked for again, and built from a warm cache.
//!
//! What the official client asks is written down by the floor; then the same is asked of the
//! real server without the client's own cost.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use corral_modal_api::*;
use tokio::runtime::Runtime;

use super::super::report::Figure;
use super::super::server::Server;
use super::super::{REPETITIONS, root};
use super::client::Client;
use super::floor::{AskedImage, RunningFloor};
use super::wire::{self, Wire};

/// How often the unchanged image is asked for in one repetition, for the middle of it.
const ASKED: usize = 20;
/// A build says something within that time, or the request is made again.
const JOIN_S: f32 = 55.0;

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let client = Client::install()?;
    let server = Server::start()?;
    let folder = tempfile::tempdir_in(root().join("target"))?;
    let floor = RunningFloor::start(&client.python, &client.scripts, folder.path())?;
    let asked = |name: &str| -> anyhow::Result<Vec<AskedImage>> {
        client.said("images.py", &floor.url, &[name.to_owned()])?;
        Ok(floor.take_asked_images())
    };
    let (steps, packages) = (asked("steps")?, asked("packages")?);
    let runtime = Runtime::new()?;
    let (unchanged_ms, built_s) = runtime.block_on(measure(&server.url, &steps, &packages))?;
    Ok(vec![
        Figure::new(
            "unchanged image of 5 steps",
            "≤ 20 ms",
            "ms",
            unchanged_ms,
            format!(
                "the {} requests that the official client makes for it and its base, one after \
                 the other; the middle of {ASKED}",
                steps.len()
            ),
        ),
        Figure::new(
            "`pip_install` of pandas and scikit-learn, warm cache",
            "≤ 1.2 s",
            "s",
            built_s,
            "`force_build` of the layer on its unchanged base",
        ),
    ])
}

async fn measure(
    url: &str,
    steps: &[AskedImage],
    packages: &[AskedImage],
) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let mut wire = wire::connect(url).await?;
    let app = AppGetOrCreateRequest {
        app_name: "bench-images".to_owned(),
        object_creation_type: ObjectCreationType::CreateIfMissing.into(),
        ..AppGetOrCreateRequest::default()
    };
    let app_id = wire.app_get_or_create(app).await?.into_inner().app_id;
    let mut session = Builds { wire, app_id };
    session.build(steps, Force::Nothing).await?;
    session.build(packages, Force::Nothing).await?;
    let (mut unchanged_ms, mut built_s) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let mut times_ms = Vec::with_capacity(ASKED);
        for _ in 0..ASKED {
            times_ms.push(session.build(steps, Force::Nothing).await? * 1000.0);
        }
        unchanged_ms.push(super::super::spread(&times_ms).0);
        built_s.push(session.build(packages, Force::Last).await?);
    }
    Ok((unchanged_ms, built_s))
}

/// What is built although it is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Force {
    Nothing,
    Last,
}

struct Builds {
    wire: Wire,
    app_id: String,
}

impl Builds {
    /// Asks for a chain of layers as the official client did, and gives the seconds that it took.
    async fn build(&mut self, layers: &[AskedImage], force: Force) -> anyhow::Result<f64> {
        // What the floor called a layer, and what this server calls it.
        let mut ids = HashMap::<&str, String>::new();
        let begun = Instant::now();
        for (number, layer) in layers.iter().enumerate() {
            let mut asked = layer.request.clone();
            asked.app_id.clone_from(&self.app_id);
            asked.force_build = force == Force::Last && number + 1 == layers.len();
            for base in asked.image.iter_mut().flat_map(|image| &mut image.base_images) {
                let id = ids.get(base.image_id.as_str());
                base.image_id.clone_from(id.context("a layer comes after its base")?);
            }
            let answer = self.wire.image_get_or_create(asked).await?.into_inner();
            let result = match answer.result {
                Some(result) => result,
                None => self.wait(&answer.image_id).await?,
            };
            ensure!(
                result.status() == generic_result::GenericStatus::Success,
                "a layer was not built: {}",
                result.exception
            );
            ids.insert(&layer.image_id, answer.image_id);
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    async fn wait(&mut self, image_id: &str) -> anyhow::Result<GenericResult> {
        let mut asked = ImageJoinStreamingRequest {
            image_id: image_id.to_owned(),
            timeout: JOIN_S,
            ..ImageJoinStreamingRequest::default()
        };
        loop {
            let mut said = self.wire.image_join_streaming(asked.clone()).await?.into_inner();
            let before = asked.last_entry_id.clone();
            while let Some(entry) = said.message().await? {
                if let Some(result) = entry.result
                    && result.status() != generic_result::GenericStatus::Unspecified
                {
                    return Ok(result);
                }
                if !entry.entry_id.is_empty() {
                    asked.last_entry_id = entry.entry_id;
                }
                if entry.eof {
                    bail!("the build of {image_id} ended without a result");
                }
            }
            if asked.last_entry_id == before {
                eprintln!("{image_id} is being built and says nothing");
            }
        }
    }
}
