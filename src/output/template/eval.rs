//! Walking the tree.

use super::functions;
use super::parse::{Head, Node, Operand, Pipe, Span};
use serde_json::Value;

/// Why the template does not fit the value.
pub struct Wrong {
    pub span: Span,
    pub why: String,
}

type Result<T> = std::result::Result<T, Wrong>;

/// How far `range` counts: `{{range 9999999999}}` would be as good as endless.
const LONGEST: u64 = 100_000;
/// How often all of a template's loops go round: a few of them in one another would be as good as endless, too.
const TURNS: usize = 200_000;

enum Flow {
    On,
    Break,
    Continue,
}

struct Run<'a> {
    root: &'a Value,
    variables: Vec<(String, Value)>,
    out: String,
    turns: usize,
}

pub fn render(nodes: &[Node], value: &Value) -> Result<String> {
    let mut run = Run { root: value, variables: Vec::new(), out: String::new(), turns: 0 };
    run.nodes(nodes, value)?;
    Ok(run.out)
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow> {
        let scope = self.variables.len();
        for node in nodes {
            match self.node(node, dot)? {
                Flow::On => {}
                flow => {
                    self.variables.truncate(scope);
                    return Ok(flow);
                }
            }
        }
        self.variables.truncate(scope);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow> {
        let scope = self.variables.len();
        let flow = match node {
            Node::Text(text) => {
                self.out.push_str(text);
                return Ok(Flow::On);
            }
            Node::Print(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&functions::text(&value));
                }
                // What is declared here is seen by the nodes that follow.
                return Ok(Flow::On);
            }
            Node::If { condition, then, otherwise } => {
                let holds = functions::truth(&self.pipe(condition, dot)?);
                self.nodes(if holds { then } else { otherwise }, dot)?
            }
            Node::With { value, then, otherwise } => {
                let value = self.pipe(value, dot)?;
                match functions::truth(&value) {
                    true => self.nodes(then, &value)?,
                    false => self.nodes(otherwise, dot)?,
                }
            }
            Node::Range { over, body, otherwise } => self.range(over, body, otherwise, dot)?,
            Node::Break => Flow::Break,
            Node::Continue => Flow::Continue,
        };
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn range(&mut self, over: &Pipe, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<Flow> {
        let declared = Pipe { variables: Vec::new(), ..over.clone() };
        let items: Vec<(Value, Value)> = match self.pipe(&declared, dot)? {
            Value::Array(items) => items.into_iter().enumerate().map(|(i, v)| (i.into(), v)).collect(),
            Value::Object(map) => {
                let mut items: Vec<_> = map.into_iter().collect();
                items.sort_by(|a, b| a.0.cmp(&b.0));
                items.into_iter().map(|(k, v)| (k.into(), v)).collect()
            }
            Value::Null => Vec::new(),
            Value::Number(count) if count.as_u64().is_some_and(|count| count <= LONGEST) => {
                (0..count.as_u64().unwrap_or_default()).map(|i| (i.into(), i.into())).collect()
            }
            other => {
                let why = format!("range can't iterate over {}", functions::text(&other));
                return Err(Wrong { span: whole(over), why });
            }
        };
        self.turns = self.turns.saturating_add(items.len() + 1);
        if self.turns > TURNS {
            let why = format!("the template's ranges go round more than {TURNS} times in all");
            return Err(Wrong { span: whole(over), why });
        }
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let scope = self.variables.len();
        for (key, item) in items {
            match &over.variables[..] {
                [value] => self.variables.push((value.clone(), item.clone())),
                [name, value] => {
                    self.variables.push((name.clone(), key));
                    self.variables.push((value.clone(), item.clone()));
                }
                _ => {}
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(scope);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, value.take(), dot)?);
        }
        let value = value.unwrap_or_default();
        for name in &pipe.variables {
            match self.variables.iter_mut().rev().find(|(known, _)| pipe.assigns && known == name) {
                Some((_, old)) => *old = value.clone(),
                None if pipe.assigns => {
                    let why = format!("undefined variable {name:?}");
                    return Err(Wrong { span: whole(pipe), why });
                }
                None => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    /// One command of a pipeline; `piped` is what the one before it made, its last argument.
    fn command(&mut self, command: &[Operand], piped: Option<Value>, dot: &Value) -> Result<Value> {
        let Some((first, rest)) = command.split_first() else { return Ok(Value::Null) };
        let Head::Function(name) = first.head else {
            let has_arguments = !rest.is_empty() || piped.is_some();
            return match (has_arguments, first.fields.last()) {
                // docker's rows have methods; the only one with an argument is `.Label "key"`.
                (true, Some(method)) if method == "Label" => {
                    let labels = self.operand(first, dot)?;
                    let mut arguments = vec![labels];
                    for operand in rest {
                        arguments.push(self.operand(operand, dot)?);
                    }
                    arguments.extend(piped);
                    functions::call("index", arguments).map_err(|why| Wrong { span: first.span, why })
                }
                (true, _) => {
                    Err(Wrong { span: first.span, why: "can't give argument to non-function".into() })
                }
                (false, _) => self.operand(first, dot),
            };
        };
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            let value = self.operand(operand, dot)?;
            // `and` and `or` look no further than they need.
            let decided = match name {
                "and" => !functions::truth(&value),
                "or" => functions::truth(&value),
                _ => false,
            };
            if decided {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(piped);
        let value = functions::call(name, arguments).map_err(|why| {
            let end = rest.last().map_or(first.span.1, |operand| operand.span.1);
            Wrong { span: (first.span.0, end), why: format!("error calling {name}: {why}") }
        })?;
        fields(value, &first.fields, first.span)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value> {
        let span = operand.span;
        match &operand.head {
            Head::Dot => fields_of(dot, &operand.fields, span),
            Head::Literal(value) => fields_of(value, &operand.fields, span),
            Head::Variable(name) if name == "$" => fields_of(self.root, &operand.fields, span),
            Head::Variable(name) => match self.variables.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => fields_of(value, &operand.fields, span),
                None => Err(Wrong { span, why: format!("undefined variable {name:?}") }),
            },
            Head::Function(_) => self.command(std::slice::from_ref(operand), None, dot),
            Head::Pipe(pipe) => {
                let value = self.pipe(pipe, dot)?;
                fields(value, &operand.fields, span)
            }
        }
    }
}

fn fields(value: Value, names: &[String], span: Span) -> Result<Value> {
    if names.is_empty() { Ok(value) } else { fields_of(&value, names, span) }
}

/// The value at the end of a chain of fields.
fn fields_of(value: &Value, names: &[String], span: Span) -> Result<Value> {
    let mut value = value;
    for name in names {
        value = match value {
            Value::Object(map) => {
                let found = map.get(name).or_else(|| {
                    map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
                });
                match found {
                    Some(value) => value,
                    None if name.starts_with(char::is_uppercase) => {
                        let why = format!("map has no entry for key {name:?}");
                        return Err(Wrong { span, why });
                    }
                    None => &Value::Null,
                }
            }
            Value::Null => {
                let why = format!("nil pointer evaluating interface {{}}.{name}");
                return Err(Wrong { span, why });
            }
            other => {
                let why = format!("can't evaluate field {name} in type {}", functions::kind(other));
                return Err(Wrong { span, why });
            }
        };
    }
    Ok(value.clone())
}

fn whole(pipe: &Pipe) -> Span {
    let mut operands = pipe.commands.iter().flatten().map(|operand| operand.span);
    let first = operands.next().unwrap_or_default();
    (first.0, operands.next_back().unwrap_or(first).1)
}
