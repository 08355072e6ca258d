//! Mounts: files by content.

use std::io::Read;

use corral_apps::MountFile;
use corral_modal_api as api;
use corral_modal_api::mount_put_file_request::DataOneof;
use corral_types::{BlobHash, ErrorKind, Timestamp};
use sha2::{Digest, Sha256};

use super::Edge;
use super::call::Call;
use super::ids::timestamp;
use super::payloads::blob_of;
use super::refusal::{Answer, Refusal};

/// Bytes read from a file at a time.
const BLOCK_BYTES: usize = 256 * 1024;

/// A mount that is asked for by name is one of these: the client's own package and interpreters,
/// which workers bring along.
const GLOBAL_PREFIXES: [&str; 4] =
    ["modal-client-mount-", "python-build-standalone", "modal-client-dependencies", "20"];

pub async fn check_existence(
    edge: &Edge,
    call: &Call,
    request: api::MountBatchedCheckExistenceRequest,
) -> Answer<api::MountBatchedCheckExistenceResponse> {
    let hashes = &request.sha256_hex_hashes;
    let wanted = hashes.iter().map(|text| sha256(text)).collect::<Answer<Vec<_>>>()?;
    let mut known = edge.apps.known_files(&call.caller, wanted.clone()).await?;
    known.sort_unstable();
    let missing = hashes.iter().zip(&wanted).filter(|(_, hash)| known.binary_search(hash).is_err());
    Ok(api::MountBatchedCheckExistenceResponse {
        missing_sha256_hex_hashes: missing.map(|(text, _)| text.clone()).collect(),
        checked_at: Some(timestamp(Timestamp::now())),
    })
}

/// A file, or the question whether it is there.
pub async fn put_file(
    edge: &Edge,
    call: &Call,
    request: api::MountPutFileRequest,
) -> Answer<api::MountPutFileResponse> {
    let wanted = sha256(&request.sha256_hex)?;
    let answer = |exists| api::MountPutFileResponse {
        exists,
        checked_at: Some(timestamp(Timestamp::now())),
    };
    let blobs = edge.blobs.clone();
    let put: BlobHash = match request.data_oneof {
        None => {
            let known = edge.apps.known_files(&call.caller, vec![wanted]).await?;
            return Ok(answer(!known.is_empty()));
        }
        Some(DataOneof::Data(bytes)) => {
            let put = tokio::task::spawn_blocking(move || {
                require_hash(&Sha256::digest(&bytes), wanted)?;
                Ok::<_, Refusal>(blobs.put_bytes(&bytes)?.hash)
            });
            put.await.map_err(|_| cut_off())??
        }
        Some(DataOneof::DataBlobId(blob)) => {
            let hash = blob_of(edge, call, &blob).await?;
            let hashed = tokio::task::spawn_blocking(move || {
                let file = blobs.open_file(&hash)?;
                let found = sha256_of(file).map_err(|error| {
                    Refusal::new(ErrorKind::Internal, format!("read an upload: {error}"))
                })?;
                require_hash(&found, wanted)
            });
            hashed.await.map_err(|_| cut_off())??;
            hash
        }
    };
    edge.apps.put_file(&call.caller, wanted, put).await?;
    Ok(answer(true))
}

pub async fn get_or_create(
    edge: &Edge,
    call: &Call,
    request: api::MountGetOrCreateRequest,
) -> Answer<api::MountGetOrCreateResponse> {
    let name = &request.deployment_name;
    let mount = if name.is_empty() {
        let files = request.files.into_iter().map(|file| {
            Ok(MountFile {
                sha256: sha256(&file.sha256_hex)?,
                path: file.filename,
                mode: file.mode,
            })
        });
        edge.apps.put_mount(&call.caller, files.collect::<Answer<_>>()?).await?
    } else if GLOBAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        edge.apps.global_mount(&call.caller, name).await?
    } else {
        return Err(Refusal::not_found(format!("there is no mount `{name}`"))
            .with_hint("mounts with names are those that come with the client"));
    };
    Ok(api::MountGetOrCreateResponse {
        mount_id: mount.to_string(),
        handle_metadata: Some(api::MountHandleMetadata::default()),
    })
}

fn sha256_of(mut file: impl Read) -> std::io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(&block[..read]),
        }
    }
}

fn require_hash(found: &[u8], wanted: [u8; 32]) -> Answer<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Refusal::invalid("the bytes of a file do not have the SHA-256 that was named"))
}

fn sha256(text: &str) -> Answer<[u8; 32]> {
    // Written as our own hashes are.
    let parsed: Result<BlobHash, _> = text.parse();
    let hash = parsed.map_err(|_| Refusal::invalid(format!("`{text}` is not a SHA-256")))?;
    Ok(*hash.as_bytes())
}

fn cut_off() -> Refusal {
    Refusal::new(ErrorKind::Unavailable, "the work was cut off")
}
