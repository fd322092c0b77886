//! Where the data of a sparse file lies.

/// A run of data in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the file.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// Checks a sparse map: extents in order, apart, within the file, and together as long as what the archive
/// holds. Empty ones, which mark the file's end, are left out.
pub fn extents(map: &[u64], file: u64, stored: u64) -> Result<Vec<Extent>, &'static str> {
    let mut extents = Vec::with_capacity(map.len() / 2);
    let (mut end, mut total) = (0u64, 0u64);
    let mut pairs = map.chunks_exact(2);
    for pair in &mut pairs {
        let (offset, length) = (pair[0], pair[1]);
        let after = offset.checked_add(length).ok_or("a sparse extent is out of range")?;
        if offset < end || after > file {
            return Err("sparse extents overlap or leave the file");
        }
        end = after;
        total += length;
        if length > 0 {
            extents.push(Extent { offset, length });
        }
    }
    if !pairs.remainder().is_empty() {
        return Err("a sparse map ends with half an extent");
    }
    if total != stored {
        return Err("a sparse map does not match the size of its data");
    }
    Ok(extents)
}

/// The 21 or 4 offset and length pairs of an old GNU sparse header, up to the first unused one.
pub fn gnu_pairs(fields: &[u8], map: &mut Vec<u64>) -> Result<(), &'static str> {
    for pair in fields.chunks_exact(24) {
        if pair[0] == 0 || pair[12] == 0 {
            break;
        }
        for field in [&pair[..12], &pair[12..]] {
            let number = super::header::number(field).and_then(|n| u64::try_from(n).ok());
            map.push(number.ok_or("a sparse map is malformed")?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_must_be_ordered_apart_within_the_file_and_complete() {
        let good = extents(&[0, 3, 10, 2, 20, 0], 20, 5).unwrap();
        assert_eq!(good, [Extent { offset: 0, length: 3 }, Extent { offset: 10, length: 2 }]);
        for (map, file, stored) in [
            (&[10, 2, 0, 3][..], 20, 5),
            (&[0, 3, 2, 3], 20, 6),
            (&[0, 3], 2, 3),
            (&[0, 3], 20, 4),
            (&[0, 3, 5], 20, 3),
            (&[u64::MAX, 2], u64::MAX, 2),
        ] {
            assert!(extents(map, file, stored).is_err(), "{map:?}");
        }
    }
}
