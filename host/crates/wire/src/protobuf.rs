//! One protobuf message, field by field, without copying and without believing a
//! length: what the generated types would build first is bounded here instead.

use std::ops::RangeInclusive;

use bytes::{Buf as _, Bytes, BytesMut};

/// The ways in which bytes can fail to be a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the message is cut short")]
    Truncated,
    #[error("a varint is longer than ten bytes")]
    Varint,
    #[error("field number {0} is not allowed")]
    Number(u64),
    #[error("wire type {0} is not supported")]
    Type(u64),
    #[error("a name is not UTF-8")]
    Utf8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Varint(u64),
    Fixed64(Bytes),
    Bytes(Bytes),
    Fixed32(Bytes),
    /// Left unread: no message here has one, but an unknown field may be.
    Group,
}

/// Groups inside each other, as in Google's parsers.
const MOST_GROUPS: usize = 100;

/// The fields of a message in the order of the wire; ends after the first error.
#[derive(Clone, Debug)]
pub(crate) struct Fields(Bytes);

impl Fields {
    pub(crate) fn new(message: Bytes) -> Self {
        Self(message)
    }

    fn read(&mut self) -> Result<(u32, Value), WireError> {
        let key = varint(&mut self.0)?;
        let number = key >> 3;
        let field = u32::try_from(number)
            .ok()
            .filter(|n| (1..1 << 29).contains(n))
            .ok_or(WireError::Number(number))?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.0)?),
            1 => Value::Fixed64(take(&mut self.0, 8)?),
            2 => {
                let length = varint(&mut self.0)?;
                let length = usize::try_from(length).map_err(|_| WireError::Truncated)?;
                Value::Bytes(take(&mut self.0, length)?)
            }
            3 => {
                skip_group(&mut self.0, number)?;
                Value::Group
            }
            5 => Value::Fixed32(take(&mut self.0, 4)?),
            other => return Err(WireError::Type(other)),
        };
        Ok((field, value))
    }
}

/// Reads to the end of group `number`, whose start was read.
fn skip_group(bytes: &mut Bytes, number: u64) -> Result<(), WireError> {
    let mut open = vec![number];
    while let Some(&innermost) = open.last() {
        let key = varint(bytes)?;
        match key & 7 {
            0 => drop(varint(bytes)?),
            1 => drop(take(bytes, 8)?),
            2 => {
                let length = varint(bytes)?;
                let length = usize::try_from(length).map_err(|_| WireError::Truncated)?;
                take(bytes, length)?;
            }
            3 if open.len() < MOST_GROUPS => open.push(key >> 3),
            4 if key >> 3 == innermost => drop(open.pop()),
            5 => drop(take(bytes, 4)?),
            other => return Err(WireError::Type(other)),
        }
    }
    Ok(())
}

impl Iterator for Fields {
    type Item = Result<(u32, Value), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0.clear();
        }
        Some(field)
    }
}

/// The occurrences of one embedded message, which together are that message.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    /// The only one so far, which is not copied.
    one: Bytes,
    all: BytesMut,
}

impl Merged {
    pub(crate) fn add(&mut self, more: Bytes) {
        if self.one.is_empty() && self.all.is_empty() {
            self.one = more;
            return;
        }
        self.all.extend_from_slice(&std::mem::take(&mut self.one));
        self.all.extend_from_slice(&more);
    }

    pub(crate) fn finish(self) -> Bytes {
        if self.all.is_empty() { self.one } else { self.all.freeze() }
    }
}

/// The message that a oneof of messages holds, by its field number: of several the
/// last, of its own occurrences all that follow each other.
pub(crate) fn one_of(
    message: Bytes,
    members: &RangeInclusive<u32>,
) -> Result<Option<(u32, Bytes)>, WireError> {
    let mut set: Option<(u32, Merged)> = None;
    for field in Fields::new(message) {
        let (number, Value::Bytes(value)) = field? else { continue };
        if !members.contains(&number) {
            continue;
        }
        match &mut set {
            Some((current, merged)) if *current == number => merged.add(value),
            _ => set = Some((number, Merged { one: value, all: BytesMut::new() })),
        }
    }
    Ok(set.map(|(number, merged)| (number, merged.finish())))
}

pub(crate) fn take(bytes: &mut Bytes, length: usize) -> Result<Bytes, WireError> {
    if length > bytes.len() {
        return Err(WireError::Truncated);
    }
    Ok(bytes.split_to(length))
}

/// Reads a varint off the front; bits above 64 are dropped, as every reader does.
pub(crate) fn varint(bytes: &mut Bytes) -> Result<u64, WireError> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            bytes.advance(i + 1);
            return Ok(value);
        }
    }
    Err(if bytes.len() < 10 { WireError::Truncated } else { WireError::Varint })
}

pub(crate) fn text(bytes: &Bytes) -> Result<String, WireError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| WireError::Utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u32, Value)>, WireError> {
        Fields::new(Bytes::copy_from_slice(bytes)).collect()
    }

    #[test]
    fn every_wire_type_is_read() {
        let fields = read(&[
            0x08, 0x96, 0x01, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x1a, 2, b'h', b'i', 0x25, 1, 2, 3, 4,
        ]);
        let expected = vec![
            (1, Value::Varint(150)),
            (2, Value::Fixed64(Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8]))),
            (3, Value::Bytes(Bytes::from_static(b"hi"))),
            (4, Value::Fixed32(Bytes::from_static(&[1, 2, 3, 4]))),
        ];
        assert_eq!(fields, Ok(expected));
    }

    #[test]
    fn of_a_oneof_the_last_member_counts_and_its_parts_are_one() {
        let read = |bytes: &'static [u8]| one_of(Bytes::from_static(bytes), &(1..=2));
        let set = |number, bytes| Ok(Some((number, Bytes::from_static(bytes))));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[0x1a, 1, 7]), Ok(None));
        assert_eq!(read(&[0x0a, 1, 7]), set(1, &[7]));
        assert_eq!(read(&[0x0a, 1, 7, 0x0a, 0, 0x0a, 2, 8, 9]), set(1, &[7, 8, 9]));
        assert_eq!(read(&[0x0a, 1, 7, 0x12, 1, 8]), set(2, &[8]));
        assert_eq!(read(&[0x0a, 1, 7, 0x12, 1, 8, 0x0a, 0]), set(1, &[]));
        assert_eq!(read(&[0x0a, 2, 7]), Err(WireError::Truncated));
    }

    #[test]
    fn a_group_is_skipped_with_all_in_it() {
        let inside = [0x08, 1, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x1a, 1, b'x', 0x25, 1, 2, 3, 4];
        let group = [&[0x2b, 0x33][..], &inside, &[0x34], &inside, &[0x2c, 0x08, 7]].concat();
        assert_eq!(read(&group), Ok(vec![(5, Value::Group), (1, Value::Varint(7))]));
        let nested = |depth| [[0x0b].repeat(depth), [0x0c].repeat(depth)].concat();
        assert_eq!(read(&nested(MOST_GROUPS)), Ok(vec![(1, Value::Group)]));
        assert_eq!(read(&nested(MOST_GROUPS + 1)), Err(WireError::Type(3)));
    }

    #[test]
    fn lies_are_named() {
        let table: [(&[u8], WireError); 10] = [
            (&[0x08], WireError::Truncated),
            (&[0x80], WireError::Truncated),
            (&[0x1a, 5, 1], WireError::Truncated),
            (
                &[0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                WireError::Truncated,
            ),
            (&[0x11, 1], WireError::Truncated),
            (&[0xff; 11], WireError::Varint),
            (&[0x00, 1], WireError::Number(0)),
            (&[0x0b], WireError::Truncated),
            (&[0x0b, 0x14], WireError::Type(4)),
            (&[0x0c], WireError::Type(4)),
        ];
        for (bytes, error) in table {
            assert_eq!(read(bytes), Err(error), "{bytes:?}");
        }
    }
}
