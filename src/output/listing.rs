//! Listings: rows as a table, as JSON lines or by a template. The table is itself a template, as in docker, and
//! its heads are the same template over the columns' names.

use super::table;
use super::template::{Error, Template};
use serde_json::{Map, Value};

/// What is listed: the fields of its rows and how they are shown if nobody says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    /// A template whose cells are separated by tabs.
    pub table: &'a str,
    /// What `-q` shows: a field.
    pub quiet: &'a str,
    /// Heads of fields, where they are not the field's name in capitals.
    pub heads: &'a [(&'a str, &'a str)],
}

/// How it is shown this time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style<'a> {
    /// `--format`.
    pub format: Option<&'a str>,
    /// `-q`.
    pub quiet: bool,
    /// `--noheading`.
    pub no_heading: bool,
}

impl Listing<'_> {
    /// The text of `rows`. A row's `Label` field, an object, is there for `{{.Label "key"}}` only.
    pub fn render(&self, rows: &[Value], style: Style<'_>) -> Result<String, Error> {
        let format = style.format.filter(|format| !format.is_empty()).map(str::trim);
        let quiet = format!("{{{{.{}}}}}", self.quiet);
        let default = format!("table {}", self.table);
        let format = match format {
            None | Some("table") if style.quiet => &quiet,
            None | Some("table") => &default,
            Some("json") => "{{json .}}",
            Some(own) => own,
        };
        // In a shell's quotes, a tab is typed so.
        let format = format.replace("\\t", "\t").replace("\\n", "\n");
        let (columns, template) = match format.strip_prefix("table ") {
            Some(columns) => (Some(columns), Template::parse(columns)?),
            None => (None, Template::parse(&format)?),
        };
        let mut out = String::new();
        if columns.is_some() && !style.no_heading {
            out.push_str(&template.render(&self.heads(rows))?);
            out.push('\n');
        }
        let is_json = format == "{{json .}}";
        for row in rows {
            out.push_str(&match row {
                Value::Object(fields) if is_json => {
                    let mut fields = fields.clone();
                    fields.remove("Label");
                    Value::Object(fields).to_string()
                }
                row => template.render(row)?,
            });
            out.push('\n');
        }
        Ok(if columns.is_some() { table::align(&out) } else { out })
    }

    fn heads(&self, rows: &[Value]) -> Value {
        let mut heads = Map::new();
        // A listing without rows still has its own columns' heads.
        let named = self.heads.iter().map(|(field, head)| ((*field).to_owned(), (*head).to_owned()));
        let plain = rows.first().and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let in_table = self.table.split("{{.").skip(1).filter_map(|cell| cell.split(['}', ' ']).next());
        for field in plain.map(String::as_str).chain(in_table) {
            heads.insert(field.to_owned(), field.to_uppercase().into());
        }
        heads.extend(named.map(|(field, head)| (field, head.into())));
        heads.insert("Label".into(), Value::Object(Map::new()));
        Value::Object(heads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LISTING: Listing<'static> =
        Listing { table: "{{.ID}}\t{{.Names}}\t{{.Size}}", quiet: "ID", heads: &[("ID", "CONTAINER ID")] };

    fn rows() -> Vec<Value> {
        vec![
            json!({"ID": "0123456789ab", "Names": "web", "Size": "1B", "Label": {"a": "1"}}),
            json!({"ID": "ba9876543210", "Names": "data", "Size": "2B", "Label": {}}),
        ]
    }

    fn show(format: Option<&str>, quiet: bool) -> String {
        LISTING.render(&rows(), Style { format, quiet, no_heading: false }).unwrap()
    }

    #[test]
    fn the_default_is_a_table_with_heads() {
        let expected =
            "CONTAINER ID   NAMES     SIZE\n0123456789ab   web       1B\nba9876543210   data      2B\n";
        assert_eq!(show(None, false), expected);
        assert_eq!(show(Some("table"), false), expected);
        let none = LISTING.render(&[], Style::default()).unwrap();
        assert_eq!(none, "CONTAINER ID   NAMES     SIZE\n");
        let bare = LISTING.render(&rows(), Style { no_heading: true, ..Style::default() }).unwrap();
        assert!(bare.starts_with("0123456789ab   web"));
    }

    #[test]
    fn formats_are_templates_tables_of_templates_and_json() {
        assert_eq!(show(None, true), "0123456789ab\nba9876543210\n");
        assert_eq!(show(Some("{{.Names}}={{.Label \"a\"}}"), false), "web=1\ndata=\n");
        assert_eq!(
            show(Some(r"table {{.Names}}\t{{.ID}}"), false).lines().next(),
            Some("NAMES     CONTAINER ID")
        );
        assert_eq!(
            show(Some("json"), false).lines().next(),
            Some(r#"{"ID":"0123456789ab","Names":"web","Size":"1B"}"#)
        );
        assert!(LISTING.render(&rows(), Style { format: Some("{{.Nope}}"), ..Style::default() }).is_err());
    }
}
