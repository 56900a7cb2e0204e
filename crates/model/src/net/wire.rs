//! Fields of a Protocol Buffers message, one after the other, without a copy.
//!
//! Just enough to look into an ONNX file before a runtime does, and to write it anew without what a
//! runtime must not believe: field numbers, integers, and bytes.

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// A whole number.
    Int(u64),
    /// A string, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Four or eight bytes whose meaning does not matter here.
    Fixed,
}

impl<'a> Value<'a> {
    /// The bytes, or none where the field is a number.
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// Whole numbers: one, or many that are packed.
    ///
    /// # Errors
    /// When packed numbers are cut off.
    pub(super) fn ints(self, out: &mut Vec<u64>) -> Result<(), Damaged> {
        match self {
            Self::Int(value) => out.push(value),
            Self::Bytes(mut rest) => {
                while !rest.is_empty() {
                    out.push(varint(&mut rest)?);
                }
            }
            Self::Fixed => return Err(Damaged),
        }
        Ok(())
    }
}

/// The message is cut off, or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// The fields of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<(u64, Value<'a>), Damaged> {
        let key = varint(&mut self.0)?;
        let value = match key & 7 {
            0 => Value::Int(varint(&mut self.0)?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = varint(&mut self.0)?;
                Value::Bytes(self.take(usize::try_from(len).map_err(|_| Damaged)?)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Damaged),
        };
        // No field has number 0, and none in ONNX is large: what is, is no ONNX.
        if key >> 3 == 0 || key >> 3 > 1 << 16 { Err(Damaged) } else { Ok((key >> 3, value)) }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            // Nothing that follows damage means anything.
            self.0 = &[];
        }
        Some(read)
    }
}

fn varint(rest: &mut &[u8]) -> Result<u64, Damaged> {
    let mut value = 0;
    for at in 0..10 {
        let (&byte, after) = rest.split_first().ok_or(Damaged)?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Damaged)
}

/// Writes a field of bytes.
pub(super) fn put(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(number << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Writes a field that is a whole number.
pub(super) fn put_int(number: u64, value: u64, out: &mut Vec<u8>) {
    put_varint(number << 3, out);
    put_varint(value, out);
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_damage_ends_them() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i', 0x1d, 1, 2, 3, 4];
        let read = |bytes| Fields(bytes).collect::<Result<Vec<_>, _>>();
        let all = [(1, Value::Int(150)), (2, Value::Bytes(b"hi")), (3, Value::Fixed)];
        assert_eq!(read(&bytes), Ok(all.to_vec()));
        for cut in [1, 2, 4, 5, 6, 8, 11] {
            assert_eq!(read(&bytes[..cut]), Err(Damaged), "cut at {cut}");
        }
        assert_eq!(read(&[0x00, 0x01]), Err(Damaged));
        assert_eq!(read(&[0x0b]), Err(Damaged));
        assert_eq!(
            read(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
            Err(Damaged)
        );
        assert_eq!(Fields(&[0xff; 3]).count(), 1);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut written = Vec::new();
        put(2, &[7; 300], &mut written);
        put_int(1, u64::MAX, &mut written);
        let read = Fields(&written).collect::<Result<Vec<_>, _>>();
        assert_eq!(read, Ok(vec![(2, Value::Bytes(&[7; 300])), (1, Value::Int(u64::MAX))]));
    }

    #[test]
    fn whole_numbers_come_alone_or_packed() {
        let mut ints = Vec::new();
        Value::Int(7).ints(&mut ints).unwrap();
        Value::Bytes(&[1, 0x80, 1]).ints(&mut ints).unwrap();
        assert_eq!(ints, [7, 1, 128]);
        assert_eq!(Value::Bytes(&[0x80]).ints(&mut ints), Err(Damaged));
    }
}
