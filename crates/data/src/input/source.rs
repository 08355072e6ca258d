//! Opening a file: what wraps it, what format it has, how its characters are encoded.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, Chain, Cursor, Read, Seek, Write};
use std::path::Path;
use std::rc::Rc;

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::{csv_rows, dialect, read_error};
use crate::import::{
    ColumnPlan, Compression, Format, ImportError, ImportOptions, ImportProgress, Progress, RowSink,
    TextEncoding,
};
use crate::ipc_writer::WriteError;

/// The beginning of a file from which everything is found out.
const BEGINNING_BYTES: usize = 256 * 1024;
/// What is copied or transcoded at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// A zstd frame may ask for a window of at most 2^27 bytes, the format's own recommendation.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Wrappings within wrappings that are undone: `x.csv.gz.gz` happens, deeper is an attack.
const MAX_WRAPPINGS: usize = 2;

/// What the readers of formats work with.
pub(crate) struct SourceContext<'s, 'a> {
    pub sink: &'s mut RowSink<'a>,
    pub plan: &'s mut ColumnPlan,
    pub shape: &'s mut SourceShape,
    pub scratch: &'s Path,
    pub progress: &'a dyn Progress,
    pub bytes_read: Rc<Cell<u64>>,
}

/// What was found out about a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceShape {
    pub delimiter: Option<u8>,
    pub has_header: Option<bool>,
}

/// A file ready to be read as its format: unwrapped and, if it is text, in UTF-8.
pub(crate) struct OpenedSource<'r> {
    pub format: Format,
    pub compression: Compression,
    /// `None` for formats that are not text.
    pub encoding: Option<TextEncoding>,
    /// The encoding was neither given nor marked in the file, and is not UTF-8.
    pub encoding_guessed: bool,
    pub reader: Box<dyn Read + 'r>,
    /// The first bytes that `reader` will give.
    pub beginning: Vec<u8>,
    /// Whether `beginning` is everything.
    pub whole: bool,
    /// Malformed characters that were replaced by U+FFFD, counted while reading.
    pub replaced: Rc<Cell<u64>>,
}

/// Finds out about a file and unwraps it.
pub(crate) fn open_source<'r>(
    file: &str,
    reader: Box<dyn Read + Send + 'r>,
    options: &ImportOptions,
    progress: &'r dyn Progress,
    bytes_read: Rc<Cell<u64>>,
) -> Result<OpenedSource<'r>, ImportError> {
    let read = |error| read_error(file, error);
    let metered = Metered { source: reader, progress, bytes_read };
    let mut source = Beginning::of(Box::new(metered)).map_err(read)?;
    let mut compression = options.compression.unwrap_or_else(|| wrapping(&source.bytes));
    let outermost = compression;
    for _ in 0..MAX_WRAPPINGS {
        source = match compression {
            Compression::None => break,
            Compression::Gzip => {
                Beginning::of(Box::new(flate2::read::MultiGzDecoder::new(source.into_reader())))
            }
            Compression::Zstd => {
                zstd::Decoder::new(source.into_reader()).and_then(|mut decoder| {
                    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                    Beginning::of(Box::new(decoder))
                })
            }
        }
        .map_err(read)?;
        compression =
            if options.compression.is_some() { Compression::None } else { wrapping(&source.bytes) };
    }

    let binary = options.format.or_else(|| binary_format(&source.bytes));
    let replaced = Rc::new(Cell::new(0));
    if let Some(
        format @ (Format::Parquet | Format::ArrowFile | Format::ArrowStream | Format::Xlsx),
    ) = binary
    {
        let (beginning, whole) = (source.bytes.clone(), source.whole);
        return Ok(OpenedSource {
            format,
            compression: outermost,
            encoding: None,
            encoding_guessed: false,
            reader: source.into_reader(),
            beginning,
            whole,
            replaced,
        });
    }

    let (encoding, guessed) = match options.encoding {
        Some(TextEncoding(encoding)) => (encoding, false),
        None => guess_encoding(&source.bytes, source.whole),
    };
    let utf8 = Utf8Source::new(source.into_reader(), encoding, Rc::clone(&replaced));
    let source = Beginning::of(Box::new(utf8)).map_err(read)?;
    let format = match options.format {
        Some(format) => format,
        None => text_format(file, &source.bytes, source.whole, options)?,
    };
    let (beginning, whole) = (source.bytes.clone(), source.whole);
    Ok(OpenedSource {
        format,
        compression: outermost,
        encoding: Some(TextEncoding(encoding)),
        encoding_guessed: guessed,
        reader: source.into_reader(),
        beginning,
        whole,
        replaced,
    })
}

/// Copies a file that must be read out of order to the scratch folder, without a name.
pub(crate) fn spool(
    mut reader: Box<dyn Read + '_>,
    context: &SourceContext<'_, '_>,
) -> Result<File, ImportError> {
    let scratch = |source| WriteError::Spill { folder: context.scratch.to_owned(), source };
    let mut spooled = tempfile::tempfile_in(context.scratch).map_err(scratch)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = match reader.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_error(context.sink.file(), error)),
        };
        spooled.write_all(&chunk[..read]).map_err(scratch)?;
        let bytes_read = context.bytes_read.get();
        context.progress.advance(ImportProgress { bytes_read, rows: context.sink.rows() });
    }
    spooled.rewind().map_err(scratch)?;
    Ok(spooled)
}

fn wrapping(beginning: &[u8]) -> Compression {
    match beginning {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        // A zstd file may begin with a skippable frame.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

fn binary_format(beginning: &[u8]) -> Option<Format> {
    match beginning {
        [b'P', b'A', b'R', b'1', ..] => Some(Format::Parquet),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] => Some(Format::ArrowFile),
        // The continuation marker of a message and a length that a schema can have.
        [0xff, 0xff, 0xff, 0xff, _, _, 0 | 1, 0, ..] => Some(Format::ArrowStream),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => Some(Format::Xlsx),
        _ => None,
    }
}

/// The format of a text, by its beginning first and its file's name second.
fn text_format(
    file: &str,
    beginning: &[u8],
    whole: bool,
    options: &ImportOptions,
) -> Result<Format, ImportError> {
    if beginning.contains(&0) {
        return Err(ImportError::UnknownFormat { file: file.to_owned() });
    }
    let lower = file.to_ascii_lowercase();
    let stem = [".gz", ".gzip", ".zst", ".zstd"].iter().find_map(|end| lower.strip_suffix(end));
    let extension = stem.unwrap_or(&lower).rsplit_once('.').map_or("", |(_, extension)| extension);
    match beginning.trim_ascii_start() {
        [b'{', ..] if !matches!(extension, "csv" | "tsv") => return Ok(Format::Jsonl),
        [b'[', rest @ ..]
            if rest.trim_ascii_start().starts_with(b"{")
                || matches!(extension, "json" | "jsonl") =>
        {
            return Err(ImportError::JsonArray { file: file.to_owned() });
        }
        _ => {}
    }
    match extension {
        "csv" => return Ok(Format::Csv),
        "tsv" | "tab" => return Ok(Format::Tsv),
        "jsonl" | "ndjson" | "json" => return Ok(Format::Jsonl),
        _ => {}
    }
    let fit = dialect::detect(beginning, whole, options);
    let told = options.delimiter.is_some();
    if told || csv_rows::looks_separated(beginning, whole, &fit) {
        return Ok(if fit.dialect.delimiter == b'\t' { Format::Tsv } else { Format::Csv });
    }
    Ok(Format::Lines)
}

/// The encoding of a text, and whether it is a mere guess.
fn guess_encoding(beginning: &[u8], whole: bool) -> (&'static Encoding, bool) {
    if let Some((encoding, _)) = Encoding::for_bom(beginning) {
        return (encoding, false);
    }
    // UTF-16 of a script with small code points has a zero in every other byte.
    let pairs = beginning.chunks_exact(2).take(2048);
    let count = pairs.len();
    let (high, low) = pairs.fold((0, 0), |(high, low), pair| {
        (high + usize::from(pair[0] == 0), low + usize::from(pair[1] == 0))
    });
    if count >= 4 && low * 10 > count * 4 && high * 20 < count {
        return (UTF_16LE, true);
    }
    if count >= 4 && high * 10 > count * 4 && low * 20 < count {
        return (UTF_16BE, true);
    }
    let (mut sound, mut broken) = (0, 0);
    for chunk in beginning.utf8_chunks() {
        sound += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    // The beginning may end within a character.
    let cut = usize::from(
        !whole
            && broken > 0
            && std::str::from_utf8(beginning).is_err_and(|error| error.error_len().is_none()),
    );
    // A damaged file in UTF-8 still has far more sound characters than broken ones.
    if broken <= cut || sound > 4 * broken { (UTF_8, false) } else { (WINDOWS_1252, true) }
}

/// A stream from its first byte on.
type FromStart<'r> = Chain<Cursor<Vec<u8>>, Box<dyn Read + 'r>>;

/// A reader of which the first bytes are known.
struct Beginning<'r> {
    bytes: Vec<u8>,
    whole: bool,
    rest: Box<dyn Read + 'r>,
}

impl<'r> Beginning<'r> {
    fn of(mut reader: Box<dyn Read + 'r>) -> io::Result<Self> {
        let mut bytes = Vec::new();
        (&mut reader).take(BEGINNING_BYTES as u64).read_to_end(&mut bytes)?;
        let whole = bytes.len() < BEGINNING_BYTES;
        Ok(Self { bytes, whole, rest: reader })
    }

    fn into_reader(self) -> Box<FromStart<'r>> {
        Box::new(Cursor::new(self.bytes).chain(self.rest))
    }
}

/// The mark of a read that was refused because the import is cancelled.
#[derive(Debug)]
pub(crate) struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the import was cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// Counts what is read of the original file, and ends it when the import is cancelled.
struct Metered<'r> {
    source: Box<dyn Read + Send + 'r>,
    progress: &'r dyn Progress,
    bytes_read: Rc<Cell<u64>>,
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.is_cancelled() {
            return Err(io::Error::other(Cancelled));
        }
        let read = self.source.read(buffer)?;
        self.bytes_read.set(self.bytes_read.get() + read as u64);
        Ok(read)
    }
}

/// Turns any encoding into UTF-8 and drops the byte order mark. UTF-8 itself passes
/// unchecked: bad bytes are reported by the row they stand in.
struct Utf8Source<'r> {
    source: Box<dyn Read + 'r>,
    /// `None` for UTF-8 whose mark is dropped already.
    decoder: Option<Decoder>,
    skip_mark: bool,
    input: Vec<u8>,
    input_at: usize,
    input_filled: usize,
    at_end: bool,
    output: Vec<u8>,
    output_at: usize,
    output_filled: usize,
    replaced: Rc<Cell<u64>>,
}

impl<'r> Utf8Source<'r> {
    fn new(
        source: Box<dyn Read + 'r>,
        encoding: &'static Encoding,
        replaced: Rc<Cell<u64>>,
    ) -> Self {
        let is_utf8 = encoding == UTF_8;
        let buffer = || if is_utf8 { Vec::new() } else { vec![0; CHUNK_BYTES] };
        Self {
            source,
            decoder: (!is_utf8).then(|| encoding.new_decoder_with_bom_removal()),
            skip_mark: is_utf8,
            input: buffer(),
            input_at: 0,
            input_filled: 0,
            at_end: false,
            output: buffer(),
            output_at: 0,
            output_filled: 0,
            replaced,
        }
    }

    /// Decodes more bytes into the output; leaves it empty at the end.
    fn decode(&mut self) -> io::Result<()> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(());
        };
        (self.output_at, self.output_filled) = (0, 0);
        while self.output_filled == 0 {
            if self.input_at == self.input_filled && !self.at_end {
                self.input_at = 0;
                self.input_filled = self.source.read(&mut self.input)?;
                self.at_end = self.input_filled == 0;
            }
            let input = &self.input[self.input_at..self.input_filled];
            let (result, read, written, replaced) =
                decoder.decode_to_utf8(input, &mut self.output, self.at_end);
            self.input_at += read;
            self.output_filled = written;
            self.replaced.set(self.replaced.get() + u64::from(replaced));
            if self.at_end && result == CoderResult::InputEmpty {
                self.decoder = None;
                self.source = Box::new(io::empty());
                break;
            }
        }
        Ok(())
    }
}

impl Read for Utf8Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.skip_mark) {
            let mut mark = Vec::new();
            (&mut self.source).take(3).read_to_end(&mut mark)?;
            if mark != b"\xef\xbb\xbf" {
                (self.output_filled, self.output) = (mark.len(), mark);
            }
        }
        if self.output_at == self.output_filled {
            if self.decoder.is_none() {
                return self.source.read(buffer);
            }
            self.decode()?;
        }
        let ready = &self.output[self.output_at..self.output_filled];
        let taken = ready.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&ready[..taken]);
        self.output_at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(bytes: &[u8]) -> &'static str {
        guess_encoding(bytes, true).0.name()
    }

    #[test]
    fn encodings_are_guessed() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        assert_eq!(guess(b"plain"), "UTF-8");
        assert_eq!(guess("naïve café".as_bytes()), "UTF-8");
        assert_eq!(guess(b"na\xefve caf\xe9"), "windows-1252");
        assert_eq!(guess(b"\xff\xfea\0"), "UTF-16LE");
        assert_eq!(guess(b"\xfe\xff\0a"), "UTF-16BE");
        assert_eq!(guess(&utf16("no mark at all")), "UTF-16LE");
        assert_eq!(guess("größer, schöner, weiter, kälter — \u{e9}".as_bytes()), "UTF-8");
        assert_eq!(
            guess(b"gr\xc3\xb6\xc3\x9fer sch\xc3\xb6ner k\xc3\xa4lter \xff"),
            "windows-1252"
        );
        assert_eq!(guess("é".repeat(9).as_bytes()), "UTF-8");
        let cut = &"é".as_bytes()[..1];
        assert_eq!(guess_encoding(&[b"text ", cut].concat(), false).0.name(), "UTF-8");
    }

    #[test]
    fn transcoding_gives_the_same_in_any_pieces() {
        struct Dribble<'a>(&'a [u8]);
        impl Read for Dribble<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let taken = buffer.len().min(1).min(self.0.len());
                buffer[..taken].copy_from_slice(&self.0[..taken]);
                self.0 = &self.0[taken..];
                Ok(taken)
            }
        }
        let text = "héllo €\u{1f600}\nzwei";
        let mut utf16 = vec![0xff, 0xfe];
        utf16.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        for (bytes, encoding) in
            [(utf16.as_slice(), UTF_16LE), (text.as_bytes(), UTF_8), ("\u{feff}".as_bytes(), UTF_8)]
        {
            let mut out = String::new();
            let source = Box::new(Dribble(bytes));
            Utf8Source::new(source, encoding, Rc::default()).read_to_string(&mut out).unwrap();
            assert_eq!(out, if bytes.len() == 3 { "" } else { text });
        }
    }
}
