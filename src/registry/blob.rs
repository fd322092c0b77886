//! A blob as a stream that outlives its connections.

use super::client::Repository;
use super::pace::Paced;
use super::request::{Ask, Failure, broken, persist};
use super::{Error, Options};
use crate::digest::Digest;
use std::io::{self, Read};
use std::time::Duration;
use ureq::BodyReader;
use ureq::http::Method;

/// So much of a blob between two breaks counts as progress, which the allowed number of breaks starts anew with.
const PROGRESS: u64 = 1 << 20;

/// The bytes of a blob, exactly as many as announced. A connection that breaks or stalls is replaced by one that
/// asks for the rest (a single Range: registries answer 501 to several). An error is an [`Error`] inside an
/// `io::Error`; see [`Error::from_io`].
pub struct BlobReader<'r> {
    repository: &'r Repository<'r>,
    digest: Digest,
    what: String,
    size: u64,
    at: u64,
    body: Option<Paced<BodyReader<'static>>>,
    breaks: u32,
    last_break: u64,
    on_retry: Box<dyn Fn(&str) + Send + 'r>,
}

impl<'r> BlobReader<'r> {
    pub(super) fn open(
        repository: &'r Repository<'r>,
        digest: Digest,
        size: u64,
        on_retry: Box<dyn Fn(&str) + Send + 'r>,
    ) -> Result<Self, Error> {
        let what = format!("blob {digest} of {}", repository.name);
        let mut blob =
            Self { repository, digest, what, size, at: 0, body: None, breaks: 0, last_break: 0, on_retry };
        blob.body = Some(persist(blob.options(), || {
            blob.connect().inspect_err(|failure| {
                if failure.wait(Duration::ZERO).is_some() {
                    (blob.on_retry)(&reason(&failure.error));
                }
            })
        })?);
        Ok(blob)
    }

    fn options(&self) -> &'r Options {
        self.repository.client.options()
    }

    /// One attempt to get what is missing.
    fn connect(&self) -> Result<Paced<BodyReader<'static>>, Failure> {
        let mut headers = Vec::new();
        if self.at > 0 {
            headers.push(("Range", format!("bytes={}-", self.at)));
        }
        let url = self.repository.url("blobs", &self.digest.to_string()).map_err(Failure::never)?;
        let ask = Ask { method: Method::GET, url, what: &self.what, headers, body: None };
        let response = self.repository.attempt(&ask)?;
        let host = self.repository.origin.display();
        let is_part = response.status() == 206;
        if is_part {
            let range =
                response.headers().get("content-range").and_then(|v| v.to_str().ok()).unwrap_or_default();
            if !range.starts_with(&format!("bytes {}-", self.at)) {
                let why = format!(
                    "answered with another part of a blob than asked for ('{}')",
                    super::error::clean(range)
                );
                return Err(Failure::never(Error::Protocol { host, why }));
            }
        }
        let expected = if is_part { self.size - self.at } else { self.size };
        match response.body().content_length() {
            Some(length) if length > expected => {
                return Err(Failure::never(Error::TooLarge { what: self.what.clone(), limit: self.size }));
            }
            Some(length) if length < expected => {
                let why = format!("has only {length} of the {expected} bytes of {}", self.what);
                return Err(Failure::never(Error::Protocol { host, why }));
            }
            _ => {}
        }
        let mut body = Paced::new(response.into_body().into_reader(), self.options().stall);
        if !is_part && self.at > 0 {
            // No ranges here: what we have goes by once more.
            let skipped = io::copy(&mut body.by_ref().take(self.at), &mut io::sink());
            match skipped {
                Ok(n) if n == self.at => {}
                Ok(_) => return Err(broken(&host, ureq::Error::Io(io::ErrorKind::UnexpectedEof.into()))),
                Err(e) => return Err(broken(&host, ureq::Error::from(e))),
            }
        }
        Ok(body)
    }

    /// After a break: waits and connects again, as often as allowed.
    fn reconnect(&mut self, mut failure: Failure) -> Result<(), Error> {
        self.body = None;
        if self.at - self.last_break >= PROGRESS {
            self.breaks = 0;
        }
        self.last_break = self.at;
        loop {
            let delay = self.options().retry_delay.saturating_mul(1 << self.breaks.min(6));
            let wait = match failure.wait(delay) {
                Some(wait) if self.breaks < self.options().retries => wait,
                _ => return Err(failure.error),
            };
            self.breaks += 1;
            (self.on_retry)(&reason(&failure.error));
            std::thread::sleep(wait);
            match self.connect() {
                Ok(body) => {
                    self.body = Some(body);
                    return Ok(());
                }
                Err(next) => failure = next,
            }
        }
    }
}

/// The innermost cause: what a progress line has room for.
pub(super) fn reason(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

impl Read for BlobReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let host = || self.repository.origin.display();
        loop {
            let left = self.size - self.at;
            let Some(body) = &mut self.body else { return Ok(0) };
            if left == 0 {
                // To the end, which gives the connection back, and not past it.
                let mut more = [0];
                if matches!(body.read(&mut more), Ok(1..)) {
                    return Err(Error::TooLarge { what: self.what.clone(), limit: self.size }.into());
                }
                self.body = None;
                return Ok(0);
            }
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
            let failure = match body.read(&mut into[..room]) {
                Ok(0) => {
                    let eof = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed early");
                    broken(&host(), ureq::Error::Io(eof))
                }
                Ok(n) => {
                    self.at += n as u64;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => broken(&host(), ureq::Error::from(e)),
            };
            self.reconnect(failure)?;
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

impl Error {
    /// The error inside an `io::Error` that a [`BlobReader`] returned; any other one is given back.
    pub fn from_io(error: io::Error) -> Result<Self, io::Error> {
        error.downcast()
    }
}
