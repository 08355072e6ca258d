//! Checks that an Arrow message is made of what it says, before a decoder is let at it that
//! would panic or allocate without bound on one that is not.

/// Rows that a batch may claim beyond one for every bit of its body: columns of nothing but
/// nulls have no bytes.
const ROWS_WITHOUT_BYTES: u64 = 1 << 20;

/// Checks the places of all buffers of a batch, their sizes once decompressed, and its rows.
/// Returns what is wrong.
pub(crate) fn check_batch(
    batch: arrow_ipc::RecordBatch<'_>,
    body: &[u8],
    decoded_limit: u64,
) -> Result<(), &'static str> {
    let mut decoded_bytes = 0u64;
    for buffer in batch.buffers().iter().flatten() {
        let outside = "a buffer lies outside its batch";
        let offset = usize::try_from(buffer.offset()).map_err(|_| outside)?;
        let length = usize::try_from(buffer.length()).map_err(|_| outside)?;
        let end = offset.checked_add(length).ok_or(outside)?;
        let bytes = body.get(offset..end).ok_or(outside)?;
        let decoded = if batch.compression().is_none() || bytes.is_empty() {
            length as u64
        } else {
            let (prefix, _) =
                bytes.split_first_chunk().ok_or("a compressed buffer has no length")?;
            match i64::from_le_bytes(*prefix) {
                -1 => length as u64,
                size => {
                    u64::try_from(size).map_err(|_| "a compressed buffer has a negative length")?
                }
            }
        };
        decoded_bytes = decoded_bytes.saturating_add(decoded);
    }
    if decoded_bytes > decoded_limit {
        return Err("a batch is larger than can be held; write it in smaller batches");
    }
    let most = decoded_bytes.saturating_mul(8).saturating_add(ROWS_WITHOUT_BYTES);
    let fits = |rows: i64| u64::try_from(rows).is_ok_and(|rows| rows <= most);
    let nodes = batch.nodes();
    let mut nodes = nodes.iter().flatten();
    if !fits(batch.length()) || !nodes.all(|node| fits(node.length()) && fits(node.null_count())) {
        return Err("a batch has more rows than bytes for them");
    }
    Ok(())
}
