//! Fuzzer input as an endless tape of octets.

/// Reads front to back, so that seeds can be written by hand. When the input ends, everything left is zero.
#[derive(Clone, Debug)]
pub struct Octets<'a> {
    rest: &'a [u8],
}

impl<'a> Octets<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn octet(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u8) -> u8 {
        self.octet() % n
    }

    pub fn flag(&mut self) -> bool {
        self.octet() & 1 != 0
    }

    pub fn word(&mut self) -> u32 {
        u32::from_be_bytes(core::array::from_fn(|_| self.octet()))
    }

    /// Appends `n` octets to `out`.
    pub fn copy(&mut self, n: usize, out: &mut Vec<u8>) {
        out.extend((0..n).map(|_| self.octet()));
    }

    /// Up to `n` octets; fewer when the input ends.
    pub fn slice(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.rest.split_at(n.min(self.rest.len()));
        self.rest = tail;
        head
    }

    /// The BGP message that comes next, if there is a marker and as many octets as its length says.
    pub fn message(&mut self) -> Option<&'a [u8]> {
        let header = self.rest.first_chunk::<19>()?;
        let len = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let whole = header[..16] == [0xff; 16] && (19..=self.rest.len()).contains(&len);
        whole.then(|| self.slice(len))
    }

    /// What is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}
