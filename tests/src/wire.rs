//! A wire that misbehaves: it carries bytes between an agent and a server, whatever they speak, TLS included.
//!
//! What comes in: connections. What goes out: the same bytes, all of them, slowly, or none, as the test says at that
//! moment. It never looks at what it carries.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// What the wire does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Carries them.
    Carries,
    /// Carries so many at a time, with this pause before each.
    Slow(usize, Duration),
    /// Takes connections and carries nothing, and lets those that are there fall silent without a word: as a peer does
    /// that has vanished. What is held back is not carried later either: the connections end when the mood does.
    Silent,
    /// Closes what there is, and takes no new connections.
    Cut,
}

struct Shared {
    upstream: SocketAddr,
    mood: Mutex<Mood>,
    changed: Condvar,
    connections: Mutex<Vec<TcpStream>>,
    taken: AtomicUsize,
    carried: AtomicUsize,
    closed: AtomicBool,
}

/// The wire. It is cut for good when the value goes.
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Wire {
    /// A wire to `upstream` that carries everything.
    ///
    /// # Panics
    /// When no port can be had.
    pub fn to(upstream: SocketAddr) -> Wire {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the port's number");
        let shared = Arc::new(Shared {
            upstream,
            mood: Mutex::new(Mood::Carries),
            changed: Condvar::new(),
            connections: Mutex::default(),
            taken: AtomicUsize::new(0),
            carried: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        });
        let theirs = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if theirs.closed.load(Ordering::SeqCst) {
                    return;
                }
                theirs.clone().take(stream);
            }
        });
        Wire { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does, for the connections that are there too.
    pub fn becomes(&self, mood: Mood) {
        let before = std::mem::replace(&mut *self.shared.mood.lock().expect("no thread panicked"), mood);
        self.shared.changed.notify_all();
        if mood == Mood::Cut || before == Mood::Silent {
            self.shared.close_all();
        }
    }

    /// How many connections it has taken so far.
    pub fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::SeqCst)
    }

    /// How many bytes it has carried so far, in both directions.
    pub fn carried(&self) -> usize {
        self.shared.carried.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.becomes(Mood::Cut);
        // One connection more, for the listening thread to wake up and see.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn take(self: Arc<Self>, stream: TcpStream) {
        self.taken.fetch_add(1, Ordering::SeqCst);
        if *self.mood.lock().expect("no thread panicked") == Mood::Cut {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        let Ok(upstream) = TcpStream::connect(self.upstream) else {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        };
        let pair = |from: &TcpStream, to: &TcpStream| Some((from.try_clone().ok()?, to.try_clone().ok()?));
        for (from, to) in [pair(&stream, &upstream), pair(&upstream, &stream)].into_iter().flatten() {
            let shared = self.clone();
            // The end of a connection, by whichever side, is an error here and nobody's concern.
            thread::spawn(move || {
                let _ = shared.carry(&from, &to);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        self.connections.lock().expect("no thread panicked").extend([stream, upstream]);
    }

    fn carry(&self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        loop {
            let limit = match *self.mood.lock().expect("no thread panicked") {
                Mood::Slow(bytes, _) => bytes.clamp(1, buffer.len()),
                _ => buffer.len(),
            };
            let read = from.read(&mut buffer[..limit])?;
            if read == 0 {
                return Ok(());
            }
            let mut mood = self.mood.lock().expect("no thread panicked");
            if let Mood::Slow(_, pause) = *mood {
                drop(mood);
                thread::sleep(pause);
                mood = self.mood.lock().expect("no thread panicked");
            }
            if *mood == Mood::Silent {
                while *mood == Mood::Silent {
                    mood = self.changed.wait(mood).expect("no thread panicked");
                }
                return Ok(());
            }
            drop(mood);
            to.write_all(&buffer[..read])?;
            self.carried.fetch_add(read, Ordering::SeqCst);
        }
    }

    fn close_all(&self) {
        for connection in self.connections.lock().expect("no thread panicked").drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{eventually, seconds};

    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        address
    }

    fn says(mut stream: &TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        stream.write_all(text)?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back)?;
        Ok(back)
    }

    #[test]
    fn it_carries_falls_silent_and_is_cut_as_it_is_told() {
        let wire = Wire::to(echo());
        let stream = TcpStream::connect(wire.address()).unwrap();
        assert_eq!(says(&stream, b"hello").unwrap(), b"hello");
        wire.becomes(Mood::Slow(1, Duration::from_millis(5)));
        assert_eq!(says(&stream, b"hello").unwrap(), b"hello");
        wire.becomes(Mood::Silent);
        assert_eq!(says(&stream, b"hello").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let late = TcpStream::connect(wire.address()).unwrap();
        assert_eq!(says(&late, b"hello").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        wire.becomes(Mood::Carries);
        // What fell silent stays so: it is closed now.
        eventually(seconds(5), "the silent connection's end", || {
            says(&stream, b"x").err().filter(|e| e.kind() != io::ErrorKind::WouldBlock).ok_or("open".into())
        });
        let again = TcpStream::connect(wire.address()).unwrap();
        assert_eq!(says(&again, b"again").unwrap(), b"again");
        wire.becomes(Mood::Cut);
        eventually(seconds(5), "the end of every connection", || {
            says(&again, b"x").err().map(|_| ()).ok_or("open".into())
        });
        assert!(wire.taken() >= 3 && wire.carried() > 20);
    }
}
