//! POP3: commands, status lines, and message text on its way out (RFC 1939, 2449, 2595, 3206, 5034).

mod command;
mod response;
mod secret;
mod text;

pub use command::{Auth, COMMAND_BYTES_MAX, Command, Syntax};
pub use response::{Code, Status, continuation};
pub use secret::Secret;
pub use text::{DotStuffer, Top};
