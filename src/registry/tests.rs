//! The client against a real registry and against hostile ones.

use super::testing::*;
use super::*;
use crate::diagnose::Diagnose;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

fn endpoint(host: &str) -> Endpoint {
    Endpoint { host: host.into(), repository: "org/app".into(), insecure: false }
}

fn manifest(options: Options, host: &str) -> Result<RawManifest, Error> {
    let client = Client::new(options);
    client.repository(&endpoint(host), "app:1")?.manifest("1")
}

fn blob(options: Options, host: &str, expected: &[u8]) -> Result<(Vec<u8>, usize), std::io::Error> {
    let client = Client::new(options);
    let retries = AtomicUsize::new(0);
    let repository = client.repository(&endpoint(host), "app:1")?;
    let on_retry = Box::new(|_: &str| {
        retries.fetch_add(1, Ordering::Relaxed);
    });
    let mut blob = repository.blob(Digest::of(expected), expected.len() as u64, on_retry)?;
    let mut bytes = Vec::new();
    blob.read_to_end(&mut bytes)?;
    drop(blob);
    Ok((bytes, retries.into_inner()))
}

fn with_login(dir: &Path, host: &str) -> Options {
    let folder = dir.join("docker");
    std::fs::create_dir_all(&folder).unwrap();
    // coracle:secret
    let text = format!(r#"{{"auths":{{"{host}":{{"auth":"Y29yYWNsZTpzZWNyZXQ="}}}}}}"#);
    std::fs::write(folder.join("config.json"), text).unwrap();
    options(dir)
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_origin() {
    let dir = tempfile::tempdir().unwrap();
    let data = b"layer".to_vec();
    let cdn = {
        let data = data.clone();
        Peer::start(move |_, _| Reply::Answer(answer("200 OK", &[], &data)))
    };
    let target = format!("Location: http://{}/data", cdn.host);
    let registry = Peer::start(move |request, _| {
        Reply::Answer(match (request.path(), request.header("authorization")) {
            ("/v2/", _) => answer("200 OK", &[], b""),
            (_, None) => answer("401 Unauthorized", &["WWW-Authenticate: Basic realm=x"], b""),
            _ => answer("307 Temporary Redirect", &[&target], b""),
        })
    });
    let (bytes, _) = blob(with_login(dir.path(), &registry.host), &registry.host, &data).unwrap();
    assert_eq!(bytes, data);
    assert!(registry.requests().iter().any(|r| r.header("authorization").is_some()));
    assert_eq!(cdn.requests().len(), 1);
    assert_eq!(cdn.requests()[0].header("authorization"), None);
}

#[test]
fn redirects_end_and_do_not_lead_into_clear_text() {
    let dir = tempfile::tempdir().unwrap();
    for (location, expected) in [
        ("/again", "without end"),
        ("http://example.com/x", "plain http"),
        ("gopher://x", "nowhere"),
        ("", "nowhere"),
    ] {
        let header = format!("Location: {location}");
        let registry = Peer::start(move |request, _| {
            Reply::Answer(match request.path() {
                "/v2/" => answer("200 OK", &[], b""),
                _ => answer("302 Found", &[&header], b""),
            })
        });
        let error = manifest(options(dir.path()), &registry.host).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(registry.requests().len() < 20);
    }
}

#[test]
fn a_token_is_asked_for_with_our_own_scope_and_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = Peer::start(|request, _| {
        assert_eq!(request.header("authorization"), Some("Basic Y29yYWNsZTpzZWNyZXQ="));
        Reply::Answer(answer("200 OK", &[], br#"{"access_token": "tok", "expires_in": 60}"#))
    });
    let challenge = format!(
        r#"WWW-Authenticate: Bearer realm="http://{}/token",service="s x",scope="repository:other:push""#,
        tokens.host
    );
    let registry = Peer::start(move |request, _| {
        Reply::Answer(match (request.path(), request.header("authorization")) {
            ("/v2/", _) => answer("200 OK", &[], b""),
            (_, Some("Bearer tok")) => answer("200 OK", &["Content-Type: a/b; c=d"], b"{}"),
            _ => answer("401 Unauthorized", &[&challenge], b""),
        })
    });
    let client = Client::new(with_login(dir.path(), &registry.host));
    let repository = client.repository(&endpoint(&registry.host), "app:1").unwrap();
    for _ in 0..2 {
        let manifest = repository.manifest("1").unwrap();
        assert_eq!((manifest.media_type.as_str(), manifest.digest), ("a/b", Digest::of(b"{}")));
    }
    let asked = tokens.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path(), "/token?scope=repository%3Aorg%2Fapp%3Apull&service=s%20x");
}

#[test]
fn an_identity_token_is_posted() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = Peer::start(|request, _| {
        assert!(request.line.starts_with("POST ") && request.header("authorization").is_none());
        assert!(
            request.body.contains("grant_type=refresh_token")
                && request.body.contains("refresh_token=id%2B1")
        );
        Reply::Answer(answer("200 OK", &[], br#"{"token": "tok"}"#))
    });
    let challenge = format!(r#"WWW-Authenticate: Bearer realm="http://{}/token""#, tokens.host);
    let registry = Peer::start(move |request, _| {
        Reply::Answer(match (request.path(), request.header("authorization")) {
            ("/v2/", _) => answer("200 OK", &[], b""),
            (_, Some("Bearer tok")) => answer("200 OK", &[], b"{}"),
            _ => answer("401 Unauthorized", &[&challenge], b""),
        })
    });
    let mut options = options(dir.path());
    options.credentials = Some(Credentials::IdentityToken("id+1".into()));
    manifest(options, &registry.host).unwrap();
}

#[test]
fn a_token_server_without_tls_is_not_told_anything() {
    let dir = tempfile::tempdir().unwrap();
    for realm in ["http://example.com/token", "ftp://x/", "https://user:pw@x/", "nonsense"] {
        let challenge = format!(r#"WWW-Authenticate: Bearer realm="{realm}""#);
        let registry = Peer::start(move |_, _| Reply::Answer(answer("401 Unauthorized", &[&challenge], b"")));
        let error = manifest(with_login(dir.path(), &registry.host), &registry.host).unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
    }
}

#[test]
fn a_broken_or_stalled_blob_goes_on_where_it_broke() {
    let dir = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let served = data.clone();
    let registry = Peer::start(move |request, number| {
        if request.path() == "/v2/" {
            return Reply::Answer(answer("200 OK", &[], b""));
        }
        let from = request
            .header("range")
            .map_or(0, |r| r.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap());
        let range = format!("Content-Range: bytes {from}-{}/{}", served.len() - 1, served.len());
        let whole = if from == 0 {
            answer("200 OK", &[], &served)
        } else {
            answer("206 Partial Content", &[&range], &served[from..])
        };
        match number {
            1 => Reply::Close(whole[..150_000].to_vec()),
            2 => Reply::Stall(whole[..50_000].to_vec()),
            3 => Reply::Answer(answer("503 Service Unavailable", &[], b"")),
            _ => Reply::Answer(whole),
        }
    });
    let (bytes, retries) = blob(options(dir.path()), &registry.host, &data).unwrap();
    assert!(bytes == data);
    assert_eq!(retries, 3);
    assert!(registry.requests().iter().filter(|r| r.header("range").is_some()).count() == 3);
}

#[test]
fn without_ranges_what_is_there_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
    let served = data.clone();
    let registry = Peer::start(move |request, number| {
        let whole = answer("200 OK", &[], &served);
        match (request.path(), number) {
            ("/v2/", _) => Reply::Answer(answer("200 OK", &[], b"")),
            (_, 1) => Reply::Close(whole[..70_000].to_vec()),
            _ => Reply::Answer(whole),
        }
    });
    assert!(blob(options(dir.path()), &registry.host, &data).unwrap().0 == data);
}

#[test]
fn a_blob_that_breaks_for_ever_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Peer::start(|request, _| match request.path() {
        "/v2/" => Reply::Answer(answer("200 OK", &[], b"")),
        _ => Reply::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx".to_vec()),
    });
    let error = blob(options(dir.path()), &registry.host, &[0; 1000]).unwrap_err();
    let error = Error::from_io(error).unwrap();
    assert!(matches!(error, Error::Connect { .. } | Error::Protocol { .. }), "{error:?}");
    assert!(registry.requests().len() < 8);
}

/// A connection that is kept alive by so little that it never ends.
#[test]
fn a_registry_that_drips_is_given_up() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    // What comes at once, and what then drips: of a body, of headers, of chunks' sizes and extensions, of trailers.
    let drips: [(&[u8], &[u8]); 6] = [
        (HEAD, b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (CHUNKED, b"1\r\nx\r\n"),
        (&[CHUNKED, b"1;"].concat(), b"x"),
        (&[CHUNKED, b"4\r\nbody\r\n0\r\n"].concat(), b"X-More: x\r\n"),
    ];
    for (at_once, drip) in drips {
        let dir = tempfile::tempdir().unwrap();
        let (head, drop) = (at_once.to_vec(), drip.to_vec());
        let registry = Peer::start(move |request, _| match request.path() {
            "/v2/" => Reply::Answer(answer("200 OK", &[], b"")),
            _ => Reply::Drip(head.clone(), drop.clone()),
        });
        let options = Options { retries: 1, stall: Duration::from_millis(250), ..options(dir.path()) };
        let name = format!("{} then {}", at_once.escape_ascii(), drip.escape_ascii());
        let since = std::time::Instant::now();
        let error = manifest(options.clone(), &registry.host).unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{name}: {error:?}");
        let data = vec![0; 100_000];
        let from_blob = blob(options, &registry.host, &data).unwrap_err();
        assert!(
            matches!(Error::from_io(from_blob), Ok(Error::Connect { .. } | Error::Protocol { .. })),
            "{name}"
        );
        assert!(since.elapsed() < Duration::from_secs(10), "{name}: {:?}", since.elapsed());
    }
}

#[test]
fn headers_and_trailers_without_end_are_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let many: Vec<u8> = (0..100_000).flat_map(|n| format!("X-{n}: x\r\n").into_bytes()).collect();
    let long = [b"X: ", &vec![b'x'; 4 << 20][..], b"\r\n"].concat();
    for headers in [&many, &long] {
        for start in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"] {
            let bytes = [start.as_bytes(), headers, b"\r\n"].concat();
            let registry = Peer::start(move |request, _| match request.path() {
                "/v2/" => Reply::Answer(answer("200 OK", &[], b"")),
                _ => Reply::Close(bytes.clone()),
            });
            let options = Options { retries: 0, ..options(dir.path()) };
            // Trailers may be passed over; then it is a manifest without a byte.
            match manifest(options, &registry.host) {
                Err(Error::Connect { .. }) => {}
                other => assert!(other.unwrap().bytes.is_empty()),
            }
        }
    }
}

#[test]
fn chunked_garbage_is_an_error() {
    for garbage in
        ["zz\r\nx", "ffffffffffffffffff\r\nx", "-1\r\nx", "5\r\nabcdefg\r\n", "\0\0\0\0", "1\r\nab"]
    {
        let dir = tempfile::tempdir().unwrap();
        let bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{garbage}").into_bytes();
        let registry = Peer::start(move |request, _| match request.path() {
            "/v2/" => Reply::Answer(answer("200 OK", &[], b"")),
            _ => Reply::Close(bytes.clone()),
        });
        let options = Options { retries: 1, ..options(dir.path()) };
        let error = manifest(options, &registry.host).unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{garbage}: {error:?}");
    }
}

#[test]
fn a_challenge_is_answered_once() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = Peer::start(|_, _| Reply::Answer(answer("200 OK", &[], br#"{"token": "tok"}"#)));
    let challenge = format!(r#"WWW-Authenticate: Bearer realm="http://{}/token""#, tokens.host);
    let registry = Peer::start(move |_, _| Reply::Answer(answer("401 Unauthorized", &[&challenge], b"")));
    let error = manifest(options(dir.path()), &registry.host).unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    assert!(tokens.requests().len() <= 2 && registry.requests().len() <= 4);
}

#[test]
fn a_blob_of_another_size_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for chunked in [false, true] {
        let registry = Peer::start(move |request, _| match request.path() {
            "/v2/" => Reply::Answer(answer("200 OK", &[], b"")),
            _ if chunked => Reply::Answer(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n0\r\n\r\n".to_vec(),
            ),
            _ => Reply::Answer(answer("200 OK", &[], b"12345678")),
        });
        let error = Error::from_io(blob(options(dir.path()), &registry.host, b"12345").unwrap_err()).unwrap();
        assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
    }
}

#[test]
fn a_huge_manifest_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Peer::start(|request, _| match request.path() {
        "/v2/" => Reply::Answer(answer("200 OK", &[], b"")),
        _ => Reply::Close(answer("200 OK", &[], &vec![b' '; 5 << 20])),
    });
    let error = manifest(options(dir.path()), &registry.host).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
}

#[test]
fn a_manifest_must_have_the_digest_it_was_asked_by() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Peer::start(|_, _| Reply::Answer(answer("200 OK", &[], b"{}")));
    let client = Client::new(options(dir.path()));
    let repository = client.repository(&endpoint(&registry.host), "app:1").unwrap();
    assert!(repository.manifest(&Digest::of(b"{}").to_string()).is_ok());
    let error = repository.manifest(&Digest::of(b"other").to_string()).unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error:?}");
    assert!(matches!(repository.small_blob(Digest::of(b"x"), 10), Err(Error::Digest { .. })));
}

#[test]
fn a_busy_registry_is_asked_again_and_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let busy = answer(
        "429 Too Many Requests",
        &["Retry-After: 0"],
        br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#,
    );
    let twice = busy.clone();
    let registry = Peer::start(move |_, number| {
        Reply::Answer(if (1..3).contains(&number) { twice.clone() } else { answer("200 OK", &[], b"{}") })
    });
    assert!(manifest(options(dir.path()), &registry.host).is_ok());
    let registry = Peer::start(move |_, _| Reply::Answer(busy.clone()));
    let error = manifest(options(dir.path()), &registry.host).unwrap_err();
    assert!(error.to_string().contains("slow down") && error.fix().unwrap().contains("log in"), "{error}");
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let long = answer(status, &["Retry-After: 86400"], b"");
        let registry = Peer::start(move |_, _| Reply::Answer(long.clone()));
        let error = manifest(options(dir.path()), &registry.host).unwrap_err();
        assert!(error.to_string().contains("86400 s") && error.fix().is_some(), "{error}");
        assert_eq!(registry.requests().len(), 2);
    }
}

#[test]
fn the_usual_failures_say_what_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = manifest(options(dir.path()), &gone).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot reach {gone}"));
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("refused"));
    assert!(error.fix().unwrap().contains("listens"));

    let Some(registry) = DockerRegistry::start(dir.path(), false) else { return };
    let error = manifest(options(dir.path()), &registry.host).unwrap_err();
    assert_eq!(error.to_string(), "manifest for app:1 not found: manifest unknown");

    let mut strict = options(dir.path());
    strict.tls_verify = Some(true);
    let error = manifest(strict, &registry.host).unwrap_err();
    assert!(error.fix().unwrap().contains("plain http"), "{error:?} {:?}", error.fix());
}

#[test]
fn a_registry_with_a_password_wants_the_right_one() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = DockerRegistry::start(dir.path(), true) else { return };
    let error = manifest(options(dir.path()), &registry.host).unwrap_err();
    assert!(matches!(error, Error::Denied { authenticated: false, .. }), "{error:?}");
    let mut wrong = options(dir.path());
    wrong.credentials = Credentials::parse("coracle:wrong");
    let error = manifest(wrong, &registry.host).unwrap_err();
    assert!(matches!(error, Error::Denied { authenticated: true, .. }), "{error:?}");
    let error = manifest(with_login(dir.path(), &registry.host), &registry.host).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
}

/// A CA and, signed by it, a certificate for 127.0.0.1.
fn certificates(dir: &Path) {
    let openssl = |args: &[&str]| {
        let common =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        run(std::process::Command::new("openssl").args(common).args(args).current_dir(dir));
    };
    openssl(&["-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt"]);
    let extensions = ["subjectAltName=IP:127.0.0.1", "basicConstraints=critical,CA:FALSE"];
    let [names, kind] = extensions;
    openssl(&[
        "-subj", "/CN=leaf", "-CA", "ca.crt", "-CAkey", "ca.key", "-addext", names, "-addext", kind,
        "-keyout", "leaf.key", "-out", "leaf.crt",
    ]);
}

#[test]
fn tls_is_verified_against_the_registrys_own_ca() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let tls = format!("  tls: {{certificate: {0}/leaf.crt, key: {0}/leaf.key}}\n", dir.path().display());
    let Some(registry) = DockerRegistry::start_with(dir.path(), false, &tls) else { return };

    let error = manifest(options(dir.path()), &registry.host).unwrap_err();
    assert!(error.fix().unwrap().contains("certs.d"), "{error:?}");

    let mut unverified = options(dir.path());
    unverified.tls_verify = Some(false);
    assert!(matches!(manifest(unverified, &registry.host), Err(Error::NotFound { .. })));

    let folder = dir.path().join("config/containers/certs.d").join(&registry.host);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(dir.path().join("ca.crt"), folder.join("ca.crt")).unwrap();
    let mut strict = options(dir.path());
    strict.tls_verify = Some(true);
    assert!(matches!(manifest(strict, &registry.host), Err(Error::NotFound { .. })));
}

#[test]
fn an_expired_token_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = Peer::start(|_, number| {
        Reply::Answer(answer("200 OK", &[], format!(r#"{{"token": "tok{number}"}}"#).as_bytes()))
    });
    let challenge = format!(r#"WWW-Authenticate: Bearer realm="http://{}/token""#, tokens.host);
    let registry = Peer::start(move |request, number| {
        let valid = if number < 4 { "Bearer tok0" } else { "Bearer tok1" };
        Reply::Answer(match (request.path(), request.header("authorization")) {
            ("/v2/", _) => answer("200 OK", &[], b""),
            (_, Some(token)) if token == valid => answer("200 OK", &[], b"{}"),
            _ => answer("401 Unauthorized", &[&challenge], b""),
        })
    });
    let client = Client::new(options(dir.path()));
    let repository = client.repository(&endpoint(&registry.host), "app:1").unwrap();
    for _ in 0..4 {
        repository.manifest("1").unwrap();
    }
    assert_eq!(tokens.requests().len(), 2);
}

/// A server of a few fixed answers by path; 404 else.
fn fixed(answers: &'static [(&'static str, &'static [&'static str], &'static str)]) -> Peer {
    Peer::start(move |request, _| {
        let found = answers.iter().find(|(path, ..)| *path == request.path());
        Reply::Answer(match found {
            Some((_, headers, body)) => answer("200 OK", headers, body.as_bytes()),
            None => answer("404 Not Found", &[], b""),
        })
    })
}

#[test]
fn tags_come_in_pages_from_the_registry_itself_only() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new(options(dir.path()));
    let tags = |host: &str| client.repository(&endpoint(host), "app")?.tags();
    let paged = fixed(&[
        ("/v2/", &[], "{}"),
        (
            "/v2/org/app/tags/list?n=1000",
            &["Link: </v2/org/app/tags/list?last=b>; rel=\"next\""],
            r#"{"tags":["a","b"]}"#,
        ),
        ("/v2/org/app/tags/list?last=b", &[], r#"{"name":"org/app","tags":["c"]}"#),
    ]);
    assert_eq!(tags(&paged.host).unwrap(), ["a", "b", "c"]);
    let none = fixed(&[("/v2/", &[], "{}"), ("/v2/org/app/tags/list?n=1000", &[], r#"{"tags":null}"#)]);
    assert!(tags(&none.host).unwrap().is_empty());
    for (link, body) in
        [("Link: <http://127.0.0.1:1/x>; rel=next", r#"{"tags":["a"]}"#), ("X: y", "nonsense")]
    {
        let peer = Peer::start(move |request, _| {
            let body = if request.path() == "/v2/" { "{}" } else { body };
            Reply::Answer(answer("200 OK", &[link], body.as_bytes()))
        });
        assert!(matches!(tags(&peer.host), Err(Error::Protocol { .. })), "{link}");
        assert!(peer.requests().iter().all(|r| r.header("authorization").is_none()));
    }
    assert!(matches!(tags(&fixed(&[("/v2/", &[], "{}")]).host), Err(Error::NotFound { .. })));
}

#[test]
fn a_search_asks_the_old_way_first_and_else_looks_through_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::new(options(dir.path()));
    let names = |host: &str, term: &str, limit: usize| -> Vec<String> {
        let found = client.search(&endpoint(host), term, limit).unwrap();
        found.into_iter().map(|found| format!("{} {}", found.name, found.stars)).collect()
    };
    let old = fixed(&[
        ("/v2/", &[], "{}"),
        (
            "/v1/search?q=a%20b&n=2",
            &[],
            r#"{"results":[{"name":"x","description":null,"star_count":5,"is_official":true},{"name":"y"},{"name":"z"}]}"#,
        ),
    ]);
    assert_eq!(names(&old.host, "a b", 2), ["x 5", "y 0"]);
    let plain = fixed(&[
        ("/v2/", &[], "{}"),
        (
            "/v2/_catalog?n=1000",
            &["Link: </v2/_catalog?last=2>; rel=\"next\""],
            r#"{"repositories":["app","org/app2"]}"#,
        ),
        ("/v2/_catalog?last=2", &[], r#"{"repositories":["other","theapp"]}"#),
    ]);
    assert_eq!(names(&plain.host, "app", 25), ["app 0", "org/app2 0", "theapp 0"]);
    assert_eq!(names(&plain.host, "", 1), ["app 0"]);
    let nothing = fixed(&[("/v2/", &[], "{}")]);
    assert!(matches!(client.search(&endpoint(&nothing.host), "x", 1), Err(Error::NotFound { .. })));
}

#[test]
fn a_download_follows_redirects_and_sends_no_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let target = fixed(&[("/file", &[], "content")]);
    let location = format!("Location: http://{}/file", target.host);
    let start = Peer::start(move |request, _| {
        Reply::Answer(match request.path() {
            "/a" => answer("302 Found", &[&location], b""),
            "/loop" => answer("302 Found", &["Location: /loop"], b""),
            "/nowhere" => answer("302 Found", &["Location: ftp://x/"], b""),
            _ => answer("403 Forbidden", &[], b""),
        })
    });
    let client = Client::new(with_login(dir.path(), &start.host));
    let get = |path: &str| -> Result<String, Error> {
        let mut text = String::new();
        client.download(&format!("http://{}{path}", start.host))?.read_to_string(&mut text).unwrap();
        Ok(text)
    };
    assert_eq!(get("/a").unwrap(), "content");
    assert!(matches!(get("/loop"), Err(Error::Protocol { .. })));
    assert!(matches!(get("/nowhere"), Err(Error::Protocol { .. })));
    assert!(matches!(get("/secret"), Err(Error::Denied { .. })));
    assert!(start.requests().iter().chain(&target.requests()).all(|r| r.header("authorization").is_none()));
    assert!(client.download("file:///etc/passwd").is_err() && client.download("http://u:p@x/").is_err());
}
