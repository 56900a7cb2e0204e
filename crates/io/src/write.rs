//! Writing captures, for tests and for cutting samples.

use std::io::{self, Write};

use serveflow_core::packet::{LinkType, Packet};

/// Writes a classic capture in nanoseconds, least significant byte first.
///
/// Each call writes straight to the writer: hand in a buffered one.
pub struct PcapWriter<W: Write> {
    writer: W,
    link: LinkType,
}

impl<W: Write> PcapWriter<W> {
    /// Starts a capture of frames of one link type, and writes its header.
    ///
    /// `snaplen` is the length in bytes at which the frames were cut; 262144 stands for "uncut".
    ///
    /// # Errors
    /// When the writer fails.
    pub fn new(mut writer: W, link: LinkType, snaplen: u32) -> io::Result<Self> {
        let mut header = [0; 24];
        header[..4].copy_from_slice(&crate::capture::NANOSECONDS.to_le_bytes());
        header[4] = 2;
        header[6] = 4;
        header[16..20].copy_from_slice(&snaplen.to_le_bytes());
        header[20..24].copy_from_slice(&u32::from(link_number(link)).to_le_bytes());
        writer.write_all(&header)?;
        Ok(Self { writer, link })
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// When the writer fails, or with `InvalidInput` when the frame is of another link type or does
    /// not fit the format: later than the year 2106, or 4 GiB long.
    pub fn write(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let refuse = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if packet.link != self.link {
            return refuse("a pcap file holds frames of one link type");
        }
        let Ok(seconds) = u32::try_from(packet.ts_ns / 1_000_000_000) else {
            return refuse("a pcap file holds times up to the year 2106");
        };
        let Ok(len) = u32::try_from(packet.data.len()) else {
            return refuse("a pcap file holds frames shorter than 4 GiB");
        };
        let nanoseconds = (packet.ts_ns % 1_000_000_000) as u32;
        let mut header = [0; 16];
        for (slot, value) in
            header.chunks_exact_mut(4).zip([seconds, nanoseconds, len, packet.orig_len.max(len)])
        {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        self.writer.write_all(&header)?;
        self.writer.write_all(packet.data)
    }

    /// Flushes the writer and hands it back.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.writer.flush()?;
        Ok(self.writer)
    }
}

/// The LINKTYPE number that a capture file carries for a link type.
#[must_use]
pub fn link_number(link: LinkType) -> u16 {
    link.number()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CaptureReader, MemorySource, OwnedFrame};
    use std::io::Cursor;

    #[test]
    fn what_is_written_is_read_back() {
        let frames = [(0, 0, vec![]), (1_700_000_000_123_456_789, 1500, vec![7; 60])];
        let mut writer = PcapWriter::new(Vec::new(), LinkType::RawIp, 192).unwrap();
        for (ts_ns, orig_len, data) in &frames {
            let (ts_ns, orig_len) = (*ts_ns, *orig_len);
            writer.write(&Packet { ts_ns, orig_len, link: LinkType::RawIp, data }).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let mut reader = CaptureReader::new("memory", Cursor::new(bytes)).unwrap();
        let read = MemorySource::read(&mut reader).unwrap();
        let expected = frames.map(|(ts_ns, orig_len, data)| {
            let link = LinkType::RawIp;
            OwnedFrame { ts_ns, orig_len, link, data, note: None }
        });
        assert_eq!(read.frames(), expected);
    }

    #[test]
    fn frames_that_do_not_fit_are_refused() {
        let mut writer = PcapWriter::new(Vec::new(), LinkType::Ethernet, 0).unwrap();
        let packet = Packet { ts_ns: 0, orig_len: 1, link: LinkType::RawIp, data: &[0] };
        assert_eq!(writer.write(&packet).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let packet = Packet { ts_ns: u64::MAX, link: LinkType::Ethernet, ..packet };
        assert_eq!(writer.write(&packet).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn numbers_and_link_types_agree() {
        for number in 0..=u16::MAX {
            let link = LinkType::from_number(number);
            assert_eq!(LinkType::from_number(link_number(link)), link);
        }
    }
}
