//! What happens to the site, in one sentence each, for who reads the log at night. The consensus library says the same in
//! many, which are shown from log.level = "debug" on.

use std::collections::BTreeMap;
use std::time::Duration;

use locking::Locking;
use tokio::sync::watch;

use crate::cli::when;
use crate::time;

const LOOK: Duration = Duration::from_millis(500);
/// A node that has not answered the leader for so long is worth a sentence.
const QUIET: Duration = Duration::from_secs(3);

/// What was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    leader: Option<u8>,
    term: u64,
    /// Nodes that do not answer, and since when (seconds since 1970). Known to the leader alone.
    quiet: BTreeMap<u8, i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Sentence {
    /// All is as it should be.
    Good(String),
    Bad(String),
}

/// Tells of changes until the node ends.
pub async fn run(locking: Locking, mut ended: watch::Receiver<bool>) {
    let mut before = Seen::default();
    let mut led_since = time::now();
    loop {
        let me = locking.status().node_id;
        if before.leader != Some(me) {
            led_since = time::now();
        }
        let now = look(&locking, &before, led_since.elapsed());
        for sentence in sentences(&before, &now, me) {
            match sentence {
                Sentence::Good(text) => tracing::info!("{text}"),
                Sentence::Bad(text) => tracing::warn!("{text}"),
            }
        }
        before = now;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = ended.wait_for(|ended| *ended) => return,
        }
    }
}

fn look(locking: &Locking, before: &Seen, led_for: Duration) -> Seen {
    let group = locking.status().group;
    let now_s = time::unix_s();
    let silence = |follower: &locking::Follower| {
        let silent = follower.heard.unwrap_or(led_for);
        let since = now_s - i64::try_from(silent.as_secs()).unwrap_or(0);
        // Who is quiet already is quiet since the same moment.
        let since = before.quiet.get(&follower.node).copied().unwrap_or(since);
        (silent >= QUIET).then_some((follower.node, since))
    };
    Seen {
        leader: group.leader.and_then(|leader| u8::try_from(leader).ok()),
        term: group.term,
        quiet: group.followers.iter().filter_map(silence).collect(),
    }
}

fn sentences(before: &Seen, now: &Seen, me: u8) -> Vec<Sentence> {
    let mut said = Vec::new();
    if now.leader != before.leader || (now.leader.is_some() && now.term != before.term) {
        let was = before.leader.map_or_else(String::new, |was| format!("; before it was node {was}"));
        said.push(match now.leader {
            Some(leader) if leader == me => {
                Sentence::Good(format!("this node leads the site now (term {}){was}", now.term))
            }
            Some(leader) => {
                Sentence::Good(format!("node {leader} leads the site now (term {}){was}", now.term))
            }
            None => Sentence::Bad(format!(
                "the site has no leader{was}: nothing can be acknowledged until one is elected"
            )),
        });
    }
    for (node, since) in now.quiet.iter().filter(|(node, _)| !before.quiet.contains_key(node)) {
        said.push(Sentence::Bad(format!("node {node} has not answered since {} UTC", when::text(*since))));
    }
    // Who no longer leads does not know any more.
    if now.leader == Some(me) {
        for node in before.quiet.keys().filter(|node| !now.quiet.contains_key(node)) {
            said.push(Sentence::Good(format!("node {node} answers again")));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once() {
        let start = Seen::default();
        let elected = Seen { leader: Some(1), term: 1, quiet: BTreeMap::new() };
        assert_eq!(
            sentences(&start, &elected, 2),
            [Sentence::Good("node 1 leads the site now (term 1)".into())]
        );
        assert_eq!(sentences(&elected, &elected, 2), []);
        let again = Seen { leader: Some(2), term: 2, quiet: BTreeMap::new() };
        let told = sentences(&elected, &again, 2);
        assert_eq!(
            told,
            [Sentence::Good("this node leads the site now (term 2); before it was node 1".into())]
        );
        let quiet = Seen { quiet: BTreeMap::from([(1, 1_700_000_000)]), ..again.clone() };
        let told = sentences(&again, &quiet, 2);
        assert!(
            matches!(&told[..], [Sentence::Bad(text)] if text.starts_with("node 1 has not answered since ")),
            "{told:?}"
        );
        assert_eq!(sentences(&quiet, &quiet, 2), []);
        assert_eq!(sentences(&quiet, &again, 2), [Sentence::Good("node 1 answers again".into())]);
        let lost = Seen { leader: None, ..again.clone() };
        assert!(matches!(&sentences(&again, &lost, 2)[..], [Sentence::Bad(_)]));
    }
}
