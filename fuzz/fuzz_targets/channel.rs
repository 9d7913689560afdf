#![no_main]
#[path = "../../starttls-wrap/src/channel.rs"]
#[allow(dead_code)]
mod channel;
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    channel::decodes_to_itself(input);
});
