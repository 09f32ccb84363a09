//! TFRecord, TensorFlow's file of records: each is its length, eight bytes, the lowest
//! first, then a checksum of these, the record, and a checksum of that.
//!
//! A checksum is CRC-32C, masked: turned by 15 bits and moved by a constant, so that
//! records which hold checksums themselves do not cancel out.

use bytes::{Buf as _, Bytes};
use crc::{CRC_32_ISCSI, Crc, Table};

static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

const CHECKSUM_BYTES: usize = 4;
/// A length and its checksum.
const HEADER_BYTES: usize = 8 + CHECKSUM_BYTES;

/// Why a file's records end before the file does. The texts are TensorFlow's; the offset
/// is that of the record, or of the part of it that is corrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("corrupted record at {offset}{}", hint(*offset))]
    Corrupted { offset: usize },
    #[error("truncated record at {offset}' failed with Read less bytes than requested")]
    Truncated { offset: usize },
}

/// What is wrong from the first byte on was mostly never such a file.
fn hint(offset: usize) -> &'static str {
    if offset == 0 { " (Is this even a TFRecord file?)" } else { "" }
}

/// The records of a file, in order and not copied; ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    rest: Bytes,
    offset: usize,
}

impl Records {
    pub fn new(file: Bytes) -> Self {
        Self { rest: file, offset: 0 }
    }

    fn read(&mut self) -> Result<Bytes, RecordError> {
        let start = self.offset;
        let truncated = RecordError::Truncated { offset: start };
        let mut length = self.checked(8, truncated)?;
        let length = usize::try_from(length.get_u64_le()).map_err(|_| truncated)?;
        self.checked(length, truncated)
    }

    /// The next `length` bytes, if the checksum behind them is theirs.
    fn checked(&mut self, length: usize, truncated: RecordError) -> Result<Bytes, RecordError> {
        let framed = length.checked_add(CHECKSUM_BYTES).ok_or(truncated)?;
        if framed > self.rest.len() {
            return Err(truncated);
        }
        let data = self.rest.split_to(length);
        let expected = self.rest.get_u32_le();
        if expected != masked_checksum(&data) {
            return Err(RecordError::Corrupted { offset: self.offset });
        }
        self.offset += framed;
        Ok(data)
    }
}

impl Iterator for Records {
    type Item = Result<Bytes, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.read();
        if record.is_err() {
            self.rest.clear();
        }
        Some(record)
    }
}

/// Adds a record to what is to be written to a file.
pub fn append(file: &mut Vec<u8>, record: &[u8]) {
    let length = (record.len() as u64).to_le_bytes();
    file.reserve(HEADER_BYTES + record.len() + CHECKSUM_BYTES);
    for part in [&length[..], record] {
        file.extend_from_slice(part);
        file.extend_from_slice(&masked_checksum(part).to_le_bytes());
    }
}

fn masked_checksum(data: &[u8]) -> u32 {
    const DELTA: u32 = 0xa282_ead8;
    CRC32C.checksum(data).rotate_right(15).wrapping_add(DELTA)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What TensorFlow 2.21 writes for `hello` and an empty record.
    const HELLO: &[u8] = b"\x05\0\0\0\0\0\0\0\xea\xb2\x04\x3ehello\xbb\x1f\x1c\x19";
    const EMPTY: &[u8] = b"\0\0\0\0\0\0\0\0\x29\x03\x98\x07\xd8\xea\x82\xa2";

    fn read(file: &[u8]) -> Result<Vec<Bytes>, RecordError> {
        Records::new(Bytes::copy_from_slice(file)).collect()
    }

    #[test]
    fn what_tensorflow_writes_is_read_and_written() {
        let file = [HELLO, EMPTY].concat();
        assert_eq!(read(&file), Ok(vec![Bytes::from("hello"), Bytes::new()]));
        let mut written = Vec::new();
        append(&mut written, b"hello");
        append(&mut written, b"");
        assert_eq!(written, file);
        assert_eq!(read(&[]), Ok(Vec::new()));
    }

    #[test]
    fn each_flipped_bit_is_noticed_where_it_is() {
        let file = [HELLO, HELLO].concat();
        for byte in 0..file.len() {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[byte] ^= 1 << bit;
                let parts = [(0..12, 0), (12..21, 12), (21..33, 21), (33..42, 33)];
                let (_, offset) = parts.iter().find(|(part, _)| part.contains(&byte)).unwrap();
                let error = RecordError::Corrupted { offset: *offset };
                assert_eq!(read(&damaged), Err(error), "bit {bit} of byte {byte}");
            }
        }
    }

    #[test]
    fn a_file_that_is_cut_is_truncated_at_the_record_that_it_lost() {
        let file = [HELLO, HELLO].concat();
        for length in (1..21).chain(22..42) {
            let offset = if length < 21 { 0 } else { 21 };
            assert_eq!(read(&file[..length]), Err(RecordError::Truncated { offset }), "{length}");
        }
    }

    #[test]
    fn a_length_that_lies_takes_no_memory() {
        for length in [6, u64::from(u32::MAX), u64::MAX - 3, u64::MAX] {
            let header = length.to_le_bytes();
            let file =
                [&header[..], &masked_checksum(&header).to_le_bytes(), b"hello....."].concat();
            let error = read(&file).unwrap_err();
            let expected = if length == 6 {
                RecordError::Corrupted { offset: 12 }
            } else {
                RecordError::Truncated { offset: 0 }
            };
            assert_eq!(error, expected, "{length}");
        }
    }

    #[test]
    fn errors_have_tensorflows_texts() {
        let text = |file: &[u8]| read(file).unwrap_err().to_string();
        assert_eq!(
            text(b"a text of more than twelve bytes"),
            "corrupted record at 0 (Is this even a TFRecord file?)"
        );
        assert_eq!(
            text(&HELLO[..14]),
            "truncated record at 0' failed with Read less bytes than requested"
        );
        let second = [HELLO, b"a text of more than twelve bytes"].concat();
        assert_eq!(text(&second), "corrupted record at 21");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(records: Vec<Vec<u8>>) {
            let mut file = Vec::new();
            for record in &records {
                append(&mut file, record);
            }
            let found = read(&file).unwrap();
            prop_assert_eq!(found, records.into_iter().map(Bytes::from).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_end(file: Vec<u8>) {
            let _ = read(&file);
        }
    }
}
