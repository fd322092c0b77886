//! Which certificates count: the system's roots, and for one registry those in its `certs.d` folder
//! (containers-certs.d(5)): `*.crt` are further roots, `NAME.cert` with `NAME.key` are ours.

use super::{Error, Options};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// The TLS side of connections to `host`, written `host[:port]` as users and folders write it.
pub(super) fn config(options: &Options, host: &str, verify: bool) -> Result<TlsConfig, Error> {
    let own = match folder(options, host) {
        Some(folder) => read_folder(&folder)?,
        None => Own::default(),
    };
    let mut builder = TlsConfig::builder().client_cert(own.client).disable_verification(!verify);
    if verify {
        let system = system_roots();
        let roots = if own.roots.is_empty() {
            system
        } else {
            Arc::new(system.iter().cloned().chain(own.roots).collect())
        };
        builder = builder.root_certs(RootCerts::Specific(roots));
    }
    Ok(builder.build())
}

/// Read once: it takes milliseconds. Bad files among many good ones are not worth an error; with no root at all
/// every connection fails with the reason.
fn system_roots() -> Arc<Vec<Certificate<'static>>> {
    static ROOTS: OnceLock<Arc<Vec<Certificate<'static>>>> = OnceLock::new();
    let load = || {
        let found = rustls_native_certs::load_native_certs();
        Arc::new(found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
    };
    Arc::clone(ROOTS.get_or_init(load))
}

/// The first folder that is there counts, as for podman.
fn folder(options: &Options, host: &str) -> Option<PathBuf> {
    if let Some(folder) = &options.cert_dir {
        return Some(folder.clone());
    }
    let places = &options.places;
    [
        places.config.as_ref().map(|c| c.join("containers/certs.d")),
        Some(places.etc.join("containers/certs.d")),
        Some(places.etc.join("docker/certs.d")),
    ]
    .into_iter()
    .flatten()
    .map(|base| base.join(host))
    .find(|folder| folder.is_dir())
}

#[derive(Default)]
struct Own {
    roots: Vec<Certificate<'static>>,
    client: Option<ClientCert>,
}

fn read_folder(folder: &Path) -> Result<Own, Error> {
    let mut own = Own::default();
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
        .map_err(|e| bad(folder, e))?;
    files.sort();
    for file in files {
        match file.extension().and_then(|e| e.to_str()) {
            Some("crt") => own.roots.extend(certificates(&file)?),
            Some("cert") => {
                let key_file = file.with_extension("key");
                let pem = fs::read(&key_file).map_err(|e| bad(&key_file, e))?;
                let key = PrivateKey::from_pem(&pem).map_err(|e| bad(&key_file, e))?;
                let chain = certificates(&file)?;
                check_pair(&chain, &pem).map_err(|e| bad(&file, e))?;
                own.client = Some(ClientCert::new_with_certs(&chain, key));
            }
            Some("key") if !file.with_extension("cert").exists() => {
                return Err(bad(&file, "there is no certificate (.cert) for this key"));
            }
            _ => {}
        }
    }
    Ok(own)
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let pem = fs::read(file).map_err(|e| bad(file, e))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| bad(file, e))? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(bad(file, "no certificate in PEM form")) } else { Ok(found) }
}

/// ureq panics later when a certificate and its key do not belong together.
fn check_pair(chain: &[Certificate<'static>], key_pem: &[u8]) -> Result<(), String> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|e| e.to_string())?;
    let chain = chain.iter().map(|c| CertificateDer::from(c.der().to_vec())).collect();
    let provider = rustls::crypto::ring::default_provider();
    rustls::sign::CertifiedKey::from_der(chain, key, &provider).map(drop).map_err(|e| e.to_string())
}

fn bad(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::File { path: path.to_owned(), line: None, why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{places, run};
    use super::*;

    fn options(dir: &Path) -> Options {
        Options { places: places(dir), ..Options::default() }
    }

    fn key_pair(folder: &Path, name: &str) {
        let (cert, key) = (folder.join(format!("{name}.cert")), folder.join(format!("{name}.key")));
        run(std::process::Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                "/CN=x",
            ])
            .arg("-keyout")
            .arg(key)
            .arg("-out")
            .arg(cert));
    }

    #[test]
    fn the_folder_of_a_registry_adds_roots_and_our_own_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("etc/docker/certs.d/r.io:5000");
        fs::create_dir_all(&folder).unwrap();
        let options = options(dir.path());
        assert!(config(&options, "r.io:5000", true).unwrap().client_cert().is_none());
        key_pair(&folder, "us");
        fs::copy(folder.join("us.cert"), folder.join("ca.crt")).unwrap();
        let with = config(&options, "r.io:5000", true).unwrap();
        assert!(with.client_cert().is_some());
        let RootCerts::Specific(roots) = with.root_certs() else { panic!() };
        assert_eq!(roots.len(), system_roots().len() + 1);
        assert!(config(&options, "r.io", true).unwrap().client_cert().is_none());
    }

    #[test]
    fn the_users_folder_hides_the_systems() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/containers/certs.d/r.io")).unwrap();
        fs::write(dir.path().join("etc/containers/certs.d/r.io/ca.crt"), "junk").unwrap();
        let options = options(dir.path());
        assert!(config(&options, "r.io", true).is_err());
        fs::create_dir_all(dir.path().join("config/containers/certs.d/r.io")).unwrap();
        assert!(config(&options, "r.io", true).is_ok());
    }

    #[test]
    fn certificates_and_keys_must_belong_together() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { cert_dir: Some(dir.path().to_owned()), ..options(dir.path()) };
        key_pair(dir.path(), "a");
        key_pair(dir.path(), "b");
        assert!(config(&options, "any", true).is_ok());
        fs::rename(dir.path().join("b.key"), dir.path().join("a.key")).unwrap();
        let error = config(&options, "any", true).err().unwrap().to_string();
        assert!(error.contains("a.cert"), "{error}");
        fs::remove_file(dir.path().join("a.key")).unwrap();
        assert!(config(&options, "any", true).err().unwrap().to_string().contains("a.key"));
    }
}
