//! A wire between a ledger and its server that breaks at one COMMIT.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Where a wire breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// The COMMIT does not arrive.
    Before,
    /// It arrives and is carried out; its answer does not arrive.
    After,
}

/// Breaks the connection on which `what` was sent, at the COMMIT that follows it.
struct Trap {
    what: Vec<u8>,
    place: Break,
}

pub(crate) struct Wire {
    trap: Arc<Mutex<Option<Trap>>>,
    /// Of a database, by way of the wire.
    pub(crate) address: String,
}

impl Wire {
    /// To a database whose address names a socket.
    pub(crate) fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (place, name) = address.rsplit_once('/').unwrap();
        let (user, folder) = place.split_once('@').unwrap();
        let (folder, port) = folder.rsplit_once(':').unwrap();
        let socket = format!("{}/.s.PGSQL.{port}", folder.replace("%2F", "/"));
        let address = format!("{user}@{}/{name}?sslmode=disable", listener.local_addr().unwrap());
        let trap = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&trap);
        std::thread::spawn(move || {
            for ledger in listener.incoming() {
                connect(ledger.unwrap(), &socket, &kept);
            }
        });
        Self { trap, address }
    }

    /// Sets the trap; it closes once.
    pub(crate) fn set(&self, what: &[u8], place: Break) {
        *self.trap.lock().unwrap() = Some(Trap { what: what.to_vec(), place });
    }

    pub(crate) fn has_broken(&self) -> bool {
        self.trap.lock().unwrap().is_none()
    }
}

fn connect(ledger: TcpStream, socket: &str, trap: &Arc<Mutex<Option<Trap>>>) {
    // No server, no connection.
    let Ok(server) = UnixStream::connect(socket) else { return };
    let (ledger2, server2) = (ledger.try_clone().unwrap(), server.try_clone().unwrap());
    let (trap, mute) = (Arc::clone(trap), Arc::new(AtomicBool::new(false)));
    let muted = Arc::clone(&mute);
    std::thread::spawn(move || asks(ledger2, server2, &trap, &mute));
    std::thread::spawn(move || answers(server, ledger, &muted));
}

fn asks(mut from: TcpStream, mut to: UnixStream, trap: &Mutex<Option<Trap>>, mute: &AtomicBool) {
    let (mut buffer, mut sent) = ([0; 4096], Vec::new());
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        sent.extend_from_slice(&buffer[..length]);
        match trapped(trap, &mut sent) {
            Some(Break::Before) => break,
            Some(Break::After) => mute.store(true, Ordering::SeqCst),
            None => {}
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Once it is mute, nothing of what comes arrives. Writes are answered before the COMMIT that was sent with them: only when that is
/// answered, too, it was carried out.
fn answers(mut from: UnixStream, mut to: TcpStream, mute: &AtomicBool) {
    let (mut buffer, mut lost) = ([0; 4096], Vec::new());
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if mute.load(Ordering::SeqCst) {
            lost.extend_from_slice(&buffer[..length]);
            if find(&lost, b"COMMIT\0").is_some() {
                break;
            }
        } else if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Whether the trap closes on what a ledger sent on one connection since the last COMMIT.
fn trapped(trap: &Mutex<Option<Trap>>, sent: &mut Vec<u8>) -> Option<Break> {
    let commit = find(sent, b"COMMIT\0")?;
    let mut trap = trap.lock().unwrap();
    let is_ours =
        trap.as_ref().is_some_and(|trap| find(sent, &trap.what).is_some_and(|place| place < commit));
    sent.clear();
    trap.take_if(|_| is_ours).map(|trap| trap.place)
}
