//! Bodies that are too large for memory: handed between a connection and a thread that
//! reads or writes them, block by block.

use std::io::{self, Read, Write};

use axum::body::{Body, Bytes};
use corral_blobs::{BlobStore, BlobWriter, PutBlob};
use corral_types::{ErrorKind, Failure};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{Answer, ApiError};

/// Blocks of a body between the connection and the thread that reads them: some 4 MiB at the
/// sizes that connections deliver.
const BLOCKS_IN_FLIGHT: usize = 64;

/// A body as a blocking reader for another thread, and the task that feeds it.
///
/// The reader fails where the client went away, so that half a body is never taken for a
/// whole one.
pub fn reader(body: Body) -> impl Read + Send {
    let (sender, receiver) = mpsc::channel(BLOCKS_IN_FLIGHT);
    tokio::spawn(async move {
        let mut stream = body.into_data_stream();
        while let Some(block) = stream.next().await {
            let block = block.map_err(io::Error::other);
            let broke = block.is_err();
            // The reader is gone when the import has failed: the rest is not wanted.
            if sender.send(block).await.is_err() || broke {
                return;
            }
        }
    });
    BlockReader { receiver, block: Bytes::new() }
}

struct BlockReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    block: Bytes,
}

impl Read for BlockReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.block.is_empty() {
            match self.receiver.blocking_recv() {
                Some(block) => self.block = block?,
                None => return Ok(0),
            }
        }
        let taken = self.block.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.block.split_to(taken));
        Ok(taken)
    }
}

/// The size of the blocks that a written body is sent in.
const WRITTEN_BLOCK_BYTES: usize = 256 * 1024;

/// A body that `write` makes on a thread of its own while it is being sent.
///
/// When writing fails, the body breaks off: the status is sent by then, so that is what is
/// left to say so.
pub fn written_by(
    write: impl FnOnce(&mut (dyn Write + Send)) -> io::Result<()> + Send + 'static,
) -> Body {
    let (sender, receiver) = mpsc::channel(BLOCKS_IN_FLIGHT);
    tokio::task::spawn_blocking(move || {
        let sink = BlockWriter { sender: sender.clone() };
        let mut writer = io::BufWriter::with_capacity(WRITTEN_BLOCK_BYTES, sink);
        if let Err(error) = write(&mut writer).and_then(|()| writer.flush()) {
            // The receiver is gone when it was the client that went away.
            let _told = sender.blocking_send(Err(error));
        }
    });
    Body::from_stream(ReceiverStream::new(receiver))
}

struct BlockWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for BlockWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sender
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Receives a whole body as a blob of at most `limit_bytes`.
pub async fn receive_blob(blobs: &BlobStore, body: Body, limit_bytes: u64) -> Answer<PutBlob> {
    let blobs = blobs.clone();
    let mut body = reader(body);
    let received = tokio::task::spawn_blocking(move || -> Answer<PutBlob> {
        let mut writer: BlobWriter = blobs.writer()?.limit_bytes(limit_bytes);
        writer.append_all_from(&mut body)?;
        Ok(writer.finish()?)
    });
    received.await.map_err(|_| cut_off())?
}

/// The failure of work whose thread is gone.
pub fn cut_off() -> ApiError {
    ApiError(Failure::new(ErrorKind::Unavailable, "the work was cut off"))
}
