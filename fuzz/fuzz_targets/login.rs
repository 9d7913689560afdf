#![no_main]
#[path = "../../authcheck/tests/common/property.rs"]
mod property;
libfuzzer_sys::fuzz_target!(|input: &[u8]| property::holds_for(input));
