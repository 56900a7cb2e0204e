//! UBJSON (draft 12, <https://ubjson.org>), as XGBoost writes it, into JSON values.

use serde_json::{Map, Number, Value};

/// Deepest nesting: as deep as the JSON reader goes.
const MOST_DEPTH: usize = 128;

/// Reads a whole file; what is wrong is said with its offset. What is allocated is bounded by its
/// length.
pub(super) fn value(bytes: &[u8]) -> Result<Value, String> {
    let mut reader = Reader { bytes, at: 0 };
    let kind = reader.byte()?;
    let value = reader.value(kind, MOST_DEPTH)?;
    // Padding behind the end is of no account.
    match reader.bytes[reader.at..].iter().all(|&byte| byte == b'N') {
        true => Ok(value),
        false => reader.wrong("the end of the file"),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A container's head: the kind of its values if they are all of one, and how many there are if
/// that is known beforehand.
struct Shape {
    kind: Option<u8>,
    count: Option<usize>,
}

impl Reader<'_> {
    fn wrong<T>(&self, expected: &str) -> Result<T, String> {
        Err(match self.bytes.get(self.at) {
            Some(byte) => format!("byte {}: expected {expected}, found {byte:#04x}", self.at),
            None => format!("byte {}: expected {expected}, found the end of the file", self.at),
        })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let found = self.bytes[self.at..].first_chunk::<N>();
        let Some(found) = found else {
            self.at = self.bytes.len();
            return self.wrong("more bytes");
        };
        self.at += N;
        Ok(*found)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn integer(&mut self, kind: u8) -> Result<i64, String> {
        Ok(match kind {
            b'i' => i8::from_be_bytes(self.take()?).into(),
            b'U' => self.byte()?.into(),
            b'I' => i16::from_be_bytes(self.take()?).into(),
            b'l' => i32::from_be_bytes(self.take()?).into(),
            b'L' => i64::from_be_bytes(self.take()?),
            _ => {
                self.at -= 1;
                return self.wrong("an integer");
            }
        })
    }

    fn length(&mut self) -> Result<usize, String> {
        let kind = self.byte()?;
        let length = self.integer(kind)?;
        match usize::try_from(length) {
            Ok(length) => Ok(length),
            Err(_) => self.wrong("a length of 0 or more before this"),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        let length = self.length()?;
        let Some(bytes) = self.bytes[self.at..].get(..length) else {
            return self.wrong(&format!("{length} bytes of text"));
        };
        let Ok(text) = std::str::from_utf8(bytes) else { return self.wrong("text in UTF-8") };
        self.at += length;
        Ok(text.to_owned())
    }

    /// A value of a kind whose marker was read.
    fn value(&mut self, kind: u8, depth: usize) -> Result<Value, String> {
        let float = |value: f64| Number::from_f64(value).map_or(Value::Null, Value::Number);
        Ok(match kind {
            b'Z' => Value::Null,
            b'T' => Value::Bool(true),
            b'F' => Value::Bool(false),
            b'd' => float(f32::from_be_bytes(self.take()?).into()),
            b'D' => float(f64::from_be_bytes(self.take()?)),
            b'C' => Value::String(char::from(self.byte()?).to_string()),
            b'S' | b'H' => Value::String(self.text()?),
            b'[' | b'{' if depth == 0 => return self.wrong("fewer levels of nesting"),
            b'[' => self.array(depth - 1)?,
            b'{' => self.object(depth - 1)?,
            kind => Value::from(self.integer(kind)?),
        })
    }

    fn shape(&mut self) -> Result<Shape, String> {
        let mut shape = Shape { kind: None, count: None };
        if self.peek() == Some(b'$') {
            self.at += 1;
            let kind = self.byte()?;
            // Values without bytes could be there in any number.
            if b"ZTFN".contains(&kind) {
                self.at -= 1;
                return self.wrong("values that take bytes");
            }
            shape.kind = Some(kind);
        }
        if self.peek() == Some(b'#') {
            self.at += 1;
            shape.count = Some(self.length()?);
        } else if shape.kind.is_some() {
            return self.wrong("a count");
        }
        Ok(shape)
    }

    fn kind(&mut self, shape: &Shape) -> Result<u8, String> {
        shape.kind.map_or_else(|| self.byte(), Ok)
    }

    fn array(&mut self, depth: usize) -> Result<Value, String> {
        let shape = self.shape()?;
        let mut values = Vec::new();
        while self.goes_on(&shape, values.len(), b']') {
            let kind = self.kind(&shape)?;
            values.push(self.value(kind, depth)?);
        }
        Ok(Value::Array(values))
    }

    fn object(&mut self, depth: usize) -> Result<Value, String> {
        let shape = self.shape()?;
        let mut values = Map::new();
        let mut read = 0;
        while self.goes_on(&shape, read, b'}') {
            let key = self.text()?;
            let kind = self.kind(&shape)?;
            values.insert(key, self.value(kind, depth)?);
            read += 1;
        }
        Ok(Value::Object(values))
    }

    /// Whether a container has another value; takes its end where it has one.
    fn goes_on(&mut self, shape: &Shape, read: usize, end: u8) -> bool {
        if let Some(count) = shape.count {
            return read < count;
        }
        let over = self.peek() == Some(end);
        self.at += usize::from(over);
        !over
    }
}

#[cfg(test)]
mod tests {
    use super::value;
    use serde_json::json;

    #[test]
    fn each_kind_of_value_is_read() {
        let file = b"{U\x01a[$d#i\x02\x3f\x80\0\0\x40\0\0\0i\x01b[ZTFi\xffU\xffI\x01\0l\0\x01\0\0L\
                     \0\0\0\0\0\0\0\x05]i\x01cSi\x02hii\x01d{#i\x01i\x01xD\x3f\xe0\0\0\0\0\0\0}";
        let expected = json!({
            "a": [1.0, 2.0], "b": [null, true, false, -1, 255, 256, 65536, 5], "c": "hi",
            "d": {"x": 0.5}
        });
        assert_eq!(value(file).unwrap(), expected);
        for cut in 0..file.len() {
            let error = value(&file[..cut]).unwrap_err();
            assert!(error.starts_with("byte ") && error.contains("expected"), "{cut}: {error}");
        }
    }

    #[test]
    fn what_would_grow_without_bound_is_refused() {
        assert!(value(b"[$Z#L\x7f\0\0\0\0\0\0\0").unwrap_err().contains("values that take bytes"));
        assert!(value(b"[#L\x7f\0\0\0\0\0\0\0").unwrap_err().contains("end of the file"));
        assert!(value(&[b'['; 1000]).unwrap_err().contains("fewer levels"));
        assert!(value(b"Sl\x7f\0\0\0").unwrap_err().contains("bytes of text"));
        assert!(value(b"[$i").unwrap_err().contains("a count"));
        assert!(value(b"i\x01i\x02").unwrap_err().contains("the end of the file"));
    }
}
