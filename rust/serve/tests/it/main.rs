//! The protocol against model clients, without I/O and over loopback.

#[cfg(test)]
mod ads;
#[cfg(test)]
mod client;
#[cfg(test)]
mod epoch;
#[cfg(test)]
mod incremental;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod session_laws;
#[cfg(test)]
mod session_order;
#[cfg(test)]
mod session_pieces;
#[cfg(test)]
mod session_table;
#[cfg(test)]
mod world;
