//! Whether this store is the one that the site knows, and no older copy of it, nor one of two (L-RS2).
//!
//! Before a voter that was a member takes part again, it hears from a majority what they remember of its store: the
//! last mark, and, from the leader, how far its log had come. While the nodes of a site start together they answer
//! each other, so nobody waits for what cannot be. Afterwards the site remembers its new mark; a voter that sees a mark
//! of its store there that it has not drawn stops.
//!
//! Invariants
//! - A mark is durable here before anybody hears of it.
//! - A voter that crashed at any moment has drawn all that is remembered of it: it is never refused.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nfs_compat::Fs;
use tokio::time::Instant;

use super::core::Core;
use super::{NoAnswer, Opened, StartError, VoterOptions};
use crate::command::{Answer, Command, NodeId, Refusal, Request, RequestId};
use crate::marks::{Mark, Marks};
use crate::peer::message::{Hello, Here, Kind, Remembered, decode};
use crate::peer::{Behind, Peers};
use crate::raft::{coding, to_the_end};
use crate::state::State;

const BYTES_MAX: u64 = 64 << 10;
const ASK_MAX: Duration = Duration::from_secs(1);
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long a voter waits to hear what a majority remembers. Without one nothing can be done anyway; that the site has
/// fewer members now than the configuration says must not keep it for ever.
const HEAR_MAX: Duration = Duration::from_secs(10);
/// How often a mark is drawn while a voter runs: a copy that is older than this is noticed.
const DRAW_EVERY: Duration = Duration::from_secs(60);

/// What to do about a store that was put back, or runs twice.
pub(super) fn put_back(node: u8) -> String {
    format!(
        "the state_dir of node {node} is an older copy, or a second process runs with a copy of it: the site has heard \
         of it what this copy does not know, so it must not vote. If another process of node {node} runs, stop this \
         one. Otherwise run `roost cluster remove {node}` on another node, empty this state_dir, start it again, and \
         run `roost cluster add {node}`"
    )
}

/// What to do about a node that is there twice.
pub(super) fn elsewhere(node: u8) -> String {
    format!(
        "another process of node {node} answers at the address of node {node}: two nodes with one node.id, or two \
         processes of one node. Stop one of them, or give this one a node.id of its own"
    )
}

/// The marks of a store, in `raft/marks`.
pub(super) struct Life {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    marks: Mutex<Marks>,
}

impl Life {
    /// Reads what was drawn. Blocking.
    pub(super) fn open(fs: &Arc<dyn Fs>, state_dir: &Path) -> Result<Self, StartError> {
        let path = state_dir.join("raft").join("marks");
        let marks = match fs.read(&path, BYTES_MAX) {
            Ok(bytes) => coding::decode(&bytes)
                .map_err(|error| StartError::Raft(format!("{} does not read: {error}", path.display())))?,
            Err(error) if error.is_not_found() => Marks::default(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { fs: Arc::clone(fs), path, marks: Mutex::new(marks) })
    }

    pub(super) fn marks(&self) -> Marks {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Draws a mark, durably. Blocking.
    pub(super) fn draw(&self) -> std::io::Result<Marks> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let more = marks.with(rand::random());
        let bytes = coding::encode(&more)?;
        super::forming::write_whole(&*self.fs, &self.path, &bytes).map_err(std::io::Error::other)?;
        marks.clone_from(&more);
        Ok(more)
    }
}

/// Hears what others remember of this store before it takes part again.
pub(super) async fn hear(
    options: &VoterOptions,
    opened: &Opened,
    peers: &Arc<dyn Peers>,
) -> Result<(), StartError> {
    let Some(site) = &options.peers else { return Ok(()) };
    let (node, store, voters) = (options.node_id, opened.store.store(), options.voters());
    let log = opened.store.reader();
    let last = log.last_index().max(*opened.machine.reader().applied().borrow());
    let last = last.max(opened.snapshot).unwrap_or(0);
    let marks = opened.life.marks();
    let phase = super::core::phase(Some(last), opened.rebuilt_at);
    let remembers = opened.machine.reader().read(|state| super::core::remembered(state, &log, |_| None));
    let here = Here {
        store,
        phase,
        voters: voters.clone(),
        site: options.site,
        mark: marks.last(),
        remembers,
        there: None,
    };
    site.door.put(0, Behind::Waiting(here));
    let hello = Hello { site: options.site, voters: voters.clone(), look: true };
    let payload = bytes::Bytes::from(coding::encode(&hello).map_err(super::failed)?);
    let others: Vec<u8> = voters.iter().copied().filter(|other| *other != node).collect();
    let until = Instant::now() + HEAR_MAX;
    loop {
        let calls = others.iter().map(|other| peers.call(*other, 0, Kind::Hello, payload.clone(), ASK_MAX));
        let answers = futures::future::join_all(calls).await;
        let heard: Vec<Here> =
            answers.into_iter().filter_map(|answer| decode(Kind::Hello, &answer.ok()?).ok()).collect();
        let stranger = |here: &Here| here.there.is_some_and(|there| there != (store, marks.last()));
        if heard.iter().any(stranger) {
            return Err(StartError::Elsewhere(elsewhere(node)));
        }
        for told in heard.iter().flat_map(|here: &Here| &here.remembers) {
            if told.node == NodeId(node) && told.store == store && !is_ours(told, &marks, last) {
                return Err(StartError::PutBack(put_back(node)));
            }
        }
        if (heard.len() + 1) * 2 > voters.len() {
            return Ok(());
        }
        if Instant::now() >= until {
            tracing::warn!(
                answered = heard.len(),
                "too few of the other voters answer; starting without them"
            );
            return Ok(());
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn is_ours(told: &Remembered, marks: &Marks, last: u64) -> bool {
    told.mark.is_none_or(|mark| marks.may_have_drawn(mark))
        && told.reached.is_none_or(|reached| reached <= last)
}

/// What the site said to a new mark.
pub(super) enum Said {
    Remembered,
    NotOurs,
}

impl Core {
    /// Draws a mark and has the site remember it.
    pub(super) async fn renew_mark(self: &Arc<Self>) -> Result<Said, NoAnswer> {
        let life = Arc::clone(&self.life);
        let drawn = tokio::task::spawn_blocking(move || life.draw()).await;
        let drawn = drawn.map_err(|error| NoAnswer(error.to_string()))?;
        let marks = drawn.map_err(|error| NoAnswer(error.to_string()))?;
        self.tell_mark(marks).await
    }

    /// Has the site remember the last mark that was drawn.
    pub(super) async fn tell_mark(self: &Arc<Self>, marks: Marks) -> Result<Said, NoAnswer> {
        let command = Command::Mark { node: NodeId(self.node), store: self.store, marks };
        let seq = self.seq.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let request = Arc::new(Request { id: RequestId { client: self.client, seq }, command });
        match self.propose(&request).await? {
            Answer::Done => Ok(Said::Remembered),
            Answer::Refused(Refusal::OtherLife) => Ok(Said::NotOurs),
            other @ (Answer::Nothing
            | Answer::Opened(_)
            | Answer::Granted(_)
            | Answer::Witnessed { .. }
            | Answer::Refused(_)) => Err(NoAnswer(format!("a mark was answered {other:?}"))),
        }
    }

    /// The mark that the applied state has of this store, if it is not one that this process can have drawn.
    fn foreign_mark(&self) -> Option<Mark> {
        let node = NodeId(self.node);
        let known = |state: &State| Some((state.members.get(&node)?.store, *state.marks.get(&node)?));
        let (_, mark) = self.reader.read(known).filter(|(store, _)| *store == self.store)?;
        (!self.life.marks().may_have_drawn(mark)).then_some(mark)
    }

    /// Stops this voter for good, with a reason.
    pub(super) async fn end(&self, why: String) {
        tracing::error!(%why, "this voter stops");
        self.ended.send_replace(Some(why));
        let raft = self.raft.clone();
        if let Some(Err(error)) = to_the_end(async move { raft.shutdown().await }).await {
            tracing::warn!(%error, "the coordination service did not stop cleanly");
        }
    }
}

/// Draws marks while the voter runs, and watches for those that are not its own. Ends with the voter.
pub(super) async fn keep_marks(core: Weak<Core>) {
    let Some(mut map) = core.upgrade().map(|core| core.reader.map()) else { return };
    let mut draw_at = Instant::now() + DRAW_EVERY;
    loop {
        let changed = tokio::time::timeout_at(draw_at, map.changed()).await;
        let Some(core) = core.upgrade() else { return };
        let mut foreign = core.foreign_mark().is_some();
        match changed {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                draw_at = Instant::now() + DRAW_EVERY;
                match core.renew_mark().await {
                    Ok(Said::Remembered) => {}
                    Ok(Said::NotOurs) => foreign = true,
                    Err(error) => tracing::debug!(%error, "the site has not heard of a new mark"),
                }
            }
        }
        if foreign {
            core.end(put_back(core.node)).await;
            return;
        }
    }
}
