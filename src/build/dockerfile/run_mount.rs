//! `RUN --mount=…`.
//!
//! Its values may hold variables, so what it means is known only when it is expanded: [`RunMount::resolve`]. What can be
//! said before is said when the file is parsed.

use super::ast::{Literal, Word};
use super::csv;
use super::problem::Problem;
use super::source::{Source, Span, Text};
use super::suggest::did_you_mean;
use super::words::{Expanded, Lexer, NoVariables, Variables};

/// One `--mount` as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMount {
    /// All of the flag's value.
    pub span: Span,
    /// `from=`: a stage, a named context or an image. Never with variables.
    pub from: Option<Literal>,
    fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    key: Text,
    value: Option<Word>,
    whole: Text,
}

/// A mount for one RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What it is of.
    pub kind: MountKind,
    /// `target=`: where; relative to the working directory. A secret's is `/run/secrets/ID` where it does not say, an SSH
    /// agent's `/run/buildkit/ssh_agent.N`; for others it is needed.
    pub target: Option<String>,
    /// `readonly`: what is written is refused. Writes to a `bind` that is not read-only are thrown away.
    pub read_only: bool,
}

/// What a mount is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// Files of a stage, an image or the context.
    Bind {
        /// Of what; the context where it does not say.
        from: Option<String>,
        /// The path in it; its root where it does not say.
        source: Option<String>,
    },
    /// A folder that outlives the build.
    Cache {
        /// Which; the target where it does not say.
        id: Option<String>,
        /// Who may use it at the same time.
        sharing: CacheSharing,
        /// What it begins with, a stage, an image or a named context.
        from: Option<String>,
        /// The path in that.
        source: Option<String>,
        /// The new folder's mode and owner.
        access: Access,
    },
    /// Memory.
    Tmpfs {
        /// Bytes at most.
        size: Option<u64>,
    },
    /// A secret of the build.
    Secret {
        /// Which: `id=` or `source=`, else the last part of the target.
        id: String,
        /// Whether its absence is an error.
        required: bool,
        /// The variable that holds it; then there is a file only if a target is named.
        env: Option<String>,
        /// The file's mode and owner.
        access: Access,
    },
    /// A socket to an SSH agent.
    Ssh {
        /// Which; `default` where it does not say.
        id: Option<String>,
        /// Whether its absence is an error.
        required: bool,
        /// The socket's mode and owner.
        access: Access,
    },
}

/// Mode and owner of what is mounted; what is not said is the kind's own choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// `mode=`, octal.
    pub mode: Option<u32>,
    /// `uid=`, in the container.
    pub uid: Option<u32>,
    /// `gid=`, in the container.
    pub gid: Option<u32>,
}

/// `sharing=` of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheSharing {
    /// Any number of steps at once.
    #[default]
    Shared,
    /// A second user gets a new one.
    Private,
    /// A second user waits.
    Locked,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];
const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARINGS: [&str; 3] = ["shared", "private", "locked"];

/// The values as they come, before it is known what type they are for.
#[derive(Default)]
struct Draft {
    kind: Option<&'static str>,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    id: Option<String>,
    sharing: Option<CacheSharing>,
    required: Option<bool>,
    size: Option<u64>,
    env: Option<String>,
    access: Access,
}

impl RunMount {
    /// Reads a flag's value. Where it holds no variables, all of it is checked.
    pub(super) fn parse(source: &Source, value: &Text, escape: char) -> Result<RunMount, Box<Problem>> {
        let mut mount = RunMount { span: value.span(), from: None, fields: Vec::new() };
        for whole in csv::fields(value) {
            let field = match whole.find('=') {
                None => Field { key: whole.clone(), value: None, whole },
                Some(at) => Field {
                    key: whole.part(0..at),
                    value: Some(Word(whole.part(at + 1..whole.len()))),
                    whole,
                },
            };
            if let (true, Some(value)) = (field.key.eq_ignore_ascii_case("from"), &field.value) {
                if value.raw().find('$').is_some_and(|at| at + 1 != value.raw().len()) {
                    let message = "'from' doesn't support variable expansion, define alias stage instead";
                    return Err(Box::new(Problem::new(source, value.span(), message)));
                }
                mount.from = Some(Literal(value.0.clone()));
            }
            mount.fields.push(field);
        }
        if !value.contains('$') {
            mount.resolve(source, Lexer::new(escape), &NoVariables)?;
        }
        Ok(mount)
    }

    /// The variables that it names, set and not.
    pub fn variables(
        &self,
        source: &Source,
        lexer: Lexer,
        variables: &dyn Variables,
    ) -> Result<Vec<Expanded>, Box<Problem>> {
        let words = self.fields.iter().filter_map(|field| field.value.as_ref());
        words.map(|word| lexer.expand_word(source, word, variables)).collect()
    }

    /// The mount with its variables expanded.
    pub fn resolve(
        &self,
        source: &Source,
        lexer: Lexer,
        variables: &dyn Variables,
    ) -> Result<Mount, Box<Problem>> {
        let mut draft = Draft::default();
        for field in &self.fields {
            let value = match &field.value {
                None => None,
                Some(word) => Some(lexer.expand_word(source, word, variables)?.text),
            };
            draft.take(field, value).map_err(|message| {
                let span = field.value.as_ref().map_or(field.whole.span(), Word::span);
                let span = if message.starts_with("unexpected key") { field.key.span() } else { span };
                Box::new(Problem::new(source, span, message))
            })?;
        }
        draft.finish().map_err(|message| Box::new(Problem::new(source, self.span, message)))
    }
}

impl Draft {
    fn is(&self, kinds: &[&str]) -> bool {
        kinds.contains(&self.kind.unwrap_or("bind"))
    }

    fn take(&mut self, field: &Field, value: Option<String>) -> Result<(), String> {
        let key = field.key.to_lowercase();
        let Some(value) = value else {
            match key.as_str() {
                "readonly" | "ro" => self.read_only = Some(true),
                "readwrite" | "rw" => self.read_only = Some(false),
                "required" => {
                    self.only_for(&key, &["secret", "ssh"])?;
                    self.required = Some(true);
                }
                _ => return Err(format!("invalid field '{}' must be a key=value pair", &*field.whole)),
            }
            return Ok(());
        };
        match key.as_str() {
            "type" => {
                let kind = TYPES.into_iter().find(|kind| kind.eq_ignore_ascii_case(&value));
                self.kind = Some(kind.ok_or_else(|| {
                    format!("unsupported mount type {value:?}{}", did_you_mean(&value, TYPES, true))
                })?);
            }
            "from" => self.from = Some(value),
            "source" | "src" => self.source = Some(value),
            "target" | "dst" | "destination" => self.target = Some(value),
            "readonly" | "ro" => self.read_only = Some(boolean(&key, &value)?),
            "readwrite" | "rw" => self.read_only = Some(!boolean(&key, &value)?),
            "required" => {
                self.only_for(&key, &["secret", "ssh"])?;
                self.required = Some(boolean(&key, &value)?);
            }
            "size" => {
                self.only_for(&key, &["tmpfs"])?;
                self.size = Some(bytes(&value).ok_or_else(|| format!("invalid value for {key}: {value}"))?);
            }
            "id" => self.id = Some(value),
            "sharing" => {
                self.sharing = Some(match value.to_lowercase().as_str() {
                    "shared" => CacheSharing::Shared,
                    "private" => CacheSharing::Private,
                    "locked" => CacheSharing::Locked,
                    _ => {
                        return Err(format!(
                            "unsupported sharing value {value:?}{}",
                            did_you_mean(&value, SHARINGS, true)
                        ));
                    }
                });
            }
            "mode" => {
                self.access.mode =
                    Some(number(&value, 8).ok_or_else(|| format!("invalid value {value} for mode"))?);
            }
            "uid" => {
                self.access.uid =
                    Some(number(&value, 10).ok_or_else(|| format!("invalid value {value} for uid"))?);
            }
            "gid" => {
                self.access.gid =
                    Some(number(&value, 10).ok_or_else(|| format!("invalid value {value} for gid"))?);
            }
            "env" => self.env = Some(value),
            _ => {
                return Err(format!(
                    "unexpected key '{key}' in '{}'{}",
                    &*field.whole,
                    did_you_mean(&key, KEYS, true)
                ));
            }
        }
        Ok(())
    }

    fn only_for(&self, key: &str, kinds: &[&str]) -> Result<(), String> {
        if self.is(kinds) {
            return Ok(());
        }
        Err(format!("unexpected key '{key}' for mount type '{}'", self.kind.unwrap_or("bind")))
    }

    fn finish(self) -> Result<Mount, String> {
        let kind = self.kind.unwrap_or("bind");
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if !self.is(&["secret", "ssh", "cache"]) {
            let Access { mode, uid, gid } = self.access;
            for (name, value) in [("mode", mode), ("uid", uid), ("gid", gid)] {
                if value.is_some() {
                    return Err(format!("{name} not allowed for {kind:?} type mounts"));
                }
            }
        }
        if kind == "secret" {
            if given(&self.from) {
                return Err("secret mount should not have a from".to_owned());
            }
            if self.sharing.is_some() {
                return Err("secret mount should not define sharing".to_owned());
            }
            if !given(&self.source) && !given(&self.target) && !given(&self.id) {
                return Err("invalid secret mount. one of source, target required".to_owned());
            }
            if given(&self.source) && given(&self.id) {
                return Err("both source and id can't be set".to_owned());
            }
        } else if self.sharing.is_some() && kind != "cache" {
            return Err(format!("invalid cache sharing set for {kind} mount"));
        }
        let read_only = self.read_only.unwrap_or(!matches!(kind, "cache" | "tmpfs"));
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (target, from, source, id) =
            (some(self.target), some(self.from), some(self.source), some(self.id));
        let required = self.required.unwrap_or(false);
        let access = self.access;
        let kind = match kind {
            "cache" => {
                MountKind::Cache { id, sharing: self.sharing.unwrap_or_default(), from, source, access }
            }
            "tmpfs" => MountKind::Tmpfs { size: self.size.filter(|size| *size > 0) },
            "secret" => {
                let last = target.as_deref().map(|path| path.rsplit('/').find(|part| !part.is_empty()));
                let id = id.or(source).or(last.flatten().map(str::to_owned));
                // What `env` is called where it is named without a value is the secret's own name.
                let Some(id) = id else {
                    return Err("invalid secret mount. one of source, target required".to_owned());
                };
                let env = self.env.map(|env| if env.is_empty() { id.clone() } else { env });
                MountKind::Secret { id, required, env, access }
            }
            "ssh" if source.is_some() => return Err("ssh does not support source".to_owned()),
            "ssh" => MountKind::Ssh { id, required, access },
            _ => MountKind::Bind { from, source },
        };
        Ok(Mount { kind, target, read_only })
    }
}

/// Go's `strconv.ParseBool`.
fn boolean(key: &str, value: &str) -> Result<bool, String> {
    super::flags::boolean(value).ok_or_else(|| format!("invalid value for {key}: {value}"))
}

fn number(value: &str, radix: u32) -> Option<u32> {
    let digits = !value.is_empty() && value.chars().all(|c| c.is_digit(radix));
    digits.then(|| u32::from_str_radix(value, radix).ok()).flatten()
}

/// A size as docker reads it: `1.5g`, `64MiB`, `100 kb`; binary units whatever they are called.
fn bytes(value: &str) -> Option<u64> {
    let digits = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let size = number * 1024f64.powi(power);
    // Up to 2^63: what does not fit an i64 of docker's is no size.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    (size.is_finite() && (0.0..9.2e18).contains(&size)).then_some(size as u64)
}
