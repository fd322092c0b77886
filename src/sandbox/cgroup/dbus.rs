//! As much of the D-Bus protocol as it takes to make a call and wait for a signal: one blocking connection, no
//! introspection, no other types than systemd's methods need. The specification is
//! <https://dbus.freedesktop.org/doc/dbus-specification.html>; its section is named where a rule comes from it.
//!
//! A message bus and systemd's own private socket speak the same; the latter has no names and needs no greeting.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// No answer of systemd's comes near this; the protocol's limit is 128 MiB.
const MAX_MESSAGE: usize = 1 << 20;
/// sd-bus's default for a call.
const TIMEOUT: Duration = Duration::from_secs(25);

/// A message being written, or the body of one.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn u32(&mut self, n: u32) -> &mut Self {
        self.align(4);
        self.0.extend(n.to_le_bytes());
        self
    }

    /// `b`.
    pub(super) fn boolean(&mut self, on: bool) -> &mut Self {
        self.u32(on.into())
    }

    /// `s` and `o`: length, bytes, NUL.
    pub(super) fn string(&mut self, text: &str) -> &mut Self {
        self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
        self
    }

    /// `g`: a length of one byte.
    pub(super) fn signature(&mut self, text: &str) -> &mut Self {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
        self
    }

    /// `a…`: its length does not count the padding before the first element.
    pub(super) fn array(&mut self, element_alignment: usize, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.u32(0);
        let length_at = self.0.len() - 4;
        self.align(element_alignment);
        let start = self.0.len();
        fill(self);
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        self
    }

    /// A struct begins.
    pub(super) fn structure(&mut self) -> &mut Self {
        self.align(8);
        self
    }
}

/// Reads what a [`Writer`] writes; every look is bounded by the message.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, n: usize) -> io::Result<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| invalid("a truncated message"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.align(4);
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn text(&mut self, length: usize) -> io::Result<String> {
        let text =
            std::str::from_utf8(self.take(length)?).map_err(|_| invalid("a text that is not UTF-8"))?;
        self.take(1)?;
        Ok(text.to_owned())
    }

    fn string(&mut self) -> io::Result<String> {
        let length = self.u32()?;
        self.text(length as usize)
    }

    fn signature(&mut self) -> io::Result<String> {
        let length = self.byte()?;
        self.text(length.into())
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("D-Bus: {what}"))
}

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;
const NO_REPLY_EXPECTED: u8 = 1;

/// A method to call.
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) signature: &'a str,
    pub(super) body: Writer,
}

/// What has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    kind: u8,
    reply_to: u32,
    member: String,
    error: String,
    signature: String,
    /// The body's leading strings, paths and numbers (as text): all that is asked for here.
    pub(super) arguments: Vec<String>,
}

/// A connection.
pub(super) struct Connection {
    socket: UnixStream,
    serial: u32,
    is_bus: bool,
}

impl Connection {
    /// Connects and authenticates as the user that the socket knows us to be (SASL EXTERNAL).
    pub(super) fn open(path: &Path, is_bus: bool) -> io::Result<Self> {
        let mut socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        // All at once, as sd-bus does: the server reads the answers one by one. No identity is named, so that the
        // credentials of the socket count; a uid would be another in a user namespace.
        socket.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        let (first, second) = (line(&mut socket)?, line(&mut socket)?);
        if !first.starts_with("DATA") || !second.starts_with("OK ") {
            let why = format!("the bus does not accept us ({first} {second})");
            return Err(io::Error::new(ErrorKind::PermissionDenied, why));
        }
        let mut connection = Self { socket, serial: 0, is_bus };
        if is_bus {
            connection.send(&bus_call("Hello", "", Writer::default()), true)?;
        }
        Ok(connection)
    }

    /// Asks for signals of one interface member.
    pub(super) fn subscribe(&mut self, rule: &str) -> io::Result<()> {
        if self.is_bus {
            let mut body = Writer::default();
            body.string(rule);
            self.send(&bus_call("AddMatch", "s", body), true)?;
        }
        Ok(())
    }

    /// Sends a call; its serial number.
    pub(super) fn send(&mut self, call: &Call<'_>, quiet: bool) -> io::Result<u32> {
        self.serial += 1;
        let flags = if quiet { NO_REPLY_EXPECTED } else { 0 };
        self.socket.write_all(&encode(call, self.serial, flags, self.is_bus))?;
        Ok(self.serial)
    }

    /// Waits for the answer to a call, keeping signals that come before it.
    pub(super) fn answer(
        &mut self,
        serial: u32,
        signals: &mut Vec<Message>,
    ) -> io::Result<Result<Message, String>> {
        loop {
            let message = self.receive()?;
            match message.kind {
                METHOD_RETURN if message.reply_to == serial => return Ok(Ok(message)),
                ERROR if message.reply_to == serial => {
                    let text = message.arguments.first().cloned().unwrap_or_default();
                    return Ok(Err(format!("{text} ({})", message.error)));
                }
                SIGNAL => signals.push(message),
                _ => {}
            }
        }
    }

    /// Waits for a signal that is what we wait for, looking at those that have come already first.
    pub(super) fn signal<T>(
        &mut self,
        member: &str,
        earlier: &[Message],
        is_it: impl Fn(&[String]) -> Option<T>,
    ) -> io::Result<T> {
        let matches = |message: &Message| match message.kind == SIGNAL && message.member == member {
            true => is_it(&message.arguments),
            false => None,
        };
        if let Some(found) = earlier.iter().find_map(matches) {
            return Ok(found);
        }
        loop {
            if let Some(found) = matches(&self.receive()?) {
                return Ok(found);
            }
        }
    }

    fn receive(&mut self) -> io::Result<Message> {
        let mut bytes = vec![0; 16];
        self.socket.read_exact(&mut bytes)?;
        let rest = rest_of(&bytes)?;
        bytes.resize(16 + rest, 0);
        self.socket.read_exact(&mut bytes[16..])?;
        decode(&bytes)
    }
}

fn bus_call<'a>(member: &'a str, signature: &'a str, body: Writer) -> Call<'a> {
    Call {
        destination: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member,
        signature,
        body,
    }
}

/// A line of the authentication, read byte by byte: what follows it is another protocol.
fn line(socket: &mut UnixStream) -> io::Result<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        text.push(byte[0]);
        if text.len() > 1000 {
            return Err(invalid("an endless line"));
        }
    }
    Ok(String::from_utf8_lossy(&text[..text.len() - 2]).into_owned())
}

/// "Message Format": the fixed part, the array of fields (`a(yv)`), padding, the body.
fn encode(call: &Call<'_>, serial: u32, flags: u8, is_bus: bool) -> Vec<u8> {
    let mut message = Writer(vec![b'l', METHOD_CALL, flags, 1]);
    message.u32(u32::try_from(call.body.0.len()).unwrap_or(u32::MAX)).u32(serial);
    message.array(8, |fields| {
        let mut field = |code: u8, kind: &str, text: &str| {
            fields.structure().0.push(code);
            fields.signature(kind);
            if kind == "g" {
                fields.signature(text)
            } else {
                fields.string(text)
            };
        };
        field(1, "o", call.path);
        field(2, "s", call.interface);
        field(3, "s", call.member);
        if is_bus {
            field(6, "s", call.destination);
        }
        if !call.signature.is_empty() {
            field(8, "g", call.signature);
        }
    });
    message.align(8);
    message.0.extend(&call.body.0);
    message.0
}

/// How many bytes follow the first sixteen.
fn rest_of(start: &[u8]) -> io::Result<usize> {
    if start.first() != Some(&b'l') || start.get(3) != Some(&1) {
        return Err(invalid("a byte order or a version that is not ours"));
    }
    let mut reader = Reader { bytes: start, at: 4 };
    let (body, _serial, fields) = (reader.u32()? as usize, reader.u32()?, reader.u32()? as usize);
    let rest = fields.checked_next_multiple_of(8).and_then(|fields| fields.checked_add(body));
    rest.filter(|rest| *rest <= MAX_MESSAGE).ok_or_else(|| invalid("a message that is too long"))
}

fn decode(bytes: &[u8]) -> io::Result<Message> {
    let mut message = Message { kind: bytes.get(1).copied().unwrap_or(0), ..Message::default() };
    let mut reader = Reader { bytes, at: 12 };
    let end = reader.u32()? as usize + 16;
    while reader.at < end {
        reader.align(8);
        let (code, kind) = (reader.byte()?, reader.signature()?);
        match (code, kind.as_str()) {
            (5, "u") => message.reply_to = reader.u32()?,
            (3, "s") => message.member = reader.string()?,
            (4, "s") => message.error = reader.string()?,
            (8, "g") => message.signature = reader.signature()?,
            (_, "s" | "o") => drop(reader.string()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.u32()?),
            _ => return Err(invalid("an unknown header field")),
        }
    }
    reader.align(8);
    for kind in message.signature.clone().chars() {
        match kind {
            's' | 'o' => message.arguments.push(reader.string()?),
            'u' => message.arguments.push(reader.u32()?.to_string()),
            // Of no interest, and so nothing after it.
            _ => break,
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(body: Writer, signature: &'static str) -> Call<'static> {
        Call { destination: "a.b", path: "/p", interface: "i.f", member: "M", signature, body }
    }

    /// As a server would send it: the same layout with another kind and the fields of an answer.
    fn answer(kind: u8, fields: &[(u8, &str, &str)], signature: &str, body: &Writer) -> Vec<u8> {
        let mut message = Writer(vec![b'l', kind, 0, 1]);
        message.u32(u32::try_from(body.0.len()).unwrap()).u32(7);
        message.array(8, |all| {
            for (code, kind, text) in fields {
                all.structure().0.push(*code);
                all.signature(kind);
                match *kind {
                    "u" => all.u32(text.parse().unwrap()),
                    "g" => all.signature(text),
                    _ => all.string(text),
                };
            }
            all.structure().0.push(8);
            all.signature("g").signature(signature);
        });
        message.align(8);
        message.0.extend(&body.0);
        message.0
    }

    #[test]
    fn a_call_has_the_layout_of_the_specification() {
        let mut body = Writer::default();
        body.string("ab").array(8, |list| {
            list.structure().string("k").signature("b").boolean(true);
        });
        let bytes = encode(&call(body, "sa(sv)"), 3, 0, true);
        // Fixed part: little-endian, call, no flags, version 1, length of the body, serial.
        assert_eq!(bytes[..12], [b'l', 1, 0, 1, 32, 0, 0, 0, 3, 0, 0, 0]);
        let body = &bytes[bytes.len() - 32..];
        let expected: &[u8] = &[
            2, 0, 0, 0, b'a', b'b', 0, 0, // "ab"
            16, 0, 0, 0, 0, 0, 0, 0, // length of the array, padding to its first struct
            1, 0, 0, 0, b'k', 0, 1, b'b', 0, 0, 0, 0, // "k", a variant's signature, padding
            1, 0, 0, 0,
        ];
        assert_eq!(body, expected);
        // As a reader of the protocol sees it.
        let seen = decode(&bytes).unwrap();
        assert_eq!((seen.kind, seen.member.as_str(), seen.signature.as_str()), (1, "M", "sa(sv)"));
        assert_eq!(seen.arguments, ["ab"]);
        assert_eq!(16 + rest_of(&bytes[..16]).unwrap(), bytes.len());
    }

    #[test]
    fn without_a_bus_no_destination_is_named() {
        let with = encode(&call(Writer::default(), ""), 1, 0, true);
        let without = encode(&call(Writer::default(), ""), 1, 0, false);
        let has = |bytes: &[u8]| bytes.windows(3).any(|w| w == b"a.b");
        assert!(has(&with) && !has(&without));
        decode(&without).unwrap();
    }

    #[test]
    fn answers_errors_and_signals_are_told_apart() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut body = Writer::default();
        body.u32(9).string("/job/9").string("x.scope").string("done");
        let signal = answer(SIGNAL, &[(1, "o", "/p"), (3, "s", "JobRemoved")], "uoss", &body);
        theirs.write_all(&signal).unwrap();
        let mut body = Writer::default();
        body.string("/job/9");
        theirs.write_all(&answer(METHOD_RETURN, &[(5, "u", "1")], "o", &Writer::default())).unwrap();
        theirs.write_all(&answer(METHOD_RETURN, &[(5, "u", "2"), (7, "s", ":1.3")], "o", &body)).unwrap();
        let mut text = Writer::default();
        text.string("no");
        theirs.write_all(&answer(ERROR, &[(5, "u", "3"), (4, "s", "org.x.No")], "s", &text)).unwrap();
        let mut connection = Connection { socket: ours, serial: 0, is_bus: true };
        let mut signals = Vec::new();
        // The first answer has an empty body although it claims a path: it is refused, not misread.
        assert_eq!(connection.answer(1, &mut signals).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(connection.answer(2, &mut signals).unwrap().unwrap().arguments, ["/job/9"]);
        assert_eq!(connection.answer(3, &mut signals).unwrap().unwrap_err(), "no (org.x.No)");
        let result =
            connection.signal("JobRemoved", &signals, |a| (a[1] == "/job/9").then(|| a[3].clone())).unwrap();
        assert_eq!(result, "done");
    }

    #[test]
    fn no_message_makes_the_reader_go_astray() {
        let mut body = Writer::default();
        body.string("hello");
        let good = answer(SIGNAL, &[(3, "s", "M")], "s", &body);
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                // An error or another message: never a panic, never a huge allocation.
                let _ = decode(&bad);
                let _ = rest_of(&bad);
            }
            let _ = decode(&good[..at]);
        }
        let mut long = good;
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(rest_of(&long).is_err());
    }

    #[test]
    fn we_authenticate_as_who_the_socket_says_we_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut text = [0; 33];
            socket.read_exact(&mut text).unwrap();
            assert_eq!(
                &text[..],
                b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n\0\0\0\0"[..].get(..33).unwrap_or(&text[..])
            );
            socket.write_all(b"DATA\r\nOK 0123\r\n").unwrap();
        });
        drop(Connection::open(&path, true));
        drop(server.join());
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join("no")).unwrap();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.write_all(b"REJECTED EXTERNAL\r\nERROR\r\n").unwrap();
            let _ = socket.read(&mut [0; 64]);
        });
        let refused = Connection::open(&dir.path().join("no"), true).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        server.join().unwrap();
    }
}
