//! Random bytes from the kernel, by its system call: a locked-in process can open no device.

use std::io;

use nix::errno::Errno;

/// Fills `bytes`; waits only where the machine has just started and the kernel has none yet.
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: the pointer and the length are those of a slice that may be written.
        let filled = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match Errno::result(filled) {
            Err(Errno::EINTR) => {}
            filled => rest = rest.get_mut(filled?.unsigned_abs()..).unwrap_or_default(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_filled_and_never_twice_the_same() {
        let (mut one, mut other) = ([0; 1_000], [0; 1_000]);
        fill(&mut one).unwrap();
        fill(&mut other).unwrap();
        assert_ne!(one, other);
        // 8 zeroes in a row: once in 10^16 runs.
        assert!(one.chunks(8).all(|part| part != [0; 8]));
    }
}
