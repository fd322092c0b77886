//! JSON values as YAML text, the way `podman info` shows them.

use serde_json::Value;
use std::fmt::Write as _;

/// The text of `value`, with a line break at its end.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(_) | Value::Array(_) if !is_empty(value) => block(&mut out, value, 0),
        _ => out = format!("{}\n", scalar(value)),
    }
    out
}

fn block(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let _ = write!(out, "{indent}{}:", text(name));
                match value {
                    Value::Object(_) if !is_empty(value) => {
                        out.push('\n');
                        block(out, value, depth + 1);
                    }
                    // As YAML allows, and podman does, a list is not deeper than its name.
                    Value::Array(_) if !is_empty(value) => {
                        out.push('\n');
                        block(out, value, depth);
                    }
                    _ => {
                        let _ = writeln!(out, " {}", scalar(value));
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut lines = String::new();
                match item {
                    Value::Object(_) | Value::Array(_) if !is_empty(item) => {
                        block(&mut lines, item, depth + 1)
                    }
                    _ => lines = format!("{indent}  {}\n", scalar(item)),
                }
                // The first line of an item is behind its dash.
                let _ = write!(out, "{indent}- {}", lines.get(indent.len() + 2..).unwrap_or_default());
            }
        }
        other => {
            let _ = writeln!(out, "{indent}{}", scalar(other));
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        // `null`, numbers, `[]` and `{}` are the same in both.
        other => other.to_string(),
    }
}

/// A string, in quotes where YAML would not read it as a string, or not as this one.
fn text(string: &str) -> String {
    const WORDS: [&str; 10] = ["y", "n", "true", "false", "null", "yes", "no", "on", "off", "~"];
    let plain = string.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '/' | '_' | '.'))
        && !string.ends_with([' ', ':'])
        && !string.contains(": ")
        && !string.contains(" #")
        && !string.contains(char::is_control)
        && !looks_like_number(string)
        && !WORDS.contains(&string.to_ascii_lowercase().as_str());
    // A JSON string is a YAML string in double quotes.
    if plain { string.to_owned() } else { Value::from(string).to_string() }
}

/// Numbers of any base, times, dates: YAML knows many.
fn looks_like_number(string: &str) -> bool {
    let fits = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | '-' | '+' | ':' | '_' | 'x' | 'o');
    string.contains(|c: char| c.is_ascii_digit())
        && string.chars().all(fits)
        && string.matches('.').count() < 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn maps_lists_and_scalars_have_their_forms() {
        let value = json!({
            "a": 1,
            "b": { "c": "text", "d": [], "e": {} },
            "list": ["x", { "k": 1, "l": [2, 3] }],
            "none": null,
        });
        let expected =
            "a: 1\nb:\n  c: text\n  d: []\n  e: {}\nlist:\n- x\n- k: 1\n  l:\n  - 2\n  - 3\nnone: null\n";
        assert_eq!(to_yaml(&value), expected);
        assert_eq!(to_yaml(&json!({})), "{}\n");
        assert_eq!(to_yaml(&json!("x")), "x\n");
    }

    #[test]
    fn what_is_no_plain_string_is_quoted() {
        for plain in [
            "a b",
            "/run/x",
            "0.1.0",
            "6.12.1-amd64",
            "linux/amd64",
            "a:b",
            "é",
            "Debian GNU/Linux 12 (bookworm)",
        ] {
            assert_eq!(text(plain), plain);
        }
        for quoted in
            ["", "12", "1.5", "12:30", "yes", "NULL", "a: b", "a #b", "- x", "*x", " x", "x ", "a\nb", "{"]
        {
            assert_eq!(text(quoted), Value::from(quoted).to_string(), "{quoted}");
        }
    }
}
