//! A terminal that a test sits at.

use super::exit_code;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// A pseudo-terminal with a command on it, as a terminal emulator makes it.
pub struct Terminal {
    keyboard: File,
    master: OwnedFd,
    child: Child,
    screen: Arc<Mutex<String>>,
    /// How much of the screen `expect` has consumed.
    read: usize,
}

impl Terminal {
    /// Starts the command on a new terminal of this size, as its controlling terminal.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        // It must not become the terminal of a test process that leads a session: a hang-up would end all tests.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        tcsetwinsize(&slave, size(rows, columns)).unwrap();
        // setsid(1) makes a session, takes the terminal and becomes the command.
        let mut session = Command::new("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            session.current_dir(dir);
        }
        session.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let child = session.spawn().unwrap();
        drop(session);
        let keyboard = File::from(master.try_clone().unwrap());
        let mut output = File::from(master.try_clone().unwrap());
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A read fails with EIO when the last user of the other side is gone.
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        Self { keyboard, master, child, screen, read: 0 }
    }

    /// Everything that has appeared so far.
    pub fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    /// Presses keys.
    pub fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Presses keys one after the other, as a hand does: docker and podman see detach keys only so.
    pub fn press(&mut self, keys: &str) {
        for key in keys.chars() {
            self.type_in(&key.to_string());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until this appears after what was expected before.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if let Some(at) = screen[self.read..].find(text) {
                self.read += at + text.len();
                return;
            }
            assert!(Instant::now() < end, "`{text}` does not appear after byte {}: {screen:?}", self.read);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Changes the window's size.
    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.master, size(rows, columns)).unwrap();
    }

    /// Whether the terminal is in the state a shell expects to find it in: lines are edited, keys echoed.
    pub fn is_cooked(&self) -> bool {
        use rustix::termios::LocalModes;
        tcgetattr(self.master.as_fd()).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits for the command's end; its exit code.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return exit_code(status);
            }
            if Instant::now() > end {
                drop(self.child.kill());
                panic!("the command on the terminal does not end: {:?}", self.screen());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
