//! Compiles the built-in seccomp profile for the target machine, so that a container's start loads a filter that
//! is already there, and writes the tables of system calls that a user's own profile is compiled with.

use compiler::profile::{Profile, Syscalls};
use compiler::tables::{Numbers, Tables};
use compiler::{Arch, Machine};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

// Some of it is there for the run-time use alone.
#[allow(dead_code)]
#[path = "src/sandbox/seccomp/compiler/mod.rs"]
mod compiler;
#[path = "build/hello.rs"]
mod hello;

const PROFILE: &str = "src/sandbox/seccomp/default.json";

/// Capabilities for which a filter is made in advance: podman's default set has of those that the profile looks
/// at only this one, and `--cap-drop ALL` has none.
const PREPARED: [&[caps::Capability]; 2] = [&[caps::Capability::CAP_SYS_CHROOT], &[]];

fn main() -> Result<(), Box<dyn Error>> {
    hello::build()?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/sandbox/seccomp/compiler");
    println!("cargo::rerun-if-changed={PROFILE}");
    let target = env::var("CARGO_CFG_TARGET_ARCH")?;
    let arch = match target.as_str() {
        "x86_64" => Arch::X86_64,
        "aarch64" => Arch::Aarch64,
        "riscv64" => Arch::Riscv64,
        _ => return Err(format!("no seccomp filter for {target} yet").into()),
    };
    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);

    let syscalls = syscall_table(arch);
    let errnos = errno_table();
    fs::write(out.join("syscalls.txt"), &syscalls)?;
    fs::write(out.join("errnos.txt"), &errnos)?;

    let tables = Tables::parse(&syscalls, &errnos);
    let profile = Profile::parse(&fs::read_to_string(PROFILE)?)?;
    if let Some(name) =
        profile.syscalls.iter().flat_map(Syscalls::names).find(|name| tables.syscall(name).is_none())
    {
        return Err(format!("{PROFILE}: no architecture has a system call '{name}'").into());
    }
    let mut relevant = 0;
    for name in profile.syscalls.iter().flat_map(|rule| rule.includes.caps.iter().chain(&rule.excludes.caps))
    {
        relevant |= name.parse::<caps::Capability>()?.bitmask();
    }

    let mut code = format!(
        "/// This machine.\npub(super) const ARCH: Arch = Arch::{arch:?};\n\n\
         /// The capabilities that the built-in profile looks at.\npub(super) const RELEVANT: u64 = {relevant:#x};\n\n\
         /// The built-in profile's filters, each for one set of those.\n\
         pub(super) static PREPARED: [(u64, &[u8]); {}] = [\n",
        PREPARED.len(),
    );
    // No rule of the built-in profile depends on the kernel's version.
    let machine = Machine { arch, kernel: (0, 0), tables: &tables };
    for (index, granted) in PREPARED.iter().enumerate() {
        let granted = granted.iter().fold(0, |all, capability| all | capability.bitmask());
        let file = format!("default-{index}.bpf");
        fs::write(out.join(&file), compiler::compile(&profile, machine, granted)?)?;
        writeln!(code, "    ({granted:#x}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\"))),")?;
    }
    code.push_str("];\n");
    fs::write(out.join("filters.rs"), code)?;
    Ok(())
}

/// Lines of `name native compat`. Names that only other architectures have are there too, without numbers: a
/// profile that speaks of them is no mistake.
fn syscall_table(arch: Arch) -> String {
    let mut table: BTreeMap<&str, Numbers> = BTreeMap::new();
    macro_rules! names {
        ($($module:ident = $arch:expr),* $(,)?) => {$({
            use syscalls::$module::Sysno;
            for number in 0..=Sysno::last().id().cast_unsigned() {
                let Some(call) = Sysno::new(number as usize) else { continue };
                note(&mut table, arch, $arch, kernel_name(call.name()), number);
            }
        })*};
    }
    names!(
        x86_64 = Some(Arch::X86_64),
        x86 = Some(Arch::I386),
        aarch64 = Some(Arch::Aarch64),
        arm = Some(Arch::Arm),
        riscv64 = Some(Arch::Riscv64),
        loongarch64 = None,
        mips = None,
        mips64 = None,
        powerpc = None,
        powerpc64 = None,
        s390x = None,
        sparc64 = None,
    );
    // Arm's private calls (arch/arm/include/uapi/asm/unistd.h) are not in the crate.
    for (name, number) in [("breakpoint", 0xf_0001), ("cacheflush", 0xf_0002), ("set_tls", 0xf_0005)] {
        note(&mut table, arch, Some(Arch::Arm), name, number);
    }
    let number = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
    table.iter().fold(String::new(), |mut text, (name, numbers)| {
        let (native, compat) = (number(numbers.native), number(numbers.compat));
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name} {native} {compat}");
        text
    })
}

/// The name in the kernel's tables and in profiles, where the crate's differs.
fn kernel_name(name: &str) -> &str {
    match name {
        "r#break" => "break",
        "fstatat" => "newfstatat", // on arm64
        _ => name,
    }
}

fn note<'a>(
    table: &mut BTreeMap<&'a str, Numbers>,
    machine: Arch,
    arch: Option<Arch>,
    name: &'a str,
    number: u32,
) {
    let numbers = table.entry(name).or_default();
    if arch == Some(machine) {
        numbers.native = Some(number);
    } else if arch.is_some() && arch == machine.compat() {
        numbers.compat = Some(number);
    }
}

/// Lines of `NAME number`. The machines that we know share asm-generic's numbers.
fn errno_table() -> String {
    (1..=133).fold(String::new(), |mut text, number| {
        if let Some(name) = syscalls::Errno::new(number).name() {
            let _ = writeln!(text, "{name} {number}");
        }
        text
    })
}
