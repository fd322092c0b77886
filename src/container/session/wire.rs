//! What a session and its clients say to each other: frames of a kind, a length and a payload on a stream socket.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

/// Bytes that a frame carries at most.
pub const MAX_PAYLOAD: usize = 64 << 10;
const HEADER: usize = 5;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// To the session: standard input.
    Stdin(Vec<u8>),
    /// To the session: end of standard input.
    StdinClosed,
    /// To the session: the terminal has this size.
    Resize {
        /// Lines.
        rows: u16,
        /// Columns.
        columns: u16,
    },
    /// To the session: send the process this signal.
    Signal(i32),
    /// To the session: what is written down of its networks has changed.
    NetworksChanged,
    /// From the session, to who said so: the container has followed.
    Followed,
    /// From the session: the command runs.
    Started,
    /// From the session: it does not; a JSON [`super::Failure`].
    Failed(Vec<u8>),
    /// From the session: standard output, or the terminal's.
    Stdout(Vec<u8>),
    /// From the session: standard error.
    Stderr(Vec<u8>),
    /// From the session: the command has ended and everything is recorded.
    Exited(i32),
}

impl Frame {
    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut impl Extend<u8>) {
        let mut put = |kind: u8, payload: &[u8]| {
            // Payloads are at most MAX_PAYLOAD long by construction.
            let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            out.extend([kind]);
            out.extend(length.to_le_bytes());
            out.extend(payload.iter().copied());
        };
        match self {
            Frame::Stdin(bytes) => put(b'i', bytes),
            Frame::StdinClosed => put(b'c', &[]),
            Frame::Resize { rows, columns } => {
                put(b'r', &[rows.to_le_bytes(), columns.to_le_bytes()].concat())
            }
            Frame::Signal(number) => put(b's', &number.to_le_bytes()),
            Frame::NetworksChanged => put(b'n', &[]),
            Frame::Followed => put(b'N', &[]),
            Frame::Started => put(b'S', &[]),
            Frame::Failed(bytes) => put(b'F', bytes),
            Frame::Stdout(bytes) => put(b'o', bytes),
            Frame::Stderr(bytes) => put(b'e', bytes),
            Frame::Exited(code) => put(b'x', &code.to_le_bytes()),
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> io::Result<Frame> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let number = || payload.try_into().map(i32::from_le_bytes).map_err(|_| bad());
        Ok(match kind {
            b'i' => Frame::Stdin(payload.to_vec()),
            b'c' => Frame::StdinClosed,
            b'r' => {
                let [a, b, c, d] = payload.try_into().map_err(|_| bad())?;
                Frame::Resize { rows: u16::from_le_bytes([a, b]), columns: u16::from_le_bytes([c, d]) }
            }
            b's' => Frame::Signal(number()?),
            b'n' => Frame::NetworksChanged,
            b'N' => Frame::Followed,
            b'S' => Frame::Started,
            b'F' => Frame::Failed(payload.to_vec()),
            b'o' => Frame::Stdout(payload.to_vec()),
            b'e' => Frame::Stderr(payload.to_vec()),
            b'x' => Frame::Exited(number()?),
            _ => return Err(bad()),
        })
    }
}

/// Cuts a byte stream into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Reads once from `socket`. `Ok(false)` at its end.
    pub fn fill(&mut self, mut socket: impl Read) -> io::Result<bool> {
        let old = self.buffer.len();
        self.buffer.resize(old + (16 << 10), 0);
        let result = socket.read(&mut self.buffer[old..]);
        self.buffer.truncate(old + result.as_ref().map_or(0, |n| *n));
        match result {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            other => other.map(|n| n > 0),
        }
    }

    /// The next whole frame, if it has arrived.
    pub fn next(&mut self) -> io::Result<Option<Frame>> {
        let Some((head, rest)) = self.buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::decode(head[0], payload)?;
        self.buffer.drain(..HEADER + length);
        Ok(Some(frame))
    }
}

/// Bytes on their way to a descriptor that is not always ready.
#[derive(Debug, Default)]
pub struct Outbox {
    buffer: VecDeque<u8>,
}

impl Outbox {
    /// What still waits.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Appends a frame.
    pub fn push(&mut self, frame: &Frame) {
        frame.encode(&mut self.buffer);
    }

    /// Appends plain bytes.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
    }

    /// Forgets what still waits.
    pub fn clear(&mut self) {
        self.buffer.clear();
    }

    /// Writes what can be written without waiting.
    pub fn flush(&mut self, mut to: impl Write) -> io::Result<()> {
        while !self.buffer.is_empty() {
            match to.write(self.buffer.as_slices().0) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => drop(self.buffer.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        // A monitor lives long and is one of many: give back what a burst took.
        self.buffer.shrink_to(4 << 10);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let frames = [
            Frame::Stdin(b"abc".to_vec()),
            Frame::StdinClosed,
            Frame::Resize { rows: 24, columns: 80 },
            Frame::Signal(15),
            Frame::Started,
            Frame::Stdout(vec![0; MAX_PAYLOAD]),
            Frame::Exited(-1),
        ];
        let mut bytes = Vec::new();
        frames.iter().for_each(|f| f.encode(&mut bytes));
        for size in [1, 2, 3, 7, 5000] {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for chunk in bytes.chunks(size) {
                assert!(decoder.fill(chunk).unwrap());
                while let Some(frame) = decoder.next().unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, frames);
        }
    }

    #[test]
    fn a_frame_that_is_too_long_or_unknown_is_an_error() {
        let mut decoder = Decoder::default();
        decoder.fill(&b"o\xff\xff\xff\xff"[..]).unwrap();
        assert!(decoder.next().is_err());
        let mut decoder = Decoder::default();
        decoder.fill(&b"?\0\0\0\0"[..]).unwrap();
        assert!(decoder.next().is_err());
    }
}
