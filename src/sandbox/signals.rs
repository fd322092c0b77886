//! Signals by name (signal(7)).

/// The number of a signal: a number, or a name with or without `SIG`, real-time ones as `RTMIN+3`.
pub fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // 34 to 64: the C library keeps the first two real-time signals of the kernel for itself.
    let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(34),
        (_, Some("")) => Some(64),
        (Some(more), _) => more.strip_prefix('+').and_then(|n| n.parse::<i32>().ok()).map(|n| 34 + n),
        (_, Some(less)) => less.strip_prefix('-').and_then(|n| n.parse::<i32>().ok()).map(|n| 64 - n),
        _ => None,
    };
    if let Some(number) = real_time {
        return (34..=64).contains(&number).then_some(number);
    }
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

/// A signal's name, as [`signal_number`] reads it.
pub fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("SIGRTMIN+{}", number - nix::libc::SIGRTMIN()),
    }
}
