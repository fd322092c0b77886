//! What a Dockerfile offers to those who build it: its targets, and what one of them can be given (BuildKit's subrequests
//! `targets` and `outline`). No image is asked for, so that what an image's environment would add is not known.

use super::dockerfile::ast::{Dockerfile, Stage};
use super::dockerfile::scope::{BuildArgs, Globals, Scope};
use super::dockerfile::words::Variables;
use super::dockerfile::{Kind, MountKind, Problem};
use super::graph::{Base, Graph};
use serde::Serialize;
use std::collections::BTreeMap;

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// It is what is built if no target is named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// What a comment above it says: `# name description`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it is built over.
    pub base: String,
    /// For which platform, if it says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
}

/// What a target can be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What a comment above it says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// `--build-arg`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Parameter>,
    /// `--secret`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Needed>,
    /// `--ssh`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<Needed>,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What it is without `--build-arg`, or by it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// What a comment above it says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// A secret, or an SSH agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Needed {
    /// Its id.
    pub name: String,
    /// Whether its absence is an error.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
}

fn name_of(stage: &Stage) -> String {
    stage.name.as_ref().map(|name| name.written.text().to_owned()).unwrap_or_default()
}

fn description_of(stage: &Stage) -> String {
    let name = name_of(stage);
    let about =
        stage.head.comments.iter().filter_map(|comment| comment.strip_prefix(&name)?.strip_prefix(' '));
    about.filter(|_| !name.is_empty()).map(str::to_owned).next().unwrap_or_default()
}

/// The stages of a file.
pub fn targets(file: &Dockerfile, globals: &Globals) -> Result<Vec<Target>, Box<Problem>> {
    let last = file.stages.len() - 1;
    let target = |(at, stage): (usize, &Stage)| {
        let base = globals.resolve(file, stage)?;
        Ok(Target {
            name: name_of(stage),
            default: at == last,
            description: description_of(stage),
            base: base.name.text,
            platform: base.platform.map(|(platform, _)| platform.to_string()).unwrap_or_default(),
        })
    };
    file.stages.iter().enumerate().map(target).collect()
}

/// What the target of a graph, and the stages that it needs, can be given.
pub fn outline(
    file: &Dockerfile,
    globals: &Globals,
    given: &BuildArgs,
    graph: &Graph,
) -> Result<Outline, Box<Problem>> {
    let mut outline = Outline::default();
    let mut scopes: BTreeMap<usize, Scope> = BTreeMap::new();
    let (mut secrets, mut agents) = (BTreeMap::new(), BTreeMap::new());
    for &at in &graph.order {
        let stage = &file.stages[at];
        (outline.name, outline.description) = (name_of(stage), description_of(stage));
        let base = globals.resolve(file, stage)?;
        let used = base.name.used.iter().chain(base.platform.iter().flat_map(|(_, word)| &word.used));
        for arg in used.filter_map(|name| file.global_args().find(|arg| arg.name.text() == *name)) {
            let value = globals.get(arg.name.text()).unwrap_or_default().into_owned();
            outline.add(arg.name.text(), value, arg.description.as_deref());
        }
        let below = match &graph.bases[at] {
            Base::Stage(earlier) => scopes.get(earlier).cloned(),
            _ => None,
        };
        let mut scope = below.unwrap_or_default();
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Arg(args) => {
                    for arg in args {
                        let (value, _) = scope.declare(&file.source, file.lexer(), arg, globals, given)?;
                        outline.add(arg.name.text(), value.unwrap_or_default(), arg.description.as_deref());
                    }
                }
                Kind::Env(pairs) => {
                    let word = |word| file.lexer().expand_word(&file.source, word, &scope);
                    let pairs = pairs.iter().map(|pair| Ok((word(&pair.key)?.text, word(&pair.value)?.text)));
                    let pairs = pairs.collect::<Result<Vec<_>, Box<Problem>>>()?;
                    pairs.iter().for_each(|(name, value)| scope.set(name, value));
                }
                Kind::Run(run) => {
                    for mount in &run.mounts {
                        let (to, id, required) = match mount.resolve(&file.source, file.lexer(), &scope)?.kind
                        {
                            MountKind::Secret { id, required, .. } => (&mut secrets, id, required),
                            MountKind::Ssh { id, required, .. } => {
                                (&mut agents, id.unwrap_or_else(|| "default".to_owned()), required)
                            }
                            _ => continue,
                        };
                        *to.entry(id).or_insert(false) |= required;
                    }
                }
                _ => {}
            }
        }
        scopes.insert(at, scope);
    }
    let all = |of: BTreeMap<String, bool>| of.into_iter().map(|(name, required)| Needed { name, required });
    (outline.secrets, outline.ssh) = (all(secrets).collect(), all(agents).collect());
    Ok(outline)
}

impl Outline {
    /// A name that comes again is the same argument: what says more of it counts.
    fn add(&mut self, name: &str, value: String, description: Option<&str>) {
        match self.args.iter_mut().find(|known| known.name == name) {
            Some(known) => {
                known.value = if value.is_empty() { std::mem::take(&mut known.value) } else { value };
                if let (true, Some(description)) = (known.description.is_empty(), description) {
                    description.clone_into(&mut known.description);
                }
            }
            None => {
                let description = description.unwrap_or_default().to_owned();
                self.args.push(Parameter { name: name.to_owned(), value, description });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dockerfile::{Source, parse};
    use super::super::graph::plan;
    use super::super::named::Contexts;
    use super::*;
    use crate::image::Platform;

    const TEXT: &str = "# BASE what it stands on\nARG BASE=alpine\nARG UNUSED=1\n\
        # tools what is needed to build\nFROM $BASE AS tools\n# FLAGS for the compiler\nARG FLAGS=-O2\n\
        RUN --mount=type=secret,id=token,required=true --mount=type=ssh true\n\
        FROM --platform=linux/arm64 other AS unneeded\nARG ELSEWHERE\n\
        # app\nFROM tools AS app\nENV V=2\nARG TAG=v$V\nARG FLAGS\nRUN --mount=type=secret,id=token --mount=type=secret,id=x true\n";

    fn of(target: Option<&str>, given: &BuildArgs) -> (Vec<Target>, Outline) {
        let file = parse(&Source::new("Dockerfile", TEXT)).unwrap();
        let host = Platform::host();
        let mut globals = Globals::new(&host, &host, target, given);
        globals.declare(&file, given).unwrap();
        let graph = plan(&file, &globals, &Contexts::default(), target).unwrap();
        (targets(&file, &globals).unwrap(), outline(&file, &globals, given, &graph).unwrap())
    }

    #[test]
    fn targets_are_the_stages_and_the_last_one_is_the_default() {
        let (targets, _) = of(None, &BuildArgs::new());
        let said: Vec<_> = targets.iter().map(|t| (t.name.as_str(), t.default, t.base.as_str())).collect();
        assert_eq!(said, [("tools", false, "alpine"), ("unneeded", false, "other"), ("app", true, "tools")]);
        assert_eq!(targets[0].description, "what is needed to build");
        assert_eq!((targets[1].platform.as_str(), targets[2].description.as_str()), ("linux/arm64", ""));
    }

    #[test]
    fn an_outline_has_what_the_target_and_what_it_needs_can_be_given() {
        let parameter = |name: &str, value: &str, description: &str| Parameter {
            name: name.into(),
            value: value.into(),
            description: description.into(),
        };
        let needed = |name: &str, required| Needed { name: name.into(), required };
        let (_, outline) = of(None, &BuildArgs::from([("FLAGS".to_owned(), "-g".to_owned())]));
        assert_eq!(outline.name, "app");
        let args = [
            parameter("BASE", "alpine", "what it stands on"),
            parameter("FLAGS", "-g", "for the compiler"),
            parameter("TAG", "v2", ""),
        ];
        assert_eq!(outline.args, args);
        assert_eq!(outline.secrets, [needed("token", true), needed("x", false)]);
        assert_eq!(outline.ssh, [needed("default", false)]);
        let (_, tools) = of(Some("tools"), &BuildArgs::new());
        assert_eq!((tools.args.len(), tools.secrets.len()), (2, 1));
        assert_eq!(tools.description, "what is needed to build");
    }
}
