//! A registry in the test's own hands: it serves what the test gives it, counts who asks for what, and lies where the
//! test wants it to.

use super::image::Image;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// An answer.
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// What Content-Length says, if not the truth.
    pub claimed_length: Option<usize>,
    /// Keeps the connection open and says nothing more.
    pub stall: bool,
    /// Says one byte more now and then, for ever.
    pub drip: bool,
}

impl Response {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            claimed_length: None,
            stall: false,
            drip: false,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Rule = Box<dyn Fn(&Request) -> Option<Response> + Send + Sync>;

#[derive(Default)]
struct Content {
    blobs: BTreeMap<String, Vec<u8>>,
    /// By `repository/manifests/tag-or-digest`.
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    /// Asked first, in order; the first answer counts.
    rules: Vec<Rule>,
    log: Vec<Request>,
}

/// An HTTP server on loopback. Its thread ends with the test process.
#[derive(Clone)]
pub struct Registry {
    address: String,
    content: Arc<Mutex<Content>>,
}

impl Registry {
    pub fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// On another address.
    pub fn start_on(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let content = Arc::new(Mutex::new(Content::default()));
        let shared = Arc::clone(&content);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let content = Arc::clone(&shared);
                std::thread::spawn(move || answer(stream, &content));
            }
        });
        Self { address, content }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Serves an image as `name:latest`; its reference.
    pub fn add(&self, name: &str, image: &Image) -> String {
        let (blobs, manifest) = image.blobs();
        self.add_parts(name, blobs, manifest)
    }

    /// Serves blobs and a manifest, whatever they are.
    pub fn add_parts(&self, name: &str, blobs: BTreeMap<String, Vec<u8>>, manifest: Vec<u8>) -> String {
        let mut content = self.content.lock().unwrap();
        content.blobs.extend(blobs);
        let media = "application/vnd.oci.image.manifest.v1+json".to_owned();
        let by_digest = format!("{name}/manifests/{}", super::image::digest(&manifest));
        content.manifests.insert(by_digest, (media.clone(), manifest.clone()));
        content.manifests.insert(format!("{name}/manifests/latest"), (media, manifest));
        format!("{}/{name}:latest", self.address)
    }

    /// Serves a manifest or an index of this media type, by its digest and by a tag; its descriptor.
    pub fn add_manifest(&self, name: &str, tag: &str, media: &str, document: &Value) -> Value {
        let bytes = serde_json::to_vec(document).unwrap();
        let digest = super::image::digest(&bytes);
        let descriptor = json!({"mediaType": media, "digest": digest, "size": bytes.len()});
        let mut content = self.content.lock().unwrap();
        for reference in [tag, &digest] {
            let entry = (media.to_owned(), bytes.clone());
            content.manifests.insert(format!("{name}/manifests/{reference}"), entry);
        }
        descriptor
    }

    /// Serves a blob under its digest; its descriptor.
    pub fn add_blob(&self, media: &str, bytes: Vec<u8>) -> Value {
        let digest = super::image::digest(&bytes);
        let descriptor = json!({"mediaType": media, "digest": digest, "size": bytes.len()});
        self.set_blob(&digest, bytes);
        descriptor
    }

    /// Serves these bytes under this digest, true or not.
    pub fn set_blob(&self, digest: &str, bytes: Vec<u8>) {
        self.content.lock().unwrap().blobs.insert(digest.to_owned(), bytes);
    }

    /// Asks this first, for every request.
    pub fn rule(&self, rule: impl Fn(&Request) -> Option<Response> + Send + Sync + 'static) {
        self.content.lock().unwrap().rules.push(Box::new(rule));
    }

    /// All requests so far.
    pub fn log(&self) -> Vec<Request> {
        self.content.lock().unwrap().log.clone()
    }

    /// How many requests have been made for this path.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.log().iter().filter(|request| request.method == method && request.path.contains(part)).count()
    }
}

fn answer(stream: TcpStream, content: &Mutex<Content>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        let response = {
            let mut content = content.lock().unwrap();
            content.log.push(request.clone());
            content.rules.iter().find_map(|rule| rule(&request)).unwrap_or_else(|| content.serve(&request))
        };
        let (truthful, stall, drip) = (response.claimed_length.is_none(), response.stall, response.drip);
        let written = write_response(reader.get_mut(), &request, response);
        while drip && reader.get_mut().write_all(b" ").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        if stall {
            // Until the other side has had enough.
            drop(read_request(&mut reader));
        }
        if written.is_err() || !truthful {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
            None => return Some(Request { method, path, headers }),
        };
    }
}

fn write_response(stream: &mut TcpStream, request: &Request, response: Response) -> std::io::Result<()> {
    let length = response.claimed_length.unwrap_or(response.body.len());
    let mut head = format!("HTTP/1.1 {} -\r\nContent-Length: {length}\r\n", response.status);
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if request.method != "HEAD" {
        stream.write_all(&response.body)?;
    }
    stream.flush()
}

impl Content {
    fn serve(&self, request: &Request) -> Response {
        let Some(path) = request.path.strip_prefix("/v2/") else { return Response::new(404, "") };
        if path.is_empty() {
            return Response::new(200, "{}");
        }
        if let Some((media, bytes)) = self.manifests.get(path) {
            return Response::new(200, bytes.clone())
                .header("Content-Type", media)
                .header("Docker-Content-Digest", &super::image::digest(bytes));
        }
        match path.rsplit_once("/blobs/").and_then(|(_, digest)| self.blobs.get(digest)) {
            Some(bytes) => partial(bytes, request),
            None => {
                Response::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#)
            }
        }
    }
}

/// The bytes, or from `Range: bytes=N-` on the rest.
fn partial(bytes: &[u8], request: &Request) -> Response {
    let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
    let Some((from, to)) = range.and_then(|range| range.split_once('-')) else {
        return Response::new(200, bytes);
    };
    let last = bytes.len() - 1;
    let from: usize = from.parse().unwrap_or(0);
    let to: usize = to.parse().unwrap_or(last).min(last);
    Response::new(206, &bytes[from..=to])
        .header("Content-Range", &format!("bytes {from}-{to}/{}", bytes.len()))
}
