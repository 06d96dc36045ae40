//! LMTP: commands, replies, and message text on its way in (RFC 2033, 5321, 3030, 1870, 6152, 6531).

mod command;
mod data;
mod path;
mod reply;

pub use command::{Body, COMMAND_BYTES_MAX, Command, Mail, Syntax};
pub use data::DataReader;
pub use path::{Address, BadAddress};
pub use reply::Reply;
