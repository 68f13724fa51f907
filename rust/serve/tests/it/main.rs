//! The protocol against model clients, without I/O and over loopback.

mod ads;
mod client;
mod session_laws;
mod session_order;
mod session_table;
mod world;
