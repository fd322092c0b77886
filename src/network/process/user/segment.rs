//! TCP segments as they are on the cable (RFC 9293, 3.1; RFC 7323 for the window's scale). Pure functions over bytes that
//! containers chose.

/// A segment's flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// The sender has nothing more to say.
    pub const FIN: Self = Self(1);
    /// It begins.
    pub const SYN: Self = Self(2);
    /// It breaks.
    pub const RST: Self = Self(4);
    /// Bytes should not wait.
    pub const PSH: Self = Self(8);
    /// It acknowledges.
    pub const ACK: Self = Self(16);

    /// Whether all of these are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// What is said of a segment's size if nothing is (RFC 9293, 3.7.1), by IPv4.
const DEFAULT_MSS: u16 = 536;

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// From this port.
    pub source: u16,
    /// To this one.
    pub destination: u16,
    /// The number of its first byte.
    pub sequence: u32,
    /// The number of the byte that its sender expects next.
    pub acknowledged: u32,
    /// Flags.
    pub flags: Flags,
    /// As many bytes as its sender would take, not scaled.
    pub window: u16,
    /// Bytes in a segment that its sender takes at most; of a SYN.
    pub mss: u16,
    /// By how many bits its sender shifts its windows; of a SYN that offers it.
    pub scale: Option<u8>,
    /// Bytes.
    pub payload: &'a [u8],
}

/// Reads a segment; `None` if it is none.
pub fn read(bytes: &[u8]) -> Option<Segment<'_>> {
    let fixed = bytes.first_chunk::<HEADER>()?;
    let short = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let long = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let length = usize::from(fixed[12] >> 4) * 4;
    let options = bytes.get(HEADER..length)?;
    let mut segment = Segment {
        source: short(0),
        destination: short(2),
        sequence: long(4),
        acknowledged: long(8),
        flags: Flags(fixed[13]),
        window: short(14),
        mss: DEFAULT_MSS,
        scale: None,
        payload: &bytes[length..],
    };
    if segment.flags.has(Flags::SYN) {
        read_options(options, &mut segment);
    }
    Some(segment)
}

fn read_options(mut options: &[u8], segment: &mut Segment<'_>) {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const MSS: u8 = 2;
    const SCALE: u8 = 3;
    while let Some((kind, rest)) = options.split_first() {
        let length = match (*kind, rest.first()) {
            (END, _) | (_, None) => return,
            (NOTHING, _) => 1,
            (_, Some(length)) => usize::from(*length),
        };
        let Some(whole) = options.get(..length).filter(|whole| !whole.is_empty()) else { return };
        match *whole {
            [MSS, 4, high, low] => segment.mss = u16::from_be_bytes([high, low]).max(64),
            // More than 14 count as 14 (RFC 7323, 2.3).
            [SCALE, 3, bits] => segment.scale = Some(bits.min(14)),
            [NOTHING] | [_, _, ..] => {}
            _ => return,
        }
        options = &options[length..];
    }
}

/// What a SYN of ours says.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Bytes in a segment that we take.
    pub mss: u16,
    /// By how much we shift our windows, if that is agreed on.
    pub scale: Option<u8>,
}

/// A header for a segment; its checksum is left to the kernel.
pub fn header(segment: &Segment<'_>, offer: Option<Offer>) -> Vec<u8> {
    let mut options = Vec::new();
    if let Some(Offer { mss, scale }) = offer {
        options.extend([2, 4]);
        options.extend(mss.to_be_bytes());
        if let Some(bits) = scale {
            options.extend([1, 3, 3, bits]);
        }
    }
    let mut bytes = Vec::with_capacity(HEADER + options.len());
    bytes.extend(segment.source.to_be_bytes());
    bytes.extend(segment.destination.to_be_bytes());
    bytes.extend(segment.sequence.to_be_bytes());
    bytes.extend(segment.acknowledged.to_be_bytes());
    let words = u8::try_from((HEADER + options.len()) / 4).unwrap_or(5);
    bytes.extend([words << 4, segment.flags.0]);
    bytes.extend(segment.window.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(options);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn() -> Segment<'static> {
        Segment {
            source: 40000,
            destination: 80,
            sequence: 0x0102_0304,
            acknowledged: 7,
            flags: Flags::SYN.with(Flags::ACK),
            window: 65535,
            mss: 1460,
            scale: Some(7),
            payload: b"",
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let offer = Offer { mss: 1460, scale: Some(7) };
        let bytes = header(&syn(), Some(offer));
        assert_eq!(read(&bytes), Some(syn()));
        let plain = Segment { flags: Flags::ACK, mss: DEFAULT_MSS, scale: None, ..syn() };
        let mut bytes = header(&plain, None);
        bytes.extend(b"hello");
        assert_eq!(read(&bytes), Some(Segment { payload: b"hello", ..plain }));
    }

    #[test]
    fn options_are_read_as_far_as_they_make_sense() {
        let read_with = |options: &[u8]| {
            let mut segment = Segment { mss: DEFAULT_MSS, scale: None, ..syn() };
            read_options(options, &mut segment);
            (segment.mss, segment.scale)
        };
        assert_eq!(read_with(&[]), (536, None));
        assert_eq!(read_with(&[4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 9]), (536, Some(9)));
        assert_eq!(read_with(&[1, 1, 2, 4, 5, 0xb4, 3, 3, 200]), (1460, Some(14)));
        assert_eq!(read_with(&[0, 2, 4, 5, 0xb4]), (536, None));
        // A length of nothing, of one, and beyond the end.
        assert_eq!(read_with(&[5, 0, 2, 4, 5, 0xb4]), (536, None));
        assert_eq!(read_with(&[5, 1, 2, 4, 5, 0xb4]), (536, None));
        assert_eq!(read_with(&[3, 3, 7, 2, 200, 5, 0xb4]), (536, Some(7)));
        assert_eq!(read_with(&[2, 4, 0, 1]), (64, None));
        assert_eq!(read_with(&[2]), (536, None));
    }

    #[test]
    fn what_is_no_segment_is_not_read() {
        let bytes = header(&syn(), None);
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), None);
        }
        let mut short = bytes.clone();
        short[12] = 4 << 4;
        assert_eq!(read(&short), None);
        let mut long = bytes;
        long[12] = 6 << 4;
        assert_eq!(read(&long), None);
    }
}
