//! Images: each layer is a definition of its own over another image.

use std::time::{Duration, Instant};

use corral_apps::{FunctionRun, ImageBase, ImageDefinition};
use corral_containers::ContextFile;
use corral_modal_api as api;
use corral_modal_api::Message;
use corral_modal_api::generic_result::GenericStatus;
use corral_types::{BlobHash, ErrorKind, FunctionId, ImageId};
use futures_util::stream;

use super::Edge;
use super::call::Call;
use super::ids::{id, ids, optional_id, seconds, text_or};
use super::ports::{BuildStatus, BuiltImage, ImageWanted};
use super::refusal::{Answer, Refusal};

/// How long a stream of a build's log lasts at most; clients ask again.
const MAX_STREAM: Duration = Duration::from_secs(60);

type Progress = std::pin::Pin<
    Box<dyn futures_util::Stream<Item = Answer<api::ImageJoinStreamingResponse>> + Send>,
>;

pub async fn get_or_create(
    edge: &Edge,
    call: &Call,
    request: api::ImageGetOrCreateRequest,
) -> Answer<api::ImageGetOrCreateResponse> {
    let mut run = None;
    let image = match request.image {
        Some(image) => {
            let forced = request.force_build || request.ignore_cache;
            let function = optional_id(&request.build_function_id, "function")?;
            let mut definition = definition(call, image, function, &request.builder_version)?;
            run = definition.run.clone();
            if forced {
                definition.force_build = Some(random_number());
            }
            edge.apps.put_image(&call.caller, &definition).await?
        }
        None => id(&request.existing_image_id, "image")?,
    };
    let status = begin(edge, call, image, run).await?;
    let definition = edge.apps.image(&call.caller, image).await?;
    let (result, metadata) = match status {
        BuildStatus::Running => (None, None),
        BuildStatus::Built(built) => {
            (Some(succeeded()), Some(metadata(built, &definition.builder_version)))
        }
        BuildStatus::Failed { message } => (Some(failed(message)), None),
    };
    Ok(api::ImageGetOrCreateResponse { image_id: image.to_string(), result, metadata })
}

pub async fn from_id(
    edge: &Edge,
    call: &Call,
    request: api::ImageFromIdRequest,
) -> Answer<api::ImageFromIdResponse> {
    let image = id(&request.image_id, "image")?;
    let definition = edge.apps.image(&call.caller, image).await?;
    let metadata = match begin(edge, call, image, None).await? {
        BuildStatus::Built(built) => metadata(built, &definition.builder_version),
        _ => metadata(BuiltImage::default(), &definition.builder_version),
    };
    Ok(api::ImageFromIdResponse { image_id: request.image_id, metadata: Some(metadata) })
}

/// The log of a build, and how it ended.
pub async fn join(
    edge: &Edge,
    call: &Call,
    request: api::ImageJoinStreamingRequest,
) -> Answer<Progress> {
    let image: ImageId = id(&request.image_id, "image")?;
    let definition = edge.apps.image(&call.caller, image).await?;
    let after: u64 = request.last_entry_id.parse().unwrap_or(0);
    let wait = Duration::try_from_secs_f32(request.timeout).unwrap_or_default().min(MAX_STREAM);
    let ends = Instant::now() + wait;
    let (edge, call) = (edge.clone(), call.clone());
    let progress = stream::unfold(Some(after), move |after| {
        let (edge, call) = (edge.clone(), call.clone());
        let builder = definition.builder_version.clone();
        async move {
            let after = after?;
            let left = ends.saturating_duration_since(Instant::now());
            let step = step(&edge, &call, image, after, left, &builder).await;
            match step {
                Ok((Some(response), next)) => Some((Ok(response), next)),
                Ok((None, _)) => None,
                Err(refusal) => Some((Err(refusal), None)),
            }
        }
    });
    Ok(Box::pin(progress))
}

/// The next message of a build's log, and after which line to go on, if at all.
async fn step(
    edge: &Edge,
    call: &Call,
    image: ImageId,
    after: u64,
    left: Duration,
    builder: &str,
) -> Answer<(Option<api::ImageJoinStreamingResponse>, Option<u64>)> {
    let workspace = call.caller.workspace;
    let progress = match edge.images.follow(workspace, image, after, left).await {
        // The server was started anew since: the build goes on from what is there.
        Err(failure) if failure.kind == ErrorKind::NotFound => {
            begin(edge, call, image, None).await?;
            edge.images.follow(workspace, image, 0, left).await?
        }
        progress => progress?,
    };
    let logs = progress.lines.into_iter().map(|line| api::TaskLogs {
        data: line.text,
        timestamp: seconds(line.at),
        file_descriptor: i32::from(line.descriptor),
        ..Default::default()
    });
    let mut response = api::ImageJoinStreamingResponse {
        task_logs: logs.collect(),
        entry_id: progress.last.to_string(),
        ..Default::default()
    };
    match progress.status {
        BuildStatus::Running if response.task_logs.is_empty() && left.is_zero() => {
            return Ok((None, None));
        }
        BuildStatus::Running => return Ok((Some(response), Some(progress.last))),
        BuildStatus::Built(built) => {
            response.result = Some(succeeded());
            response.metadata = Some(metadata(built, builder));
        }
        BuildStatus::Failed { message } => response.result = Some(failed(message)),
    }
    response.eof = true;
    Ok((Some(response), None))
}

/// Has an image built; `run` is what was asked for just now, whose function is there for sure.
async fn begin(
    edge: &Edge,
    call: &Call,
    image: ImageId,
    run: Option<FunctionRun>,
) -> Answer<BuildStatus> {
    let definition = edge.apps.image(&call.caller, image).await?;
    let wanted = ImageWanted {
        workspace: call.caller.workspace,
        image,
        recipe: edge.apps.recipe(&call.caller, image).await?,
        client_version: definition.client_version,
        builder_version: definition.builder_version,
        run: run.or(definition.run),
    };
    Ok(edge.images.begin(wanted).await?)
}

fn definition(
    call: &Call,
    image: api::Image,
    function: Option<FunctionId>,
    builder: &str,
) -> Answer<ImageDefinition> {
    let mut commands = image.dockerfile_commands;
    let base_of = |tag: &str| image.base_images.iter().find(|base| base.docker_tag == tag);
    let base = match commands.first().and_then(|command| from_reference(command)) {
        Some(reference) => {
            let reference = reference.to_owned();
            commands.remove(0);
            match base_of(&reference) {
                Some(base) => ImageBase::Image(id(&base.image_id, "image")?),
                None => ImageBase::Reference(reference),
            }
        }
        None => match image.base_images.first() {
            Some(base) => ImageBase::Image(id(&base.image_id, "image")?),
            None => {
                return Err(Refusal::invalid("an image begins with `FROM`, or with another image"));
            }
        },
    };
    let files = image.context_files.into_iter();
    Ok(ImageDefinition {
        base,
        commands,
        context_files: files
            .map(|file| ContextFile { name: file.filename, bytes: file.data.into() })
            .collect(),
        context: optional_id(&image.context_mount_id, "mount")?,
        build_arguments: image.build_args.into_iter().collect(),
        secrets: ids(&image.secret_ids, "secret")?,
        run: function.map(|function| run_of(function, image.build_function)),
        force_build: None,
        builder_version: text_or(builder, call.client.builder()).to_owned(),
        client_version: call.client.text().to_owned(),
    })
}

/// The call of a function without arguments, as the client pickles it.
const NO_ARGUMENTS: &[u8] = b"\x80\x02)}\x86.";

/// What a build function is run with. Its digest is of what the client says of its code, so that
/// the same function of another app makes the same image.
fn run_of(function: FunctionId, said: Option<api::BuildFunction>) -> FunctionRun {
    let said = said.unwrap_or_default();
    let digest = BlobHash::of(&said.encode_to_vec());
    let pickle = api::DataFormat::Pickle as u32;
    let (arguments, data_format) = match said.input {
        Some(input) => match input.args_oneof {
            Some(api::function_input::ArgsOneof::Args(arguments)) => {
                (arguments.to_vec(), input.data_format as u32)
            }
            _ => (NO_ARGUMENTS.to_vec(), pickle),
        },
        None => (NO_ARGUMENTS.to_vec(), pickle),
    };
    FunctionRun { function, digest, arguments, data_format }
}

/// What a command takes as its base, if it is a `FROM`.
fn from_reference(command: &str) -> Option<&str> {
    let mut words = command.split_whitespace();
    let is_from = words.next()?.eq_ignore_ascii_case("from");
    // Behind it may stand options, and `AS NAME`.
    if is_from { words.find(|word| !word.starts_with("--")) } else { None }
}

fn metadata(built: BuiltImage, builder: &str) -> api::ImageMetadata {
    api::ImageMetadata {
        python_version_info: built.python_version,
        workdir: built.working_directory,
        libc_version_info: built.libc_version,
        image_builder_version: Some(builder.to_owned()),
        ..Default::default()
    }
}

fn succeeded() -> api::GenericResult {
    api::GenericResult { status: GenericStatus::Success.into(), ..Default::default() }
}

fn failed(message: String) -> api::GenericResult {
    let status = GenericStatus::Failure.into();
    api::GenericResult { status, exception: message, ..Default::default() }
}

fn random_number() -> u64 {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the system's random source is available");
    u64::from_be_bytes(random)
}

#[cfg(test)]
mod tests {
    use super::from_reference;

    #[test]
    fn the_base_stands_behind_from() {
        assert_eq!(from_reference("FROM python:3.11-slim"), Some("python:3.11-slim"));
        assert_eq!(from_reference("from --platform=linux/amd64 a AS b"), Some("a"));
        assert_eq!(from_reference("RUN echo FROM"), None);
        assert_eq!(from_reference(""), None);
    }
}
