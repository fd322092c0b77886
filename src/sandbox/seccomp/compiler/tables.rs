//! The names and numbers of system calls and errors, for one machine.
//!
//! They are text, one line each, so that they cost the binary a few kilobytes and no relocations, and a start
//! that needs no table nothing. `build.rs` writes them from the `syscalls` crate.

use std::collections::HashMap;

/// The numbers of a system call: on the machine's own architecture and on that of its 32-bit programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// For native programs.
    pub native: Option<u32>,
    /// For 32-bit programs.
    pub compat: Option<u32>,
}

/// Tables, ready for look-ups.
#[derive(Debug)]
pub struct Tables<'a> {
    syscalls: HashMap<&'a str, Numbers>,
    errnos: HashMap<&'a str, u16>,
}

impl<'a> Tables<'a> {
    /// From lines of `name native compat`, with `-` for a call that is not there, and lines of `NAME number`.
    pub fn parse(syscalls: &'a str, errnos: &'a str) -> Self {
        let syscalls = syscalls.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let name = words.next()?;
            let mut number = || words.next().and_then(|word| word.parse().ok());
            Some((name, Numbers { native: number(), compat: number() }))
        });
        let errnos = errnos.lines().filter_map(|line| {
            let (name, number) = line.split_once(' ')?;
            Some((name, number.parse().ok()?))
        });
        Self { syscalls: syscalls.collect(), errnos: errnos.collect() }
    }

    /// The numbers of a call, none of them on a machine that does not have it; `None` if no machine has it.
    pub fn syscall(&self, name: &str) -> Option<Numbers> {
        self.syscalls.get(name).copied()
    }

    /// The number of an error.
    pub fn errno(&self, name: &str) -> Option<u16> {
        self.errnos.get(name).copied()
    }
}
