//! Compressed streams: members one behind another, and what may stand behind the last one.
//!
//! Zeros behind a member are padding, as of tapes and block devices, and other bytes that begin no
//! member are none of the capture's: they end the stream, and are counted. Those that begin another
//! capture, plain or compressed otherwise, are named as such.

use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use flate2::bufread::GzDecoder;
use zstd::stream::raw::{Decoder, Operation};

use super::formats::{Bytes, GZIP, ZSTD, kind_of};

/// Compressed bytes that are read at once.
const BLOCK: usize = 64 * 1024;
/// Bytes that tell whether a member begins.
const MAGIC_LEN: usize = 4;

/// Bytes behind the last member that belong to none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leftover(Arc<Behind>);

#[derive(Debug, Default)]
struct Behind {
    bytes: AtomicU64,
    begins: OnceLock<&'static str>,
}

impl Leftover {
    /// How many were found until now.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// The capture format or compression that they begin as.
    pub(crate) fn begins(&self) -> Option<&'static str> {
        self.0.begins.get().copied()
    }
}

/// A gzip stream, undone.
pub(super) fn gzip(input: Bytes, leftover: Leftover) -> io::Result<Bytes> {
    let member = GzipMember(Some(GzDecoder::new(Ahead::new(input))));
    Ok(Box::new(Members::new(member, leftover)))
}

/// A Zstandard stream, undone.
pub(super) fn zstd(input: Bytes, leftover: Leftover) -> io::Result<Bytes> {
    let decoder = Decoder::new()?;
    let frame = ZstdFrame { decoder, input: Ahead::new(input), is_done: false };
    Ok(Box::new(Members::new(frame, leftover)))
}

/// Input of which the first bytes can be looked at.
struct Ahead {
    input: Bytes,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Ahead {
    fn new(input: Bytes) -> Self {
        Self { input, buffer: vec![0; BLOCK], start: 0, end: 0 }
    }

    /// Reads until so many bytes are there; fewer come only at the end.
    fn peek(&mut self, want: usize) -> io::Result<&[u8]> {
        while self.end - self.start < want {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }
}

impl Read for Ahead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
    }
}

/// A part of a stream that ends by itself.
trait Member: Read {
    /// Whether one begins with these bytes, which are fewer than asked for only at the input's end.
    fn begins(head: &[u8]) -> bool;

    /// What is read from.
    fn input(&mut self) -> &mut Ahead;

    /// Goes on with the next one, which begins in the input.
    fn next(&mut self) -> io::Result<()>;
}

/// A whole stream.
struct Members<M> {
    member: M,
    leftover: Leftover,
    /// Whether a member has ended and no other one has begun.
    is_between: bool,
    is_over: bool,
}

impl<M: Member> Members<M> {
    /// A stream that begins with this member.
    fn new(member: M, leftover: Leftover) -> Self {
        Self { member, leftover, is_between: false, is_over: false }
    }

    /// Goes on to the next member; false where there is none.
    fn go_on(&mut self) -> io::Result<bool> {
        let input = self.member.input();
        loop {
            let head = input.peek(MAGIC_LEN)?;
            let zeros = head.iter().take_while(|&&byte| byte == 0).count();
            match head {
                [] => return Ok(false),
                [0, ..] => input.consume(zeros),
                head if M::begins(head) => break,
                head => {
                    let behind = &self.leftover.0;
                    if let Some(kind) = kind_of(head) {
                        // A stream ends once.
                        behind.begins.get_or_init(|| kind);
                    }
                    behind.bytes.store(rest(input)?, Ordering::Relaxed);
                    return Ok(false);
                }
            }
        }
        self.member.next()?;
        Ok(true)
    }
}

impl<M: Member> Read for Members<M> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.is_over && !out.is_empty() {
            if self.is_between {
                self.is_over = !self.go_on()?;
                self.is_between = false;
                continue;
            }
            match self.member.read(out)? {
                0 => self.is_between = true,
                count => return Ok(count),
            }
        }
        Ok(0)
    }
}

/// Reads to the end; how many bytes that were.
fn rest(input: &mut Ahead) -> io::Result<u64> {
    let mut bytes = 0;
    loop {
        let count = input.fill_buf()?.len();
        if count == 0 {
            return Ok(bytes);
        }
        input.consume(count);
        bytes += count as u64;
    }
}

/// There is no decoder only while one is made of another.
struct GzipMember(Option<GzDecoder<Ahead>>);

impl GzipMember {
    fn decoder(&mut self) -> &mut GzDecoder<Ahead> {
        self.0.as_mut().expect("a decoder is put back at once")
    }
}

impl Read for GzipMember {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.decoder().read(out)
    }
}

impl Member for GzipMember {
    fn begins(head: &[u8]) -> bool {
        GZIP.begins(head) || GZIP.may_begin(head)
    }

    fn input(&mut self) -> &mut Ahead {
        self.decoder().get_mut()
    }

    fn next(&mut self) -> io::Result<()> {
        let input = self.0.take().map(GzDecoder::into_inner);
        self.0 = input.map(GzDecoder::new);
        Ok(())
    }
}

struct ZstdFrame {
    decoder: Decoder<'static>,
    input: Ahead,
    is_done: bool,
}

impl Read for ZstdFrame {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.is_done {
            let bytes = self.input.fill_buf()?;
            let is_end = bytes.is_empty();
            let status = self.decoder.run_on_buffers(bytes, out)?;
            self.input.consume(status.bytes_read);
            self.is_done = status.remaining == 0;
            if status.bytes_written > 0 {
                return Ok(status.bytes_written);
            }
            if is_end && !self.is_done {
                let message = "a frame is not there in full";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
            }
        }
        Ok(0)
    }
}

impl Member for ZstdFrame {
    fn begins(head: &[u8]) -> bool {
        ZSTD.begins(head) || ZSTD.may_begin(head)
    }

    fn input(&mut self) -> &mut Ahead {
        &mut self.input
    }

    fn next(&mut self) -> io::Result<()> {
        self.is_done = false;
        self.decoder.reinit()
    }
}
