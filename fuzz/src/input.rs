//! Values out of bytes: zeros, where these end.

/// What is left of the bytes.
pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `N`.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let here = N.min(self.0.len());
        let (some, rest) = self.0.split_at(here);
        taken[..here].copy_from_slice(some);
        self.0 = rest;
        taken
    }

    /// The next one.
    pub fn byte(&mut self) -> u8 {
        let [byte] = self.bytes();
        byte
    }

    /// The next two.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes())
    }

    /// The next four.
    pub fn long(&mut self) -> u32 {
        u32::from_be_bytes(self.bytes())
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// A small number: that two are equal must happen.
    pub fn few(&mut self) -> u32 {
        u32::from(self.byte() % 4)
    }
}
