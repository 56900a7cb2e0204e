//! The control socket as a file: whose it is, who may use it, and what is left of it.

use super::kit::{Among, Running, bundle, pcap, scratch, traffic};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// Mode and group are those of the configuration, whatever they are, and the socket is gone at the
/// end.
#[test]
fn the_socket_has_the_group_and_mode_of_the_configuration_and_goes_at_the_end() {
    let dir = scratch("socket");
    // A group that whoever runs this may give it to: the one that it has.
    let group = std::fs::metadata(&dir).unwrap().gid();
    for (config, mode) in [
        (String::new(), 0o660),
        (format!("control_group = \"{group}\"\ncontrol_mode = \"600\"\n"), 0o600),
        ("control_mode = \"0666\"\n".to_owned(), 0o666),
    ] {
        let among = Among { config: &config, ..Among::default() };
        let mut running = Running::start_among(&dir, &bundle(), 1, among);
        let data = std::fs::metadata(&running.socket).unwrap();
        assert_eq!((data.permissions().mode() & 0o777, data.gid()), (mode, group), "{config}");
        let socket = running.socket.clone();
        running.feed(&pcap(&traffic(1)));
        running.end();
        assert!(!socket.exists(), "{config}");
    }
}

/// What another process has put at the socket's path is left there, whatever it is.
#[test]
fn what_stands_at_the_path_in_place_of_the_socket_is_left_there() {
    let dir = scratch("foreign");
    let foreign: [fn(&std::path::Path); 3] = [
        |path| std::fs::write(path, "theirs").unwrap(),
        |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        |path| std::os::unix::fs::symlink("nowhere", path).unwrap(),
    ];
    for put in foreign {
        let mut running = Running::start(&dir, &bundle(), 1);
        let socket = running.socket.clone();
        std::fs::remove_file(&socket).unwrap();
        put(&socket);
        running.feed(&pcap(&traffic(1)));
        running.end();
        std::fs::remove_file(&socket).expect("it is still there");
    }
}

#[test]
fn a_group_that_is_none_is_named() {
    let dir = scratch("no-group");
    let config = dir.join("serveflow.toml");
    let socket = dir.join("control");
    let text = format!("[service]\ncontrol = {socket:?}\ncontrol_group = \"no such group\"\n");
    std::fs::write(&config, text).unwrap();
    let bundle = bundle();
    let (config, bundle) = (config.to_str().unwrap(), bundle.to_str().unwrap());
    let ran = super::kit::serveflow(&["run", "-", "--config", config, "--bundle", bundle]);
    let err = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(1), "{err}");
    assert!(err.contains("control_group") && err.contains("no such group"), "{err}");
    assert!(!socket.exists(), "a socket that nobody listens at is not left behind");
}
