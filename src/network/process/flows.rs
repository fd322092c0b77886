//! What passes through the network now, for who asks.

use super::super::control::{Flow, Flows, Transport};
use super::{Entity, Network};
use crate::kernel::net::tcp_info;

/// So many fit into a message.
const AT_ONCE: usize = 100;

/// RFC 9293's names of the kernel's states (linux/tcp_states.h), from 1.
const STATES: [&str; 11] = [
    "established",
    "syn-sent",
    "syn-received",
    "fin-wait-1",
    "fin-wait-2",
    "time-wait",
    "closed",
    "close-wait",
    "last-ack",
    "listen",
    "closing",
];

impl Network {
    /// The connections that there are, from this place in the table on; as many as fit into a message.
    pub(super) fn flows_from(&self, from: usize) -> Flows {
        let mut flows = Vec::new();
        for (place, entity) in self.table.places.iter().enumerate().skip(from) {
            if flows.len() == AT_ONCE {
                return Flows { flows, next: Some(place) };
            }
            flows.extend(entity.as_ref().and_then(flow));
        }
        Flows { flows, next: None }
    }
}

fn flow(entity: &Entity) -> Option<Flow> {
    match entity {
        Entity::Relay(relay) => {
            let whose = relay.whose()?;
            let [sent, received] = relay.moved();
            let info = tcp_info(relay.ends()[1]).ok();
            let state = info.and_then(|info| STATES.get(usize::from(info.state).checked_sub(1)?));
            Some(Flow {
                transport: Transport::Tcp,
                inwards: whose.inwards,
                container: whose.container,
                remote: whose.remote,
                state: (*state.unwrap_or(&"unknown")).to_owned(),
                sent,
                received,
                round_trip: info.map(|info| info.round_trip),
                retransmits: info.map(|info| info.retransmits),
            })
        }
        Entity::Flow(flow) => {
            let (container, remote, inwards) = flow.ends()?;
            let [sent, received] = flow.moved();
            let transport = Transport::Udp;
            let state = "open".to_owned();
            let (round_trip, retransmits) = (None, None);
            Some(Flow {
                transport,
                inwards,
                container,
                remote,
                state,
                sent,
                received,
                round_trip,
                retransmits,
            })
        }
        _ => None,
    }
}
