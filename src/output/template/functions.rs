//! Go's built-in functions and docker's.

use serde_json::{Map, Number, Value};
use std::cmp::Ordering;

type Result = std::result::Result<Value, String>;

const NAMES: [&str; 23] = [
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "index", "slice", "len", "print", "printf",
    "println", "json", "join", "split", "title", "lower", "upper", "pad", "truncate",
];

/// The function of this name.
pub fn known(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|known| *known == name)
}

/// Calls a function.
pub fn call(name: &str, arguments: Vec<Value>) -> Result {
    let wanted = match name {
        "not" | "len" | "title" | "lower" | "upper" | "json" => 1..=1,
        "ne" | "lt" | "le" | "gt" | "ge" | "join" | "split" | "truncate" => 2..=2,
        "eq" => 2..=usize::MAX,
        "pad" => 3..=3,
        "and" | "or" | "index" | "slice" | "printf" => 1..=usize::MAX,
        _ => 0..=usize::MAX,
    };
    if !wanted.contains(&arguments.len()) {
        let (want, got) = (wanted.start(), arguments.len());
        return Err(format!("wrong number of args for {name}: want {want} got {got}"));
    }
    let string = |at: usize| arguments[at].as_str().ok_or_else(|| wrong_type(&arguments[at], "string"));
    let count = |at: usize| {
        let number = arguments[at].as_u64().and_then(|n| usize::try_from(n).ok());
        number.ok_or_else(|| wrong_type(&arguments[at], "int"))
    };
    Ok(match name {
        // The arguments before the last have been looked at already.
        "and" | "or" => arguments.last().cloned().unwrap_or_default(),
        "not" => Value::Bool(!truth(&arguments[0])),
        "eq" => {
            let mut equal = false;
            for other in &arguments[1..] {
                equal |= equals(&arguments[0], other)?;
            }
            Value::Bool(equal)
        }
        "ne" => Value::Bool(!equals(&arguments[0], &arguments[1])?),
        "lt" | "le" | "gt" | "ge" => {
            let order = order(&arguments[0], &arguments[1])?;
            Value::Bool(match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            })
        }
        "index" => arguments[1..].iter().try_fold(arguments[0].clone(), |value, key| index(&value, key))?,
        "slice" => slice(&arguments)?,
        "len" => match &arguments[0] {
            Value::String(text) => text.len().into(),
            Value::Array(items) => items.len().into(),
            Value::Object(map) => map.len().into(),
            Value::Null => 0.into(),
            other => return Err(format!("len of type {}", kind(other))),
        },
        "print" => {
            let mut out = String::new();
            for (at, value) in arguments.iter().enumerate() {
                // fmt.Print: a space between two operands of which neither is a string.
                if at > 0 && !value.is_string() && !arguments[at - 1].is_string() {
                    out.push(' ');
                }
                out.push_str(&text(value));
            }
            out.into()
        }
        "println" => {
            let words: Vec<String> = arguments.iter().map(text).collect();
            format!("{}\n", words.join(" ")).into()
        }
        "printf" => printf(string(0)?, &arguments[1..]).into(),
        "json" => json(&arguments[0]).into(),
        "join" => match &arguments[0] {
            Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(string(1)?).into(),
            Value::Null => "".into(),
            other => return Err(wrong_type(other, "[]string")),
        },
        "split" => string(0)?.split(string(1)?).collect::<Vec<_>>().into(),
        "title" => title(string(0)?).into(),
        "lower" => string(0)?.to_lowercase().into(),
        "upper" => string(0)?.to_uppercase().into(),
        // docker: an empty text is not padded.
        "pad" if string(0)?.is_empty() => "".into(),
        "pad" => {
            let (before, after) = (count(1)?.min(4096), count(2)?.min(4096));
            format!("{}{}{}", " ".repeat(before), string(0)?, " ".repeat(after)).into()
        }
        "truncate" => string(0)?.chars().take(count(1)?).collect::<String>().into(),
        _ => return Err(format!("function {name:?} not defined")),
    })
}

fn wrong_type(value: &Value, wanted: &str) -> String {
    format!("wrong type for value; expected {wanted}; got {}", kind(value))
}

/// The name of Go's type for a value.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Whether Go takes a value for true: not zero and not empty.
pub fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A value as Go's `fmt` prints it.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => float(number.as_f64().unwrap_or_default()),
        Value::Array(items) => format!("[{}]", items.iter().map(inner).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let items: Vec<String> =
                sorted(map).iter().map(|(key, value)| format!("{key}:{}", inner(value))).collect();
            format!("map[{}]", items.join(" "))
        }
        other => other.to_string(),
    }
}

/// A float as `%v` prints it: an exponent of at least two digits below 1e-4 and from 1e21 on (JSON's numbers are
/// not told from Go's integers, so not from 1e6 on).
fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    match scientific
        .split_once('e')
        .and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?)))
    {
        Some((digits, exponent)) if !(-4..21).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => number.to_string(),
    }
}

fn inner(value: &Value) -> String {
    if value.is_null() { "<nil>".into() } else { text(value) }
}

fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut items: Vec<_> = map.iter().collect();
    items.sort_by_key(|(key, _)| *key);
    items
}

/// Like docker's, which leaves `<`, `>` and `&` alone.
fn json(value: &Value) -> String {
    value.to_string()
}

fn equals(a: &Value, b: &Value) -> std::result::Result<bool, String> {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) | (Value::String(_), Value::String(_)) => {
            Ok(order(a, b)?.is_eq())
        }
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Null, other) | (other, Value::Null) => Ok(other.is_null()),
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => {
            Err("non-comparable type".into())
        }
        _ => Err("incompatible types for comparison".into()),
    }
}

fn order(a: &Value, b: &Value) -> std::result::Result<Ordering, String> {
    let integer = |n: &Number| n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from));
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (integer(a), integer(b)) {
            (Some(a), Some(b)) => Ok(a.cmp(&b)),
            _ => a.as_f64().partial_cmp(&b.as_f64()).ok_or_else(|| "not a number".into()),
        },
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        _ => Err("incompatible types for comparison".into()),
    }
}

fn index(value: &Value, key: &Value) -> Result {
    let place = || key.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or("cannot index slice with that");
    match value {
        Value::Object(map) => match key.as_str() {
            // Go gives a map's zero value, which for the maps that users index is the empty text.
            Some(key) => Ok(map.get(key).cloned().unwrap_or_else(|| zero_like(map))),
            None => Err(wrong_type(key, "string")),
        },
        Value::Array(items) => {
            let place = place()?;
            items.get(place).cloned().ok_or_else(|| format!("index out of range: {place}"))
        }
        Value::String(text) => {
            let place = place()?;
            let byte = text.as_bytes().get(place).ok_or_else(|| format!("index out of range: {place}"))?;
            Ok((*byte).into())
        }
        Value::Null => Err("index of untyped nil".into()),
        other => Err(format!("can't index item of type {}", kind(other))),
    }
}

fn zero_like(map: &Map<String, Value>) -> Value {
    match map.values().next() {
        None | Some(Value::String(_)) => "".into(),
        Some(_) => Value::Null,
    }
}

fn slice(arguments: &[Value]) -> Result {
    let length = match &arguments[0] {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        other => return Err(format!("can't slice item of type {}", kind(other))),
    };
    let place = |at: usize, default: usize| match arguments.get(at) {
        None => Ok(default),
        Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(place) if place <= length => Ok(place),
            _ => Err(format!("index out of range: {}", text(value))),
        },
    };
    let (start, end) = (place(1, 0)?, place(2, length)?);
    match &arguments[0] {
        _ if start > end || arguments.len() > 3 => Err("invalid slice index".into()),
        Value::Array(items) => Ok(items[start..end].to_vec().into()),
        Value::String(whole) => Ok(String::from_utf8_lossy(&whole.as_bytes()[start..end]).into()),
        _ => Ok(Value::Null),
    }
}

fn title(text: &str) -> String {
    let mut after_letter = false;
    text.chars()
        .flat_map(|c| {
            let first = !after_letter && c.is_alphabetic();
            after_letter = c.is_alphanumeric() || c == '_';
            if first { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
}

/// Go's `Printf` for the verbs that make sense on JSON.
fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut left, mut zeros, mut plus) = (false, false, false);
        while let Some(flag) = chars.next_if(|c| "-0+# ".contains(*c)) {
            left |= flag == '-';
            zeros |= flag == '0';
            plus |= flag == '+';
        }
        let mut digits = || {
            let mut text = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                text.push(digit);
            }
            text.parse::<usize>().ok().map(|n| n.min(4096))
        };
        let width = digits().unwrap_or(0);
        let precision = if chars.next_if_eq(&'.').is_some() { Some(digits_after(&mut chars)) } else { None };
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = arguments.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let mut piece = verb_text(verb, value, precision);
        if plus && value.is_number() && !piece.starts_with('-') {
            piece.insert(0, '+');
        }
        let missing = width.saturating_sub(piece.chars().count());
        match (left, zeros && value.is_number()) {
            (true, _) => out.extend([piece.as_str(), &" ".repeat(missing)]),
            (false, false) => out.extend([" ".repeat(missing).as_str(), &piece]),
            (false, true) => {
                let sign = usize::from(piece.starts_with(['-', '+']));
                out.extend([&piece[..sign], &"0".repeat(missing), &piece[sign..]]);
            }
        }
    }
    out
}

fn digits_after(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> usize {
    let mut number = 0usize;
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        number = (number * 10 + digit as usize - '0' as usize).min(64);
    }
    number
}

fn verb_text(verb: char, value: &Value, precision: Option<usize>) -> String {
    let integer = value.as_i64();
    match (verb, value) {
        ('v', _) => inner(value),
        ('s', Value::String(text)) => match precision {
            Some(count) => text.chars().take(count).collect(),
            None => text.clone(),
        },
        ('q', Value::String(text)) => json(&text.as_str().into()),
        ('d', Value::Number(number)) if !number.is_f64() => number.to_string(),
        ('t', Value::Bool(truth)) => truth.to_string(),
        ('f' | 'e' | 'g', Value::Number(number)) => {
            format!("{:.*}", precision.unwrap_or(6), number.as_f64().unwrap_or_default())
        }
        ('c' | 'q', Value::Number(number)) => {
            let c = number.as_u64().and_then(|n| u32::try_from(n).ok()).and_then(char::from_u32);
            let c = c.unwrap_or(char::REPLACEMENT_CHARACTER);
            if verb == 'c' { c.to_string() } else { format!("{c:?}") }
        }
        ('x', Value::String(text)) => text.bytes().map(|b| format!("{b:02x}")).collect(),
        ('x', _) if integer.is_some() => format!("{:x}", integer.unwrap_or_default()),
        ('X', _) if integer.is_some() => format!("{:X}", integer.unwrap_or_default()),
        ('o', _) if integer.is_some() => format!("{:o}", integer.unwrap_or_default()),
        ('b', _) if integer.is_some() => format!("{:b}", integer.unwrap_or_default()),
        ('s', Value::Array(_) | Value::Object(_)) => text(value),
        _ => format!("%!{verb}({}={})", kind(value), inner(value)),
    }
}
