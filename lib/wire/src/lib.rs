//! SMTP as bytes: no input or output, no clock, no dependencies.
