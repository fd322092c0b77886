//! `--format`: Go templates, on a value of every kind.
#![no_main]

use coracle::output::template::Template;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(template) = Template::parse(text) else { return };
    let value = serde_json::json!({
        "ID": "0123456789ab", "Names": ["a", "b"], "Size": 12.5, "Count": -7, "Running": true, "None": null,
        "Labels": {"k": "v", "x.y": ""}, "State": {"Pid": 1, "Status": "running"}, "Empty": [],
    });
    let _ = template.render(&value);
});
