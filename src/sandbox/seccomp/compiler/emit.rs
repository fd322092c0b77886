//! Step three: decisions become classic BPF (linux/filter.h), by binary search over the ranges of numbers.
//!
//! The program is written from its end to its start, so that every target of a jump (BPF jumps only forwards) is
//! there before the jump is. A [`Label`] is a distance from the end, which later instructions do not change. The
//! two offsets of a conditional jump have eight bits: a target that is further away is reached by way of an
//! unconditional jump put right behind. A `ret`, as the commonest target, is simply repeated when it is far.
//!
//! Numbers and arguments are little-endian in `struct seccomp_data`, on all machines that we know.

use super::policy::{Calls, Condition, Decision, Policy, Verdict};
use super::profile::Op;

// Instruction classes and modes of linux/bpf_common.h, put together.
const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const IF_GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) yes: u8,
    pub(super) no: u8,
    pub(super) k: u32,
}

impl Instruction {
    pub(super) fn to_bytes(self) -> [u8; 8] {
        let ([c0, c1], [k0, k1, k2, k3]) = (self.code.to_le_bytes(), self.k.to_le_bytes());
        [c0, c1, self.yes, self.no, k0, k1, k2, k3]
    }
}

/// An instruction that was emitted: how many there are from it to the end, with itself.
type Label = usize;

/// The program so far, last instruction first.
#[derive(Default)]
struct Emitter {
    reversed: Vec<Instruction>,
    /// The newest `ret` of each verdict.
    returns: Vec<(Verdict, Label)>,
}

/// The whole program.
pub(super) fn emit(policy: &Policy) -> Vec<Instruction> {
    let mut out = Emitter::default();
    let mut next = out.ret(Verdict::KILL_PROCESS);
    for calls in policy.calls.iter().rev() {
        let entry = out.calls(calls);
        next = out.branch(IF_EQUAL, calls.arch.audit(), entry, next);
    }
    out.load(ARCH);
    out.reversed.reverse();
    out.reversed
}

impl Emitter {
    fn push(&mut self, code: u16, yes: u8, no: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, yes, no, k });
        self.reversed.len()
    }

    /// Loads a word of `seccomp_data` and goes on to what was emitted last.
    fn load(&mut self, offset: u32) -> Label {
        self.push(LOAD_WORD, 0, 0, offset)
    }

    fn ret(&mut self, verdict: Verdict) -> Label {
        let known = self.returns.iter().position(|(v, _)| *v == verdict);
        if let Some(label) = known.map(|i| self.returns[i].1)
            // Near enough for a jump that may follow after a few more instructions; else a second one is as
            // cheap as a jump to the first.
            && self.reversed.len() - label < 200
        {
            return label;
        }
        let label = self.push(RETURN, 0, 0, verdict.0);
        match known {
            Some(i) => self.returns[i].1 = label,
            None => self.returns.push((verdict, label)),
        }
        label
    }

    /// How many instructions lie between the next one to be emitted and `target`.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - target
    }

    /// `target` itself, or a jump to it from near, if a branch that is emitted after at most `more` other
    /// instructions can not reach it.
    fn within_reach(&mut self, target: Label, more: usize) -> Label {
        let distance = self.distance(target);
        if distance + more <= usize::from(u8::MAX) {
            return target;
        }
        // Never saturates: a program with offsets of more than 32 bits does not fit into memory.
        self.push(JUMP, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX))
    }

    fn branch(&mut self, test: u16, k: u32, yes: Label, no: Label) -> Label {
        let yes = self.within_reach(yes, 1);
        let no = self.within_reach(no, 0);
        let offset = |target| u8::try_from(self.distance(target)).unwrap_or(u8::MAX);
        let (yes, no) = (offset(yes), offset(no));
        self.push(test, yes, no, k)
    }

    fn calls(&mut self, calls: &Calls) -> Label {
        let mut long: Vec<(&Decision, Label)> = Vec::new();
        for (_, decision) in calls.ranges.iter().filter(|(_, d)| !d.cases.is_empty()) {
            if !long.iter().any(|(d, _)| *d == decision) {
                let label = self.decision(decision);
                long.push((decision, label));
            }
        }
        let entry = self.search(&calls.ranges, &long);
        // A single range needs no number, and its entry need not be what was emitted last.
        if calls.ranges.len() > 1 { self.load(NUMBER) } else { entry }
    }

    fn search(&mut self, ranges: &[(u32, Decision)], long: &[(&Decision, Label)]) -> Label {
        match ranges {
            [(_, decision)] => match long.iter().find(|(d, _)| *d == decision) {
                Some((_, label)) => *label,
                None => self.ret(decision.otherwise),
            },
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let pivot = high[0].0;
                let high = self.search(high, long);
                let low = self.search(low, long);
                self.branch(IF_GREATER_OR_EQUAL, pivot, high, low)
            }
        }
    }

    fn decision(&mut self, decision: &Decision) -> Label {
        let mut next = self.ret(decision.otherwise);
        for case in decision.cases.iter().rev() {
            let mut entry = self.ret(case.verdict);
            for condition in case.conditions.iter().rev() {
                entry = self.condition(condition, entry, next);
            }
            next = entry;
        }
        next
    }

    /// Compares a 64-bit argument in two halves.
    fn condition(&mut self, condition: &Condition, yes: Label, no: Label) -> Label {
        let Condition { index, op, value, value_two } = *condition;
        let low = ARGUMENTS + 8 * index;
        let high = low + 4;
        let (value_high, value_low) = halves(value);
        match op {
            Op::Eq => {
                let equal = self.test(low, IF_EQUAL, value_low, yes, no);
                self.test(high, IF_EQUAL, value_high, equal, no)
            }
            Op::MaskedEq => {
                let (expected_high, expected_low) = halves(value_two);
                let equal = self.masked(low, value_low, expected_low, yes, no);
                self.masked(high, value_high, expected_high, equal, no)
            }
            Op::Ge | Op::Gt => {
                let test = if op == Op::Ge { IF_GREATER_OR_EQUAL } else { IF_GREATER };
                let equal = self.test(low, test, value_low, yes, no);
                let not_greater = self.branch(IF_EQUAL, value_high, equal, no);
                self.test(high, IF_GREATER, value_high, yes, not_greater)
            }
            Op::Ne => self.condition(&Condition { op: Op::Eq, ..*condition }, no, yes),
            Op::Lt => self.condition(&Condition { op: Op::Ge, ..*condition }, no, yes),
            Op::Le => self.condition(&Condition { op: Op::Gt, ..*condition }, no, yes),
        }
    }

    fn test(&mut self, offset: u32, test: u16, k: u32, yes: Label, no: Label) -> Label {
        self.branch(test, k, yes, no);
        self.load(offset)
    }

    fn masked(&mut self, offset: u32, mask: u32, expected: u32, yes: Label, no: Label) -> Label {
        match (mask, expected) {
            (0, 0) => yes,
            (0, _) => no,
            (u32::MAX, _) => self.test(offset, IF_EQUAL, expected, yes, no),
            _ => {
                self.branch(IF_EQUAL, expected, yes, no);
                self.push(AND, 0, 0, mask);
                self.load(offset)
            }
        }
    }
}

/// The upper and the lower 32 bits.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}
