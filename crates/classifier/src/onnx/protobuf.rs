//! The few messages of ONNX's protobuf schema (onnx.proto3) that a graph of ours needs, written
//! field by field. Numbers are those of the schema.

/// A message while it is put together.
#[derive(Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// A field of a whole number.
    pub fn int(mut self, field: u32, value: i64) -> Self {
        varint(&mut self.0, u64::from(field) << 3);
        varint(&mut self.0, value as u64);
        self
    }

    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.0.extend(field_head(field, value.len() as u64));
        self.0.extend(value);
        self
    }

    pub fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What stands before a field of so many bytes, which may then be written as they come.
pub fn field_head(field: u32, length: u64) -> Vec<u8> {
    let mut head = Vec::new();
    varint(&mut head, u64::from(field) << 3 | 2);
    varint(&mut head, length);
    head
}

fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_the_encoding_says() {
        // The examples of the encoding's own description: 150 in field 1, "testing" in field 2.
        let message = Message::default().int(1, 150).text(2, "testing");
        let expect = b"\x08\x96\x01\x12\x07testing";
        assert_eq!(message.as_bytes(), expect);
        let outer = Message::default().message(3, &Message::default().int(1, 150));
        assert_eq!(outer.as_bytes(), b"\x1a\x03\x08\x96\x01");
        assert_eq!(Message::default().int(1, -1).as_bytes().len(), 11);
    }
}
