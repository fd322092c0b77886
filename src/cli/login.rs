//! `coracle login` and `coracle logout`.

use super::args::{Given, operands, option, switch};
use super::{Action, Context, Entry, Error};
use crate::output;
use crate::registry::{Account, Credentials, Options};
use clap::{ArgMatches, Command};
use std::io::{IsTerminal, Read};

/// `coracle login`.
pub const ENTRY: Entry = Entry {
    name: "login",
    aliases: &[],
    about: "Log in to a registry",
    usage: "[OPTIONS] [REGISTRY]",
    action: Action::Leaf { define, unsupported: &["compat-auth-file", "secret", "verbose,v"], run },
};

/// `coracle logout`.
pub const LOGOUT: Entry = Entry {
    name: "logout",
    aliases: &[],
    about: "Log out of a registry",
    usage: "[OPTIONS] [REGISTRY]",
    action: Action::Leaf { define: define_logout, unsupported: &["compat-auth-file"], run: run_logout },
};

fn define(command: Command) -> Command {
    command.args([
        option("username", "USER").short('u').help("The user; asked for if not given"),
        option("password", "PASSWORD")
            .short('p')
            .help("The password, which everybody on this machine can see so"),
        switch("password-stdin").help("Read the password from standard input"),
        switch("get-login").help("Only show who is logged in"),
        switch("tls-verify").help("Require HTTPS and a valid certificate of the registry (default true)"),
        option("authfile", "FILE").help("Keep the credentials in FILE"),
        option("cert-dir", "DIR").help("Trust the certificates in DIR too"),
        operands("REGISTRY", 0..=1),
    ])
}

fn define_logout(command: Command) -> Command {
    command.args([
        switch("all").short('a').help("Log out of all registries"),
        option("authfile", "FILE").help("Take the credentials out of FILE"),
        operands("REGISTRY", 0..=1),
    ])
}

fn registry_options(args: &ArgMatches) -> Options {
    Options { auth_file: args.path("authfile"), ..Options::default() }
}

fn account(args: &ArgMatches, options: &Options) -> Result<Account, crate::registry::Error> {
    match args.operands().first() {
        Some(typed) => Account::parse(typed),
        None => Account::usual(options),
    }
}

fn run(_: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let mut options = registry_options(args);
    options.tls_verify = args.maybe("tls-verify");
    options.cert_dir = args.path("cert-dir");
    let account = account(args, &options)?;
    let (user, password) = (args.text("username"), args.text("password"));
    let from_stdin = args.on("password-stdin");
    if password.is_some() && from_stdin {
        let what = "--password and --password-stdin exclude each other";
        return Err(Error::usage(what, "leave out --password").into());
    }
    if from_stdin && user.is_none() {
        return Err(Error::usage("--password-stdin needs --username", "say who logs in: -u USER").into());
    }
    if args.on("get-login") {
        let user = match account.stored(&options)? {
            Some(Credentials::Password { user, .. }) => user,
            Some(Credentials::IdentityToken(_)) => "<token>".into(),
            None => return Err(not_logged_in(&account).into()),
        };
        output::print(&format!("{user}\n"))?;
        return Ok(0);
    }
    let stored = account.stored(&options)?;
    if let (None, None, Some(known)) = (user, password, &stored) {
        options.credentials = Some(known.clone());
        if account.verify(&options).is_ok() {
            output::print(&format!(
                "Existing credentials are valid. Already logged in to {}\n",
                account.name()
            ))?;
            return Ok(0);
        }
    }
    let credentials = ask(&account, user, password, from_stdin, stored.as_ref())?;
    options.credentials = Some(credentials.clone());
    account.verify(&options)?;
    account.store(&options, &credentials)?;
    output::print("Login Succeeded!\n")?;
    Ok(0)
}

/// User and password: from the flags, from standard input, or from who sits at the terminal.
fn ask(
    account: &Account,
    user: Option<&str>,
    password: Option<&str>,
    from_stdin: bool,
    stored: Option<&Credentials>,
) -> anyhow::Result<Credentials> {
    let terminal = || match std::io::stdin().is_terminal() {
        true => Ok(()),
        false => Err(Error::usage(
            "there is no terminal to ask for user and password at",
            "give them: coracle login -u USER --password-stdin REGISTRY <FILE",
        )),
    };
    let user = match user {
        Some(user) => user.to_owned(),
        None => {
            terminal()?;
            let usual = match stored {
                Some(Credentials::Password { user, .. }) => user.as_str(),
                _ => "",
            };
            let shown = if usual.is_empty() { String::new() } else { format!(" ({usual})") };
            let typed = output::ask::line(&format!("Username for {}{shown}: ", account.name()))?;
            if typed.is_empty() { usual.to_owned() } else { typed }
        }
    };
    let password = match password {
        Some(password) => password.to_owned(),
        None if from_stdin => {
            let mut text = String::new();
            // More is no password.
            std::io::stdin().lock().take(1 << 20).read_to_string(&mut text)?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        None => {
            terminal()?;
            output::ask::secret("Password: ")?
        }
    };
    if user.is_empty() || password.is_empty() {
        return Err(Error::usage("user and password must not be empty", "give both").into());
    }
    Ok(Credentials::Password { user, password })
}

fn not_logged_in(account: &Account) -> Error {
    let name = account.name();
    Error::usage(format!("not logged into {name}"), format!("log in: coracle login {name}"))
}

fn run_logout(_: &Context, args: &ArgMatches) -> anyhow::Result<u8> {
    let options = registry_options(args);
    if args.on("all") {
        if !args.operands().is_empty() {
            let what = "--all means all registries, and one is named";
            return Err(Error::usage(what, "leave out one of them").into());
        }
        Account::erase_all(&options)?;
        output::print("Removed login credentials for all registries\n")?;
        return Ok(0);
    }
    let account = account(args, &options)?;
    if !account.erase(&options)? {
        if account.stored(&options)?.is_some() {
            let what = format!("not logged into {} by the file that login writes", account.name());
            let fix = "another one has credentials (~/.docker/config.json, ~/.config/containers/auth.json): name it with --authfile";
            return Err(Error::usage(what, fix).into());
        }
        return Err(not_logged_in(&account).into());
    }
    output::print(&format!("Removed login credentials for {}\n", account.name()))?;
    Ok(0)
}
