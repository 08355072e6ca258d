//! How records and snapshots are written: fixed-size numbers where ids stand, variable-length
//! ones elsewhere, bytes with their length before them.

use std::sync::Arc;

use corral_types::{Id, Kind, Timestamp};

use crate::error::CodecError;

/// Writes values one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Seven bits a byte, the lowest first.
    pub fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub fn id<K: Kind>(&mut self, id: Id<K>) {
        self.fixed(&id.as_u128().to_le_bytes());
    }

    pub fn time(&mut self, at: Timestamp) {
        self.number(at.as_millis());
    }

    pub fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub fn list<T>(&mut self, values: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.number(values.len() as u64);
        for value in values {
            write(self, value);
        }
    }
}

/// Reads them back.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> Result<u8, CodecError> {
        let (&first, rest) = self.0.split_first().ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(first)
    }

    pub fn number(&mut self) -> Result<u64, CodecError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(CodecError::Value { what: "a number" })
    }

    /// A number of the narrower type that was written.
    pub fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, CodecError> {
        T::try_from(self.number()?).map_err(|_| CodecError::Value { what: "a number" })
    }

    pub fn fixed(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        let length = self.narrow()?;
        self.fixed(length)
    }

    pub fn shared(&mut self) -> Result<Arc<[u8]>, CodecError> {
        self.bytes().map(Arc::from)
    }

    pub fn text(&mut self) -> Result<String, CodecError> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| CodecError::Value { what: "a text" })
    }

    pub fn id<K: Kind>(&mut self) -> Result<Id<K>, CodecError> {
        let bytes = self.fixed(16)?.try_into().expect("sixteen bytes were taken");
        Ok(Id::from_u128(u128::from_le_bytes(bytes)))
    }

    pub fn time(&mut self) -> Result<Timestamp, CodecError> {
        self.number().map(Timestamp::from_millis)
    }

    pub fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Option<T>, CodecError> {
        Ok(match self.byte()? {
            0 => None,
            _ => Some(read(self)?),
        })
    }

    pub fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let length: usize = self.narrow()?;
        // A damaged length reserves no more than there are bytes.
        let mut values = Vec::with_capacity(length.min(self.0.len()));
        for _ in 0..length {
            values.push(read(self)?);
        }
        Ok(values)
    }
}
