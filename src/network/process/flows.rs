//! What passes through the network now: shown to who asks, and ended when its container is gone.
//!
//! A container that ends closes its connections itself, but what it had not sent yet is in its own network namespace, and
//! the end of the connection is behind that. Without its cable neither ever arrives, and we would wait for it for ever.

use super::super::control::{Flow, Flows, Transport};
use super::relay::{Relay, reset};
use super::{Entity, Network};
use crate::kernel::net::tcp_info;
use std::net::{IpAddr, SocketAddr};

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

/// States in which the other side's end has not arrived: established and, after an end of ours, the fin-waits.
const OPEN: [u8; 3] = [1, 4, 5];
/// Milliseconds in which a container that is gone would have to acknowledge what is sent to it.
const GONE: u32 = 5000;

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

    /// Ends what the container with these addresses has, before its cable is cut: the next one with one of them must not get
    /// what was this one's either.
    pub(super) fn end_flows_of(&mut self, addresses: &[IpAddr]) {
        let is_its = |end: SocketAddr| addresses.contains(&end.ip());
        for place in 0..self.table.places.len() {
            match self.table.take(place) {
                // Nobody must take a part for the whole.
                Some(Entity::Relay(relay))
                    if relay.whose().is_some_and(|whose| is_its(whose.container)) && is_cut_off(&relay) =>
                {
                    self.end_relay(place, relay, true);
                }
                Some(Entity::Stream(mut stream)) if is_its(stream.container()) => {
                    if stream.orphan() {
                        self.table.put(place, Entity::Stream(stream));
                        self.stream_event(place);
                    } else {
                        self.table.put(place, Entity::Stream(stream));
                        self.break_stream(place);
                    }
                }
                Some(Entity::Arriving(arriving)) if is_its(arriving.to) => {
                    reset(&arriving.client);
                    self.table.forget(place);
                }
                Some(Entity::Flow(flow)) if flow.ends().is_some_and(|(end, ..)| is_its(end)) => {
                    self.table.forget(place);
                }
                Some(other) => self.table.put(place, other),
                None => {}
            }
        }
        let table = &self.table;
        self.flows.retain(|_, place| table.places.get(*place).is_some_and(Option::is_some));
        if let Some(user) = self.tier.user() {
            user.flows.retain(|(container, _), _| !is_its(*container));
        }
        let pending: Vec<_> = self.pending.extract_if(|(source, _), _| is_its(*source)).collect();
        for (_, place) in pending {
            self.remove(place);
        }
    }
}

/// Whether the container had more to say. If not, what it has said is passed on, and what is sent to it is refused, as it would
/// be if it were there.
fn is_cut_off(relay: &Relay) -> bool {
    let [container, _] = relay.ends();
    let is_open = tcp_info(container).is_ok_and(|info| OPEN.contains(&info.state));
    if !is_open {
        let _ = rustix::net::sockopt::set_tcp_user_timeout(container, GONE);
    }
    is_open
}

fn flow(entity: &Entity) -> Option<Flow> {
    match entity {
        Entity::Relay(_) | Entity::Stream(_) => {
            let (whose, moved, outside) = match entity {
                Entity::Relay(relay) => (relay.whose()?, relay.moved(), relay.ends()[1]),
                Entity::Stream(stream) => (stream.whose()?, stream.moved(), stream.host()),
                _ => return None,
            };
            let [sent, received] = moved;
            let info = tcp_info(outside).ok();
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
