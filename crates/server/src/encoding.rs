//! `Content-Encoding`: compressed requests are unpacked while they arrive, and answers worth
//! it are packed for clients that accept it.
//!
//! Bodies are streams on both sides, a block at a time: nothing here holds a whole body, so
//! a body that unpacks to very much is met by the limit of whoever reads it.

use std::io;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use corral_types::{ErrorKind, Failure};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use futures_util::{Stream, StreamExt, stream};

use crate::rest::ApiError;

/// The size of the blocks that are unpacked and packed at a time: a tenth of a millisecond.
const BLOCK_BYTES: usize = 64 * 1024;

/// Shorter answers are sent as they are: they fit a packet or two, and packing a prediction
/// of one text would only delay it.
const MIN_PACKED_BYTES: u64 = 2048;

/// The window of zlib, as large as the format allows: 32 KiB.
const WINDOW_BITS: u8 = 15;

/// How a body is packed. `deflate` is zlib's format; requests may also be bare deflate,
/// which some clients send by that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    fn of_word(word: &str) -> Option<Self> {
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        if is("gzip") || is("x-gzip") {
            return Some(Self::Gzip);
        }
        is("deflate").then_some(Self::Deflate)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn broken(self, how: &str) -> io::Error {
        let message = format!("the {}-packed body {how}", self.as_str());
        io::Error::new(io::ErrorKind::InvalidData, message)
    }
}

/// Unpacks the request and packs the answer, where headers say so.
pub async fn negotiate(mut request: Request, next: Next) -> Response {
    let accepted = accepted(request.headers());
    match packed_by(request.headers()) {
        Ok(None) => {}
        Ok(Some(coding)) => {
            request.headers_mut().remove(header::CONTENT_ENCODING);
            request.headers_mut().remove(header::CONTENT_LENGTH);
            request = request.map(|body| unpacked(body, coding));
        }
        Err(failure) => return unsupported(failure),
    }
    let response = next.run(request).await;
    match accepted {
        Some(coding) if is_worth_packing(&response) => packed(response, coding),
        _ => response,
    }
}

/// What the request's body is packed by.
fn packed_by(headers: &HeaderMap) -> Result<Option<Coding>, Failure> {
    let mut codings = words(headers, header::CONTENT_ENCODING)
        .filter(|word| !word.eq_ignore_ascii_case("identity"));
    let Some(word) = codings.next() else { return Ok(None) };
    let coding = Coding::of_word(word).filter(|_| codings.next().is_none());
    coding.map(Some).ok_or_else(|| {
        Failure::new(ErrorKind::Invalid, format!("the body is packed by `{word}`, or several"))
            .with_hint("pack it by gzip or deflate, once")
    })
}

/// The coding that the client prefers of those that there are.
fn accepted(headers: &HeaderMap) -> Option<Coding> {
    let mut best = None;
    for word in words(headers, header::ACCEPT_ENCODING) {
        let (name, quality) = word.split_once(';').unwrap_or((word, ""));
        let quality = quality.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        if quality.is_ok_and(|quality| quality > 0.0) {
            match if name.trim() == "*" { Some(Coding::Gzip) } else { Coding::of_word(name.trim()) }
            {
                Some(Coding::Gzip) => return Some(Coding::Gzip),
                other => best = best.or(other),
            }
        }
    }
    best
}

fn words(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

fn unsupported(failure: Failure) -> Response {
    let mut response = ApiError(failure).into_response();
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let understood = HeaderValue::from_static("gzip, deflate");
    response.headers_mut().insert(header::ACCEPT_ENCODING, understood);
    response
}

fn is_worth_packing(response: &Response) -> bool {
    let headers = response.headers();
    // A stream has no known size: it is packed, being long.
    let is_long = response.body().size_hint().exact().is_none_or(|size| size >= MIN_PACKED_BYTES);
    is_long && !headers.contains_key(header::CONTENT_ENCODING)
}

fn unpacked(body: Body, coding: Coding) -> Body {
    let (blocks, unpacking) = (body.into_data_stream(), Unpacking::new(coding));
    Body::from_stream(stream::try_unfold((blocks, unpacking), unpack_next))
}

/// The next block, and what to go on with.
async fn unpack_next<S>(
    (mut blocks, mut unpacking): (S, Unpacking),
) -> io::Result<Option<(Bytes, (S, Unpacking))>>
where
    S: Stream<Item = Result<Bytes, axum::Error>> + Unpin,
{
    loop {
        if let Some(block) = unpacking.next_block()? {
            // A few packed bytes make very many blocks: others have their turn in between.
            tokio::task::yield_now().await;
            return Ok(Some((block, (blocks, unpacking))));
        }
        match blocks.next().await {
            Some(block) => unpacking.feed(block.map_err(io::Error::other)?),
            None => {
                unpacking.finish()?;
                return Ok(None);
            }
        }
    }
}

fn packed(response: Response, coding: Coding) -> Response {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let state = (body.into_data_stream(), Some(Packing::new(coding)), Bytes::new());
    Response::from_parts(parts, Body::from_stream(stream::try_unfold(state, pack_next)))
}

/// What is left to pack: the body, the packer until it has ended, and a block of the body.
type Unpacked<S> = (S, Option<Packing>, Bytes);

/// The next packed block, and what to go on with.
async fn pack_next<S>(
    (mut blocks, packing, mut block): Unpacked<S>,
) -> io::Result<Option<(Bytes, Unpacked<S>)>>
where
    S: Stream<Item = Result<Bytes, axum::Error>> + Unpin,
{
    let Some(mut packing) = packing else { return Ok(None) };
    if block.is_empty() {
        let Some(next) = blocks.next().await else {
            let packed = packing.pack(&[], FlushCompress::Finish)?;
            return Ok(Some((packed, (blocks, None, block))));
        };
        block = next.map_err(io::Error::other)?;
    } else {
        // A long answer comes as one block: others have their turn in between.
        tokio::task::yield_now().await;
    }
    let piece = block.split_to(block.len().min(BLOCK_BYTES));
    // So that a stream's reader has every line as soon as it was answered.
    let packed = packing.pack(&piece, FlushCompress::Sync)?;
    Ok(Some((packed, (blocks, Some(packing), block))))
}

/// Unpacks what it is fed, in blocks of a bounded size.
struct Unpacking {
    coding: Coding,
    state: Option<Decompress>,
    fed: Bytes,
}

impl Unpacking {
    fn new(coding: Coding) -> Self {
        Self { coding, state: None, fed: Bytes::new() }
    }

    /// Takes packed bytes; those from before are used up when [`Self::next_block`] gave none.
    fn feed(&mut self, packed: Bytes) {
        self.fed = packed;
    }

    fn next_block(&mut self) -> io::Result<Option<Bytes>> {
        let (coding, mut block) = (self.coding, Vec::new());
        while block.is_empty() && !self.fed.is_empty() {
            let state = match &mut self.state {
                Some(state) => state,
                state => state.insert(match coding {
                    Coding::Gzip => Decompress::new_gzip(WINDOW_BITS),
                    Coding::Deflate => Decompress::new(is_zlib(self.fed[0])),
                }),
            };
            block.reserve_exact(BLOCK_BYTES);
            let before = state.total_in();
            let status = state
                .decompress_vec(&self.fed, &mut block, FlushDecompress::None)
                .map_err(|_| coding.broken("is damaged"))?;
            let taken = usize::try_from(state.total_in() - before).expect("no more than was fed");
            self.fed = self.fed.slice(taken..);
            if status == Status::StreamEnd {
                // A gzip file may follow another; what follows zlib's end belongs to nothing.
                self.state = None;
                if self.coding == Coding::Deflate && !self.fed.is_empty() {
                    return Err(self.coding.broken("goes on after its end"));
                }
            } else if taken == 0 && block.is_empty() {
                return Err(self.coding.broken("is damaged"));
            }
        }
        Ok((!block.is_empty()).then(|| block.into()))
    }

    fn finish(&self) -> io::Result<()> {
        if self.state.is_some() { Err(self.coding.broken("ends too early")) } else { Ok(()) }
    }
}

/// Whether this first byte opens zlib's format: its method, and a window that exists. As the
/// first of bare deflate it would be a stored block with bits set that encoders leave unset.
fn is_zlib(first: u8) -> bool {
    first & 0x0f == 8 && first >> 4 <= 7
}

struct Packing(Compress);

impl Packing {
    fn new(coding: Coding) -> Self {
        // The fastest level: answers are labels that repeat, and latency counts.
        let level = Compression::fast();
        Self(match coding {
            Coding::Gzip => Compress::new_gzip(level, WINDOW_BITS),
            Coding::Deflate => Compress::new(level, true),
        })
    }

    fn pack(&mut self, mut block: &[u8], flush: FlushCompress) -> io::Result<Bytes> {
        let mut packed = Vec::with_capacity(block.len() / 4 + 64);
        loop {
            let before = self.0.total_in();
            let status = self.0.compress_vec(block, &mut packed, flush)?;
            let taken = usize::try_from(self.0.total_in() - before).expect("no more than given");
            block = &block[taken..];
            // Room left over says that everything was written.
            if status == Status::StreamEnd || packed.len() < packed.capacity() {
                return Ok(packed.into());
            }
            packed.reserve(BLOCK_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn packed_as(text: &[u8], form: u64) -> (Coding, Vec<u8>) {
        let level = Compression::fast();
        match form % 3 {
            0 => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(text).unwrap();
                (Coding::Gzip, encoder.finish().unwrap())
            }
            1 => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(text).unwrap();
                (Coding::Deflate, encoder.finish().unwrap())
            }
            _ => {
                let mut encoder = DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(text).unwrap();
                (Coding::Deflate, encoder.finish().unwrap())
            }
        }
    }

    fn unpack(packed: &[u8], coding: Coding, step: usize) -> io::Result<Vec<u8>> {
        let (mut unpacking, mut text) = (Unpacking::new(coding), Vec::new());
        for piece in packed.chunks(step) {
            unpacking.feed(Bytes::copy_from_slice(piece));
            while let Some(block) = unpacking.next_block()? {
                assert!(block.len() <= BLOCK_BYTES);
                text.extend_from_slice(&block);
            }
        }
        unpacking.finish().map(|()| text)
    }

    #[test]
    fn what_was_packed_is_unpacked_in_pieces_of_any_size() {
        let text = "invoice parcel refund ".repeat(20_000);
        for form in 0..3 {
            let (coding, packed) = packed_as(text.as_bytes(), form);
            for step in [1, 7, 1000, packed.len()] {
                assert_eq!(unpack(&packed, coding, step).unwrap(), text.as_bytes(), "{form}");
            }
            let short = unpack(&packed[..packed.len() - 1], coding, 1000);
            assert!(short.is_err(), "a body cut short passed for whole in form {form}");
        }
        let twice = [packed_as(b"one ", 0).1, packed_as(b"two", 0).1].concat();
        assert_eq!(unpack(&twice, Coding::Gzip, 5).unwrap(), b"one two");
        let more = [packed_as(b"one", 1).1, vec![0]].concat();
        assert!(unpack(&more, Coding::Deflate, 100).is_err());
    }

    #[test]
    fn damage_is_an_error_and_never_endless() {
        let text = b"a line of text, and another one, and one more of the same".repeat(40);
        for seed in 0..4000u64 {
            let (coding, mut packed) = packed_as(&text, seed);
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            for _ in 0..=seed % 5 {
                random = random.wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(23);
                let at = usize::try_from(random % packed.len() as u64).unwrap();
                packed[at] ^= u8::try_from(random >> 40 & 0xff).unwrap();
            }
            // Damage may cancel out, or lie where nothing checks; a panic or a hang may not.
            let _outcome = unpack(&packed, coding, 50);
        }
    }

    #[test]
    fn a_packed_answer_is_read_by_another_reader() {
        let text: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        for coding in [Coding::Gzip, Coding::Deflate] {
            let mut packing = Packing::new(coding);
            let mut packed = Vec::new();
            for piece in text.chunks(99_991) {
                packed.extend(packing.pack(piece, FlushCompress::Sync).unwrap());
            }
            packed.extend(packing.pack(&[], FlushCompress::Finish).unwrap());
            assert_eq!(unpack(&packed, coding, 4096).unwrap(), text);
        }
    }

    #[tokio::test]
    async fn answers_of_several_blocks_are_packed_whole() {
        let text = "a label and its probability ".repeat(20_000);
        let blocks = [text.clone(), "and more".to_owned()].map(Ok::<_, io::Error>);
        let response = Response::new(Body::from_stream(stream::iter(blocks)));
        assert!(is_worth_packing(&response));
        assert!(!is_worth_packing(&Response::new(Body::from("short"))));
        let response = packed(response, Coding::Gzip);
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        let packed = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert!(packed.len() < text.len() / 4, "{} bytes", packed.len());
        assert_eq!(unpack(&packed, Coding::Gzip, 4096).unwrap(), (text + "and more").as_bytes());
    }

    #[test]
    fn headers_choose_the_coding() {
        let choice = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
            accepted(&headers)
        };
        assert_eq!(choice("gzip, deflate, br"), Some(Coding::Gzip));
        assert_eq!(choice("deflate"), Some(Coding::Deflate));
        assert_eq!(choice("deflate;q=0.5, gzip;q=0"), Some(Coding::Deflate));
        assert_eq!(choice("*"), Some(Coding::Gzip));
        assert_eq!(choice("br, identity"), None);
        assert_eq!(choice(""), None);
        let packed = |coding: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
            packed_by(&headers)
        };
        assert_eq!(packed("GZIP").unwrap(), Some(Coding::Gzip));
        assert_eq!(packed("identity").unwrap(), None);
        assert!(packed("br").is_err() && packed("gzip, gzip").is_err());
    }
}
