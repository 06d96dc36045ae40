//! Each reason for which the account does not do something, in the words of each protocol.
//!
//! No `_` arm: a new reason does not compile until every protocol has an answer. `Unknown` has no words in IMAP and
//! POP3: OK and NO would both be untrue, so the session hangs up. LMTP says 451: it promises nothing (L-CM2).

use account::Refused;
use codec::imap::Code;
use codec::pop3;

/// What IMAP says after the tag and `NO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImapNo {
    pub code: Option<Code>,
    pub text: String,
}

/// What LMTP says: reply code, enhanced code (RFC 3463), text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LmtpReply {
    pub code: u16,
    pub enhanced: &'static str,
    pub text: String,
}

/// What POP3 says after `-ERR`: extended code (RFC 2449, RFC 3206), text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pop3Err {
    pub code: Option<pop3::Code>,
    pub text: String,
}

/// Codes of RFC 5530 §3. `is_target`: the missing mailbox is where messages were to go (RFC 3501 §7.1 TRYCREATE).
/// `None`: hang up.
pub fn imap(refused: &Refused, is_target: bool) -> Option<ImapNo> {
    let (code, text) = match refused {
        Refused::NoMailbox(_) if is_target => (Some(Code::TryCreate), "Mailbox does not exist".to_owned()),
        Refused::NoMailbox(_) => (Some(Code::Nonexistent), "Mailbox does not exist".to_owned()),
        Refused::MailboxGone => (Some(Code::Nonexistent), "Mailbox was deleted".to_owned()),
        Refused::MailboxExists(_) => (Some(Code::AlreadyExists), "Mailbox exists already".to_owned()),
        Refused::CannotDo { why, .. } => (Some(Code::Cannot), (*why).to_owned()),
        Refused::BadName(error) => (Some(Code::Cannot), error.to_string()),
        Refused::Limit { .. } => (Some(Code::Limit), refused.to_string()),
        Refused::OverQuota { .. } => (Some(Code::OverQuota), "Quota exceeded".to_owned()),
        Refused::NoSpace(_) => {
            (Some(Code::Unavailable), "No space left for mail, nothing was done".to_owned())
        }
        Refused::Deposed => {
            (Some(Code::Unavailable), "Account has moved to another node, try again".to_owned())
        }
        Refused::NoMajority => {
            (Some(Code::Unavailable), "Read-only for now, nothing was done, try again".to_owned())
        }
        Refused::NotStored(_) => (Some(Code::Unavailable), "Storage failed, nothing was done".to_owned()),
        Refused::Unavailable(_) => (Some(Code::Unavailable), "Account is not available now".to_owned()),
        Refused::Unknown => return None,
    };
    Some(ImapNo { code, text })
}

/// 4xx where the same message may be accepted later, 5xx where it will not (RFC 5321 §4.2.1). After a 4xx of unknown
/// fate the MTA tries again, and the delivery key keeps it from being stored twice (L-CM2).
pub fn lmtp(refused: &Refused) -> LmtpReply {
    let (code, enhanced, text) = match refused {
        Refused::NoMailbox(_) => (550, "5.2.0", "No such mailbox".to_owned()),
        Refused::MailboxGone => (450, "4.2.0", "Mailbox was deleted, try again".to_owned()),
        Refused::MailboxExists(_) => (450, "4.2.0", "Mailbox exists already, try again".to_owned()),
        Refused::CannotDo { why, .. } => (550, "5.2.0", (*why).to_owned()),
        Refused::BadName(error) => (553, "5.1.3", error.to_string()),
        Refused::Limit { .. } => (452, "4.2.2", refused.to_string()),
        Refused::OverQuota { .. } => (552, "5.2.2", "Quota exceeded".to_owned()),
        Refused::NoSpace(_) => (452, "4.3.1", "No space left for mail".to_owned()),
        Refused::Deposed => (451, "4.3.2", "Account has moved to another node, try again".to_owned()),
        Refused::NoMajority => (451, "4.3.2", "Read-only for now, try again".to_owned()),
        Refused::NotStored(_) => (451, "4.3.0", "Storage failed, try again".to_owned()),
        Refused::Unavailable(_) => (451, "4.2.1", "Account is not available now, try again".to_owned()),
        Refused::Unknown => (451, "4.3.0", "Not known to be stored, try again".to_owned()),
    };
    LmtpReply { code, enhanced, text }
}

impl LmtpReply {
    /// A refusal that was worded at another node. An enhanced code that we would never say becomes its class.
    pub fn of(code: u16, enhanced: &str, text: String) -> Self {
        const KNOWN: [&str; 11] = [
            "4.2.0", "4.2.1", "4.2.2", "4.3.0", "4.3.1", "4.3.2", "5.1.1", "5.1.3", "5.2.0", "5.2.2", "5.3.4",
        ];
        let known = KNOWN.into_iter().find(|known| *known == enhanced);
        let class = if code / 100 == 5 { "5.0.0" } else { "4.0.0" };
        Self { code, enhanced: known.filter(|known| known[..1] == class[..1]).unwrap_or(class), text }
    }
}

/// `SYS/TEMP` where trying again can help (RFC 3206 §4). `None`: hang up.
pub fn pop3(refused: &Refused) -> Option<Pop3Err> {
    let (code, text) = match refused {
        Refused::NoMailbox(_) | Refused::MailboxGone => {
            (Some(pop3::Code::SysPerm), "There is no INBOX".to_owned())
        }
        Refused::MailboxExists(_) => (Some(pop3::Code::SysTemp), "Mailbox exists already".to_owned()),
        Refused::CannotDo { why, .. } => (Some(pop3::Code::SysPerm), (*why).to_owned()),
        Refused::BadName(error) => (Some(pop3::Code::SysPerm), error.to_string()),
        Refused::Limit { .. } => (Some(pop3::Code::SysTemp), refused.to_string()),
        Refused::OverQuota { .. } => (Some(pop3::Code::SysPerm), "Quota exceeded".to_owned()),
        Refused::NoSpace(_) => (Some(pop3::Code::SysTemp), "No space left, nothing was removed".to_owned()),
        Refused::Deposed => {
            (Some(pop3::Code::SysTemp), "Account has moved to another node, try again".to_owned())
        }
        Refused::NoMajority => {
            (Some(pop3::Code::SysTemp), "Read-only for now, nothing was removed, try again".to_owned())
        }
        Refused::NotStored(_) => {
            (Some(pop3::Code::SysTemp), "Storage failed, nothing was removed".to_owned())
        }
        Refused::Unavailable(_) => (Some(pop3::Code::SysTemp), "Account is not available now".to_owned()),
        Refused::Unknown => return None,
    };
    Some(Pop3Err { code, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_unknown_fate_is_neither_done_nor_refused() {
        assert_eq!(imap(&Refused::Unknown, false), None);
        assert_eq!(lmtp(&Refused::Unknown).code, 451);
        assert_eq!(pop3(&Refused::Unknown), None);
    }

    #[test]
    fn reasons_that_pass_are_temporary_everywhere() {
        let full = Refused::NoSpace(String::new());
        for refused in [Refused::Deposed, Refused::NoMajority, Refused::NotStored(String::new()), full] {
            assert_eq!(imap(&refused, true).unwrap().code, Some(Code::Unavailable));
            assert_eq!(lmtp(&refused).code / 100, 4);
            assert_eq!(pop3(&refused).unwrap().code, Some(pop3::Code::SysTemp));
        }
    }

    #[test]
    fn a_refusal_from_another_node_is_told_as_it_was_worded() {
        let ours = lmtp(&Refused::OverQuota { used_bytes: 1, limit_bytes: 1, message_bytes: 1 });
        assert_eq!(LmtpReply::of(ours.code, ours.enhanced, ours.text.clone()), ours);
        assert_eq!(LmtpReply::of(450, "9.9.9", String::new()).enhanced, "4.0.0");
        assert_eq!(LmtpReply::of(550, "4.2.0", String::new()).enhanced, "5.0.0");
    }

    #[test]
    fn a_missing_target_invites_to_create_it() {
        let refused = Refused::NoMailbox(model::MailboxName::inbox());
        assert_eq!(imap(&refused, true).unwrap().code, Some(Code::TryCreate));
        assert_eq!(imap(&refused, false).unwrap().code, Some(Code::Nonexistent));
    }
}
