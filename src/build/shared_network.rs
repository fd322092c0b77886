//! The network that the steps of a stage share.
//!
//! To connect a container to a network and to cut it off again takes the kernel some 30 ms, in which it holds the lock of all
//! interfaces: more than all else of a short step, and the next one waits for it. So one container that only waits is
//! connected, and the steps, one after the other, join its network namespace, as `--network container:X` does, and the user namespace
//! to which that belongs. (BuildKit's pool of network namespaces is for the same reason.) All else of a step is its own; of a step
//! that has ended nothing can be left in a network namespace but what CAP_NET_ADMIN could set there: steps that are given
//! more than the usual capabilities are not among these.
//!
//! It is one of `--rm`, not listed, and ended by its monitor when the stage's process ends, however that does.

use super::{Error, run};
use crate::container::create::create;
use crate::container::id::ContainerId;
use crate::container::request::{CreateRequest, NetworkMode, UsernsMode};
use crate::container::session::{Client, Ending, Failure};
use crate::container::settings::NamespaceMode;
use crate::container::{monitor, request};
use crate::digest::Digest;
use crate::image::RunConfig;
use crate::state::Paths;
use crate::userns::Identity;

/// A connected network namespace, for as long as this lives.
pub struct SharedNetwork {
    id: ContainerId,
    /// Its monitor ends it when nobody listens to it any more.
    _session: Client,
}

impl SharedNetwork {
    /// Whether steps whose containers are made so can share one.
    pub fn suits(network: &NetworkMode, container: &CreateRequest) -> bool {
        let has_its_own = [&container.pid, &container.ipc, &container.uts]
            .into_iter()
            .all(|mode| *mode == NamespaceMode::default());
        matches!(network, NetworkMode::Default | NetworkMode::Named(_))
            && container.userns == UsernsMode::default()
            && container.cap_add.is_empty()
            && container.sysctls.is_empty()
            && !container.privileged
            && has_its_own
    }

    /// Connects one. The caller is as [`Run::run`](super::run::Run::run)'s; `layers` is any image's.
    pub fn connect(
        paths: &Paths,
        identity: &Identity,
        network: &NetworkMode,
        container: &CreateRequest,
        layers: &[Digest],
    ) -> Result<Self, Error> {
        let failed = |error: &dyn crate::diagnose::Diagnose| Error::Failed(Failure::of(error));
        const WHAT: &str = "the network of a build's steps";
        let image = run::image(WHAT, layers, RunConfig::default());
        let asked = CreateRequest {
            command: vec!["wait".into()],
            network: network.clone(),
            add_hosts: container.add_hosts.clone(),
            dns: container.dns.clone(),
            settings: container.settings.clone(),
            ..CreateRequest::default()
        };
        let request = run::request(WHAT, asked);
        let mut created = create(paths, identity, &request, Some(&image)).map_err(|e| failed(&e))?;
        created.record.spec.process.args.clear();
        let mut session = monitor::start(monitor::Start {
            paths,
            identity,
            record: &created.record,
            places: &created.places,
            lock: created.lock,
            kept: created.kept,
            window: None,
            background: false,
            preserved: Vec::new(),
            extra: &[],
        })
        .map_err(|e| failed(&e))?;
        match session.wait_started().map_err(Error::io("talk to the container of the network"))? {
            None => Ok(Self { id: created.record.id, _session: session }),
            Some(Ending::Failed(failure)) => Err(Error::Failed(failure)),
            Some(_) => {
                let killed = std::io::Error::other("it was killed");
                Err(Error::io("connect the steps to their network")(killed))
            }
        }
    }

    /// Has a step's container be in it: what is told of the network there is told here.
    pub fn join(&self, request: CreateRequest) -> CreateRequest {
        CreateRequest {
            network: NetworkMode::Container(self.id.as_str().to_owned()),
            add_hosts: Vec::new(),
            dns: request::Dns::default(),
            ..request
        }
    }
}
