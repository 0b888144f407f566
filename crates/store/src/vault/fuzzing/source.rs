//! Reading decisions off a fuzzer's input. What is past its end reads as zeros, so that every input means something.

/// The rest of an input.
pub(super) struct Source<'a> {
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub(super) fn small(&mut self) -> usize {
        usize::from(self.byte())
    }

    /// Two bytes, little-endian.
    pub(super) fn number(&mut self) -> usize {
        self.small() | self.small() << 8
    }

    pub(super) fn long(&mut self) -> u64 {
        (0..8).fold(0, |number, place| number | u64::from(self.byte()) << (8 * place))
    }

    /// A place in something that has `len` of them; 0 if it has none.
    pub(super) fn index(&mut self, len: usize) -> usize {
        let number = if len <= 256 { self.small() } else { self.number() };
        number.checked_rem(len).unwrap_or(0)
    }

    /// The next bytes; fewer where the input ends.
    pub(super) fn bytes(&mut self, want: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(want.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// As many bytes as the next one says.
    pub(super) fn some(&mut self) -> &'a [u8] {
        let want = self.small();
        self.bytes(want)
    }

    /// All that is left.
    pub(super) fn all(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}
