//! One request to its end: redirects followed by hand, challenges answered, failures sorted into those that are
//! worth another attempt and those that are not.

use super::challenge::{Challenge, choose};
use super::client::{Client, Repository};
use super::credentials::{self, Credentials};
use super::error::clean;
use super::pace::Paced;
use super::url::{Origin, encode, join};
use super::{Error, Options};
use base64::Engine;
use serde::Deserialize;
use std::io::{self, ErrorKind, Read};
use std::sync::PoisonError;
use std::time::Duration;
use ureq::Body;
use ureq::http::{Method, Response, Uri};

const MAX_REDIRECTS: usize = 10;
/// A longer `Retry-After` than this is not waited for.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Bound of error texts and tokens.
pub(super) const MAX_ANSWER: u64 = 1 << 20;

/// A request: only what is safe to repeat.
#[derive(Clone)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: Uri,
    /// For messages: what is asked for.
    pub(super) what: &'a str,
    pub(super) headers: Vec<(&'static str, String)>,
    /// What is sent, if anything is.
    pub(super) body: Option<&'a [u8]>,
}

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    again: Again,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Never,
    Soon,
    After(Duration),
}

impl Failure {
    pub(super) fn never(error: Error) -> Self {
        Self { error, again: Again::Never }
    }

    pub(super) fn soon(error: Error) -> Self {
        Self { error, again: Again::Soon }
    }

    /// How long to wait before the next attempt, if there should be one.
    pub(super) fn wait(&self, delay: Duration) -> Option<Duration> {
        match self.again {
            Again::Never => None,
            Again::Soon => Some(delay),
            Again::After(wait) => (wait <= MAX_WAIT).then_some(wait.max(delay)),
        }
    }
}

/// Attempts until it succeeds, cannot succeed, or `--retry` is used up; the wait doubles each time.
pub(super) fn persist<T>(
    options: &Options,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Error> {
    let mut delay = options.retry_delay;
    for _ in 0..options.retries {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(failure) => match failure.wait(delay) {
                Some(wait) => std::thread::sleep(wait),
                None => return Err(failure.error),
            },
        }
        delay = (delay * 2).min(MAX_WAIT);
    }
    attempt().map_err(|failure| failure.error)
}

impl Repository<'_> {
    /// One attempt, with redirects and authorization. The answer's status is 200 or 206.
    pub(super) fn attempt(&self, ask: &Ask<'_>) -> Result<Response<Body>, Failure> {
        self.attempt_for(ask, &[200, 206])
    }

    /// The same where other answers are good ones.
    pub(super) fn attempt_for(&self, ask: &Ask<'_>, good: &[u16]) -> Result<Response<Body>, Failure> {
        let used = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (response, from) = self.follow(ask, used.as_deref())?;
        let (response, from, authenticated) = if response.status() == 401 && from == self.origin {
            let (header, authenticated) = self.authorize(ask.what, &response)?;
            let (response, from) = self.follow(ask, Some(&header))?;
            if response.status().is_success() {
                *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(header);
            }
            (response, from, authenticated)
        } else {
            (response, from, used.is_some())
        };
        match good.contains(&response.status().as_u16()) {
            true => Ok(response),
            false => Err(self.client.refusal(&from, ask.what, response, authenticated)),
        }
    }

    /// Follows redirects. `authorization` goes to the repository's own origin and to no other (CVE-2020-15157).
    fn follow(
        &self,
        ask: &Ask<'_>,
        authorization: Option<&str>,
    ) -> Result<(Response<Body>, Origin), Failure> {
        let mut url = ask.url.clone();
        // An upload goes to where the registry says, which may be somewhere else.
        let mut origin =
            Origin::of(&url).ok_or_else(|| self.broke(&self.origin, "sends us to what is no http URL"))?;
        for _ in 0..=MAX_REDIRECTS {
            let mut headers: Vec<(&str, &str)> = ask.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            if let Some(authorization) = authorization.filter(|_| origin == self.origin) {
                headers.push(("Authorization", authorization));
            }
            let response = self.client.send(&ask.method, &url, &origin, self.insecure, &headers, ask.body)?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((response, origin));
            }
            let location =
                response.headers().get("location").and_then(|l| l.to_str().ok()).unwrap_or_default();
            let target = join(&url, location).and_then(|url| Some((Origin::of(&url)?, url)));
            let Some((next, next_url)) = target else {
                return Err(self.broke(&origin, "redirects to nowhere"));
            };
            self.check_clear_text(&next, "redirects")?;
            (origin, url) = (next, next_url);
        }
        Err(self.broke(&origin, "redirects without end"))
    }

    /// Plain http is followed where it was allowed, or on this machine when we came by plain http.
    pub(super) fn check_clear_text(&self, to: &Origin, verb: &str) -> Result<(), Failure> {
        if to.https || self.insecure || (to.is_loopback() && !self.origin.https) {
            return Ok(());
        }
        Err(self.broke(&self.origin, &format!("{verb} to plain http at {}, which is refused", to.display())))
    }

    pub(super) fn broke(&self, origin: &Origin, why: &str) -> Failure {
        Failure::never(Error::Protocol { host: origin.display(), why: why.into() })
    }

    /// The `Authorization` header that answers a 401, and whether it tells who we are.
    fn authorize(&self, what: &str, response: &Response<Body>) -> Result<(String, bool), Failure> {
        let headers = response.headers().get_all("www-authenticate");
        let challenge = choose(headers.iter().filter_map(|v| v.to_str().ok()));
        let found = || {
            let host = match self.endpoint.host.as_str() {
                "index.docker.io" | "registry-1.docker.io" => "docker.io",
                host => host,
            };
            credentials::find(self.client.options(), host, &self.endpoint.repository).map_err(Failure::never)
        };
        let denied = |detail: &str| {
            Failure::never(Error::Denied {
                what: what.into(),
                host: self.endpoint.host.clone(),
                detail: detail.into(),
                authenticated: false,
            })
        };
        match challenge {
            Some(Challenge::Bearer { realm, service }) => {
                let credentials = found()?;
                let token = self.token(what, &realm, service.as_deref(), credentials.as_ref())?;
                Ok((format!("Bearer {token}"), credentials.is_some()))
            }
            Some(Challenge::Basic) => match found()? {
                Some(Credentials::Password { user, password }) => Ok((basic(&user, &password), true)),
                Some(Credentials::IdentityToken(_)) => {
                    Err(denied("the registry wants a password, and there is only an identity token"))
                }
                None => Err(denied("authentication required")),
            },
            None => Err(denied("unauthorized")),
        }
    }

    /// A token for this repository (docker's token specification; the scope is our own, never one
    /// that the registry asks us to get).
    fn token(
        &self,
        what: &str,
        realm: &str,
        service: Option<&str>,
        credentials: Option<&Credentials>,
    ) -> Result<String, Failure> {
        let url: Option<Uri> = realm.parse().ok();
        let Some((origin, url)) = url.and_then(|url| Some((Origin::of(&url)?, url))) else {
            return Err(self.broke(&self.origin, "asks for a token from what is no http URL"));
        };
        self.check_clear_text(&origin, "sends us for a token")?;
        let scopes = self.scopes.iter().map(|scope| format!("scope={}", encode(scope)));
        let service = service.map(|service| format!("service={}", encode(service)));
        let query = scopes.chain(service).collect::<Vec<_>>().join("&");
        let response = if let Some(Credentials::IdentityToken(token)) = credentials {
            let form =
                format!("grant_type=refresh_token&client_id=coracle&refresh_token={}&{query}", encode(token));
            let headers = [("Content-Type", "application/x-www-form-urlencoded")];
            self.client.send(&Method::POST, &url, &origin, self.insecure, &headers, Some(form.as_bytes()))?
        } else {
            let separator = if url.query().is_some() { '&' } else { '?' };
            let url: Uri = format!("{url}{separator}{query}")
                .parse()
                .map_err(|_| self.broke(&self.origin, "asks for a token from what is no http URL"))?;
            let header = match credentials {
                Some(Credentials::Password { user, password }) => Some(basic(user, password)),
                _ => None,
            };
            let headers: Vec<_> = header.iter().map(|h| ("Authorization", h.as_str())).collect();
            self.client.send(&Method::GET, &url, &origin, self.insecure, &headers, None)?
        };
        if response.status() != 200 {
            return Err(self.client.refusal(&origin, what, response, credentials.is_some()));
        }
        let body = self.client.read_bounded(&origin, response, "token", MAX_ANSWER)?;
        let answer: TokenAnswer = serde_json::from_slice(&body).unwrap_or_default();
        let token = answer.token.or(answer.access_token).unwrap_or_default();
        let is_fit = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        if is_fit { Ok(token) } else { Err(self.broke(&origin, "gave no token")) }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

fn basic(user: &str, password: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {pair}")
}

/// A connection that could not be made or did not hold.
pub(super) fn broken(host: &str, error: ureq::Error) -> Failure {
    use ureq::Timeout;
    let (source, again) = match error {
        ureq::Error::Io(e) => {
            let again = match e.kind() {
                ErrorKind::ConnectionRefused
                | ErrorKind::NotFound
                | ErrorKind::NetworkUnreachable
                | ErrorKind::HostUnreachable
                // rustls reports what it does not like by this kind.
                | ErrorKind::InvalidData => Again::Never,
                _ => Again::Soon,
            };
            (e, again)
        }
        ureq::Error::Timeout(kind) => {
            let again = if matches!(kind, Timeout::Connect) { Again::Never } else { Again::Soon };
            let what = match kind {
                Timeout::PerRead => "the connection has stalled".to_owned(),
                Timeout::RecvResponse => "no answer in time".to_owned(),
                kind => format!("no answer in time ({kind})"),
            };
            (io::Error::new(ErrorKind::TimedOut, what), again)
        }
        ureq::Error::HostNotFound => {
            (io::Error::new(ErrorKind::NotFound, "there is no such host"), Again::Never)
        }
        ureq::Error::Protocol(e) => (io::Error::new(ErrorKind::InvalidData, e), Again::Soon),
        other => (io::Error::new(ErrorKind::InvalidData, other), Again::Never),
    };
    Failure { error: Error::Connect { host: host.into(), source }, again }
}

impl Client {
    /// The whole body, if it is not larger than `limit`.
    pub(super) fn read_bounded(
        &self,
        from: &Origin,
        response: Response<Body>,
        what: &str,
        limit: u64,
    ) -> Result<Vec<u8>, Failure> {
        let broken = |e| broken(&from.display(), ureq::Error::from(e));
        let mut bytes = Vec::new();
        let mut reader = Paced::new(response.into_body().into_reader(), self.options().stall);
        reader.by_ref().take(limit).read_to_end(&mut bytes).map_err(broken)?;
        // One more byte than allowed, or the end: which also gives the connection back.
        match reader.read(&mut [0]) {
            Ok(0) => Ok(bytes),
            Ok(_) => Err(Failure::never(Error::TooLarge { what: what.into(), limit })),
            Err(e) => Err(broken(e)),
        }
    }

    /// What an answer that is none means.
    pub(super) fn refusal(
        &self,
        from: &Origin,
        what: &str,
        response: Response<Body>,
        authenticated: bool,
    ) -> Failure {
        let status = response.status();
        let retry_after = response.headers().get("retry-after").and_then(|v| v.to_str().ok());
        let wait = retry_after.and_then(|v| v.trim().parse().ok()).map(Duration::from_secs);
        let usual = status.canonical_reason().unwrap_or("no reason given").to_ascii_lowercase();
        let body = self.read_bounded(from, response, "error", MAX_ANSWER).unwrap_or_default();
        let mut detail = words(&body, authenticated).unwrap_or(usual);
        if let Some(wait) = wait.filter(|wait| *wait > MAX_WAIT) {
            detail.push_str(&format!(" (it wants to be asked again in {} s)", wait.as_secs()));
        }
        let (host, what) = (from.display(), what.to_owned());
        let again = wait.map_or(Again::Soon, Again::After);
        match status.as_u16() {
            401 | 403 => Failure::never(Error::Denied { what, host, detail, authenticated }),
            404 => Failure::never(Error::NotFound { what, detail }),
            429 => Failure { error: Error::RateLimit { host, detail }, again },
            code @ (408 | 500..) => {
                Failure { error: Error::Status { host, what, status: code, detail }, again }
            }
            code => Failure::never(Error::Status { host, what, status: code, detail }),
        }
    }
}

/// The registry's own words (distribution-spec, "Error Codes"; tokens servers have `details`). Of an answer to
/// credentials only the code is taken: its free text may repeat them.
fn words(body: &[u8], authenticated: bool) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        errors: Option<Vec<One>>,
        details: Option<String>,
    }
    #[derive(Deserialize)]
    struct One {
        code: Option<String>,
        message: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let first = answer.errors.into_iter().flatten().next();
    let is_code = |c: &&String| c.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let code =
        |one: &One| one.code.as_ref().filter(is_code).map(|c| c.to_ascii_lowercase().replace('_', " "));
    if authenticated {
        return first.as_ref().and_then(code);
    }
    let text = first.and_then(|one| one.message.clone().filter(|m| !m.is_empty()).or_else(|| code(&one)));
    text.or(answer.details).map(|text| clean(&text)).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registrys_words_are_found() {
        let table = [
            (
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                Some("manifest unknown"),
            ),
            (r#"{"errors":[{"code":"NAME_UNKNOWN","message":""}]}"#, Some("name unknown")),
            (
                r#"{"errors":[],"details":"incorrect username or password"}"#,
                Some("incorrect username or password"),
            ),
            (r#"{"errors":[{"message":"a\u001b[31mb"}]}"#, Some("a [31mb")),
            ("<html>", None),
        ];
        for (body, expected) in table {
            assert_eq!(words(body.as_bytes(), false).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn waits_double_and_follow_the_registrys_wish_within_reason() {
        let error = || Error::Protocol { host: "h".into(), why: "w".into() };
        let second = Duration::from_secs(1);
        assert_eq!(Failure::never(error()).wait(second), None);
        assert_eq!(Failure::soon(error()).wait(second), Some(second));
        let after = |secs| Failure { error: error(), again: Again::After(Duration::from_secs(secs)) };
        assert_eq!(after(5).wait(second), Some(Duration::from_secs(5)));
        assert_eq!(after(0).wait(second), Some(second));
        assert_eq!(after(3600).wait(second), None);
        let options = Options { retries: 3, retry_delay: Duration::ZERO, ..Options::default() };
        let mut attempts = 0;
        let result: Result<(), _> = persist(&options, || {
            attempts += 1;
            Err(Failure::soon(error()))
        });
        assert!(result.is_err());
        assert_eq!(attempts, 4);
    }
}
