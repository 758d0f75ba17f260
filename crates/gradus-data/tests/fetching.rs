//! Downloads from a server that misbehaves: the right error, and nothing partial in the cache.

#![allow(clippy::unwrap_used)] // a test panics where it fails, in its helper functions too

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use gradus_data::fetch::{FetchOptions, fetch};
use gradus_data::remote::Remote;
use md5::{Digest, Md5};

const QUICK: FetchOptions = FetchOptions {
    connect: Duration::from_secs(5),
    stall: Duration::from_millis(300),
};

fn contents() -> Vec<u8> {
    (0..200_000u32).map(|i| ((i * i) >> 7) as u8).collect()
}

/// A server on the loopback that hands every connection (after its request) to `answer`.
fn serve(answer: impl Fn(&mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                request.push(byte[0]);
            }
            answer(&mut stream);
        }
    });
    format!("http://{address}/set.bin")
}

/// The published file at `url`.
fn remote(url: String) -> Remote {
    let md5: String = Md5::digest(contents())
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    Remote {
        name: "set",
        file: "set.bin",
        url: url.leak(),
        bytes: contents().len() as u64,
        md5: md5.leak(),
        sha256: None,
    }
}

fn head(status: &str, length: usize) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
}

fn send(stream: &mut TcpStream, status: &str, body: &[u8]) {
    let _ = stream.write_all(head(status, body.len()).as_bytes());
    let _ = stream.write_all(body);
}

/// The message of the failed download, after the address; the cache must be empty.
fn failure(answer: impl Fn(&mut TcpStream) + Send + 'static) -> String {
    let cache = tempfile::tempdir().unwrap();
    let remote = remote(serve(answer));
    let start = Instant::now();
    let error = fetch(&remote, cache.path(), QUICK, &mut |_, _| {})
        .unwrap_err()
        .to_string();
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        listing(cache.path()),
        Vec::<String>::new(),
        "left in the cache"
    );
    error
        .strip_prefix(&format!("download of {} failed: ", remote.url))
        .unwrap()
        .to_owned()
}

fn listing(folder: &Path) -> Vec<String> {
    let items = std::fs::read_dir(folder).unwrap();
    items
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_good_download_is_verified_named_and_not_repeated() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("made/on/demand");
    let remote = remote(serve(|stream| send(stream, "200 OK", &contents())));
    let mut last = (0, 0);
    let fetched = fetch(&remote, &folder, QUICK, &mut |done, all| last = (done, all)).unwrap();
    assert!(fetched.downloaded);
    assert_eq!(last, (200_000, 200_000));
    assert_eq!(std::fs::read(&fetched.path).unwrap(), contents());
    assert_eq!(listing(&folder), ["set.bin"]);
    let gone = Remote {
        url: "http://127.0.0.1:9/set.bin",
        ..remote
    };
    let again = fetch(&gone, &folder, QUICK, &mut |_, _| {
        panic!("downloaded again")
    })
    .unwrap();
    assert!(!again.downloaded);
    // A file of that name which is not the published one is replaced.
    std::fs::write(&fetched.path, b"damaged").unwrap();
    assert!(
        fetch(&remote, &folder, QUICK, &mut |_, _| {})
            .unwrap()
            .downloaded
    );
    assert_eq!(std::fs::read(&fetched.path).unwrap(), contents());
}

#[test]
fn a_cut_connection() {
    let message = failure(|stream| {
        let _ = stream.write_all(head("200 OK", 200_000).as_bytes());
        let _ = stream.write_all(&contents()[..50_000]);
    });
    assert!(message.contains("50000 of 200000 bytes"), "{message}");
    assert!(message.ends_with("; nothing was kept"), "{message}");
}

#[test]
fn a_cut_connection_without_a_stated_length() {
    let message = failure(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(&contents()[..50_000]);
    });
    assert_eq!(
        message,
        "the connection ended after 50000 of 200000 bytes; nothing was kept"
    );
}

#[test]
fn the_right_length_with_wrong_contents() {
    let message = failure(|stream| {
        let mut body = contents();
        body[100_000] ^= 1;
        send(stream, "200 OK", &body);
    });
    assert!(
        message.starts_with("its MD5 is ") && message.contains(", published is "),
        "{message}"
    );
}

#[test]
fn a_wrong_length() {
    let message = failure(|stream| send(stream, "200 OK", b"<html>login first</html>"));
    assert!(
        message.starts_with("the server offers 24 bytes, published are 200000"),
        "{message}"
    );
    let message = failure(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        for _ in 0..100 {
            let _ = stream.write_all(&contents()); // endless, for our purposes
        }
    });
    assert_eq!(
        message,
        "more than the published 200000 bytes came; nothing was kept"
    );
}

#[test]
fn a_missing_file_and_a_broken_server() {
    let message = failure(|stream| send(stream, "404 Not Found", b"no"));
    assert_eq!(message, "the server says 404: not found; nothing was kept");
    let message = failure(|stream| send(stream, "503 Busy", b"no"));
    assert_eq!(message, "the server says 503; nothing was kept");
    let message = failure(|stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n");
    });
    assert!(!message.is_empty());
}

#[test]
fn a_stall_before_and_after_the_first_byte() {
    let message = failure(|stream| {
        let _ = stream.write_all(head("200 OK", 200_000).as_bytes());
        let _ = stream.write_all(&contents()[..1000]);
        std::thread::sleep(Duration::from_secs(3));
    });
    assert!(message.contains("no byte for 0.3 s"), "{message}");
    let message = failure(|_| std::thread::sleep(Duration::from_secs(3)));
    assert!(message.contains("no byte for 0.3 s"), "{message}");
}

#[test]
fn a_redirect_loop() {
    let message = failure(|stream| {
        let answer = "HTTP/1.1 302 Found\r\nLocation: /set.bin\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes());
    });
    assert_eq!(message, "redirected in a circle; nothing was kept");
}

#[test]
fn a_redirect_is_followed() {
    let target = serve(|stream| send(stream, "200 OK", &contents()));
    let remote = remote(serve(move |stream| {
        let answer = format!(
            "HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let _ = stream.write_all(answer.as_bytes());
    }));
    let cache = tempfile::tempdir().unwrap();
    assert!(
        fetch(&remote, cache.path(), QUICK, &mut |_, _| {})
            .unwrap()
            .downloaded
    );
}

#[test]
fn two_at_once_leave_one_good_copy() {
    let remote = remote(serve(|stream| send(stream, "200 OK", &contents())));
    let cache = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| fetch(&remote, cache.path(), QUICK, &mut |_, _| {}).unwrap());
        }
    });
    assert_eq!(listing(cache.path()), ["set.bin"]);
    assert_eq!(
        std::fs::read(cache.path().join("set.bin")).unwrap(),
        contents()
    );
}

#[test]
fn leftovers_of_killed_downloads_are_removed_when_old() {
    let cache = tempfile::tempdir().unwrap();
    let (old, new) = (
        cache.path().join(".set.bin.abc.part"),
        cache.path().join(".set.bin.def.part"),
    );
    std::fs::write(&old, b"half").unwrap();
    std::fs::write(&new, b"another process").unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(48 * 3600);
    std::fs::File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    let remote = remote(serve(|stream| send(stream, "200 OK", &contents())));
    fetch(&remote, cache.path(), QUICK, &mut |_, _| {}).unwrap();
    assert!(!old.exists() && new.exists());
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error() {
    let cache = tempfile::tempdir().unwrap();
    let file = cache.path().join("a-file");
    std::fs::write(&file, b"").unwrap();
    let remote = remote("http://127.0.0.1:9/set.bin".to_owned());
    let error = fetch(&remote, &file.join("below"), QUICK, &mut |_, _| {})
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("cannot create "), "{error}");
}
