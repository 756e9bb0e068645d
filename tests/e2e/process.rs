//! Starting and stopping.

use std::time::Duration;

use crate::support::{Server, ServerOptions, has_kcat, kcat};

#[test]
fn starts_within_a_second_and_says_where_everything_is() {
    let (_dir, server) = Server::fresh();
    // The promise is a second for a release build on an idle machine; a debug build under a full
    // test run gets five.
    assert!(
        server.started_in < Duration::from_secs(5),
        "{:?}",
        server.started_in
    );
    let banner = server.banner.join("\n");
    assert!(banner.contains(&server.address()), "{banner}");
    assert!(banner.contains("data"), "{banner}");
    assert!(
        banner.contains("alluvium topic") || banner.contains("kcat"),
        "{banner}"
    );
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let (_dir, server) = Server::fresh();
    let mut other = ServerOptions::new(&server.options.data_dir);
    other.port = crate::support::free_port();
    let output = other.command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("in use"), "{error}");
    assert!(
        error.contains(&server.child.id().to_string()),
        "names the process: {error}"
    );
    // The first one is not disturbed.
    server.tool(&["topic", "list"]);
}

#[test]
fn a_taken_port_is_a_clear_error() {
    let (_dir, server) = Server::fresh();
    let dir = tempfile::tempdir().unwrap();
    let mut other = ServerOptions::new(&dir.path().join("data"));
    other.port = server.options.port;
    let output = other.command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(&server.address()), "{error}");
}

#[test]
fn sigterm_and_sigint_exit_0_and_keep_what_was_acknowledged() {
    if !has_kcat() {
        return;
    }
    let (_dir, server) = Server::fresh();
    let file = server.options.data_dir.with_extension("lines");
    std::fs::write(&file, "one\ntwo\n").unwrap();
    let lines = file.to_str().unwrap();
    kcat(&[
        "-b",
        &server.address(),
        "-P",
        "-t",
        "kept",
        "-p",
        "0",
        "-l",
        lines,
    ]);
    let (options, code) = server.terminate();
    assert_eq!(code, Some(0));
    let server = Server::start(options);
    let read = |server: &Server| {
        kcat(&[
            "-b",
            &server.address(),
            "-C",
            "-t",
            "kept",
            "-o",
            "beginning",
            "-e",
            "-q",
        ])
    };
    assert_eq!(read(&server), "one\ntwo\n");
    crate::support::signal(server.child.id(), "INT");
    let (options, code) = server.wait_for_end();
    assert_eq!(code, Some(0));
    assert_eq!(read(&Server::start(options)), "one\ntwo\n");
}
