//! Uploads and downloads of payloads beside the messages, by signed addresses.
//!
//! An upload is always offered as one of several parts, though there is but one: clients check
//! the host of single uploads against the names of cloud providers, and that of parts not at all.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use corral_modal_api as api;
use corral_types::{BlobHash, Caller, ErrorKind, Failure, Timestamp, UploadId, WorkspaceId};
use md5::{Digest, Md5};
use tokio_util::io::ReaderStream;

use super::call::{Call, scopes_of_the_server};
use super::payloads::blob_of;
use super::refusal::{Answer, Refusal};
use super::{Edge, Served};
use crate::rest::{self, ApiError};

/// The largest upload.
const MAX_UPLOAD_BYTES: u64 = 64 << 30;

/// How long a signed address holds: longer than the largest upload takes on a slow line.
const ADDRESS_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The largest request to complete an upload: it names one part.
const MAX_COMPLETION_BYTES: usize = 64 << 10;

/// Bytes read from a file at a time.
const BLOCK_BYTES: usize = 256 * 1024;

pub async fn create(
    edge: &Edge,
    call: &Call,
    request: api::BlobCreateRequest,
) -> Answer<api::BlobCreateResponse> {
    let length = u64::try_from(request.content_length)
        .map_err(|_| Refusal::invalid("the length of an upload is negative"))?;
    if length > MAX_UPLOAD_BYTES {
        let most = corral_types::display_bytes(MAX_UPLOAD_BYTES);
        return Err(Refusal::new(ErrorKind::TooLarge, format!("an upload has at most {most}")));
    }
    let upload = UploadId::generate();
    let address = Address::new(call.caller.workspace, "put", upload.to_string());
    let url = address.url_signed(edge, call);
    let parts = api::MultiPartUpload {
        // An empty file has one part too.
        part_length: request.content_length.max(1),
        upload_urls: vec![url.clone()],
        completion_url: format!("{url}&complete=1"),
    };
    use api::blob_create_response::{UploadTypeOneof, UploadTypesOneof};
    Ok(api::BlobCreateResponse {
        blob_id: upload.to_string(),
        blob_ids: vec![upload.to_string()],
        upload_type_oneof: Some(UploadTypeOneof::Multipart(parts.clone())),
        upload_types_oneof: Some(UploadTypesOneof::Multiparts(api::MultiPartUploadList {
            items: vec![parts],
        })),
    })
}

pub async fn get(
    edge: &Edge,
    call: &Call,
    request: api::BlobGetRequest,
) -> Answer<api::BlobGetResponse> {
    let hash = blob_of(edge, call, &request.blob_id).await?;
    let address = Address::new(call.caller.workspace, "get", hash.to_string());
    Ok(api::BlobGetResponse { download_url: address.url_signed(edge, call) })
}

/// What an address allows, to whom, until when.
struct Address {
    workspace: WorkspaceId,
    action: &'static str,
    id: String,
    expires: Timestamp,
}

impl Address {
    fn new(workspace: WorkspaceId, action: &'static str, id: String) -> Self {
        Self { workspace, action, id, expires: Timestamp::now().plus(ADDRESS_LIFE) }
    }

    fn signature(&self, edge: &Edge) -> String {
        let Self { workspace, action, id, expires } = self;
        let message = format!("{action} {id} {workspace} {}", expires.as_millis());
        BlobHash::from_bytes(edge.apps.sign("address of a blob", message.as_bytes())).to_string()
    }

    fn url_signed(&self, edge: &Edge, call: &Call) -> String {
        let Self { workspace, id, expires, .. } = self;
        let (base, until, signature) = (&call.base_url, expires.as_millis(), self.signature(edge));
        format!("{base}/modal/blobs/{id}?workspace={workspace}&until={until}&signature={signature}")
    }
}

/// A transfer by a signed address: the signature is the right to it.
pub(super) async fn transfer(
    State(served): State<Served>,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let answer = match *request.method() {
        Method::PUT => upload(&served.edge, &id, &query, request.into_body()).await,
        Method::POST => complete(&served.edge, &id, &query, request.into_body()).await,
        Method::GET | Method::HEAD => download(&served.edge, &id, &query).await,
        _ => Err(ApiError(Failure::new(ErrorKind::Invalid, "blobs are put and got"))),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

fn authorized(
    edge: &Edge,
    action: &'static str,
    id: &str,
    query: &HashMap<String, String>,
) -> Result<Caller, ApiError> {
    let refuse = |message: &str| ApiError(Failure::new(ErrorKind::Forbidden, message));
    let field = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let workspace = field("workspace").parse().map_err(|_| refuse("the address is incomplete"))?;
    let until: u64 = field("until").parse().map_err(|_| refuse("the address is incomplete"))?;
    let expires = Timestamp::from_millis(until);
    let address = Address { workspace, action, id: id.to_owned(), expires };
    let expected = BlobHash::of(address.signature(edge).as_bytes());
    // Hashes are compared, so that time tells nothing of the signature.
    if expected != BlobHash::of(field("signature").as_bytes()) {
        return Err(refuse("the address is not one that this server gave out"));
    }
    if Timestamp::now() > expires {
        return Err(refuse("the address has expired"));
    }
    Ok(Caller { workspace, token: None, scopes: scopes_of_the_server() })
}

async fn upload(
    edge: &Edge,
    id: &str,
    query: &HashMap<String, String>,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = authorized(edge, "put", id, query)?;
    let upload = rest::id(id, "upload")?;
    let blobs = edge.blobs.clone();
    let mut body = rest::reader(body);
    let received = tokio::task::spawn_blocking(move || {
        let mut writer = blobs.writer()?.limit_bytes(MAX_UPLOAD_BYTES);
        let mut hasher = Md5::new();
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let read = std::io::Read::read(&mut body, &mut block).map_err(|error| {
                Failure::new(ErrorKind::Invalid, format!("the upload broke off: {error}"))
            })?;
            if read == 0 {
                break;
            }
            hasher.update(&block[..read]);
            writer.append(&block[..read])?;
        }
        Ok::<_, ApiError>((writer.finish()?, hexadecimal(&hasher.finalize())))
    });
    let (put, md5) = received.await.map_err(|_| rest::cut_off())??;
    edge.apps.finish_upload(&caller, upload, put).await?;
    Ok((StatusCode::OK, [(header::ETAG, format!("\"{md5}\""))]).into_response())
}

/// Answers what a store of parts answers: the hash of the parts' hashes.
async fn complete(
    edge: &Edge,
    id: &str,
    query: &HashMap<String, String>,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = authorized(edge, "put", id, query)?;
    edge.apps.uploaded(&caller, rest::id(id, "upload")?).await?;
    let refuse = || ApiError(Failure::new(ErrorKind::Invalid, "the request names no part"));
    let body = to_bytes(body, MAX_COMPLETION_BYTES).await.map_err(|_| refuse())?;
    let text = String::from_utf8_lossy(&body);
    let digits = text
        .split(['"', '<', '>'])
        .find(|word| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let digits = digits.ok_or_else(refuse)?;
    let bytes: Vec<u8> = (0..32)
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16))
        .collect::<Result<_, _>>()
        .map_err(|_| refuse())?;
    let whole = hexadecimal(&Md5::digest(&bytes));
    let answer = format!(
        "<CompleteMultipartUploadResult><ETag>\"{whole}-1\"</ETag></CompleteMultipartUploadResult>"
    );
    Ok(([(header::CONTENT_TYPE, "application/xml")], answer).into_response())
}

async fn download(
    edge: &Edge,
    id: &str,
    query: &HashMap<String, String>,
) -> Result<Response, ApiError> {
    authorized(edge, "get", id, query)?;
    let not_there = |_| ApiError(Failure::new(ErrorKind::NotFound, "there is no such blob"));
    let hash: BlobHash = id.parse().map_err(not_there)?;
    let blobs = edge.blobs.clone();
    let opened = tokio::task::spawn_blocking(move || {
        Ok::<_, ApiError>((blobs.len(&hash)?, blobs.open_file(&hash)?))
    });
    let (bytes, file) = opened.await.map_err(|_| rest::cut_off())??;
    let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), BLOCK_BYTES);
    let headers = [
        (header::CONTENT_LENGTH, bytes.to_string()),
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
