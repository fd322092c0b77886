//! What a cgroup's files say about what it has used.

/// Totals since the cgroup was made; none where its controller is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Processor time, microseconds.
    pub cpu: Option<u64>,
    /// Bytes of memory without the cache that can be had back at once, as docker counts.
    pub memory: Option<u64>,
    /// Its limit of memory, if it has one.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Bytes read from block devices.
    pub read: Option<u64>,
    /// Bytes written to them.
    pub written: Option<u64>,
}

impl Counters {
    /// From the files that `read` reads.
    pub fn parse(read: impl Fn(&str) -> Option<String>) -> Self {
        let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
        let field = |text: &str, name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<u64>().ok())
        };
        let inactive = || read("memory.stat").and_then(|text| field(&text, "inactive_file")).unwrap_or(0);
        let io = read("io.stat");
        let sum = |key: &str| {
            let words = io
                .as_deref()?
                .split_whitespace()
                .filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            Some(words.filter_map(|n| n.parse::<u64>().ok()).sum())
        };
        let threads = || Some(read("cgroup.threads")?.lines().count() as u64);
        Self {
            cpu: read("cpu.stat").and_then(|text| field(&text, "usage_usec")),
            memory: number("memory.current").map(|bytes| bytes.saturating_sub(inactive())),
            memory_limit: number("memory.max"),
            tasks: number("pids.current").or_else(threads),
            read: sum("rbytes"),
            written: sum("wbytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_from_the_files_that_are_there() {
        let counters = Counters::parse(|file| {
            let text = match file {
                "cpu.stat" => "usage_usec 1500\nuser_usec 1000\n",
                "memory.current" => "1000000\n",
                "memory.stat" => "anon 5\ninactive_file 400000\n",
                "memory.max" => "max\n",
                "pids.current" => "3\n",
                "io.stat" => "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=5 wbytes=1\n",
                _ => return None,
            };
            Some(text.to_owned())
        });
        let expected = Counters {
            cpu: Some(1500),
            memory: Some(600_000),
            memory_limit: None,
            tasks: Some(3),
            read: Some(15),
            written: Some(21),
        };
        assert_eq!(counters, expected);
    }

    #[test]
    fn what_is_not_counted_is_none() {
        assert_eq!(Counters::parse(|_| None), Counters::default());
        let few = Counters::parse(|file| (file == "cgroup.threads").then(|| "7\n8\n".to_owned()));
        assert_eq!(few, Counters { tasks: Some(2), ..Counters::default() });
    }
}
