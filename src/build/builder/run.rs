//! RUN.

use super::report::Said;
use super::{Builder, Stage};
use crate::build::Error;
use crate::build::cache::{key, layers_text};
use crate::build::dockerfile::ast::{RunCommand, RunNetwork, RunSecurity};
use crate::build::dockerfile::scope::PROXY_ARGS;
use crate::build::dockerfile::{Instruction, Kind, ast};
use crate::build::metadata::Reading;
use crate::build::run::{Ran, Run};
use crate::build::shared_network::SharedNetwork;
use crate::container::networks::joined;
use crate::container::request::{CreateRequest, NetworkMode};
use crate::digest::Digest;
use crate::image;
use crate::state::FREE_SPACE;
use std::collections::BTreeMap;

/// Of what all steps are given, what a command may leave in its files. What is seldom given is not in most keys.
fn given(network: &NetworkMode, to: &CreateRequest) -> String {
    let seldom = |to: &CreateRequest| {
        let (CreateRequest { mounts, devices, security, attributes, .. }, files) = (to, &to.settings.files);
        let spaces = (&to.pid, &to.ipc, &to.uts, to.cgroup.host_namespace);
        let files = (files.no_hosts, files.no_hostname);
        format!(" {mounts:?} {devices:?} {security:?} {attributes:?} {spaces:?} {files:?}")
    };
    let mut given = format!(
        "{network:?} {:?} {:?} {:?} {:?} {:?}",
        to.add_hosts, to.cap_add, to.cap_drop, to.rlimits, to.shm_size
    );
    let more = seldom(to);
    if more != seldom(&CreateRequest::default()) {
        given += &more;
    }
    given
}

impl Builder<'_> {
    pub(super) fn run(
        &mut self,
        at: usize,
        reading: Reading<'_>,
        stage: &mut Stage,
        instruction: &Instruction,
        run: &ast::Run,
    ) -> Result<(), Error> {
        let span = instruction.head.span;
        if run.security == RunSecurity::Insecure {
            let problem = reading
                .problem(span, "RUN --security=insecure is not allowed: steps run in the sandbox only");
            return Err(Box::new(
                problem.hint("leave it out: no step gets more than a container of its own"),
            )
            .into());
        }
        let network = self.network(reading, instruction, run)?;
        let mut planned = self.plan_mounts(at, reading, stage, run)?;
        let settings = &stage.settings;
        let words = match (&run.command, run.command.for_shell()) {
            (_, Some(line)) => [settings.shell(), vec![line]].concat(),
            (RunCommand::Exec(words), _) => words.iter().map(|word| word.text().to_owned()).collect(),
            (RunCommand::Program(heredoc), _) => vec![planned.program(span, heredoc)],
            // What a shell runs has a line for it.
            (RunCommand::Shell { .. } | RunCommand::Script(_), None) => Vec::new(),
        };
        let mut env: Vec<String> =
            settings.scope.environment().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut last: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in settings.scope.arguments() {
            if let Some(value) = value {
                last.insert(name, value);
            }
        }
        let args: Vec<String> = last.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (below, container) = (layers_text(stage.layers()), &self.options.run.container);
        let (user, folder) = (&settings.config.user, &settings.config.working_dir);
        let given = given(&network, container);
        let mut parts = vec!["run", &below, &given, user, folder];
        for list in [&words, &env, &args, &planned.parts] {
            parts.push("list");
            parts.extend(list.iter().map(String::as_str));
        }
        let key = key(&parts);
        let said = match args.is_empty() {
            true => format!("RUN {} # buildkit", words.join(" ")),
            false => format!("RUN |{} {} {} # buildkit", args.len(), args.join(" "), words.join(" ")),
        };
        // They neither are in the image nor count.
        for name in PROXY_ARGS {
            if let Some(value) = self.options.given.get(name)
                && !settings.scope.declares(name)
            {
                env.push(format!("{name}={value}"));
            }
        }
        if let Some(variable) = &planned.agent_variable
            && !env.iter().any(|entry| entry.starts_with("SSH_AUTH_SOCK="))
        {
            env.push(variable.clone());
        }
        let config = image::RunConfig {
            env,
            user: user.clone(),
            working_dir: folder.clone(),
            ..image::RunConfig::default()
        };
        let (layers, shown) = (stage.layers().to_vec(), words.join(" "));
        let made = self.made(at, &instruction.head.text, key, |builder| {
            let networks = joined(&network).into_iter().map(|joined| joined.network).collect();
            // Whoever does not hear it starts them anew.
            let _ = builder.say(&Said::Connecting(networks));
            let options = builder.options;
            let message = |what: &str| reading.problem(span, format!("process \"{shown}\" {what}"));
            let failed = |error: Error| error.at(*message("could not be run"));
            // Before the caches are taken: it lasts, and would keep them.
            let shared = builder.take_shared(at, instruction, &network, &layers).map_err(failed)?;
            let ready = builder.ready(reading, &planned)?;
            let output = &mut |is_error, bytes: &[u8]| builder.output(is_error, bytes);
            let step = Run {
                layers: &layers,
                config,
                words,
                network,
                shared: shared.as_ref(),
                container: &options.run.container,
                mounts: ready.mounts,
                secrets: ready.env,
                shell_on_failure: options.run.shell_on_failure,
                output,
            };
            let ran = step.run(builder.paths, builder.identity);
            if shared.is_some() {
                builder.shared_network = shared;
            }
            let layer = match ran {
                Ok(Ran::Done(layer)) => layer,
                Ok(Ran::Failed { code, disk_is_full }) => {
                    let problem = message(&format!("did not complete successfully: exit code: {code}"));
                    return Err(match disk_is_full {
                        true => Box::new(problem.hint(FREE_SPACE)).into(),
                        false => problem.into(),
                    });
                }
                Err(error) => return Err(failed(error)),
            };
            for tree in planned.trees() {
                builder.check_unchanged(reading, span, tree, "mounted")?;
            }
            Ok(layer)
        })?;
        stage.add(said, Some(made));
        Ok(())
    }

    /// What the stage's steps share of their network, connected now if there are more than this one to come. Who takes it
    /// gives it back.
    fn take_shared(
        &mut self,
        at: usize,
        instruction: &Instruction,
        network: &NetworkMode,
        layers: &[Digest],
    ) -> Result<Option<SharedNetwork>, Error> {
        let (options, container) = (self.options, &self.options.run.container);
        if !SharedNetwork::suits(network, container) {
            return Ok(None);
        }
        let is_later = |other: &Instruction| other.head.span.start > instruction.head.span.start;
        let is_such =
            |other: &Instruction| matches!(&other.kind, Kind::Run(run) if run.network == RunNetwork::Default);
        let mut others = options.file.stages[at].instructions.iter();
        if self.shared_network.is_none() && others.any(|other| is_later(other) && is_such(other)) {
            let connected = SharedNetwork::connect(self.paths, self.identity, network, container, layers);
            return connected.map(Some);
        }
        Ok(self.shared_network.take())
    }

    /// The network of a step: as its flag says, else as the build was told.
    fn network(
        &self,
        reading: Reading<'_>,
        instruction: &Instruction,
        run: &ast::Run,
    ) -> Result<NetworkMode, Error> {
        let options = self.options;
        let of_build = &options.run.container.network;
        Ok(match run.network {
            RunNetwork::None => NetworkMode::None,
            RunNetwork::Host if options.run.host_network || *of_build == NetworkMode::Host => {
                NetworkMode::Host
            }
            RunNetwork::Host => {
                let message = "RUN --network=host is not allowed: a step would reach what listens on this machine alone";
                let problem = reading.problem(instruction.head.span, message);
                return Err(Box::new(problem.hint("allow it with --allow network.host")).into());
            }
            RunNetwork::Default if options.offline && *of_build == NetworkMode::Default => NetworkMode::None,
            RunNetwork::Default => of_build.clone(),
        })
    }
}
