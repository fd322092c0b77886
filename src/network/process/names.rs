//! What the gateway's name server knows by itself: the names of the network's containers, and those of the host.
//!
//! A question is taken apart by hickory-proto, which fails on anything that is not one. One that asks for nothing of ours is left
//! alone, and goes to the host's name servers byte for byte.

use crate::network::HOST;
use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// What the host is called. They are in `/etc/hosts`, too, which not all programs read.
const HOST_NAMES: [&str; 2] = ["host.containers.internal", "host.docker.internal"];

/// Seconds for which an answer may be kept: containers come and go.
const TTL: u32 = 5;

/// Names of one container, in lower case; the first is what its address is called.
#[derive(Debug)]
pub(super) struct Names {
    /// Its place in the table of entities.
    pub(super) owner: usize,
    /// Its addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// What it is called.
    pub(super) names: Vec<String>,
    /// Ids of the other networks that it is on.
    pub(super) others: Vec<String>,
}

/// Names as they are looked for.
pub(super) fn folded(names: &[String]) -> Vec<String> {
    names.iter().map(|name| name.to_ascii_lowercase()).collect()
}

/// The answer to a question about one of these or, with `host`, about the host. `turn` makes the addresses of one name take
/// turns.
pub(super) fn answer(question: &[u8], known: &[Names], host: bool, turn: usize) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let [query] = &question.queries[..] else { return None };
    if question.metadata.op_code != OpCode::Query || query.query_class() != DNSClass::IN {
        return None;
    }
    let name = query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let record = |data| Record::from_rdata(query.name().clone(), TTL, data);
    let mut answers: Vec<Record> = match address_of(&name) {
        Some(address) => {
            let name = match known.iter().find(|names| names.addresses.contains(&address)) {
                Some(owner) => owner.names.first()?.as_str(),
                None if host && address == HOST => HOST_NAMES[0],
                None => return None,
            };
            let name = Name::from_ascii(format!("{name}.")).ok()?;
            match query.query_type() {
                RecordType::PTR => vec![record(RData::PTR(PTR(name)))],
                _ => Vec::new(),
            }
        }
        None => {
            let owners = known.iter().filter(|names| names.names.contains(&name));
            let mut addresses: Vec<IpAddr> = owners.flat_map(|names| names.addresses.clone()).collect();
            if addresses.is_empty() && host && HOST_NAMES.contains(&&*name) {
                addresses.push(HOST.into());
            }
            addresses.first()?;
            // A name that is there, and has nothing of this type, is no error (RFC 2308, NODATA).
            let is_asked_for = |address: &IpAddr| match query.query_type() {
                RecordType::A => address.is_ipv4(),
                RecordType::AAAA => address.is_ipv6(),
                kind => kind == RecordType::ANY,
            };
            let data = |address| match address {
                IpAddr::V4(v4) => RData::A(A(v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
            };
            addresses.into_iter().filter(is_asked_for).map(|address| record(data(address))).collect()
        }
    };
    if !answers.is_empty() {
        let count = answers.len();
        answers.rotate_left(turn % count);
    }
    let mut answer = reply(&question);
    answer.metadata.authoritative = true;
    answer.add_query(query.clone());
    answer.add_answers(answers);
    answer.to_vec().ok()
}

/// The names on the other networks of a container, from their folders. These are as old as their leases: a container that was
/// killed with its monitor is in there until somebody tidies up.
pub(super) fn of_others(networks: &Path, others: &[String]) -> Vec<Names> {
    let known = |id: &String| crate::network::address::holders(&networks.join(id).join("leases"));
    let names = |(address, names): (_, Vec<String>)| Names {
        owner: 0,
        addresses: vec![address],
        names: folded(&names),
        others: Vec::new(),
    };
    others.iter().flat_map(known).map(names).collect()
}

/// What there is to say where nobody can be asked.
pub(super) fn refusal(question: &[u8]) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let mut answer = reply(&question);
    answer.metadata.response_code = ResponseCode::NXDomain;
    answer.add_queries(question.queries.clone());
    answer.to_vec().ok()
}

/// An answer as a datagram: one that is more than the client takes says so instead (TC), and the client asks by TCP.
pub(super) fn fitting(question: &[u8], answer: Vec<u8>) -> Vec<u8> {
    let Ok(question) = Message::from_vec(question) else { return answer };
    if answer.len() <= usize::from(question.max_payload()) {
        return answer;
    }
    let mut short = reply(&question);
    short.metadata.truncation = true;
    short.add_queries(question.queries.clone());
    short.to_vec().unwrap_or_default()
}

fn reply(question: &Message) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer
}

/// The address in a name such as `2.0.89.10.in-addr.arpa`, or of 32 digits before `ip6.arpa` (RFC 3596, 2.5).
fn address_of(name: &str) -> Option<IpAddr> {
    if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
        let reversed: Ipv4Addr = reversed.parse().ok()?;
        let [a, b, c, d] = reversed.octets();
        return Some(Ipv4Addr::new(d, c, b, a).into());
    }
    let digits: Vec<&str> = name.strip_suffix(".ip6.arpa")?.split('.').rev().collect();
    if digits.len() != 32 || digits.iter().any(|digit| digit.len() != 1) {
        return None;
    }
    u128::from_str_radix(&digits.concat(), 16).ok().map(|bits| Ipv6Addr::from_bits(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{MessageType, Query};

    fn ask(name: &str, kind: RecordType) -> Vec<u8> {
        let mut question = Message::new(7, MessageType::Query, OpCode::Query);
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        question.to_vec().unwrap()
    }

    fn known() -> Vec<Names> {
        let names = |owner, last, names: &[&str]| Names {
            owner,
            addresses: vec![
                Ipv4Addr::new(10, 89, 0, last).into(),
                Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into(),
            ],
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            others: Vec::new(),
        };
        vec![names(1, 2, &["db", "both"]), names(2, 3, &["web", "both"])]
    }

    fn told(name: &str, kind: RecordType, turn: usize) -> Option<Vec<String>> {
        let answer = Message::from_vec(&answer(&ask(name, kind), &known(), true, turn)?).unwrap();
        assert_eq!((answer.metadata.id, answer.metadata.response_code), (7, ResponseCode::NoError));
        assert!(answer.metadata.recursion_desired && answer.metadata.message_type == MessageType::Response);
        assert_eq!(answer.queries.len(), 1);
        Some(answer.answers.iter().map(|record| record.data.to_string()).collect())
    }

    #[test]
    fn known_names_are_answered_and_others_left_alone() {
        assert_eq!(told("db.", RecordType::A, 0).unwrap(), ["10.89.0.2"]);
        assert_eq!(told("DB.", RecordType::A, 0).unwrap(), ["10.89.0.2"]);
        assert_eq!(told("both.", RecordType::A, 0).unwrap(), ["10.89.0.2", "10.89.0.3"]);
        assert_eq!(told("both.", RecordType::A, 1).unwrap(), ["10.89.0.3", "10.89.0.2"]);
        assert_eq!(told("db.", RecordType::AAAA, 0).unwrap(), ["fd00::2"]);
        // NODATA, not NXDOMAIN: else a client that asks for both would give up.
        assert_eq!(told("db.", RecordType::TXT, 0).unwrap(), Vec::<String>::new());
        let digits = format!("3.{}d.f.ip6.arpa.", "0.".repeat(29));
        assert_eq!(told(&digits, RecordType::PTR, 0).unwrap(), ["web."]);
        for other in
            ["3.d.f.ip6.arpa.".to_owned(), digits.replacen('3', "33", 1), digits.replacen('3', "4", 1)]
        {
            assert_eq!(told(&other, RecordType::PTR, 0), None, "{other}");
        }
        assert_eq!(told("3.0.89.10.in-addr.arpa.", RecordType::PTR, 0).unwrap(), ["web."]);
        for name in ["db.example.", "example.", "9.0.89.10.in-addr.arpa.", "."] {
            assert_eq!(told(name, RecordType::A, 0), None, "{name}");
        }
        assert_eq!(told("Host.Containers.internal.", RecordType::A, 0).unwrap(), ["169.254.1.2"]);
        assert_eq!(told("host.docker.internal.", RecordType::AAAA, 0).unwrap(), Vec::<String>::new());
        assert_eq!(
            told("2.1.254.169.in-addr.arpa.", RecordType::PTR, 0).unwrap(),
            ["host.containers.internal."]
        );
        // Where there is no way to it, it has no name.
        assert_eq!(answer(&ask("host.docker.internal.", RecordType::A), &known(), false, 0), None);
        let refused = Message::from_vec(&refusal(&ask("example.", RecordType::A)).unwrap()).unwrap();
        assert_eq!(refused.metadata.response_code, ResponseCode::NXDomain);
    }

    #[test]
    fn an_answer_that_does_not_fit_is_told_to_be_asked_for_by_tcp() {
        let names = |last| Names {
            owner: 1,
            addresses: vec![Ipv4Addr::new(10, 89, 0, last).into()],
            names: vec!["many".into()],
            others: Vec::new(),
        };
        let known: Vec<_> = (0..60).map(names).collect();
        let mut question = Message::from_vec(&ask("many.", RecordType::A)).unwrap();
        let told = |question: &Message| {
            let question = question.to_vec().unwrap();
            let whole = answer(&question, &known, true, 0).unwrap();
            let told = Message::from_vec(&fitting(&question, whole)).unwrap();
            (told.metadata.truncation, told.answers.len(), told.queries.len())
        };
        assert_eq!(told(&question), (true, 0, 1));
        let mut edns = hickory_proto::op::Edns::new();
        edns.set_max_payload(1232);
        question.set_edns(edns);
        assert_eq!(told(&question), (false, 60, 1));
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        let question = ask("db.", RecordType::A);
        for end in 0..question.len() {
            assert_eq!(answer(&question[..end], &known(), true, 0), None, "{end}");
            assert_eq!(refusal(&question[..end]), None, "{end}");
        }
        let mut two = Message::from_vec(&question).unwrap();
        two.add_query(two.queries[0].clone());
        assert_eq!(answer(&two.to_vec().unwrap(), &known(), true, 0), None);
    }
}
