//! The flags that say how to talk to a registry: `--authfile --cert-dir --creds --tls-verify`, and `--retry --retry-delay`.

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

/// The flags that say how often a request that failed is made again.
pub fn retry_flags() -> [Arg; 2] {
    [
        option("retry", "N").help("Make a failed request again so often (default 3)"),
        option("retry-delay", "DURATION")
            .help("Wait so long before the first time, longer each time (default 1s)"),
    ]
}

/// What they say; a command need not have all of them.
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
    options.retries = args.filled("retry", parse::number)?.unwrap_or(options.retries);
    options.retry_delay = args.filled("retry-delay", parse::interval)?.unwrap_or(options.retry_delay);
    Ok(options)
}
