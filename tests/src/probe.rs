//! TCP transfers with a verdict: the listener checks every byte and answers whom it saw.
//!
//! Runs as `roadbed-demo probe …` inside pods and nodes, so that no other tool is needed there. One transfer:
//!
//! ```text
//! sender → seed (8 bytes), length (8 bytes), that many bytes made from the seed
//! listener → {"seen": "10.244.0.5", "bytes": 1048576, "intact": true}
//! ```

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Port of the listeners.
pub const PORT: u16 = 7000;
/// Bytes of one transfer: more than any buffer on the way holds.
pub const BYTES: u64 = 1 << 20;
/// First line of a listener: it accepts connections.
pub const LISTENING: &str = "listening";
/// How long any step of a transfer may take.
const PATIENCE: Duration = Duration::from_secs(5);
const CHUNK: usize = 64 * 1024;

/// What the listener answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The sender's address as the listener saw it.
    pub seen: IpAddr,
    /// Bytes that arrived.
    pub bytes: u64,
    /// Whether each was the right one.
    pub intact: bool,
}

/// What the sender prints per target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The target.
    pub to: IpAddr,
    /// The listener's answer, or why there is none.
    pub outcome: Result<Verdict, String>,
}

/// Serves transfers of both families until the process ends.
///
/// # Errors
/// When the port cannot be had.
pub fn listen(port: u16) -> io::Result<()> {
    // Dual-stack, as Linux has it by default.
    let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    println!("{LISTENING}");
    io::stdout().flush()?;
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            if let Err(error) = receive(&stream) {
                eprintln!("transfer: {error}");
            }
        });
    }
    Ok(())
}

/// Sends to each target in turn and prints a [`Sent`] per line.
///
/// # Errors
/// When standard output fails.
pub fn send(targets: &[IpAddr]) -> io::Result<()> {
    for (to, seed) in targets.iter().zip(1..) {
        let sent = Sent {
            to: *to,
            outcome: transfer(*to, seed).map_err(|error| error.to_string()),
        };
        println!("{}", serde_json::to_string(&sent)?);
    }
    io::stdout().flush()
}

fn transfer(to: IpAddr, seed: u64) -> io::Result<Verdict> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((to, PORT)), PATIENCE)?;
    patient(&stream)?;
    stream.write_all(&seed.to_be_bytes())?;
    stream.write_all(&BYTES.to_be_bytes())?;
    let mut content = Content(seed);
    let mut left = BYTES;
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        content.fill(&mut chunk[..now]);
        stream.write_all(&chunk[..now])?;
        left -= now as u64;
    }
    let mut answer = String::new();
    BufReader::new(&stream).take(1024).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

fn receive(mut stream: &TcpStream) -> io::Result<()> {
    patient(stream)?;
    let mut number = || -> io::Result<u64> {
        let mut bytes = [0; 8];
        stream.read_exact(&mut bytes)?;
        Ok(u64::from_be_bytes(bytes))
    };
    let mut content = Content(number()?);
    let length = number()?;
    let mut verdict = Verdict {
        seen: stream.peer_addr()?.ip().to_canonical(),
        bytes: 0,
        intact: true,
    };
    let mut chunk = vec![0; CHUNK];
    let mut expected = vec![0; CHUNK];
    while verdict.bytes < length {
        let wanted = usize::try_from(length - verdict.bytes)
            .unwrap_or(CHUNK)
            .min(CHUNK);
        let read = stream.read(&mut chunk[..wanted])?;
        if read == 0 {
            break;
        }
        content.fill(&mut expected[..read]);
        verdict.intact &= chunk[..read] == expected[..read];
        verdict.bytes += read as u64;
    }
    let answer = serde_json::to_string(&verdict)? + "\n";
    stream.write_all(answer.as_bytes())
}

fn patient(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// An endless sequence of bytes that a seed determines (xorshift64).
struct Content(u64);

impl Content {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *byte = self.0.to_be_bytes()[0];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(sent: impl FnOnce(&mut TcpStream)) -> Verdict {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let receiver = std::thread::spawn(move || receive(&server));
        sent(&mut client);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        receiver.join().unwrap().unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    #[test]
    fn the_listener_sees_a_wrong_byte_and_a_missing_one() {
        let whole = |flip: bool, short: usize| {
            exchange(|client| {
                let mut bytes = vec![0; 1000];
                Content(7).fill(&mut bytes);
                bytes[500] ^= u8::from(flip);
                client.write_all(&7_u64.to_be_bytes()).unwrap();
                client.write_all(&1000_u64.to_be_bytes()).unwrap();
                client.write_all(&bytes[..1000 - short]).unwrap();
            })
        };
        let good = whole(false, 0);
        assert!(good.intact && good.bytes == 1000, "{good:?}");
        assert_eq!(good.seen, IpAddr::from([127, 0, 0, 1]));
        assert!(!whole(true, 0).intact);
        assert_eq!(whole(false, 1).bytes, 999);
    }
}
