#![expect(unsafe_code, reason = "parts are mapped, not read, so that cold data costs nothing")]
//! Mapped Arrow IPC files of parts and layers. Opening checks the structure; decoding a
//! batch checks its values. A damaged file is an error that names it, never a panic.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::{Block, root_as_footer, root_as_message};
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;
use corral_types::BlobHash;
use memmap2::Mmap;

use crate::dataset::ReadError;
use crate::ipc_message::check_batch;

/// `ARROW1` and its padding, and the footer's length and `ARROW1` at the end.
const SMALLEST_FILE: usize = 8 + 10;

/// An open file: shared, immutable, decoded batch by batch without copying.
#[derive(Debug)]
pub(crate) struct IpcFile {
    blob: BlobHash,
    bytes: Buffer,
    decoder: FileDecoder,
    schema: SchemaRef,
    blocks: Vec<Block>,
    /// Rows of each batch, as their headers say.
    pub rows: Vec<u64>,
}

impl IpcFile {
    /// Maps the file of a blob and reads its footer and the headers of its batches.
    pub(crate) fn open(blob: BlobHash, path: &Path) -> Result<Arc<Self>, ReadError> {
        let open = |source| ReadError::Open { blob, source };
        let file = File::open(path).map_err(open)?;
        if file.metadata().map_err(open)?.len() < SMALLEST_FILE as u64 {
            return Err(ReadError::Damaged { blob, what: "it is shorter than any Arrow file" });
        }
        // SAFETY: files in the store are immutable while they are stored, which is what
        // `PartStore::local_path` promises, so the mapped bytes do not change or vanish.
        let map = unsafe { Mmap::map(&file) }.map_err(open)?;
        Self::parse(blob, Buffer::from(Bytes::from_owner(map)))
    }

    fn parse(blob: BlobHash, bytes: Buffer) -> Result<Arc<Self>, ReadError> {
        let damaged = |what| ReadError::Damaged { blob, what };
        let trailer = bytes.len().checked_sub(10).ok_or_else(|| damaged("it has no trailer"))?;
        let ending = bytes[trailer..].try_into().map_err(|_| damaged("it has no trailer"))?;
        let decode = |source: ArrowError| ReadError::Decode { blob, source };
        let footer_bytes = read_footer_length(ending).map_err(decode)?;
        let start = trailer
            .checked_sub(footer_bytes)
            .ok_or_else(|| damaged("its footer is longer than the file"))?;
        let footer = root_as_footer(&bytes[start..trailer])
            .map_err(|_| damaged("its footer cannot be read"))?;
        let schema = footer.schema().ok_or_else(|| damaged("its footer has no schema"))?;
        let schema = arrow_ipc::convert::try_fb_to_schema(schema).map_err(decode)?;
        if footer.dictionaries().is_some_and(|dictionaries| !dictionaries.is_empty()) {
            return Err(damaged("it has dictionaries, which parts do not"));
        }
        let blocks: Vec<Block> = footer.recordBatches().iter().flatten().copied().collect();
        let schema = Arc::new(schema);
        let decoder =
            FileDecoder::new(Arc::clone(&schema), footer.version()).with_require_alignment(true);
        let mut file =
            Self { blob, bytes: bytes.clone(), decoder, schema, blocks, rows: Vec::new() };
        file.rows =
            file.blocks.iter().map(|block| file.block_rows(block)).collect::<Result<_, _>>()?;
        Ok(Arc::new(file))
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn batches(&self) -> usize {
        self.blocks.len()
    }

    /// Decodes a batch: its buffers lie in the map, their offsets and texts are checked.
    pub(crate) fn batch(&self, index: usize) -> Result<RecordBatch, ReadError> {
        let block = &self.blocks[index];
        let bytes = self.block_bytes(block)?;
        let meta = block.metaDataLength() as usize;
        let header = self.header(&bytes[..meta])?;
        check_batch(header, &bytes[meta..], u64::MAX).map_err(|what| self.damaged(what))?;
        // The decoder panics on lists whose offsets are no whole words.
        let decoded =
            catch_unwind(AssertUnwindSafe(|| self.decoder.read_record_batch(block, &bytes)));
        let decode = |source| ReadError::Decode { blob: self.blob, source };
        let batch = decoded
            .map_err(|_| self.damaged("the contents of a batch contradict each other"))?
            .map_err(decode)?;
        let batch = batch.ok_or_else(|| self.damaged("a batch of it is empty"))?;
        if batch.num_rows() as u64 != self.rows[index] {
            return Err(self.damaged("a batch of it does not have the rows it says"));
        }
        Ok(batch)
    }

    pub(crate) fn damaged(&self, what: &'static str) -> ReadError {
        ReadError::Damaged { blob: self.blob, what }
    }

    fn block_bytes(&self, block: &Block) -> Result<Buffer, ReadError> {
        let outside = || self.damaged("a batch of it lies outside the file");
        let offset = usize::try_from(block.offset()).map_err(|_| outside())?;
        let meta = usize::try_from(block.metaDataLength()).map_err(|_| outside())?;
        let body = usize::try_from(block.bodyLength()).map_err(|_| outside())?;
        let length = meta.checked_add(body).ok_or_else(outside)?;
        if offset.checked_add(length).is_none_or(|end| end > self.bytes.len()) {
            return Err(outside());
        }
        Ok(self.bytes.slice_with_length(offset, length))
    }

    fn block_rows(&self, block: &Block) -> Result<u64, ReadError> {
        let bytes = self.block_bytes(block)?;
        let batch = self.header(&bytes[..block.metaDataLength() as usize])?;
        u64::try_from(batch.length()).map_err(|_| self.damaged("a batch of it has negative rows"))
    }

    /// The header of a batch, of which parts' have no compression.
    fn header<'b>(&self, meta: &'b [u8]) -> Result<arrow_ipc::RecordBatch<'b>, ReadError> {
        let unreadable = || self.damaged("the header of a batch cannot be read");
        // A message is a continuation marker, its length, and the flatbuffer.
        let flatbuffer = meta.get(8..).ok_or_else(unreadable)?;
        if meta[..4] != [0xff; 4] {
            return Err(unreadable());
        }
        let message = root_as_message(flatbuffer).map_err(|_| unreadable())?;
        let batch = message.header_as_record_batch().ok_or_else(unreadable)?;
        if batch.compression().is_some() {
            return Err(self.damaged("a batch of it is compressed"));
        }
        Ok(batch)
    }
}
