//! A site of several nodes in one process: forming, leaders that come and go, cuts, lost replies, lost disks.

mod failover;
mod forming;
mod giving;
mod groups;
mod grpc;
mod harness;
mod members;
mod schedule;
