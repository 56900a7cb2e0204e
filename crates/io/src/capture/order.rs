//! Numbers in the byte order of the machine that wrote a capture.

/// Byte order of a capture or of one section of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl Order {
    /// The 16-bit number at byte `at`; panics when `bytes` is too short.
    #[inline]
    pub(crate) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let raw = bytes[at..at + 2].try_into().expect("two bytes");
        match self {
            Self::Little => u16::from_le_bytes(raw),
            Self::Big => u16::from_be_bytes(raw),
        }
    }

    /// The 32-bit number at byte `at`; panics when `bytes` is too short.
    #[inline]
    pub(crate) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let raw = bytes[at..at + 4].try_into().expect("four bytes");
        match self {
            Self::Little => u32::from_le_bytes(raw),
            Self::Big => u32::from_be_bytes(raw),
        }
    }

    /// The first `N` 32-bit numbers; panics when `bytes` is too short.
    ///
    /// One decision about the order serves all of them.
    #[inline]
    pub(crate) fn u32s<const N: usize>(self, bytes: &[u8]) -> [u32; N] {
        let bytes = &bytes[..4 * N];
        match self {
            Self::Little => std::array::from_fn(|i| Self::Little.u32(bytes, 4 * i)),
            Self::Big => std::array::from_fn(|i| Self::Big.u32(bytes, 4 * i)),
        }
    }

    /// The 64-bit number at byte `at`; panics when `bytes` is too short.
    #[inline]
    pub(crate) fn u64(self, bytes: &[u8], at: usize) -> u64 {
        let raw = bytes[at..at + 8].try_into().expect("eight bytes");
        match self {
            Self::Little => u64::from_le_bytes(raw),
            Self::Big => u64::from_be_bytes(raw),
        }
    }
}
