//! Passwords: records and their hashes, SASL, the password process; the only home of secrets of users.

pub mod attempt;
pub mod cram;
pub mod password;
pub mod record;
pub mod request;
pub mod scram;
pub mod secret;
pub mod store;
pub mod text;
pub mod verify;
