//! Connections that are idle, slow, lying or garbage leave the server serving others.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Server, wait_until};

/// The server answers a newcomer, by the tool of this project.
fn serves(server: &Server) {
    let listed = server.tool(&["topic", "list"]);
    assert!(listed.contains("served"), "{listed}");
}

/// The connection was closed by the server without an answer.
fn was_closed(socket: &mut TcpStream) -> bool {
    let mut buffer = [0; 64];
    matches!(socket.read(&mut buffer), Ok(0) | Err(_))
}

/// A Produce of `bytes` of padding would do as well; a Metadata request is enough to be answered.
fn metadata_request(correlation: i32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(3i16.to_be_bytes());
    body.extend(1i16.to_be_bytes());
    body.extend(correlation.to_be_bytes());
    body.extend((-1i16).to_be_bytes());
    body.extend((-1i32).to_be_bytes());
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

#[test]
fn garbage_and_lying_lengths_cost_one_connection() {
    let (_dir, server) = Server::fresh();
    server.tool(&["topic", "create", "served"]);
    let before = server.resident_bytes();
    let inputs: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &[0xff; 64],
        &0x7fff_ffffu32.to_be_bytes(),
        &0x8000_0000u32.to_be_bytes(),
        &0u32.to_be_bytes(),
        // An unknown API key in a well-formed frame.
        &[0, 0, 0, 10, 0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        // Metadata whose topic array claims 2^31-1 entries.
        &[
            0, 0, 0, 14, 0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff,
        ],
    ];
    for input in inputs {
        let mut socket = server.socket();
        socket.write_all(input).unwrap();
        assert!(was_closed(&mut socket), "{input:?} was answered");
        serves(&server);
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "memory grew by {grown} bytes");
}

#[test]
fn idle_and_slow_connections_leave_memory_flat() {
    let (_dir, server) = Server::fresh();
    server.tool(&["topic", "create", "served"]);
    let before = server.resident_bytes();
    let idle: Vec<TcpStream> = (0..2000).map(|_| server.socket()).collect();

    // Claims 90 MiB and sends a little of it.
    let liars: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut socket = server.socket();
            socket.write_all(&(90u32 << 20).to_be_bytes()).unwrap();
            socket.write_all(&[0; 1000]).unwrap();
            socket
        })
        .collect();

    // Asks and asks and never reads.
    let mut slow = server.socket();
    slow.set_nonblocking(true).unwrap();
    let mut sent = 0u64;
    let mut correlation = 0;
    let mut stuck = 0;
    wait_until("the slow reader to be slowed down", || {
        for _ in 0..1000 {
            match slow.write(&metadata_request(correlation)) {
                Ok(bytes) => {
                    sent += bytes as u64;
                    correlation += 1;
                    stuck = 0;
                }
                Err(_) => {
                    stuck += 1;
                    break;
                }
            }
        }
        stuck > 50
    });
    assert!(sent > 0);
    serves(&server);
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 96 << 20, "memory grew by {grown} bytes");
    drop((idle, liars, slow));
    serves(&server);
}
