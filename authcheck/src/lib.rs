//! Passwords: records and their hashes, SASL, the password process; the only home of secrets of users.

pub mod attempt;
pub mod checkpassword;
pub mod cost;
pub mod cram;
pub mod delegate;
pub mod facts;
pub mod lines;
pub mod md5crypt;
pub mod password;
pub mod record;
pub mod replies;
pub mod request;
pub mod sasl;
pub mod scram;
pub mod secret;
pub mod server;
pub mod service;
pub mod store;
pub mod text;
pub mod verify;
