//! Laws of the encoded world.

mod diff;
mod snapshot;
