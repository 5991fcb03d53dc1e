//! Gzip without compression: stored blocks, enough to show a reader that it cannot read the body as it is.

const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The body as a gzip member.
pub(crate) fn stored(body: &[u8]) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    let mut blocks = body.chunks(usize::from(u16::MAX)).peekable();
    if blocks.peek().is_none() {
        block(&mut out, &[], true);
    }
    while let Some(bytes) = blocks.next() {
        block(&mut out, bytes, blocks.peek().is_none());
    }
    out.extend(crc32(body).to_le_bytes());
    out.extend((body.len() as u32).to_le_bytes());
    out
}

fn block(out: &mut Vec<u8>, bytes: &[u8], last: bool) {
    let length = bytes.len() as u16;
    out.push(u8::from(last));
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(bytes);
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_documented_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let member = stored(b"abc");
        assert_eq!(&member[10..18], b"\x01\x03\x00\xfc\xffabc");
        assert_eq!(member.len(), 10 + 5 + 3 + 8);
        assert_eq!(stored(&vec![0; 70_000]).len(), 10 + 5 + 5 + 70_000 + 8);
    }
}
