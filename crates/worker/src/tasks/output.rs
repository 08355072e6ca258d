//! What a container writes, as pieces with their time.

use std::os::fd::OwnedFd;

use corral_containers::ContainerLine;
use corral_types::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// The most that is read at once. A longer line comes in several pieces.
const PIECE_BYTES: usize = 64 << 10;

/// Reads to the end and hands over pieces that end between characters. A piece is what was there
/// when it was read, so a prompt without a line's end is seen too.
pub async fn read_output(
    descriptor: OwnedFd,
    number: u8,
    mut tell: impl FnMut(Vec<ContainerLine>),
) {
    let Ok(mut pipe) = pipe::Receiver::from_owned_fd(descriptor) else { return };
    let mut buffer = vec![0; PIECE_BYTES];
    let mut kept = 0;
    loop {
        let read = match pipe.read(&mut buffer[kept..]).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let held = kept + read;
        let whole = whole_characters(&buffer[..held]);
        if whole > 0 {
            tell(vec![piece(number, &buffer[..whole])]);
        }
        buffer.copy_within(whole..held, 0);
        kept = held - whole;
    }
    if kept > 0 {
        tell(vec![piece(number, &buffer[..kept])]);
    }
}

fn piece(descriptor: u8, bytes: &[u8]) -> ContainerLine {
    let text = String::from_utf8_lossy(bytes).into_owned();
    ContainerLine { at: Timestamp::now(), descriptor, text }
}

/// How many bytes can be told without cutting a character that goes on. What is no text at all
/// is told as it is.
fn whole_characters(bytes: &[u8]) -> usize {
    let longest_start = 3.min(bytes.len());
    for back in 1..=longest_start {
        let byte = bytes[bytes.len() - back];
        let wanted = match byte {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            // In the middle of one: its start is before.
            0x80..=0xbf => continue,
            _ => 1,
        };
        return if wanted > back { bytes.len() - back } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_cut() {
        let text = "a€ü😀".as_bytes();
        let cuts: Vec<usize> = (0..=text.len()).map(|end| whole_characters(&text[..end])).collect();
        assert_eq!(cuts, [0, 1, 1, 1, 4, 4, 6, 6, 6, 6, 10]);
        assert_eq!(whole_characters(&[0xff, 0x80, 0x80, 0x80, 0x80]), 5);
    }

    #[tokio::test]
    async fn output_is_told_as_it_comes_and_to_the_end() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
        let reading = tokio::spawn(read_output(reader.into(), 2, move |lines| {
            for line in lines {
                sender.send(line).unwrap();
            }
        }));
        let mut writer = std::fs::File::from(OwnedFd::from(writer));
        std::io::Write::write_all(&mut writer, "prompt> ".as_bytes()).unwrap();
        let first = told.recv().await.unwrap();
        assert_eq!((first.descriptor, first.text.as_str()), (2, "prompt> "));
        std::io::Write::write_all(&mut writer, &"é".as_bytes()[..1]).unwrap();
        drop(writer);
        reading.await.unwrap();
        assert_eq!(told.recv().await.unwrap().text, "\u{fffd}");
    }
}
