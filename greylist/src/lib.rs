//! Greylisting from the stream (RFC 6647): the parts that `greylist` and `greylistctl` share.

pub mod gate;
pub mod judge;
pub mod network;
pub mod normalise;
pub mod place;
pub mod rules;
pub mod settings;
pub mod store;
pub mod transaction;
pub mod triplet;
pub mod words;
