//! A file by its URL, for `import`.

use super::pace::Paced;
use super::request::{broken, persist};
use super::url::{Origin, join};
use super::{Client, Error};
use std::io::Read;
use ureq::http::{Method, Uri};

const MAX_REDIRECTS: usize = 10;

impl Client {
    /// Opens what is at an http or https URL. No credentials are sent. Plain http is what the user typed or allowed
    /// (`--tls-verify=false`), never where a redirect from https leads to.
    pub fn download(&self, url: &str) -> Result<Box<dyn Read + Send>, Error> {
        let no_url = || Error::Protocol { host: url.to_owned(), why: "is no http or https URL".into() };
        let first: Uri = url.parse().map_err(|_| no_url())?;
        let start = Origin::of(&first).ok_or_else(no_url)?;
        let insecure = self.options().tls_verify == Some(false);
        persist(self.options(), || {
            let (mut url, mut origin) = (first.clone(), start.clone());
            for _ in 0..=MAX_REDIRECTS {
                let response = self.send(&Method::GET, &url, &origin, insecure, &[], None)?;
                let status = response.status().as_u16();
                if status == 200 {
                    let host = origin.display();
                    return Ok(Box::new(Body {
                        host,
                        reader: Paced::new(response.into_body().into_reader(), self.options().stall),
                    }) as _);
                }
                if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                    return Err(self.refusal(&origin, url.path(), response, false));
                }
                let location =
                    response.headers().get("location").and_then(|l| l.to_str().ok()).unwrap_or_default();
                let target = join(&url, location).and_then(|url| Some((Origin::of(&url)?, url)));
                let broke = |why: &str| Error::Protocol { host: origin.display(), why: why.into() };
                let Some((next, next_url)) = target else {
                    return Err(super::request::Failure::never(broke("redirects to nowhere")));
                };
                if origin.https && !next.https && !insecure {
                    let error = broke("redirects to plain http, which is refused");
                    return Err(super::request::Failure::never(error));
                }
                (origin, url) = (next, next_url);
            }
            let host = origin.display();
            Err(super::request::Failure::never(Error::Protocol { host, why: "redirects without end".into() }))
        })
    }
}

/// A body whose errors say from where it came.
struct Body {
    host: String,
    reader: Paced<ureq::BodyReader<'static>>,
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.reader.read(into).map_err(|e| broken(&self.host, ureq::Error::from(e)).error.into())
    }
}
