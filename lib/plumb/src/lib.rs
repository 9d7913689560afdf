//! Descriptors, processes, sandboxes and exit codes: the only home of unsafe code.
