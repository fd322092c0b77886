use super::*;
use serde_json::json;

fn value() -> Value {
    json!({
        "Id": "abcdef", "Name": "web", "Count": 3, "Big": 18446744073709551615u64, "Ratio": 0.5, "On": true, "Off": false,
        "State": {"Status": "running", "Pid": 42, "Error": ""},
        "Config": {"Labels": {"owner": "me", "a.b": "dotted"}, "Cmd": ["sh", "-c", "exit"], "Empty": [], "Nil": null},
        "Mounts": [{"Type": "bind", "Source": "/a"}, {"Type": "volume", "Source": "data"}],
    })
}

fn render(text: &str) -> Result<String, String> {
    Template::parse(text).and_then(|t| t.render(&value())).map_err(|e| e.to_string())
}

#[test]
fn templates_make_what_go_makes() {
    for (text, expected) in [
        ("plain", "plain"),
        ("{{.Name}}", "web"),
        ("{{ .ID }}{{.Id}}", "abcdefabcdef"),
        ("{{.State.Status}} {{.State.Pid}}", "running 42"),
        ("{{.Count}} {{.Ratio}} {{.On}} {{.Big}}", "3 0.5 true 18446744073709551615"),
        ("{{.Config.Cmd}}", "[sh -c exit]"),
        ("{{.Config.Labels}}", "map[a.b:dotted owner:me]"),
        ("{{json .Config.Cmd}}", r#"["sh","-c","exit"]"#),
        ("{{.Config.Cmd | json}}", r#"["sh","-c","exit"]"#),
        ("{{index .Config.Labels \"a.b\"}}", "dotted"),
        ("{{index .Config.Labels \"none\"}}", ""),
        ("{{.Config.Labels.none}} {{.Config.Nil}}", "<no value> <no value>"),
        ("{{(index .Mounts 1).Source}}", "data"),
        ("{{index .Config.Cmd 0}}{{len .Config.Cmd}}", "sh3"),
        ("{{range .Mounts}}{{.Type}}:{{.Source}} {{end}}", "bind:/a volume:data "),
        ("{{range $i, $m := .Mounts}}{{if $i}}, {{end}}{{$m.Type}}{{end}}", "bind, volume"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a.b=dotted;owner=me;"),
        ("{{range .Config.Empty}}x{{else}}none{{end}}", "none"),
        (
            "{{range .Config.Cmd}}{{if eq . \"-c\"}}{{continue}}{{end}}{{.}}{{if eq . \"x\"}}{{break}}{{end}}{{end}}",
            "shexit",
        ),
        ("{{if .Off}}a{{else if .On}}b{{else}}c{{end}}", "b"),
        ("{{if and .On (gt .Count 2) (not .Off)}}yes{{end}}", "yes"),
        ("{{if or .Off .State.Error}}a{{else}}b{{end}}", "b"),
        ("{{with .State}}{{.Status}} {{$.Name}}{{end}}", "running web"),
        ("{{with .State.Error}}{{.}}{{else}}fine{{end}}", "fine"),
        ("{{$n := .Name}}{{if .On}}{{$n = \"db\"}}{{end}}{{$n}}", "db"),
        ("{{.Name | upper | printf \"%s!\"}}", "WEB!"),
        ("{{join .Config.Cmd \" \"}} {{split \"a,b\" \",\"}}", "sh -c exit [a b]"),
        (
            "{{title \"ab cd\"}} {{lower \"AB\"}} {{truncate .Id 3}} [{{pad .Name 1 2}}]",
            "Ab Cd ab abc [ web  ]",
        ),
        (
            "{{printf \"%-5s|%5d|%05d|%x|%q|%.2f|%v|%%\" .Name 42 42 255 \"a\\\"b\" .Ratio .On}}",
            "web  |   42|00042|ff|\"a\\\"b\"|0.50|true|%",
        ),
        ("{{printf \"%d\" .Name}} {{printf \"%s\"}}", "%!d(string=web) %!s(MISSING)"),
        ("{{println \"a\" 1}}", "a 1\n"),
        ("{{print \"a\" 1 2 \"b\"}}", "a1 2b"),
        ("{{range 3}}{{.}}{{end}} {{1.0}} {{1e21}} {{0.00001}}", "012 1 1e+21 1e-05"),
        ("{{title \"it's a wORLD\"}} {{printf \"%c%q\" 65 66}}", "It'S A WORLD A'B'"),
        ("a {{- .Name -}} b{{/* nothing */}}c", "awebbc"),
        ("{{`raw\\n`}}{{\"\\t\"}}{{'a'}}", "raw\\n\t97"),
        (
            "{{eq .Name \"db\" \"web\"}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge .Ratio 1}}",
            "true true true true false false",
        ),
        ("{{slice .Id 1 3}}{{slice .Config.Cmd 2}}", "bc[exit]"),
        ("{{range .Config.Nil}}x{{end}}", ""),
        ("{{-1}} {{0x1f}} {{1.5}}", "-1 31 1.5"),
        ("äö {{.Name}} ü", "äö web ü"),
    ] {
        assert_eq!(render(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_does_not_fit_is_said_in_gos_words() {
    for (text, expected) in [
        ("{{.Nope}}", "template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\""),
        ("\n {{.State.Nope}}", ":2:3: executing \"\" at <.State.Nope>: map has no entry"),
        ("{{.Name.Nope}}", "can't evaluate field Nope in type string"),
        ("{{.Config.Nil.X}}", "nil pointer evaluating interface {}.X"),
        ("{{.Name \"x\"}}", "can't give argument to non-function"),
        ("{{index .Config.Cmd 9}}", "error calling index: index out of range: 9"),
        ("{{lt .Name 1}}", "incompatible types for comparison"),
        ("{{$x}}", "undefined variable"),
        ("{{range .Big}}{{end}}", "range can't iterate over 18446744073709551615"),
        ("{{range .Name}}{{end}}", "range can't iterate over web"),
        ("{{range 1000}}{{range 1000}}{{range 1000}}x{{end}}{{end}}{{end}}", "more than 200000 times in all"),
        ("{{truncate .Name}}", "wrong number of args for truncate: want 2 got 1"),
    ] {
        let error = render(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn what_is_no_template_is_said_in_gos_words() {
    for (text, expected) in [
        ("{{.Name", "template: :1: unclosed action"),
        ("\n{{nope .Name}}", "template: :2: function \"nope\" not defined"),
        ("{{if .On}}x", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{}}", "missing value for command"),
        ("{{.Name |}}", "missing value for command"),
        ("{{(.Name}}", "unclosed left paren"),
        ("{{.Name)}}", "unexpected right paren"),
        ("{{\"x}}", "unterminated quoted string"),
        ("{{break}}", "{{break}} outside {{range}}"),
        ("{{template \"x\"}}", "is not supported"),
        ("{{.Name | \"x\"}}", "non executable command in pipeline"),
        ("{{1x}}", "bad number syntax"),
        ("{{/* x}}", "unclosed comment"),
        ("{{if .A}}{{else}}{{else}}{{end}}", "unexpected {{else}}"),
        ("{{a, b}}", "not defined"),
        ("{{.A, .B}}", "unexpected"),
    ] {
        let error = render(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn no_text_makes_the_parser_panic() {
    let bits = [
        "{{", "}}", "{{-", " -}}", ".", ".A", "$", "$x", ":=", "|", "(", ")", "if", "range", "end", "else",
        "\"", "'", "`", "/*", "*/", " ", "é", "-", "1", ",", "printf", "%",
    ];
    let mut seed = 1u64;
    for _ in 0..5_000 {
        let mut text = String::new();
        for _ in 0..12 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            text.push_str(bits[usize::try_from(seed >> 33).unwrap() % bits.len()]);
        }
        let _ = render(&text);
    }
}

#[test]
fn nesting_is_bounded() {
    for text in ["{{(", "{{if .On}}"].map(|bit| bit.repeat(50_000)) {
        assert!(render(&text).is_err());
    }
    let parens = format!("{{{{{}1{}}}}}", "(".repeat(50_000), ")".repeat(50_000));
    assert!(render(&parens).unwrap_err().contains("too deeply"));
}

#[test]
fn json_is_a_format_of_its_own() {
    let value = json!({"A": [1]});
    assert_eq!(format(Some("json"), &value).unwrap(), r#"{"A":[1]}"#);
    assert_eq!(format(None, &value).unwrap(), "{\n  \"A\": [\n    1\n  ]\n}");
    assert_eq!(format(Some("{{.A}}"), &value).unwrap(), "[1]");
}
