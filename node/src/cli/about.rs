//! Whose account a command is about, so that it runs where that account is.

use super::choose::{Chosen, Place, Whom, choose_in, find_in};
use super::exit::Failure;
use super::found::UserAndQuery;
use super::{Command, cluster};
use crate::serve::Running;

/// Whose account a command is about.
pub(crate) enum About<'a> {
    /// This node, or the site.
    Nobody,
    User(&'a str),
    /// One user or many, and the words among which the one stands.
    Chosen {
        whom: &'a Whom,
        words: &'a [String],
        place: Place,
        shape: Shape,
    },
}

/// What a command about many users prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A JSON object with an entry a user, whatever was asked for.
    Map,
    /// That with `--json`, else text.
    MapIfJson,
    List,
    ListIfJson,
}

impl Shape {
    /// The brackets around what all users' turns print; `None` for text.
    pub(crate) fn brackets(self, json: bool) -> Option<(char, char)> {
        match self {
            Self::Map => Some(('{', '}')),
            Self::List => Some(('[', ']')),
            Self::MapIfJson => json.then_some(('{', '}')),
            Self::ListIfJson => json.then_some(('[', ']')),
        }
    }
}

impl<'a> About<'a> {
    pub(crate) fn query(which: &'a UserAndQuery, shape: Shape) -> Self {
        About::Chosen { whom: &which.whom, words: &which.words, place: Place::First, shape }
    }

    /// Finds them; `None`: the command is about nobody's account.
    pub(crate) async fn find(&self, running: &Running) -> Result<Option<Chosen>, Failure> {
        match self {
            Self::Nobody => Ok(None),
            Self::User(user) => {
                let users = vec![find_in(running, user).await?];
                Ok(Some(Chosen { users, many: false, rest: Vec::new() }))
            }
            Self::Chosen { whom, words, place, .. } => {
                choose_in(running, whom, words, *place).await.map(Some)
            }
        }
    }
}

impl Command {
    pub(crate) fn about(&self) -> About<'_> {
        match self {
            Self::Mailbox(command) => command.about(),
            Self::Fetch(args) => args.about(),
            Self::Search(args) => args.about(),
            Self::Expunge(args) => args.about(),
            Self::Move(args) => args.about(),
            Self::Flags(command) => command.about(),
            Self::Save(args) => args.about(),
            Self::Dump(args) => args.about(),
            Self::Verify(args) => args.about(),
            Self::Journal(command) => command.about(),
            Self::Index(command) => command.about(),
            Self::Explain(args) => args.about(),
            Self::Uid(command) => command.about(),
            Self::Demo(_)
            | Self::Serve(_)
            | Self::Config(_)
            | Self::Doctor(_)
            | Self::Pw(_)
            | Self::Auth(_)
            | Self::Who(_)
            | Self::Kick(_)
            | Self::Stats(_)
            | Self::Lock(_)
            | Self::Cluster(_)
            | Self::Completions(_)
            | Self::Man(_) => About::Nobody,
        }
    }

    /// Whether a node tells its own part of it to another one that was asked.
    pub(crate) fn has_parts(&self) -> bool {
        match self {
            Self::Who(_) | Self::Kick(_) => true,
            Self::Cluster(command) => matches!(command, cluster::ClusterCommand::Status),
            Self::Demo(_)
            | Self::Serve(_)
            | Self::Config(_)
            | Self::Doctor(_)
            | Self::Pw(_)
            | Self::Auth(_)
            | Self::Mailbox(_)
            | Self::Fetch(_)
            | Self::Search(_)
            | Self::Expunge(_)
            | Self::Move(_)
            | Self::Flags(_)
            | Self::Save(_)
            | Self::Dump(_)
            | Self::Verify(_)
            | Self::Journal(_)
            | Self::Index(_)
            | Self::Stats(_)
            | Self::Explain(_)
            | Self::Lock(_)
            | Self::Uid(_)
            | Self::Completions(_)
            | Self::Man(_) => false,
        }
    }
}
