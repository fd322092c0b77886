//! The flags that say how to talk to a registry: `--authfile --cert-dir --creds --tls-verify`.

use super::args::{Given, option, switch};
use super::{Error, parse};
use crate::registry::{Credentials, Options};
use clap::{Arg, ArgMatches};

/// The flags that say how to talk to a registry.
pub fn flags() -> [Arg; 4] {
    [
        option("authfile", "FILE").help("Read the registry's credentials from FILE"),
        option("cert-dir", "DIR").help("Trust the certificates in DIR too"),
        option("creds", "USER:PASSWORD").help("Log in to the registry so"),
        switch("tls-verify").help("Require HTTPS and a valid certificate of the registry (default true)"),
    ]
}

/// What they say.
pub fn options(args: &ArgMatches) -> Result<Options, Error> {
    let mut options = Options {
        auth_file: args.path("authfile"),
        cert_dir: args.path("cert-dir"),
        tls_verify: args.maybe("tls-verify"),
        ..Options::default()
    };
    if let Some(text) = args.text("creds") {
        // The error must not repeat a password.
        let (user, password) = parse::credentials(text).map_err(Error::value("creds", "..."))?;
        options.credentials = Some(Credentials::Password { user, password });
    }
    Ok(options)
}
