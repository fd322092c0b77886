//! The environment of a container's command.

use super::create::ImageDefaults;
use super::request::CreateRequest;
use crate::image::DEFAULT_PATH;

/// From the weakest to the strongest, as podman documents it: what every container has, the host's (`--env-host`, proxies),
/// the image's, `--env-merge`, `--env-file` and `-e`. A later setting of a variable replaces an earlier one in place.
pub(super) fn environment(request: &CreateRequest, image: &ImageDefaults, hostname: &str) -> Vec<String> {
    let mut env: Vec<String> = Vec::new();
    let mut set = |name: &str, entry: String| {
        let is_it = |e: &String| e.split_once('=').is_some_and(|(n, _)| n == name);
        match env.iter_mut().find(|e| is_it(e)) {
            Some(old) => *old = entry,
            None => env.push(entry),
        }
    };
    let stays = |name: &str| !request.unset_env.iter().any(|unset| unset == name);
    let mut of_image: Vec<(&str, &str)> = Vec::new();
    if !request.unset_all_env {
        set("PATH", DEFAULT_PATH.into());
        set("container", "container=coracle".into());
        set("HOSTNAME", format!("HOSTNAME={hostname}"));
        of_image =
            image.env.iter().filter_map(|e| e.split_once('=')).filter(|(name, _)| stays(name)).collect();
    }
    for (name, value) in &request.host_env {
        set(name, format!("{name}={value}"));
    }
    for (name, value) in &of_image {
        set(name, format!("{name}={value}"));
    }
    for (name, value) in &request.env_merge {
        let of = |name: &str| of_image.iter().rev().find(|(n, _)| *n == name).map_or("", |(_, value)| value);
        set(name, format!("{name}={}", expand(value, of)));
    }
    for (name, value) in &request.env {
        set(name, format!("{name}={value}"));
    }
    env
}

/// `$NAME` and `${NAME}` in a text, as Go's `os.Expand` has it.
fn expand<'a>(text: &str, value: impl Fn(&str) -> &'a str) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some((name, tail)) = after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            expanded.push_str(value(name));
            rest = tail;
        } else {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
            if end == 0 {
                expanded.push('$');
            } else {
                expanded.push_str(value(&after[..end]));
            }
            rest = &after[end..];
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn later_variables_replace_earlier_ones_and_unset_ones_are_gone() {
        let request = CreateRequest {
            env: pairs(&[("A", "2"), ("B", "=")]),
            unset_env: vec!["C".into()],
            host_env: pairs(&[("A", "host"), ("D", "host"), ("PATH", "/host")]),
            env_merge: pairs(&[("E", "${A}-$A-$C$-$")]),
            ..Default::default()
        };
        let image = ImageDefaults {
            env: ["PATH=/x", "A=1", "C=3"].map(str::to_owned).to_vec(),
            ..Default::default()
        };
        let env = environment(&request, &image, "h");
        assert_eq!(env, ["PATH=/x", "container=coracle", "HOSTNAME=h", "A=2", "D=host", "E=1-1-$-$", "B=="]);
        let request = CreateRequest { unset_all_env: true, ..request };
        assert_eq!(environment(&request, &image, "h"), ["A=2", "D=host", "PATH=/host", "E=--$-$", "B=="]);
    }
}
