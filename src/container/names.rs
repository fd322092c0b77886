//! Names for containers that were given none.

const MOODS: [&str; 32] = [
    "amber", "bold", "brisk", "calm", "clever", "copper", "dapper", "eager", "early", "fleet", "gentle",
    "glad", "hardy", "jolly", "keen", "light", "lively", "lucky", "merry", "mild", "nimble", "patient",
    "plain", "quick", "quiet", "ready", "sober", "steady", "sunny", "swift", "tidy", "willow",
];
const WATERS: [&str; 48] = [
    "bay", "beck", "bight", "bourne", "bow", "brook", "cove", "creek", "current", "delta", "eddy", "estuary",
    "ferry", "fjord", "ford", "gulf", "harbour", "inlet", "islet", "jetty", "keel", "lagoon", "lake", "lock",
    "loch", "marsh", "mere", "mooring", "oar", "oxbow", "paddle", "pier", "pond", "pool", "quay", "reach",
    "reed", "ripple", "river", "rudder", "shoal", "shore", "sound", "spring", "strait", "tarn", "tide",
    "weir",
];

/// A name such as `calm_river`; from the third attempt on with a number.
pub fn suggest(attempt: u32, random: u32) -> String {
    let pick = |list: &[&'static str], n: u32| list[usize::try_from(n).unwrap_or(0) % list.len()];
    let name = format!("{}_{}", pick(&MOODS, random & 0xff), pick(&WATERS, (random >> 8) & 0xfff));
    if attempt < 3 { name } else { format!("{name}{}", random >> 20) }
}
