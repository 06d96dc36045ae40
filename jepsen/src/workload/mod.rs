//! What is done to a server, and what must be true of it afterwards.

pub mod bugs;
pub mod compare;
pub mod garbage;
pub mod kill;
pub mod load;
pub mod lock;
pub mod scale;
