//! PAX extended header records (pax(1), "pax Extended Header"): `"%d %s=%s\n"`.

/// What the extended header of one entry says, as far as it matters here.
#[derive(Debug, Default)]
pub struct Pax {
    /// `path`
    pub path: Option<Vec<u8>>,
    /// `linkpath`
    pub link: Option<Vec<u8>>,
    /// `size`
    pub size: Option<u64>,
    /// `uid`
    pub uid: Option<u64>,
    /// `gid`
    pub gid: Option<u64>,
    /// `mtime`: seconds and nanoseconds.
    pub mtime: Option<(i64, u32)>,
    /// `SCHILY.xattr.*`: names and values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// `GNU.sparse.*`
    pub sparse: Option<Sparse>,
}

/// The `GNU.sparse.*` records of one entry.
#[derive(Debug, Default)]
pub struct Sparse {
    /// `GNU.sparse.major` and `minor`; absent in versions 0.0 and 0.1.
    pub version: (Option<u64>, Option<u64>),
    /// `GNU.sparse.name`: the file's real name.
    pub name: Option<Vec<u8>>,
    /// `GNU.sparse.size` or `realsize`: the file's size with its holes.
    pub size: Option<u64>,
    /// Offsets and lengths of the data in turn, of version 0.0 or 0.1.
    pub map: Vec<u64>,
}

impl Pax {
    /// Reads the body of an `x` header; an error says what is wrong with it.
    pub fn parse(mut body: &[u8]) -> Result<Self, &'static str> {
        let mut pax = Self::default();
        while !body.is_empty() {
            let (key, value, rest) = record(body).ok_or("a PAX record is malformed")?;
            pax.set(key, value)?;
            body = rest;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.get_or_insert_default().set(key, value);
        }
        // An empty value takes the record back (pax(1)): what the header block says stands.
        if value.is_empty() {
            return Ok(());
        }
        match key {
            b"path" => set_once(&mut self.path, text(value)?),
            b"linkpath" => set_once(&mut self.link, text(value)?),
            b"size" => set_once(&mut self.size, decimal(value)?),
            b"uid" => set_once(&mut self.uid, decimal(value)?),
            b"gid" => set_once(&mut self.gid, decimal(value)?),
            b"mtime" => {
                self.mtime = Some(time(value).ok_or("a PAX mtime is no number")?);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Sparse {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"major" => self.version.0 = Some(decimal(value)?),
            b"minor" => self.version.1 = Some(decimal(value)?),
            b"name" => return set_once(&mut self.name, text(value)?),
            b"size" | b"realsize" => {
                return set_once(&mut self.size, decimal(value)?);
            }
            b"offset" | b"numbytes" => {
                if (key == b"offset") != self.map.len().is_multiple_of(2) {
                    return Err("sparse offsets and lengths do not alternate");
                }
                self.map.push(decimal(value)?);
            }
            b"map" => {
                for number in value.split(|&b| b == b',').filter(|_| !value.is_empty()) {
                    self.map.push(decimal(number)?);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Readers differ in whether the first or the last of two records counts, so two that differ are refused.
fn set_once<T: PartialEq>(slot: &mut Option<T>, value: T) -> Result<(), &'static str> {
    if slot.as_ref().is_some_and(|old| *old != value) {
        return Err("two PAX records of one key differ");
    }
    *slot = Some(value);
    Ok(())
}

/// The first record: key, value, and what follows.
fn record(body: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = body.iter().take(20).position(|&b| b == b' ')?;
    let length = usize::try_from(decimal(&body[..blank]).ok()?).ok()?;
    let text = body.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = text.iter().position(|&b| b == b'=')?;
    let (key, value) = (&text[..equals], &text[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return None;
    }
    Some((key, value, &body[length..]))
}

fn text(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    if value.contains(&0) {
        return Err("a PAX path contains a NUL byte");
    }
    Ok(value.to_vec())
}

pub(super) fn decimal(digits: &[u8]) -> Result<u64, &'static str> {
    const BAD: &str = "a PAX number is malformed";
    if digits.is_empty() {
        return Err(BAD);
    }
    digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10).and_then(|v| v.checked_add(u64::from(digit - b'0'))).ok_or(BAD),
        _ => Err(BAD),
    })
}

/// `[-]seconds[.fraction]`; digits beyond nanoseconds are cut off.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |&b| b == b'.');
    let seconds = i64::try_from(decimal(parts.next()?).ok()?).ok()?;
    let mut nanos: u32 = 0;
    let fraction = parts.next().unwrap_or_default();
    for at in 0..fraction.len().max(9) {
        let digit = match fraction.get(at) {
            Some(digit @ b'0'..=b'9') => u32::from(digit - b'0'),
            Some(_) => return None,
            None => 0,
        };
        if at < 9 {
            nanos = nanos * 10 + digit;
        }
    }
    Some(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_unknown_keys_passed_over() {
        let body = b"11 path=a/b\x0a20 mtime=1.5000000001\n";
        assert!(Pax::parse(body).is_err(), "the first length is one short");
        let body = b"12 path=a/b\n22 mtime=1.5000000001\n13 comment=x\n26 SCHILY.xattr.user.a=\x00\xff\n";
        let pax = Pax::parse(body).unwrap();
        assert_eq!(pax.path.unwrap(), b"a/b");
        assert_eq!(pax.mtime, Some((1, 500_000_000)));
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), vec![0, 255])]);
    }

    #[test]
    fn malformed_records_are_refused() {
        for body in [
            &b"5 a=\n3 \n"[..],
            b"9 path=a\n\n",
            b"99999999999999999999 path=a\n",
            b"-9 path=a\n",
            b"10 path=a\0\n",
            b"6 =ab\n",
            b"8 size=a\n",
            b"9 size=-1\n",
            b"x",
        ] {
            assert!(Pax::parse(body).is_err(), "{}", body.escape_ascii());
        }
        assert!(Pax::parse(b"9 path=a\n9 path=b\n").is_err());
        assert!(Pax::parse(b"9 size=1\n9 size=2\n").is_err());
        assert!(Pax::parse(b"9 path=a\n9 path=a\n").is_ok());
    }

    #[test]
    fn times_may_be_negative_and_fractional() {
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-3"), Some((-3, 0)));
        assert_eq!(time(b"12"), Some((12, 0)));
        assert_eq!(time(b"1.x"), None);
        assert_eq!(time(b""), None);
    }
}
