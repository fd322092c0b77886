//! `--change`: one instruction of a Dockerfile, applied to how an image is run.

use super::RunConfig;

/// An instruction that changes no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `CMD`.
    Cmd(Vec<String>),
    /// `ENTRYPOINT`.
    Entrypoint(Vec<String>),
    /// `ENV`: names and values.
    Env(Vec<(String, String)>),
    /// `EXPOSE`: ports with their protocols.
    Expose(Vec<String>),
    /// `LABEL`.
    Label(Vec<(String, String)>),
    /// `ONBUILD`.
    OnBuild(String),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `USER`.
    User(String),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `WORKDIR`.
    Workdir(String),
}

const INSTRUCTIONS: [&str; 10] =
    ["CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"];

/// Why a text is no [`Change`].
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum ParseChangeError {
    /// Another word.
    #[error("'{0}' is none of {list}", list = INSTRUCTIONS.join(", "))]
    Unknown(String),
    /// Nothing follows the word.
    #[error("{0} needs a value")]
    Empty(&'static str),
    /// What follows makes no sense.
    #[error("{what} of {instruction} is {why}: '{text}'")]
    Bad {
        /// The instruction.
        instruction: &'static str,
        /// Which part of it.
        what: &'static str,
        /// What is wrong.
        why: &'static str,
        /// The part.
        text: String,
    },
}

impl std::str::FromStr for Change {
    type Err = ParseChangeError;

    /// `CMD ["/bin/sh"]`, and podman's other form, `CMD=["/bin/sh"]`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let end = text.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        let rest = rest.strip_prefix('=').unwrap_or(rest).trim();
        let upper = word.to_ascii_uppercase();
        let Some(word) = INSTRUCTIONS.into_iter().find(|known| *known == upper) else {
            return Err(ParseChangeError::Unknown(word.to_owned()));
        };
        if rest.is_empty() && !matches!(word, "CMD" | "ENTRYPOINT") {
            return Err(ParseChangeError::Empty(word));
        }
        Ok(match word {
            "CMD" => Self::Cmd(command(rest)),
            "ENTRYPOINT" => Self::Entrypoint(command(rest)),
            "ENV" => Self::Env(pairs(word, rest)?),
            "LABEL" => Self::Label(pairs(word, rest)?),
            "EXPOSE" => {
                Self::Expose(split(word, rest)?.iter().map(|port| exposed(port)).collect::<Result<_, _>>()?)
            }
            "ONBUILD" => Self::OnBuild(rest.to_owned()),
            "STOPSIGNAL" => Self::StopSignal(single(word, rest)?),
            "USER" => Self::User(single(word, rest)?),
            "WORKDIR" => Self::Workdir(single(word, rest)?),
            // VOLUME
            _ => Self::Volume(match json_list(rest) {
                Some(list) => list,
                None => split(word, rest)?,
            }),
        })
    }
}

impl Change {
    /// Makes the change.
    pub fn apply(&self, config: &mut RunConfig) {
        match self {
            Self::Cmd(words) => config.cmd = Some(words.clone()),
            Self::Entrypoint(words) => config.entrypoint = Some(words.clone()),
            Self::Env(pairs) => {
                for (name, value) in pairs {
                    let start = format!("{name}=");
                    let new = format!("{start}{value}");
                    match config.env.iter_mut().find(|known| known.starts_with(&start)) {
                        Some(known) => *known = new,
                        None => config.env.push(new),
                    }
                }
            }
            Self::Expose(ports) => config.exposed_ports.extend(ports.iter().cloned()),
            Self::Label(pairs) => config.labels.extend(pairs.iter().cloned()),
            Self::OnBuild(text) => config.on_build.push(text.clone()),
            Self::StopSignal(signal) => config.stop_signal = Some(signal.clone()),
            Self::User(user) => config.user.clone_from(user),
            Self::Volume(paths) => config.volumes.extend(paths.iter().cloned()),
            // A relative one is seen from the one before.
            Self::Workdir(path) if path.starts_with('/') => config.working_dir.clone_from(path),
            Self::Workdir(path) => {
                config.working_dir = format!("{}/{path}", config.working_dir.trim_end_matches('/'));
            }
        }
    }
}

/// A command: a list in JSON's form as it is, anything else for a shell.
fn command(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    json_list(text).unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), text.into()])
}

fn json_list(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// The one value.
fn single(instruction: &'static str, text: &str) -> Result<String, ParseChangeError> {
    let mut words = split(instruction, text)?;
    match words.pop() {
        Some(word) if words.is_empty() => Ok(word),
        _ => {
            let (what, why) = ("the value", "more than one word");
            Err(ParseChangeError::Bad { instruction, what, why, text: text.to_owned() })
        }
    }
}

/// `A=1 B="two words"`, or for one the old form `A two words`.
fn pairs(instruction: &'static str, text: &str) -> Result<Vec<(String, String)>, ParseChangeError> {
    let words = split(instruction, text)?;
    if words.first().is_some_and(|word| !word.contains('=')) {
        let (name, value) =
            text.split_once(char::is_whitespace).ok_or(ParseChangeError::Empty(instruction))?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(ParseChangeError::Bad {
            instruction,
            what: "a part",
            why: "not NAME=VALUE",
            text: word.clone(),
        }),
    };
    words.iter().map(pair).collect()
}

/// Words as a shell splits them: quotes of both kinds, backslashes.
fn split(instruction: &'static str, text: &str) -> Result<Vec<String>, ParseChangeError> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(chars.next()),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(q)) if c == q => quote = None,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        let (what, why) = ("a quote", "not closed");
        return Err(ParseChangeError::Bad { instruction, what, why, text: text.to_owned() });
    }
    words.extend(word);
    Ok(words)
}

/// `80`, `80/udp`, `8000-8010`.
fn exposed(text: &str) -> Result<String, ParseChangeError> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let number = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
    let good = match ports.split_once('-') {
        Some((first, last)) => number(first) && number(last),
        None => number(ports),
    };
    if good && ["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Ok(format!("{ports}/{protocol}"));
    }
    let (what, why) = ("a part", "not PORT[/tcp|udp|sctp]");
    Err(ParseChangeError::Bad { instruction: "EXPOSE", what, why, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_changes_what_it_says() {
        let mut config = RunConfig { env: vec!["A=old".into(), "Z=z".into()], ..RunConfig::default() };
        for text in [
            r#"CMD ["a", "b c"]"#,
            "ENTRYPOINT=/bin/sh -e",
            r#"ENV A=1 B="two words" C=it\ is D='x"y'"#,
            "env E one  two",
            "EXPOSE 80 53/UDP 8000-8010",
            "LABEL k=v other=\"\"",
            "ONBUILD RUN x",
            "STOPSIGNAL SIGQUIT",
            "USER app:app",
            r#"VOLUME ["/v", "/w x"]"#,
            "VOLUME /u",
            "WORKDIR /srv/",
            "WORKDIR app",
        ] {
            text.parse::<Change>().unwrap_or_else(|e| panic!("{text}: {e}")).apply(&mut config);
        }
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        assert_eq!(config.cmd, Some(words(&["a", "b c"])));
        assert_eq!(config.entrypoint, Some(words(&["/bin/sh", "-c", "/bin/sh -e"])));
        assert_eq!(config.env, ["A=1", "Z=z", "B=two words", "C=it is", "D=x\"y", "E=one  two"]);
        assert_eq!(Vec::from_iter(config.exposed_ports), ["53/udp", "80/tcp", "8000-8010/tcp"]);
        assert_eq!(Vec::from_iter(config.labels), [("k".into(), "v".into()), ("other".into(), "".into())]);
        assert_eq!((config.on_build, config.stop_signal), (words(&["RUN x"]), Some("SIGQUIT".into())));
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("app:app", "/srv/app"));
        assert_eq!(Vec::from_iter(config.volumes), ["/u", "/v", "/w x"]);
    }

    #[test]
    fn what_is_no_such_instruction_is_refused() {
        for text in [
            "",
            "RUN x",
            "ENV",
            "ENV A",
            "ENV =x",
            "ENV A='x",
            "EXPOSE 0",
            "EXPOSE a/tcp",
            "EXPOSE 1/icmp",
            "USER a b",
            "CMDX",
        ] {
            assert!(text.parse::<Change>().is_err(), "{text}");
        }
    }
}
