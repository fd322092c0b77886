//! Compiles `src/hello`, the program of the embedded image, for the target that coracle is compiled for.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Leaves `hello.gz` in `OUT_DIR`, and in `CORACLE_HELLO_BUILD` what tells one build of the program from another.
pub fn build() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=src/hello");
    println!("cargo::rerun-if-changed=build/hello.rs");
    let var = |name: &str| env::var_os(name).ok_or_else(|| format!("{name} is not set"));
    let out = Path::new(&var("OUT_DIR")?).join("hello");

    let mut rustc = Command::new(var("RUSTC")?);
    rustc.args(["--edition=2024", "--crate-name=hello", "--crate-type=bin"]);
    rustc.arg("--target").arg(var("TARGET")?);
    // The image holds nothing but this program: it is static. Small matters more than fast, and a program that
    // stays where it is linked needs no relocations.
    rustc.args(["-Ctarget-feature=+crt-static", "-Crelocation-model=static"]);
    rustc.args(["-Copt-level=s", "-Clto=fat", "-Ccodegen-units=1", "-Cpanic=abort", "-Cstrip=symbols"]);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("-Clinker=");
        option.push(linker);
        rustc.arg(option);
    }
    rustc.arg("-o").arg(&out).arg("src/hello/main.rs");
    let status = rustc.status()?;
    if !status.success() {
        return Err(format!("{rustc:?} failed: {status}").into());
    }

    let program = fs::read(&out)?;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&program)?;
    fs::write(out.with_extension("gz"), packed.finish()?)?;

    let mut hasher = DefaultHasher::new();
    program.hash(&mut hasher);
    println!("cargo::rustc-env=CORACLE_HELLO_BUILD={:016x}", hasher.finish());
    Ok(())
}
