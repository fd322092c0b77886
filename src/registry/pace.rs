//! The least pace at which an answer has to come.
//!
//! A connection over which nothing comes meets its time-outs. One over which a byte comes now and then never does, and
//! would hold up a pull for ever. So a body is read in *windows*: of each, [`LEAST`] bytes have to come in the time
//! that was spent waiting for them (what the reader does in between does not count against the other end).
//!
//! One read of a body can go on without end and without a byte for us: chunked answers have extensions and trailers,
//! TLS has empty records. There is no way from a body to its connection, which a pool may have kept, so a read tells the
//! transport below HTTP and TLS by a thread-local when its window ends.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read};
use std::time::{Duration, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector,
    Transport,
};

/// Bytes that have to come in each window. Four layers at once over the slowest mobile network do better.
const LEAST: u64 = 16 << 10;

thread_local! {
    /// When the read of a body that this thread is in has to be done.
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A body that fails when it comes too slowly.
pub(super) struct Paced<R> {
    inner: R,
    window: Duration,
    waited: Duration,
    came: u64,
}

impl<R: Read> Paced<R> {
    /// A body whose connection is given up after `stall` without a byte.
    pub(super) fn new(inner: R, stall: Duration) -> Self {
        Self { inner, window: stall * 2, waited: Duration::ZERO, came: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let since = Instant::now();
        UNTIL.set(Some(since + self.window.saturating_sub(self.waited)));
        let read = self.inner.read(into);
        UNTIL.set(None);
        self.waited += since.elapsed();
        if let Ok(count) = read {
            self.came += count as u64;
            if count == 0 || self.came >= LEAST {
                (self.waited, self.came) = (Duration::ZERO, 0);
            }
        }
        if self.waited >= self.window { Err(too_slow(self.came, self.window)) } else { read }
    }
}

fn too_slow(came: u64, window: Duration) -> io::Error {
    io::Error::new(ErrorKind::TimedOut, format!("only {came} bytes came in {} s", window.as_secs_f32()))
}

/// What ureq connects by, with the pace watched between TCP and TLS.
pub(super) fn connector() -> impl Connector {
    ().chain(ConnectProxyConnector::default())
        .chain(TcpConnector::default())
        .chain(Watch)
        .chain(RustlsConnector::default())
}

#[derive(Debug)]
struct Watch;

impl<In: Transport> Connector<In> for Watch {
    type Out = Watched<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(Watched))
    }
}

#[derive(Debug)]
struct Watched<T>(T);

impl<T: Transport> Transport for Watched<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        if UNTIL.get().is_some_and(|end| Instant::now() >= end) {
            return Err(ureq::Error::Io(io::Error::new(ErrorKind::TimedOut, "it came too slowly")));
        }
        self.0.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives so many bytes each time, after so long.
    struct Slow(usize, Duration);

    impl Read for Slow {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            std::thread::sleep(self.1);
            Ok(self.0.min(into.len()))
        }
    }

    #[test]
    fn a_drip_ends_and_a_slow_stream_or_reader_does_not() {
        let stall = Duration::from_millis(50);
        let mut drip = Paced::new(Slow(1, Duration::from_millis(10)), stall);
        let since = Instant::now();
        let error = io::copy(&mut drip, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());

        let mut buffer = vec![0; 1 << 14];
        let mut slow = Paced::new(Slow(1 << 14, Duration::from_millis(30)), stall);
        let mut reader = Paced::new(Slow(1, Duration::ZERO), stall);
        for _ in 0..8 {
            assert_eq!(slow.read(&mut buffer).unwrap(), 1 << 14);
            assert_eq!(reader.read(&mut buffer).unwrap(), 1);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
