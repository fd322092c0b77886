//! The two ways in which a network carries its containers' packets. The first needs nf_tables with its transparent proxy, a
//! bridge and cables from the kernel; the second ([`super::user`]) a tap interface and nothing else.

use super::user::UserMode;
use super::{Config, Entity, Network, inside::Inside};
use crate::netlink::Refused;
use crate::network::Error;
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;

/// Which way a network carries its packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    /// The kernel's if it has what that takes, else our own.
    #[default]
    Auto,
    /// The kernel ends connections, and passes packets between containers.
    Kernel,
    /// The network's process does.
    User,
}

impl std::str::FromStr for Datapath {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "auto" => Ok(Self::Auto),
            "kernel" => Ok(Self::Kernel),
            "user" => Ok(Self::User),
            _ => Err(()),
        }
    }
}

impl Datapath {
    const VARIABLE: &str = "CORACLE_NETWORK_DATAPATH";

    /// What the environment says, for networks for which nothing else is said.
    pub fn of_environment() -> Result<Self, Error> {
        match std::env::var(Self::VARIABLE) {
            Err(_) => Ok(Self::Auto),
            Ok(text) => text.parse().map_err(|()| Error::Datapath(text)),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::User => "user",
        }
    }
}

/// The way that this network has.
pub(super) enum Tier {
    Kernel(Box<Inside>),
    User(Box<UserMode>),
}

impl Tier {
    /// Takes the way that was asked for, or the best that there is.
    pub(super) fn make(config: &Config) -> Result<Self, Refused> {
        match config.datapath {
            Datapath::User => {}
            Datapath::Kernel => return Ok(Self::Kernel(Box::new(Inside::make(config)?))),
            Datapath::Auto => {
                if let Ok(inside) = Inside::make(config) {
                    return Ok(Self::Kernel(Box::new(inside)));
                }
            }
        }
        Ok(Self::User(Box::new(UserMode::new(config))))
    }

    pub(super) fn user(&mut self) -> Option<&mut UserMode> {
        match self {
            Self::User(user) => Some(user),
            Self::Kernel(_) => None,
        }
    }

    pub(super) fn kernel(&mut self) -> Option<&mut Inside> {
        match self {
            Self::Kernel(inside) => Some(inside),
            Self::User(_) => None,
        }
    }

    /// Of the network's packets, in bytes.
    pub(super) fn mtu(&self) -> u16 {
        match self {
            Self::Kernel(inside) => inside.mtu,
            Self::User(user) => user.mtu,
        }
    }

    /// Whether something is kept that nobody may need.
    pub(super) fn has_spare(&self) -> bool {
        match self {
            Self::Kernel(inside) => inside.has_spare(),
            Self::User(_) => false,
        }
    }

    /// Frees what nobody has needed since the last time.
    pub(super) fn trim(&mut self) {
        match self {
            Self::Kernel(inside) => inside.trim(),
            Self::User(user) => user.trim(),
        }
    }
}

impl Network {
    /// Gives a packet to the container that it is for.
    pub(super) fn write_inside(&mut self, packet: &[u8]) {
        match &mut self.tier {
            Tier::Kernel(inside) => drop(rustix::io::write(&inside.tun, packet)),
            Tier::User(user) => user.send_packet(packet),
        }
    }

    /// What is waited for as long as there is a network, in the first places of the table.
    pub(super) fn watch_fixed(&mut self) -> std::io::Result<()> {
        super::relay::set_nonblocking(&self.control)?;
        let mut entities = vec![Entity::Control];
        if let Tier::Kernel(inside) = &self.tier {
            entities.extend([Entity::Tun, Entity::DnsDatagrams, Entity::DnsListener]);
            for which in 0..inside.families.len() {
                entities.extend([Entity::Listener(which), Entity::Datagrams(which)]);
            }
        }
        for entity in entities {
            let fd = match (&entity, &self.tier) {
                (Entity::Tun, Tier::Kernel(inside)) => &inside.tun,
                (Entity::Listener(which), Tier::Kernel(inside)) => &inside.families[*which].tcp,
                (Entity::Datagrams(which), Tier::Kernel(inside)) => &inside.families[*which].udp,
                (Entity::DnsDatagrams, Tier::Kernel(inside)) => &inside.dns_udp,
                (Entity::DnsListener, Tier::Kernel(inside)) => &inside.dns_tcp,
                _ => &self.control,
            };
            let fd = fd.as_fd();
            let place = self.table.places.len();
            super::events::watch(&self.epoll, fd, place, rustix::event::epoll::EventFlags::IN)?;
            self.table.add(entity);
        }
        Ok(())
    }
}
