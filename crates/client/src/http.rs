//! HTTP/1.1 answers (RFC 9112), as far as the agent's API uses them: a status line, headers, a body by length, in
//! chunks, or to the end of the connection. Reads from any [`BufRead`]; never more than its bounds; never panics.

use std::io::{self, BufRead, Read};

/// Status line and headers together, in bytes.
pub const MAX_HEAD: usize = 16 * 1024;
/// A chunk-size line with extensions, and each trailer line.
const MAX_CHUNK_LINE: usize = 256;
/// Trailer lines after the last chunk.
const MAX_TRAILERS: usize = 32;

/// What could go wrong below HTTP's meaning.
#[derive(Debug)]
pub(crate) enum HttpError {
    Io(io::Error),
    Protocol(&'static str),
}

impl From<io::Error> for HttpError {
    fn from(error: io::Error) -> Self {
        // `Body` has to speak `io::Error`; what it found wrong comes back out here.
        match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<BodyFault>())
        {
            Some(BodyFault(what)) => Self::Protocol(what),
            None => Self::Io(error),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BodyFault(&'static str);

fn fault(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, BodyFault(what))
}

fn cut_short() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// The part of an answer before its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// Status code, 200–599.
    pub status: u16,
    framing: Framing,
    /// `Connection: close`
    closes: bool,
}

impl ResponseHead {
    /// Whether another answer may follow on the connection.
    pub(crate) fn keeps(&self) -> bool {
        !self.closes && self.framing != Framing::ToClose
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    ToClose,
}

/// Reads an answer whole: status and body of at most `max_body` bytes. For tests and fuzzing of the decoder.
pub fn parse_response(mut bytes: &[u8], max_body: usize) -> Option<(u16, Vec<u8>)> {
    let head = read_head(&mut bytes).ok()?;
    let mut body = Vec::new();
    let limit = max_body as u64 + 1;
    Body::new(bytes, &head)
        .take(limit)
        .read_to_end(&mut body)
        .ok()?;
    (body.len() <= max_body).then_some((head.status, body))
}

pub(crate) fn read_head(reader: &mut impl BufRead) -> Result<ResponseHead, HttpError> {
    let mut left = MAX_HEAD;
    let line = read_line(reader, &mut left)?;
    let status = parse_status(&line).ok_or(HttpError::Protocol("no HTTP/1.x status line"))?;
    // HTTP/1.0 keeps nothing open.
    let mut closes = line.starts_with("HTTP/1.0");
    let (mut length, mut chunked) = (None, false);
    loop {
        let line = read_line(reader, &mut left)?;
        if line.is_empty() {
            break;
        }
        let (name, value) =
            split_header(&line).ok_or(HttpError::Protocol("malformed header line"))?;
        if name.eq_ignore_ascii_case("content-length") {
            let parsed =
                parse_digits(value, 10).ok_or(HttpError::Protocol("malformed Content-Length"))?;
            if length.is_some_and(|earlier| earlier != parsed) {
                return Err(HttpError::Protocol("two different Content-Lengths"));
            }
            length = Some(parsed);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(HttpError::Protocol("unknown Transfer-Encoding"));
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case("connection") {
            let mut options = value.split(',').map(str::trim);
            closes |= options.any(|option| option.eq_ignore_ascii_case("close"));
        }
    }
    let framing = match (status, chunked, length) {
        (204 | 304, _, _) => Framing::Length(0),
        (_, true, Some(_)) => {
            return Err(HttpError::Protocol(
                "both Content-Length and Transfer-Encoding",
            ));
        }
        (_, true, None) => Framing::Chunked,
        (_, false, Some(length)) => Framing::Length(length),
        (_, false, None) => Framing::ToClose,
    };
    Ok(ResponseHead {
        status,
        framing,
        closes,
    })
}

fn parse_status(line: &str) -> Option<u16> {
    let rest = line
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| line.strip_prefix("HTTP/1.0 "))?;
    let code = rest.get(..3)?;
    let after = rest.get(3..)?;
    let status = parse_digits(code, 10)? as u16;
    ((after.is_empty() || after.starts_with(' ')) && (200..600).contains(&status)).then_some(status)
}

fn split_header(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
    token.then(|| (name, value.trim_matches([' ', '\t'])))
}

/// Digits only: `from_str_radix` would take a sign.
fn parse_digits(text: &str, radix: u32) -> Option<u64> {
    let digits = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    digits.then(|| u64::from_str_radix(text, radix).ok())?
}

/// One line without its end, of at most `left` bytes, which it uses up.
fn read_line(reader: &mut impl BufRead, left: &mut usize) -> Result<String, HttpError> {
    let mut line = Vec::new();
    reader.take(*left as u64).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        let full = line.len() + 1 >= *left;
        return Err(if full {
            HttpError::Protocol("headers too long")
        } else {
            cut_short().into()
        });
    }
    *left -= line.len() + 1;
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| HttpError::Protocol("header bytes are not UTF-8"))
}

/// The body of an answer, decoded. An end before the framing's end is `UnexpectedEof`.
pub(crate) struct Body<R> {
    reader: R,
    state: BodyState,
}

enum BodyState {
    Length(u64),
    ChunkHead { first: bool },
    ChunkData(u64),
    ToClose,
    End,
}

impl<R: BufRead> Body<R> {
    pub(crate) fn new(reader: R, head: &ResponseHead) -> Self {
        let state = match head.framing {
            Framing::Length(length) => BodyState::Length(length),
            Framing::Chunked => BodyState::ChunkHead { first: true },
            Framing::ToClose => BodyState::ToClose,
        };
        Self { reader, state }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut left = MAX_CHUNK_LINE;
        read_line(&mut self.reader, &mut left).map_err(|error| match error {
            HttpError::Io(error) => error,
            HttpError::Protocol(what) => fault(what),
        })
    }

    fn next_chunk(&mut self, first: bool) -> io::Result<()> {
        if !first && !self.line()?.is_empty() {
            return Err(fault("a chunk does not end where its size says"));
        }
        let line = self.line()?;
        let size = line
            .split(';')
            .next()
            .unwrap_or_default()
            .trim_end_matches([' ', '\t']);
        let size = parse_digits(size, 16).ok_or_else(|| fault("malformed chunk size"))?;
        if size > 0 {
            self.state = BodyState::ChunkData(size);
            return Ok(());
        }
        for _ in 0..MAX_TRAILERS {
            if self.line()?.is_empty() {
                self.state = BodyState::End;
                return Ok(());
            }
        }
        Err(fault("too many trailers"))
    }

    fn read_up_to(&mut self, buffer: &mut [u8], left: u64) -> io::Result<(usize, u64)> {
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.reader.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(cut_short());
        }
        Ok((read, left - read as u64))
    }
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                BodyState::End | BodyState::Length(0) => return Ok(0),
                BodyState::ToClose => return self.reader.read(buffer),
                BodyState::ChunkHead { first } => self.next_chunk(first)?,
                BodyState::Length(left) => {
                    let (read, left) = self.read_up_to(buffer, left)?;
                    self.state = BodyState::Length(left);
                    return Ok(read);
                }
                BodyState::ChunkData(left) => {
                    let (read, left) = self.read_up_to(buffer, left)?;
                    self.state = if left > 0 {
                        BodyState::ChunkData(left)
                    } else {
                        BodyState::ChunkHead { first: false }
                    };
                    return Ok(read);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &str, expected: Option<(u16, &str)>) {
        let expected = expected.map(|(status, body)| (status, body.as_bytes().to_vec()));
        assert_eq!(parse_response(bytes.as_bytes(), 64), expected, "{bytes:?}");
    }

    #[test]
    fn bodies_by_length_chunks_and_close() {
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, ignored",
            Some((200, "hello")),
        );
        check("HTTP/1.1 404\r\ncontent-length:0\r\n\r\n", Some((404, "")));
        check("HTTP/1.0 200 OK\n\nto the end", Some((200, "to the end")));
        check("HTTP/1.1 204 No Content\r\n\r\n", Some((204, "")));
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";
        check(
            &format!("{head}5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"),
            Some((200, "hello world")),
        );
        check(
            &format!("{head}A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"),
            Some((200, "0123456789")),
        );
    }

    #[test]
    fn what_is_cut_short_or_lies_about_its_length_is_refused() {
        check("", None);
        check("HTTP/1.1 200 OK\r\n", None);
        check("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", None);
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            None,
        );
        check("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", None);
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
            None,
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
            None,
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
            None,
        );
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in [
            "5\r\nhello",
            "5\r\nhello\r\n",
            "5\r\nhello!\r\n0\r\n\r\n",
            "-5\r\n",
            "g\r\n",
            "\r\n",
            "0\r\n",
        ] {
            check(&format!("{head}{body}"), None);
        }
        check(&format!("{head}{}\r\n", "0".repeat(MAX_CHUNK_LINE)), None);
        check(
            &format!("{head}0\r\n{}\r\n", "a: b\r\n".repeat(MAX_TRAILERS + 1)),
            None,
        );
    }

    #[test]
    fn garbage_and_endless_headers_are_refused() {
        check("SSH-2.0-OpenSSH_9.2\r\n\r\n", None);
        check("HTTP/2 200\r\n\r\n", None);
        check("HTTP/1.1 2000 OK\r\n\r\n", None);
        check("HTTP/1.1 100 Continue\r\n\r\n", None);
        check("HTTP/1.1 é00\r\n\r\n", None);
        check("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", None);
        check(
            &format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", "a: b\r\n".repeat(MAX_HEAD)),
            None,
        );
        assert_eq!(
            parse_response(b"HTTP/1.1 200 OK\r\n\xff: x\r\n\r\n", 64),
            None
        );
    }

    #[test]
    fn a_body_over_the_bound_is_refused_and_one_at_the_bound_is_not() {
        let response = |n: usize| format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(n));
        check(&response(64), Some((200, &"x".repeat(64))));
        check(&response(65), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse_response(&bytes, 64);
            let _ = parse_response(&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &bytes[..]].concat(), 64);
        }

        #[test]
        fn chunking_does_not_change_the_body(chunks in proptest::collection::vec("[a-z]{1,40}", 0..8)) {
            let mut bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
            for chunk in &chunks {
                bytes.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
            }
            bytes.push_str("0\r\n\r\n");
            prop_assert_eq!(parse_response(bytes.as_bytes(), 1024), Some((200, chunks.concat().into_bytes())));
            for cut in 0..bytes.len() {
                prop_assert_eq!(parse_response(&bytes.as_bytes()[..cut], 1024), None);
            }
        }
    }
}
