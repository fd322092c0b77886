//! Which stages a target needs, and what each stands on.

use super::Error;
use super::dockerfile::ast::{Dockerfile, Literal};
use super::dockerfile::scope::Globals;
use super::dockerfile::{Kind, Problem};
use super::named::{Contexts, Named};
use crate::image::Platform;
use std::collections::BTreeSet;

/// What a stage begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// `FROM scratch`: nothing.
    Scratch,
    /// An earlier stage.
    Stage(usize),
    /// An image.
    Image(Needed),
    /// The folder of a named context.
    Folder(String),
}

/// An image that a build needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// As written.
    pub name: String,
    /// For which platform, if FROM says.
    pub platform: Option<Platform>,
}

/// What is to be built.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The stages that are needed, each after those that it needs; the last is the target.
    pub order: Vec<usize>,
    /// By stage; of one that is not needed too.
    pub bases: Vec<Base>,
    /// By stage: the earlier stages that it begins with or takes files from.
    pub needs: Vec<BTreeSet<usize>>,
    /// Every image that a needed stage begins with or takes files from.
    pub images: Vec<Needed>,
}

/// Plans the build of a stage, the last one if none is named.
pub fn plan(
    file: &Dockerfile,
    globals: &Globals,
    contexts: &Contexts,
    target: Option<&str>,
) -> Result<Graph, Error> {
    let count = file.stages.len();
    let target = match target {
        Some(name) => file.find_stage(name, count).ok_or_else(|| Error::Target(name.to_owned()))?,
        None => count - 1,
    };
    let mut bases = vec![Base::Scratch; target + 1];
    let mut needed = vec![false; target + 1];
    let mut needs = vec![BTreeSet::new(); target + 1];
    let mut images = Vec::new();
    needed[target] = true;
    // What a stage needs stands before it.
    for at in (0..=target).rev() {
        if !needed[at] {
            continue;
        }
        let stage = &file.stages[at];
        let base = globals.resolve(file, stage)?;
        let folded = base.name.text.to_lowercase();
        let earlier = file.stages[..at].iter().rposition(|earlier| earlier.name() == Some(&folded));
        let platform = base.platform.map(|(platform, _)| platform);
        let mut image = |name: &str| {
            let image = Needed { name: name.to_owned(), platform: platform.clone() };
            images.push(image.clone());
            Base::Image(image)
        };
        bases[at] = match (contexts.find(&base.name.text), earlier) {
            (Some((name, Named::Folder(..))), _) => Base::Folder(name.to_owned()),
            (Some((_, Named::Image(name))), _) => image(name),
            (Some((_, Named::Scratch)), _) => Base::Scratch,
            (None, Some(earlier)) => {
                needed[earlier] = true;
                needs[at].insert(earlier);
                Base::Stage(earlier)
            }
            (None, None) if base.name.text == "scratch" => Base::Scratch,
            (None, None) => image(&base.name.text),
        };
        for from in stage.instructions.iter().flat_map(|instruction| named_by(&instruction.kind)) {
            if let Some((_, named)) = contexts.find(from.text()) {
                if let Named::Image(name) = named {
                    images.push(Needed { name: name.clone(), platform: None });
                }
                continue;
            }
            match file.find_stage(from.text(), at) {
                Some(earlier) => {
                    needed[earlier] = true;
                    needs[at].insert(earlier);
                }
                None if from.text() == "scratch" => {
                    let message = "\"scratch\" has no files to copy";
                    return Err(Box::new(Problem::new(&file.source, from.span(), message)).into());
                }
                None if from.text().parse::<usize>().is_ok() => {
                    let message = format!("stage {} is not before this one", from.text());
                    return Err(Box::new(Problem::new(&file.source, from.span(), message)).into());
                }
                None => images.push(Needed { name: from.text().to_owned(), platform: None }),
            }
        }
    }
    let order: Vec<usize> = (0..=target).filter(|stage| needed[*stage]).collect();
    images.reverse();
    Ok(Graph { order, bases, needs, images })
}

/// What an instruction takes files from.
fn named_by(kind: &Kind) -> Vec<&Literal> {
    match kind {
        Kind::Copy(copy) => copy.from.iter().collect(),
        Kind::Run(run) => run.mounts.iter().filter_map(|mount| mount.from.as_ref()).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dockerfile::{Source, parse};
    use super::*;
    use crate::image::Platform;

    fn planned(text: &str, target: Option<&str>) -> Result<Graph, Error> {
        let file = parse(&Source::new("Dockerfile", text)).unwrap();
        let host = Platform::host();
        let mut globals = Globals::new(&host, &host, target, &Default::default());
        globals.declare(&file, &Default::default()).unwrap();
        plan(&file, &globals, &Contexts::default(), target)
    }

    #[test]
    fn only_what_the_target_needs_is_built() {
        let text = "ARG V=1\nFROM a:$V AS One\nFROM unused\nFROM one AS two\nCOPY --from=other /x /\n\
                    FROM scratch\nCOPY --from=0 / /\nCOPY --from=two / /\n";
        let all = planned(text, None).unwrap();
        assert_eq!(all.order, [0, 2, 3]);
        assert_eq!(all.needs, [vec![], vec![], vec![0], vec![0, 2]].map(BTreeSet::from_iter));
        assert_eq!((&all.bases[2], &all.bases[3]), (&Base::Stage(0), &Base::Scratch));
        let names: Vec<&str> = all.images.iter().map(|image| image.name.as_str()).collect();
        assert_eq!(names, ["a:1", "other"]);
        assert_eq!(planned(text, Some("ONE")).unwrap().order, [0]);
        assert_eq!(planned(text, Some("1")).unwrap().order, [1]);
        assert!(matches!(planned(text, Some("none")), Err(Error::Target(_))));
        let mounted = "FROM a AS one\nFROM b AS two\nFROM c\nRUN --mount=from=one,target=/x --mount=from=d,target=/y true\n";
        let mounted = planned(mounted, None).unwrap();
        assert_eq!(mounted.order, [0, 2]);
        let names: Vec<&str> = mounted.images.iter().map(|image| image.name.as_str()).collect();
        assert_eq!(names, ["a", "d", "c"]);
        // Not the stage itself: the image of that name.
        let own = planned("FROM x AS x", None).unwrap();
        assert_eq!(own.images[0].name, "x");
    }
}
