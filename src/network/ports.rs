//! Who has a port of the host: read from proc(5), as `ss -lntup` does.
//!
//! That a port is taken can be seen by anybody. Whose it is only by who may look into that process: a monitor, in the
//! user's namespace, may not, but the command that the user gave may, if it is a process of the user's.

use super::{Publish, Transport};
use crate::diagnose::TakenPort;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Of the ports that were to be published, one that somebody has.
pub(super) fn first_taken(publish: &[Publish]) -> Option<TakenPort> {
    let port = |publish: &Publish| TakenPort {
        address: publish.host(),
        any_family: publish.host_ip.is_none(),
        is_tcp: publish.transport == Transport::Tcp,
    };
    publish.iter().map(port).find(|port| sockets(port).next().is_some())
}

/// The process that has a port: its id and what it is called.
pub fn owner(port: &TakenPort) -> Option<(u32, String)> {
    let sockets: Vec<String> = sockets(port).map(|inode| format!("socket:[{inode}]")).collect();
    let has_one = |pid: &u32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
        targets.any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
    };
    let pids = fs::read_dir("/proc").ok()?.flatten();
    let pid = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(has_one)?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let words: Vec<&str> = line.split('\0').filter(|word| !word.is_empty()).take(3).collect();
    Some((pid, words.join(" ")))
}

/// Inodes of the sockets that are in the way.
fn sockets(port: &TakenPort) -> impl Iterator<Item = u64> {
    let files = if port.is_tcp { ["tcp", "tcp6"] } else { ["udp", "udp6"] };
    let texts = files.into_iter().filter_map(|file| fs::read_to_string(format!("/proc/net/{file}")).ok());
    let found: Vec<u64> = texts.flat_map(|text| in_table(&text, port)).collect();
    found.into_iter()
}

/// The same, of one table (proc_pid_net(5)).
fn in_table(text: &str, port: &TakenPort) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = words[..] else { return None };
        let local = address(local)?;
        let is_there = !port.is_tcp || state == LISTEN;
        (is_there && clash(local, port)).then(|| inode.parse().ok())?
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// Whether a socket at one address keeps another from being opened.
fn clash(there: SocketAddr, port: &TakenPort) -> bool {
    let (one, other) = (there.ip().to_canonical(), port.address.ip().to_canonical());
    let is_any = port.any_family || one.is_unspecified() || other.is_unspecified();
    there.port() == port.address.port() && (one == other || is_any)
}

/// `0100007F:1F90`: words in the machine's order, the port in the network's.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.as_flattened().try_into().ok()?;
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    fn port(address: SocketAddr, is_tcp: bool) -> TakenPort {
        TakenPort { address, any_family: false, is_tcp }
    }

    #[test]
    fn who_has_a_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), here.port());
        for address in [here, any] {
            let (pid, name) = owner(&port(address, true)).unwrap();
            assert_eq!(pid, std::process::id());
            assert!(!name.is_empty());
        }
        let elsewhere = SocketAddr::new("127.0.0.2".parse().unwrap(), here.port());
        assert!(owner(&port(elsewhere, true)).is_none() && owner(&port(here, false)).is_none());
        let datagrams = UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0")).unwrap();
        assert!(owner(&port(datagrams.local_addr().unwrap(), false)).is_some());
    }

    #[test]
    fn tables_are_read() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 77 1 0\n\
            \x20  1: 0100007F:1F91 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 78 1 0\n\
            nonsense\n";
        let at = |text: &str| port(text.parse().unwrap(), true);
        if cfg!(target_endian = "little") {
            assert_eq!(in_table(text, &at("127.0.0.1:8080")), [77]);
            assert_eq!(in_table(text, &at("0.0.0.0:8080")), [77]);
            assert!(in_table(text, &at("127.0.0.1:8081")).is_empty());
        }
        assert_eq!(address("00000000000000000000000000000000:0050"), Some("[::]:80".parse().unwrap()));
        for wrong in ["", "1:2", "é0000007F:1F90", "0100007F", "0100007F:zz"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
