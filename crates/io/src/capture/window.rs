//! A sliding view of an input, read in large blocks into one reused buffer.

use std::io::{self, Read};

use super::formats::Bytes;

/// Bytes asked of the input at once. Larger blocks fall out of the core's own cache.
pub(crate) const BLOCK: usize = 256 * 1024;

/// The bytes of an input that are read but not yet used.
pub(crate) struct Window {
    input: Bytes,
    buffer: Vec<u8>,
    /// First unused byte in `buffer`.
    start: usize,
    /// End of the bytes read into `buffer`.
    end: usize,
    /// Offset of `buffer[0]` in the input.
    base: u64,
    ended: bool,
}

impl Window {
    /// A window at the start of `input`. The memory of `buffer` is reused, not its content.
    pub(crate) fn new(input: Bytes, mut buffer: Vec<u8>) -> Self {
        if buffer.len() < BLOCK {
            // A fresh vector comes zeroed from the system, page by page as it is touched.
            buffer = vec![0; BLOCK];
        }
        Self { input, buffer, start: 0, end: 0, base: 0, ended: false }
    }

    /// The unused bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Offset of the first unused byte in the input.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Offset of the first byte that has not been read.
    pub(crate) fn read_to(&self) -> u64 {
        self.base + self.end as u64
    }

    /// Marks `count` of the unused bytes as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.end, "only bytes that were read are used");
    }

    /// Reads until at least `want` bytes are unused; `false` when the input ends before that.
    ///
    /// One read is enough in most cases: whatever it brings beyond `want` is welcome, but is not
    /// waited for.
    pub(crate) fn ensure(&mut self, want: usize) -> io::Result<bool> {
        while self.end - self.start < want {
            if self.ended {
                return Ok(false);
            }
            self.make_room(want);
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Moves the unused bytes to the front, and doubles a buffer that they fill.
    ///
    /// Doubling as bytes arrive keeps a lying length field from claiming memory by itself.
    fn make_room(&mut self, want: usize) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.base += self.start as u64;
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            let target = (self.buffer.len() * 2).min(want.max(self.buffer.len() + BLOCK));
            self.buffer.resize(target, 0);
        }
    }

    /// Replaces the input by one that wraps what is left of it, unused bytes included.
    ///
    /// # Errors
    /// Those of `wrap`.
    pub(crate) fn rewrap(self, wrap: impl FnOnce(Bytes) -> io::Result<Bytes>) -> io::Result<Self> {
        let head = io::Cursor::new(self.bytes().to_vec());
        let input = wrap(Box::new(head.chain(self.input)))?;
        Ok(Self::new(input, self.buffer))
    }

    /// The buffer, for the next window.
    pub(crate) fn into_buffer(mut self) -> Vec<u8> {
        // One oversized record should not keep its memory for all files that follow.
        self.buffer.truncate(BLOCK);
        self.buffer.shrink_to_fit();
        self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out at most three bytes at a time, with an interruption before each.
    struct Trickle {
        next: u8,
        end: u8,
        interrupt: bool,
    }

    impl Read for Trickle {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.interrupt = !self.interrupt;
            if self.interrupt {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = out.len().min(3).min(usize::from(self.end - self.next));
            for slot in &mut out[..count] {
                *slot = self.next;
                self.next += 1;
            }
            Ok(count)
        }
    }

    #[test]
    fn bytes_arrive_in_order_and_offsets_follow() {
        let input = Trickle { next: 0, end: 10, interrupt: false };
        let mut window = Window::new(Box::new(input), Vec::new());
        assert!(window.ensure(4).unwrap());
        assert_eq!(window.bytes(), [0, 1, 2, 3, 4, 5]);
        window.consume(5);
        assert_eq!((window.offset(), window.read_to()), (5, 6));
        assert!(window.ensure(5).unwrap());
        assert_eq!(window.bytes(), [5, 6, 7, 8, 9]);
        assert!(!window.ensure(6).unwrap());
        assert_eq!((window.offset(), window.read_to()), (5, 10));
    }

    #[test]
    fn the_buffer_grows_with_the_bytes_and_not_with_the_wish() {
        let input = io::repeat(7).take(3 * BLOCK as u64);
        let mut window = Window::new(Box::new(input), Vec::new());
        assert!(!window.ensure(1 << 30).unwrap());
        assert_eq!(window.bytes().len(), 3 * BLOCK);
        assert!(window.buffer.len() <= 8 * BLOCK);
        assert_eq!(window.into_buffer().len(), BLOCK);
    }
}
