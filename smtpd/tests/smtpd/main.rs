//! The program itself, on pipes and with queue programs of a few lines.
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::unwrap_used)]
#![allow(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]

mod check;
mod place;
mod queue;
mod session;
mod settings;
mod tls;
