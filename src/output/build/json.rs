//! An object a line, as BuildKit's `--progress rawjson`: `vertexes` are steps, `logs` what they say, `statuses` what they do.

use super::{Step, View};
use crate::build::dockerfile::Source;
use crate::build::lint::Warning;
use crate::build::progress::Outcome;
use crate::digest::Digest;
use crate::timestamp::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

pub struct Json;

/// Of a step, or what belongs to none.
fn vertex(number: usize, name: &str) -> String {
    Digest::of(format!("{number} {name}").as_bytes()).to_string()
}

fn line(object: &Value) -> String {
    format!("{object}\n")
}

fn now() -> String {
    Timestamp::now().to_string()
}

impl View for Json {
    fn begun(&mut self, step: &Step) -> String {
        let digest = vertex(step.number, &step.name);
        line(
            &json!({"vertexes": [{"digest": digest, "name": step.name, "started": step.started.to_string()}]}),
        )
    }

    fn output(&mut self, step: &Step, is_error: bool, bytes: &[u8]) -> String {
        let (vertex, data) = (vertex(step.number, &step.name), STANDARD.encode(bytes));
        let stream = if is_error { 2 } else { 1 };
        line(&json!({"logs": [{"vertex": vertex, "stream": stream, "data": data, "timestamp": now()}]}))
    }

    fn note(&mut self, step: &Step, text: &str, bytes: Option<u64>) -> String {
        let (vertex, now) = (vertex(step.number, &step.name), now());
        let mut status = json!({"id": text, "vertex": vertex, "timestamp": now, "started": now});
        if let Some(bytes) = bytes {
            status["total"] = bytes.into();
        }
        line(&json!({"statuses": [status]}))
    }

    fn ended(&mut self, step: &Step, outcome: &Outcome) -> String {
        let digest = vertex(step.number, &step.name);
        let mut object = json!({"digest": digest, "name": step.name, "started": step.started.to_string(), "completed": now()});
        match outcome {
            Outcome::Done => {}
            Outcome::Cached => object["cached"] = true.into(),
            Outcome::Failed(why) => object["error"] = why.as_str().into(),
            Outcome::Canceled => object["error"] = "context canceled".into(),
        }
        line(&json!({"vertexes": [object]}))
    }

    fn warnings(&mut self, source: &Source, warnings: &[Warning]) -> String {
        let vertex = vertex(0, source.name());
        let objects = warnings.iter().map(|warning| {
            let short = STANDARD.encode(warning.summary(source));
            let detail = STANDARD.encode(warning.rule.about());
            json!({"vertex": vertex, "level": 1, "short": short, "detail": [detail], "url": warning.rule.url()})
        });
        line(&json!({"warnings": objects.collect::<Vec<_>>()}))
    }

    fn warning(&mut self, text: &str) -> String {
        let (vertex, short) = (vertex(0, ""), STANDARD.encode(text));
        line(&json!({"warnings": [{"vertex": vertex, "level": 1, "short": short}]}))
    }

    fn is_text(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::played;
    use super::*;

    #[test]
    fn every_line_is_an_object() {
        let text = played(
            &mut Json,
            &[("begin", b"[1/2] RUN\n\"x\""), ("failed", b"no"), ("cached", b""), ("note", b"reading")],
        );
        let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects[0]["vertexes"][0]["name"], "[1/2] RUN\\n\"x\"");
        assert_eq!(objects[1]["vertexes"][0]["error"], "no");
        assert_eq!(objects[2]["vertexes"][0]["cached"], true);
        assert_eq!(objects[3]["statuses"][0]["id"], "reading");
        assert_eq!(objects[3]["statuses"][0]["total"], 7);
        assert_eq!(objects[3]["statuses"][0]["vertex"], objects[0]["vertexes"][0]["digest"]);
        assert_eq!(objects[0]["vertexes"][0]["digest"], objects[1]["vertexes"][0]["digest"]);
    }
}
