//! Payloads: bytes that nothing here reads, inline in messages or uploaded beside them.

use corral_functions::{MAX_INLINE_BYTES, Payload};
use corral_modal_api::Bytes;
use corral_types::{BlobHash, ErrorKind};

use super::Edge;
use super::call::Call;
use super::ids::id;
use super::refusal::{Answer, Refusal};

/// The largest payload within a message; larger ones are uploaded. Far above what clients choose
/// by themselves: one message is faster than three requests.
pub const MAX_MESSAGE_PAYLOAD_BYTES: u64 = 8 << 20;

/// What the id of a stored blob begins with, where clients are to fetch it.
const STORED_PREFIX: &str = "bl-";

/// A payload as a message carries it.
pub enum Carried {
    Inline(Bytes),
    BlobId(String),
}

/// Takes a payload out of a message; one of some size is put as a blob.
pub async fn accept(edge: &Edge, call: &Call, carried: Carried) -> Answer<Payload> {
    let bytes = match carried {
        Carried::Inline(bytes) if bytes.len() <= MAX_INLINE_BYTES => {
            // A slice keeps the message alive that it is a part of.
            return Ok(Payload::Inline(Bytes::copy_from_slice(&bytes)));
        }
        Carried::Inline(bytes) => bytes,
        Carried::BlobId(blob) => return Ok(Payload::Blob(blob_of(edge, call, &blob).await?)),
    };
    if bytes.len() as u64 > MAX_MESSAGE_PAYLOAD_BYTES {
        let most = corral_types::display_bytes(MAX_MESSAGE_PAYLOAD_BYTES);
        let message = format!("a payload within a message has at most {most}");
        return Err(Refusal::new(ErrorKind::TooLarge, message).with_hint("upload it as a blob"));
    }
    let blobs = edge.blobs.clone();
    let put = tokio::task::spawn_blocking(move || blobs.put_bytes(&bytes));
    let put = put.await.map_err(|_| cut_off())??;
    Ok(Payload::Blob(put.hash))
}

/// Puts a payload into a message.
pub async fn deliver(edge: &Edge, payload: Payload) -> Answer<Carried> {
    let hash = match payload {
        Payload::Inline(bytes) => return Ok(Carried::Inline(bytes)),
        Payload::Blob(hash) => hash,
    };
    let blobs = edge.blobs.clone();
    let read = tokio::task::spawn_blocking(move || {
        if blobs.len(&hash)? > MAX_MESSAGE_PAYLOAD_BYTES {
            return Ok(Carried::BlobId(format!("{STORED_PREFIX}{hash}")));
        }
        Ok::<_, Refusal>(Carried::Inline(blobs.read(&hash)?.into()))
    });
    read.await.map_err(|_| cut_off())?
}

/// The blob that an id in a message means: an upload of this workspace, or what such an upload
/// became.
pub async fn blob_of(edge: &Edge, call: &Call, text: &str) -> Answer<BlobHash> {
    if let Some(hash) = text.strip_prefix(STORED_PREFIX) {
        let parsed = hash.parse().ok();
        if let Some(hash) = parsed
            && edge.apps.may_read(&call.caller, hash).await?
        {
            return Ok(hash);
        }
        return Err(Refusal::not_found(format!("there is no blob `{text}`")));
    }
    Ok(edge.apps.uploaded(&call.caller, id(text, "blob")?).await?)
}

fn cut_off() -> Refusal {
    Refusal::new(ErrorKind::Unavailable, "the work was cut off")
}
