//! A file by its URL, for `import` and `build`.

use super::pace::Paced;
use super::request::{broken, persist};
use super::url::{Origin, join};
use super::{Client, Error};
use crate::timestamp::Timestamp;
use std::io::Read;
use ureq::http::{Method, Uri};

const MAX_REDIRECTS: usize = 10;

impl Client {
    /// Opens what is at an http or https URL. No credentials are sent. Plain http is what the user typed or allowed
    /// (`--tls-verify=false`), never where a redirect from https leads to.
    pub fn download(&self, url: &str) -> Result<Download, Error> {
        let unchanged =
            || Error::Protocol { host: url.to_owned(), why: "says that nothing has changed".into() };
        self.download_unless(url, None)?.ok_or_else(unchanged)
    }

    /// The same, unless it still is what had this strong validator (RFC 9110, 8.8.3): nothing then.
    pub fn download_unless(&self, url: &str, etag: Option<&str>) -> Result<Option<Download>, Error> {
        let no_url = || Error::Protocol { host: url.to_owned(), why: "is no http or https URL".into() };
        let first: Uri = url.parse().map_err(|_| no_url())?;
        let start = Origin::of(&first).ok_or_else(no_url)?;
        let insecure = self.options().tls_verify == Some(false);
        persist(self.options(), || {
            let (mut url, mut origin) = (first.clone(), start.clone());
            for _ in 0..=MAX_REDIRECTS {
                let headers: Vec<_> = etag.map(|etag| ("If-None-Match", etag)).into_iter().collect();
                let response = self.send(&Method::GET, &url, &origin, insecure, &headers, None)?;
                let status = response.status().as_u16();
                if status == 304 && etag.is_some() {
                    return Ok(None);
                }
                if status == 200 {
                    let header = |name| response.headers().get(name).and_then(|l| l.to_str().ok());
                    return Ok(Some(Download {
                        host: origin.display(),
                        modified: header("last-modified").and_then(http_date),
                        etag: header("etag").filter(|etag| etag.starts_with('"')).map(str::to_owned),
                        reader: Paced::new(response.into_body().into_reader(), self.options().stall),
                    }));
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

/// What comes; its errors say from where.
pub struct Download {
    host: String,
    /// When it was last changed, if the server says.
    pub modified: Option<Timestamp>,
    /// Its strong validator, if the server has one.
    pub etag: Option<String>,
    reader: Paced<ureq::BodyReader<'static>>,
}

impl Read for Download {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.reader.read(into).map_err(|e| broken(&self.host, ureq::Error::from(e)).error.into())
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7); the two obsolete forms count as none.
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    (words.next()? == "GMT").then_some(())?;
    format!("{year}-{month:02}-{day}T{time}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_servers_write_them() {
        let seconds = |text| http_date(text).map(Timestamp::unix_seconds);
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for other in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Foo 1994 08:49:37 GMT",
        ] {
            assert_eq!(seconds(other), None, "{other}");
        }
    }
}
