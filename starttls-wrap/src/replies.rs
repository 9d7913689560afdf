//! Every reply that starttls-wrap itself can give.

/// STARTTLS is granted; the next bytes are TLS (RFC 3207 4).
pub const READY: &[u8] = b"220 2.0.0 ready for tls\r\n";
/// SIGTERM (RFC 5321 3.8).
pub const SHUTTING_DOWN: &[u8] = b"421 4.3.2 shutting down\r\n";
/// The program is gone, never came, or said what no command explains.
pub const PROGRAM_GONE: &[u8] = b"421 4.3.0 service not available\r\n";
/// The settings contradict each other, or ask for what this machine has not.
pub const MISCONFIGURED: &[u8] = b"421 4.3.5 server misconfigured\r\n";
/// Nobody said anything for too long.
pub const TIMEOUT: &[u8] = b"421 4.4.2 timeout\r\n";
/// The key pair cannot be used now (RFC 3207 4).
pub const TLS_UNAVAILABLE: &[u8] = b"454 4.7.0 TLS not available at the moment\r\n";
/// A line that two readers could see differently (RFC 5321 2.3.8, 4.1.2).
pub const BAD_LINE: &[u8] = b"500 5.5.2 a line ends with CRLF and has no other CR, LF or NUL\r\n";
/// A line over the limit (RFC 4954 4: 5.5.6 for AUTH exchanges).
pub const LINE_TOO_LONG: &[u8] = b"500 5.5.6 line too long\r\n";
/// An unknown verb after a refused AUTH: it may be a password.
pub const UNRECOGNISED: &[u8] = b"500 5.5.2 unrecognised\r\n";
/// STARTTLS takes no argument (RFC 3207 4).
pub const STARTTLS_ARGUMENT: &[u8] = b"501 5.5.4 STARTTLS takes no argument\r\n";
/// The size of a chunk cannot be read, so its octets cannot be told from commands.
pub const BAD_CHUNK: &[u8] = b"501 5.5.4 malformed BDAT\r\n";
/// STARTTLS where there is none to be had.
pub const STARTTLS_UNKNOWN: &[u8] = b"502 5.5.1 STARTTLS not available\r\n";
/// STARTTLS inside TLS (RFC 3207 4.2).
pub const TLS_ALREADY: &[u8] = b"503 5.5.1 TLS is on already\r\n";
/// STARTTLS with -k where the program could not forget what came before.
pub const STARTTLS_TOO_LATE: &[u8] = b"503 5.5.1 STARTTLS comes before MAIL and AUTH\r\n";
/// Bytes behind STARTTLS, before its reply (CVE-2011-0411).
pub const INJECTION: &[u8] = b"503 5.5.1 nothing may follow STARTTLS before its reply\r\n";
/// AUTH where there is none to be had.
pub const AUTH_UNKNOWN: &[u8] = b"503 5.5.1 auth not available\r\n";
/// BDAT although the program offers no CHUNKING (RFC 3030 2).
pub const NO_CHUNKING: &[u8] = b"503 5.5.1 BDAT not available\r\n";
/// Before TLS where TLS is required (RFC 3207 4).
pub const STARTTLS_FIRST: &[u8] = b"530 5.7.0 Must issue a STARTTLS command first\r\n";
/// MAIL before AUTH where AUTH is required (RFC 4954 6).
pub const AUTH_FIRST: &[u8] = b"530 5.7.0 Authentication required\r\n";
/// AUTH in clear where it needs TLS.
pub const AUTH_NEEDS_TLS: &[u8] = b"538 5.7.11 auth not available without TLS\r\n";
/// Some smtpd would have ended the message somewhere else.
pub const AMBIGUOUS_END: &[u8] = b"550 5.5.2 ambiguous end of data\r\n";
/// REQUIRETLS, which was not offered, where it cannot be kept (RFC 8689 2, RFC 5321 4.1.1.11).
pub const REQUIRETLS_IN_CLEAR: &[u8] = b"555 5.5.4 REQUIRETLS needs TLS\r\n";
