//! The file that a runtime gets: what a net computes, without what the file says about it.
//!
//! A file may tell the dimensions of any value, and a runtime believes it: one that was told of a
//! dimension of a billion computes what depends on it while it reads the file. It may also hold
//! functions, which stand for operators of any name. Neither is needed to score a net, so a runtime
//! gets neither, nor names of operators, which could be taken for those of values.

use super::file::{Graph, Ports, damaged, read_port};
use super::wire::{Fields, Value, put, put_int};

/// Writes a file that was looked at anew, for a runtime.
///
/// # Errors
/// When it is damaged, which was seen before.
pub(super) fn clean(bytes: &[u8], graph: &Graph<'_>, ports: &Ports) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(bytes.len());
    for field in Fields(bytes) {
        match field.map_err(damaged)? {
            (1, Value::Int(version)) => put_int(1, version, &mut out),
            (7, Value::Bytes(bytes)) => put(7, &clean_graph(bytes, graph, ports)?, &mut out),
            (8, Value::Bytes(operators)) => put(8, operators, &mut out),
            _ => {}
        }
    }
    Ok(out)
}

fn clean_graph(bytes: &[u8], graph: &Graph<'_>, ports: &Ports) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(bytes.len());
    for field in Fields(bytes) {
        let (number, value) = field.map_err(damaged)?;
        let bytes = value.bytes();
        match number {
            1 => put(1, &clean_node(bytes)?, &mut out),
            2 | 5 => put(number, bytes, &mut out),
            // Old files list constants as inputs.
            11 if !graph.is_constant(&read_port(bytes)?.name) => put(11, bytes, &mut out),
            12 => {
                let port = read_port(bytes)?;
                if port.name == ports.output {
                    put(12, &without_dims(&port.name, port.element), &mut out);
                }
            }
            _ => {}
        }
    }
    Ok(out)
}

fn clean_node(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(bytes.len());
    for field in Fields(bytes) {
        if let (number @ (1 | 2 | 4 | 5 | 7), Value::Bytes(bytes)) = field.map_err(damaged)? {
            put(number, bytes, &mut out);
        }
    }
    Ok(out)
}

/// An output of which only the name and the element type are told.
fn without_dims(name: &str, element: u64) -> Vec<u8> {
    let (mut tensor, mut kind, mut port) = (Vec::new(), Vec::new(), Vec::new());
    put_int(1, element, &mut tensor);
    put(1, &tensor, &mut kind);
    put(1, name.as_bytes(), &mut port);
    put(2, &kind, &mut port);
    port
}
