//! Lines that wait for the reader of the log: bounded, given out whole, lost ones counted.

/// What becomes of lines for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// The first lines are written as soon as they can be; those that come when the queue is full are lost.
    #[default]
    First,
    /// The last lines are kept until they are asked for; when the queue is full, the oldest are lost.
    Last,
    /// All of them: when the queue is full, the session waits for the reader (-w).
    All,
}

/// Lines that wait, and how many did not fit.
#[derive(Debug)]
pub struct Queue {
    keep: Keep,
    lines: Vec<u8>,
    start: usize,
    lost: usize,
    mark: Vec<u8>,
}

impl Queue {
    /// A queue with nothing in it.
    pub fn new(keep: Keep) -> Queue {
        Queue { keep, lines: Vec::new(), start: 0, lost: 0, mark: Vec::new() }
    }

    /// Whether lines may pass by.
    pub fn is_idle(&self) -> bool {
        self.keep != Keep::Last && self.waiting() == 0 && self.lost == 0
    }

    /// Whether the session must wait for the reader.
    pub fn is_full(&self) -> bool {
        self.keep == Keep::All && self.waiting() > LIMIT
    }

    /// Takes whole lines; `mark` is what stands before `[LOST n]`, which counts those that do not fit, told in place of the first of them.
    pub fn add(&mut self, lines: &[u8], mark: &[u8]) {
        self.forget_written();
        if self.lost == 0 {
            self.mark.clear();
            self.mark.extend_from_slice(mark);
        }
        match self.keep {
            Keep::First => {
                let room = LIMIT.saturating_sub(self.waiting());
                let fits = through_last_lf(lines.get(..room).unwrap_or(lines));
                if !fits.is_empty() {
                    self.tell_lost();
                }
                self.lines.extend_from_slice(fits);
                self.lost =
                    self.lost.saturating_add(count_lf(lines).saturating_sub(count_lf(fits)));
            }
            Keep::Last => {
                self.lines.extend_from_slice(lines);
                self.drop_oldest();
            }
            Keep::All => self.lines.extend_from_slice(lines),
        }
    }

    /// The next lines to write.
    pub fn next(&self) -> &[u8] {
        match self.keep {
            Keep::First | Keep::All => {
                whole_lines(self.lines.get(self.start..).unwrap_or_default())
            }
            Keep::Last => &[],
        }
    }

    /// So many bytes of them are done with.
    pub fn wrote(&mut self, count: usize) {
        self.start = self.start.saturating_add(count);
    }

    /// From here on nothing is kept back (the last lines come first, behind a count of those that are lost).
    pub fn release(&mut self) {
        if self.keep == Keep::Last {
            self.keep = Keep::First;
            let kept = self.lines.split_off(self.start.min(self.lines.len()));
            self.lines.clear();
            self.start = 0;
            self.tell_lost();
            self.lines.extend_from_slice(&kept);
        }
    }

    /// Says how many were lost, where somebody listens.
    pub fn tell_lost(&mut self) {
        if self.lost > 0 && self.keep == Keep::First {
            self.lines.extend_from_slice(&self.mark);
            self.lines.extend_from_slice(format!("[LOST {}]\n", self.lost).as_bytes());
            self.lost = 0;
        }
    }

    fn waiting(&self) -> usize {
        self.lines.len().saturating_sub(self.start)
    }

    fn drop_oldest(&mut self) {
        let surplus = self.waiting().saturating_sub(LIMIT);
        let rest = self.lines.get(self.start..).unwrap_or_default();
        if surplus == 0 {
            return;
        }
        let tail = rest.get(surplus.saturating_sub(1)..).unwrap_or_default();
        let more = tail.iter().position(|&byte| byte == b'\n').unwrap_or(tail.len());
        let dropped = surplus.saturating_add(more);
        self.lost = self.lost.saturating_add(count_lf(rest.get(..dropped).unwrap_or(rest)));
        self.start = self.start.saturating_add(dropped);
        self.forget_written();
    }

    fn forget_written(&mut self) {
        if self.start > LIMIT || self.waiting() == 0 {
            self.lines.drain(..self.start.min(self.lines.len()));
            self.start = 0;
        }
    }
}

/// As many whole lines as one write may take.
pub fn whole_lines(lines: &[u8]) -> &[u8] {
    let most = lines.get(..ATOMIC).unwrap_or(lines);
    match through_last_lf(most) {
        // The rest of a line of which a write took only a part.
        [] => most,
        whole => whole,
    }
}

fn through_last_lf(lines: &[u8]) -> &[u8] {
    let end = lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at.saturating_add(1));
    lines.get(..end).unwrap_or_default()
}

fn count_lf(lines: &[u8]) -> usize {
    lines.iter().filter(|&&byte| byte == b'\n').count()
}

/// Most bytes of one write: PIPE_BUF, below which lines of many processes on one pipe never mix.
pub const ATOMIC: usize = 4_096;

/// Most bytes that wait for the reader of the log, or are kept for a bad end: four pipes full.
pub const LIMIT: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    fn line(number: usize) -> Vec<u8> {
        format!("{number:0>99}\n").into_bytes()
    }

    /// What a reader of the whole queue gets, in writes of their own size.
    fn read_all(queue: &mut Queue) -> Vec<Vec<u8>> {
        let mut writes = Vec::new();
        loop {
            let next = queue.next().to_vec();
            if next.is_empty() {
                return writes;
            }
            queue.wrote(next.len());
            writes.push(next);
        }
    }

    // DESIGN 3: at most 4,000 bytes a line, one write(2); pipe(7): at most PIPE_BUF is atomic.
    #[test]
    fn writes_are_whole_lines_within_pipe_buf() {
        let mut queue = Queue::new(Keep::First);
        let lines: Vec<u8> = (0..1000).flat_map(line).collect();
        queue.add(&lines, b"- ");
        let writes = read_all(&mut queue);
        assert_eq!(writes.concat(), lines);
        assert!(writes.iter().all(|write| write.len() <= 4096 && write.ends_with(b"\n")));
        assert!(writes.len() <= 25);
    }

    // A stalled log loses lines, counts them and goes on.
    #[test]
    fn a_full_queue_loses_new_lines_and_says_how_many() {
        let mut queue = Queue::new(Keep::First);
        let fitting = LIMIT / 100;
        (0..fitting + 7).for_each(|number| queue.add(&line(number), b"- "));
        assert!(queue.lines.len() <= LIMIT);
        let first = read_all(&mut queue).concat();
        assert_eq!(first, (0..fitting).flat_map(line).collect::<Vec<u8>>());
        queue.add(&line(1), b"p - ");
        let second = read_all(&mut queue).concat();
        assert_eq!(second, [b"- [LOST 7]\n", &line(1)[..]].concat());
    }

    #[test]
    fn one_block_that_does_not_fit_is_cut_at_a_line() {
        let mut queue = Queue::new(Keep::First);
        let lines: Vec<u8> = (0..LIMIT / 100 + 3).flat_map(line).collect();
        queue.add(&lines, b"- ");
        queue.tell_lost();
        let read = read_all(&mut queue).concat();
        assert_eq!(&read[..LIMIT / 100 * 100], &lines[..LIMIT / 100 * 100]);
        assert_eq!(&read[LIMIT / 100 * 100..], b"- [LOST 3]\n");
    }

    // -e: the end of the story is kept, the beginning lost.
    #[test]
    fn the_ring_keeps_the_last_lines() {
        let mut queue = Queue::new(Keep::Last);
        let count = LIMIT / 100 * 5 + 3;
        (0..count).for_each(|number| queue.add(&line(number), b"- "));
        assert!(queue.next().is_empty());
        assert!(queue.lines.len() <= 3 * LIMIT);
        queue.release();
        let read = read_all(&mut queue).concat();
        let kept = LIMIT / 100;
        let mut expected = format!("- [LOST {}]\n", count - kept).into_bytes();
        expected.extend((count - kept..count).flat_map(line));
        assert_eq!(read, expected);
    }

    #[test]
    fn memory_stays_flat_behind_a_slow_reader() {
        let mut queue = Queue::new(Keep::First);
        for number in 0..100_000 {
            queue.add(&line(number), b"- ");
            let next = queue.next().len().min(150);
            queue.wrote(next);
            assert!(queue.lines.capacity() <= 4 * LIMIT);
        }
    }

    // -w: nothing is lost, and the session is told to wait.
    #[test]
    fn a_full_queue_that_loses_nothing_says_so() {
        let mut queue = Queue::new(Keep::All);
        let count = LIMIT / 100 * 2;
        (0..count).for_each(|number| queue.add(&line(number), b"- "));
        assert!(queue.is_full());
        assert_eq!(read_all(&mut queue).concat(), (0..count).flat_map(line).collect::<Vec<u8>>());
        assert!(!queue.is_full() && queue.is_idle());
    }
}
