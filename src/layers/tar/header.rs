//! One 512-byte header block, before any extension is applied: V7, ustar, GNU and star (pax(1), "ustar
//! Interchange Format"; GNU tar manual, "Basic Tar Format").

use super::{BLOCK, Block};

/// The largest size that the octal size field can say: a bigger one may differ in a PAX record.
pub const OCTAL_MAX: u64 = 0o77_777_777_777;

/// What a header block says.
#[derive(Debug)]
pub struct Header {
    /// The type flag as it stands.
    pub flag: u8,
    /// The name, with the ustar prefix put before it.
    pub name: Vec<u8>,
    /// The link target.
    pub link: Vec<u8>,
    /// Permission bits, set-id bits and the sticky bit.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Bytes that follow the header.
    pub size: u64,
    /// Modification time, seconds since the epoch.
    pub mtime: i64,
}

#[derive(PartialEq)]
enum Format {
    V7,
    Ustar,
    Gnu,
    Star,
}

impl Header {
    /// Reads a block; an error says what is wrong with it.
    pub fn parse(block: &Block) -> Result<Self, &'static str> {
        if !checksum_matches(block) {
            return Err("a header's checksum is wrong");
        }
        let format = match (&block[257..265], &block[508..512]) {
            (b"ustar  \0", _) => Format::Gnu,
            (magic, b"tar\0") if magic.starts_with(b"ustar\0") => Format::Star,
            (magic, _) if magic.starts_with(b"ustar\0") => Format::Ustar,
            _ => Format::V7,
        };
        // Go before 1.8 wrote a ustar prefix into GNU headers, over the access and change times; as Go's reader
        // does, what cannot be a time there is taken for the prefix.
        let prefix = match format {
            Format::Ustar => text(&block[345..500]),
            Format::Star => text(&block[345..476]),
            Format::Gnu if block[345] != 0 && number(&block[345..357]).is_none() => text(&block[345..500]),
            Format::Gnu | Format::V7 => b"",
        };
        let mut name = Vec::with_capacity(prefix.len() + 101);
        if !prefix.is_empty() {
            name.extend_from_slice(prefix);
            name.push(b'/');
        }
        name.extend_from_slice(text(&block[..100]));
        let unsigned =
            |range: std::ops::Range<usize>| number(&block[range]).and_then(|n| u64::try_from(n).ok());
        Ok(Self {
            flag: block[156],
            name,
            link: text(&block[157..257]).to_vec(),
            mode: unsigned(100..108)
                .and_then(|mode| u32::try_from(mode).ok())
                .ok_or("a header's mode is no number")?
                & 0o7777,
            uid: unsigned(108..116).ok_or("a header's owner is no number")?,
            gid: unsigned(116..124).ok_or("a header's group is no number")?,
            size: unsigned(124..136).ok_or("a header's size is no number")?,
            mtime: number(&block[136..148]).ok_or("a header's time is no number")?,
        })
    }
}

/// The part of a text field before its first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    &field[..end]
}

/// A numeric field: octal digits padded with blanks and NULs, or a big-endian two's complement number with the
/// top bit of the field set (the GNU and star extension). An empty field is 0.
pub fn number(field: &[u8]) -> Option<i64> {
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        // Bit 6 is the sign; the bit above it is only the mark.
        let first = i128::from(if first & 0x40 == 0 { first & 0x7f } else { *first }.cast_signed());
        return rest.iter().fold(first, |value, byte| value << 8 | i128::from(*byte)).try_into().ok();
    }
    let padding = |b: &u8| matches!(b, b' ' | 0);
    let start = field.iter().position(|b| !padding(b)).unwrap_or(field.len());
    let end = field.iter().rposition(|b| !padding(b)).map_or(start, |at| at + 1);
    let mut value: i64 = 0;
    for digit in text(&field[start..end]) {
        match digit {
            b'0'..=b'7' => value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?,
            _ => return None,
        }
    }
    Some(value)
}

/// The header checksum is the sum of the block's bytes with the checksum field as blanks; some old writers
/// summed signed bytes.
fn checksum_matches(block: &Block) -> bool {
    const FIELD: std::ops::Range<usize> = 148..156;
    let Some(stated) = number(&block[FIELD]) else { return false };
    let blanks = 8 * i64::from(b' ');
    let (head, tail) = (&block[..FIELD.start], &block[FIELD.end..BLOCK]);
    let unsigned: u32 = head.iter().chain(tail).map(|&b| u32::from(b)).sum();
    if i64::from(unsigned) + blanks == stated {
        return true;
    }
    let signed: i32 = head.iter().chain(tail).map(|&b| i32::from(b.cast_signed())).sum();
    i64::from(signed) + blanks == stated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256_and_nothing_else() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"-0000644"), None);
        assert_eq!(number(b"77777777777\0"), Some(OCTAL_MAX.cast_signed()));
        assert_eq!(number(b"\x80\0\0\0\0\0\x01\x00"), Some(256));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(1 << 33));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), Some(-1));
        assert_eq!(number(b"\x80\0\0\x01\0\0\0\0\0\0\0\0"), None, "beyond 63 bits");
        assert_eq!(number(b"\x80\0\0\0\x80\0\0\0\0\0\0\0"), None, "the sign bit of 64");
    }

    #[test]
    fn a_block_with_one_flipped_bit_is_refused() {
        let mut header = tar::Header::new_gnu();
        header.set_path("a").unwrap();
        header.set_size(3);
        header.set_cksum();
        let mut block = *header.as_bytes();
        assert_eq!(Header::parse(&block).unwrap().size, 3);
        block[0] ^= 1;
        assert!(Header::parse(&block).is_err());
    }

    #[test]
    fn a_ustar_prefix_is_put_before_the_name() {
        let mut header = tar::Header::new_ustar();
        let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
        header.set_path(&long).unwrap();
        header.set_size(0);
        header.set_cksum();
        assert_eq!(Header::parse(header.as_bytes()).unwrap().name, long.as_bytes());
    }
}
