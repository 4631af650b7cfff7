#![no_main]

use disklease_fuzz::files::inspect as target;

libfuzzer_sys::fuzz_target!(
    init: disklease_fuzz::begin::begin(target::seeds),
    |data: &[u8]| target::run(data)
);
