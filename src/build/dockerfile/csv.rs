//! Fields with commas between: one record of CSV, as `--mount` and `--device` have it.

use super::source::Text;

/// The fields of `text`. A field that begins with `"` goes to the next lone `"`, and `""` in it is one.
pub fn fields(text: &Text) -> Vec<Text> {
    let mut fields = vec![Text::empty_at(text.source(0))];
    let mut quoted = false;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let place = text.source(at);
        let Some(field) = fields.last_mut() else { break };
        match c {
            '"' if quoted && chars.peek().is_some_and(|(_, next)| *next == '"') => {
                chars.next();
                field.push('"', place, 2);
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(Text::empty_at(place + 1)),
            c => field.push(c, place, c.len_utf8()),
        }
    }
    fields
}
