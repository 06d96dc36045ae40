//! LOGIN: an obsolete mechanism (draft-murchison-sasl-login) that old clients know and no other.

use super::{Failure, Password, Step};

#[derive(Debug, Default)]
pub(super) struct Login {
    user: Option<String>,
}

impl Login {
    pub(super) fn ask(&self) -> Step {
        Step::Challenge(if self.user.is_none() { b"Username:".to_vec() } else { b"Password:".to_vec() })
    }

    pub(super) fn respond(&mut self, response: &[u8]) -> Step {
        let Ok(text) = std::str::from_utf8(response) else { return Step::Failed(Failure::Malformed) };
        if text.is_empty() || text.contains('\0') {
            return Step::Failed(Failure::Malformed);
        }
        match self.user.take() {
            Some(user) => Step::Verify { user, password: Password::new(text) },
            None => {
                self.user = Some(text.to_owned());
                self.ask()
            }
        }
    }
}
