//! Reads the safetensors format: a little-endian length, a JSON header of that length
//! that names each tensor's type, shape and bytes, then the bytes.
//!
//! Nothing in the header is believed: every offset, shape and count is checked against the
//! bytes that are there before any memory is reserved for it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A header names a few hundred tensors in some tens of kilobytes.
const MAX_HEADER_BYTES: usize = 4 << 20;
/// Weights of the networks served here have one or two dimensions.
const MAX_DIMENSIONS: usize = 8;

/// Why bytes are not usable as a safetensors file.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    #[error("the weights end after {bytes} bytes, inside their header")]
    Truncated { bytes: usize },
    #[error("the weights' header claims {bytes} bytes, more than {MAX_HEADER_BYTES}")]
    HeaderTooLarge { bytes: u64 },
    #[error("the weights' header is not the JSON of a safetensors file")]
    Header(#[source] serde_json::Error),
    #[error("tensor `{name}` lies outside the file or overlaps another")]
    Place { name: String },
    #[error("tensor `{name}` has {actual} bytes where its shape needs {expected:?}")]
    Size { name: String, actual: u64, expected: Option<u64> },
    #[error("tensors cover {covered} of the file's {bytes} bytes")]
    Uncovered { covered: u64, bytes: u64 },
    #[error("there is no tensor `{name}`")]
    Missing { name: String },
    #[error("tensor `{name}` has shape {actual:?}, not {expected:?}")]
    Shape { name: String, actual: Vec<usize>, expected: Vec<usize> },
    #[error("tensor `{name}` holds {dtype}, not floating-point numbers of 16 or 32 bits")]
    Type { name: String, dtype: String },
    #[error("tensor `{name}` holds a value that is not finite")]
    NotFinite { name: String },
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum HeaderValue {
    Tensor(Entry),
    Metadata(BTreeMap<String, String>),
}

/// The tensors of a file, still as bytes.
pub(crate) struct Tensors<'a> {
    body: &'a [u8],
    entries: BTreeMap<String, Entry>,
}

impl<'a> Tensors<'a> {
    /// Reads and checks the header of `bytes`, a whole file.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SafetensorsError> {
        let truncated = || SafetensorsError::Truncated { bytes: bytes.len() };
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(truncated)?;
        let claimed = u64::from_le_bytes(*length);
        let header_bytes = usize::try_from(claimed)
            .ok()
            .filter(|&count| count <= MAX_HEADER_BYTES)
            .ok_or(SafetensorsError::HeaderTooLarge { bytes: claimed })?;
        let (header, body) = rest.split_at_checked(header_bytes).ok_or_else(truncated)?;
        let values: BTreeMap<String, HeaderValue> =
            serde_json::from_slice(header).map_err(SafetensorsError::Header)?;
        let mut entries = BTreeMap::new();
        for (name, value) in values {
            match value {
                HeaderValue::Tensor(entry) => {
                    entries.insert(name, entry);
                }
                HeaderValue::Metadata(pairs) => drop(pairs),
            }
        }
        let tensors = Self { body, entries };
        tensors.check_places()?;
        Ok(tensors)
    }

    /// The format allows no gap and no overlap, and sizes follow from type and shape.
    fn check_places(&self) -> Result<(), SafetensorsError> {
        let mut places: Vec<(&String, &Entry)> = self.entries.iter().collect();
        places.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut covered = 0;
        for (name, entry) in places {
            let (begin, end) = entry.data_offsets;
            if begin != covered || end < begin || end > self.body.len() as u64 {
                return Err(SafetensorsError::Place { name: name.clone() });
            }
            let expected = entry.expected_bytes();
            if expected != Some(end - begin) {
                return Err(SafetensorsError::Size {
                    name: name.clone(),
                    actual: end - begin,
                    expected,
                });
            }
            covered = end;
        }
        let bytes = self.body.len() as u64;
        if covered != bytes {
            return Err(SafetensorsError::Uncovered { covered, bytes });
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<&Entry, SafetensorsError> {
        self.entries.get(name).ok_or_else(|| SafetensorsError::Missing { name: name.to_owned() })
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, SafetensorsError> {
        // The sizes were checked against bytes in memory, so they fit.
        Ok(self.entry(name)?.shape.iter().map(|&size| size as usize).collect())
    }

    /// The values of a floating-point tensor, which must have this shape.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, SafetensorsError> {
        let entry = self.entry(name)?;
        let actual = self.shape(name)?;
        if actual != shape {
            return Err(SafetensorsError::Shape {
                name: name.to_owned(),
                actual,
                expected: shape.to_vec(),
            });
        }
        let (begin, end) = entry.data_offsets;
        let bytes = &self.body[begin as usize..end as usize];
        let values: Vec<f32> = match entry.dtype.as_str() {
            "F32" => bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect(),
            "BF16" => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&two| f32::from_bits(u32::from(u16::from_le_bytes(two)) << 16))
                .collect(),
            "F16" => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&two| half_to_single(u16::from_le_bytes(two)))
                .collect(),
            other => {
                return Err(SafetensorsError::Type {
                    name: name.to_owned(),
                    dtype: other.chars().take(16).collect(),
                });
            }
        };
        if values.iter().any(|value| !value.is_finite()) {
            return Err(SafetensorsError::NotFinite { name: name.to_owned() });
        }
        Ok(values)
    }
}

impl Entry {
    fn expected_bytes(&self) -> Option<u64> {
        let width = match self.dtype.as_str() {
            "F64" | "I64" | "U64" => 8,
            "F32" | "I32" | "U32" => 4,
            "F16" | "BF16" | "I16" | "U16" => 2,
            "F8_E4M3" | "F8_E5M2" | "I8" | "U8" | "BOOL" => 1,
            _ => return None,
        };
        if self.shape.len() > MAX_DIMENSIONS {
            return None;
        }
        self.shape.iter().try_fold(width, |bytes: u64, &size| bytes.checked_mul(size))
    }
}

/// IEEE 754 binary16 to binary32, which holds every value of it.
fn half_to_single(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits) & 0x3ff;
    match exponent {
        0 => {
            let magnitude = fraction as f32 / 16_777_216.0;
            f32::from_bits(magnitude.to_bits() | sign)
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn values_of_each_type_are_read() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "b":{"dtype":"F16","shape":[1,3],"data_offsets":[8,14]},
            "c":{"dtype":"BF16","shape":[1],"data_offsets":[14,16]},
            "d":{"dtype":"I64","shape":[0],"data_offsets":[16,16]}}"#;
        let mut body = Vec::new();
        body.extend_from_slice(&1.5f32.to_le_bytes());
        body.extend_from_slice(&(-2.0f32).to_le_bytes());
        for half in [0x3c00u16, 0xc100, 0x0001] {
            body.extend_from_slice(&half.to_le_bytes());
        }
        body.extend_from_slice(&0x3fc0u16.to_le_bytes());
        let bytes = file(header, &body);
        let tensors = Tensors::parse(&bytes).unwrap();
        assert_eq!(tensors.values("a", &[2]).unwrap(), [1.5, -2.0]);
        assert_eq!(tensors.values("b", &[1, 3]).unwrap(), [1.0, -2.5, 5.960_464_5e-8]);
        assert_eq!(tensors.values("c", &[1]).unwrap(), [1.5]);
        assert!(matches!(tensors.values("d", &[0]), Err(SafetensorsError::Type { .. })));
        assert!(matches!(tensors.values("a", &[1, 2]), Err(SafetensorsError::Shape { .. })));
        assert!(matches!(tensors.values("e", &[]), Err(SafetensorsError::Missing { .. })));
    }

    #[test]
    fn claims_beyond_the_bytes_are_refused() {
        let tensor = |shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        for header in [
            tensor("[2]", "[0,8]"),
            tensor("[1]", "[0,8]"),
            tensor("[1]", "[4,0]"),
            tensor("[4611686018427387905]", "[0,4]"),
            tensor("[1,1,1,1,1,1,1,1,1]", "[0,4]"),
            tensor("[-1]", "[0,4]"),
            tensor("[1]", "[0,18446744073709551615]"),
            "{}".to_owned(),
            "[]".to_owned(),
            "{\"a\":3}".to_owned(),
        ] {
            assert!(Tensors::parse(&file(&header, &[0; 4])).is_err(), "{header}");
        }
        for bytes in [&[][..], &[1; 7], &[255; 8], &[9, 0, 0, 0, 0, 0, 0, 0, b'{']] {
            assert!(Tensors::parse(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn overlaps_and_values_that_are_not_numbers_are_refused() {
        let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
            "b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        assert!(Tensors::parse(&file(header, &[0; 4])).is_err());
        let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        let bytes = file(header, &f32::NAN.to_le_bytes());
        let tensors = Tensors::parse(&bytes).unwrap();
        assert!(matches!(tensors.values("a", &[1]), Err(SafetensorsError::NotFinite { .. })));
    }
}
