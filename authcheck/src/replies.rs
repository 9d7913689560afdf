//! Every answer of the password process but MECHS, ENV, 334 and 235.

/// RFC 4954 6: also for logins that do not exist.
pub const FAILED: &str = "535 5.7.8 authentication failed";
/// RFC 4954 6: the fault is ours.
pub const UNAVAILABLE: &str = "454 4.7.0 temporary authentication failure";
/// RFC 4954 4: base64 or what is in it is wrong.
pub const MALFORMED: &str = "501 5.5.2 malformed authentication input";
/// RFC 4954 4: the client sent `*`.
pub const CANCELLED: &str = "501 5.7.0 authentication cancelled";
/// RFC 4954 4: a mechanism where the server speaks first.
pub const NO_INITIAL: &str = "501 5.7.0 this mechanism takes no initial response";
/// RFC 4954 4.
pub const NOT_OFFERED: &str = "504 5.5.4 mechanism not available";
/// RFC 4954 4: a line of more than 12,288 bytes.
pub const TOO_LONG: &str = "500 5.5.6 authentication line too long";
/// Not in the protocol on SASLFD.
pub const UNKNOWN: &str = "500 5.5.2 unrecognised";
