//! How a command ends: sysexits, and a sentence for who typed it.

use std::io::Write as _;
use std::process::ExitCode;

use account::Refused;
use account::reader::ReadError;

/// Exit codes, as sysexits(3) names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    /// What was examined can lose mail.
    Refused,
    Usage,
    /// What was looked at is damaged, or what was asked cannot be.
    Data,
    NoUser,
    /// No such mailbox, message or node.
    NotFound,
    Software,
    CannotCreate,
    Disk,
    TryAgain,
    NotPermitted,
    Config,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Refused => 1,
            Self::Usage => 64,
            Self::Data => 65,
            Self::NoUser => 67,
            Self::NotFound => 68,
            Self::Software => 70,
            Self::CannotCreate => 73,
            Self::Disk => 74,
            Self::TryAgain => 75,
            Self::NotPermitted => 77,
            Self::Config => 78,
        }
    }
}

impl Exit {
    const ALL: [Self; 12] = [
        Self::Ok,
        Self::Refused,
        Self::Usage,
        Self::Data,
        Self::NoUser,
        Self::NotFound,
        Self::Software,
        Self::CannotCreate,
        Self::Disk,
        Self::TryAgain,
        Self::NotPermitted,
        Self::Config,
    ];

    /// How a command ended elsewhere.
    pub(crate) fn from_code(code: u8) -> Result<Self, Failure> {
        let known = Self::ALL.into_iter().find(|exit| exit.code() == code);
        known.ok_or_else(|| Failure::new(Self::Software, format!("the node ended the command with {code}")))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Prints. A reader that has gone, such as `head`, has read enough.
pub(crate) fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The same on standard error.
pub(crate) fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn try_again(message: impl Into<String>) -> Self {
        Self::new(Exit::TryAgain, message)
    }

    pub(crate) fn no_user(user: &str) -> Self {
        Self::new(Exit::NoUser, format!("there is no user {user}"))
    }

    pub(crate) fn no_mailbox(name: &str) -> Self {
        Self::new(Exit::NotFound, format!("no mailbox {name}"))
    }

    /// Says it, and returns the code to end with.
    pub(crate) fn tell(&self) -> Exit {
        complain(format_args!("roost: {}", self.message));
        self.exit
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let exit = match &refused {
            Refused::NoMailbox(_) | Refused::MailboxGone => Exit::NotFound,
            Refused::MailboxExists(_)
            | Refused::Limit { .. }
            | Refused::OverQuota { .. }
            | Refused::NoSpace(_) => Exit::CannotCreate,
            Refused::CannotDo { .. } => Exit::Data,
            Refused::BadName(_) => Exit::Usage,
            Refused::NotStored(_) => Exit::Disk,
            Refused::Deposed | Refused::NoMajority | Refused::Unknown | Refused::Unavailable(_) => {
                Exit::TryAgain
            }
        };
        Self::new(exit, refused.to_string())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let exit = match &error {
            ReadError::Gone => Exit::NotFound,
            ReadError::Failed(_) => Exit::Disk,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<nfs_compat::Error> for Failure {
    fn from(error: nfs_compat::Error) -> Self {
        Self::new(Exit::Disk, error.to_string())
    }
}

impl From<rpc::admin::HungUp> for Failure {
    fn from(hung_up: rpc::admin::HungUp) -> Self {
        Self::try_again(hung_up.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Disk, error.to_string())
    }
}

impl From<tokio::task::JoinError> for Failure {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::new(Exit::Software, format!("the command died: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_sysexits() {
        assert_eq!(Exit::Usage.code(), 64);
        assert_eq!(Failure::no_user("x").exit.code(), 67);
        assert_eq!(Failure::from(Refused::Unknown).exit.code(), 75);
        assert_eq!(Failure::from(Refused::NoSpace("full".into())).exit.code(), 73);
        assert_eq!(Failure::from(Refused::MailboxExists(model::MailboxName::inbox())).exit.code(), 73);
    }
}
