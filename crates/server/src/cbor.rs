//! Payloads of calls between JSON and CBOR, the format that clients of all languages share.
//!
//! What has no counterpart in JSON is refused with its place: nothing is rounded or left out in
//! silence.

use std::fmt;

use serde_json::{Map, Number, Value};

/// The number that the client's protocol gives this format.
pub const CBOR_FORMAT: u32 = 4;

/// How deep values may be nested: a little less than what JSON is read with.
const MAX_DEPTH: usize = 100;

mod major {
    pub const UNSIGNED: u8 = 0;
    pub const NEGATIVE: u8 = 1;
    pub const BYTES: u8 = 2;
    pub const TEXT: u8 = 3;
    pub const ARRAY: u8 = 4;
    pub const MAP: u8 = 5;
    pub const TAG: u8 = 6;
}

/// Tags around values that JSON has another way to write: what is inside them is shown.
mod tag {
    /// A date and time as text, and the number of seconds since 1970.
    pub const TIMES: [u64; 2] = [0, 1];
    /// A day as text.
    pub const DAY: u64 = 1004;
    /// Something that is referred to elsewhere.
    pub const SHARED: u64 = 28;
    pub const UUID: u64 = 37;
    pub const SET: u64 = 258;
    pub const SELF_DESCRIBED: u64 = 55_799;
}

/// Why a payload cannot be shown as JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    #[error("the CBOR is damaged at byte {at}")]
    Damaged { at: usize },
    #[error("{place} is {what}, which JSON does not have")]
    NoJson { place: String, what: String },
    #[error("it is nested deeper than {MAX_DEPTH} values")]
    TooDeep,
}

/// The arguments of a call as a function takes them: the positional ones, then those by name.
pub fn encode_arguments(positional: &[Value], named: &Map<String, Value>) -> Vec<u8> {
    let mut bytes = Vec::new();
    head(&mut bytes, major::ARRAY, 2);
    head(&mut bytes, major::ARRAY, positional.len() as u64);
    for value in positional {
        write(&mut bytes, value);
    }
    write_map(&mut bytes, named);
    bytes
}

fn write(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => bytes.push(0xf6),
        Value::Bool(false) => bytes.push(0xf4),
        Value::Bool(true) => bytes.push(0xf5),
        Value::Number(number) => write_number(bytes, number),
        Value::String(text) => write_text(bytes, text),
        Value::Array(items) => {
            head(bytes, major::ARRAY, items.len() as u64);
            for item in items {
                write(bytes, item);
            }
        }
        Value::Object(fields) => write_map(bytes, fields),
    }
}

fn write_number(bytes: &mut Vec<u8>, number: &Number) {
    if let Some(whole) = number.as_u64() {
        head(bytes, major::UNSIGNED, whole);
    } else if let Some(whole) = number.as_i64() {
        head(bytes, major::NEGATIVE, !whole as u64);
    } else {
        let float = number.as_f64().expect("a number of JSON is whole or a float");
        bytes.push(0xfb);
        bytes.extend(float.to_be_bytes());
    }
}

fn write_text(bytes: &mut Vec<u8>, text: &str) {
    head(bytes, major::TEXT, text.len() as u64);
    bytes.extend(text.as_bytes());
}

fn write_map(bytes: &mut Vec<u8>, fields: &Map<String, Value>) {
    head(bytes, major::MAP, fields.len() as u64);
    for (key, value) in fields {
        write_text(bytes, key);
        write(bytes, value);
    }
}

/// A major type and its argument in the fewest bytes.
fn head(bytes: &mut Vec<u8>, major: u8, argument: u64) {
    let first = major << 5;
    match argument {
        0..24 => bytes.push(first | argument as u8),
        24..0x100 => bytes.extend([first | 24, argument as u8]),
        0x100..0x1_0000 => {
            bytes.push(first | 25);
            bytes.extend((argument as u16).to_be_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            bytes.push(first | 26);
            bytes.extend((argument as u32).to_be_bytes());
        }
        _ => {
            bytes.push(first | 27);
            bytes.extend(argument.to_be_bytes());
        }
    }
}

/// A result as JSON.
///
/// # Errors
/// When the bytes are damaged, or hold what JSON does not have.
pub fn decode(bytes: &[u8]) -> Result<Value, CborError> {
    let mut reader = Reader { bytes, at: 0, place: Vec::new() };
    let value = reader.value()?;
    if reader.at != bytes.len() {
        return Err(reader.damaged());
    }
    Ok(value)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where in the value the reader is.
    place: Vec<Step>,
}

enum Step {
    Index(usize),
    Key(String),
    /// Inside a tag: at the same place.
    Tag,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(key) => write!(f, "[{key:?}]"),
            Self::Tag => Ok(()),
        }
    }
}

/// What follows a major type.
enum Argument {
    Number(u64),
    /// The item goes on until a break.
    Indefinite,
}

impl Reader<'_> {
    fn value(&mut self) -> Result<Value, CborError> {
        if self.place.len() >= MAX_DEPTH {
            return Err(CborError::TooDeep);
        }
        let first = self.byte()?;
        let (major, low) = (first >> 5, first & 31);
        if major > major::TAG {
            return self.simple(low);
        }
        let argument = self.argument(low)?;
        match (major, argument) {
            (major::UNSIGNED, Argument::Number(number)) => Ok(number.into()),
            (major::NEGATIVE, Argument::Number(number)) => match i64::try_from(number) {
                Ok(number) => Ok((!number).into()),
                Err(_) => Err(self.no_json("an integer of more than 64 bits")),
            },
            (major::BYTES, _) => Err(self.no_json("bytes")),
            (major::TEXT, argument) => self.text(argument).map(Value::String),
            (major::ARRAY, argument) => self.array(argument),
            (major::MAP, argument) => self.map(argument),
            (major::TAG, Argument::Number(tag)) => self.tagged(tag),
            _ => Err(self.damaged()),
        }
    }

    fn simple(&mut self, low: u8) -> Result<Value, CborError> {
        let float = match low {
            20 => return Ok(Value::Bool(false)),
            21 => return Ok(Value::Bool(true)),
            // Undefined is what other languages have beside null.
            22 | 23 => return Ok(Value::Null),
            25 => half(u16::from_be_bytes(self.array_of()?)),
            26 => f64::from(f32::from_be_bytes(self.array_of()?)),
            27 => f64::from_be_bytes(self.array_of()?),
            _ => return Err(self.damaged()),
        };
        let number = Number::from_f64(float).map(Value::Number);
        number.ok_or_else(|| self.no_json(&format!("the number {float}")))
    }

    fn text(&mut self, argument: Argument) -> Result<String, CborError> {
        let length = match argument {
            Argument::Number(length) => length,
            Argument::Indefinite => {
                let mut text = String::new();
                while !self.is_at_break()? {
                    let first = self.byte()?;
                    let argument = self.argument(first & 31)?;
                    let Argument::Number(length) = argument else { return Err(self.damaged()) };
                    if first >> 5 != major::TEXT {
                        return Err(self.damaged());
                    }
                    text.push_str(self.piece(length)?);
                }
                return Ok(text);
            }
        };
        self.piece(length).map(str::to_owned)
    }

    fn piece(&mut self, length: u64) -> Result<&str, CborError> {
        let at = self.at;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| CborError::Damaged { at })
    }

    fn array(&mut self, argument: Argument) -> Result<Value, CborError> {
        let mut items = Vec::new();
        while self.goes_on(&argument, items.len())? {
            self.place.push(Step::Index(items.len()));
            items.push(self.value()?);
            self.place.pop();
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, argument: Argument) -> Result<Value, CborError> {
        let mut fields = Map::new();
        let mut read = 0;
        while self.goes_on(&argument, read)? {
            let key = match self.value()? {
                Value::String(text) => text,
                // As Python's own JSON writes whole numbers that are keys.
                Value::Number(number) if !number.is_f64() => number.to_string(),
                _ => return Err(self.no_json("a mapping with keys that are no texts")),
            };
            self.place.push(Step::Key(key.clone()));
            let value = self.value()?;
            self.place.pop();
            if fields.insert(key, value).is_some() {
                return Err(self.no_json("a mapping with two keys of the same text"));
            }
            read += 1;
        }
        Ok(Value::Object(fields))
    }

    fn tagged(&mut self, tag: u64) -> Result<Value, CborError> {
        if tag == tag::UUID {
            return self.uuid();
        }
        let known = [tag::DAY, tag::SHARED, tag::SET, tag::SELF_DESCRIBED];
        if tag::TIMES.contains(&tag) || known.contains(&tag) {
            self.place.push(Step::Tag);
            let value = self.value()?;
            self.place.pop();
            return Ok(value);
        }
        let what = match tag {
            2 | 3 => "an integer of more than 64 bits".to_owned(),
            4 | 5 => "a decimal number".to_owned(),
            tag => format!("a value with the CBOR tag {tag}"),
        };
        Err(self.no_json(&what))
    }

    fn uuid(&mut self) -> Result<Value, CborError> {
        let [first, bytes @ ..] = self.array_of::<17>()?;
        if first != major::BYTES << 5 | 16 {
            return Err(self.damaged());
        }
        let digits = format!("{:032x}", u128::from_be_bytes(bytes));
        let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        Ok(Value::String(parts.join("-")))
    }

    /// Whether an array or a map has another entry after so many.
    fn goes_on(&mut self, argument: &Argument, read: usize) -> Result<bool, CborError> {
        match argument {
            Argument::Number(number) => Ok((read as u64) < *number),
            Argument::Indefinite => Ok(!self.is_at_break()?),
        }
    }

    /// Steps over a break, if there is one here.
    fn is_at_break(&mut self) -> Result<bool, CborError> {
        let next = *self.bytes.get(self.at).ok_or_else(|| self.damaged())?;
        let is_break = next == 0xff;
        self.at += usize::from(is_break);
        Ok(is_break)
    }

    fn argument(&mut self, low: u8) -> Result<Argument, CborError> {
        let number = match low {
            0..24 => u64::from(low),
            24 => u64::from(self.byte()?),
            25 => u64::from(u16::from_be_bytes(self.array_of()?)),
            26 => u64::from(u32::from_be_bytes(self.array_of()?)),
            27 => u64::from_be_bytes(self.array_of()?),
            31 => return Ok(Argument::Indefinite),
            _ => return Err(self.damaged()),
        };
        Ok(Argument::Number(number))
    }

    fn byte(&mut self) -> Result<u8, CborError> {
        self.array_of().map(|[byte]| byte)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        let at = self.at;
        let bytes = self.take(N as u64)?;
        bytes.try_into().map_err(|_| CborError::Damaged { at })
    }

    fn take(&mut self, length: u64) -> Result<&[u8], CborError> {
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(CborError::Damaged { at: self.at })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn damaged(&self) -> CborError {
        CborError::Damaged { at: self.at }
    }

    fn no_json(&self, what: &str) -> CborError {
        let steps: String = self.place.iter().map(Step::to_string).collect();
        let place = if steps.is_empty() { "it".to_owned() } else { format!("its {steps}") };
        CborError::NoJson { place, what: what.to_owned() }
    }
}

/// A float of 16 bits.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        digits
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    /// What the Python library `cbor2`, which clients use, makes of these.
    #[test]
    fn arguments_are_what_the_clients_library_writes() {
        let value = json!([1, -2, 2.5, "hällo", null, true, [24, 256, 65536, 4_294_967_296u64]]);
        let named = json!({"a": {"b": [], "c": -300}});
        let bytes = encode_arguments(value.as_array().unwrap(), named.as_object().unwrap());
        let expected = "82870121fb40040000000000006668c3a46c6c6ff6f584181819\
                        01001a000100001b0000000100000000a16161a2616280616339012b";
        assert_eq!(bytes, hex(expected));
        assert_eq!(decode(&bytes).unwrap(), json!([value, named]));
    }

    #[test]
    fn results_read_as_json() {
        for (written, expected) in [
            ("a2016161026162", json!({"1": "a", "2": "b"})),
            ("f93e00", json!(1.5)),
            ("fa3fc00000", json!(1.5)),
            ("f90001", json!(5.960464477539063e-8)),
            ("d9010283010203", json!([1, 2, 3])),
            ("c074323032362d31312d32325430303a30303a30305a", json!("2026-11-22T00:00:00Z")),
            (
                "d825500123456789abcdef0123456789abcdef",
                json!("01234567-89ab-cdef-0123-456789abcdef"),
            ),
            ("9f01ff", json!([1])),
            ("bf6161f7ff", json!({"a": null})),
            ("7f61616162ff", json!("ab")),
            ("1bffffffffffffffff", json!(u64::MAX)),
            ("3b7fffffffffffffff", json!(i64::MIN)),
        ] {
            assert_eq!(decode(&hex(written)), Ok(expected), "{written}");
        }
    }

    #[test]
    fn what_json_lacks_is_named_with_its_place() {
        for (written, expected) in [
            ("43616263", "it is bytes"),
            ("8201a161784161", "its [1][\"x\"] is bytes"),
            ("fb7ff8000000000000", "it is the number NaN"),
            ("81f97c00", "its [0] is the number inf"),
            ("3bffffffffffffffff", "it is an integer of more than 64 bits"),
            ("c249010000000000000000", "it is an integer of more than 64 bits"),
            ("c48221196ab3", "it is a decimal number"),
            ("a1f601", "it is a mapping with keys that are no texts"),
            ("a2016161613101", "it is a mapping with two keys of the same text"),
            ("d9ffff01", "it is a value with the CBOR tag 65535"),
        ] {
            let error = decode(&hex(written)).unwrap_err().to_string();
            assert_eq!(error, format!("{expected}, which JSON does not have"), "{written}");
        }
    }

    #[test]
    fn damage_is_refused() {
        for written in ["", "82", "8201", "61ff", "ff", "1c", "0101", "9f01", "7f01ff", "d82501"] {
            assert!(matches!(decode(&hex(written)), Err(CborError::Damaged { .. })), "{written}");
        }
        let deep = [vec![0x81; 200], vec![0x01]].concat();
        assert_eq!(decode(&deep), Err(CborError::TooDeep));
        let tagged = [[0xd9, 0xd9, 0xf7].repeat(200), vec![0x01]].concat();
        assert_eq!(decode(&tagged), Err(CborError::TooDeep));
        // Lengths that nothing follows reserve no memory.
        assert!(decode(&hex("9bffffffffffffffff")).is_err());
        assert!(decode(&hex("7bffffffffffffffff")).is_err());
    }
}
