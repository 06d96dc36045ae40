//! A site of several nodes in one process: forming, leaders that come and go, cuts, lost replies, lost disks.

mod disks;
mod failover;
mod forming;
mod frozen;
mod giving;
mod groups;
mod grpc;
mod harness;
mod lives;
mod members;
mod replay;
mod schedule;
