//! One process on one node: its view of the volume, and the moment at which it stops or pauses.
//!
//! Invariants
//! - A dead process reaches neither the volume nor the coordination service, whatever its code still tries.
//! - A pause is a call that takes long: others run meanwhile, then it goes on where it was.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use nfs_compat::{DirEntry, Error, File, Fs, Metadata, Result, SimFs, Space};

use crate::Mutant;
use crate::view::HostView;

type Pause = Box<dyn FnOnce() + Send>;

/// Counts what a process does, and ends it.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    dead: bool,
    calls: u64,
    stop_at: Option<u64>,
    pause: Option<(u64, Pause)>,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the process is alive to make this call. A pause that is due happens first.
    pub fn pass(&self) -> bool {
        let mut state = self.state();
        if state.stop_at.is_some_and(|stop| state.calls >= stop) {
            state.dead = true;
        }
        if state.dead {
            return false;
        }
        state.calls += 1;
        if state.pause.as_ref().is_some_and(|(at, _)| state.calls > *at)
            && let Some((_, pause)) = state.pause.take()
        {
            drop(state);
            pause();
            return !self.is_dead();
        }
        true
    }

    /// Lets `more` calls through and ends the process before the next.
    pub fn stop_after(&self, more: u64) {
        let mut state = self.state();
        state.stop_at = Some(state.calls + more);
    }

    /// Runs `pause` before the call that comes after `more` others.
    pub fn pause_after(&self, more: u64, pause: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        state.pause = Some((state.calls + more, Box::new(pause)));
    }

    /// Forgets stops and pauses that did not come about.
    pub fn disarm(&self) {
        let mut state = self.state();
        (state.stop_at, state.pause) = (None, None);
    }

    pub fn kill(&self) {
        self.state().dead = true;
    }

    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    pub fn calls(&self) -> u64 {
        self.state().calls
    }
}

/// Names that owners unlinked, as the file server saw it (J8). Clones are the same trace.
#[derive(Clone, Default)]
pub struct Trace {
    bases: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    fn bases(&self) -> MutexGuard<'_, Vec<String>> {
        self.bases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unlinked(&self, path: &Path) {
        let base = path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.bases().extend(base.and_then(|name| name.split(':').next().map(str::to_owned)));
    }

    /// What was unlinked since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.bases())
    }
}

/// The volume as one process sees it.
pub struct ProcessFs {
    volume: Arc<dyn Fs>,
    gate: Arc<Gate>,
    trace: Trace,
    /// What the host believes, on a volume that it shares with others.
    view: Option<HostView>,
    mutant: Option<Mutant>,
}

impl ProcessFs {
    pub fn new(volume: &SimFs, gate: Arc<Gate>, trace: Trace, mutant: Option<Mutant>) -> Self {
        let volume = Arc::new(volume.clone());
        Self { volume, gate, trace, view: None, mutant }
    }

    /// The same, going by what the host believes.
    pub fn behind(self, view: HostView) -> Self {
        Self { volume: Arc::new(view.client()), view: Some(view), ..self }
    }

    fn pass(&self, path: &Path) -> Result<&dyn Fs> {
        pass(&self.gate, path)?;
        Ok(&*self.volume)
    }

    /// As `pass`, for a change of names.
    fn pass_to_change(&self, path: &Path) -> Result<&dyn Fs> {
        let volume = self.pass(path)?;
        self.view.iter().for_each(|view| view.changes(path));
        Ok(volume)
    }

    fn wrap(&self, file: Box<dyn File>) -> Box<dyn File> {
        let skips_sync = match self.mutant {
            Some(Mutant::SegmentsNotSynced) => is_in(file.path(), "j"),
            Some(Mutant::BodiesNotSynced) => file.path().iter().any(|part| part == "spool"),
            _ => false,
        };
        Box::new(ProcessFile { file, gate: Arc::clone(&self.gate), skips_sync })
    }
}

fn is_in(path: &Path, directory: &str) -> bool {
    path.parent().and_then(Path::file_name).is_some_and(|name| name == directory)
}

fn pass(gate: &Gate, path: &Path) -> Result<()> {
    if gate.pass() {
        return Ok(());
    }
    Err(Error::new("reach", path, std::io::Error::other("the simulated process was killed")))
}

impl Fs for ProcessFs {
    fn open(&self, path: &Path) -> Result<Box<dyn File>> {
        Ok(self.wrap(self.pass(path)?.open(path)?))
    }

    fn open_write(&self, path: &Path) -> Result<Box<dyn File>> {
        Ok(self.wrap(self.pass(path)?.open_write(path)?))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        Ok(self.wrap(self.pass_to_change(path)?.create(path)?))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.pass_to_change(to)?.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.pass_to_change(to)?.rename(from, to)?;
        self.view.iter().for_each(|view| view.changes(from));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> Result<()> {
        self.pass_to_change(path)?.unlink(path)?;
        self.trace.unlinked(path);
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.pass(path)?.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.pass(path)?.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let volume = self.pass(path)?;
        let is_cached = path.ends_with("new") || path.ends_with("cur");
        match self.view.as_ref().filter(|_| is_cached) {
            Some(view) => view.list(path, || volume.read_dir(path)),
            None => volume.read_dir(path),
        }
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let volume = self.pass(path)?;
        if self.mutant == Some(Mutant::DirectoriesNotSynced) {
            return Ok(());
        }
        volume.sync_dir(path)
    }

    fn metadata(&self, path: &Path) -> Result<Metadata> {
        self.pass(path)?.metadata(path)
    }

    fn directory(&self, path: &Path) -> Result<Metadata> {
        self.pass(path)?.directory(path)
    }

    fn space(&self, path: &Path) -> Result<Space> {
        self.pass(path)?.space(path)
    }

    fn set_modified(&self, path: &Path, to: SystemTime) -> Result<()> {
        self.pass(path)?.set_modified(path, to)
    }

    fn revalidate(&self, path: &Path) -> Result<()> {
        self.pass(path)?.revalidate(path)
    }
}

struct ProcessFile {
    file: Box<dyn File>,
    gate: Arc<Gate>,
    skips_sync: bool,
}

impl ProcessFile {
    fn pass(&self) -> Result<&dyn File> {
        pass(&self.gate, self.file.path())?;
        Ok(&*self.file)
    }
}

impl File for ProcessFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.pass()?.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.pass()?.write_at(bytes, offset)
    }

    fn sync(&self) -> Result<()> {
        let file = self.pass()?;
        if self.skips_sync { Ok(()) } else { file.sync() }
    }

    fn allocate(&self, length: u64) -> Result<()> {
        self.pass()?.allocate(length)
    }

    fn set_modified(&self, to: SystemTime) -> Result<()> {
        self.pass()?.set_modified(to)
    }

    fn metadata(&self) -> Result<Metadata> {
        self.pass()?.metadata()
    }

    fn path(&self) -> &Path {
        self.file.path()
    }
}
