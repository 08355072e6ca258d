//! The named limits of importing and of the files that hold a data set.

use corral_types::MIB;

/// Every bound that an import and the writers of parts obey. Tests use small ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows after which a batch ends: small enough that random access and a worker's unit
    /// of work stay short.
    pub batch_rows: usize,
    /// Bytes of values after which a batch ends, whatever its rows: what a reader that
    /// copies a batch must be able to hold.
    pub batch_bytes: usize,
    /// Bytes of values after which a part ends: the unit that appends and edits share, and
    /// that one worker fetches.
    pub part_bytes: u64,
    /// The longest row of a file. A longer one is nearly always a quote that was never closed.
    pub row_bytes: usize,
    /// Columns of a data set beside the text, the label and the split.
    pub columns: usize,
    /// The longest column name in bytes.
    pub column_name_bytes: usize,
    /// Classes a data set may name; past that the label column is almost surely a free text.
    pub classes: usize,
    /// The longest label in bytes; a class is a name, not a document.
    pub label_bytes: usize,
    /// Labels of one row.
    pub labels_per_row: usize,
    /// Splits of a data set. More distinct values mean that the column is not a split.
    pub splits: usize,
    /// Files of one import.
    pub files: usize,
    /// Bad rows that an error or a report lists one by one; the rest are counted.
    pub listed_problems: usize,
    /// Bad rows after which an import that is to fail anyway stops scanning on.
    pub problems_before_stopping: u64,
    /// Rows swallowed by runaway quotes after which the file's quoting is given up on:
    /// each costs a second scan of up to `row_bytes`.
    pub runaway_rows: u64,
    /// Memory of one external sort (duplicates, drawn splits) before it spills.
    pub sort_memory_bytes: usize,
    /// The largest batch of an imported Arrow file once it is decompressed: it must be held
    /// in memory whole.
    pub arrow_batch_bytes: u64,
    /// The largest XLSX file, whose shared texts must be held in memory, in bytes.
    pub xlsx_bytes: u64,
    /// The largest amount of XML inside an XLSX file, in bytes, for the same reason.
    pub xlsx_expanded_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_rows: 65_536,
            batch_bytes: 16 * MIB as usize,
            part_bytes: 256 * MIB,
            row_bytes: 16 * MIB as usize,
            columns: 1_000,
            column_name_bytes: 256,
            classes: 100_000,
            label_bytes: 1_024,
            labels_per_row: 1_000,
            splits: 64,
            files: 10_000,
            listed_problems: 20,
            problems_before_stopping: 100_000,
            runaway_rows: 100,
            sort_memory_bytes: 32 * MIB as usize,
            arrow_batch_bytes: 1024 * MIB,
            xlsx_bytes: 128 * MIB,
            xlsx_expanded_bytes: 1024 * MIB,
        }
    }
}
