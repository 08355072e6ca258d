//! Tensors as bytes: little endian, each element of type BYTES after its length in 32 bits.

/// Why bytes are no such elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenAt(pub usize);

/// The elements of a tensor of type BYTES.
///
/// # Errors
/// Names the element in which the bytes end.
pub fn read_elements(mut bytes: &[u8]) -> Result<Vec<&[u8]>, BrokenAt> {
    let mut elements = Vec::new();
    while !bytes.is_empty() {
        let broken = BrokenAt(elements.len());
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or(broken)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| broken)?;
        let (element, rest) = rest.split_at_checked(length).ok_or(broken)?;
        elements.push(element);
        bytes = rest;
    }
    Ok(elements)
}

pub fn write_elements(elements: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(elements.iter().map(|element| element.len() + 4).sum());
    for element in elements {
        let length = u32::try_from(element.len()).expect("names of classes are short");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(element.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_read_back_as_written_and_breaks_are_named() {
        let written = write_elements(&["", "billing", "späť"]);
        let read = read_elements(&written).unwrap();
        assert_eq!(read, [b"".as_slice(), b"billing", "späť".as_bytes()]);
        for end in 0..written.len() {
            match read_elements(&written[..end]) {
                Ok(elements) => assert!([0, 4, 15].contains(&end), "{end}: {elements:?}"),
                Err(BrokenAt(index)) => assert!(index < 3, "{end}"),
            }
        }
        assert_eq!(read_elements(&[0xff; 8]), Err(BrokenAt(0)));
    }
}
