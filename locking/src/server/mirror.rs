//! Brings what the first group knows of sessions to a group that keeps buckets.
//!
//! Whoever leads the group does it. A leader that the news does not reach would leave the buckets of the dead to
//! nobody, so after a while any other node does.
//!
//! Invariants
//! - A session is granted buckets in a group only after that group was told that it is live.
//! - A group that hears late that a session is over only grants its buckets late: until then it holds them alone.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::core::Core;
use super::{NoAnswer, Voter};
use crate::command::{Answer, Command, Mirror, Request, RequestId};

/// Between two looks when nothing moves.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two attempts.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// How long the leader of the group is left to do it.
const PATIENCE: Duration = Duration::from_millis(600);

impl Core {
    /// What this node knows that the group has not been told, as far as this node sees.
    fn news(&self) -> Option<Mirror> {
        self.nodes.look(|first| {
            let at = first.last.as_ref()?.index;
            self.reader.read(|own| first.state.news_for(at, self.group, own))
        })
    }

    async fn tell(self: &std::sync::Arc<Self>, news: Mirror) -> Result<Answer, NoAnswer> {
        let command = Command::Mirror(Box::new(news));
        if self.term().is_some() {
            return Ok(self.carry_out(command).await?);
        }
        let id = RequestId { client: self.client, seq: self.seq.fetch_add(1, Ordering::Relaxed) };
        self.propose(&std::sync::Arc::new(Request { id, command })).await
    }
}

impl Voter {
    /// Tells the group now what it does not know of the first one, as far as this node sees.
    pub(crate) async fn tell_news(&self) -> Result<(), NoAnswer> {
        let Some(news) = self.core.news() else { return Ok(()) };
        match self.core.tell(news).await? {
            Answer::Refused(refusal) => Err(NoAnswer(refusal.to_string())),
            Answer::Done
            | Answer::Nothing
            | Answer::Opened(_)
            | Answer::Granted(_)
            | Answer::Witnessed { .. } => Ok(()),
        }
    }
}

/// Tells the group for as long as its voter runs here.
pub(super) async fn keep_told(core: Weak<Core>) {
    let Some((mut theirs, mut ours)) = core.upgrade().map(|core| (core.nodes.map(), core.reader.map()))
    else {
        return;
    };
    let mut behind_since = None;
    loop {
        let Some(strong) = core.upgrade() else { return };
        theirs.borrow_and_update();
        ours.borrow_and_update();
        let news = strong.news();
        let mut again = LOOK_EVERY;
        match news {
            None => behind_since = None,
            Some(news) => {
                let since = *behind_since.get_or_insert_with(Instant::now);
                if strong.term().is_some() || since.elapsed() >= PATIENCE {
                    match strong.tell(news).await {
                        Ok(Answer::Refused(refusal)) => {
                            tracing::error!(group = strong.group, %refusal, "the group is not told of sessions");
                        }
                        Ok(
                            Answer::Done
                            | Answer::Nothing
                            | Answer::Opened(_)
                            | Answer::Granted(_)
                            | Answer::Witnessed { .. },
                        ) => behind_since = None,
                        Err(error) => {
                            tracing::debug!(group = strong.group, %error, "the group was not told yet");
                        }
                    }
                }
                again = RETRY_EVERY;
            }
        }
        drop(strong);
        tokio::select! {
            _ = theirs.changed() => {}
            _ = ours.changed() => {}
            () = tokio::time::sleep(again) => {}
        }
    }
}
