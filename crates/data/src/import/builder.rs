//! Building the values of one further column, whose type is found out on the way.
//!
//! Until the first batch ends the values stand as text beside the types that fit all of
//! them; then the narrowest of int, float and bool that fits is taken, else string. A later
//! value that does not fit widens the column: parts written before are converted at the end.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, LargeStringArray};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use super::problems::ProblemReason;
use crate::manifest::ColumnType;

/// One value as a file has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    /// Text that may stand for a number or a truth value, as in CSV.
    Untyped(&'a [u8]),
    Text(&'a [u8]),
    /// A JSON number as written.
    Number(&'a str),
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// Texts end to end, with the place where each ends.
#[derive(Debug)]
pub(crate) struct TextValues {
    bytes: Vec<u8>,
    offsets: Vec<i64>,
}

impl Default for TextValues {
    fn default() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0] }
    }
}

impl TextValues {
    pub(crate) fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.offsets.push(self.bytes.len() as i64);
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.bytes.truncate(self.offsets[rows] as usize);
    }

    fn get(&self, row: usize) -> &[u8] {
        &self.bytes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    /// The array, leaving this empty. The texts must be UTF-8.
    pub(crate) fn take(&mut self, valid: Option<NullBuffer>) -> LargeStringArray {
        let rows = self.len();
        let taken = std::mem::take(self);
        self.offsets.reserve(rows);
        self.bytes.reserve(taken.bytes.len());
        let offsets = OffsetBuffer::new(ScalarBuffer::from(taken.offsets));
        LargeStringArray::try_new(offsets, Buffer::from_vec(taken.bytes), valid)
            .expect("every text was checked to be UTF-8 before it was pushed")
    }
}

/// The types that all values seen so far could have.
#[derive(Clone, Copy, Debug)]
struct Fits {
    int: bool,
    float: bool,
    bool: bool,
    /// Whether any value spoke for or against a type.
    any: bool,
}

impl Fits {
    const ALL: Self = Self { int: true, float: true, bool: true, any: false };

    fn narrow(&mut self, cell: &Cell<'_>) {
        let (int, float, bool) = match cell {
            Cell::Null | Cell::Untyped([]) => return,
            Cell::Text(_) => (false, false, false),
            Cell::Untyped(bytes) => (
                parse_int(bytes).is_some(),
                parse_float(bytes).is_some(),
                parse_bool(bytes).is_some(),
            ),
            Cell::Number(text) => (parse_int(text.as_bytes()).is_some(), true, false),
            Cell::Int(_) => (true, true, false),
            Cell::Float(_) => (false, true, false),
            Cell::Bool(_) => (false, false, true),
        };
        self.int &= int;
        self.float &= float;
        self.bool &= bool;
        self.any = true;
    }

    fn narrowest(self) -> ColumnType {
        match self {
            Self { any: false, .. } => ColumnType::String,
            Self { int: true, .. } => ColumnType::Int,
            Self { float: true, .. } => ColumnType::Float,
            Self { bool: true, .. } => ColumnType::Bool,
            _ => ColumnType::String,
        }
    }
}

#[derive(Debug)]
enum Values {
    Undecided { texts: TextValues, fits: Fits },
    String(TextValues),
    Int(Vec<i64>),
    Float(Vec<f64>),
    Bool(Vec<bool>),
}

/// The values of one column in the current batch.
#[derive(Debug)]
pub(crate) struct ColumnBuilder {
    pub name: String,
    /// The type cannot be widened: it was asked for, or is that of the data set appended to.
    pub fixed: bool,
    values: Values,
    valid: Vec<bool>,
    any_valid: bool,
}

impl ColumnBuilder {
    pub(crate) fn undecided(name: String) -> Self {
        let values = Values::Undecided { texts: TextValues::default(), fits: Fits::ALL };
        Self { name, fixed: false, values, valid: Vec::new(), any_valid: false }
    }

    pub(crate) fn fixed(name: String, column_type: ColumnType) -> Self {
        let mut builder = Self::undecided(name);
        builder.values = Values::of_type(column_type);
        builder.fixed = true;
        builder
    }

    /// The type, once it is decided.
    pub(crate) fn column_type(&self) -> Option<ColumnType> {
        match self.values {
            Values::Undecided { .. } => None,
            Values::String(_) => Some(ColumnType::String),
            Values::Int(_) => Some(ColumnType::Int),
            Values::Float(_) => Some(ColumnType::Float),
            Values::Bool(_) => Some(ColumnType::Bool),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.valid.len()
    }

    /// Appends a value, widening the type if it must.
    pub(crate) fn push(&mut self, cell: Cell<'_>) -> Result<(), ProblemReason> {
        if cell == Cell::Null {
            self.push_null();
            return Ok(());
        }
        if let Cell::Untyped(bytes) | Cell::Text(bytes) = cell
            && let Err(error) = simdutf8::compat::from_utf8(bytes)
        {
            return Err(ProblemReason::NotUtf8 { at: error.valid_up_to() + 1 });
        }
        if !self.values.try_push(&cell) {
            // An empty field of a column that is not text is no value.
            if let Cell::Untyped([]) = cell {
                self.push_null();
                return Ok(());
            }
            let wider = match (self.column_type(), &cell) {
                (Some(ColumnType::Int), cell) if as_float(cell).is_some() => ColumnType::Float,
                _ => ColumnType::String,
            };
            if self.fixed {
                let expected = self.column_type().unwrap_or(ColumnType::String);
                let value = display(&cell).chars().take(80).collect();
                return Err(ProblemReason::ValueType { value, expected });
            }
            self.values.widen(wider, &mut self.valid);
            let fits = self.values.try_push(&cell);
            debug_assert!(fits, "a widened column takes the value it was widened for");
        }
        self.valid.push(true);
        self.any_valid = true;
        Ok(())
    }

    pub(crate) fn push_null(&mut self) {
        self.values.push_default();
        self.valid.push(false);
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        if self.valid.len() > rows {
            self.valid.truncate(rows);
            self.values.truncate(rows);
        }
    }

    /// Bytes of the values.
    pub(crate) fn bytes(&self) -> usize {
        match &self.values {
            Values::Undecided { texts, .. } | Values::String(texts) => {
                texts.bytes() + 8 * texts.len()
            }
            Values::Int(values) => 8 * values.len(),
            Values::Float(values) => 8 * values.len(),
            Values::Bool(values) => values.len(),
        }
    }

    /// The array of the batch, leaving the builder empty; `None` when every value is null.
    pub(crate) fn take(&mut self) -> Option<ArrayRef> {
        if !std::mem::take(&mut self.any_valid) {
            self.truncate(0);
            return None;
        }
        if let Values::Undecided { fits, .. } = self.values {
            self.values.widen(fits.narrowest(), &mut self.valid);
        }
        let valid = std::mem::take(&mut self.valid);
        let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
        Some(match &mut self.values {
            Values::Undecided { texts, .. } | Values::String(texts) => Arc::new(texts.take(nulls)),
            Values::Int(values) => Arc::new(Int64Array::new(std::mem::take(values).into(), nulls)),
            Values::Float(values) => {
                Arc::new(Float64Array::new(std::mem::take(values).into(), nulls))
            }
            Values::Bool(values) => {
                Arc::new(BooleanArray::new(BooleanBuffer::from(std::mem::take(values)), nulls))
            }
        })
    }
}

impl Values {
    fn of_type(column_type: ColumnType) -> Self {
        match column_type {
            ColumnType::String => Self::String(TextValues::default()),
            ColumnType::Int => Self::Int(Vec::new()),
            ColumnType::Float => Self::Float(Vec::new()),
            ColumnType::Bool => Self::Bool(Vec::new()),
        }
    }

    fn try_push(&mut self, cell: &Cell<'_>) -> bool {
        match self {
            Self::Undecided { texts, fits } => {
                fits.narrow(cell);
                push_text(texts, cell);
            }
            Self::String(texts) => push_text(texts, cell),
            Self::Int(values) => match as_int(cell) {
                Some(value) => values.push(value),
                None => return false,
            },
            Self::Float(values) => match as_float(cell) {
                Some(value) => values.push(value),
                None => return false,
            },
            Self::Bool(values) => match as_bool(cell) {
                Some(value) => values.push(value),
                None => return false,
            },
        }
        true
    }

    fn push_default(&mut self) {
        match self {
            Self::Undecided { texts, .. } | Self::String(texts) => texts.push(b""),
            Self::Int(values) => values.push(0),
            Self::Float(values) => values.push(0.0),
            Self::Bool(values) => values.push(false),
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Undecided { texts, .. } | Self::String(texts) => texts.truncate(rows),
            Self::Int(values) => values.truncate(rows),
            Self::Float(values) => values.truncate(rows),
            Self::Bool(values) => values.truncate(rows),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Undecided { texts, .. } | Self::String(texts) => texts.len(),
            Self::Int(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Bool(values) => values.len(),
        }
    }

    /// Converts the values of the batch. An empty field is a value of a text column only.
    fn widen(&mut self, to: ColumnType, valid: &mut [bool]) {
        let mut wider = Self::of_type(to);
        for row in 0..self.len() {
            let pushed = match self {
                Self::Undecided { texts, .. } | Self::String(texts) => {
                    wider.try_push(&Cell::Untyped(texts.get(row)))
                }
                Self::Int(values) => wider.try_push(&Cell::Int(values[row])),
                Self::Float(values) => wider.try_push(&Cell::Float(values[row])),
                Self::Bool(values) => wider.try_push(&Cell::Bool(values[row])),
            };
            if !pushed {
                wider.push_default();
                valid[row] = false;
            }
        }
        *self = wider;
    }
}

fn push_text(texts: &mut TextValues, cell: &Cell<'_>) {
    match cell {
        Cell::Untyped(bytes) | Cell::Text(bytes) => texts.push(bytes),
        cell => texts.push(display(cell).as_bytes()),
    }
}

/// The value as text: floats in the shortest form that reads back, `1.0` with its point.
pub(crate) fn display(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Untyped(bytes) | Cell::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Cell::Number(text) => (*text).to_owned(),
        Cell::Int(value) => value.to_string(),
        Cell::Float(value) => format!("{value:?}"),
        Cell::Bool(value) => value.to_string(),
    }
}

fn as_int(cell: &Cell<'_>) -> Option<i64> {
    match cell {
        Cell::Untyped(bytes) => parse_int(bytes),
        Cell::Number(text) => parse_int(text.as_bytes()),
        Cell::Int(value) => Some(*value),
        _ => None,
    }
}

fn as_float(cell: &Cell<'_>) -> Option<f64> {
    match cell {
        Cell::Untyped(bytes) => parse_float(bytes),
        Cell::Number(text) => text.parse().ok().filter(|value: &f64| value.is_finite()),
        Cell::Int(value) => Some(*value as f64),
        Cell::Float(value) => Some(*value),
        _ => None,
    }
}

fn as_bool(cell: &Cell<'_>) -> Option<bool> {
    match cell {
        Cell::Untyped(bytes) => parse_bool(bytes),
        Cell::Bool(value) => Some(*value),
        _ => None,
    }
}

/// An integer in the one form it would be written in: `007`, `+5` and `-0` are texts.
fn parse_int(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let plain = matches!(digits, [b'0'] if digits.len() == bytes.len())
        || matches!(digits, [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit));
    if !plain {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// A finite number in decimal notation; leading zeros and a leading `+` make it a text.
fn parse_float(bytes: &[u8]) -> Option<f64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    match digits {
        [b'0', b'0'..=b'9', ..] => return None,
        [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => {}
        _ => return None,
    }
    std::str::from_utf8(bytes).ok()?.parse().ok().filter(|value: &f64| value.is_finite())
}

fn parse_bool(bytes: &[u8]) -> Option<bool> {
    if bytes.eq_ignore_ascii_case(b"true") {
        Some(true)
    } else if bytes.eq_ignore_ascii_case(b"false") {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;

    use super::*;

    fn untyped(values: &[&str]) -> ColumnBuilder {
        let mut builder = ColumnBuilder::undecided("c".into());
        for value in values {
            let cell = if value.is_empty() { Cell::Null } else { Cell::Untyped(value.as_bytes()) };
            builder.push(cell).unwrap();
        }
        builder
    }

    #[test]
    fn the_narrowest_type_that_fits_is_taken() {
        let check = |values: &[&str], expect| {
            let mut builder = untyped(values);
            builder.take();
            assert_eq!(builder.column_type(), expect, "{values:?}");
        };
        check(&["1", "", "-20"], Some(ColumnType::Int));
        check(&["1", "2.50", "1e3"], Some(ColumnType::Float));
        check(&["true", "FALSE"], Some(ColumnType::Bool));
        check(&["1", "true"], Some(ColumnType::String));
        check(&["007"], Some(ColumnType::String));
        check(&["+49 30 1234"], Some(ColumnType::String));
        check(&["99999999999999999999"], Some(ColumnType::Float));
        check(&["nan"], Some(ColumnType::String));
        check(&["", ""], None);
    }

    #[test]
    fn an_empty_quoted_field_is_a_text_or_no_value() {
        let mut builder = untyped(&["7"]);
        builder.push(Cell::Untyped(b"")).unwrap();
        assert_eq!(builder.take().unwrap().null_count(), 1);
        let mut builder = untyped(&["x"]);
        builder.push(Cell::Untyped(b"")).unwrap();
        assert_eq!(builder.take().unwrap().null_count(), 0);
    }

    #[test]
    fn texts_of_the_first_batch_stay_as_written() {
        let mut builder = untyped(&["1.50", "x"]);
        let array = builder.take().unwrap();
        assert_eq!(array.as_string::<i64>().value(0), "1.50");
    }

    #[test]
    fn a_later_misfit_widens_the_column() {
        let mut builder = untyped(&["1", "2"]);
        builder.take();
        builder.push(Cell::Untyped(b"3")).unwrap();
        builder.push(Cell::Null).unwrap();
        builder.push(Cell::Untyped(b"2.5")).unwrap();
        assert_eq!(builder.column_type(), Some(ColumnType::Float));
        builder.push(Cell::Untyped(b"n/a")).unwrap();
        let array = builder.take().unwrap();
        let texts: Vec<_> = array.as_string::<i64>().iter().collect();
        assert_eq!(texts, [Some("3.0"), None, Some("2.5"), Some("n/a")]);
    }

    #[test]
    fn fixed_types_refuse_and_rows_can_be_taken_back() {
        let mut builder = ColumnBuilder::fixed("c".into(), ColumnType::Int);
        builder.push(Cell::Untyped(b"4")).unwrap();
        assert!(matches!(builder.push(Cell::Untyped(b"x")), Err(ProblemReason::ValueType { .. })));
        builder.push(Cell::Untyped(b"")).unwrap();
        builder.truncate(1);
        let array = builder.take().unwrap();
        assert_eq!((array.len(), array.null_count()), (1, 0));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        let mut builder = ColumnBuilder::undecided("c".into());
        assert_eq!(builder.push(Cell::Text(b"ab\xff")), Err(ProblemReason::NotUtf8 { at: 3 }));
    }
}
