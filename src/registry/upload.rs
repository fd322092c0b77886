//! Blobs and manifests on their way to a registry (distribution-spec, "Push").
//!
//! An upload is a POST, which opens it, a PATCH with the bytes as they come, and a PUT that names their digest, which is
//! known only then. Each answer says where the next request goes. What breaks in between begins anew with a POST: the
//! registry forgets what nobody finishes.

use super::client::Repository;
use super::request::{Ask, Failure, persist};
use super::url::{Origin, encode, join};
use super::{Error, blob};
use crate::digest::{Digest, Hashing};
use std::io::{self, Read};
use std::sync::PoisonError;
use std::time::Duration;
use ureq::http::{Method, Response, Uri};
use ureq::{Body, SendBody};

/// What went to the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The digest of the bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// Opens what is to be sent, from its beginning: again for each attempt.
pub type Open<'o> = dyn FnMut() -> io::Result<Box<dyn Read + 'o>> + 'o;

impl Repository<'_> {
    /// Whether the repository has a blob.
    pub fn has_blob(&self, digest: Digest) -> Result<bool, Error> {
        let what = format!("blob {digest} of {}", self.name);
        let url = self.url("blobs", &digest.to_string())?;
        let ask = Ask { method: Method::HEAD, url, what: &what, headers: Vec::new(), body: None };
        match persist(self.client.options(), || self.attempt(&ask)) {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has the registry take a blob from another of its repositories; `false` if it does not.
    pub fn mount_blob(&self, digest: Digest, from: &str) -> Result<bool, Error> {
        let what = format!("upload of {digest} to {}", self.name);
        let query = format!("?mount={}&from={}", encode(&digest.to_string()), encode(from));
        let url = self.url("blobs/uploads", &query)?;
        let ask = Ask { method: Method::POST, url, what: &what, headers: Vec::new(), body: Some(b"") };
        match persist(self.client.options(), || self.attempt_for(&ask, &[201, 202])) {
            Ok(response) => Ok(response.status() == 201),
            // Not every registry knows mounts, and not everybody may read there.
            Err(Error::NotFound { .. } | Error::Denied { .. } | Error::Status { status: ..500, .. }) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a blob. `open` gives its bytes, the same ones each time; once its reader has failed there is no other
    /// attempt, and the error says little: `open`'s owner knows why. `on_retry` is told why it is begun anew.
    pub fn push_blob(&self, open: &mut Open<'_>, on_retry: &dyn Fn(&str)) -> Result<Sent, Error> {
        let what = format!("an upload to {}", self.name);
        persist(self.client.options(), || {
            self.send_blob(&what, open).inspect_err(|failure| {
                if failure.wait(Duration::ZERO).is_some() {
                    on_retry(&blob::reason(&failure.error));
                }
            })
        })
    }

    /// Sends a blob that is in memory, if it is not there.
    pub fn push_small_blob(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if !self.has_blob(digest)? {
            self.push_blob(&mut || Ok(Box::new(bytes)), &|_| {})?;
        }
        Ok(digest)
    }

    /// Sends a manifest under a tag or its digest.
    pub fn push_manifest(
        &self,
        tag_or_digest: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, Error> {
        let what = format!("an upload of the manifest of {}", self.name);
        let ask = Ask {
            method: Method::PUT,
            url: self.url("manifests", tag_or_digest)?,
            what: &what,
            headers: vec![("Content-Type", media_type.to_owned())],
            body: Some(bytes),
        };
        let digest = Digest::of(bytes);
        persist(self.client.options(), || {
            let response = self.attempt_for(&ask, &[200, 201, 202, 204])?;
            self.check_digest(&response, &what, digest)
        })?;
        Ok(digest)
    }

    fn send_blob(&self, what: &str, open: &mut Open<'_>) -> Result<Sent, Failure> {
        let url = self.url("blobs/uploads", "").map_err(Failure::never)?;
        let begin =
            Ask { method: Method::POST, url: url.clone(), what, headers: Vec::new(), body: Some(b"") };
        let session = self.next(&url, &self.attempt_for(&begin, &[202])?)?;

        let source = open().map_err(|source| self.no_source(source))?;
        let mut bytes = Outgoing { inner: Hashing::new(source), failed: false };
        let answer = self.send_bytes(&session, what, &mut bytes);
        if bytes.failed {
            return Err(self.no_source(io::Error::other("what was to be sent cannot be read")));
        }
        let answer = answer?;
        let size = bytes.inner.count();
        let digest = bytes.inner.finish().1;

        let next = self.next(&session, &answer)?.to_string();
        let separator = if next.contains('?') { '&' } else { '?' };
        let url = format!("{next}{separator}digest={}", encode(&digest.to_string()));
        let url = url.parse().map_err(|_| self.broke(&self.origin, "sends an upload to what is no URL"))?;
        let end = Ask { method: Method::PUT, url, what, headers: Vec::new(), body: Some(b"") };
        let response = self.attempt_for(&end, &[200, 201, 204]).map_err(Failure::if_forgotten)?;
        self.check_digest(&response, what, digest)?;
        Ok(Sent { digest, size })
    }

    /// The PATCH: it cannot be repeated, so it follows no redirect and answers no challenge.
    fn send_bytes(
        &self,
        session: &Uri,
        what: &str,
        bytes: &mut Outgoing<Box<dyn Read + '_>>,
    ) -> Result<Response<Body>, Failure> {
        let origin =
            Origin::of(session).ok_or_else(|| self.broke(&self.origin, "sends an upload nowhere"))?;
        let known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let own = known.filter(|_| origin == self.origin);
        let mut headers = vec![("Content-Type", "application/octet-stream")];
        headers.extend(own.iter().map(|header| ("Authorization", header.as_str())));
        let body = SendBody::from_reader(bytes);
        let response =
            self.client.send_any(&Method::PATCH, session, &origin, self.insecure, &headers, body)?;
        match response.status().as_u16() {
            201 | 202 | 204 => Ok(response),
            401 if own.is_some() => {
                // A token that has run out: the next attempt gets another.
                *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Err(self.client.refusal(&origin, what, response, true).or_soon())
            }
            _ => Err(self.client.refusal(&origin, what, response, own.is_some()).if_forgotten()),
        }
    }

    /// Where an upload goes on.
    fn next(&self, at: &Uri, response: &Response<Body>) -> Result<Uri, Failure> {
        let location = response.headers().get("location").and_then(|l| l.to_str().ok()).unwrap_or_default();
        let target = join(at, location).and_then(|url| Some((Origin::of(&url)?, url)));
        let Some((origin, url)) = target else {
            return Err(self.broke(&self.origin, "does not say where an upload goes on"));
        };
        self.check_clear_text(&origin, "sends an upload")?;
        Ok(url)
    }

    fn check_digest(&self, response: &Response<Body>, what: &str, sent: Digest) -> Result<(), Failure> {
        let said = response.headers().get("docker-content-digest").and_then(|v| v.to_str().ok());
        match said.and_then(|text| text.parse().ok()) {
            Some(got) if got != sent => {
                Err(Failure::soon(Error::Digest { what: what.to_owned(), expected: sent, got }))
            }
            _ => Ok(()),
        }
    }

    fn no_source(&self, source: io::Error) -> Failure {
        Failure::never(Error::Connect { host: self.origin.display(), source })
    }
}

impl Failure {
    /// A registry of several machines forgets an upload when another one is asked: it is begun anew.
    fn if_forgotten(self) -> Self {
        if matches!(self.error, Error::NotFound { .. }) { self.or_soon() } else { self }
    }

    fn or_soon(self) -> Self {
        if self.wait(Duration::ZERO).is_some() { self } else { Self::soon(self.error) }
    }
}

/// Bytes on their way out, and whether their source has failed.
struct Outgoing<R> {
    inner: Hashing<R>,
    failed: bool,
}

impl<R: Read> Read for Outgoing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(into) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                self.failed = true;
                Err(error)
            }
            done => done,
        }
    }
}
