//! Packet filters, as requests (linux/netfilter/nf_tables.h; there is no manual page, nft(8) `--debug=netlink` shows
//! how rules are made of expressions).
//!
//! Only what the network's own namespace needs: a table whose chain sees every packet that comes in, and a handful of
//! expressions. All of a table goes in one batch and is there as a whole or not at all.

use super::{APPEND, CREATE, Message};
use std::net::IpAddr;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;

/// Which packets a table sees.
#[derive(Clone, Copy, Debug)]
pub enum Family {
    /// IPv4 and IPv6 as they are received by this machine.
    Inet = 1,
    /// Whatever a device receives.
    Device = 5,
}

/// Where a chain stands.
#[derive(Clone, Debug)]
pub enum Hook<'a> {
    /// Before the routing decision, after connection tracking ("mangle").
    Prerouting,
    /// Before anything else, of the packets of one device.
    Ingress(&'a str),
}

fn message(what: &'static str, kind: u16, flags: u16, family: Family) -> Message {
    Message::new(what, kind, flags).fixed(&[family as u8, 0, 0, 0])
}

fn batch(kind: u16) -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::silent("change the packet filter", kind, 0).fixed(&[0, 0, high, low])
}

/// A table with one chain and its rules, as a batch.
pub fn table(family: Family, name: &str, hook: &Hook<'_>, rules: &[Vec<Expression>]) -> Vec<Message> {
    const POLICY_ACCEPT: u32 = 1;
    const NFTA_TABLE_NAME: u16 = 1;
    const NFTA_CHAIN_TABLE: u16 = 1;
    const NFTA_CHAIN_NAME: u16 = 3;
    const NFTA_CHAIN_HOOK: u16 = 4;
    const NFTA_CHAIN_POLICY: u16 = 5;
    const NFTA_CHAIN_TYPE: u16 = 7;
    const NFTA_HOOK_HOOKNUM: u16 = 1;
    const NFTA_HOOK_PRIORITY: u16 = 2;
    const NFTA_HOOK_DEV: u16 = 3;
    const CHAIN: &str = "in";
    let chain = message("make a packet filter", NEW_CHAIN, CREATE, family)
        .text(NFTA_CHAIN_TABLE, name)
        .text(NFTA_CHAIN_NAME, CHAIN)
        .nest(NFTA_CHAIN_HOOK, |m| match hook {
            Hook::Prerouting => {
                m.number_be(NFTA_HOOK_HOOKNUM, 0).number_be(NFTA_HOOK_PRIORITY, (-150i32).cast_unsigned())
            }
            Hook::Ingress(device) => {
                m.number_be(NFTA_HOOK_HOOKNUM, 0).number_be(NFTA_HOOK_PRIORITY, 0).text(NFTA_HOOK_DEV, device)
            }
        })
        .number_be(NFTA_CHAIN_POLICY, POLICY_ACCEPT)
        .text(NFTA_CHAIN_TYPE, "filter");
    let table = message("make a packet filter", NEW_TABLE, CREATE, family).text(NFTA_TABLE_NAME, name);
    let mut messages = vec![batch(BATCH_BEGIN), table, chain];
    messages.extend(rules.iter().map(|rule| self::rule(family, name, CHAIN, rule)));
    messages.push(batch(BATCH_END));
    messages
}

/// Removes a table with all that is in it, as a batch.
pub fn remove_table(family: Family, name: &str) -> Vec<Message> {
    const DEL_TABLE: u16 = SUBSYSTEM << 8 | 2;
    const NFTA_TABLE_NAME: u16 = 1;
    let remove = message("remove a packet filter", DEL_TABLE, 0, family).text(NFTA_TABLE_NAME, name);
    vec![batch(BATCH_BEGIN), remove, batch(BATCH_END)]
}

fn rule(family: Family, table: &str, chain: &str, expressions: &[Expression]) -> Message {
    const NFTA_RULE_TABLE: u16 = 1;
    const NFTA_RULE_CHAIN: u16 = 2;
    const NFTA_RULE_EXPRESSIONS: u16 = 4;
    const NFTA_LIST_ELEM: u16 = 1;
    message("make a packet filter's rule", NEW_RULE, CREATE | APPEND, family)
        .text(NFTA_RULE_TABLE, table)
        .text(NFTA_RULE_CHAIN, chain)
        .nest(NFTA_RULE_EXPRESSIONS, |m| {
            expressions.iter().fold(m, |m, expression| {
                let m = match expression.operand() {
                    Some(value) => m.nest(NFTA_LIST_ELEM, |m| immediate(m, &value)),
                    None => m,
                };
                m.nest(NFTA_LIST_ELEM, |m| expression.write(m))
            })
        })
}

/// The register that values pass through, and the one for a second value.
const REGISTER: u32 = 1;
const SECOND: u32 = 2;

/// A part of a rule: something that must be so for the rest to count, or something that is done.
#[derive(Clone, Debug)]
pub enum Expression {
    /// A property of the packet goes to the register.
    Load(Property),
    /// A part of the packet goes to the register.
    Bytes {
        /// From where.
        base: Base,
        /// Offset in bytes.
        offset: u32,
        /// How many.
        length: u32,
    },
    /// The register is masked.
    Mask(Vec<u8>),
    /// The register is this.
    Is(Vec<u8>),
    /// The register is not this.
    IsNot(Vec<u8>),
    /// The packet belongs to a transparent socket of this namespace (the register is 1 then).
    LoadTransparent,
    /// The packet gets a mark.
    Mark(u32),
    /// The packet goes to the transparent socket that is bound to this port.
    Redirect {
        /// Whether it is IPv4 or IPv6.
        v6: bool,
        /// The port.
        port: u16,
    },
    /// The packet is let through.
    Accept,
    /// The packet is dropped.
    Drop,
}

/// What is known of a packet.
#[derive(Clone, Copy, Debug)]
pub enum Property {
    /// Name of the interface that it came by, 16 bytes.
    InputName = 6,
    /// 2 for IPv4, 10 for IPv6; one byte.
    Protocol = 15,
    /// 6 for TCP, 17 for UDP; one byte.
    Transport = 16,
}

/// Where in a packet.
#[derive(Clone, Copy, Debug)]
pub enum Base {
    /// From the Ethernet header on.
    Link = 0,
    /// From the IP header on.
    Network = 1,
    /// From the TCP or UDP header on.
    Transport = 2,
}

const META_MARK: u32 = 3;
const NFTA_DATA_VALUE: u16 = 1;

impl Expression {
    /// What has to be in the second register for it.
    fn operand(&self) -> Option<Vec<u8>> {
        match self {
            Self::Mark(mark) => Some(mark.to_ne_bytes().to_vec()),
            Self::Redirect { port, .. } => Some(port.to_be_bytes().to_vec()),
            _ => None,
        }
    }

    fn write(&self, m: Message) -> Message {
        const NFTA_EXPR_NAME: u16 = 1;
        const NFTA_EXPR_DATA: u16 = 2;
        let name = match self {
            Self::Load(_) | Self::Mark(_) => "meta",
            Self::Bytes { .. } => "payload",
            Self::Mask(_) => "bitwise",
            Self::Is(_) | Self::IsNot(_) => "cmp",
            Self::LoadTransparent => "socket",
            Self::Redirect { .. } => "tproxy",
            Self::Accept | Self::Drop => "immediate",
        };
        m.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, |m| self.data(m))
    }

    /// The attributes of each kind of expression: `NFTA_META_*`, `NFTA_PAYLOAD_*` and so on.
    fn data(&self, m: Message) -> Message {
        let compare = |m: Message, operator: u32, value: &[u8]| {
            m.number_be(1, REGISTER).number_be(2, operator).nest(3, |m| m.attribute(NFTA_DATA_VALUE, value))
        };
        let verdict =
            |m: Message, code: u32| m.number_be(1, 0).nest(2, |m| m.nest(2, |m| m.number_be(1, code)));
        match self {
            Self::Load(property) => m.number_be(1, REGISTER).number_be(2, *property as u32),
            Self::Bytes { base, offset, length } => m
                .number_be(1, REGISTER)
                .number_be(2, *base as u32)
                .number_be(3, *offset)
                .number_be(4, *length),
            Self::Mask(mask) => m
                .number_be(1, REGISTER)
                .number_be(2, REGISTER)
                .number_be(3, u32::try_from(mask.len()).unwrap_or(0))
                .nest(4, |m| m.attribute(NFTA_DATA_VALUE, mask))
                .nest(5, |m| m.attribute(NFTA_DATA_VALUE, &vec![0; mask.len()])),
            Self::Is(value) => compare(m, 0, value),
            Self::IsNot(value) => compare(m, 1, value),
            Self::LoadTransparent => m.number_be(1, 0).number_be(2, REGISTER),
            Self::Mark(_) => m.number_be(2, META_MARK).number_be(3, SECOND),
            Self::Redirect { v6, .. } => m.number_be(1, if *v6 { 10 } else { 2 }).number_be(3, SECOND),
            Self::Accept => verdict(m, 1),
            Self::Drop => verdict(m, 0),
        }
    }
}

/// A value into the second register, for the expression after it.
fn immediate(m: Message, value: &[u8]) -> Message {
    m.text(1, "immediate")
        .nest(2, |m| m.number_be(1, SECOND).nest(2, |m| m.attribute(NFTA_DATA_VALUE, value)))
}

/// "meta l4proto N".
pub fn transport(number: u8) -> [Expression; 2] {
    [Expression::Load(Property::Transport), Expression::Is(vec![number])]
}

/// `iifname "NAME"`.
pub fn input(name: &str) -> [Expression; 2] {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    [Expression::Load(Property::InputName), Expression::Is(bytes)]
}

/// `ip daddr NETWORK/PREFIX` or `ip6 daddr …`, or that it is not.
pub fn destination(network: IpAddr, prefix: u8, is: bool) -> [Expression; 3] {
    let (offset, length, bytes) = match network {
        IpAddr::V4(v4) => (16, 4, v4.octets().to_vec()),
        IpAddr::V6(v6) => (24, 16, v6.octets().to_vec()),
    };
    // The bits of each byte that are the network's.
    let mask = |byte: usize| match usize::from(prefix).saturating_sub(byte * 8) {
        0 => 0,
        bits @ 1..8 => !(0xff_u8 >> bits),
        _ => 0xff,
    };
    let mask: Vec<u8> = (0..bytes.len()).map(mask).collect();
    let value = bytes.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
    [
        Expression::Bytes { base: Base::Network, offset, length },
        Expression::Mask(mask),
        if is { Expression::Is(value) } else { Expression::IsNot(value) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_compared_as_far_as_its_prefix_goes() {
        let of = |network: &str, prefix| match destination(network.parse().unwrap(), prefix, true) {
            [Expression::Bytes { offset, length, .. }, Expression::Mask(mask), Expression::Is(value)] => {
                (offset, length, mask, value)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(of("10.1.255.0", 20), (16, 4, vec![255, 255, 240, 0], vec![10, 1, 240, 0]));
        let (offset, length, mask, value) = of("fd00:1::ff", 64);
        assert_eq!((offset, length), (24, 16));
        assert_eq!((&mask[..8], &mask[8..]), (&[255; 8][..], &[0; 8][..]));
        assert_eq!(value, [&[0xfd, 0, 0, 1][..], &[0; 12]].concat());
    }
}
