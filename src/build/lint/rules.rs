//! The rules, in docker's words.

macro_rules! rules {
    ($($name:ident),+ $(,)?) => {
        /// What a warning is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each says what it is about in `about`")]
        pub enum Rule {
            $($name),+
        }

        impl Rule {
            /// All of them.
            pub const ALL: &[Rule] = &[$($name),+];
        }
    };
}

rules![
    StageNameCasing,
    FromAsCasing,
    NoEmptyContinuation,
    ConsistentInstructionCasing,
    DuplicateStageName,
    ReservedStageName,
    JSONArgsRecommended,
    MaintainerDeprecated,
    UndefinedArgInFrom,
    WorkdirRelativePath,
    UndefinedVar,
    MultipleInstructionsDisallowed,
    LegacyKeyValueFormat,
    InvalidBaseImagePlatform,
    RedundantTargetPlatform,
    SecretsUsedInArgOrEnv,
    InvalidDefaultArgInFrom,
    FromPlatformFlagConstDisallowed,
    CopyIgnoredFile,
    InvalidDefinitionDescription,
    ExposeProtoCasing,
    ExposeInvalidFormat,
];

use Rule::*;

impl Rule {
    /// What `check=skip=` calls it.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// Where docker explains it.
    pub fn url(self) -> Option<String> {
        // docker has no page for this one.
        if self == InvalidBaseImagePlatform {
            return None;
        }
        let mut page = String::new();
        let name = self.name();
        let mut was_lower = false;
        for c in name.replace("JSON", "Json").chars() {
            if c.is_uppercase() && was_lower {
                page.push('-');
            }
            was_lower = c.is_lowercase();
            page.extend(c.to_lowercase());
        }
        Some(format!("https://docs.docker.com/go/dockerfile/rule/{page}/"))
    }

    /// Whether it counts only where `check=experimental=` names it.
    pub fn is_experimental(self) -> bool {
        self == InvalidDefinitionDescription
    }

    /// What it wants.
    pub fn about(self) -> &'static str {
        match self {
            StageNameCasing => "Stage names should be lowercase",
            FromAsCasing => "The 'as' keyword should match the case of the 'from' keyword",
            NoEmptyContinuation => "Empty continuation lines will become errors in a future release",
            ConsistentInstructionCasing => {
                "All commands within the Dockerfile should use the same casing (either upper or lower)"
            }
            DuplicateStageName => "Stage names should be unique",
            ReservedStageName => "Reserved words should not be used as stage names",
            JSONArgsRecommended => {
                "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals"
            }
            MaintainerDeprecated => {
                "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
            }
            UndefinedArgInFrom => "FROM command must use declared ARGs",
            WorkdirRelativePath => {
                "Relative workdir without an absolute workdir declared within the build can have unexpected results \
                 if the base image changes"
            }
            UndefinedVar => "Variables should be defined before their use",
            MultipleInstructionsDisallowed => {
                "Multiple instructions of the same type should not be used in the same stage"
            }
            LegacyKeyValueFormat => "Legacy key/value format with whitespace separator should not be used",
            InvalidBaseImagePlatform => "Base image platform does not match expected target platform",
            RedundantTargetPlatform => {
                "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"
            }
            SecretsUsedInArgOrEnv => "Sensitive data should not be used in the ARG or ENV commands",
            InvalidDefaultArgInFrom => {
                "Default value for global ARG results in an empty or invalid base image name"
            }
            FromPlatformFlagConstDisallowed => "FROM --platform flag should not use a constant value",
            CopyIgnoredFile => "Attempting to Copy file that is excluded by .dockerignore",
            InvalidDefinitionDescription => {
                "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. \
                 If this is not intended to be a description comment, add an empty line or comment between the \
                 instruction and the comment."
            }
            ExposeProtoCasing => "Protocol in EXPOSE instruction should be lowercase",
            ExposeInvalidFormat => {
                "IP address and host-port mapping should not be used in EXPOSE instruction. \
                 This will become an error in a future release"
            }
        }
    }

    /// What it says of a case. `what` is the thing, `more` what belongs to it, as each rule wants them.
    pub(super) fn message(self, what: &str, more: &str) -> String {
        let near = |sign: &str| {
            if more.is_empty() { String::new() } else { format!(" (did you mean {sign}{more}?)") }
        };
        match self {
            StageNameCasing => format!("Stage name '{what}' should be lowercase"),
            FromAsCasing => format!("'{what}' and '{more}' keywords' casing do not match"),
            NoEmptyContinuation => "Empty continuation line".to_owned(),
            ConsistentInstructionCasing => {
                format!("Command '{what}' should match the case of the command majority ({more})")
            }
            DuplicateStageName => format!("Duplicate stage name {what:?}, stage names should be unique"),
            ReservedStageName => {
                format!("Stage name should not use the same name as reserved stage {what:?}")
            }
            JSONArgsRecommended => {
                format!(
                    "JSON arguments recommended for {what} to prevent unintended behavior related to OS signals"
                )
            }
            MaintainerDeprecated => "Maintainer instruction is deprecated in favor of using label".to_owned(),
            UndefinedArgInFrom => format!("FROM argument '{what}' is not declared{}", near("")),
            WorkdirRelativePath => {
                format!("Relative workdir {what:?} can have unexpected results if the base image changes")
            }
            UndefinedVar => format!("Usage of undefined variable '${what}'{}", near("$")),
            MultipleInstructionsDisallowed => format!(
                "Multiple {what} instructions should not be used in the same stage because only the last one will be used"
            ),
            LegacyKeyValueFormat => {
                format!("\"{what} key=value\" should be used instead of legacy \"{what} key value\" format")
            }
            InvalidBaseImagePlatform => {
                format!("Base image {what} was pulled with platform {more} for current build")
            }
            RedundantTargetPlatform => format!(
                "Setting platform to predefined {what} in FROM is redundant as this is the default behavior"
            ),
            SecretsUsedInArgOrEnv => {
                format!("Do not use ARG or ENV instructions for sensitive data ({what} {more:?})")
            }
            InvalidDefaultArgInFrom => {
                format!("Default value for ARG {what} results in empty or invalid base image name")
            }
            FromPlatformFlagConstDisallowed => {
                format!("FROM --platform flag should not use constant value {what:?}")
            }
            CopyIgnoredFile => {
                format!("Attempting to {what} file {more:?} that is excluded by .dockerignore")
            }
            InvalidDefinitionDescription => {
                format!("Comment for {what} should follow the format: `# {more} <description>`")
            }
            ExposeProtoCasing => {
                format!("Defined protocol '{what}' in EXPOSE instruction should be lowercase")
            }
            ExposeInvalidFormat => format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found '{what}'"
            ),
        }
    }
}
