//! J1: at most one session has witnesses accepted for the bucket at any epoch, and epochs strictly increase: in the
//! order in which the service decided, no epoch comes after a greater one, and none is granted twice.

use locking::SessionId;
use model::Epoch;

/// What the service decided, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A session was let in that did not hold the bucket before.
    Granted(Epoch, SessionId),
    Accepted(Epoch),
}

pub fn check(decisions: &[Decision]) -> Result<(), String> {
    let mut newest: Option<(Epoch, SessionId)> = None;
    for decision in decisions {
        match (*decision, newest) {
            (Decision::Granted(epoch, session), Some((held, holder)))
                if epoch < held || (epoch == held && session != holder) =>
            {
                return Err(format!("J1: epoch {epoch} was granted to session {session} after epoch {held}"));
            }
            (Decision::Granted(epoch, session), _) => newest = Some((epoch, session)),
            (Decision::Accepted(epoch), Some((held, _))) if epoch == held => {}
            (Decision::Accepted(epoch), _) => {
                return Err(format!("J1: a witness of epoch {epoch} was accepted, which holds nothing"));
            }
        }
    }
    Ok(())
}
