//! One cgroup: made, limited, frozen, killed, removed, by descriptor.

use super::limits::Setting;
use super::stats::Counters;
use super::{Error, TOP};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::fs;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// A cgroup of the unified tree.
#[derive(Debug)]
pub struct Group {
    path: String,
    dir: OwnedFd,
}

/// How long the kernel may take to freeze or to end what is in it. It takes milliseconds unless a process hangs in the kernel.
const PATIENCE: Duration = Duration::from_secs(10);

impl Group {
    /// Makes one for a container. One of this name that is there already is the rest of an earlier life of the container,
    /// whose note was lost.
    pub fn create_new(path: &str) -> Result<Self, Error> {
        match rustix::fs::mkdir(format!("{TOP}{path}"), Mode::from_raw_mode(0o755)) {
            Ok(()) => return Self::open(path),
            Err(Errno::EXIST) => Self::remove(path)?,
            Err(e) => return Err(Error::io("create", path)(e)),
        }
        Self::create(path)
    }

    /// Makes one. That it is there already is fine.
    pub fn create(path: &str) -> Result<Self, Error> {
        match rustix::fs::mkdir(format!("{TOP}{path}"), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::io("create", path)(e)),
        }
        Self::open(path)
    }

    /// Opens one that is there.
    pub fn open(path: &str) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, format!("{TOP}{path}"), flags, Mode::empty())
            .map_err(Error::io("open", path))?;
        Ok(Self { path: path.to_owned(), dir })
    }

    /// Its path below the top.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// A file's text.
    pub fn read(&self, file: &str) -> Option<String> {
        let mut text = String::new();
        self.file(file, OFlags::RDONLY).ok()?.read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn file(&self, file: &str, flags: OFlags) -> Result<fs::File, Errno> {
        rustix::fs::openat(&self.dir, file, flags | OFlags::CLOEXEC, Mode::empty()).map(Into::into)
    }

    fn write(&self, file: &str, value: &str) -> Result<(), Errno> {
        let file = self.file(file, OFlags::WRONLY)?;
        rustix::io::write(&file, value.as_bytes()).map(drop)
    }

    /// Gives its children controllers.
    pub fn enable(&self, controllers: &[String]) -> Result<(), Error> {
        for name in controllers {
            self.write("cgroup.subtree_control", &format!("+{name}"))
                .map_err(Error::io("hand controllers down from", &self.path))?;
        }
        Ok(())
    }

    /// Controllers that its children could be given and are not yet.
    pub fn enable_all(&self) -> Result<(), Error> {
        let words = |file| self.read(file).unwrap_or_default();
        let (available, enabled) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
        let missing =
            available.split_whitespace().filter(|name| !enabled.split_whitespace().any(|e| e == *name));
        self.enable(&missing.map(str::to_owned).collect::<Vec<_>>())
    }

    /// Moves a process into it.
    pub fn adopt(&self, pid: &str) -> Result<(), Error> {
        self.write("cgroup.procs", pid).map_err(Error::io("move a process to", &self.path))
    }

    /// Whether this process may put another into it: it must be able to write to the first cgroup above both.
    pub fn may_be_entered(&self) -> bool {
        let Some(own) = super::of_process("self") else { return false };
        let same = own.split('/').zip(self.path.split('/')).take_while(|(a, b)| a == b).count();
        let common = self.path.split('/').take(same).collect::<Vec<_>>().join("/");
        [common.as_str(), &self.path].iter().all(|path| {
            let file = format!("{TOP}{path}/cgroup.procs");
            rustix::fs::accessat(CWD, file, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
        })
    }

    /// Moves all processes to a leaf below it, so that its children can have controllers. What is started meanwhile is
    /// moved too.
    pub fn evacuate(&self, leaf: &str) -> Result<(), Error> {
        let leaf = Group::create(&format!("{}/{leaf}", self.path))?;
        for _ in 0..100 {
            let processes = self.read("cgroup.procs").unwrap_or_default();
            if processes.is_empty() {
                break;
            }
            for pid in processes.lines() {
                match leaf.write("cgroup.procs", pid) {
                    // It has ended meanwhile.
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(e) => return Err(Error::io("move a process to", &leaf.path)(e)),
                }
            }
        }
        Ok(())
    }

    /// Sets limits.
    pub fn set(&self, settings: &[Setting]) -> Result<(), Error> {
        settings.iter().try_for_each(|setting| self.set_one(setting))
    }

    fn set_one(&self, setting: &Setting) -> Result<(), Error> {
        for (file, value) in &setting.ways {
            match self.write(file, value) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT) => {}
                Err(_) if !setting.required => return Ok(()),
                Err(e) => {
                    return Err(Error::Refused {
                        what: format!("--{}", setting.flag),
                        file: file.clone(),
                        value: value.clone(),
                        why: std::io::Error::from(e).to_string(),
                    });
                }
            }
        }
        if !setting.required {
            return Ok(());
        }
        let has = self.read("cgroup.controllers").unwrap_or_default();
        if has.split_whitespace().any(|name| name == setting.controller()) {
            let files: Vec<_> = setting.ways.iter().map(|(file, _)| file.as_str()).collect();
            return Err(Error::Invalid {
                what: format!(
                    "--{} needs {}, which this kernel does not have",
                    setting.flag,
                    files.join(" or ")
                ),
                fix: "leave it out",
            });
        }
        Err(Error::NotDelegated {
            what: format!("--{}", setting.flag),
            missing: vec![setting.controller().to_owned()],
            place: self.path.clone(),
        })
    }

    /// Stops all its processes, and waits until they are.
    pub fn freeze(&self) -> Result<(), Error> {
        self.write("cgroup.freeze", "1").map_err(Error::io("freeze", &self.path))?;
        let frozen = self.wait_for(|events| event(events, "frozen") == Some(1));
        if !matches!(frozen, Ok(true)) {
            self.thaw()?;
            let e = frozen.err().unwrap_or_else(|| std::io::ErrorKind::TimedOut.into());
            return Err(Error::io("freeze", &self.path)(e));
        }
        Ok(())
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<(), Error> {
        self.write("cgroup.freeze", "0").map_err(Error::io("thaw", &self.path))
    }

    /// Waits for a change of `cgroup.events`; the kernel tells by POLLPRI.
    fn wait_for(&self, is_so: impl Fn(&str) -> bool) -> std::io::Result<bool> {
        let mut file = self.file("cgroup.events", OFlags::RDONLY)?;
        let until = Instant::now() + PATIENCE;
        loop {
            let mut text = String::new();
            file.rewind()?;
            file.read_to_string(&mut text)?;
            if is_so(&text) {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // A missed event costs no more than this.
            let wait = PollTimeout::try_from(left.as_millis().min(100) + 1).unwrap_or(PollTimeout::MAX);
            let _ = poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLPRI)], wait);
        }
    }

    /// How many of its processes the kernel has killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        self.read("memory.events").and_then(|text| event(&text, "oom_kill")).unwrap_or(0)
    }

    /// What it has used.
    pub fn counters(&self) -> Counters {
        Counters::parse(|file| self.read(file))
    }

    /// Kills all that is in it and removes it with all below. That it is gone already is fine.
    pub fn remove(path: &str) -> Result<(), Error> {
        let until = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(200);
        loop {
            match remove_tree(Path::new(&format!("{TOP}{path}"))) {
                Ok(()) => return Ok(()),
                Err(e) if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) && Instant::now() < until => {}
                Err(e) => return Err(Error::io("remove", path)(e)),
            }
            Group::open(path)?.kill();
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Kills all that is in it, frozen or not.
    pub fn kill(&self) {
        // Linux 5.14; before that each process, as often as it takes: the caller tries again.
        if self.write("cgroup.kill", "1").is_err() {
            for pid in self.read("cgroup.procs").unwrap_or_default().lines() {
                let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
                let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
            }
        }
        let _ = self.write("cgroup.freeze", "0");
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Whether a cgroup is frozen, or about to be: a look that ends at the first thing missing.
pub fn is_frozen(path: &str) -> bool {
    fs::read(format!("{TOP}{path}/cgroup.freeze")).is_ok_and(|text| text.starts_with(b"1"))
}

/// A line `name value` of an events file.
fn event(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Folders from the bottom up; the files in them are the kernel's.
fn remove_tree(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir(path) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
    }
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_by_their_whole_name() {
        let text = "populated 1\nfrozen 0\n";
        assert_eq!((event(text, "frozen"), event(text, "froze"), event(text, "x")), (Some(0), None, None));
        assert_eq!(event("oom 2\noom_kill 1\n", "oom_kill"), Some(1));
    }

    #[test]
    fn removing_what_is_not_there_is_fine() {
        Group::remove("/no-such-cgroup/of-ours").unwrap();
        assert!(!is_frozen("/no-such-cgroup"));
    }
}
