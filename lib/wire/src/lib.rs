//! SMTP as bytes: no input or output, no clock, no dependencies.
//!
//! Every reader of the stream in this project, whether it serves, relays or records,
//! learns from here where a line, a reply and a message end.

mod body;
mod client;
mod command;
mod dialogue;
mod line;
mod path;
#[cfg(feature = "properties")]
pub mod properties;
mod reply;
mod scan;

pub use body::{Body, Decoder, Verdict};
pub use client::{BadLine, ClientStream, FromClient};
pub use command::{Command, Verb, chunk};
pub use dialogue::{Asked, Dialogue, Expect, FromServer, PIPELINE_LIMIT};
pub use line::{Line, LineReader};
pub use path::{BadPath, Parameter, domain, literal, parameters, path};
pub use reply::ReplyLine;
pub use scan::find_line_end;
