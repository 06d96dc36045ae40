//! The state under concurrent sites: the conflict table row by row, all interleavings of short histories, random long
//! ones, and garbage.

mod garbage;
mod histories;
mod pairs;
mod sites;
mod table;
