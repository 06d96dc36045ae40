//! The owner on a simulated volume, with a real journal and a real Maildir.

mod changes;
mod crash;
mod faults;
mod late;
mod neighbours;
mod recovery;
mod stale;
mod undone;
mod world;
