//! Captures made by hand, and the whole of a source at once.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::io::Cursor;
use std::path::PathBuf;

use serveflow_io::{Batch, CaptureReader, OwnedFrame, Source, SourceError};

/// Byte order of a made capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

/// Both byte orders.
pub(crate) const ORDERS: [Order; 2] = [Order::Little, Order::Big];

/// Bytes of a made capture.
#[derive(Clone)]
pub(crate) struct Bytes {
    pub(crate) order: Order,
    pub(crate) out: Vec<u8>,
}

impl Bytes {
    pub(crate) fn new(order: Order) -> Self {
        Self { order, out: Vec::new() }
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        let bytes =
            if self.order == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() };
        self.raw(&bytes)
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        let bytes =
            if self.order == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() };
        self.raw(&bytes)
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        let bytes =
            if self.order == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() };
        self.raw(&bytes)
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    /// Zeros up to a multiple of four.
    pub(crate) fn pad(&mut self) -> &mut Self {
        self.out.resize(self.out.len().next_multiple_of(4), 0);
        self
    }

    /// A pcap file header.
    pub(crate) fn pcap_header(&mut self, magic: u32, link: u32) -> &mut Self {
        self.u32(magic).u16(2).u16(4).u32(0).u32(0).u32(65535).u32(link)
    }

    /// A pcap record.
    pub(crate) fn record(&mut self, seconds: u32, units: u32, wire: u32, data: &[u8]) -> &mut Self {
        self.u32(seconds).u32(units).u32(data.len() as u32).u32(wire).raw(data)
    }

    /// A pcapng block.
    pub(crate) fn block(&mut self, kind: u32, body: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.out.len();
        self.u32(kind).u32(0);
        body(self);
        self.pad();
        let len = (self.out.len() - start + 4) as u32;
        self.u32(len);
        let patch = Self::new(self.order).u32(len).out.clone();
        self.out[start + 4..start + 8].copy_from_slice(&patch);
        self
    }

    /// A section header block.
    pub(crate) fn section(&mut self) -> &mut Self {
        self.block(0x0a0d_0d0a, |b| {
            b.u32(0x1a2b_3c4d).u16(1).u16(0).u64(u64::MAX);
        })
    }

    /// An interface block with options made by `options`.
    pub(crate) fn interface(
        &mut self,
        link: u16,
        snaplen: u32,
        options: impl FnOnce(&mut Self),
    ) -> &mut Self {
        self.block(1, |b| {
            b.u16(link).u16(0).u32(snaplen);
            options(b);
        })
    }

    /// An option.
    pub(crate) fn option(&mut self, code: u16, value: &[u8]) -> &mut Self {
        self.u16(code).u16(value.len() as u16).raw(value).pad()
    }

    /// An enhanced packet block with options made by `options`.
    pub(crate) fn enhanced(
        &mut self,
        interface: u32,
        ticks: u64,
        wire: u32,
        data: &[u8],
        options: impl FnOnce(&mut Self),
    ) -> &mut Self {
        self.block(6, |b| {
            b.u32(interface).u32((ticks >> 32) as u32).u32(ticks as u32);
            b.u32(data.len() as u32).u32(wire).raw(data).pad();
            options(b);
        })
    }
}

/// A reader over bytes in memory.
pub(crate) fn open(bytes: &[u8]) -> Result<CaptureReader, SourceError> {
    CaptureReader::new("test.pcap", Cursor::new(bytes.to_vec()))
}

/// All frames of a source, and all its errors.
pub(crate) fn drain(
    source: &mut dyn Source,
    max_frames: usize,
) -> (Vec<OwnedFrame>, Vec<SourceError>) {
    let (mut batch, mut frames, mut errors) = (Batch::new(), Vec::new(), Vec::new());
    loop {
        match source.fill(&mut batch, max_frames) {
            Ok(0) => break,
            Ok(count) => {
                assert_eq!(count, batch.len());
                assert!(count <= max_frames.max(1));
                let packets = batch.iter().enumerate();
                frames.extend(packets.map(|(i, p)| OwnedFrame::new(&p, batch.note(i))));
            }
            Err(error) => {
                assert!(batch.is_empty(), "an error comes without frames");
                errors.push(error);
            }
        }
    }
    assert!(matches!(source.fill(&mut batch, 9), Ok(0)), "the end stays the end");
    (frames, errors)
}

/// All frames of a capture in memory, and how it ended.
pub(crate) fn read(bytes: &[u8]) -> (Vec<OwnedFrame>, Option<SourceError>) {
    match open(bytes) {
        Ok(mut reader) => {
            let (frames, mut errors) = drain(&mut reader, 64);
            assert!(errors.len() <= 1, "these captures have one error at most");
            (frames, errors.pop())
        }
        Err(error) => (Vec::new(), Some(error)),
    }
}

/// All frames of a capture that is whole.
pub(crate) fn read_whole(bytes: &[u8]) -> Vec<OwnedFrame> {
    let (frames, error) = read(bytes);
    assert!(error.is_none(), "{}", error.unwrap());
    frames
}

/// The captures that lie beside the tests, sorted by name.
pub(crate) fn fixtures() -> Vec<PathBuf> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/captures");
    let all = serveflow_io::InputSet::find(&[root]).unwrap().paths();
    all.into_iter().filter(|path| is_capture(path)).collect()
}

/// Whether a file's name is that of a capture.
pub(crate) fn is_capture(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pcap" || extension == "pcapng")
}

/// The bytes in gzip.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// The bytes in zstd.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}
