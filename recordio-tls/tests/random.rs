//! Random sessions made of the words of three protocols and of TLS: none crashes, stalls or depends on how it is cut.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::expect_used)]

#[path = "common/property.rs"]
mod property;

/// What sessions are made of.
const WORDS: [&[u8]; 64] = [
    b"220 x\r\n",
    b"220-x\r\n",
    b"250 ok\r\n",
    b"250-CHUNKING\r\n",
    b"250 CHUNKING\r\n",
    b"354 go\r\n",
    b"334 \r\n",
    b"334 abcd\r\n",
    b"235 ok\r\n",
    b"535 5.7.8 no\r\n",
    b"421 bye\r\n",
    b"221 bye\r\n",
    b"EHLO x\r\n",
    b"MAIL FROM:<a@b>\r\n",
    b"RCPT TO:<c@d>\r\n",
    b"DATA\r\n",
    b"BDAT 3\r\n",
    b"BDAT 0 LAST\r\n",
    b"AUTH PLAIN abcd\r\n",
    b"AUTH LOGIN\r\n",
    b"abcd\r\n",
    b"*\r\n",
    b"STARTTLS\r\n",
    b"QUIT\r\n",
    b"NOOP\n",
    b"\r\n",
    b"\n",
    b"\r",
    b".",
    b".\r\n",
    b"\0",
    b"x",
    b"+OK\r\n",
    b"+OK <a@b>\r\n",
    b"-ERR no\r\n",
    b"+ abcd\r\n",
    b"USER u\r\n",
    b"PASS p w\r\n",
    b"APOP u d\r\n",
    b"STLS\r\n",
    b"RETR 1\r\n",
    b"LIST\r\n",
    b"CAPA\r\n",
    b"UIDL 1\r\n",
    b"* OK x\r\n",
    b"* BYE x\r\n",
    b"a OK x\r\n",
    b"a NO x\r\n",
    b"a LOGIN {3}\r\n",
    b"a LOGIN u {2+}\r\n",
    b"a AUTHENTICATE PLAIN\r\n",
    b"a STARTTLS\r\n",
    b"a IDLE\r\n",
    b"DONE\r\n",
    b"* 1 FETCH ({3}\r\n",
    b"a APPEND x {5}\r\n",
    b"\x16\x03\x01\x00\x05",
    b"\x01\x00\x00\x01x",
    b"\x15\x03\x03\x00\x02\x02\x28",
    b"\x14\x03\x03\x00\x01\x01",
    b"\x17\x03\x03\x00\x03abc",
    b"\x16\x03\x03",
    b"\x80\x2e\x01",
    b"\xff\x9b",
];

// "random bytes never crash or stall it"; what is seen is what was said, not how it came.
#[test]
fn random_sessions() {
    for seed in 0..30_000_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).expect("31 bits") % limit
        };
        let family = random(4) * 16;
        let mut input = Vec::new();
        for _ in 0..random(24) {
            let mut said = Vec::new();
            for _ in 0..=random(3) {
                // Mostly words of one protocol.
                let place = if random(6) == 0 { random(WORDS.len()) } else { family + random(16) };
                said.extend_from_slice(WORDS[place]);
            }
            input.push(u8::try_from(said.len() * 2 + random(2)).expect("short words"));
            input.extend_from_slice(&said);
        }
        property::holds_for(&input);
    }
}
