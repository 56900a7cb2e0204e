//! Reads captures as often as asked and says how long a frame takes.
//!
//! `cargo run --release -p serveflow-io --example read_speed -- 5 capture.pcap`

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use serveflow_io::{Batch, FileSource, InputSet, Source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().ok_or("how many rounds, and which files?")?.parse()?;
    let paths: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let files = InputSet::find(&paths)?.paths();
    let mut batch = Batch::new();
    for _ in 0..rounds {
        let mut source = FileSource::new(files.clone());
        let (mut frames, mut bytes) = (0usize, 0usize);
        let start = Instant::now();
        loop {
            match source.fill(&mut batch, 1024)? {
                0 => break,
                count => frames += count,
            }
            bytes += batch.iter().map(|packet| packet.data.len()).sum::<usize>();
        }
        let elapsed = start.elapsed();
        writeln!(
            io::stdout(),
            "{frames} frames, {bytes} bytes, {:.1} ns a frame, {:.2} GB/s",
            elapsed.as_nanos() as f64 / frames.max(1) as f64,
            bytes as f64 / elapsed.as_nanos().max(1) as f64
        )?;
    }
    Ok(())
}
