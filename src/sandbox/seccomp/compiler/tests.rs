//! The compiled program is run by an interpreter of classic BPF, which is written here from the kernel's
//! Documentation/networking/filter.rst, and compared with a plain reading of the policy.

use super::emit::{Instruction, emit};
use super::policy::{Calls, Case, Condition, Decision, Policy, Verdict};
use super::profile::{Op, Profile};
use super::tables::Tables;
use super::*;

/// `struct seccomp_data`.
#[derive(Clone, Copy, Debug)]
struct Call {
    arch: u32,
    number: u32,
    args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let half =
            |word: u64, upper: bool| u32::try_from(if upper { word >> 32 } else { word & 0xffff_ffff });
        match offset {
            0 => self.number,
            4 => self.arch,
            16..=60 => half(self.args[(offset as usize - 16) / 8], offset % 8 == 4).unwrap(),
            _ => panic!("no word at {offset}"),
        }
    }
}

/// What a compiled filter returns for a call.
pub(in super::super) fn run(program: &[u8], arch: Arch, number: u32, args: [u64; 6]) -> u32 {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let instructions: Vec<Instruction> = program
        .chunks_exact(8)
        .map(|b| Instruction {
            code: u16::from_le_bytes([b[0], b[1]]),
            yes: b[2],
            no: b[3],
            k: word(&b[4..]),
        })
        .collect();
    interpret(&instructions, &Call { arch: arch.audit(), number, args }).0
}

fn interpret(program: &[Instruction], call: &Call) -> Verdict {
    let (mut a, mut pc) = (0u32, 0usize);
    loop {
        let Instruction { code, yes, no, k } = program[pc];
        pc += 1;
        let mut branch = |taken: bool| pc += usize::from(if taken { yes } else { no });
        match code {
            0x20 => a = call.word(k),
            0x54 => a &= k,
            0x05 => pc += k as usize,
            0x15 => branch(a == k),
            0x25 => branch(a > k),
            0x35 => branch(a >= k),
            0x06 => return Verdict(k),
            _ => panic!("instruction {code:#x} at {}", pc - 1),
        }
    }
}

/// What the policy says, read without any cleverness.
fn consult(policy: &Policy, call: &Call) -> Verdict {
    let Some(calls) = policy.calls.iter().find(|c| c.arch.audit() == call.arch) else {
        return Verdict::KILL_PROCESS;
    };
    let (_, decision) = calls.ranges.iter().rev().find(|(first, _)| *first <= call.number).unwrap();
    let holds = |c: &Condition| {
        let argument = call.args[c.index as usize];
        match c.op {
            Op::Eq => argument == c.value,
            Op::Ne => argument != c.value,
            Op::Lt => argument < c.value,
            Op::Le => argument <= c.value,
            Op::Ge => argument >= c.value,
            Op::Gt => argument > c.value,
            Op::MaskedEq => argument & c.value == c.value_two,
        }
    };
    let case = decision.cases.iter().find(|case| case.conditions.iter().all(holds));
    case.map_or(decision.otherwise, |case| case.verdict)
}

/// Marsaglia's xorshift: the same "random" numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Often one of those that meet or just miss a comparison with another one.
    fn word(&mut self) -> u64 {
        let edges = [0, 1, 2, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0xffff_ffff_0000_0000, u64::MAX];
        match self.below(4) {
            0 => self.next(),
            1 => self.below(4) << 32 | self.below(4),
            _ => edges[usize::try_from(self.below(8)).unwrap()],
        }
    }
}

fn any_condition(random: &mut Random) -> Condition {
    let ops = [Op::Eq, Op::Ne, Op::Lt, Op::Le, Op::Ge, Op::Gt, Op::MaskedEq];
    let op = ops[usize::try_from(random.below(7)).unwrap()];
    let (value, value_two) = (random.word(), random.word());
    let value_two = if op == Op::MaskedEq && random.below(4) > 0 { value_two & value } else { value_two };
    Condition { index: u32::try_from(random.below(6)).unwrap(), op, value, value_two }
}

fn any_verdict(random: &mut Random) -> Verdict {
    if random.below(2) == 0 {
        Verdict::ALLOW
    } else {
        Verdict::errno(u16::try_from(random.below(40)).unwrap())
    }
}

fn any_decision(random: &mut Random) -> Decision {
    let cases = if random.below(3) == 0 { random.below(5) } else { 0 };
    let cases = (0..cases).map(|_| {
        let conditions = (0..random.below(3) + 1).map(|_| any_condition(random)).collect();
        Case { conditions, verdict: any_verdict(random) }
    });
    Decision { cases: cases.collect(), otherwise: any_verdict(random) }
}

fn any_calls(random: &mut Random, arch: Arch, most: u64) -> Calls {
    let mut first = 0;
    let ranges = (0..random.below(most) + 1).map(|_| {
        let range = (first, any_decision(random));
        first += u32::try_from(random.below(3) + 1).unwrap();
        range
    });
    Calls { arch, ranges: ranges.collect() }
}

fn same_everywhere(policy: &Policy, random: &mut Random) {
    let program = emit(policy);
    let mut numbers: Vec<u32> = policy
        .calls
        .iter()
        .flat_map(|c| &c.ranges)
        .flat_map(|(first, _)| [first.saturating_sub(1), *first, first + 1])
        .collect();
    numbers.extend([0, 0x3fff_ffff, 0x4000_0000, 0x4000_0001, 0x7fff_ffff, 0x8000_0000, u32::MAX]);
    for number in numbers {
        for arch in [Arch::X86_64, Arch::I386, Arch::Aarch64, Arch::Arm, Arch::Riscv64] {
            for _ in 0..4 {
                let args = std::array::from_fn(|_| random.word());
                let call = Call { arch: arch.audit(), number, args };
                assert_eq!(interpret(&program, &call), consult(policy, &call), "{call:x?}\n{program:x?}");
            }
        }
    }
}

#[test]
fn any_policy_compiles_to_a_program_that_says_the_same() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..30 {
        // The later ones are far too long for the kernel, and full of jumps that do not reach.
        let most = 1 + round * round;
        let mut calls = vec![any_calls(&mut random, Arch::X86_64, most)];
        if round % 3 > 0 {
            calls.push(any_calls(&mut random, Arch::I386, most));
        }
        same_everywhere(&Policy { calls }, &mut random);
    }
}

#[test]
fn both_branches_of_a_jump_may_be_out_of_reach() {
    let mut random = Random(7);
    let conditions = || {
        vec![Condition { index: 0, op: Op::MaskedEq, value: 0xff00_00ff_00ff, value_two: 0x1200_0034_0056 }]
    };
    // Each range has a decision of its own that is long: the search tree's leaves lie thousands apart.
    let ranges = (0..400u16).map(|n| {
        let cases = (0..20).map(|i| Case { conditions: conditions(), verdict: Verdict::errno(n + i) });
        (u32::from(n), Decision { cases: cases.collect(), otherwise: Verdict::errno(n) })
    });
    let policy = Policy { calls: vec![Calls { arch: Arch::X86_64, ranges: ranges.collect() }] };
    assert!(emit(&policy).len() > 4096);
    same_everywhere(&policy, &mut random);
}

const SYSCALLS: &str =
    "read 0 3\nwrite 1 4\nsocket 41 359\nsocketcall - 102\npersonality 135 136\nspu_run - -\n";

fn policy(json: &str, arch: Arch, kernel: (u32, u32), granted: u64) -> Result<Policy, Error> {
    let tables = Tables::parse(SYSCALLS, "EPERM 1\nENOSYS 38\nEINVAL 22\n");
    Policy::resolve(&Profile::parse(json)?, Machine { arch, kernel, tables: &tables }, granted)
}

fn x86(json: &str) -> Result<Policy, Error> {
    policy(json, Arch::X86_64, (6, 1), 0)
}

fn says(policy: &Policy, arch: Arch, number: u32, first_argument: u64) -> Verdict {
    let call = Call { arch: arch.audit(), number, args: [first_argument, 0, 0, 0, 0, 0] };
    let verdict = interpret(&emit(policy), &call);
    assert_eq!(verdict, consult(policy, &call));
    verdict
}

#[test]
fn a_refusal_beats_a_permission_in_either_order() {
    let rule = |action: &str, condition: Option<(u64, &str)>| {
        let args = condition.map_or(String::new(), |(value, op)| {
            format!(r#", "args": [{{"index": 0, "value": {value}, "op": "SCMP_CMP_{op}"}}]"#)
        });
        format!(r#"{{"names": ["socket"], {action}{args}}}"#)
    };
    let (refuse, kill) =
        (r#""action": "SCMP_ACT_ERRNO", "errnoRet": 22"#, r#""action": "SCMP_ACT_KILL_PROCESS""#);
    let allow = r#""action": "SCMP_ACT_ALLOW""#;
    let (einval, killed) = (Verdict::errno(22), Verdict::KILL_PROCESS);
    for (one, other, on_40, on_2) in [
        (rule(refuse, Some((40, "EQ"))), rule(allow, None), einval, Verdict::ALLOW),
        (rule(refuse, Some((40, "EQ"))), rule(allow, Some((16, "NE"))), einval, Verdict::ALLOW),
        (rule(refuse, None), rule(allow, Some((40, "EQ"))), einval, einval),
        (rule(refuse, None), rule(allow, None), einval, einval),
        (rule(refuse, None), rule(kill, Some((40, "EQ"))), killed, einval),
    ] {
        for rules in [format!("{one}, {other}"), format!("{other}, {one}")] {
            let json = format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{rules}]}}"#);
            let policy = x86(&json).unwrap();
            assert_eq!(says(&policy, Arch::X86_64, 41, 40), on_40, "{rules}");
            assert_eq!(says(&policy, Arch::X86_64, 41, 2), on_2, "{rules}");
            assert_eq!(says(&policy, Arch::X86_64, 0, 0), Verdict::errno(1));
        }
    }
}

#[test]
fn calls_newer_than_a_strict_profile_answer_enosys() {
    let json = r#"{"defaultAction": "SCMP_ACT_KILL", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let policy = x86(json).unwrap();
    assert_eq!(says(&policy, Arch::X86_64, 40, 0), Verdict(0));
    assert_eq!(says(&policy, Arch::X86_64, 41, 0), Verdict::ALLOW);
    assert_eq!(says(&policy, Arch::X86_64, 42, 0), Verdict::errno(38));
    let open = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_TRAP"}]}"#;
    assert_eq!(says(&x86(open).unwrap(), Arch::X86_64, 42, 0), Verdict::ALLOW);
}

#[test]
fn thirty_two_bit_programs_are_served_if_the_profile_says_so_and_x32_ones_never() {
    let rules = r#""defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["socketcall", "write"], "action": "SCMP_ACT_ERRNO"}]"#;
    for arches in [
        r#""archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}]"#,
        r#""architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]"#,
    ] {
        let policy = x86(&format!("{{{arches}, {rules}}}")).unwrap();
        assert_eq!(says(&policy, Arch::I386, 102, 0), Verdict::errno(1));
        assert_eq!(says(&policy, Arch::I386, 4, 0), Verdict::errno(1));
        assert_eq!(says(&policy, Arch::I386, 1, 0), Verdict::ALLOW);
        assert_eq!(says(&policy, Arch::X86_64, 1, 0), Verdict::errno(1));
        assert_eq!(says(&policy, Arch::X86_64, 0x4000_0000, 0), Verdict::errno(38));
        assert_eq!(says(&policy, Arch::X86_64, u32::MAX, 0), Verdict::errno(38));
    }
    let native_only = x86(&format!("{{{rules}}}")).unwrap();
    assert_eq!(says(&native_only, Arch::I386, 1, 0), Verdict::KILL_PROCESS);
    assert_eq!(says(&native_only, Arch::Arm, 1, 0), Verdict::KILL_PROCESS);
}

#[test]
fn a_rule_that_compares_one_argument_twice_is_two_rules() {
    let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["personality"],
        "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"},
        {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}]}"#;
    let policy = x86(json).unwrap();
    for (argument, verdict) in [(0, Verdict::ALLOW), (8, Verdict::ALLOW), (1, Verdict::errno(1))] {
        assert_eq!(says(&policy, Arch::X86_64, 135, argument), verdict);
    }
}

#[test]
fn rules_depend_on_capabilities_architectures_and_kernels() {
    let sys_admin = 1 << 21;
    let applies = |when: &str, kernel, granted| {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, {when}}}]}}"#
        );
        says(&policy(&json, Arch::X86_64, kernel, granted).unwrap(), Arch::X86_64, 0, 0) == Verdict::ALLOW
    };
    let (six, three) = ((6, 1), (3, 10));
    for (when, kernel, granted, expected) in [
        (r#""includes": null"#, six, 0, true),
        (r#""includes": {"caps": ["CAP_SYS_ADMIN"]}"#, six, sys_admin, true),
        (r#""includes": {"caps": ["CAP_SYS_ADMIN"]}"#, six, 0, false),
        (r#""includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}"#, six, sys_admin, false),
        (r#""excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}"#, six, sys_admin, false),
        (r#""excludes": {"caps": ["CAP_BPF"]}"#, six, sys_admin, true),
        (r#""includes": {"arches": ["amd64", "x32"]}"#, six, 0, true),
        (r#""includes": {"arches": ["arm64"]}"#, six, 0, false),
        (r#""excludes": {"arches": ["amd64"]}"#, six, 0, false),
        (r#""includes": {"minKernel": "4.8"}"#, six, 0, true),
        (r#""includes": {"minKernel": "4.8"}"#, three, 0, false),
        (r#""excludes": {"minKernel": "4.8"}"#, six, 0, false),
    ] {
        assert_eq!(applies(when, kernel, granted), expected, "{when} {kernel:?} {granted}");
    }
}

#[test]
fn what_can_not_be_honoured_is_an_error() {
    let rule = |rule: &str| {
        x86(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#)).map(|_| ())
    };
    let error = |text: &str| rule(text).unwrap_err();
    assert!(
        matches!(error(r#"{"names": ["raed"], "action": "SCMP_ACT_KILL"}"#), Error::UnknownSyscall(n) if n == "raed")
    );
    // Of another architecture, or harmless if it is not understood.
    rule(r#"{"names": ["spu_run"], "action": "SCMP_ACT_ERRNO"}, {"names": ["raed"], "action": "SCMP_ACT_LOG"}"#).unwrap();
    assert!(matches!(error(r#"{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}"#), Error::Notify));
    assert!(matches!(error(r#"{"names": ["read"], "action": "SCMP_ACT_NONE"}"#), Error::Syntax(_)));
    let args = r#""args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]"#;
    let text = format!(r#"{{"names": ["read"], "action": "SCMP_ACT_KILL", {args}}}"#);
    assert!(matches!(error(&text), Error::ArgumentIndex(6)));
    let errno = |e: &str| rule(&format!(r#"{{"names": ["read"], "action": "SCMP_ACT_ERRNO", {e}}}"#));
    errno(r#""errno": "EINVAL", "errnoRet": 1"#).unwrap();
    assert!(matches!(errno(r#""errno": "EWHAT""#), Err(Error::Errno(_))));
    assert!(matches!(errno(r#""errnoRet": 5000"#), Err(Error::Errno(_))));
    let kernel = r#"{"names": ["read"], "action": "SCMP_ACT_KILL", "includes": {"minKernel": "new"}}"#;
    assert!(matches!(error(kernel), Error::KernelVersion(_)));
}

#[test]
fn flags_are_taken_or_refused() {
    let flags = |flags: &str| {
        Profile::parse(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW"{flags}}}"#)).unwrap().flags()
    };
    assert_eq!(flags("").unwrap(), 4);
    assert_eq!(flags(r#", "flags": []"#).unwrap(), 0);
    assert_eq!(flags(r#", "flags": ["SECCOMP_FILTER_FLAG_LOG"]"#).unwrap(), 2);
    assert!(flags(r#", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#).is_err());
}

#[test]
fn a_profile_that_is_too_long_is_refused() {
    let rules: Vec<String> = (0..3000)
        .map(|i| {
            format!(
                r#"{{"names": ["read"], "action": "SCMP_ACT_ALLOW",
                "args": [{{"index": 0, "value": {i}, "op": "SCMP_CMP_EQ"}}]}}"#
            )
        })
        .collect();
    let json = format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{}]}}"#, rules.join(","));
    let tables = Tables::parse(SYSCALLS, "");
    let machine = Machine { arch: Arch::X86_64, kernel: (6, 1), tables: &tables };
    assert!(matches!(compile(&Profile::parse(&json).unwrap(), machine, 0), Err(Error::TooLong(_))));
}
