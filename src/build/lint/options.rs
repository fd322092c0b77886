//! `check=skip=…;experimental=…;error=…`.

use super::Rule;
use crate::build::dockerfile::Dockerfile;
use std::collections::BTreeSet;

/// Which rules count, and whether a warning is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    skip: Names,
    experimental: Names,
    /// The build fails if there are warnings.
    pub error: bool,
}

/// Names of rules, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    some: BTreeSet<String>,
}

impl Names {
    fn read(value: &str) -> Names {
        if value == "all" {
            return Names { all: true, some: BTreeSet::new() };
        }
        Names { all: false, some: value.split(',').map(|name| name.trim().to_owned()).collect() }
    }

    fn has(&self, rule: Rule) -> bool {
        self.all || self.some.contains(&rule.name())
    }

    fn add(&mut self, other: &Names) {
        self.all |= other.all;
        self.some.extend(other.some.iter().cloned());
    }
}

impl Options {
    /// Reads the value of the directive, or of the build argument `BUILDKIT_DOCKERFILE_CHECK`. The error is docker's.
    pub fn parse(text: &str) -> Result<Options, String> {
        let mut options = Options::default();
        if text.trim().is_empty() {
            return Ok(options);
        }
        for part in text.trim().splitn(3, ';') {
            let Some((key, value)) = part.split_once('=') else {
                return Err(format!("invalid check option {part:?}"));
            };
            let value = value.trim();
            match key.trim() {
                "skip" => options.skip = Names::read(value),
                "experimental" => options.experimental = Names::read(value),
                "error" => {
                    options.error = crate::build::dockerfile::boolean(value)
                        .ok_or_else(|| format!("failed to parse check option {part:?}"))?;
                }
                key => return Err(format!("invalid check option {key:?}")),
            }
        }
        Ok(options)
    }

    /// Those of the file's own directive.
    pub fn of_file(file: &Dockerfile) -> Result<Options, String> {
        let Some(directive) = &file.directives.check else { return Ok(Options::default()) };
        let value = directive.text().split(' ').next().unwrap_or_default();
        Options::parse(value).map_err(|error| format!("failed to parse check options: {error}"))
    }

    /// Whether the rule counts.
    pub fn wants(&self, rule: Rule) -> bool {
        if rule.is_experimental() { self.experimental.has(rule) } else { !self.skip.has(rule) }
    }

    /// These and what the comments above an instruction say: `# check=skip=RULE`. What is no such thing is a comment.
    pub(super) fn with_comments(&self, comments: &[String]) -> Options {
        let mut options = self.clone();
        let said = comments.iter().find_map(|comment| {
            let (name, value) = comment.split_once('=')?;
            name.trim()
                .eq_ignore_ascii_case("check")
                .then_some(value.trim())
                .filter(|value| !value.is_empty())
        });
        if let Some(Ok(said)) = said.map(|value| Options::parse(value.split(' ').next().unwrap_or_default()))
        {
            options.skip.add(&said.skip);
            options.experimental.add(&said.experimental);
        }
        options
    }
}
