//! `# name=value` at the head of a file.

use super::ast::{Directives, Literal};
use super::problem::Problem;
use super::source::{Source, Text};

/// Reads directives line by line, as long as there are only directives.
#[derive(Default)]
pub struct Reader {
    /// What was found so far.
    pub found: Directives,
    is_over: bool,
}

impl Reader {
    /// Whether `line`, without leading blanks and its end, is a directive. The first line that is none ends them.
    pub fn take(&mut self, source: &Source, line: &Text) -> Result<bool, Box<Problem>> {
        let Some((name, value)) = (!self.is_over).then(|| parse(line)).flatten() else {
            self.is_over = true;
            return Ok(false);
        };
        let key = name.to_lowercase();
        let slot = match key.as_str() {
            "syntax" => &mut self.found.syntax,
            "escape" => &mut self.found.escape,
            "check" => &mut self.found.check,
            _ => {
                self.is_over = true;
                return Ok(false);
            }
        };
        if slot.is_some() {
            let message = format!("only one {key} parser directive can be used");
            return Err(Box::new(Problem::new(source, line.span(), message)));
        }
        if key == "escape" && !matches!(&*value, "\\" | "`") {
            let message = format!("invalid escape token '{}' does not match ` or \\", &*value);
            return Err(Box::new(Problem::new(source, value.span(), message)));
        }
        *slot = Some(Literal(value));
        Ok(true)
    }
}

/// The name and the value.
pub fn parse(line: &Text) -> Option<(Text, Text)> {
    if !line.starts_with('#') {
        return None;
    }
    let equals = line.find('=')?;
    let name = line.part(1..equals).trimmed();
    let value = line.part(equals + 1..line.len()).trimmed();
    let mut chars = name.chars();
    let is_name = chars.next()?.is_ascii_alphabetic() && chars.all(|c| c.is_ascii_alphanumeric());
    (is_name && !value.is_empty()).then_some((name, value))
}
