//! A transient scope of the user's systemd: a cgroup that is ours to divide, where none has been handed to us.
//!
//! The monitor asks for it first of all, prepares the container while systemd works, and waits only when it needs the
//! cgroup. systemd moves the monitor there (with the help of the system's, which may do what a login session may not).
//! The scope is gone with the last process in it: nothing is left behind whoever is killed.

use super::Error;
use super::dbus::{Call, Connection, Message, Writer};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// A unit of the same name may still be on its way out: that of the container's last run.
const PATIENCE: Duration = Duration::from_secs(5);

/// The user's systemd.
pub struct Systemd {
    connection: Connection,
}

/// A scope that has been asked for.
pub struct PendingScope {
    systemd: Systemd,
    serial: u32,
    scope: Scope,
}

/// What to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `NAME.scope`.
    pub unit: String,
    /// What `systemctl --user status` shows.
    pub description: String,
    /// The slice that it is in.
    pub slice: String,
    /// The process that is moved into it.
    pub pid: u32,
}

/// Whether the user's systemd can be asked, as far as can be seen without asking.
pub fn is_there() -> bool {
    sockets().iter().any(|(path, _)| path.exists())
}

/// Where it listens: the user's message bus, and a socket of its own where there is no bus (as systemctl(1) has it).
fn sockets() -> Vec<(PathBuf, bool)> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let named = address.split(';').find_map(|a| a.strip_prefix("unix:path=")?.split(',').next());
    let bus = named.map(PathBuf::from).or_else(|| Some(runtime.as_ref()?.join("bus")));
    let private = runtime.map(|dir| dir.join("systemd/private"));
    private.map(|path| (path, false)).into_iter().chain(bus.map(|path| (path, true))).collect()
}

impl Systemd {
    /// Connects. `None` if there is nobody to connect to.
    pub fn connect() -> io::Result<Option<Self>> {
        let mut last = None;
        for (path, is_bus) in sockets() {
            match Connection::open(&path, is_bus) {
                Ok(connection) => return Ok(Some(Self { connection })),
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
                Err(e) => last = Some(e),
            }
        }
        last.map_or(Ok(None), Err)
    }

    fn call(&mut self, member: &str, signature: &str, body: Writer, quiet: bool) -> io::Result<u32> {
        let call = Call {
            destination: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: MANAGER,
            member,
            signature,
            body,
        };
        self.connection.send(&call, quiet)
    }

    /// Asks for a scope and does not wait.
    pub fn request(mut self, scope: Scope) -> io::Result<PendingScope> {
        self.connection.subscribe(&format!("type='signal',interface='{MANAGER}',member='JobRemoved'"))?;
        self.call("Subscribe", "", Writer::default(), true)?;
        let serial = self.start(&scope)?;
        Ok(PendingScope { systemd: self, serial, scope })
    }

    fn start(&mut self, scope: &Scope) -> io::Result<u32> {
        self.call("StartTransientUnit", "ssa(sv)a(sa(sv))", start_body(scope), false)
    }

    /// Moves processes of ours into a unit, below `subgroup` (which begins with a slash).
    pub fn attach(mut self, unit: &str, subgroup: &str, pid: u32) -> Result<(), Error> {
        let mut body = Writer::default();
        body.string(unit).string(subgroup).array(4, |pids| {
            pids.u32(pid);
        });
        let failed = failed("move a process into a scope");
        let serial =
            self.call("AttachProcessesToUnit", "ssau", body, false).map_err(|e| failed(e.to_string()))?;
        let answer = self.connection.answer(serial, &mut Vec::new()).map_err(|e| failed(e.to_string()))?;
        answer.map(drop).map_err(failed)
    }
}

fn failed(action: &'static str) -> impl Fn(String) -> Error {
    move |why| Error::Systemd { action, why }
}

fn start_body(scope: &Scope) -> Writer {
    let mut body = Writer::default();
    body.string(&scope.unit).string("fail").array(8, |properties| {
        let mut text = |name: &str, value: &str| {
            properties.structure().string(name).signature("s").string(value);
        };
        text("Description", &scope.description);
        text("Slice", &scope.slice);
        // A scope that failed is forgotten too, so that its name is free.
        text("CollectMode", "inactive-or-failed");
        properties.structure().string("Delegate").signature("b").boolean(true);
        properties.structure().string("PIDs").signature("au").array(4, |pids| {
            pids.u32(scope.pid);
        });
    });
    // No auxiliary units.
    body.array(8, |_| {});
    body
}

impl PendingScope {
    /// Waits until the scope is there and the process in it.
    pub fn wait(mut self) -> Result<(), Error> {
        let failed = failed("make a scope for the container");
        let until = Instant::now() + PATIENCE;
        loop {
            let mut signals: Vec<Message> = Vec::new();
            let Systemd { connection } = &mut self.systemd;
            match connection.answer(self.serial, &mut signals).map_err(|e| failed(e.to_string()))? {
                Ok(answer) => {
                    let job = answer.arguments.first().cloned().unwrap_or_default();
                    let is_it = |arguments: &[String]| match arguments {
                        // Number, path, unit, result.
                        [_, path, _, result, ..] if *path == job => Some(result.clone()),
                        _ => None,
                    };
                    let result = connection.signal("JobRemoved", &signals, is_it);
                    return match result.map_err(|e| failed(e.to_string()))?.as_str() {
                        "done" => Ok(()),
                        other => Err(failed(format!("its job ended with: {other}"))),
                    };
                }
                Err(why) if why.contains("UnitExists") && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                    self.serial = self.systemd.start(&self.scope).map_err(|e| failed(e.to_string()))?;
                }
                Err(why) => return Err(failed(why)),
            }
        }
    }
}
