//! Stages side by side: a process for each, started when those that it needs are there.
//!
//! A process with several threads can neither enter the user's namespace nor start containers, so stages are forks of the
//! builder, each with one thread, and what comes of a stage is sent back ([`super::report`]). None outlives the builder: the
//! kernel kills a stage's process with it, the monitor of a step's container ends that when its client is gone, and a job
//! in the user's namespace ends with who asked for it. If one stage fails, or a signal asks for the end, the others
//! get SIGTERM, which a step's container gets in turn, and [`GRACE`] to tidy up.

use super::report::{Broken, Listener, Reporter, Said, decoded, lost};
use super::{Builder, MAIN, Stage};
use crate::build::context::Looking;
use crate::build::progress::{Event, Outcome, Progress, StepKind};
use crate::build::{Error, job};
use crate::kernel::process::{self, Child, Side};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{WaitId, WaitIdOptions, getpid, pidfd_send_signal, waitid};
use std::fmt::Display;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a stage may take to end after it was told to.
const GRACE: Duration = Duration::from_secs(3);

/// A stage at work.
struct Worker {
    at: usize,
    child: Child,
    listener: Listener,
    /// The step that it is at.
    step: Option<usize>,
    result: Option<Result<Stage, Error>>,
}

/// All of them.
pub(super) struct Stages<'a, 'b> {
    builder: &'a mut Builder<'b>,
    progress: &'a mut dyn Progress,
    waiting: Vec<usize>,
    running: Vec<Worker>,
    /// Why no further stage begins, and since when the others are being ended.
    failed: Option<Error>,
    ending: Option<Instant>,
    /// Of stages that have ended: their containers may not have yet.
    ended: Vec<Listener>,
}

impl<'a, 'b> Stages<'a, 'b> {
    pub(super) fn new(builder: &'a mut Builder<'b>, progress: &'a mut dyn Progress) -> Self {
        let waiting = builder.options.graph.order.clone();
        Self {
            builder,
            progress,
            waiting,
            running: Vec::new(),
            failed: None,
            ending: None,
            ended: Vec::new(),
        }
    }

    /// Builds them; what came of the last.
    pub(super) fn run(mut self) -> Result<Stage, Error> {
        let signals = Signals::catch()?;
        let planned = self.builder.totals.iter().sum();
        self.progress.on(Event::Planned(planned));
        loop {
            if let Err(error) = self.start_more(&signals) {
                self.fail(error);
            }
            if let Err(error) = self.wait(&signals) {
                self.send(rustix::process::Signal::KILL);
                return Err(error);
            }
            if self.running.is_empty() && (self.waiting.is_empty() || self.failed.is_some()) {
                break;
            }
        }
        self.await_monitors();
        match self.failed {
            Some(error) => Err(error),
            None => {
                let target = self.builder.options.graph.order.last();
                target.and_then(|target| self.builder.done.remove(target)).ok_or_else(lost)
            }
        }
    }

    fn start_more(&mut self, signals: &Signals) -> Result<(), Error> {
        let options = self.builder.options;
        // Two shells on one terminal would be one too many.
        let jobs = if options.run.shell_on_failure { 1 } else { options.jobs };
        while self.failed.is_none() && self.running.len() < jobs {
            let done = &self.builder.done;
            let needs = &self.builder.options.graph.needs;
            let is_ready = |at: &usize| needs[*at].iter().all(|needed| done.contains_key(needed));
            let Some(next) = self.waiting.iter().position(is_ready) else { break };
            let at = self.waiting.remove(next);
            let worker = self.start(at, signals)?;
            self.running.push(worker);
        }
        Ok(())
    }

    fn start(&mut self, at: usize, signals: &Signals) -> Result<Worker, Error> {
        let (from, to) = std::io::pipe().map_err(Error::io("make a pipe"))?;
        let builder = getpid();
        match process::fork().map_err(Error::io("start a process"))? {
            Side::Child => {
                job::end_with(builder);
                signals.release();
                drop(from);
                let said = self.builder.carry_out(at, Reporter::new(to));
                process::exit_now(u8::from(said.is_err()))
            }
            Side::Parent(child) => {
                let listener = Listener::new(from).map_err(Error::io("make a pipe"))?;
                Ok(Worker { at, child, listener, step: None, result: None })
            }
        }
    }

    /// Waits until something happens, and follows it.
    fn wait(&mut self, signals: &Signals) -> Result<(), Error> {
        if self.running.is_empty() {
            return Ok(());
        }
        let mut set = vec![PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)];
        for worker in &self.running {
            set.push(PollFd::new(worker.listener.pipe.as_fd(), PollFlags::POLLIN));
            set.push(PollFd::new(worker.child.pidfd.as_fd(), PollFlags::POLLIN));
        }
        let grace = self.ending.map(|since| GRACE.saturating_sub(since.elapsed()));
        let patience = [self.progress.period(), grace].into_iter().flatten().min();
        let patience = patience.map_or(PollTimeout::NONE, |time| {
            PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut set, patience) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(Error::io("wait for stages")(e)),
        }
        let ready: Vec<bool> = set.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        if let Some(signal) = signals.came() {
            self.fail(Error::Interrupted(signal));
        }
        if self.ending.is_some_and(|since| since.elapsed() >= GRACE) {
            self.send(rustix::process::Signal::KILL);
        }
        // What ended is known before what it has said is read, so that nothing of that is missed.
        let stages = ready[1..].chunks_exact(2).map(|pair| (pair[0], pair[1]));
        let stages: Vec<(bool, bool)> = stages.collect();
        for (index, (speaks, has_ended)) in stages.iter().enumerate() {
            if !(*speaks || *has_ended) {
                continue;
            }
            if let Err(error) = self.listen(index, *has_ended) {
                self.fail(error);
            }
        }
        // From the last to the first, since they go.
        for (index, _) in stages.iter().enumerate().rev().filter(|(_, (_, has_ended))| *has_ended) {
            self.take_leave(index)?;
        }
        self.progress.on(Event::Tick);
        Ok(())
    }

    /// Reads what a stage says; if it has ended, all of it.
    fn listen(&mut self, index: usize, all: bool) -> Result<(), Error> {
        loop {
            let worker = &mut self.running[index];
            let more = worker.listener.fill().map_err(Error::io("hear a stage"))?;
            let said = worker.listener.take().map_err(Error::io("hear a stage"))?;
            for said in said {
                self.hear(index, said);
            }
            if !(all && more) {
                return Ok(());
            }
        }
    }

    fn hear(&mut self, index: usize, said: Said) {
        let worker = &mut self.running[index];
        match (said, worker.step) {
            (Said::Begun(kind, name), _) => worker.step = Some(self.progress.begin(kind, &name)),
            (Said::Note(text, bytes), Some(step)) => {
                self.progress.on(Event::Note { step, text: &text, bytes });
            }
            (Said::Output { is_error, data }, Some(step)) => {
                self.progress.on(Event::Output { step, is_error, bytes: &decoded(&data) });
            }
            (Said::Ended(outcome), Some(step)) => {
                worker.step = None;
                // What a step that was ended says of it is not why the build failed.
                let ended_by_us = self.ending.is_some() && matches!(outcome, Outcome::Failed(_));
                let outcome = if ended_by_us { Outcome::Canceled } else { outcome };
                self.progress.on(Event::Ended { step, outcome: &outcome });
            }
            (Said::Connecting(networks), _) => {
                for network in networks {
                    self.builder.keeper.hold(network);
                }
            }
            (Said::Useless { cache, why }, _) => {
                // Other stages may have found out, too; those that begin now need not.
                if self.builder.cache.give_up(cache) {
                    self.progress.on(Event::Warning(&why));
                }
            }
            (Said::Finished(result), _) => {
                let file = self.builder.options.file;
                worker.result = Some(result.map_err(|broken| broken.into_error(file)));
            }
            (Said::Output { .. } | Said::Note(..) | Said::Ended(_), None) => {}
        }
    }

    /// Of a stage whose process has ended.
    fn take_leave(&mut self, index: usize) -> Result<(), Error> {
        let worker = self.running.remove(index);
        waitid(WaitId::PidFd(worker.child.pidfd.as_fd()), WaitIdOptions::EXITED)
            .map_err(Error::io("wait for a process"))?;
        if let Some(step) = worker.step {
            self.progress.on(Event::Ended { step, outcome: &Outcome::Canceled });
        }
        match worker.result {
            Some(Ok(stage)) => drop(self.builder.done.insert(worker.at, stage)),
            Some(Err(error)) => self.fail(error),
            None => self.fail(lost()),
        }
        self.ended.push(worker.listener);
        Ok(())
    }

    /// Waits for the end of what stages have left: the monitors of their steps' containers, and of those by which they are on
    /// a network, have inherited the other end of the stage's pipe. Only then is nothing of them there any more, or what was
    /// killed can be removed.
    fn await_monitors(&mut self) {
        let end = Instant::now() + GRACE;
        for mut listener in std::mem::take(&mut self.ended) {
            loop {
                let left = end.saturating_duration_since(Instant::now());
                let mut set = [PollFd::new(listener.pipe.as_fd(), PollFlags::POLLIN)];
                let patience = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                let is_open = match poll(&mut set, patience) {
                    Ok(0) => false,
                    Ok(_) => set[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)),
                    Err(error) => error == nix::Error::EINTR,
                };
                if !is_open || listener.fill().is_err() || listener.take().is_err() {
                    break;
                }
            }
        }
    }

    /// Ends the build. What fails because of that is not why.
    fn fail(&mut self, error: Error) {
        if self.failed.is_none() {
            self.failed = Some(error);
            self.ending = Some(Instant::now());
            self.send(rustix::process::Signal::TERM);
        }
    }

    fn send(&self, signal: rustix::process::Signal) {
        for worker in &self.running {
            let _ = pidfd_send_signal(&worker.child.pidfd, signal);
        }
    }
}

impl Builder<'_> {
    /// A stage, in a process of its own.
    fn carry_out(&mut self, at: usize, reporter: Reporter) -> std::io::Result<()> {
        // What is not needed may be there or not.
        let needs = &self.options.graph.needs[at];
        self.done.retain(|stage, _| needs.contains(stage));
        let reporter = Arc::new(reporter);
        for (name, place) in &mut self.places {
            place.context.watch(watch(name, &reporter));
        }
        self.reporter = Some(reporter);
        self.cache.go_on_after(self.totals[..at].iter().sum());
        let stage = self.stage(at);
        // What was digested is true whatever became of the stage; that it cannot be kept costs time only.
        // Of what was fetched there is no next time: it is unpacked anew.
        let staging = self.paths.staging();
        for place in self.places.values_mut().filter(|place| !place.path.starts_with(&staging)) {
            let _ = place.context.save();
        }
        self.say(&Said::Finished(Box::new(stage.map_err(Broken::of))))
    }

    /// Shows work of a stage that is none of the Dockerfile's steps as one of its own.
    pub(super) fn around<T, E: Display>(
        &self,
        name: String,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        // The builder is gone if it does not listen, and this process ends with it.
        let _ = self.say(&Said::Begun(StepKind::Around, name));
        let done = work();
        self.end(Outcome::of(&done));
        done
    }
}

/// Shows the reading of a context that takes its time as a step, under BuildKit's name for it.
fn watch(name: &str, reporter: &Arc<Reporter>) -> Box<dyn Fn(Looking<'_>) + Sync> {
    let shown = match name {
        MAIN => "[internal] load build context".to_owned(),
        name => format!("[context {name}] load from client"),
    };
    let reporter = Arc::clone(reporter);
    Box::new(move |looking| {
        // The builder is gone if it does not listen, and this process ends with it.
        let _ = reporter.say(&match looking {
            Looking::Begun => Said::Begun(StepKind::Around, shown.clone()),
            Looking::Reading { files, bytes } => {
                let what = if files == 1 { "file" } else { "files" };
                Said::Note(format!("reading {files} {what}"), Some(bytes))
            }
            Looking::Ended(error) => Said::Ended(Outcome::of(&error.map_or(Ok(()), Err))),
        });
    })
}

/// Signals that end the build, as events.
struct Signals(SignalFd);

impl Signals {
    fn catch() -> Result<Self, Error> {
        let set = Self::set();
        set.thread_block().map_err(Error::io("block signals"))?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        SignalFd::with_flags(&set, flags).map(Self).map_err(Error::io("watch signals"))
    }

    fn set() -> SigSet {
        [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM].into_iter().collect()
    }

    /// The number of one that came.
    fn came(&self) -> Option<i32> {
        let signal = self.0.read_signal().ok()??;
        i32::try_from(signal.ssi_signo).ok()
    }

    /// They act as usual again.
    fn release(&self) {
        let _ = Self::set().thread_unblock();
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.release();
    }
}
