//! gRPC over HTTP/2 as far as the protocol needs it: one message in, one or a stream of them
//! out, each with five bytes before it, and the status in trailers.
//!
//! Messages are decoded from the received bytes without copying payloads.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use corral_modal_api::{METHODS, Message};
use corral_types::ErrorKind;
use futures_util::Stream;
use hyper::body::Frame;

use super::Edge;
use super::call::{Call, Door};
use super::methods::{self, Ending};
use super::refusal::{Answer, Refusal};

/// The largest message: what clients allow themselves.
const MAX_MESSAGE_BYTES: usize = 100 << 20;

/// The length of what stands before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// A message that is to be sent.
pub type Messages = Pin<Box<dyn Stream<Item = Answer<Bytes>> + Send>>;

/// What a method answers.
pub enum Reply {
    One(Bytes),
    Many(Messages),
}

/// Answers a request to a method.
pub async fn answer(edge: Edge, door: Door, method: &str, request: Request) -> Response {
    match reply(edge, door, method, request).await {
        Ok(Reply::One(message)) => response(Sent::One(message)),
        Ok(Reply::Many(messages)) => response(Sent::Many(messages)),
        Err(refusal) => {
            note(method, &refusal);
            let mut response = response(Sent::Ended);
            response.headers_mut().extend(refusal.trailers());
            response
        }
    }
}

async fn reply(edge: Edge, door: Door, name: &str, request: Request) -> Answer<Reply> {
    let (parts, body) = request.into_parts();
    // Who may ask at all comes before what there is to ask.
    let call = Call::from_request(&edge, door, &parts).await?;
    let Some(method) = methods::find(name) else {
        debug_assert!(!METHODS.contains(&name), "{name} has no handler");
        return Err(Refusal::new(
            ErrorKind::Unsupported,
            format!("Corral does not serve {name}; docs/compatibility.md lists what it serves"),
        ));
    };
    call.require(name, method.who)?;
    let message = message(body).await?;
    let answering = (method.handler)(edge, call, message);
    match method.ending {
        Ending::WithClient => answering.await,
        // Begun, it is brought to its end also when the client goes away in between.
        Ending::Always => tokio::spawn(answering).await.unwrap_or_else(|_| {
            Err(Refusal::new(ErrorKind::Internal, format!("{name} broke off")))
        }),
    }
}

/// Said once, here, where it is handled: a client's own mistakes are not ours to log.
fn note(method: &str, refusal: &Refusal) {
    let failure = &refusal.failure;
    if matches!(failure.kind, ErrorKind::Internal | ErrorKind::DataLoss) {
        let causes = failure.causes.join(": ");
        tracing::error!(method, message = failure.message, causes, "a request failed");
    }
}

/// The one message of a request's body.
async fn message(body: Body) -> Answer<Bytes> {
    let limit = PREFIX_BYTES + MAX_MESSAGE_BYTES;
    let too_large = || {
        let most = corral_types::display_bytes(MAX_MESSAGE_BYTES as u64);
        Refusal::new(ErrorKind::TooLarge, format!("the message has more than {most}"))
    };
    let mut bytes = to_bytes(body, limit).await.map_err(|_| too_large())?;
    if bytes.is_empty() {
        return Ok(bytes);
    }
    let cut_off = || Refusal::invalid("the message was cut off");
    if bytes.len() < PREFIX_BYTES {
        return Err(cut_off());
    }
    let prefix = bytes.split_to(PREFIX_BYTES);
    if prefix[0] != 0 {
        return Err(Refusal::new(ErrorKind::Unsupported, "compressed messages are not read"));
    }
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(too_large());
    }
    if length != bytes.len() {
        return Err(cut_off());
    }
    Ok(bytes)
}

/// Reads a message.
pub fn decode<M: Message + Default>(bytes: Bytes) -> Answer<M> {
    M::decode(bytes).map_err(|error| Refusal::invalid(format!("the message is damaged: {error}")))
}

/// A message with what stands before it.
pub fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + length);
    bytes.push(0);
    let announced = u32::try_from(length).expect("answers are bounded far below 4 GiB");
    bytes.extend(announced.to_be_bytes());
    message.encode(&mut bytes).expect("a vector takes everything");
    bytes.into()
}

fn response(sent: Sent) -> Response {
    let mut response = Response::new(Body::new(sent));
    *response.status_mut() = StatusCode::OK;
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}

/// A body that ends with the status.
enum Sent {
    One(Bytes),
    Many(Messages),
    Trailers(HeaderMap),
    Ended,
}

fn fine() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match &mut *self {
            Self::One(message) => {
                let message = std::mem::take(message);
                *self = Self::Trailers(fine());
                Frame::data(message)
            }
            Self::Many(messages) => match std::task::ready!(messages.as_mut().poll_next(context)) {
                Some(Ok(message)) => Frame::data(message),
                Some(Err(refusal)) => {
                    *self = Self::Ended;
                    Frame::trailers(refusal.trailers())
                }
                None => {
                    *self = Self::Ended;
                    Frame::trailers(fine())
                }
            },
            Self::Trailers(trailers) => {
                let trailers = std::mem::take(trailers);
                *self = Self::Ended;
                Frame::trailers(trailers)
            }
            Self::Ended => return Poll::Ready(None),
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Ended)
    }
}
