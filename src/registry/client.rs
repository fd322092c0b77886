//! What the requests of one command share, and the repositories that they are made to.

use super::dns::Dns;
use super::pace;
use super::proxy::Proxies;
use super::request::{Ask, Failure, MAX_ANSWER, broken, persist};
use super::url::{Origin, is_loopback, without_port};
use super::{BlobReader, Endpoint, Error, Options, RawManifest, tls};
use crate::digest::Digest;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use ureq::http::{Method, Request, Response, Uri};
use ureq::{Agent, AsSendBody, Body};

/// More than any real manifest (docker and containerd have the same bound).
const MAX_MANIFEST: u64 = 4 << 20;

const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Connections, names, certificates and credentials of one command. Threads share it.
pub struct Client {
    options: Options,
    proxies: Proxies,
    dns: Dns,
    /// One agent per origin, since each origin has its certificates and its proxy; each pools its connections.
    agents: Mutex<HashMap<(Origin, bool), Agent>>,
    /// Which scheme a host that may speak either was found to speak: true is https.
    schemes: Mutex<HashMap<(String, bool), bool>>,
}

impl Client {
    /// A client that has not talked to anybody yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            proxies: Proxies::from_env(),
            dns: Dns::default(),
            agents: Mutex::default(),
            schemes: Mutex::default(),
        }
    }

    /// The repository at `endpoint`, to pull from. `name` is what messages call the image.
    pub fn repository(&self, endpoint: &Endpoint, name: &str) -> Result<Repository<'_>, Error> {
        self.repository_for(endpoint, name, vec![format!("repository:{}:pull", endpoint.repository)])
    }

    /// The repository at `endpoint`, to push to. Blobs of the repositories `others` of the same registry may be
    /// [mounted](Repository::mount_blob) there.
    pub fn repository_to_push(
        &self,
        endpoint: &Endpoint,
        name: &str,
        others: &[String],
    ) -> Result<Repository<'_>, Error> {
        let own = format!("repository:{}:pull,push", endpoint.repository);
        let others = others.iter().map(|other| format!("repository:{other}:pull"));
        self.repository_for(endpoint, name, std::iter::once(own).chain(others).collect())
    }

    fn repository_for(
        &self,
        endpoint: &Endpoint,
        name: &str,
        scopes: Vec<String>,
    ) -> Result<Repository<'_>, Error> {
        let insecure = match self.options.tls_verify {
            Some(verify) => !verify,
            None => endpoint.insecure,
        };
        // Docker Hub's registry has another name than Docker Hub.
        let host = match endpoint.host.as_str() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            host => host,
        };
        let (origin, root) = self.root_of(host, insecure)?;
        Ok(Repository {
            client: self,
            endpoint: endpoint.clone(),
            name: name.to_owned(),
            base: format!("{root}/v2/{}", endpoint.repository),
            root,
            scopes,
            origin,
            insecure,
            authorization: Mutex::new(None),
        })
    }

    /// A registry as a whole: to see who we are to it.
    pub(super) fn registry_to_log_in(&self, endpoint: &Endpoint) -> Result<Repository<'_>, Error> {
        self.repository_for(endpoint, &endpoint.host, Vec::new())
    }

    /// A registry as a whole: for what it lists.
    pub(super) fn registry(&self, host: &str, insecure: bool) -> Result<Repository<'_>, Error> {
        let insecure = self.options.tls_verify.map_or(insecure, |verify| !verify);
        let (origin, root) = self.root_of(host, insecure)?;
        Ok(Repository {
            client: self,
            endpoint: Endpoint { host: host.to_owned(), repository: String::new(), insecure },
            name: host.to_owned(),
            base: format!("{root}/v2"),
            root,
            scopes: vec!["registry:catalog:*".into()],
            origin,
            insecure,
            authorization: Mutex::new(None),
        })
    }

    fn root_of(&self, host: &str, insecure: bool) -> Result<(Origin, String), Error> {
        let scheme = if self.speaks_https(host, insecure)? { "https" } else { "http" };
        let root = format!("{scheme}://{host}");
        let origin = root.parse().ok().as_ref().and_then(Origin::of).ok_or_else(|| Error::Protocol {
            host: host.to_owned(),
            why: "is not the name of a registry".into(),
        })?;
        Ok((origin, root))
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// https, but for registries that may speak plain http (this machine's, insecure ones), which are asked.
    /// A loopback one is asked in clear text first, where nobody listens; another one by TLS first.
    fn speaks_https(&self, host: &str, insecure: bool) -> Result<bool, Error> {
        let local = is_loopback(without_port(host));
        if !insecure && (!local || self.options.tls_verify == Some(true)) {
            return Ok(true);
        }
        let key = (host.to_owned(), insecure);
        let mut schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(https) = schemes.get(&key) {
            return Ok(*https);
        }
        let first = !local;
        let https = match self.ping(host, first, insecure) {
            Ok(true) => first,
            Ok(false) => self.ping(host, !first, insecure).map(|_| !first)?,
            Err(error) => match self.ping(host, !first, insecure) {
                Ok(true) => !first,
                Ok(false) => return Err(error),
                // Neither: what went wrong with TLS says more.
                Err(other) => return Err(if first { error } else { other }),
            },
        };
        schemes.insert(key, https);
        Ok(https)
    }

    /// Whether `host` speaks this scheme. A TLS server answers 400, or not at all, to plain http.
    fn ping(&self, host: &str, https: bool, insecure: bool) -> Result<bool, Error> {
        let url = format!("{}://{host}/v2/", if https { "https" } else { "http" });
        let not_a_name =
            || Error::Protocol { host: host.to_owned(), why: "is not the name of a registry".into() };
        let url: Uri = url.parse().map_err(|_| not_a_name())?;
        let origin = Origin::of(&url).ok_or_else(not_a_name)?;
        let response = self.send(&Method::GET, &url, &origin, insecure, &[], None).map_err(|f| f.error)?;
        Ok(https || response.status() != 400)
    }

    /// One request, to its answer's headers.
    pub(super) fn send(
        &self,
        method: &Method,
        url: &Uri,
        origin: &Origin,
        insecure: bool,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Response<Body>, Failure> {
        match body {
            Some(body) => self.send_any(method, url, origin, insecure, headers, body),
            None => self.send_any(method, url, origin, insecure, headers, ()),
        }
    }

    /// The same with a body of any kind.
    pub(super) fn send_any(
        &self,
        method: &Method,
        url: &Uri,
        origin: &Origin,
        insecure: bool,
        headers: &[(&str, &str)],
        body: impl AsSendBody,
    ) -> Result<Response<Body>, Failure> {
        let agent = self.agent(origin, insecure).map_err(Failure::never)?;
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = request.body(body).map_err(ureq::Error::Http);
        if matches!(*method, Method::PUT | Method::PATCH) {
            // What has been sent is written, compared and moved before it is answered.
            let patience = Some(self.options.stall.saturating_mul(10));
            answer = answer
                .map(|request| agent.configure_request(request).timeout_recv_response(patience).build());
        }
        answer.and_then(|request| agent.run(request)).map_err(|e| broken(&origin.display(), e))
    }

    fn agent(&self, origin: &Origin, insecure: bool) -> Result<Agent, Error> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (origin.clone(), insecure);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let stall = Some(self.options.stall);
        let proxy = self.proxies.choose(origin)?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(Duration::from_secs(20)))
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(stall)
            .timeout_per_read(stall)
            .timeout_per_write(stall)
            .max_idle_connections_per_host(8);
        if origin.https || proxy.is_some() {
            config = config.tls_config(tls::config(&self.options, &origin.display(), !insecure)?);
        }
        let config = config.proxy(proxy).build();
        let agent = Agent::with_parts(config, pace::connector(), self.dns.clone());
        agents.insert(key, agent.clone());
        Ok(agent)
    }
}

/// One repository at one endpoint. Threads share it.
pub struct Repository<'c> {
    pub(super) client: &'c Client,
    pub(super) endpoint: Endpoint,
    pub(super) name: String,
    /// `https://host`.
    root: String,
    /// Its URLs begin so.
    base: String,
    /// What a token is asked for.
    pub(super) scopes: Vec<String>,
    pub(super) origin: Origin,
    pub(super) insecure: bool,
    /// The `Authorization` header that was accepted last.
    pub(super) authorization: Mutex<Option<String>>,
}

impl Repository<'_> {
    /// The manifest that a tag or digest names, verified against the digest if it is one.
    pub fn manifest(&self, tag_or_digest: &str) -> Result<RawManifest, Error> {
        let what = format!("manifest for {}", self.name);
        let ask = Ask {
            method: Method::GET,
            url: self.url("manifests", tag_or_digest)?,
            what: &what,
            headers: vec![("Accept", ACCEPT_MANIFESTS.into())],
            body: None,
        };
        persist(self.client.options(), || {
            let response = self.attempt(&ask)?;
            let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
            let media_type = header("content-type").and_then(|t| t.split(';').next()).unwrap_or_default();
            let media_type = media_type.trim().to_owned();
            let expected =
                tag_or_digest.parse().ok().or(header("docker-content-digest").and_then(|d| d.parse().ok()));
            let bytes = self.client.read_bounded(&self.origin, response, &what, MAX_MANIFEST)?;
            let digest = Digest::of(&bytes);
            match expected {
                Some(expected) if expected != digest => {
                    Err(Failure::soon(Error::Digest { what: what.clone(), expected, got: digest }))
                }
                _ => Ok(RawManifest { bytes, digest, media_type }),
            }
        })
    }

    /// The digest that a tag has now, without fetching the manifest (which registries count as a pull); `None`
    /// if the registry does not say.
    pub fn manifest_digest(&self, tag: &str) -> Result<Option<Digest>, Error> {
        let what = format!("manifest for {}", self.name);
        let ask = Ask {
            method: Method::HEAD,
            url: self.url("manifests", tag)?,
            what: &what,
            headers: vec![("Accept", ACCEPT_MANIFESTS.into())],
            body: None,
        };
        persist(self.client.options(), || {
            let response = self.attempt(&ask)?;
            let digest = response.headers().get("docker-content-digest").and_then(|v| v.to_str().ok());
            Ok(digest.and_then(|d| d.parse().ok()))
        })
    }

    /// A blob small enough to be held in memory, verified.
    pub fn small_blob(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, Error> {
        let what = format!("blob {digest} of {}", self.name);
        let ask = Ask {
            method: Method::GET,
            url: self.url("blobs", &digest.to_string())?,
            what: &what,
            headers: Vec::new(),
            body: None,
        };
        persist(self.client.options(), || {
            let response = self.attempt(&ask)?;
            let bytes = self.client.read_bounded(&self.origin, response, &what, limit)?;
            match Digest::of(&bytes) {
                got if got == digest => Ok(bytes),
                got => Err(Failure::soon(Error::Digest { what: what.clone(), expected: digest, got })),
            }
        })
    }

    /// A blob as a stream of exactly `size` bytes, **not verified**: the reader compares the digest. `on_retry`
    /// is told why whenever the connection broke and a new one is made.
    pub fn blob<'r>(
        &'r self,
        digest: Digest,
        size: u64,
        on_retry: Box<dyn Fn(&str) + Send + 'r>,
    ) -> Result<BlobReader<'r>, Error> {
        BlobReader::open(self, digest, size, on_retry)
    }

    /// A URL anywhere in the registry.
    pub(super) fn whole_url(&self, path: &str) -> Result<Uri, Error> {
        format!("{}/{path}", self.root).parse().map_err(|_| Error::Protocol {
            host: self.origin.display(),
            why: format!("cannot be asked for '{path}'"),
        })
    }

    pub(super) fn url(&self, kind: &str, reference: &str) -> Result<Uri, Error> {
        format!("{}/{kind}/{reference}", self.base).parse().map_err(|_| Error::Protocol {
            host: self.origin.display(),
            why: format!("cannot be asked for '{reference}'"),
        })
    }
}

const _: () = assert!(MAX_ANSWER < MAX_MANIFEST);
