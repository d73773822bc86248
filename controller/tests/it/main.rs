//! Three voters in one process, on real sqlite files and real sockets, with links that can be cut.

mod broker;
mod election;
mod harness;
mod leases;
mod link;
mod moves;
