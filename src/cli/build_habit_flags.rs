//! Flags of `build` that scripts give out of habit: docker's and podman's other builders had a use for them.
//!
//! What they ask for is what happens anyway, so they are accepted; a value that asks for something else is refused, by
//! name and with the reason. `--layers=false` alone makes a difference.

use super::Error;
use super::args::{Given, list, option, switch};
use super::parse::{self, Invalid};
use clap::{ArgMatches, Command};

/// Adds the flags.
pub fn define(to: Command) -> Command {
    to.next_help_heading("Accepted out of habit").args([
        list("attest", "type=TYPE,disabled=true").help("Make no attestation, which is never done"),
        option("builder", "NAME").help("Use the builder 'default', the only one that there is"),
        switch("compress").help("Compress the context on its way to a daemon: there is none, so nothing is sent"),
        switch("disable-content-trust").help("Check no signatures, which is never done (default true)"),
        switch("force-rm").help("Remove the containers of steps also if the build fails, which is always done"),
        option("isolation", "KIND").help("Isolate steps as containers, which is always done: default, oci or rootless"),
        switch("layers").help(
            "Keep a layer of each step (default true); with false, carry out every step and make one layer of all",
        ),
        option("provenance", "false").help("Make no attestation of the provenance, which is never done"),
        switch("rm").help("Remove the containers of steps, which is always done"),
        option("sbom", "false").help("Make no attestation of what is in the image, which is never done"),
        list("unsetannotation", "NAME").help("Take no annotation of this name from the base image, as is done with all"),
    ])
}

/// `--layers=false`, as podman has it: nothing from the cache, and one layer.
pub fn without_layers(args: &ArgMatches) -> bool {
    args.maybe("layers") == Some(false)
}

/// Refuses what asks for something that does not happen.
pub fn check(args: &ArgMatches) -> Result<(), Error> {
    args.filled("provenance", no_attestation)?;
    args.filled("sbom", no_attestation)?;
    args.each("attest", disabled_attestation)?;
    args.filled("builder", |name| match name {
        "default" => Ok(()),
        _ => {
            Err(Invalid::new("there is one builder only, which is part of this program").fix("leave it out"))
        }
    })?;
    args.filled("isolation", |kind| match kind {
        "default" | "oci" | "rootless" => Ok(()),
        "chroot" => Err(Invalid::new("steps run in containers only").fix("leave it out")),
        _ => Err(Invalid::unknown("kind of isolation", kind, &["default", "oci", "rootless"])),
    })?;
    args.each("unsetannotation", parse::nonempty)?;
    if args.maybe("disable-content-trust") == Some(false) {
        let what = "--disable-content-trust=false asks for signatures to be checked, which is not supported";
        return Err(Error::usage(what, "name the image by its digest, and leave the flag out"));
    }
    Ok(())
}

fn none_is_made() -> Invalid {
    Invalid::new("attestations are not supported: none is made").fix("leave it out, or say false")
}

/// `false`, or in the words of `--attest`.
fn no_attestation(text: &str) -> Result<(), Invalid> {
    match parse::boolean(text) {
        Ok(false) => Ok(()),
        Ok(true) => Err(none_is_made()),
        Err(_) => disabled(&parse::csv(text)?),
    }
}

fn disabled_attestation(text: &str) -> Result<(), Invalid> {
    let fields = parse::csv(text)?;
    match fields.iter().find_map(|field| field.strip_prefix("type=")) {
        Some("sbom" | "provenance") => disabled(&fields),
        Some(kind) => Err(Invalid::unknown("type of attestation", kind, &["sbom", "provenance"])),
        None => {
            Err(Invalid::new("it has no type").fix("write type=sbom or type=provenance, and disabled=true"))
        }
    }
}

/// As in buildx, the word alone says it too.
fn disabled(fields: &[String]) -> Result<(), Invalid> {
    let says = |field: &String| match field.split_once('=') {
        Some(("disabled", value)) => parse::boolean(value).map(Some),
        None if field == "disabled" => Ok(Some(true)),
        _ => Ok(None),
    };
    let said = fields.iter().map(says).collect::<Result<Vec<_>, _>>()?;
    match said.into_iter().flatten().next_back() {
        Some(true) => Ok(()),
        _ => Err(none_is_made().fix("leave it out, or add disabled=true")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::build::ENTRY;
    use super::super::dispatch::parse_for_test;
    use super::*;

    fn checked(words: &[&str]) -> Result<(), String> {
        let args = parse_for_test(&ENTRY, &[words, &["."]].concat()).map_err(|e| e.to_string())?;
        check(&args).map_err(|e| e.to_string())
    }

    #[test]
    fn what_happens_anyway_is_accepted() {
        for words in [
            &["--rm", "--force-rm", "--layers", "--compress"][..],
            &["--rm=false", "--force-rm=false", "--layers=false", "--compress=false"],
            &["--provenance=false", "--sbom=false"],
            &["--provenance", "false", "--sbom", "0", "--provenance", "disabled=true"],
            &["--attest", "type=provenance,disabled=true", "--attest=type=sbom,mode=max,disabled"],
            &["--disable-content-trust", "--isolation", "default", "--builder", "default"],
            &["--isolation=oci", "--builder=", "--unsetannotation", "a"],
        ] {
            assert_eq!(checked(words), Ok(()), "{words:?}");
        }
    }

    #[test]
    fn what_does_not_happen_is_refused() {
        for (words, expected) in [
            (&["--provenance=true"][..], "attestations are not supported"),
            (&["--provenance=mode=max"], "attestations are not supported"),
            (&["--sbom", "generator=image"], "attestations are not supported"),
            (&["--attest", "type=sbom"], "attestations are not supported"),
            (&["--attest", "type=sbom,disabled=false"], "attestations are not supported"),
            (&["--attest", "type=other,disabled=true"], "type of attestation"),
            (&["--attest", "disabled=true"], "it has no type"),
            (&["--disable-content-trust=false"], "signatures"),
            (&["--isolation", "chroot"], "containers only"),
            (&["--isolation", "hyperv"], "kind of isolation"),
            (&["--builder", "mine"], "one builder only"),
        ] {
            let error = checked(words).unwrap_err();
            assert!(error.contains(expected), "{words:?}: {error}");
        }
    }
}
