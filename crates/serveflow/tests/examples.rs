//! The examples do what they say: each checks its own result.

#[path = "../examples/embed.rs"]
mod embed;
#[path = "../examples/own_encoder.rs"]
mod own_encoder;
#[path = "../examples/own_sink.rs"]
mod own_sink;

use std::error::Error;

#[test]
fn embed_counts_each_flow_of_the_sample_once() -> Result<(), Box<dyn Error>> {
    embed::main()
}

#[test]
fn own_encoder_tells_uploads_from_downloads() -> Result<(), Box<dyn Error>> {
    own_encoder::main()
}

#[test]
fn own_sink_writes_a_line_for_each_flow() -> Result<(), Box<dyn Error>> {
    own_sink::main()
}
