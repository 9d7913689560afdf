//! The list of system calls beyond which lies death, as a program that the kernel runs before each call.

use std::collections::BTreeMap;
use std::io;

use libc::sock_filter;
use nix::errno::Errno;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Kill,
    /// mmap and mprotect, but not for memory that is code.
    NoCode,
    /// fcntl, but only F_GETFD.
    FlagsOnly,
}

/// Kills this process at any call that is not among `calls`; besides, mmap and mprotect may be used for what is
/// not code, and fcntl for F_GETFD, which std asks in debug builds before it closes a descriptor.
///
/// # Errors
/// Those of seccomp(2); no_new_privs must be set.
pub(crate) fn allow_only(calls: &[i64]) -> io::Result<()> {
    let filter = filter(calls)?;
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut(),
    };
    let (mode, flags, program) = (libc::SECCOMP_SET_MODE_FILTER, 0_u32, &raw const program);
    // SAFETY: the kernel only reads the instructions, and both live until the call has returned.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, program) })?;
    Ok(())
}

fn filter(calls: &[i64]) -> io::Result<Vec<sock_filter>> {
    let ranges = ranges(calls)?;
    let mut tree = Vec::new();
    decide(&ranges, ranges.len().saturating_sub(1), &mut tree)?;
    let kill = ret(libc::SECCOMP_RET_KILL_PROCESS);
    let allow = ret(libc::SECCOMP_RET_ALLOW);
    let head = [load(ARCH), jump(libc::BPF_JEQ, AUDIT_ARCH, 1, 0), kill, load(NUMBER)];
    // In the order of Verdict::place.
    let ends = [
        allow,
        kill,
        load(argument(2)),
        jump(libc::BPF_JSET, libc::PROT_EXEC.unsigned_abs(), 1, 0),
        allow,
        kill,
        load(argument(1)),
        jump(libc::BPF_JEQ, libc::F_GETFD.unsigned_abs(), 0, 1),
        allow,
        kill,
    ];
    Ok([&head[..], &tree, &ends].concat())
}

/// From which number on which verdict holds, in order, beginning at 0.
fn ranges(calls: &[i64]) -> io::Result<Vec<(u32, Verdict)>> {
    let some = [
        (libc::SYS_mmap, Verdict::NoCode),
        (libc::SYS_mprotect, Verdict::NoCode),
        (libc::SYS_fcntl, Verdict::FlagsOnly),
    ];
    let all = calls.iter().map(|&call| (call, Verdict::Allow));
    let mut verdicts = BTreeMap::new();
    for (call, verdict) in some.into_iter().chain(all) {
        verdicts.insert(u32::try_from(call).map_err(io::Error::other)?, verdict);
    }
    let mut starts = BTreeMap::from([(0, Verdict::Kill)]);
    for (call, verdict) in verdicts {
        starts.insert(call, verdict);
        starts.insert(call.saturating_add(1), Verdict::Kill);
    }
    let mut ranges: Vec<_> = starts.into_iter().collect();
    ranges.dedup_by_key(|(_, verdict)| *verdict);
    Ok(ranges)
}

/// A binary search over the ranges: one comparison for each border between two, `total` in all. The kernel
/// runs it for every number once, when it is given it, so that a short way through it counts.
fn decide(ranges: &[(u32, Verdict)], total: usize, tree: &mut Vec<sock_filter>) -> io::Result<()> {
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (Some(_), Some((border, _))) = (low.first(), high.first()) else { return Ok(()) };
    let after = total.saturating_sub(tree.len()).saturating_sub(1);
    let distance = |half: &[(u32, Verdict)], next: usize| {
        let there = match half {
            [(_, verdict)] => after.saturating_add(verdict.place()),
            _ => next,
        };
        u8::try_from(there).map_err(io::Error::other)
    };
    let comparisons_in_low = low.len().saturating_sub(1);
    let (to_high, to_low) = (distance(high, comparisons_in_low)?, distance(low, 0)?);
    tree.push(jump(libc::BPF_JGE, *border, to_high, to_low));
    decide(low, total, tree)?;
    decide(high, total, tree)
}

impl Verdict {
    /// How many instructions behind the tree it begins.
    fn place(self) -> usize {
        match self {
            Verdict::Allow => 0,
            Verdict::Kill => 1,
            Verdict::NoCode => 2,
            Verdict::FlagsOnly => 6,
        }
    }
}

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn jump(comparison: u32, with: u32, yes: u8, no: u8) -> sock_filter {
    instruction(libc::BPF_JMP | comparison | libc::BPF_K, with, yes, no)
}

fn ret(verdict: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, verdict, 0, 0)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    let [low, high, ..] = code.to_le_bytes();
    sock_filter { code: u16::from_le_bytes([low, high]), jt, jf, k }
}

/// The low half of an argument of struct seccomp_data, on little-endian machines.
const fn argument(index: u32) -> u32 {
    ARGUMENTS.saturating_add(index.saturating_mul(8))
}

/// Offsets in struct seccomp_data (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// linux/audit.h; the x32 ABI has the same, and numbers from 0x4000_0000 on.
#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const AUDIT_ARCH: u32 = 0xc000_00f3;

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    /// What the kernel would do with a call; and after how many instructions.
    fn run(filter: &[sock_filter], number: u32, arch: u32, arguments: [u32; 6]) -> (u32, usize) {
        let (mut at, mut loaded) = (0, 0);
        for steps in 1.. {
            let sock_filter { code, jt, jf, k } = filter[at];
            at += 1;
            loaded = match u32::from(code) & 0x7 {
                libc::BPF_RET => return (k, steps),
                libc::BPF_LD => match k {
                    NUMBER => number,
                    ARCH => arch,
                    _ => arguments[usize::try_from((k - ARGUMENTS) / 8).unwrap()],
                },
                _ => {
                    let holds = match u32::from(code) & 0xf0 {
                        libc::BPF_JEQ => loaded == k,
                        libc::BPF_JGE => loaded >= k,
                        _ => loaded & k != 0,
                    };
                    at += usize::from(if holds { jt } else { jf });
                    loaded
                }
            };
        }
        unreachable!()
    }

    fn allowed(filter: &[sock_filter], number: i64, arguments: [u32; 6]) -> bool {
        let verdict = run(filter, u32::try_from(number).unwrap(), AUDIT_ARCH, arguments).0;
        assert!([libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_KILL_PROCESS].contains(&verdict));
        verdict == libc::SECCOMP_RET_ALLOW
    }

    #[test]
    fn every_number_has_its_verdict() {
        let some = [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_fcntl];
        // Lists that look random, with neighbours and gaps, from none at all to the longest that a program has.
        let mut dice: u64 = 7;
        for count in 0..80 {
            let calls: Vec<i64> = (0..count)
                .map(|_| {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    i64::try_from(dice >> 55).unwrap()
                })
                .collect();
            let filter = filter(&calls).unwrap();
            for number in 0..600 {
                let listed = calls.contains(&number);
                let only_so = some.contains(&number);
                assert_eq!(allowed(&filter, number, [u32::MAX; 6]), listed, "{number} {calls:?}");
                assert_eq!(allowed(&filter, number, [1; 6]), listed || only_so, "{number}");
            }
            for number in [0x4000_0000, u32::MAX] {
                let verdict = run(&filter, number, AUDIT_ARCH, [0; 6]).0;
                assert_eq!(verdict, libc::SECCOMP_RET_KILL_PROCESS);
            }
            let foreign = run(&filter, 0, AUDIT_ARCH ^ 1, [0; 6]).0;
            assert_eq!(foreign, libc::SECCOMP_RET_KILL_PROCESS);
        }
    }

    #[test]
    fn a_search_takes_few_steps() {
        let calls: Vec<i64> = (0..64).map(|n| n * 5).collect();
        let filter = filter(&calls).unwrap();
        let steps = (0..400).map(|number| run(&filter, number, AUDIT_ARCH, [0; 6]).1).max();
        // 128 ranges are 7 or 8 comparisons, with architecture, number and verdict.
        assert!(steps <= Some(15), "{steps:?}");
    }

    /// Numbers that do not exist, and more ranges than a jump is wide.
    #[test]
    fn what_cannot_be_a_list_is_an_error() {
        assert!(filter(&[-1]).is_err());
        assert!(filter(&(0..400).map(|n| n * 2).collect::<Vec<_>>()).is_err());
    }
}
