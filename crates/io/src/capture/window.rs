//! A sliding view of an input, read in large blocks into one reused buffer.

use std::io::{self, Read};

use super::formats::Bytes;
use crate::batch::{Batch, Block};
use std::sync::Arc;

/// Bytes asked of the input at once. Larger blocks fall out of the core's own cache.
pub(crate) const BLOCK: usize = 256 * 1024;

/// The bytes of an input that are read but not yet used.
///
/// Batches borrow the buffer for their frames. Whoever still holds such a batch when more is read
/// keeps the buffer, and the window goes on in another one.
pub(crate) struct Window {
    input: Bytes,
    buffer: Block,
    /// Buffers that batches held when they were left: used again when they are free.
    left: Vec<Block>,
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
        Self {
            input,
            buffer: Arc::new(buffer),
            left: Vec::new(),
            start: 0,
            end: 0,
            base: 0,
            ended: false,
        }
    }

    /// The unused bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Lends a batch the unused bytes.
    pub(crate) fn lend_to(&self, batch: &mut Batch) {
        batch.lend(&self.buffer, self.start);
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
            let end = self.make_room(want);
            let buffer = Arc::get_mut(&mut self.buffer).expect("room was made in a buffer of ours");
            match self.input.read(&mut buffer[end..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Moves the unused bytes to the front, and doubles a buffer that they fill; where they end.
    ///
    /// Doubling as bytes arrive keeps a lying length field from claiming memory by itself.
    fn make_room(&mut self, want: usize) -> usize {
        let (start, end) = (self.start, self.end);
        if Arc::get_mut(&mut self.buffer).is_none() {
            let mut other = self.free_buffer();
            let bytes = Arc::get_mut(&mut other).expect("a free buffer");
            bytes[..end - start].copy_from_slice(&self.buffer[start..end]);
            self.left.push(std::mem::replace(&mut self.buffer, other));
        } else if start > 0 {
            Arc::make_mut(&mut self.buffer).copy_within(start..end, 0);
        }
        self.base += start as u64;
        self.end -= start;
        self.start = 0;
        if self.end == self.buffer.len() {
            let target = (self.buffer.len() * 2).min(want.max(self.buffer.len() + BLOCK));
            Arc::make_mut(&mut self.buffer).resize(target, 0);
        }
        self.end
    }

    /// A buffer that nobody holds and that is no smaller than this one.
    fn free_buffer(&mut self) -> Block {
        let len = self.buffer.len();
        let is_free = |block: &mut Block| block.len() >= len && Arc::get_mut(block).is_some();
        match self.left.iter_mut().position(is_free) {
            Some(at) => self.left.swap_remove(at),
            None => Arc::new(vec![0; len]),
        }
    }

    /// Replaces the input by one that wraps what is left of it, unused bytes included.
    ///
    /// # Errors
    /// Those of `wrap`.
    pub(crate) fn rewrap(self, wrap: impl FnOnce(Bytes) -> io::Result<Bytes>) -> io::Result<Self> {
        let head = io::Cursor::new(self.bytes().to_vec());
        let input = wrap(Box::new(head.chain(self.input)))?;
        Ok(Self::new(input, Arc::unwrap_or_clone(self.buffer)))
    }

    /// The buffer, for the next window; an empty one where a batch still holds it.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        let mut buffer = Arc::try_unwrap(self.buffer).unwrap_or_default();
        // One oversized record should not keep its memory for all files that follow.
        buffer.truncate(BLOCK);
        buffer.shrink_to_fit();
        buffer
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
