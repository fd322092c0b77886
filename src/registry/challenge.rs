//! `WWW-Authenticate` (RFC 9110, 11.6.1): a list of challenges, each a scheme and its parameters.

use std::iter::Peekable;
use std::str::Chars;

/// What a registry wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token from `realm`.
    Bearer {
        /// Where tokens are given.
        realm: String,
        /// For which service, if it says.
        service: Option<String>,
    },
    /// User name and password.
    Basic,
}

/// The best challenge among the values of all the headers: Bearer if there is one, else Basic.
pub(super) fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let all: Vec<_> = headers.flat_map(parse).collect();
    let bearer =
        all.iter().find(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).and_then(|(_, params)| {
            let get = |name: &str| params.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
            Some(Challenge::Bearer { realm: get("realm")?, service: get("service") })
        });
    bearer.or_else(|| {
        all.iter().any(|(scheme, _)| scheme.eq_ignore_ascii_case("basic")).then_some(Challenge::Basic)
    })
}

type Parsed = (String, Vec<(String, String)>);

fn parse(header: &str) -> Vec<Parsed> {
    let mut challenges: Vec<Parsed> = Vec::new();
    let mut rest = header.chars().peekable();
    loop {
        while rest.next_if(|c| *c == ' ' || *c == '\t' || *c == ',').is_some() {}
        let word = token(&mut rest);
        if word.is_empty() {
            // The end, or something that no token starts with: what follows cannot be trusted to mean anything.
            return challenges;
        }
        let before_space = rest.clone();
        while rest.next_if(|c| *c == ' ' || *c == '\t').is_some() {}
        if rest.next_if_eq(&'=').is_some() {
            while rest.next_if(|c| *c == ' ' || *c == '\t').is_some() {}
            let value = if rest.next_if_eq(&'"').is_some() { quoted(&mut rest) } else { token(&mut rest) };
            if let Some((_, params)) = challenges.last_mut() {
                params.push((word.to_ascii_lowercase(), value));
            }
        } else {
            rest = before_space;
            challenges.push((word, Vec::new()));
        }
    }
}

fn token(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut out = String::new();
    // Wider than RFC 9110's tchar: some registries do not quote their realm.
    while let Some(c) = rest.next_if(|c| !c.is_control() && !matches!(c, ' ' | ',' | '=' | '"')) {
        out.push(c);
    }
    out
}

fn quoted(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut out = String::new();
    while let Some(c) = rest.next() {
        match c {
            '"' => break,
            '\\' => out.extend(rest.next()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
    }

    #[test]
    fn challenges_of_real_registries_are_understood() {
        let table = [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (r#"bearer service=a, realm = "https://h/t?a=b,c""#, bearer("https://h/t?a=b,c", Some("a"))),
            (r#"Basic realm="a \"quoted\" realm""#, Some(Challenge::Basic)),
            (r#"Basic realm="x", Bearer realm="https://h/t""#, bearer("https://h/t", None)),
            ("Negotiate, Basic", Some(Challenge::Basic)),
            (r#"Bearer service="x""#, None),
            ("Digest realm=x", None),
            ("", None),
            ("===\"\"\"", None),
            (r#"Bearer realm="unterminated"#, bearer("unterminated", None)),
        ];
        for (header, expected) in table {
            assert_eq!(choose([header].into_iter()), expected, "{header}");
        }
        assert_eq!(
            choose([r#"Basic realm="x""#, r#"Bearer realm="https://h""#].into_iter()),
            bearer("https://h", None)
        );
    }
}
